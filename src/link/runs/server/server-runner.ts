/**
 * The runner of one run's server half, seen from the link: ordered from a hosting or expected back from before a restart, its
 * current session, and the deadline by which it must load or return. It reports at most one ending.
 */
import type { FrameConnection } from '../../../app-host/wire/frames.js';
import type { Hosting, Language, RunnerExit, RunnerHandler } from '../../../app-host/hosting/hosting.js';
import { linkParty } from '../../../audit-log/party.js';
import type { Timer } from '../../../base/clock.js';
import { appParty, serverParty, type RunBuckets } from '../run-buckets.js';
import type { RunRecord } from '../run-record.js';
import type { RunEnding } from '../run-status.js';
import type { ServerOutcome } from './server-frames.js';
import { ServerSession, type ServerSessionOptions } from './server-session.js';

export interface ServerRunnerOptions extends Pick<
  ServerSessionOptions,
  'clock' | 'messages' | 'log' | 'findNodes' | 'checkNode' | 'onReady'
> {
  /** Returns the record as it is stored now. */
  readonly record: () => RunRecord;
  readonly buckets: RunBuckets;
  readonly onEnd: (ending: RunEnding) => void;
}

/** How long a server half may take to end by itself before it is killed. */
export const graceMs = 3_000;
const loadWithinMs = 5 * 60_000;
/** Counts from a lost connection or from the start of the link. */
const returnWithinMs = 60_000;

export class ServerRunner implements RunnerHandler {
  readonly #options: ServerRunnerOptions;
  readonly #run: string;
  #hosting: Hosting | undefined;
  #session: ServerSession | undefined;
  #deadline: Timer | undefined;
  /** Kills a runner that does not exit after the end of its run. */
  #killTimer: Timer | undefined;
  #isStopping = false;
  #isEnding = false;
  #hasLeft = false;

  constructor(run: bigint, options: ServerRunnerOptions) {
    this.#run = `${run}`;
    this.#options = options;
  }

  start(
    hosting: Hosting,
    order: { readonly language: Language; readonly token: string; readonly memoryBytes: number },
  ): void {
    this.#hosting = hosting;
    hosting.start({ ...order, run: this.#run, half: 'server' }, this);
    this.#awaitLoading();
  }

  /** Awaits the runner that an earlier process of the link started. */
  resume(hosting: Hosting): void {
    this.#hosting = hosting;
    hosting.expect(this.#run, this.#options.record().tokenHash ?? '', this);
    this.#awaitReturn('the link was restarted, and its server half did not reconnect');
  }

  /** This message has an answer. */
  answer(number: number): void {
    this.#session?.answer(number);
  }

  progress(number: number, node: bigint, fraction: number, note: string): void {
    this.#session?.progress(number, node, fraction, note);
  }

  /** Asks the half to end, also when it reconnects; false if it has no session yet. */
  requestStop(): boolean {
    if (!this.#session) return false;
    this.#isStopping = true;
    this.#session.stop();
    return true;
  }

  /** The run is ending: nothing that the runner does has an effect any more. */
  beginEnd(): void {
    this.#isEnding = true;
    this.#deadline?.cancel();
  }

  /** The end is recorded: tells the half, and kills what does not exit within the grace period. */
  finish(): void {
    this.#session?.over();
    this.#killTimer = this.#options.clock.after(graceMs, () => this.kill());
    if (!this.#session) this.kill();
  }

  kill(): void {
    this.#hosting?.stop(this.#run);
  }

  /** Disconnects from the runner, which stays alive. */
  leave(): void {
    this.#hasLeft = true;
    this.#deadline?.cancel();
    this.#session?.close();
  }

  onConnection(connection: FrameConnection): void {
    if (this.#isEnding) {
      connection.send('over', {});
      connection.destroy();
      return;
    }
    this.#session?.close();
    this.#deadline?.cancel();
    if (this.#options.record().status === 'starting') this.#awaitLoading();
    const session = this.#openSession(connection);
    this.#session = session;
    connection.onClose(() => {
      if (this.#session === session && this.#options.record().status === 'running')
        this.#awaitReturn(
          'the connection of its server half was lost, and the server half did not reconnect',
        );
    });
    if (this.#isStopping) session.stop();
  }

  onOutput(level: 'stdout' | 'stderr', text: string): void {
    const { log, clock } = this.#options;
    if (!this.#isEnding) void log.append('server', [{ at: clock.now(), level, text }]);
  }

  onExit(exit: RunnerExit): void {
    this.#killTimer?.cancel();
    this.#deadline?.cancel();
    this.#session = undefined;
    if (!this.#isEnding) this.#fail(exitReason(exit));
  }

  #openSession(connection: FrameConnection): ServerSession {
    const { buckets, record, ...options } = this.#options;
    return new ServerSession({
      ...options,
      ...{ connection, record: record(), archive: buckets.of(appParty), own: buckets.of(serverParty) },
      bucketOf: node => buckets.of(`${node}`),
      onReady: () => {
        this.#deadline?.cancel();
        return options.onReady();
      },
      onEnd: outcome => options.onEnd(endingOf(outcome)),
    });
  }

  #awaitLoading(): void {
    this.#await(loadWithinMs, `its server half did not load within ${loadWithinMs / 60_000} minutes`);
  }

  #awaitReturn(reason: string): void {
    this.#await(returnWithinMs, reason);
  }

  #await(ms: number, reason: string): void {
    this.#deadline?.cancel();
    if (this.#isEnding || this.#hasLeft) return;
    this.#deadline = this.#options.clock.after(ms, () => this.#fail(reason));
  }

  #fail(reason: string): void {
    this.#options.onEnd({ outcome: 'failed', reason, by: linkParty });
  }
}

function endingOf(outcome: ServerOutcome): RunEnding {
  return 'result' in outcome
    ? { outcome: 'completed', reason: 'completed', result: outcome.result, by: linkParty }
    : { outcome: 'failed', reason: outcome.failure, by: linkParty };
}

function exitReason({ code, signal, note }: RunnerExit): string {
  if (note !== '') return `its server half was killed: ${note}`;
  return signal === null
    ? `its server half exited early (exit code ${String(code)})`
    : `its server half was killed by ${signal}`;
}
