/**
 * The runs of the link: starts, finds, lists, stops and recovers them. A run is on the disk before its start is confirmed, and
 * no run stays marked running after it has ended.
 */
import type { MessageErrorCode } from '../../app/message-error.js';
import { RollcallError } from '../../base/errors.js';
import type { Clock, Timer } from '../../base/clock.js';
import type { DiskFloor } from '../../base/disk-floor.js';
import type { Log } from '../../base/log.js';
import type { Random } from '../../base/random.js';
import type { ObjectStore } from '../../objects/object-store.js';
import { isPassing } from '../../store/retry.js';
import type { Store } from '../../store/store.js';
import type { Alerts } from '../access/alerts.js';
import type { Actor, Audit } from '../audit/audit.js';
import type { RefusalCounter } from '../audit/refusals.js';
import type { Registry } from '../registry/registry.js';
import type { NewRun } from './accept-app.js';
import { RunLauncher, type RunLauncherOptions } from './launcher.js';
import { NodeFrames } from './messages/node-frames.js';
import { NodeQueues } from './messages/node-queues.js';
import { numberOfKey, openRunPrefix, runKey } from './run-keys.js';
import { listRuns, removeOldRuns, type RunPage, type RunQuery } from './run-list.js';
import { readRunLog } from './run-log.js';
import { decodeRunRecord, type RunLogEntry, type RunRecord } from './run-record.js';
import { recoverRuns } from './run-recovery.js';
import { RunStarter } from './run-start.js';
import { RunTable } from './run-table.js';

export type { NewRun } from './accept-app.js';
export type { RunPage, RunQuery } from './run-list.js';

export interface RunsOptions extends RunLauncherOptions {
  readonly store: Store;
  readonly audit: Audit;
  readonly refusals: RefusalCounter;
  readonly alerts: Pick<Alerts, 'raise'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly registry: Registry;
  readonly objects: ObjectStore;
  readonly floor: DiskFloor;
  /** Maximum number of messages waiting for one node. */
  readonly maxWaiting: number;
  /** Memory limit of a server half. */
  readonly memoryBytes: number;
  readonly maxRunMs: number;
  /** How long finished runs are kept, counted from their start. */
  readonly retentionMs: number;
  /** Called once for each message that a node answers. */
  readonly onAnswered?: (outcome: 'content' | MessageErrorCode) => void;
}

const sweepEveryMs = 250;
const saveEveryMs = 2_000;
const retentionEveryMs = 3_600_000;
const maxOpenPerTenant = 200;
const maxLogPage = 1_000;

export class Runs {
  /** Frames of nodes about runs, and the objects that nodes read and write. */
  readonly frames: NodeFrames;
  readonly #options: RunsOptions;
  readonly #table: RunTable;
  readonly #launcher: RunLauncher;
  readonly #starter: RunStarter;
  readonly #timers: readonly Timer[];

