/**
 * How many nodes of a tenant have which status. Counted once, at the first question, by reading the status index in
 * pages, and from then on kept by watching it; the store's opening waits for none of it. A stored counter would make
 * every change of status meet on one key, and a count per question would read a million keys.
 */
import { statusKey } from './node-keys.js';
import { tenantPrefix } from '../../store/keys.js';
import type { Key, StopWatching, Store, Value } from '../../store/store.js';
import { nodeStatusNames, type NodeStatusName } from './node-record.js';

export type NodeCounts = Record<NodeStatusName, number>;

export interface NodeCounter {
  /** The counts of the stored statuses. */
  count(tenant: string): Promise<NodeCounts>;
  /** A commit failed that may be found written later: count anew once the store takes commits again. */
  doubt(): void;
  close(): void;
}

const pageSize = 5000;

export function noNodes(): NodeCounts {
  return { pending: 0, created: 0, online: 0, offline: 0, revoked: 0, quarantined: 0 };
}

function indexPrefix(tenant: string): Key {
  return statusKey(tenant, 'created', 0n).slice(0, tenantPrefix(tenant).length + 'status/'.length);
}

interface Counting {
  readonly counts: NodeCounts;
  readonly finished: Promise<void>;
  readonly stop: StopWatching;
}

/** Counts the index while it changes. */
function startCounting(store: Store, tenant: string, onChange: () => void): Counting {
  const prefix = indexPrefix(tenant);
  const counts = noNodes();
  /** Keys up to here are counted; the end once all are. */
  let counted: Key = prefix;
  /** Changes, since the present page was asked for, of keys that are not counted yet: the page may show them as they were. */
  const recent = new Map<Key, boolean>();

  function add(key: Key, step: 1 | -1): void {
    const status = nodeStatusNames.find(each => key.startsWith(`${each}/`, prefix.length));
    if (status) counts[status] += step;
  }

  function note(changes: readonly { readonly key: Key; readonly value: Value | undefined }[]): void {
    onChange();
    for (const { key, value } of changes) {
      if (key <= counted) add(key, value ? 1 : -1);
      else recent.set(key, value !== undefined);
    }
  }

  async function countPages(): Promise<void> {
    for (let hasMore = true; hasMore;) {
      recent.clear();
      const page = await store.list({ prefix, after: counted, limit: pageSize });
      hasMore = page.length === pageSize;
      const end = hasMore ? (page.at(-1)?.key ?? prefix) : `${prefix}\x7f`;
      const present = new Set(page.map(({ key }) => key));
      for (const [key, isThere] of recent) {
        if (isThere) present.add(key);
        else present.delete(key);
      }
      for (const key of present) if (key <= end) add(key, 1);
      counted = end;
    }
  }

  const stop = store.watch(prefix, note);
  return { counts, finished: countPages(), stop };
}

export function createNodeCounter(store: Store): NodeCounter {
  const tenants = new Map<string, Counting>();
  let doubtful = false;

  function forget(): void {
    for (const { stop } of tenants.values()) stop();
    tenants.clear();
  }

  function settleDoubt(): void {
    if (!doubtful) return;
    doubtful = false;
    forget();
  }

  return {
    async count(tenant) {
      const counting = tenants.get(tenant) ?? startCounting(store, tenant, settleDoubt);
      tenants.set(tenant, counting);
      try {
        await counting.finished;
      } catch (error) {
        counting.stop();
        if (tenants.get(tenant) === counting) tenants.delete(tenant);
        throw error;
      }
      return { ...counting.counts };
    },
    doubt() {
      doubtful = true;
    },
    close: forget,
  };
}
