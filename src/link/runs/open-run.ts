/**
 * One run that is not over: its record, its messages, its log, and its server half. Several things can end it (a stop, a result,
 * an exit, a deadline); the first one wins, and the run ends once.
 */
import { languageOf } from '../../app-package/app-manifest.js';
import { linkParty } from '../../audit-log/party.js';
import type { Hosting } from '../../app-host/hosting/hosting.js';
import { hashToken } from '../../app-host/wire/token-hash.js';
import type { Clock } from '../../base/clock.js';
import type { DiskFloor } from '../../base/disk-floor.js';
import type { Log } from '../../base/log.js';
import type { Random } from '../../base/random.js';
import { deferred } from '../../base/wait.js';
import type { MessageErrorCode } from '../../app/message-error.js';
import type { ObjectStore } from '../../objects/object-store.js';
import type { Store } from '../../store/store.js';
import type { Actor, Audit } from '../audit/audit.js';
import type { NodeQueues } from './messages/node-queues.js';
import { assignOf } from './messages/run-frames.js';
import { RunMessages } from './messages/run-messages.js';
import { RunBuckets } from './run-buckets.js';
import { linkLine, openRunLog, type RunLog } from './run-log.js';
import type { RunCounts, RunRecord } from './run-record.js';
import { RunRecordWriter } from './run-record-writer.js';
import type { RunEnding } from './run-status.js';
import { waitingEveryMs, type FindNodes } from './node-selection.js';
import { graceMs, ServerRunner } from './server/server-runner.js';

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
  readonly maxRunMs: number;
  readonly findNodes: FindNodes;
  /** Resolves to the reason why no message can go to this node. */
  readonly checkNode: (node: bigint) => Promise<MessageErrorCode | undefined>;
  /** Called after every change of the record, the messages or the log. */
  readonly onChange: () => void;
  /** Called once, when the end is recorded or cannot be recorded. */
  readonly onEnded: (run: OpenRun) => void;
}

export class OpenRun {
  readonly id: bigint;
  readonly tenant: string;
  /** Digest of the app's archive, hex. */
  readonly archiveDigest: string;
  readonly buckets: RunBuckets;
  readonly messages: RunMessages;
  readonly log: RunLog;
  readonly #options: OpenRunOptions;
  readonly #record: RunRecordWriter;
  readonly #runner: ServerRunner;
  /** Counts from before this link was started. */
  readonly #before: RunCounts;
  /** Follows `#ending` once that is set. */
  readonly #ended = deferred();
  /** Nodes that passed `checkNode`. */
  readonly #checked = new Set<bigint>();
  #ending: Promise<void> | undefined;
  #stopped: RunEnding | undefined;
  #waitingReportedAt: number;

