/**
 * Runners under another user. A supervisor, `rollcall app-host`, connects to our socket, starts the runners that are ordered, and
 * reports their output and their end. Runners live on when this process ends, and come back to the socket. The supervisor runs
 * beside apps, as their user: what it reports is bounded and made harmless here again.
 */
import { createPeerServer, protocolVersion, type PeerServer } from './accept-peers.js';
import { createExpectedRunners, type ExpectedRunner } from './expected-runners.js';
import type { Frame, FrameConnection } from '../wire/frames.js';
import { endNotes, type HostingOptions } from './hosting-options.js';
import type { Hosting, RunnerExit, RunnerHandler, RunnerOrder } from './hosting.js';
import { isHostKey } from './host-key.js';
import { hashToken } from '../wire/token-hash.js';
import { createLineLimit, makeHarmless, outputLimits } from './runner-output.js';
import { listenInClosedFolder } from './runner-socket.js';

/** A supervisor that does not answer a stop within this time is taken not to know the runner. */
const stopWithinMs = 10_000;
const minRefusalLogMs = 60_000;
/** The supervisor limits lines itself; more come only after it was away. */
const maxLinesPerSecond = 4 * outputLimits.linesPerSecond;

export type ProcessHostingOptions = Omit<HostingOptions, 'isolation'> & {
  readonly socketPath: string;
  readonly hostKey: string;
};

export class ProcessHosting implements Hosting {
  readonly isolation = 'process';
  readonly socketPath: string;
  readonly #options: ProcessHostingOptions;
  readonly #visitors: PeerServer;
  readonly #runners: ReturnType<typeof createExpectedRunners>;
  readonly #outputs = new WeakMap<ExpectedRunner, ReturnType<typeof createLineLimit>>();
  /** Orders that no supervisor was given. */
  readonly #waiting = new Map<string, RunnerOrder>();
  /** Orders that were sent and whose runner gave no sign yet: what a supervisor was sent as it ended may be lost. */
  readonly #unheard = new Map<string, RunnerOrder>();
  /** Orders that were lost once. When one is lost again, its runner is what ends the supervisor. */
  readonly #lostOnce = new WeakSet<RunnerOrder>();
  /** Runs whose runner is being ended, and why. */
  readonly #stopping = new Map<string, string>();
  /** Runners of the supervisor that nobody expects; a new one of the run is ordered when they are gone. */
  #leftovers = new Set<string>();
  #supervisor: FrameConnection | undefined;
  readonly #readyListeners: (() => void)[] = [];
  #closing: Promise<void> | undefined;
  #refusalLoggedAt = -Infinity;

