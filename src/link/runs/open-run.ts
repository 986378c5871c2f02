/**
 * A run that is not over: its record, its messages, its log, and the server half while that is connected. Every change of
 * the record is one commit with what it tells; changes take turns. However it ends, it ends once.
 */
import { languageOf } from '../../app-package/app-manifest.js';
import { linkParty } from '../../audit-log/party.js';
import type { FrameConnection } from '../../app-host/wire/frames.js';
import type { Hosting, RunnerExit } from '../../app-host/hosting/hosting.js';
import { hashToken } from '../../app-host/wire/token-hash.js';
import { isRollcallError, RollcallError } from '../../base/errors.js';
import type { Clock, Timer } from '../../base/clock.js';
import type { DiskFloor } from '../../base/disk-floor.js';
import type { Log } from '../../base/log.js';
import type { Random } from '../../base/random.js';
import { createTurns } from '../../base/keyed-queue.js';
import type { MessageErrorCode } from '../../app/message-error.js';
import type { ObjectStore } from '../../objects/object-store.js';
import type { Change, Store } from '../../store/store.js';
import type { Actor, Audit } from '../audit/audit.js';
import { assignOf } from './messages/run-frames.js';
import type { NodeQueues } from './messages/node-queues.js';
import type { FindNodes } from './server/find-nodes.js';
import { untilStored } from '../../store/retry.js';
import { runKey } from './run-keys.js';
import { linkLine, openRunLog, type RunLog } from './run-log.js';
import { waitingEveryMs } from './server/find-nodes.js';
import { RunMessages } from './messages/run-messages.js';
import { appParty, RunBuckets, serverParty } from './run-buckets.js';
import { decodeRunRecord, encodeRunRecord, type RunOutcomeName, type RunRecord } from './run-record.js';
import { decideRun, type RunEvent } from './run-status.js';
import { ServerSession } from './server/server-session.js';

export interface OpenRun {
  readonly id: bigint;
  readonly tenant: string;
  /** Of its app, hex. */
  readonly archiveDigest: string;
  /** As it is now, counts included. */
  record(): RunRecord;
  readonly messages: RunMessages;
  readonly log: RunLog;
  readonly buckets: RunBuckets;
  /** Why it is not started yet. */
  wait(reason: string): Promise<void>;
  /** Gives its server half to be started. */
  launch(hosting: Hosting): Promise<void>;
  /** Awaits the server half that was started before this link was. */
  resume(hosting: Hosting): void;
  /** Asks the server half to end, waits a little, and records it; the promise of whatever ends it first. */
  stop(by: Actor, who: string): Promise<void>;
  end(ending: Ending): Promise<void>;
  progress(number: number, node: bigint, fraction: number, note: string): void;
  /** A node is not what it was. */
  forgetNode(node: bigint): void;
  saveCounts(): Promise<void>;
  /** Ends a run that has run for too long. */
  checkTime(now: number): void;
  /** The link closes; the run goes on without it. */
  leave(): Promise<void>;
}

export interface Ending {
  readonly outcome: RunOutcomeName;
  readonly reason: string;
  readonly result?: string;
  readonly by: Actor;
}

export interface OpenRunOptions {
  readonly store: Store;
  readonly audit: Audit;
  readonly clock: Clock;
  readonly random: Random;
  readonly linkLog: Log;
  readonly objects: ObjectStore;
  readonly floor: DiskFloor;
  readonly queues: NodeQueues;
  readonly maxWaiting: number;
  readonly memoryBytes: number;
  /** For how long it may run, ms. */
  readonly maxRunMs: number;
  readonly findNodes: FindNodes;
  readonly checkNode: (node: bigint) => Promise<MessageErrorCode | undefined>;
  readonly onChange: () => void;
  /** It is recorded as finished. */
  readonly onEnded: (run: OpenRun) => void;
}

/** For the server half to end by itself, ms. */
const graceMs = 3_000;
/** For a server half to be started and loaded, ms. */
const beginWithinMs = 5 * 60_000;
/** For a server half to come back after its connection was lost or the link was started, ms. */
const returnWithinMs = 60_000;