  constructor(options: RunsOptions) {
    const { store, audit, clock, random, log, registry, objects, floor, refusals, alerts } = options;
    const { maxWaiting, memoryBytes, maxRunMs } = options;
    const queues = new NodeQueues();
    this.#options = options;
    this.#launcher = new RunLauncher(options);
    this.#table = new RunTable({
      ...{ store, audit, clock, random, registry, objects, floor, queues, linkLog: log },
      ...{ maxWaiting, memoryBytes, maxRunMs },
      onEnded: run => this.#launcher.remove(run),
    });
    this.frames = new NodeFrames({
      ...{ queues, clock, log, refusals, alerts, runs: this.#table.open },
      onAnswered: outcome => options.onAnswered?.(outcome),
    });
    this.#starter = new RunStarter({
      ...{ store, audit, clock, random, objects },
      admit: (tenant, starting) => this.#admit(tenant, starting),
      adopt: record => this.#adopt(record),
      find: (tenant, id) => this.find(tenant, id),
    });
    this.#timers = [
      clock.every(sweepEveryMs, () => this.#expireMessages()),
      clock.every(saveEveryMs, () => this.#saveAndCheck()),
      clock.every(retentionEveryMs, () => void this.#removeOld()),
    ];
  }

  /**
   * Resolves when the run is on the disk. Rejects with REQUEST_INVALID for an invalid app, RUN_REFUSED where runs cannot be
   * hosted, and IDEMPOTENCY_KEY_REUSED. After STORE_FULL or STORE_UNAVAILABLE the run may have been started.
   */
  start(run: NewRun): Promise<RunRecord> {
    return this.#starter.start(run);
  }

  async find(tenant: string, id: bigint): Promise<RunRecord | undefined> {
    const run = this.#table.open.get(id);
    if (run) return run.tenant === tenant ? run.record() : undefined;
    const value = await this.#options.store.get(runKey(tenant, id));
    return value && decodeRunRecord(value);
  }

  list(tenant: string, query: RunQuery): Promise<RunPage> {
    return listRuns(this.#options.store, tenant, query, id => this.find(tenant, id));
  }

  /** Resolves to the finished run; rejects with NOT_FOUND. A run that is finished stays as it is. */
  async stop(tenant: string, id: bigint, by: Actor): Promise<RunRecord> {
    const record = await this.find(tenant, id);
    if (!record)
      throw new RollcallError('NOT_FOUND', 'there is no such run', {
        hint: '`rollcall runs list` shows the runs',
      });
    if (record.status === 'finished') return record;
    if (this.#starter.isInDoubt(id)) await this.#starter.settle();
    // A run that is not in the table although it is not finished could not record its end: it is opened again to end it.
    const run = this.#table.open.get(id) ?? (await this.#table.hold(record, { isStored: true }));
    await run.stop(by, by.name);
    return run.record();
  }

  /** Log entries after this number, in order. */
  readLog(tenant: string, id: bigint, after: number, limit: number): Promise<RunLogEntry[]> {
    const { store } = this.#options;
    return readRunLog(store, tenant, id, after, Math.min(Math.max(limit, 1), maxLogPage));
  }

  /** Calls after every change of the record, its counts or its log. That is often: a listener should only take note. */
  watch(id: bigint, listener: () => void): () => void {
    return this.#table.watch(id, listener);
  }

  /** Opens the runs that an earlier process of the link left open. Call it before any door opens. */
  async recover(): Promise<void> {
    const { store, objects, log } = this.#options;
    await recoverRuns({ store, objects, log, table: this.#table, launcher: this.#launcher });
  }

  /** Stops all runs of a deleted tenant, which can start no other. A run that cannot be read is logged and skipped. */
  async stopAll(tenant: string, by: Actor): Promise<void> {
    const { store, log } = this.#options;
    const entries = await store.list({ prefix: openRunPrefix });
    const ids = entries
      .filter(({ value }) => String(Buffer.from(value)) === tenant)
      .map(({ key }) => numberOfKey(key));
    await Promise.all(
      ids.map(id =>
        this.stop(tenant, id, by).catch((error: unknown) => {
          if (isPassing(error)) throw error;
          log.error({ err: error, run: `${id}` }, 'a run of a deleted tenant cannot be read');
        }),
      ),
    );
  }

  /** How many runs are not finished. */
  count(): number {
    return this.#table.open.size;
  }

  /** Ends the runs whose server half ends with this process; the others continue without the link. */
  async close(): Promise<void> {
    this.#launcher.close();
    for (const timer of this.#timers) timer.cancel();
    await this.#table.close();
  }

  async #admit(tenant: string, starting: number): Promise<void> {
    if (this.#table.isClosing)
      throw new RollcallError('LINK_DRAINING', 'the link is shutting down', {
        hint: 'try again in a moment',
      });
    await this.#launcher.requireHosting(tenant);
    if (this.#table.countOf(tenant) + starting >= maxOpenPerTenant)
      throw new RollcallError('RUN_REFUSED', `at most ${maxOpenPerTenant} runs of a tenant at once`);
  }

  async #adopt(record: RunRecord): Promise<void> {
    if (!this.#table.open.has(record.id))
      this.#launcher.add(await this.#table.hold(record, { isStored: false }));
  }

  #expireMessages(): void {
    const now = this.#options.clock.now();
    for (const run of this.#table.open.values()) run.messages.expire(now);
  }

  #saveAndCheck(): void {
    const { clock, log } = this.#options;
    for (const run of this.#table.open.values()) {
      void run.saveCounts().catch(() => undefined);
      run.checkTime(clock.now());
    }
    void this.#starter.settle().catch((error: unknown) => {
      if (!isPassing(error)) log.error({ err: error }, 'a run that may have been started cannot be read');
    });
  }

  async #removeOld(): Promise<void> {
    const { store, clock, log, retentionMs } = this.#options;
    const isOpen = (id: bigint): boolean => this.#table.open.has(id);
    const isWanted = (): boolean => !this.#table.isClosing;
    try {
      await removeOldRuns(store, clock.now() - retentionMs, { isOpen, isWanted });
    } catch (error) {
      log.error({ err: error }, 'could not remove old runs');
    }
  }
}
