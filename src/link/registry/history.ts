/** The history of a node's status: newest first to read, and kept within bounds as it grows. */
import type { Change, Store } from '../../store/store.js';
import { historyKey, historyPrefix, transitionOfKey } from './node-keys.js';
import { decodeHistoryEntry, type HistoryEntry, type NodeRecord } from './node-record.js';
import { checkPageSize, makePageToken, readPageToken } from './page-token.js';

export interface HistoryBounds {
  /** Entries kept of each node. */
  readonly limit: number;
  /** How long they are kept, ms. */
  readonly ageMs: number;
}

/** Deleted with one commit, at most: more than one commit adds, so that it catches up without a long one. */
const maxTrimmed = 4;

/** The changes that delete the oldest entries beyond the bounds, for the commit that makes `record`. */
export async function trimHistory(
  store: Store,
  { tenant, id, transitions, registeredAt }: NodeRecord,
  now: number,
  bounds: HistoryBounds,
): Promise<Change[]> {
  const oldestKept = now - bounds.ageMs;
  if (transitions <= bounds.limit && registeredAt >= oldestKept) return [];
  const oldest = await store.list({ prefix: historyPrefix(tenant, id), limit: maxTrimmed });
  return oldest
    .filter(({ key, value }) => {
      const isBeyond = transitions - transitionOfKey(key) >= bounds.limit;
      return isBeyond || decodeHistoryEntry(value).at < oldestKept;
    })
    .map(({ key }) => ({ type: 'delete', key }));
}

export interface HistoryQuery {
  readonly pageSize?: number | undefined;
  readonly pageToken?: string | undefined;
}

export interface HistoryPage {
  readonly transitions: HistoryEntry[];
  /** Empty on the last page. */
  readonly nextPageToken: string;
}

/** A page of the history. `waiting` are entries newer than the record's stored ones, oldest first. */
export async function listHistory(
  store: Store,
  { tenant, id, transitions }: NodeRecord,
  waiting: readonly HistoryEntry[],
  query: HistoryQuery,
): Promise<HistoryPage> {
  const size = checkPageSize(query.pageSize);
  const asked = ['history', tenant, `${id}`];
  const before = readPageToken(asked, query.pageToken);
  const newest = waiting
    .map((entry, index) => ({ number: transitions + 1 + index, entry }))
    .filter(({ number }) => before === undefined || number < before)
    .reverse();
  const stored = await store.list({
    prefix: historyPrefix(tenant, id),
    reverse: true,
    after: before === undefined ? undefined : historyKey(tenant, id, Number(before)),
    limit: size + 1,
  });
  const found = [
    ...newest,
    ...stored.map(({ key, value }) => ({ number: transitionOfKey(key), entry: decodeHistoryEntry(value) })),
  ];
  const page = found.slice(0, size);
  const last = page.at(-1);
  return {
    transitions: page.map(({ entry }) => entry),
    nextPageToken: last && found.length > size ? makePageToken(asked, BigInt(last.number)) : '',
  };
}
