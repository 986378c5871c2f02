/**
 * The operations on runs, with their permission checks, for every door. A principal with only `runs:submit` has all rights over
 * the runs it started; for any other run it gets the same refusal as for one that does not exist.
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

/** A run as its caller requests it; the principal supplies the rest. */
export interface WantedRun extends Omit<NewRun, 'tenant' | 'startedBy' | 'by' | 'idempotency'> {
  readonly idempotencyKey?: string;
}

/** The part of the runs that operators reach. */
export type OperatedRuns = Pick<Runs, 'start' | 'find' | 'list' | 'stop' | 'readLog' | 'watch'>;

export const maxLogPageSize = 1000;

export class RunControl {
  readonly #runs: OperatedRuns;

  constructor(runs: OperatedRuns) {
    this.#runs = runs;
  }

  async startRun(principal: Principal, { idempotencyKey: key, ...request }: WantedRun): Promise<RunRecord> {
    requirePermission(principal, 'runs:submit');
    return this.#runs.start({
      ...request,
      ...(key !== undefined && { idempotency: { caller: principal.id, key } }),
      tenant: principal.tenant,
      startedBy: ownerName(principal),
      by: actorOf(principal),
    });
  }

  getRun(principal: Principal, id: bigint): Promise<RunRecord> {
    return this.#getRun(principal, id, 'runs:read');
  }

  async listRuns(principal: Principal, query: Omit<RunQuery, 'startedBy'>): Promise<RunPage> {
    requireOwnOr(principal, 'runs:read');
    if (may(principal, 'runs:read')) return this.#runs.list(principal.tenant, query);
    const startedBy = { name: ownerName(principal), since: principal.accountSince };
    return this.#runs.list(principal.tenant, { ...query, startedBy });
  }

  /** Entries after this number, at most `limit` of them. */
  async readLog(principal: Principal, id: bigint, after: number, limit: number): Promise<RunLogEntry[]> {
    if (!Number.isInteger(limit) || limit < 1 || limit > maxLogPageSize)
      throw new RollcallError(
        'REQUEST_INVALID',
        `the limit must be a whole number from 1 to ${maxLogPageSize}`,
      );
    const run = await this.#getRun(principal, id, 'runs:read');
    return this.#runs.readLog(principal.tenant, run.id, after, limit);
  }

  /** Calls the listener after every change of the run or its log, until the returned function is called. */
  async watchRun(principal: Principal, id: bigint, listener: () => void): Promise<() => void> {
    const run = await this.#getRun(principal, id, 'runs:read');
    return this.#runs.watch(run.id, listener);
  }

  /** Resolves when the end is recorded. A run that is finished stays as it is. */
  async stopRun(principal: Principal, id: bigint): Promise<RunRecord> {
    const run = await this.#getRun(principal, id, 'runs:stop');
    return this.#runs.stop(principal.tenant, run.id, actorOf(principal));
  }

  /** Finds any run of the tenant with the permission, and only the principal's own runs without it. */
  async #getRun(principal: Principal, id: bigint, permission: Permission): Promise<RunRecord> {
    requireOwnOr(principal, permission);
    const run = await this.#runs.find(principal.tenant, id);
    if (may(principal, permission)) {
      if (run) return run;
      throw new RollcallError('NOT_FOUND', 'there is no such run', { hint: 'rollcall runs list shows them' });
    }
    // The answer must not reveal whether a run exists that somebody else started.
    if (!run || !isOwn(principal, run.startedBy, run.createdAt)) throw notAllowed(permission);
    return run;
  }
}

/** Refuses a principal that can have no access to any run, before one is looked up. */
function requireOwnOr(principal: Principal, permission: Permission): void {
  if (!may(principal, permission) && !may(principal, 'runs:submit')) throw notAllowed(permission);
}