export async function openRun(
  first: RunRecord,
  { isStored }: { readonly isStored: boolean },
  options: OpenRunOptions,
): Promise<OpenRun> {
  const { store, audit, clock, objects, queues, onChange } = options;
  const { id, tenant } = first;
  const inTurn = createTurns();
  const checked = new Set<bigint>();
  let stored = first;
  let half: ServerSession | undefined;
  let hosting: Hosting | undefined;
  let ending: Promise<void> | undefined;
  let tellEnded: (ending: Promise<void>) => void = () => undefined;
  const ended = new Promise<void>(resolve => (tellEnded = resolve));
  let stopping: { readonly by: Actor; readonly who: string } | undefined;

  const log = await openRunLog({ store, clock, tenant, run: id, floor: options.floor, onChange });
  const buckets = new RunBuckets(objects, id);
  const messages = new RunMessages({
    ...{ store, clock, tenant, queues, onChange, assign: assignOf(first), objects: buckets },
    floor: options.floor,
    maxWaiting: options.maxWaiting,
    onAnswer: number => half?.answer(number),
  });
  if (isStored) await messages.load();
  /** What was counted before this link was started. */
  const before = stored.counts;

  function counts(): RunRecord['counts'] {
    // Numbers are counted without gaps, so that a link which was killed has lost no more than what it knew of failures.
    const { last, unanswered } = messages.standing();
    const sent = Math.max(before.sent, last);
    return {
      nodes: messages.nodes.size,
      sent,
      answered: sent - unanswered,
      failed: before.failed + messages.counts.failed,
      logLines: log.count(),
    };
  }

  async function change(event: RunEvent, more: readonly Change[] = []): Promise<boolean> {
    return inTurn('record', async () => {
      for (;;) {
        const decision = decideRun(stored, event);
        if (!decision) return false;
        const audited = decision.audit.map(each => audit.auditChange(tenant, each));
        if (await put({ ...decision.record, counts: counts() }, [...audited, ...more])) return true;
      }
    });
  }

  /** False when the record is not what it was taken for: a commit that had failed was found after all. */
  async function put(next: RunRecord, more: readonly Change[]): Promise<boolean> {
    const key = runKey(tenant, id);
    try {
      await store.commit(
        [{ type: 'put', key, value: encodeRunRecord(next) }, ...more],
        [{ key, value: encodeRunRecord(stored) }],
      );
    } catch (error) {
      if (!isRollcallError(error, 'STORE_CONFLICT')) throw error;
      const found = await store.get(key);
      if (!found) throw new RollcallError('INTERNAL', 'the record of a run is gone', { cause: error });
      stored = decodeRunRecord(found);
      return false;
    }
    stored = next;
    onChange();
    return true;
  }

  function end(wanted: Ending): Promise<void> {
    const asked: Ending = stopping
      ? { outcome: 'stopped', reason: `stopped by ${stopping.who}`, by: stopping.by }
      : wanted;
    ending ??= endOnce(asked);
    tellEnded(ending);
    return ending;
  }

  async function endOnce({ by, outcome, reason, result }: Ending): Promise<void> {
    awaited?.cancel();
    const host = hosting;
    const impatience = clock.after(graceMs, () => {
      options.linkLog.error({ run: `${id}` }, 'the end of a run cannot be recorded yet');
      // On a disk that is full, what the run holds there goes first; it does not go on in any case.
      host?.stop(`${id}`);
      void objects.removeRun(`${id}`).catch(() => undefined);
    });
    await log.append('link', [linkLine(clock, `run ${outcome}${reason === outcome ? '' : `: ${reason}`}`)]);
    // A full disk ends no run twice and leaves none open: it is tried until it is recorded.
    await untilStored(clock, () =>
      change({
        ...{ type: 'finished', at: clock.now(), outcome, reason, by },
        ...(result !== undefined && { result }),
      }),
    ).catch((error: unknown) =>
      options.linkLog.error({ err: error, run: `${id}` }, 'could not record the end of a run'),
    );
    impatience.cancel();
    half?.over();
    const slow = clock.after(graceMs, () => host?.stop(`${id}`));
    exited = () => slow.cancel();
    if (!half) host?.stop(`${id}`);
    await log.close();
    await messages.close();
    messages.leaveQueues();
    options.onEnded(run);
  }

  let exited: () => void = () => undefined;

  const handler = {
    onConnection(connection: FrameConnection): void {
      if (ending) {
        connection.send('over', {});
        connection.destroy();
        return;
      }
      half?.close();
      awaited?.cancel();
      if (stored.status === 'starting') awaitBeginning();
      const mine = new ServerSession({
        ...{ connection, clock, messages, log, record: stored },
        archive: buckets.of(appParty),
        own: buckets.of(serverParty),
        bucketOf: node => buckets.of(`${node}`),
        findNodes: options.findNodes,
        checkNode,
        onReady: () => {
          awaited?.cancel();
          return untilStored(
            clock,
            () => change({ type: 'running', at: clock.now() }),
            () => !ending,
          ).then(() => undefined);
        },
        onEnd: outcome =>
          void end(
            'result' in outcome
              ? { outcome: 'completed', reason: 'completed', result: outcome.result, by: linkParty }
              : { outcome: 'failed', reason: outcome.failure, by: linkParty },
          ),
      });
      half = mine;
      connection.onClose(() => {
        if (half === mine && stored.status === 'running')
          awaitReturn('its app host has gone and did not come back');
      });
      if (stopping) half.stop();
    },
    onOutput(stream: 'stdout' | 'stderr', text: string): void {
      if (!ending) void log.append('server', [{ at: clock.now(), level: stream, text }]);
    },
    onExit(exit: RunnerExit): void {
      exited();
      awaited?.cancel();
      half = undefined;
      if (!ending) void end({ outcome: 'failed', reason: exitReason(exit), by: linkParty });
    },
  };
  /** For what the run would wait for ever. */
  let awaited: Timer | undefined;

  function awaitFor(ms: number, reason: string): void {
    awaited?.cancel();
    if (ending) return;
    awaited = clock.after(ms, () => void end({ outcome: 'failed', reason, by: linkParty }));
  }
  const awaitReturn = (reason: string): void => awaitFor(returnWithinMs, reason);
  const awaitBeginning = (): void =>
    awaitFor(beginWithinMs, `its server half did not begin within ${beginWithinMs / 60_000} minutes`);

  async function checkNode(node: bigint): Promise<MessageErrorCode | undefined> {
    if (checked.has(node)) return undefined;
    const problem = await options.checkNode(node);
    if (!problem) checked.add(node);
    return problem;
  }

  let waitingToldAt = clock.elapsed();

  /** In the log of the run, so that those who follow it see why nothing happens. */
  function tellWaiting(): void {
    waitingToldAt = clock.elapsed();
    void log.append('link', [linkLine(clock, stored.reason)]).catch(() => undefined);
  }

  const run: OpenRun = {
    id,
    tenant,
    archiveDigest: first.app.archive.digest,
    record: () => ({ ...stored, counts: counts() }),
    messages,
    log,
    buckets,
    async wait(reason) {
      if (await change({ type: 'waiting', reason })) tellWaiting();
    },
    async launch(host) {
      const token = options.random(32).toString('hex');
      const at = clock.now();
      const { isolation: hostedBy } = host;
      if (!(await change({ type: 'starting', at, hostedBy, tokenHash: hashToken(token) })) || ending) return;
      hosting = host;
      const language = languageOf(first.app.serverEntry);
      const order = { run: `${id}`, half: 'server', language, token } as const;
      host.start({ ...order, memoryBytes: options.memoryBytes }, handler);
      awaitBeginning();
    },
    resume(host) {
      hosting = host;
      host.expect(`${id}`, stored.tokenHash ?? '', handler);
      awaitReturn('the link was restarted, and its app host did not come back');
    },
    async stop(by, who) {
      stopping ??= { by, who };
      const stopped = { outcome: 'stopped', reason: `stopped by ${who}`, by } as const;
      if (!half || ending) return end(stopped);
      half.stop();
      const late = clock.after(graceMs, () => void end(stopped));
      await ended;
      late.cancel();
    },
    end,
    progress: (number, node, fraction, note) => half?.progress(number, node, fraction, note),
    forgetNode: node => void checked.delete(node),
    async saveCounts() {
      await inTurn('record', async () => {
        const now = counts();
        if (ending || JSON.stringify(now) === JSON.stringify(stored.counts)) return;
        await put({ ...stored, counts: now }, []);
      });
    },
    checkTime(now) {
      const { status, runningAt } = stored;
      if (!ending && status === 'pending' && clock.elapsed() - waitingToldAt >= waitingEveryMs) tellWaiting();
      if (ending || status !== 'running' || now - runningAt <= options.maxRunMs) return;
      const reason = `it ran for longer than a run may (${Math.round(options.maxRunMs / 60_000)} minutes)`;
      void end({ outcome: 'failed', reason, by: linkParty });
    },
    async leave() {
      awaited?.cancel();
      half?.close();
      await log.close();
    },
  };
  return run;
}

function exitReason({ code, signal, note }: RunnerExit): string {
  if (note !== '') return `its server half was ended: ${note}`;
  return signal === null
    ? `its server half ended by itself (exit code ${String(code)})`
    : `its server half was ended by ${signal}`;
}
