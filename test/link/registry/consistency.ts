/** Invariants of a registry in the store at every moment, after any interruption. */
import { listEvents } from '../../../src/link/audit/query.js';
import { listTenants, tenantPrefix } from '../../../src/store/keys.js';
import {
  certificateKey,
  decodeId,
  fingerprintKey,
  historyPrefix,
  idOfKey,
  nameKey,
  nodeKey,
  nodePrefix,
  statusKey,
  transitionOfKey,
} from '../../../src/link/registry/node-keys.js';
import {
  decodeHistoryEntry,
  decodeKnownCertificate,
  decodeNodeRecord,
  type NodeRecord,
} from '../../../src/link/registry/node-record.js';
import type { Store } from '../../../src/store/store.js';
import { verifyChain } from '../../harness/audit-chain.js';

/** Gives a sentence for everything that does not agree; none when all is well. */
export async function findInconsistencies(store: Store): Promise<string[]> {
  const found: string[] = [];
  for (const tenant of await listTenants(store)) found.push(...(await checkTenant(store, tenant)));
  return [...found, ...(await checkStrayCertificates(store))];
}

/** Entries of the certificate index, which is of all tenants, whose node does not have that certificate. */
async function checkStrayCertificates(store: Store): Promise<string[]> {
  const found: string[] = [];
  for (const { key, value } of await store.list({ prefix: certificateKey('') })) {
    const { tenant, nodeId } = decodeKnownCertificate(value);
    const stored = await store.get(nodeKey(tenant, nodeId));
    const { current, next } = stored ? decodeNodeRecord(stored) : {};
    if (![current, next].some(each => each && certificateKey(each.fingerprint) === key))
      found.push(`stray ${key}`);
  }
  return found;
}

async function checkTenant(store: Store, tenant: string): Promise<string[]> {
  const entries = await store.list({ prefix: nodePrefix(tenant) });
  const records = entries.map(({ value }) => decodeNodeRecord(value));
  const byId = new Map(records.map(record => [record.id, record]));
  const found = entries.filter(({ key }) => !byId.has(idOfKey(key))).map(({ key }) => `wrong key ${key}`);
  for (const record of records) {
    found.push(
      ...checkFields(record),
      ...(await checkIndexes(store, record)),
      ...(await checkHistory(store, record)),
    );
  }
  found.push(...(await checkStrays(store, tenant, byId)));
  const broken = verifyChain(await listEvents(store, tenant, { limit: 1_000_000 }));
  if (broken !== undefined) found.push(`the audit chain breaks at ${broken}`);
  return found;
}

function checkFields({ id, status, session, current, next, ...record }: NodeRecord): string[] {
  const found: string[] = [];
  if ((session !== undefined) !== (status === 'online'))
    found.push(`${id}: ${status} with session ${session ?? 'none'}`);
  if (status === 'online' && !current) found.push(`${id}: online without a certificate`);
  if (status === 'revoked' && (current ?? next)) found.push(`${id}: revoked with a certificate`);
  if (record.confirmedGeneration > record.issuedGeneration)
    found.push(`${id}: confirmed more than was issued`);
  return found;
}

async function checkIndexes(store: Store, record: NodeRecord): Promise<string[]> {
  const { tenant, id, name, fingerprint, status } = record;
  const found: string[] = [];
  if (!(await store.get(statusKey(tenant, status, id)))) found.push(`${id}: not in the index of ${status}`);
  for (const each of [record.current, record.next]) {
    if (each && !(await store.get(certificateKey(each.fingerprint))))
      found.push(`${id}: not in the index of certificates`);
  }
  const keyHolder = await store.get(fingerprintKey(tenant, fingerprint));
  if (!keyHolder) found.push(`${id}: not in the index of keys`);
  else if (status !== 'revoked' && decodeId(keyHolder) !== id) found.push(`${id}: its key leads elsewhere`);
  if (name === '') return found;
  const nameHolder = await store.get(nameKey(tenant, name));
  if (!nameHolder) found.push(`${id}: not in the index of names`);
  else if (status !== 'revoked' && decodeId(nameHolder) !== id) found.push(`${id}: its name leads elsewhere`);
  return found;
}

async function checkHistory(
  store: Store,
  { tenant, id, status, transitions }: NodeRecord,
): Promise<string[]> {
  const entries = await store.list({ prefix: historyPrefix(tenant, id) });
  const found: string[] = [];
  const first = transitions - entries.length + 1;
  for (const [index, { key }] of entries.entries()) {
    if (transitionOfKey(key) !== first + index) found.push(`${id}: history has a gap before ${key}`);
  }
  const last = entries.at(-1);
  if (!last || decodeHistoryEntry(last.value).status !== status)
    found.push(`${id}: history does not end in ${status}`);
  return found;
}

/** Index entries that lead to nothing, or to a node that knows nothing of them. */
async function checkStrays(
  store: Store,
  tenant: string,
  byId: ReadonlyMap<bigint, NodeRecord>,
): Promise<string[]> {
  const found: string[] = [];
  const prefix = tenantPrefix(tenant);
  for (const { key } of await store.list({ prefix: `${prefix}status/` })) {
    const record = byId.get(idOfKey(key));
    if (!record || statusKey(tenant, record.status, record.id) !== key) found.push(`stray ${key}`);
  }
  for (const { key, value } of await store.list({ prefix: `${prefix}fingerprint/` })) {
    const record = byId.get(decodeId(value));
    if (!record || fingerprintKey(tenant, record.fingerprint) !== key) found.push(`stray ${key}`);
  }
  for (const { key, value } of await store.list({ prefix: `${prefix}name/` })) {
    const record = byId.get(decodeId(value));
    if (!record || nameKey(tenant, record.name) !== key) found.push(`stray ${key}`);
  }
  for (const { key } of await store.list({ prefix: `${prefix}history/` })) {
    if (!byId.has(BigInt(key.split('/')[3] ?? ''))) found.push(`stray ${key}`);
  }
  return found;
}
