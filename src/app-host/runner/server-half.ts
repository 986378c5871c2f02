/**
 * The server half of an app in its runner: its function is called once, with a grid that outlives the link, and how it
 * ended is told until the link has it on its disk. Whatever the app leaves unhandled is how it failed.
 */
import { setMaxListeners } from 'node:events';
import type { RunResult, ServerMain } from '../../app/app.js';
import { appLimits } from '../../app/limits.js';
import type { Clock } from '../../base/clock.js';
import { RollcallError } from '../../base/errors.js';
import type { Frame, FrameConnection } from '../wire/frames.js';
import type { RunnerConnection, Welcome } from './connection.js';
import { describeFailure } from './failure.js';
import { createGrid } from './grid.js';
import { RunnerLink } from './link.js';
import { createLogBook } from './log-book.js';
import { createAppLog } from './log.js';

export interface ServerRunnerOptions {
  readonly connection: FrameConnection;
  readonly welcome: Welcome;
  /** Opens the connection again. */
  readonly open: () => Promise<RunnerConnection>;
  /** Imports the app. What it throws is how the run failed. */
  readonly load: () => Promise<ServerMain>;
  /** Where the app lies. */
  readonly folder: string;
  readonly clock: Clock;
}

export interface ServerRunner {
  /** Resolves when it is recorded how it ended; rejects when the link is lost for good. */
  readonly ended: Promise<void>;
  /** For what nobody in the app has caught. */
  fail(error: unknown): void;
}

interface Outcome {
  readonly name: 'finished' | 'failed';
  readonly value: object;
}

export function runServerHalf(options: ServerRunnerOptions): ServerRunner {
  const { connection, welcome, open, load, folder, clock } = options;
  const link = new RunnerLink({ first: connection, open, clock });
  const log = createLogBook(link, clock);
  const stop = new AbortController();
  const over = new AbortController();
  const { grid, take, onConnected } = createGrid({ link, clock, signal: over.signal });
  let outcome: Outcome | undefined;
  let isLoaded = false;
  /** Counted, and on which of them the outcome was told. */
  let connections = 0;
  let toldOn = 0;

  function onFrame(frame: Frame): void {
    if (take(frame)) return;
    switch (frame.name) {
      case 'logged':
        log.onLogged(Number(frame.value['sequence']));
        break;
      case 'stop':
        stop.abort(stopped());
        over.abort(stopped());
        break;
      case 'over':
        link.close();
        break;
      default:
    }
  }

  function connect(): void {
    connections += 1;
    if (isLoaded) link.send('ready', {});
    log.onConnected();
    onConnected();
    void tellOutcome();
  }

  /** The last line of the log is before it. */
  async function tellOutcome(): Promise<void> {
    await log.sent();
    if (!outcome || toldOn === connections) return;
    toldOn = connections;
    link.send(outcome.name, outcome.value);
  }

  function settle(next: Outcome): void {
    if (outcome) return;
    outcome = next;
    over.abort(new RollcallError('RUN_REFUSED', 'the server half has ended'));
    void tellOutcome();
  }

  function fail(error: unknown): void {
    settle({ name: 'failed', value: { message: describeFailure(error, folder) } });
  }

  async function runMain(): Promise<void> {
    try {
      const main = await load();
      isLoaded = true;
      link.send('ready', {});
      const result = await main({
        grid,
        config: welcome.config,
        log: createAppLog(log.write),
        signal: stop.signal,
        runId: welcome.run,
      });
      settle({ name: 'finished', value: checkResult(result) });
    } catch (error) {
      fail(error);
    }
  }

  // An app may wait for as much at once as it likes.
  setMaxListeners(0, stop.signal, over.signal);
  const ended = link.run({ onFrame, onConnected: connect });
  void runMain();
  return { ended, fail };
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
