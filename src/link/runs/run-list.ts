/**
 * Pages of the runs of a tenant, newest first. One call looks at a bounded number of runs and may give a short or even empty page
 * with a token to go on from.
 */
import { isRollcallError } from '../../base/errors.js';
import type { Store } from '../../store/store.js';
import { checkPageSize, makePageToken, readPageToken } from '../registry/page-token.js';
import { numberOfKey, runOrderKey, runOrderPrefix } from './run-keys.js';
import type { RunRecord, RunStatusName } from './run-record.js';

export interface RunQuery {
  readonly statuses?: readonly RunStatusName[] | undefined;
  /** Only those that somebody of this name started from then on. */
  readonly startedBy?: { readonly name: string; readonly since: number } | undefined;
  readonly pageSize?: number | undefined;
  readonly pageToken?: string | undefined;
}

export interface RunPage {
  /** Newest first. */
  readonly runs: readonly RunRecord[];
  /** Empty on the last page. */
  readonly nextPageToken: string;
}

const batchSize = 200;
const maxScanned = 5_000;

/** `find` gives a run as it is now. */
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
  /** One record that is damaged does not hide the others. */
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