  private constructor(first: RunRecord, log: RunLog, options: OpenRunOptions) {
    const { store, audit, clock, floor, queues, maxWaiting, findNodes, onChange } = options;
    const { id, tenant } = first;
    this.#options = options;
    this.#before = first.counts;
    this.#waitingReportedAt = clock.elapsed();
    this.id = id;
    this.tenant = tenant;
    this.archiveDigest = first.app.archive.digest;
    this.log = log;
    this.buckets = new RunBuckets(options.objects, id);
    this.messages = new RunMessages({
      ...{ store, clock, tenant, floor, queues, maxWaiting, onChange },
      ...{ assign: assignOf(first), objects: this.buckets },
      onAnswer: number => this.#runner.answer(number),
    });
    this.#record = new RunRecordWriter(first, {
      ...{ store, audit, clock, onChange },
      counts: () => this.#counts(),
    });
    this.#runner = new ServerRunner(id, {
      ...{ clock, log, findNodes, messages: this.messages, buckets: this.buckets },
      record: () => this.#record.stored,
      checkNode: node => this.#checkNode(node),
      onReady: () => this.#record.begin(() => !this.#ending),
      onEnd: ending => void this.end(ending),
    });
  }

  /** Rejects with INTERNAL if `isStored` and the messages of the run cannot be read. */
  static async open(
    first: RunRecord,
    { isStored }: { readonly isStored: boolean },
    options: OpenRunOptions,
  ): Promise<OpenRun> {
    const { store, clock, floor, onChange } = options;
    const { tenant, id } = first;
    const log = await openRunLog({ store, clock, tenant, run: id, floor, onChange });
    const run = new OpenRun(first, log, options);
    if (isStored) await run.messages.load();
    return run;
  }

  /** The record with the current counts. */
  record(): RunRecord {
    return { ...this.#record.stored, counts: this.#counts() };
  }

  /** Records why the run is not started yet. */
  async wait(reason: string): Promise<void> {
    if (await this.#record.change({ type: 'waiting', reason })) this.#reportWaiting();
  }

  /** Has the server half started. */
  async launch(hosting: Hosting): Promise<void> {
    const { random, clock, memoryBytes } = this.#options;
    const token = random(32).toString('hex');
    const { isolation: hostedBy } = hosting;
    const starting = { type: 'starting', at: clock.now(), hostedBy, tokenHash: hashToken(token) } as const;
    if (!(await this.#record.change(starting)) || this.#ending) return;
    const language = languageOf(this.#record.stored.app.serverEntry);
    this.#runner.start(hosting, { language, token, memoryBytes });
  }

  /** Awaits the server half that an earlier process of the link started. */
  resume(hosting: Hosting): void {
    this.#runner.resume(hosting);
  }

  /** Asks the server half to end, and ends the run after a grace period. Resolves when the end is recorded, whatever caused it. */
  async stop(by: Actor, name: string): Promise<void> {
    const stopped: RunEnding = { outcome: 'stopped', reason: `stopped by ${name}`, by };
    this.#stopped ??= stopped;
    if (this.#ending || !this.#runner.requestStop()) return this.end(stopped);
    const late = this.#options.clock.after(graceMs, () => void this.end(stopped));
    await this.#ended.promise;
    late.cancel();
  }

  /** Ends the run once. After a stop, every ending counts as that stop. */
  end(ending: RunEnding): Promise<void> {
    if (!this.#ending) {
      this.#ending = this.#end(this.#stopped ?? ending);
      this.#ending.then(this.#ended.resolve, this.#ended.reject);
    }
    return this.#ending;
  }

  progress(number: number, node: bigint, fraction: number, note: string): void {
    this.#runner.progress(number, node, fraction, note);
  }

  /** The node is checked again before the next message to it. */
  forgetNode(node: bigint): void {
    this.#checked.delete(node);
  }

  async saveCounts(): Promise<void> {
    await this.#record.saveCounts(() => !this.#ending);
  }

  /** Ends a run that has exceeded its time; logs again why a pending one waits. */
  checkTime(now: number): void {
    if (this.#ending) return;
    const { clock, maxRunMs } = this.#options;
    const { status, runningAt } = this.#record.stored;
    if (status === 'pending' && clock.elapsed() - this.#waitingReportedAt >= waitingEveryMs)
      this.#reportWaiting();
    if (status !== 'running' || now - runningAt <= maxRunMs) return;
    const reason = `it exceeded the maximum of ${Math.round(maxRunMs / 60_000)} minutes (--max-run-time)`;
    void this.end({ outcome: 'failed', reason, by: linkParty });
  }

  /** Disconnects from the server half because the link closes. The run continues without the link. */
  async leave(): Promise<void> {
    this.#runner.leave();
    await this.log.close();
  }

  #counts(): RunCounts {
    const { nodes, counts } = this.messages;
    // Derived from the numbers, which have no gaps: a link that was killed has lost only the latest count of failures.
    const { last, unanswered } = this.messages.standing();
    const sent = Math.max(this.#before.sent, last);
    const failed = this.#before.failed + counts.failed;
    return { nodes: nodes.size, sent, answered: sent - unanswered, failed, logLines: this.log.count() };
  }

  /** In the run's log, so that its followers see why nothing happens. */
  #reportWaiting(): void {
    const { clock } = this.#options;
    this.#waitingReportedAt = clock.elapsed();
    void this.log.append('link', [linkLine(clock, this.#record.stored.reason)]).catch(() => undefined);
  }

  async #end(ending: RunEnding): Promise<void> {
    const { clock, linkLog, onEnded } = this.#options;
    const { outcome, reason } = ending;
    this.#runner.beginEnd();
    const late = clock.after(graceMs, () => this.#freeDisk());
    const why = reason === outcome ? '' : `: ${reason}`;
    await this.log.append('link', [linkLine(clock, `run ${outcome}${why}`)]);
    await this.#record
      .finish(ending)
      .catch((error: unknown) =>
        linkLog.error({ err: error, run: `${this.id}` }, 'could not record the end of a run'),
      );
    late.cancel();
    this.#runner.finish();
    await this.log.close();
    await this.messages.close();
    this.messages.leaveQueues();
    onEnded(this);
  }

  /** A full disk may delay the record of the end. The run no longer needs its objects: they are removed to make room. */
  #freeDisk(): void {
    const { linkLog, objects } = this.#options;
    linkLog.error({ run: `${this.id}` }, 'the end of a run cannot be recorded yet');
    this.#runner.kill();
    void objects.removeRun(`${this.id}`).catch(() => undefined);
  }

  async #checkNode(node: bigint): Promise<MessageErrorCode | undefined> {
    if (this.#checked.has(node)) return undefined;
    const problem = await this.#options.checkNode(node);
    if (!problem) this.#checked.add(node);
    return problem;
  }
}
