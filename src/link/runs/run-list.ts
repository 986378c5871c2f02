/**
 * The runs of a tenant in the order of their start: pages of them, newest first, and the removal of finished ones that are too
 * old. One page reads a bounded number of runs, so that it may be short or even empty and still have a next page.
 */
import { isRollcallError } from '../../base/errors.js';
import { listTenants } from '../../store/keys.js';
import type { Store } from '../../store/store.js';
import { checkPageSize, makePageToken, readPageToken } from '../registry/page-token.js';
import {
  numberOfKey,
  runKey,
  runLogHeadKey,
  runLogPrefix,
  runOrderKey,
  runOrderPrefix,
  startKey,
} from './run-keys.js';
import { decodeRunRecord, type RunRecord, type RunStatusName } from './run-record.js';

export interface RunQuery {
  readonly statuses?: readonly RunStatusName[] | undefined;
  /** Only runs that this account started, at or after this time. */
  readonly startedBy?: { readonly name: string; readonly since: number } | undefined;
  readonly pageSize?: number | undefined;
  readonly pageToken?: string | undefined;
}

export interface RetentionOptions {
  readonly isOpen: (id: bigint) => boolean;
  /** False once the link closes. */
  readonly isWanted: () => boolean;
}

export interface RunPage {
  /** Newest first. */
  readonly runs: readonly RunRecord[];
  /** Empty on the last page. */
  readonly nextPageToken: string;
}

const batchSize = 200;
const maxScanned = 5_000;
const removalBatchSize = 500;
const logBatchSize = 1_000;

/** `find` returns the current record of a run. */
export async function listRuns(
  store: Store,
  tenant: string,
  { statuses = [], startedBy, ...page }: RunQuery,
  find: (id: bigint) => Promise<RunRecord | undefined>,
): Promise<RunPage> {
  const size = checkPageSize(page.pageSize);
  const asked = ['runs', tenant, [...statuses].sort(), startedBy?.name ?? ''];
  const from = readPageToken(asked, page.pageToken);
  const runs: RunRecord[] = [];
  // A damaged record must not hide the others.
  const findReadable = (id: bigint): Promise<RunRecord | undefined> =>
    find(id).catch((error: unknown) => {
      if (isRollcallError(error, 'INTERNAL')) return undefined;
      throw error;
    });
  let after = from === undefined ? undefined : runOrderKey(tenant, Number(from));
  for (let scanned = 0; scanned < maxScanned; scanned += batchSize) {
    const entries = await store.list({
      prefix: runOrderPrefix(tenant),
      after,
      reverse: true,
      limit: batchSize,
    });
    for (const { key, value } of entries) {
      const record = await findReadable(BigInt(Buffer.from(value).toString()));
      if (record && fits(record, statuses, startedBy)) {
        if (runs.length === size)
          return { runs, nextPageToken: makePageToken(asked, numberOfKey(after ?? key)) };
        runs.push(record);
      }
      after = key;
    }
    if (entries.length < batchSize) return { runs, nextPageToken: '' };
  }
  return { runs, nextPageToken: after === undefined ? '' : makePageToken(asked, numberOfKey(after)) };
}

function fits(
  record: RunRecord,
  statuses: readonly RunStatusName[],
  startedBy: RunQuery['startedBy'],
): boolean {
  return (
    (statuses.length === 0 || statuses.includes(record.status)) &&
    (startedBy === undefined || (record.startedBy === startedBy.name && record.createdAt >= startedBy.since))
  );
}

/** Removes the finished runs that were started before this time, milliseconds since 1970, with their logs. */
export async function removeOldRuns(store: Store, before: number, options: RetentionOptions): Promise<void> {
  for (const tenant of await listTenants(store)) await removeOldOfTenant(store, tenant, before, options);
}

async function removeOldOfTenant(
  store: Store,
  tenant: string,
  before: number,
  { isOpen, isWanted }: RetentionOptions,
): Promise<void> {
  const prefix = runOrderPrefix(tenant);
  for (let after: string | undefined; ;) {
    const entries = await store.list({ prefix, after, limit: removalBatchSize });
    for (const { key, value } of entries) {
      if (Number(numberOfKey(key)) >= before || !isWanted()) return;
      const id = BigInt(Buffer.from(value).toString());
      if (!isOpen(id)) await removeRun(store, tenant, id, key).catch(ignoreConflict);
      after = key;
    }
    if (entries.length < removalBatchSize) return;
  }
}

async function removeRun(store: Store, tenant: string, id: bigint, orderKey: string): Promise<void> {
  const key = runKey(tenant, id);
  const value = await store.get(key);
  const record = value && decodeReadable(value);
  if (record && record.status !== 'finished') return;
  const isAsRead = [{ key, value }];
  for (;;) {
    const lines = await store.list({ prefix: runLogPrefix(tenant, id), limit: logBatchSize });
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

/** A run that changed since it was read is checked again the next time. */
function ignoreConflict(error: unknown): void {
  if (!isRollcallError(error, 'STORE_CONFLICT')) throw error;
}

/** Undefined for a damaged record, which is removed at its age like any other. */
function decodeReadable(value: Uint8Array): RunRecord | undefined {
  try {
    return decodeRunRecord(value);
  } catch (error) {
    if (isRollcallError(error, 'INTERNAL')) return undefined;
    throw error;
  }
}
