/** What goes with time: finished runs with their logs, a while after they were started. */
import { isRollcallError } from '../../base/errors.js';
import { listTenants } from '../../store/keys.js';
import type { Store } from '../../store/store.js';
import { numberOfKey, runKey, runLogHeadKey, runLogPrefix, runOrderPrefix, startKey } from './run-keys.js';
import { decodeRunRecord, type RunRecord } from './run-record.js';

const runsAtOnce = 500;
const linesAtOnce = 1_000;

export interface RetentionOptions {
  readonly isOpen: (id: bigint) => boolean;
  /** False once the link closes. */
  readonly isWanted: () => boolean;
}

/** Removes all runs from before a moment, milliseconds since 1970; those that are not over stay. */
export async function removeOldRuns(store: Store, before: number, options: RetentionOptions): Promise<void> {
  for (const tenant of await listTenants(store)) await removeOldOf(store, tenant, before, options);
}

async function removeOldOf(
  store: Store,
  tenant: string,
  before: number,
  { isOpen, isWanted }: RetentionOptions,
): Promise<void> {
  const prefix = runOrderPrefix(tenant);
  for (let after: string | undefined; ;) {
    const entries = await store.list({ prefix, after, limit: runsAtOnce });
    for (const { key, value } of entries) {
      if (Number(numberOfKey(key)) >= before || !isWanted()) return;
      const id = BigInt(Buffer.from(value).toString());
      if (!isOpen(id)) await removeRun(store, tenant, id, key).catch(passOverChanged);
      after = key;
    }
    if (entries.length < runsAtOnce) return;
  }
}

async function removeRun(store: Store, tenant: string, id: bigint, orderKey: string): Promise<void> {
  const key = runKey(tenant, id);
  const value = await store.get(key);
  const record = value && readable(value);
  if (record && record.status !== 'finished') return;
  const isAsRead = [{ key, value }];
  for (;;) {
    const lines = await store.list({ prefix: runLogPrefix(tenant, id), limit: linesAtOnce });
    if (lines.length === 0) break;
    await store.commit(
      lines.map(line => ({ type: 'delete', key: line.key })),
      isAsRead,
    );
  }
  const claimed = record?.startHash === undefined ? [] : [startKey(tenant, record.startHash)];
  const rest = [orderKey, key, runLogHeadKey(tenant, id), ...claimed];
  await store.commit(
    rest.map(each => ({ type: 'delete', key: each })),
    isAsRead,
  );
}

/** A run that is not what was read is looked at again the next time. */
function passOverChanged(error: unknown): void {
  if (!isRollcallError(error, 'STORE_CONFLICT')) throw error;
}

/** Undefined for a record that is damaged: it goes with its time like any other. */
function readable(value: Uint8Array): RunRecord | undefined {
  try {
    return decodeRunRecord(value);
  } catch (error) {
    if (isRollcallError(error, 'INTERNAL')) return undefined;
    throw error;
  }
}
