/**
 * An entry of the audit log: its fields, its hash, its one spelling in JSON. Each entry holds the hash of the one
 * before it. Pure, and shared by the link, which writes entries, and by programs that check them somewhere else.
 *
 * The hash is SHA-256 over the UTF-8 of the JSON text of
 * `["rollcall audit v3", seq, at, type, subject, [kind, id, name], address, requestId, outcome, [[key, value], …],
 * previous]`, null for an address, a request id or an outcome that it does not have, the pairs of `detail` sorted by
 * their keys (by UTF-16 code units), without white space, as JSON.stringify writes it. The first `previous` is 64 zeros.
 * Entries of before hold a text as `by`. They are hashed over
 * `["rollcall audit v1", seq, at, type, subject, by, [[key, value], …], previous]`, or with an address, a request id or
 * an outcome over
 * `["rollcall audit v2", seq, at, type, subject, by, address, requestId, outcome, [[key, value], …], previous]`.
 */
import { sha256Hex } from '../base/hash.js';
import { findParty, type Party } from './party.js';

export type AuditValue = string | number | boolean;
export type AuditDetail = Readonly<Record<string, AuditValue>>;

const auditOutcomes = ['done', 'refused', 'failed'] as const;
export type AuditOutcome = (typeof auditOutcomes)[number];

export interface AuditEntry {
  /** Counted from 1 in each tenant. */
  readonly seq: number;
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly type: string;
  /** Empty when there is none. */
  readonly subject: string;
  /** A text in entries from before parties were told apart. */
  readonly by: Party | string;
  /** The origin of the request. */
  readonly address?: string;
  readonly requestId?: string;
  /** Done when it is not said. */
  readonly outcome?: AuditOutcome;
  readonly detail: AuditDetail;
  /** SHA-256 of the entry before, 64 hex digits. */
  readonly previous: string;
  readonly hash: string;
}

export const firstPrevious = '0'.repeat(64);

function sortedPairs(detail: AuditDetail): [string, AuditValue][] {
  return Object.entries(detail).sort(([one], [other]) => (one < other ? -1 : 1));
}

/** The hash of an entry, from its other fields. */
export function hashEntry(entry: Omit<AuditEntry, 'hash'>): string {
  const { seq, at, type, subject, by, address, requestId, outcome, detail, previous } = entry;
  const isPlain = address === undefined && requestId === undefined && outcome === undefined;
  const isOld = typeof by === 'string';
  const version = isOld ? (isPlain ? 1 : 2) : 3;
  const who = isOld ? by : [by.kind, by.id, by.name];
  const origin = version === 1 ? [] : [address ?? null, requestId ?? null, outcome ?? null];
  const told = [seq, at, type, subject, who, ...origin, sortedPairs(detail), previous];
  return sha256Hex(JSON.stringify([`rollcall audit v${version}`, ...told]));
}

/** The one way an entry is written in an export, without a line end. */
export function encodeEntry(entry: AuditEntry): string {
  const { seq, at, type, subject, address, requestId, outcome, previous, hash } = entry;
  const by = typeof entry.by === 'string' ? entry.by : spellParty(entry.by);
  const detail = Object.fromEntries(sortedPairs(entry.detail));
  return JSON.stringify({
    seq,
    at,
    type,
    subject,
    by,
    address,
    requestId,
    outcome,
    detail,
    previous,
    hash,
  });
}

function spellParty({ kind, id, name }: Party): Party {
  return { kind, id, name };
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A SHA-256 in lower-case hex. */
export function isHash(value: unknown): value is string {
  return typeof value === 'string' && /^[0-9a-f]{64}$/.test(value);
}

/** The number of an entry. */
export function isSeq(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0;
}

function isDetail(value: unknown): value is AuditDetail {
  return (
    isRecord(value) &&
    Object.values(value).every(each => ['string', 'boolean'].includes(typeof each) || Number.isFinite(each))
  );
}

function isAbsentOrText(value: unknown): value is string | undefined {
  return value === undefined || typeof value === 'string';
}

function isOutcome(value: unknown): value is AuditOutcome | undefined {
  return value === undefined || auditOutcomes.some(each => each === value);
}

/** The entry in a value that JSON.parse gave, whatever else is in it; undefined when it is invalid. */
export function findEntry(value: unknown): AuditEntry | undefined {
  if (!isRecord(value)) return undefined;
  const { seq, at, type, subject, address, requestId, outcome, detail, previous, hash } = value;
  const by = typeof value['by'] === 'string' ? value['by'] : findParty(value['by']);
  if (!isSeq(seq) || !Number.isFinite(at) || !isHash(previous) || !isHash(hash)) return undefined;
  if (typeof type !== 'string' || typeof subject !== 'string' || by === undefined) return undefined;
  if (!isAbsentOrText(address) || !isAbsentOrText(requestId) || !isOutcome(outcome)) return undefined;
  if (!isDetail(detail)) return undefined;
  const origin = {
    ...(address !== undefined && { address }),
    ...(requestId !== undefined && { requestId }),
    ...(outcome !== undefined && { outcome }),
  };
  return { seq, at: at as number, type, subject, by, ...origin, detail, previous, hash };
}
