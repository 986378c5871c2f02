/**
 * Runners as those who wait for them see them: what they are known by, their connection, and their end. The end is told
 * once, and after everything that the runner had said: what a process sent is still on the way when it is gone.
 */
import type { Clock } from '../../base/clock.js';
import type { FrameConnection } from '../wire/frames.js';
import type { RunnerExit, RunnerHandler } from './hosting.js';

/** For how long the connection of a runner that is gone may stay open; somebody else may hold its end. */
const lastFramesMs = 2_000;

export interface ExpectedRunner {
  readonly run: string;
  readonly handler: RunnerHandler;
  /** Tells the end, once, when its connection is closed; later, never at once. Its token counts no more. */
  end(exit: RunnerExit): void;
  /** Resolves when the end was told. */
  readonly ended: Promise<void>;
}

export interface ExpectedRunners {
  /** One of a run at a time; the next one from the moment the end is told. */
  add(run: string, tokenHash: string, handler: RunnerHandler): ExpectedRunner;
  find(run: string): ExpectedRunner | undefined;
  all(): readonly ExpectedRunner[];
  /** Hands a connection to the runner's handler, in the place of an earlier one. Gives the run; undefined for an unknown token. */
  connect(tokenHash: string, connection: FrameConnection): string | undefined;
}

export function createExpectedRunners(clock: Clock): ExpectedRunners {
  const byRun = new Map<string, ExpectedRunner>();
  const byToken = new Map<string, (connection: FrameConnection) => string>();

  function add(run: string, tokenHash: string, handler: RunnerHandler): ExpectedRunner {
    if (byRun.has(run)) throw new Error(`a runner of run ${run} is there already`);
    let connection: FrameConnection | undefined;
    let isOver = false;
    let tellEnded: () => void;
    const ended = new Promise<void>(resolve => {
      tellEnded = resolve;
    });

    function connect(next: FrameConnection): string {
      connection?.destroy();
      connection = next;
      handler.onConnection(next);
      return run;
    }

    async function tell(exit: RunnerExit): Promise<void> {
      await lastFrames(connection, clock);
      byRun.delete(run);
      handler.onExit(exit);
      tellEnded();
    }

    const runner: ExpectedRunner = {
      run,
      handler,
      end(exit) {
        if (isOver) return;
        isOver = true;
        byToken.delete(tokenHash);
        void tell(exit);
      },
      ended,
    };
    byRun.set(run, runner);
    byToken.set(tokenHash, connect);
    return runner;
  }

  return {
    add,
    find: run => byRun.get(run),
    all: () => [...byRun.values()],
    connect: (tokenHash, connection) => byToken.get(tokenHash)?.(connection),
  };
}

async function lastFrames(connection: FrameConnection | undefined, clock: Clock): Promise<void> {
  if (!connection || connection.closed) return;
  await new Promise<void>(resolve => {
    const patience = clock.after(lastFramesMs, () => connection.destroy());
    connection.onClose(() => {
      patience.cancel();
      resolve();
    });
  });
}
