/**
 * The open runs in memory, at most one object per run, with the listeners of each. When a run ends, its messages and objects are
 * removed here. A run whose end could not be recorded keeps them until it is stopped again or the next link recovers it.
 */
import type { MessageErrorCode } from '../../app/message-error.js';
import { linkParty } from '../../audit-log/party.js';
import { createKeyedQueue } from '../../base/keyed-queue.js';
import { sleep } from '../../base/wait.js';
import { untilStored } from '../../store/retry.js';
import type { Registry } from '../registry/registry.js';
import { removeMessages } from './messages/stored-messages.js';
import { OpenRun, type OpenRunOptions } from './open-run.js';
import { openRunKey } from './run-keys.js';
import type { RunRecord } from './run-record.js';
import { NodeFinder } from './node-selection.js';

export interface RunTableOptions extends Omit<
  OpenRunOptions,
  'findNodes' | 'checkNode' | 'onChange' | 'onEnded'
> {
  readonly registry: Registry;
  /** Called after a run has left the table. */
  readonly onEnded: (run: OpenRun) => void;
}

/** How long closing waits for the end of a run to be recorded. */
const closeWithinMs = 10_000;

export class RunTable {
  readonly #options: RunTableOptions;
  readonly #open = new Map<bigint, OpenRun>();
  readonly #inTurn = createKeyedQueue();
  readonly #watchers = new Map<bigint, Set<() => void>>();
  readonly #finders = new Map<string, NodeFinder>();
  readonly #cleaning = new Set<Promise<void>>();
  readonly #stopWatchingNodes: () => void;
  #isClosing = false;

  constructor(options: RunTableOptions) {
    this.#options = options;
    this.#stopWatchingNodes = options.registry.watchNodes(undefined, ({ tenant, id, status }) => {
      if (status === 'revoked') this.#failNode(tenant, id);
    });
  }

  get open(): ReadonlyMap<bigint, OpenRun> {
    return this.#open;
  }

  get isClosing(): boolean {
    return this.#isClosing;
  }

  countOf(tenant: string): number {
    let count = 0;
    for (const run of this.#open.values()) if (run.tenant === tenant) count += 1;
    return count;
  }

  /** Opens the run of this record, unless it is open: concurrent calls get the same object. */
  hold(record: RunRecord, how: { readonly isStored: boolean }): Promise<OpenRun> {
    const { id } = record;
    return this.#inTurn(`${id}`, async () => this.#open.get(id) ?? this.#openRun(record, how));
  }

  watch(id: bigint, listener: () => void): () => void {
    const listeners = this.#watchers.get(id) ?? new Set();
    this.#watchers.set(id, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) this.#watchers.delete(id);
    };
  }

  /** Removes the messages and objects of an ended run, and last the mark that they remain. */
  async clean(tenant: string, id: bigint): Promise<void> {
    const { store, objects } = this.#options;
    await removeMessages(store, tenant, id);
    await objects.removeRun(`${id}`);
    await store.commit([{ type: 'delete', key: openRunKey(id) }]);
  }

  /** Ends the runs whose server half is a child of this process, and disconnects from the others. */
  async close(): Promise<void> {
    this.#isClosing = true;
    this.#stopWatchingNodes();
    for (const finder of this.#finders.values()) finder.close();
    await Promise.all([...this.#open.values()].map(run => this.#closeRun(run)));
    await Promise.all(this.#cleaning);
  }

  async #openRun(record: RunRecord, how: { readonly isStored: boolean }): Promise<OpenRun> {
    const { id, tenant } = record;
    const run = await OpenRun.open(record, how, {
      ...this.#options,
      findNodes: this.#finderOf(tenant).find,
      checkNode: node => this.#checkNode(tenant, node),
      onChange: () => this.#notify(id),
      onEnded: ended => this.#onEnded(ended),
    });
    this.#open.set(id, run);
    return run;
  }

  #finderOf(tenant: string): NodeFinder {
    const { registry, clock } = this.#options;
    const finder = this.#finders.get(tenant) ?? new NodeFinder({ registry, tenant, clock });
    this.#finders.set(tenant, finder);
    return finder;
  }

  async #checkNode(tenant: string, node: bigint): Promise<MessageErrorCode | undefined> {
    const record = await this.#options.registry.findNode(tenant, node);
    if (!record) return 'NODE_NOT_FOUND';
    return record.status === 'revoked' ? 'NODE_REVOKED' : undefined;
  }

  #failNode(tenant: string, node: bigint): void {
    for (const run of this.#open.values()) {
      if (run.tenant !== tenant) continue;
      run.forgetNode(node);
      run.messages.failNode(node, 'NODE_REVOKED');
    }
  }

  #notify(id: bigint): void {
    this.#watchers.get(id)?.forEach(listener => listener());
  }

  #onEnded(run: OpenRun): void {
    const { linkLog, onEnded } = this.#options;
    this.#open.delete(run.id);
    const { status, outcome, reason } = run.record();
    linkLog.info({ run: `${run.id}`, outcome, reason }, 'run finished');
    this.#notify(run.id);
    onEnded(run);
    if (status === 'finished') this.#startCleaning(run);
  }

  #startCleaning({ tenant, id }: OpenRun): void {
    const { clock, linkLog } = this.#options;
    const work = () => this.clean(tenant, id);
    const cleaned = untilStored(clock, work, () => !this.#isClosing)
      .catch((error: unknown) =>
        linkLog.error({ err: error, run: `${id}` }, 'could not remove the messages and objects of a run'),
      )
      .finally(() => this.#cleaning.delete(cleaned));
    this.#cleaning.add(cleaned);
  }

  async #closeRun(run: OpenRun): Promise<void> {
    const { hostedBy, status } = run.record();
    if (status !== 'pending' && hostedBy === 'subprocess') {
      const ended = run.end({ outcome: 'failed', reason: 'the link was stopped', by: linkParty });
      // On a full disk the next link records it.
      await Promise.race([ended, sleep(this.#options.clock, closeWithinMs)]);
    }
    await run.leave();
  }
}
