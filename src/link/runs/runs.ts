/**
 * The runs of the link: starts them, carries what their halves say to one another, records how they end. A run is on the disk
 * before it is answered for; one that the link finds open when it starts goes on where its server half lives on, and ends as
 * failed where that died with the link. None stays "running" that is not.
 */
import { linkParty } from '../../audit-log/party.js';
import type { MessageErrorCode } from '../../app/message-error.js';
import { isRollcallError, RollcallError } from '../../base/errors.js';
import type { Clock } from '../../base/clock.js';
import type { DiskFloor } from '../../base/disk-floor.js';
import type { Log } from '../../base/log.js';
import type { Random } from '../../base/random.js';
import { createTurns } from '../../base/keyed-queue.js';
import type { ObjectStore } from '../../objects/object-store.js';
import type { Store } from '../../store/store.js';
import type { Alerts } from '../access/alerts.js';
import type { Actor, Audit } from '../audit/audit.js';
import type { RefusalCounter } from '../audit/refusals.js';
import type { Registry } from '../registry/registry.js';
import type { NewRun } from './accept-app.js';
import { NodeQueues } from './messages/node-queues.js';
import { NodeFinder } from './server/find-nodes.js';
import { NodeFrames } from './messages/node-frames.js';
import { OpenRun } from './open-run.js';
import { isPassing, untilStored } from '../../store/retry.js';
import { numberOfKey, openRunKey, openRunPrefix, runKey } from './run-keys.js';
import { listRuns, removeOldRuns, type RunPage, type RunQuery } from './run-list.js';
import { readRunLog } from './run-log.js';
import { removeMessages } from './messages/stored-messages.js';
import { createRunLauncher, type RunLauncherOptions } from './launcher.js';
import { decodeRunRecord, type RunLogEntry, type RunRecord } from './run-record.js';
import { RunStarter } from './run-start.js';

export type { NewRun } from './accept-app.js';
export type { RunPage, RunQuery } from './run-list.js';

export interface Runs {
  /**
   * On the disk when it resolves. REQUEST_INVALID for an app that is not what it says, RUN_REFUSED where runs cannot be hosted,
   * IDEMPOTENCY_KEY_REUSED. After STORE_FULL or STORE_UNAVAILABLE it may have been started.
   */
  start(run: NewRun): Promise<RunRecord>;
  find(tenant: string, id: bigint): Promise<RunRecord | undefined>;
  list(tenant: string, query: RunQuery): Promise<RunPage>;
  /** NOT_FOUND. One that is over stays as it is; one that it answers with is over. */
  stop(tenant: string, id: bigint, by: Actor): Promise<RunRecord>;
  /** In order, those after a number. */
  readLog(tenant: string, id: bigint, after: number, limit: number): Promise<RunLogEntry[]>;
  /** Calls after every change of the record, its counts or its log; often, so that the listener looks when it has time. */
  watch(id: bigint, listener: () => void): () => void;
}

/** What the rest of the link needs of the runs besides. */
export interface OpenRuns extends Runs {
  /** What nodes say of runs, and the objects they read and write. */
  readonly frames: NodeFrames;
  /** Of runs from before this link was started; before any door opens. */
  recover(): Promise<void>;
  /** Stops all runs of a deleted tenant, in which none is started any more. One that cannot be read is logged and passed over. */
  stopAll(tenant: string, by: Actor): Promise<void>;
  /** How many are not over. */
  count(): number;
  /** Ends those whose server half dies with this process; the others are left as they are. */
  close(): Promise<void>;
}

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
  /** Messages waiting for one node. */
  readonly maxWaiting: number;
  /** Of a server half. */
  readonly memoryBytes: number;
  /** For how long a run may run, ms. */
  readonly maxRunMs: number;
  /** Finished runs are kept so long, ms. */
  readonly retentionMs: number;
  /** A message has its answer. */
  readonly onAnswered?: (outcome: 'content' | MessageErrorCode) => void;
}

const sweepEveryMs = 250;
const saveEveryMs = 2_000;
const retentionEveryMs = 3_600_000;
/** Runs of one tenant that are not over. */
const maxOpen = 200;
const maxLogPage = 1_000;
/** For the end of a run to be recorded when the link stops, ms. */
const closeWithinMs = 10_000;

