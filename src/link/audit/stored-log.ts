/** How the audit log of a tenant and its checkpoints lie in the store: where, in what form, which is the newest. */
import { findCheckpoint, type Checkpoint } from '../../audit-log/checkpoint.js';
import { findEntry, type AuditEntry } from '../../audit-log/entry.js';
import { RollcallError } from '../../base/errors.js';
import { tenantPrefix } from '../../store/keys.js';
import type { Entry, Key, Store, Value } from '../../store/store.js';

/** The keys of a tenant's entries begin with this and end with their padded numbers. */
export function logOf(tenant: string): Key {
  return `${tenantPrefix(tenant)}audit/`;
}

/** The keys of its checkpoints begin with this and end with the padded numbers of their entries. */
export function checkpointsOf(tenant: string): Key {
  return `${tenantPrefix(tenant)}checkpoint/`;
}

function decodeJson(value: Value): unknown {
  try {
    return JSON.parse(Buffer.from(value).toString());
  } catch {
    return undefined;
  }
}

/** The entry in a stored value; undefined when it is damaged. */
export function decodeEntry(value: Value): AuditEntry | undefined {
  return findEntry(decodeJson(value));
}

/** The checkpoint in a stored value; undefined when it is damaged. */
export function decodeCheckpoint(value: Value): Checkpoint | undefined {
  return findCheckpoint(decodeJson(value));
}

/** The entry with the largest number below the prefix. */
export async function newestBelow(store: Store, prefix: Key): Promise<Entry | undefined> {
  // Numbers begin with a digit, and ":" comes right after "9".
  const [newest] = await store.list({ prefix, after: `${prefix}:`, reverse: true, limit: 1 });
  return newest;
}

/** The largest number below the prefix of a log or of checkpoints, 0 for none. */
export async function newestNumber(store: Store, prefix: Key): Promise<number> {
  const newest = await newestBelow(store, prefix);
  return newest ? numberOf(prefix, newest) : 0;
}

/** The oldest entry that is left: its number, and the hash it follows. Undefined for an empty log and for a damaged one. */
export async function readStart(
  store: Store,
  tenant: string,
): Promise<Pick<AuditEntry, 'seq' | 'previous' | 'at'> | undefined> {
  const [oldest] = await store.list({ prefix: logOf(tenant), limit: 1 });
  return oldest && decodeEntry(oldest.value);
}

/** The number at the end of a key. */
export function numberOf(prefix: Key, { key }: Entry): number {
  return Number(key.slice(prefix.length));
}

/** The end of a log, as a checkpoint says it. NOT_FOUND when the log is empty, INTERNAL when its end is damaged. */
export async function readEnd(
  store: Store,
  tenant: string,
): Promise<{ readonly seq: number; readonly hash: string }> {
  const newest = await newestBelow(store, logOf(tenant));
  if (!newest) throw new RollcallError('NOT_FOUND', 'there is no event yet to make a checkpoint of');
  const entry = decodeEntry(newest.value);
  if (!entry) throw new RollcallError('INTERNAL', 'the newest entry of the audit log is damaged');
  return { seq: numberOf(logOf(tenant), newest), hash: entry.hash };
}
