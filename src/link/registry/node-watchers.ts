/** Tells of every node that has changed its status, whether the change is stored or waits in memory. */
import type { Log } from '../../base/log.js';
import { allTenants } from '../../store/keys.js';
import type { Key, StopWatching, Store, Value } from '../../store/store.js';
import { isHistoryKey, isNodeKey } from './node-keys.js';
import { decodeNodeRecord, type NodeRecord } from './node-record.js';
import type { PresenceOverlay } from './presence-overlay.js';

export type NodeListener = (record: NodeRecord) => void;

interface Watcher {
  readonly tenant: string | undefined;
  readonly listener: NodeListener;
}

export class NodeWatchers {
  readonly #overlay: PresenceOverlay;
  readonly #log: Log;
  readonly #watchers = new Set<Watcher>();
  readonly #stopWatching: StopWatching;

  constructor(store: Store, overlay: PresenceOverlay, log: Log) {
    this.#overlay = overlay;
    this.#log = log;
    // Each change is decoded once, however many watchers there are.
    this.#stopWatching = store.watch(allTenants, changes => this.#onChanges(changes));
  }

  watch(tenant: string | undefined, listener: NodeListener): StopWatching {
    const watcher = { tenant, listener };
    this.#watchers.add(watcher);
    const stopOverlay = this.#overlay.watch(tenant, listener);
    return () => {
      this.#watchers.delete(watcher);
      stopOverlay();
    };
  }

  close(): void {
    this.#stopWatching();
  }

  #onChanges(changes: readonly { readonly key: Key; readonly value: Value | undefined }[]): void {
    // A commit that adds nothing to a history changed nothing that shows: it issued a certificate.
    if (this.#watchers.size === 0 || !changes.some(({ key }) => isHistoryKey(key))) return;
    for (const { key, value } of changes) {
      if (!value || !isNodeKey(key)) continue;
      const stored = decodeNodeRecord(value);
      const { tenant, id } = stored;
      const record = this.#overlay.isSettling(tenant, id) ? stored : this.#overlay.view(stored);
      for (const watcher of [...this.#watchers])
        if ((watcher.tenant ?? tenant) === tenant) this.#tell(watcher.listener, record);
    }
  }

  /** A listener that throws disturbs no other. */
  #tell(listener: NodeListener, record: NodeRecord): void {
    try {
      listener(record);
    } catch (error) {
      this.#log.error({ err: error, nodeId: `${record.id}` }, 'a watcher of nodes failed');
    }
  }
}
