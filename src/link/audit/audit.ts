/**
 * The audit log, one per tenant, each entry holding the hash of the one before it: nobody can change, drop or
 * insert an entry without every later hash being wrong. An event is a change for the commit of what it tells, so
 * there is no event without its deed and no deed without its event. What an entry and its hash are is in
 * src/audit-log/entry.ts.
 */
import { sha256Hex } from '../../base/hash.js';
import {
  firstPrevious,
  hashEntry,
  type AuditDetail,
  type AuditEntry,
  type AuditOutcome,
  type AuditValue,
} from '../../audit-log/entry.js';
import type { Party } from '../../audit-log/party.js';
import type { Clock } from '../../base/clock.js';
import type { Change, Value } from '../../store/store.js';
import type { AuditEventType } from './event-types.js';
import { decodeEntry, logOf } from './stored-log.js';
import { cleanText } from '../../base/text.js';

/** The actor of an event and the origin of the request; the link, and an event without a request, have no origin. */
export interface Actor extends Party {
  readonly address?: string | undefined;
  readonly requestId?: string | undefined;
}

export interface AuditEvent {
  readonly type: AuditEventType;
  /** The thing it is about, a node id for instance. */
  readonly subject?: string | undefined;
  readonly by: Actor;
  /** Done by default. */
  readonly outcome?: AuditOutcome | undefined;
  readonly detail?: AuditDetail | undefined;
}

export interface Audit {
  /** The change that adds this event to the tenant's log. Its strings are cleaned of control characters. */
  auditChange(tenant: string, event: AuditEvent): Change;
}

/**
 * The hash that ties an entry to the one before it. A damaged one must not keep the link from doing and telling what comes next
 * (a revocation, for one): it is tied to by the hash of its bytes, which fits nothing, so that the break shows.
 */
function placeAfter(before: Value | undefined): Pick<AuditEntry, 'seq' | 'previous'> {
  if (!before) return { seq: 1, previous: firstPrevious };
  const entry = decodeEntry(before);
  if (entry) return { seq: entry.seq + 1, previous: entry.hash };
  return { seq: 1, previous: sha256Hex(before) };
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

/** Leaves out unknown fields, and an outcome that goes without saying. */
function cleanOrigin({ by, outcome = 'done' }: AuditEvent) {
  const { address = '', requestId = '' } = by;
  return {
    ...(address !== '' && { address: cleanText(address) }),
    ...(requestId !== '' && { requestId: cleanText(requestId) }),
    ...(outcome !== 'done' && { outcome }),
  };
}

function cleanParty({ kind, id, name }: Party): Party {
  return { kind, id: cleanText(id), name: cleanText(name) };
}

export function createAudit({ clock }: { readonly clock: Clock }): Audit {
  return {
    auditChange(tenant, event) {
      const told = {
        at: clock.now(),
        type: event.type,
        subject: cleanText(event.subject ?? ''),
        by: cleanParty(event.by),
        ...cleanOrigin(event),
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
