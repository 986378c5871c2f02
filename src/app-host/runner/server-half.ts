/**
 * The server half of an app in its runner: its function is called once, with a grid that outlives the link, and its outcome is
 * sent until the link has it on its disk. Errors that the app leaves unhandled make the run fail.
 */
import { setMaxListeners } from 'node:events';
import type { RunResult, ServerMain } from '../../app/app.js';
import { appLimits } from '../../app/limits.js';
import type { Clock } from '../../base/clock.js';
import { RollcallError } from '../../base/errors.js';
import type { Frame, FrameConnection } from '../wire/frames.js';
import type { RunnerConnection, Welcome } from './connection.js';
import { describeFailure } from './failure.js';
import { createGrid, type OpenGrid } from './grid.js';
import { RunnerLink } from './link.js';
import { createLogBook, type LogBook } from './log-book.js';
import { createAppLog } from './log.js';

export interface ServerRunnerOptions {
  readonly connection: FrameConnection;
  readonly welcome: Welcome;
  /** Opens the connection again. */
  readonly open: () => Promise<RunnerConnection>;
  /** Imports the app. The run fails with what it throws. */
  readonly load: () => Promise<ServerMain>;
  /** The folder of the app. */
  readonly folder: string;
  readonly clock: Clock;
}

interface Outcome {
  readonly name: 'finished' | 'failed';
  readonly value: object;
}

export class ServerHalfRunner {
  readonly #options: ServerRunnerOptions;
  readonly #link: RunnerLink;
  readonly #log: LogBook;
  readonly #grid: OpenGrid;
  /** For the app: the run is being stopped. */
  readonly #stop = new AbortController();
  /** For the grid: the run is being stopped, or the half has ended. */
  readonly #over = new AbortController();
  #outcome: Outcome | undefined;
  #isLoaded = false;
  /** How many there were, and on which of them the outcome was sent. */
  #connections = 0;
  #sentOn = 0;

  constructor(options: ServerRunnerOptions) {
    const { connection, open, clock } = options;
    this.#options = options;
    this.#link = new RunnerLink({ first: connection, open, clock });
    this.#log = createLogBook(this.#link, clock);
    this.#grid = createGrid({ link: this.#link, clock, signal: this.#over.signal });
    // An app may wait for as much at once as it likes.
    setMaxListeners(0, this.#stop.signal, this.#over.signal);
  }

  /** Resolves when the outcome is recorded; rejects when the link is lost for good. */
  run(): Promise<void> {
    const ended = this.#link.run({
      onFrame: frame => this.#take(frame),
      onConnected: () => this.#onConnected(),
    });
    void this.#runMain();
    return ended;
  }

  /** The run fails with this error, unless it has an outcome. */
  fail(error: unknown): void {
    this.#settle({ name: 'failed', value: { message: describeFailure(error, this.#options.folder) } });
  }

  #take(frame: Frame): void {
    if (this.#grid.take(frame)) return;
    switch (frame.name) {
      case 'logged':
        this.#log.onLogged(Number(frame.value['sequence']));
        break;
      case 'stop':
        this.#stop.abort(stopped());
        this.#over.abort(stopped());
        break;
      case 'over':
        this.#link.close();
        break;
      default:
    }
  }

  #onConnected(): void {
    this.#connections += 1;
    if (this.#isLoaded) this.#link.send('ready', {});
    this.#log.onConnected();
    this.#grid.onConnected();
    void this.#sendOutcome();
  }

  /** After the last line of the log. */
  async #sendOutcome(): Promise<void> {
    await this.#log.sent();
    if (!this.#outcome || this.#sentOn === this.#connections) return;
    this.#sentOn = this.#connections;
    this.#link.send(this.#outcome.name, this.#outcome.value);
  }

  #settle(outcome: Outcome): void {
    if (this.#outcome) return;
    this.#outcome = outcome;
    this.#over.abort(new RollcallError('RUN_REFUSED', 'the server half has ended'));
    void this.#sendOutcome();
  }

  async #runMain(): Promise<void> {
    const { welcome, load } = this.#options;
    try {
      const main = await load();
      this.#isLoaded = true;
      this.#link.send('ready', {});
      const result = await main({
        grid: this.#grid.grid,
        config: welcome.config,
        log: createAppLog(this.#log.write),
        signal: this.#stop.signal,
        runId: welcome.run,
      });
      this.#settle({ name: 'finished', value: checkResult(result) });
    } catch (error) {
      this.fail(error);
    }
  }
}

function checkResult(result: RunResult | undefined): { readonly result?: RunResult } {
  if (result === undefined) return {};
  const text = JSON.stringify(result) as string | undefined;
  if (text === undefined) throw unfit('it is nothing that JSON holds');
  const sizeBytes = Buffer.byteLength(text);
  if (sizeBytes > appLimits.maxResultBytes)
    throw unfit(`it has ${sizeBytes} bytes as JSON, and at most ${appLimits.maxResultBytes} are kept`);
  return { result };
}

function unfit(what: string): RollcallError {
  return new RollcallError('REQUEST_INVALID', `the result of the server half cannot be kept: ${what}`);
}

function stopped(): RollcallError {
  return new RollcallError('RUN_REFUSED', 'the run is being stopped');
}
