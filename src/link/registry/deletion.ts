/** Plans the deletion of a node: its record, its history, and the index entries that still name it. */
import type { Change, Expectation, Key, Store } from '../../store/store.js';
import {
  decodeId,
  fingerprintKey,
  historyPrefix,
  homeKey,
  nameKey,
  nodeKey,
  statusKey,
} from './node-keys.js';
import type { NodeRecord } from './node-record.js';

export interface Deletion {
  readonly changes: readonly Change[];
  /** For the commit: another node may take the key or the name at any time. */
  readonly expectations: readonly Expectation[];
}

export async function planDeletion(store: Store, record: NodeRecord): Promise<Deletion> {
  const { tenant, id, status, name, fingerprint } = record;
  const indexes = [fingerprintKey(tenant, fingerprint), ...(name === '' ? [] : [nameKey(tenant, name)])];
  const expectations = await Promise.all(indexes.map(async key => ({ key, value: await store.get(key) })));
  const own = expectations.filter(({ value }) => value && decodeId(value) === id).map(({ key }) => key);
  // Bounded by the entries that are kept of a node.
  const history = (await store.list({ prefix: historyPrefix(tenant, id) })).map(({ key }) => key);
  const keys: readonly Key[] = [
    ...[nodeKey(tenant, id), statusKey(tenant, status, id), homeKey(id)],
    ...own,
    ...history,
  ];
  return { changes: keys.map(key => ({ type: 'delete', key })), expectations };
}
