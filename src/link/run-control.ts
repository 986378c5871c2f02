/**
 * What an operator may ask about runs, once, for every door. Who may start runs has a say over those they started; what
 * is not theirs looks to them like what is not there.
 */
import { RollcallError } from '../base/errors.js';
import type { Permission } from './access/permissions.js';
import {
  actorOf,
  isOwn,
  may,
  notAllowed,
  ownerName,
  requirePermission,
  type Principal,
} from './access/principal.js';
import type { RunLogEntry, RunRecord } from './runs/run-record.js';
import type { NewRun, RunPage, RunQuery, Runs } from './runs/runs.js';

/** What is said of a run by who starts it; the rest comes from who that is. */
export interface WantedRun extends Omit<NewRun, 'tenant' | 'startedBy' | 'by' | 'idempotency'> {
  readonly idempotencyKey?: string;
}

export interface RunControlOptions {
  readonly runs: Runs;
}

export type RunControl = ReturnType<typeof createRunControl>;

/** The most entries of a log that are given at once. */
export const maxLogPageSize = 1000;

export function createRunControl({ runs }: RunControlOptions) {
  /** Whether there is anything to see at all, before it is looked for. */
  function requireSight(principal: Principal, seeing: Permission): void {
    if (!may(principal, seeing) && !may(principal, 'runs:submit')) throw notAllowed(seeing);
  }

  /** Without the permission only one's own runs are there. */
  async function getRun(principal: Principal, id: bigint, seeing: Permission): Promise<RunRecord> {
    requireSight(principal, seeing);
    const run = await runs.find(principal.tenant, id);
    if (may(principal, seeing)) {
      if (run) return run;
      throw new RollcallError('NOT_FOUND', 'there is no such run', { hint: 'rollcall runs list shows them' });
    }
    // The same answer for what is not there and what is not one's own.
    if (!run || !isOwn(principal, run.startedBy, run.createdAt)) throw notAllowed(seeing);
    return run;
  }

  return {
    async startRun(principal: Principal, { idempotencyKey: key, ...wanted }: WantedRun): Promise<RunRecord> {
      requirePermission(principal, 'runs:submit');
      return runs.start({
        ...wanted,
        ...(key !== undefined && { idempotency: { caller: principal.id, key } }),
        tenant: principal.tenant,
        startedBy: ownerName(principal),
        by: actorOf(principal),
      });
    },

    getRun: (principal: Principal, id: bigint) => getRun(principal, id, 'runs:read'),

    async listRuns(principal: Principal, query: Omit<RunQuery, 'startedBy'>): Promise<RunPage> {
      requireSight(principal, 'runs:read');
      if (may(principal, 'runs:read')) return runs.list(principal.tenant, query);
      const startedBy = { name: ownerName(principal), since: principal.accountSince };
      return runs.list(principal.tenant, { ...query, startedBy });
    },

    /** Entries after a number, at most `limit` of them, 1 to 1000. */
    async readLog(principal: Principal, id: bigint, after: number, limit: number): Promise<RunLogEntry[]> {
      if (!Number.isInteger(limit) || limit < 1 || limit > maxLogPageSize)
        throw new RollcallError('REQUEST_INVALID', `the limit is a whole number from 1 to ${maxLogPageSize}`);
      const run = await getRun(principal, id, 'runs:read');
      return runs.readLog(principal.tenant, run.id, after, limit);
    },

    /** Calls after every change of the run or its log; gives what ends that. */
    async watchRun(principal: Principal, id: bigint, listener: () => void): Promise<() => void> {
      const run = await getRun(principal, id, 'runs:read');
      return runs.watch(run.id, listener);
    },

    /** Answers when it is recorded; a run that is over stays as it is. */
    async stopRun(principal: Principal, id: bigint): Promise<RunRecord> {
      const run = await getRun(principal, id, 'runs:stop');
      return runs.stop(principal.tenant, run.id, actorOf(principal));
    },
  };
}