export function createRuns(options: RunsOptions): OpenRuns {
  const { store, audit, clock, random, log, registry, objects } = options;
  const open = new Map<bigint, OpenRun>();
  const queues = new NodeQueues();
  const frames = new NodeFrames({
    ...{ queues, clock, log, runs: open, refusals: options.refusals, alerts: options.alerts },
    onAnswered: outcome => options.onAnswered?.(outcome),
  });
  const launcher = createRunLauncher(options);
  const watchers = new Map<bigint, Set<() => void>>();
  const cleaning = new Set<Promise<void>>();
  const inTurn = createTurns();
  let closing = false;

  const starter = new RunStarter({
    ...{ store, audit, clock, random, objects },
    async requirePlace(tenant, starting) {
      if (closing) throw new RollcallError('LINK_DRAINING', 'the link is stopping; come back in a moment');
      await launcher.requirePlace(tenant);
      if ([...open.values()].filter(each => each.tenant === tenant).length + starting >= maxOpen)
        throw new RollcallError('RUN_REFUSED', `at most ${maxOpen} runs of a tenant at once`);
    },
    async adopt(record) {
      if (!open.has(record.id)) launcher.add(await hold(record, { isStored: false }));
    },
    find,
  });
  const finders = new Map<string, NodeFinder>();
  const finderOf = (tenant: string): NodeFinder => {
    const finder = finders.get(tenant) ?? new NodeFinder({ registry, tenant, clock });
    finders.set(tenant, finder);
    return finder;
  };
  const tell = (id: bigint): void => watchers.get(id)?.forEach(listener => listener());

  async function checkNode(tenant: string, node: bigint): Promise<MessageErrorCode | undefined> {
    const record = await registry.findNode(tenant, node);
    if (!record) return 'NODE_NOT_FOUND';
    return record.status === 'revoked' ? 'NODE_REVOKED' : undefined;
  }

  /** One run of an id is open at a time, no matter who asks for it. */
  function hold(record: RunRecord, how: { readonly isStored: boolean }): Promise<OpenRun> {
    return inTurn(`${record.id}`, async () => open.get(record.id) ?? holdAnew(record, how));
  }

  async function holdAnew(record: RunRecord, how: { readonly isStored: boolean }): Promise<OpenRun> {
    const { id, tenant } = record;
    const run = await OpenRun.open(record, how, {
      ...{ store, audit, clock, random, objects, queues, linkLog: log, floor: options.floor },
      maxWaiting: options.maxWaiting,
      memoryBytes: options.memoryBytes,
      maxRunMs: options.maxRunMs,
      findNodes: finderOf(tenant).find,
      checkNode: node => checkNode(tenant, node),
      onChange: () => tell(id),
      onEnded,
    });
    open.set(id, run);
    return run;
  }

  function onEnded(run: OpenRun): void {
    open.delete(run.id);
    const { status, outcome, reason } = run.record();
    log.info({ run: `${run.id}`, outcome, reason }, 'run finished');
    tell(run.id);
    launcher.remove(run);
    // One whose end could not be recorded is found by anyone who stops it, or by the next link.
    if (status !== 'finished') return;
    const cleaned = untilStored(
      clock,
      () => clean(run.tenant, run.id),
      () => !closing,
    )
      .catch((error: unknown) =>
        log.error({ err: error, run: `${run.id}` }, 'could not remove what a run left'),
      )
      .finally(() => cleaning.delete(cleaned));
    cleaning.add(cleaned);
  }

  /** What a run that is over leaves: its messages, its objects, and the mark that it does. */
  async function clean(tenant: string, id: bigint): Promise<void> {
    await removeMessages(store, tenant, id);
    await objects.removeRun(`${id}`);
    await store.commit([{ type: 'delete', key: openRunKey(id) }]);
  }

  async function find(tenant: string, id: bigint): Promise<RunRecord | undefined> {
    const run = open.get(id);
    if (run) return run.tenant === tenant ? run.record() : undefined;
    const value = await store.get(runKey(tenant, id));
    return value && decodeRunRecord(value);
  }

  async function stop(tenant: string, id: bigint, by: Actor): Promise<RunRecord> {
    const record = await find(tenant, id);
    if (!record)
      throw new RollcallError('NOT_FOUND', 'there is no such run', {
        hint: '`rollcall runs list` shows the runs',
      });
    if (record.status === 'finished') return record;
    // One that is not over is stopped, also when this process has lost sight of it.
    if (starter.isInDoubt(id)) await starter.settle();
    const run = open.get(id) ?? (await hold(record, { isStored: true }));
    await run.stop(by, by.name);
    return run.record();
  }

  async function stopAll(tenant: string, by: Actor): Promise<void> {
    const entries = await store.list({ prefix: openRunPrefix });
    const ids = entries
      .filter(({ value }) => String(Buffer.from(value)) === tenant)
      .map(({ key }) => numberOfKey(key));
    await Promise.all(
      ids.map(id =>
        stop(tenant, id, by).catch((error: unknown) => {
          if (isPassing(error)) throw error;
          log.error({ err: error, run: `${id}` }, 'a run of a deleted tenant cannot be read');
        }),
      ),
    );
  }

  async function recoverRun(tenant: string, id: bigint): Promise<void> {
    const value = await store.get(runKey(tenant, id));
    const record = value && decodeRunRecord(value);
    if (!record || record.status === 'finished') {
      await clean(tenant, id);
      return;
    }
    const run = await hold(record, { isStored: true }).catch(async (error: unknown) => {
      if (!isRollcallError(error, 'INTERNAL')) throw error;
      log.error({ err: error, run: `${id}` }, 'the messages of a run cannot be read');
      const damaged = await hold(record, { isStored: false });
      await damaged.end({
        outcome: 'failed',
        reason: 'the link cannot read its messages any more',
        by: linkParty,
      });
      return undefined;
    });
    if (!run) return;
    if (record.status !== 'running') {
      // Nothing of it can have been accepted: it begins anew.
      launcher.add(run);
    } else if (!launcher.resume(run)) {
      const reason = 'the link was restarted, and its server half ran as a child of it';
      await run.end({ outcome: 'failed', reason, by: linkParty });
    }
  }

  const stopWatching = registry.watchNodes(undefined, ({ tenant, id, status }) => {
    if (status !== 'revoked') return;
    for (const run of open.values()) {
      if (run.tenant !== tenant) continue;
      run.forgetNode(id);
      run.messages.failNode(id, 'NODE_REVOKED');
    }
  });

  const timers = [
    clock.every(sweepEveryMs, () => {
      const now = clock.now();
      for (const run of open.values()) run.messages.expire(now);
    }),
    clock.every(saveEveryMs, () => {
      for (const run of open.values()) {
        void run.saveCounts().catch(() => undefined);
        run.checkTime(clock.now());
      }
      void starter.settle().catch((error: unknown) => {
        if (!isPassing(error)) log.error({ err: error }, 'a run that may have been started cannot be read');
      });
    }),
    clock.every(retentionEveryMs, () => {
      const before = clock.now() - options.retentionMs;
      removeOldRuns(store, before, { isOpen: id => open.has(id), isWanted: () => !closing }).catch(
        (error: unknown) => log.error({ err: error }, 'could not remove old runs'),
      );
    }),
  ];

  /** What was kept for runs that a link before had no time to store, or to clean up after. */
  async function removeStrays(known: ReadonlySet<string>): Promise<void> {
    for (const name of await objects.listRuns())
      if (/^\d+$/.test(name) && !known.has(name)) await objects.removeRun(name);
  }

  return {
    start: wanted => starter.start(wanted),
    find,
    list: (tenant, query) => listRuns(store, tenant, query, id => find(tenant, id)),
    stop,
    readLog: (tenant, id, after, limit) =>
      readRunLog(store, tenant, id, after, Math.min(Math.max(limit, 1), maxLogPage)),
    watch(id, listener) {
      const listeners = watchers.get(id) ?? new Set();
      watchers.set(id, listeners.add(listener));
      return () => {
        listeners.delete(listener);
        if (listeners.size === 0) watchers.delete(id);
      };
    },
    async recover() {
      const entries = await store.list({ prefix: openRunPrefix });
      for (const { key, value } of entries) {
        await recoverRun(Buffer.from(value).toString(), numberOfKey(key)).catch((error: unknown) =>
          log.error({ err: error, run: `${numberOfKey(key)}` }, 'a run cannot be read'),
        );
      }
      await removeStrays(new Set(entries.map(({ key }) => `${numberOfKey(key)}`))).catch((error: unknown) =>
        log.error({ err: error }, 'could not remove objects of runs that are not there'),
      );
    },
    frames,
    stopAll,
    count: () => open.size,
    async close() {
      closing = true;
      launcher.close();
      for (const timer of timers) timer.cancel();
      stopWatching();
      for (const finder of finders.values()) finder.close();
      await Promise.all([...open.values()].map(closeRun));
      await Promise.all(cleaning);
    },
  };

  async function closeRun(run: OpenRun): Promise<void> {
    const { hostedBy, status } = run.record();
    if (status !== 'pending' && hostedBy === 'subprocess') {
      // On a disk that is full the next link records it.
      const late = new Promise<void>(resolve => void clock.after(closeWithinMs, resolve));
      await Promise.race([
        run.end({ outcome: 'failed', reason: 'the link was stopped', by: linkParty }),
        late,
      ]);
    }
    await run.leave();
  }
}
