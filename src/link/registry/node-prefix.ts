/** Nodes whose id, name or fingerprint begins with what a person typed: nobody types 20 digits twice. */
import { RollcallError } from '../../base/errors.js';
import type { Store } from '../../store/store.js';
import { decodeId, fingerprintKey, idDigits, idOfKey, nameKey, nodePrefix } from './node-keys.js';
import type { NodeRecord } from './node-record.js';

/** Names, ids and fingerprints are of these characters, and no longer. */
const prefixPattern = /^[A-Za-z0-9._:+/-]{1,64}$/;
/** So many are named to who typed too little. */
const maxNamed = 5;

/** The ids of the nodes that it may stand for, at most one more than are named. */
export async function findIdsByPrefix(store: Store, tenant: string, text: string): Promise<bigint[]> {
  if (!prefixPattern.test(text)) return [];
  const limit = maxNamed + 1;
  const index = text.startsWith('SHA256:') ? fingerprintKey(tenant, text) : nameKey(tenant, text);
  const named = await store.list({ prefix: index, limit });
  // In keys an id has leading zeros, so that one of each length begins elsewhere.
  const lengths = /^[1-9]\d*$/.test(text) ? idDigits - text.length + 1 : 0;
  const numbered = await Promise.all(
    Array.from({ length: Math.max(0, lengths) }, (_, zeros) =>
      store.list({ prefix: nodePrefix(tenant) + '0'.repeat(zeros) + text, limit }),
    ),
  );
  const ids = [
    ...named.map(({ value }) => decodeId(value)),
    ...numbered.flat().map(({ key }) => idOfKey(key)),
  ];
  return [...new Set(ids)].slice(0, limit);
}

/** `text` is what was typed, made clean. */
export function ambiguousNode(text: string, nodes: readonly NodeRecord[]): RollcallError {
  const named = nodes.slice(0, maxNamed).map(({ id, name }) => (name === '' ? `${id}` : `${id} (${name})`));
  const more = nodes.length > maxNamed ? ', …' : '';
  return new RollcallError('REQUEST_INVALID', `several nodes begin with "${text}"`, {
    hint: `type more of the one you mean: ${named.join(', ')}${more}`,
  });
}
