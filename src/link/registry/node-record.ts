/**
 * The record of a node, and its form in the store: JSON, with 64-bit numbers as decimal text and bytes
 * as base64. Reading is strict: a record that is not whole is INTERNAL, never half a node.
 */
import { RollcallError } from '../../base/errors.js';

export const nodeStatusNames = ['pending', 'created', 'online', 'offline', 'revoked', 'quarantined'] as const;
export type NodeStatusName = (typeof nodeStatusNames)[number];

export interface CertificateReference {
  /** SHA-256 of the DER, hex. */
  readonly fingerprint: string;
  readonly serial: string;
  /** Milliseconds since 1970; 0 in a record of a link that did not keep it. */
  readonly notBefore: number;
  /** Milliseconds since 1970. */
  readonly notAfter: number;
  /** Which issue of the node it is, counted from 1. */
  readonly generation: bigint;
  /** The `id` of the authority that signed it; empty in a record of a link that did not keep it. */
  readonly authority: string;
}

export interface NodeRecord {
  readonly id: bigint;
  readonly tenant: string;
  /** Unique in the tenant among nodes that are not revoked; empty when it has none. */
  readonly name: string;
  /** The account that registered it, as `ownerName` spells it; empty for one from before there were accounts. */
  readonly owner: string;
  readonly labels: Readonly<Record<string, string>>;
  /** SubjectPublicKeyInfo DER, canonical. */
  readonly spki: Buffer;
  /** `SHA256:…`. */
  readonly fingerprint: string;
  readonly status: NodeStatusName;
  /** Since when it has this status, milliseconds since 1970. */
  readonly sinceAt: number;
  readonly reason: string;
  readonly registeredAt: number;
  /** Commits of this record so far. */
  readonly version: number;
  /** Entries its history was given so far, trimmed ones included. */
  readonly transitions: number;
  /** The address it last connected from, and its agent version; empty before. */
  readonly address: string;
  readonly agentVersion: string;
  /** The session that holds it online. */
  readonly session?: bigint;
  /** In use. */
  readonly current?: CertificateReference;
  /** Issued; becomes current when it is first used. */
  readonly next?: CertificateReference;
  /** The last generation issued; 0 before the first. */
  readonly issuedGeneration: bigint;
  /** The last generation that was used. */
  readonly confirmedGeneration: bigint;
}

/** A certificate that a node may open a session with, as it lies in the store under its fingerprint. */
export interface KnownCertificate extends Pick<CertificateReference, 'notBefore' | 'notAfter' | 'authority'> {
  readonly tenant: string;
  readonly nodeId: bigint;
}

/** One change of status. */
export interface HistoryEntry {
  readonly at: number;
  readonly status: NodeStatusName;
  readonly reason: string;
  /** More about it, for people; often empty. */
  readonly detail: string;
  readonly address: string;
  /** The version of the record that this made. */
  readonly version: number;
}

function toJson(value: object): Buffer {
  return Buffer.from(
    JSON.stringify(value, (_, each: unknown) => (typeof each === 'bigint' ? `${each}` : each)),
  );
}

export function encodeNodeRecord(record: NodeRecord): Buffer {
  return toJson({ ...record, spki: record.spki.toString('base64') });
}

export function encodeKnownCertificate(certificate: KnownCertificate): Buffer {
  return toJson(certificate);
}

export function encodeHistoryEntry(entry: HistoryEntry): Buffer {
  return toJson(entry);
}

type Fields = Readonly<Record<string, unknown>>;

function fieldsOf(value: unknown): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  throw new TypeError('not an object');
}

function textOf(fields: Fields, name: string): string {
  const value = fields[name];
  if (typeof value === 'string') return value;
  throw new TypeError(`${name} is not text`);
}

function countOf(fields: Fields, name: string): number {
  const value = fields[name];
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new TypeError(`${name} is not a whole number`);
}

function bigintOf(fields: Fields, name: string): bigint {
  const text = textOf(fields, name);
  if (/^(0|[1-9]\d{0,19})$/.test(text)) return BigInt(text);
  throw new TypeError(`${name} is not a decimal number`);
}

function statusOf(fields: Fields): NodeStatusName {
  const status = nodeStatusNames.find(each => each === fields['status']);
  if (status) return status;
  throw new TypeError('status is not one');
}

function labelsOf(fields: Fields): Record<string, string> {
  const labels = fieldsOf(fields['labels']);
  for (const name of Object.keys(labels)) textOf(labels, name);
  return labels as Record<string, string>;
}

function referenceOf(value: unknown): CertificateReference {
  const fields = fieldsOf(value);
  return {
    fingerprint: textOf(fields, 'fingerprint'),
    serial: textOf(fields, 'serial'),
    notBefore: fields['notBefore'] === undefined ? 0 : countOf(fields, 'notBefore'),
    notAfter: countOf(fields, 'notAfter'),
    generation: bigintOf(fields, 'generation'),
    authority: fields['authority'] === undefined ? '' : textOf(fields, 'authority'),
  };
}

function recordOf(fields: Fields): NodeRecord {
  return {
    id: bigintOf(fields, 'id'),
    tenant: textOf(fields, 'tenant'),
    name: textOf(fields, 'name'),
    owner: textOf(fields, 'owner'),
    labels: labelsOf(fields),
    spki: Buffer.from(textOf(fields, 'spki'), 'base64'),
    fingerprint: textOf(fields, 'fingerprint'),
    status: statusOf(fields),
    sinceAt: countOf(fields, 'sinceAt'),
    reason: textOf(fields, 'reason'),
    registeredAt: countOf(fields, 'registeredAt'),
    version: countOf(fields, 'version'),
    transitions: countOf(fields, 'transitions'),
    address: textOf(fields, 'address'),
    agentVersion: textOf(fields, 'agentVersion'),
    ...(fields['session'] !== undefined && { session: bigintOf(fields, 'session') }),
    ...(fields['current'] !== undefined && { current: referenceOf(fields['current']) }),
    ...(fields['next'] !== undefined && { next: referenceOf(fields['next']) }),
    issuedGeneration: bigintOf(fields, 'issuedGeneration'),
    confirmedGeneration: bigintOf(fields, 'confirmedGeneration'),
  };
}

function decode<T>(what: string, bytes: Uint8Array, read: (fields: Fields) => T): T {
  try {
    return read(fieldsOf(JSON.parse(Buffer.from(bytes).toString())));
  } catch (error) {
    throw new RollcallError('INTERNAL', `a ${what} in the store is damaged`, { cause: error });
  }
}

export function decodeNodeRecord(bytes: Uint8Array): NodeRecord {
  return decode('node record', bytes, recordOf);
}

export function decodeKnownCertificate(bytes: Uint8Array): KnownCertificate {
  return decode('certificate', bytes, fields => ({
    tenant: textOf(fields, 'tenant'),
    nodeId: bigintOf(fields, 'nodeId'),
    notBefore: countOf(fields, 'notBefore'),
    notAfter: countOf(fields, 'notAfter'),
    authority: textOf(fields, 'authority'),
  }));
}

export function decodeHistoryEntry(bytes: Uint8Array): HistoryEntry {
  return decode('history entry', bytes, fields => ({
    at: countOf(fields, 'at'),
    status: statusOf(fields),
    reason: textOf(fields, 'reason'),
    detail: textOf(fields, 'detail'),
    address: textOf(fields, 'address'),
    version: countOf(fields, 'version'),
  }));
}
