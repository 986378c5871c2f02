/**
 * Recovery of the runs that an earlier process of the link left open: a run continues if its server half is still alive, starts
 * again if that had not loaded, and fails otherwise.
 */
import { linkParty } from '../../audit-log/party.js';
import { isRollcallError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import type { ObjectStore } from '../../objects/object-store.js';
import type { Store } from '../../store/store.js';
import type { RunLauncher } from './launcher.js';
import type { OpenRun } from './open-run.js';
import { numberOfKey, openRunPrefix, runKey } from './run-keys.js';
import { decodeRunRecord, type RunRecord } from './run-record.js';
import type { RunTable } from './run-table.js';

export interface RunRecoveryOptions {
  readonly store: Store;
  readonly objects: ObjectStore;
  readonly log: Log;
  readonly table: RunTable;
  readonly launcher: RunLauncher;
}

/** A run that cannot be recovered is logged and does not keep the others from it. */
export async function recoverRuns(options: RunRecoveryOptions): Promise<void> {
  const { store, log } = options;
  const known = new Set<string>();
  for (const { key, value } of await store.list({ prefix: openRunPrefix })) {
    const id = numberOfKey(key);
    known.add(`${id}`);
    await recoverRun(Buffer.from(value).toString(), id, options).catch((error: unknown) =>
      log.error({ err: error, run: `${id}` }, 'a run cannot be read'),
    );
  }
  await removeStrayObjects(options.objects, known).catch((error: unknown) =>
    log.error({ err: error }, 'could not remove objects of unknown runs'),
  );
}

async function recoverRun(tenant: string, id: bigint, options: RunRecoveryOptions): Promise<void> {
  const { store, table, launcher } = options;
  const value = await store.get(runKey(tenant, id));
  const record = value && decodeRunRecord(value);
  if (!record || record.status === 'finished') {
    await table.clean(tenant, id);
    return;
  }
  const run = await reopen(record, options);
  if (!run) return;
  if (record.status !== 'running') {
    // The link accepts nothing from a server half that has not loaded, so nothing is repeated.
    launcher.add(run);
  } else if (!launcher.resume(run)) {
    const reason = 'the link was restarted, and its server half ran as a child of it';
    await run.end({ outcome: 'failed', reason, by: linkParty });
  }
}

/** Fails a run whose messages cannot be read, and resolves to undefined. */
async function reopen(record: RunRecord, { table, log }: RunRecoveryOptions): Promise<OpenRun | undefined> {
  try {
    return await table.hold(record, { isStored: true });
  } catch (error) {
    if (!isRollcallError(error, 'INTERNAL')) throw error;
    log.error({ err: error, run: `${record.id}` }, 'the messages of a run cannot be read');
  }
  const damaged = await table.hold(record, { isStored: false });
  const reason = 'the link cannot read its messages any more';
  await damaged.end({ outcome: 'failed', reason, by: linkParty });
  return undefined;
}

/** An earlier process may have died between writing the archive of a run and storing its record. */
async function removeStrayObjects(objects: ObjectStore, known: ReadonlySet<string>): Promise<void> {
  for (const name of await objects.listRuns())
    if (/^\d+$/.test(name) && !known.has(name)) await objects.removeRun(name);
}