  /** Listens on the socket when it resolves. */
  static async listen(options: ProcessHostingOptions): Promise<ProcessHosting> {
    const hosting = new ProcessHosting(options);
    await listenInClosedFolder(hosting.#visitors.server, options.socketPath);
    if (options.held !== true) hosting.open();
    return hosting;
  }

  private constructor(options: ProcessHostingOptions) {
    const { clock, log, socketPath } = options;
    this.socketPath = socketPath;
    this.#options = options;
    this.#runners = createExpectedRunners(clock);
    this.#visitors = createPeerServer({
      clock,
      log,
      onRunner: (tokenHash, connection) => this.#onRunner(tokenHash, connection),
      onSupervisor: (connection, key, runs) => this.#onSupervisor(connection, key, runs),
    });
  }

  isReady(): boolean {
    return this.#supervisor !== undefined;
  }

  onReady(listener: () => void): void {
    this.#readyListeners.push(listener);
  }

  open(): void {
    this.#visitors.open();
  }

  start(order: RunnerOrder, handler: RunnerHandler): void {
    const runner = this.#add(order.run, hashToken(order.token), handler);
    if (this.#closing) {
      this.#endUnseen(runner, endNotes.closed);
      return;
    }
    this.#waiting.set(order.run, order);
    this.#orderIfPossible(order.run);
  }

  expect(run: string, tokenHash: string, handler: RunnerHandler): void {
    const runner = this.#add(run, tokenHash, handler);
    // The runners of a supervisor are compared with those that are expected when it connects, and not again.
    if (this.#supervisor) this.#endUnseen(runner, endNotes.hostRestarted);
  }

  stop(run: string, note: string = endNotes.stopped): void {
    const runner = this.#runners.find(run);
    if (!runner || this.#stopping.has(run)) return;
    if (this.#waiting.has(run) || !this.#supervisor) {
      this.#endUnseen(runner, note);
      return;
    }
    this.#stopping.set(run, note);
    this.#supervisor.send('stop', { run });
    const deadline = this.#options.clock.after(stopWithinMs, () => {
      this.#leftovers.add(run);
      this.#endUnseen(runner, note);
    });
    void runner.ended.then(() => deadline.cancel());
  }

  close(): Promise<void> {
    return (this.#closing ??= this.#visitors.close());
  }

  #add(run: string, tokenHash: string, handler: RunnerHandler): ExpectedRunner {
    const runner = this.#runners.add(run, tokenHash, handler);
    const tell = handler.onOutput.bind(handler);
    this.#outputs.set(runner, createLineLimit(this.#options.clock, tell, maxLinesPerSecond));
    return runner;
  }

  #end(runner: ExpectedRunner, exit: RunnerExit): void {
    this.#waiting.delete(runner.run);
    this.#unheard.delete(runner.run);
    this.#stopping.delete(runner.run);
    this.#outputs.get(runner)?.end();
    runner.end(exit);
  }

  #endUnseen(runner: ExpectedRunner, note: string): void {
    this.#end(runner, { code: null, signal: null, note });
  }

  #orderIfPossible(run: string): void {
    const order = this.#waiting.get(run);
    if (!order || !this.#supervisor || this.#leftovers.has(run)) return;
    this.#waiting.delete(run);
    this.#unheard.set(run, order);
    this.#supervisor.send('start', order);
  }

  /** For a runner that a new supervisor does not have. */
  #orderAgainOrEnd(runner: ExpectedRunner): void {
    const order = this.#unheard.get(runner.run);
    if (order && !this.#lostOnce.has(order)) {
      this.#lostOnce.add(order);
      this.#waiting.set(runner.run, order);
    } else if (!this.#waiting.has(runner.run)) this.#endUnseen(runner, endNotes.hostRestarted);
  }

  #onRunner(tokenHash: string, connection: FrameConnection): boolean {
    const run = this.#runners.connect(tokenHash, connection);
    if (run !== undefined) this.#unheard.delete(run);
    return run !== undefined;
  }

  /** Gives why the supervisor is refused, or undefined. */
  #onSupervisor(connection: FrameConnection, key: unknown, runs: readonly string[]): string | undefined {
    const { hostKey, log } = this.#options;
    if (!isHostKey(key, hostKey)) {
      this.#logRefusal();
      return 'this is not the key of this socket';
    }
    if (this.#supervisor) return 'there is a supervisor already';
    this.#supervisor = connection;
    connection.onFrame(frame => this.#take(frame));
    connection.onClose(() => this.#onSupervisorLeft());
    connection.send('welcome', { protocol: protocolVersion });
    log.info({ runners: runs.length }, 'an app host has connected');
    this.#compareRunners(connection, runs);
    for (const run of this.#waiting.keys()) this.#orderIfPossible(run);
    for (const listener of this.#readyListeners) listener();
    return undefined;
  }

  /** Ends the supervisor's runners that are not expected; orders again or ends those expected ones that it does not have. */
  #compareRunners(supervisor: FrameConnection, runs: readonly string[]): void {
    this.#leftovers = new Set(runs.filter(run => this.#waiting.has(run) || !this.#runners.find(run)));
    for (const run of this.#leftovers) supervisor.send('stop', { run });
    const listed = new Set(runs);
    for (const runner of this.#runners.all()) if (!listed.has(runner.run)) this.#orderAgainOrEnd(runner);
  }

  /** At most one line a minute: a process that keeps trying must not fill the log. */
  #logRefusal(): void {
    const { clock, log, socketPath } = this.#options;
    if (clock.elapsed() - this.#refusalLoggedAt < minRefusalLogMs) return;
    this.#refusalLoggedAt = clock.elapsed();
    log.warn({ socketPath }, 'a process without the key of this socket wanted to be its app host');
  }

  #onSupervisorLeft(): void {
    this.#supervisor = undefined;
    if (this.#closing) return;
    this.#options.log.warn({}, 'the app host has disconnected');
    for (const [run, note] of [...this.#stopping]) {
      const runner = this.#runners.find(run);
      if (runner) this.#endUnseen(runner, note);
    }
  }

  #take({ name, value }: Frame): void {
    const { run } = value;
    if (typeof run !== 'string') return;
    const runner = this.#waiting.has(run) ? undefined : this.#runners.find(run);
    if (name === 'output' && runner && !this.#leftovers.has(run)) {
      const { stream, text } = value;
      if ((stream !== 'stdout' && stream !== 'stderr') || typeof text !== 'string') return;
      this.#unheard.delete(run);
      this.#outputs.get(runner)?.take(stream, () => makeHarmless(text));
    } else if (name === 'exited') {
      if (this.#leftovers.delete(run)) this.#orderIfPossible(run);
      else if (runner) this.#end(runner, readExit(value, this.#stopping.get(run)));
    }
  }
}

function readExit({ code, signal, note }: Frame['value'], ourNote: string | undefined): RunnerExit {
  return {
    code: typeof code === 'number' ? code : null,
    signal: typeof signal === 'string' ? makeHarmless(signal).slice(0, 20) : null,
    note: ourNote ?? (typeof note === 'string' ? makeHarmless(note).slice(0, 200) : ''),
  };
}
