/**
 * The keys of a node in the store: its record, and the indexes that are written in the same commit: by status, key, name
 * and certificate. Ids have 20 digits in keys, so that paging by key is paging by id.
 */
import { padded, tenantPrefix } from '../../store/keys.js';
import type { Change, Key } from '../../store/store.js';
import {
  encodeKnownCertificate,
  encodeNodeRecord,
  type CertificateReference,
  type NodeRecord,
  type NodeStatusName,
} from './node-record.js';

export const idDigits = 20;

export const nodePrefix = (tenant: string): Key => `${tenantPrefix(tenant)}node/`;
export const nodeKey = (tenant: string, id: bigint): Key => nodePrefix(tenant) + padded(id, idDigits);
export const statusPrefix = (tenant: string, status: NodeStatusName): Key =>
  `${tenantPrefix(tenant)}status/${status}/`;
export const statusKey = (tenant: string, status: NodeStatusName, id: bigint): Key =>
  statusPrefix(tenant, status) + padded(id, idDigits);
export const fingerprintKey = (tenant: string, fingerprint: string): Key =>
  `${tenantPrefix(tenant)}fingerprint/${fingerprint}`;
export const nameKey = (tenant: string, name: string): Key => `${tenantPrefix(tenant)}name/${name}`;
export const historyPrefix = (tenant: string, id: bigint): Key =>
  `${tenantPrefix(tenant)}history/${padded(id, idDigits)}/`;
export const historyKey = (tenant: string, id: bigint, transition: number): Key =>
  historyPrefix(tenant, id) + padded(transition, 10);

/** The tenant of a node that is not in the default one; an id alone comes with a certificate. */
export function homeKey(id: bigint): Key {
  return `home/${padded(id, 20)}`;
}

/** A certificate that a node may connect with, by its fingerprint: of whatever tenant, since that is what is looked up. */
export const certificateKey = (fingerprint: string): Key => `certificate/${fingerprint}`;

/** Of whatever tenant. */
export const isHistoryKey = (key: Key): boolean => /^t\/[^/]+\/history\//.test(key);
export const isNodeKey = (key: Key): boolean => /^t\/[^/]+\/node\//.test(key);

/** The id a record or status key ends in. */
export function idOfKey(key: Key): bigint {
  return BigInt(key.slice(-idDigits));
}

/** The number a history key ends in. */
export function transitionOfKey(key: Key): number {
  return Number(key.slice(-10));
}

/** The id an index entry holds. */
export function decodeId(value: Uint8Array): bigint {
  return BigInt(Buffer.from(value).toString());
}

const put = (key: Key, value: string | Buffer): Change => ({ type: 'put', key, value: Buffer.from(value) });

/**
 * The changes of a new version of a record: the record itself and the indexes that follow from it. The entries of a
 * revoked node stay, so that it can still be asked for, until another node takes its key or its name.
 */
export function recordChanges(before: NodeRecord | undefined, after: NodeRecord): Change[] {
  const { tenant, id, status } = after;
  const changes = [put(nodeKey(tenant, id), encodeNodeRecord(after))];
  if (before?.status !== status) {
    if (before) changes.push({ type: 'delete', key: statusKey(tenant, before.status, id) });
    changes.push(put(statusKey(tenant, status, id), ''));
  }
  if (!before) {
    changes.push(put(fingerprintKey(tenant, after.fingerprint), `${id}`));
    if (after.name !== '') changes.push(put(nameKey(tenant, after.name), `${id}`));
  }
  return [...changes, ...certificateChanges(before, after)];
}

/** Keeps in the index the certificates of the record and no other. */
function certificateChanges(before: NodeRecord | undefined, after: NodeRecord): Change[] {
  const [old, now] = [certificatesOf(before), certificatesOf(after)];
  const { tenant, id } = after;
  return [
    ...old
      .filter(each => !has(now, each))
      .map(({ fingerprint }): Change => ({ type: 'delete', key: certificateKey(fingerprint) })),
    ...now
      .filter(each => !has(old, each))
      .map(({ fingerprint, notBefore, notAfter, authority }) => {
        const known = { tenant, nodeId: id, notBefore, notAfter, authority };
        return put(certificateKey(fingerprint), encodeKnownCertificate(known));
      }),
  ];
}

function certificatesOf(record: NodeRecord | undefined): CertificateReference[] {
  return [record?.current, record?.next].filter(each => each !== undefined);
}

function has(certificates: readonly CertificateReference[], { fingerprint }: CertificateReference): boolean {
  return certificates.some(each => each.fingerprint === fingerprint);
}
