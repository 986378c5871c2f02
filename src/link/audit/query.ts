/**
 * Reads the audit log of a tenant: page by page, from either end, all of it or what fits a filter. A page looks at a
 * bounded number of entries, so a filter that fits nothing costs many short pages and never one long one.
 */
import type { AuditEntry } from '../../audit-log/entry.js';
import { isParty } from '../../audit-log/party.js';
import { RollcallError } from '../../base/errors.js';
import { padded } from '../../store/keys.js';
import type { Store } from '../../store/store.js';
import { decodeEntry, logOf, numberOf } from './stored-log.js';

export interface EventQuery {
  readonly limit: number;
  /** Only entries after this number. */
  readonly after?: number | undefined;
}

/** Entries of a tenant, oldest first. INTERNAL when one of them is damaged. */
export async function listEvents(
  store: Store,
  tenant: string,
  { limit, after = 0 }: EventQuery,
): Promise<AuditEntry[]> {
  const prefix = logOf(tenant);
  const stored = await store.list({ prefix, after: prefix + padded(after, 16), limit });
  return stored.map(({ value }) => {
    const entry = decodeEntry(value);
    if (entry) return entry;
    throw new RollcallError('INTERNAL', 'an entry of the audit log is damaged');
  });
}

export interface EventPageQuery {
  /** At most so many entries, 1,000 at the most. */
  readonly limit: number;
  readonly newestFirst?: boolean | undefined;
  /** Goes on after the entry of this number, in the order that was asked for: `next` of the page before. */
  readonly from?: number | undefined;
  /** `node.` for all of its kind. */
  readonly typePrefix?: string | undefined;
  readonly subject?: string | undefined;
  /** A name, an id, or `user:alice`. */
  readonly by?: string | undefined;
  /** Not before this moment, milliseconds since 1970. */
  readonly since?: number | undefined;
  /** Before this moment, milliseconds since 1970. */
  readonly until?: number | undefined;
}

export interface EventPage {
  readonly entries: readonly AuditEntry[];
  /** Numbers of the entries on the way that cannot be read. */
  readonly damaged: readonly number[];
  /** The `from` of the next page; undefined at the end. A page may be empty and not the last. */
  readonly next: number | undefined;
}

const maxEntries = 1000;
const maxScanned = 10_000;
const scannedAtOnce = 500;

/** One page of the entries that fit; REQUEST_INVALID for a query that no entry could. */
export async function listEventPage(store: Store, tenant: string, query: EventPageQuery): Promise<EventPage> {
  checkQuery(query);
  const { newestFirst = false } = query;
  const limit = Math.min(query.limit, maxEntries);
  const prefix = logOf(tenant);
  const entries: AuditEntry[] = [];
  const damaged: number[] = [];
  let at = query.from;
  for (let scanned = 0; scanned < maxScanned;) {
    const some = await store.list({
      prefix,
      after: startOf(prefix, at, newestFirst),
      reverse: newestFirst,
      limit: scannedAtOnce,
    });
    for (const each of some) {
      if (entries.length === limit) return { entries, damaged, next: at };
      const entry = decodeEntry(each.value);
      at = numberOf(prefix, each);
      if (!entry) damaged.push(at);
      else if (fits(entry, query)) entries.push(entry);
    }
    scanned += some.length;
    if (some.length < scannedAtOnce) return { entries, damaged, next: undefined };
  }
  return { entries, damaged, next: at };
}

const maxTextLength = 200;
/** Of fifteen digits, as many as a number in a key has room for, and more than there will be. */
const largest = 1e15 - 1;

function checkQuery({ limit, from, since, until, typePrefix, subject, by }: EventPageQuery): void {
  for (const [name, value] of Object.entries({ limit, from, since, until })) {
    if (value === undefined || (Number.isInteger(value) && value >= 0 && value <= largest)) continue;
    throw new RollcallError('REQUEST_INVALID', `${name} wants a whole number`);
  }
  for (const [name, text] of Object.entries({ typePrefix, subject, by })) {
    if (text === undefined || text.length <= maxTextLength) continue;
    throw new RollcallError('REQUEST_INVALID', `${name} wants a text of at most ${maxTextLength} characters`);
  }
}

function startOf(prefix: string, at: number | undefined, newestFirst: boolean): string {
  if (at !== undefined) return prefix + padded(at, 16);
  // ":" comes right after "9".
  return newestFirst ? `${prefix}:` : prefix;
}

function fits(entry: AuditEntry, { typePrefix = '', subject, by, since, until }: EventPageQuery): boolean {
  return (
    entry.type.startsWith(typePrefix) &&
    (subject === undefined || entry.subject === subject) &&
    (by === undefined || isParty(entry.by, by)) &&
    (since === undefined || entry.at >= since) &&
    (until === undefined || entry.at < until)
  );
}
