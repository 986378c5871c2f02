/**
 * What happened, one log per tenant, each entry holding the hash of the one before it: nobody can change, drop or
 * insert an entry without every later hash being wrong. An event is a change for the commit of what it tells, so
 * there is no event without its deed and no deed without its event.
 *
 * The hash is SHA-256 over the UTF-8 of the JSON text of
 * `["rollcall audit v1", seq, at, type, subject, by, [[key, value], …], previous]`, the pairs of `detail` sorted by
 * their keys (by UTF-16 code units), without white space, as JSON.stringify writes it. The first `previous` is 64 zeros.
 */
import { createHash } from 'node:crypto';
import type { Clock } from '../../base/clock.js';
import { RollcallError } from '../../base/errors.js';
import { padded, tenantPrefix } from '../store/keys.js';
import type { Change, Key, Store, Value } from '../store/store.js';
import { cleanText } from './clean-text.js';

export type AuditValue = string | number | boolean;
export type AuditDetail = Readonly<Record<string, AuditValue>>;

export interface AuditEvent {
  /** `node.registered`. */
  readonly type: string;
  /** What it is about, a node id for instance. */
  readonly subject?: string;
  /** Who did it. */
  readonly by: string;
  readonly detail?: AuditDetail;
}

export interface AuditEntry {
  /** Counted from 1 in each tenant. */
  readonly seq: number;
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly type: string;
  /** Empty when there is none. */
  readonly subject: string;
  readonly by: string;
  readonly detail: AuditDetail;
  /** SHA-256 of the entry before, 64 hex digits. */
  readonly previous: string;
  readonly hash: string;
}

export interface Audit {
  /** The change that adds this event to the tenant's log. Its strings are cleaned of control characters. */
  auditChange(tenant: string, event: AuditEvent): Change;
}

export const firstPrevious = '0'.repeat(64);

/** The hash of an entry, from its other fields. */
export function hashEntry(entry: Omit<AuditEntry, 'hash'>): string {
  const { seq, at, type, subject, by, detail, previous } = entry;
  const pairs = Object.entries(detail).sort(([one], [other]) => (one < other ? -1 : 1));
  const text = JSON.stringify(['rollcall audit v1', seq, at, type, subject, by, pairs, previous]);
  return createHash('sha256').update(text).digest('hex');
}

function logOf(tenant: string): Key {
  return `${tenantPrefix(tenant)}audit/`;
}

function decodeEntry(value: Value): AuditEntry {
  try {
    const entry = JSON.parse(Buffer.from(value).toString()) as AuditEntry;
    if (Number.isSafeInteger(entry.seq) && typeof entry.hash === 'string') return entry;
    throw new Error('not an audit entry');
  } catch (error) {
    throw new RollcallError('INTERNAL', 'an entry of the audit log is damaged', { cause: error });
  }
}

/**
 * What ties an entry to the one before it. A damaged one must not keep the link from doing and telling what comes next
 * (a revocation, for one): it is tied to by the hash of its bytes, which fits nothing, so that the break shows.
 */
function placeAfter(before: Value | undefined): Pick<AuditEntry, 'seq' | 'previous'> {
  if (!before) return { seq: 1, previous: firstPrevious };
  try {
    const { seq, hash } = decodeEntry(before);
    return { seq: seq + 1, previous: hash };
  } catch {
    return { seq: 1, previous: createHash('sha256').update(before).digest('hex') };
  }
}

function cleanValue(value: AuditValue): AuditValue {
  if (typeof value === 'string') return cleanText(value);
  // JSON has no words for these.
  return typeof value === 'number' && !Number.isFinite(value) ? String(value) : value;
}

function cleanDetail(detail: AuditDetail): AuditDetail {
  return Object.fromEntries(
    Object.entries(detail).map(([key, value]) => [cleanText(key, 128), cleanValue(value)]),
  );
}

export function createAudit({ clock }: { readonly clock: Clock }): Audit {
  return {
    auditChange(tenant, event) {
      const told = {
        at: clock.now(),
        type: cleanText(event.type),
        subject: cleanText(event.subject ?? ''),
        by: cleanText(event.by),
        detail: cleanDetail(event.detail ?? {}),
      };
      const valueAfter = (before: Value | undefined): Value => {
        const entry = { ...placeAfter(before), ...told };
        return Buffer.from(JSON.stringify({ ...entry, hash: hashEntry(entry) }));
      };
      return { type: 'append', log: logOf(tenant), value: valueAfter };
    },
  };
}

export interface EventQuery {
  readonly limit: number;
  /** Only entries after this number. */
  readonly after?: number | undefined;
}

/** Entries of a tenant, oldest first. */
export async function listEvents(
  store: Store,
  tenant: string,
  { limit, after = 0 }: EventQuery,
): Promise<AuditEntry[]> {
  const prefix = logOf(tenant);
  const entries = await store.list({ prefix, after: prefix + padded(after, 16), limit });
  return entries.map(({ value }) => decodeEntry(value));
}

/**
 * The place of the first entry that does not fit, or undefined when all do. Entries that do not begin at number 1
 * are checked from their first on.
 */
export function verifyChain(entries: readonly AuditEntry[]): number | undefined {
  const broken = entries.findIndex((entry, index) => {
    const before = entries[index - 1];
    const previous = before?.hash ?? (entry.seq === 1 ? firstPrevious : entry.previous);
    const isNext = before === undefined || entry.seq === before.seq + 1;
    return !isNext || entry.previous !== previous || entry.hash !== hashEntry(entry);
  });
  return broken === -1 ? undefined : broken;
}
