/**
 * The runner of one run: started with the first message that needs it, kept for the next ones, and started anew when it is
 * gone. It gives its place up between two messages when other runs wait for one and it has been idle, or has had its turn;
 * nothing is lost by that, because the state of the run is in the journal.
 */
import type { Timer } from '../../base/clock.js';
import type { RunnerExit } from '../../app-host/hosting/hosting.js';
import type { ObjectRoom } from '../../objects/object-store.js';
import type { NodeConfig } from '../node-config.js';
import type { NodeApp } from './app-source.js';
import { startHalfRunner, type HalfListener, type HalfRunner, type StartedHalf } from './runner-session.js';
import type { Place } from './runner-slots.js';
import type { RunContext } from './run-context.js';

export interface RunRunnerOptions {
  readonly run: bigint;
  readonly context: RunContext;
  readonly listener: HalfListener;
  readonly room: () => Promise<ObjectRoom>;
  /** The run is over. */
  readonly ending: AbortSignal;
}

export interface RunRunner {
  /** One that is ready; waits for a place, and for an app host. One caller at a time, who calls `idle` when it is done. */
  take(app: NodeApp, config: object, signal: AbortSignal): Promise<StartedHalf>;
  idle(): void;
  /** Resolves when it is gone. */
  stop(note: string): Promise<void>;
}

/** While others wait: for how long a runner may be idle, and how long it may go on, ms. */
export const turnLimits = { idleMs: 10_000, busyMs: 60_000 } as const;

interface Kept {
  readonly half: HalfRunner;
  readonly place: Place;
  readonly since: number;
}

export function createRunRunner({ run, context, listener, room, ending }: RunRunnerOptions): RunRunner {
  const { clock, places } = context;
  let kept: Kept | undefined;
  let isBusy = false;
  let isWanted = false;
  let idleTimer: Timer | undefined;

  function onWanted(): void {
    isWanted = true;
    if (!isBusy) giveWaySoon();
  }

  function giveWaySoon(): void {
    idleTimer?.cancel();
    idleTimer = clock.after(turnLimits.idleMs, () => {
      if (!isBusy) void kept?.half.stop('it was idle, and others waited');
    });
  }

  async function start(app: NodeApp, config: object, signal: AbortSignal): Promise<StartedHalf> {
    isWanted = false;
    const place = await places.take(onWanted, signal);
    try {
      const started = await startWith(app, config, signal);
      if (started.kind === 'ready') keep(started.half, place);
      else place.release();
      return started;
    } catch (error) {
      place.release();
      throw error;
    }
  }

  function keep(half: HalfRunner, place: Place): void {
    const mine: Kept = { half, place, since: clock.elapsed() };
    kept = mine;
    void half.exited.then((exit: RunnerExit) => {
      place.release();
      if (kept === mine) kept = undefined;
      if (!isBusy && exit.note === '')
        listener.onLog(Math.round(clock.now()), 'warn', `the process of the node half ${describeExit(exit)}`);
    });
  }

  async function startWith(app: NodeApp, config: object, signal: AbortSignal): Promise<StartedHalf> {
    const hosting = await context.hosting(signal);
    const journal = await context.journal(signal);
    const state = await context.persist(() => journal.findState(run), signal);
    const { nodeId } = await context.link.whenLive(signal);
    const { name, version, entry, language, archiveBytes } = app;
    const node = { id: nodeId.toString(), config: toJson(context.nodeConfig) };
    return startHalfRunner(
      {
        hosting,
        start: {
          run,
          language,
          memoryBytes: context.memoryBytes,
          welcome: { app: { name, version, entry }, config, node },
          archiveBytes,
          readArchive: () => app.readArchive(),
          state,
        },
        room: await room(),
        listener,
        clock,
        random: context.random,
      },
      ending,
    );
  }

  return {
    async take(app, config, signal) {
      isBusy = true;
      idleTimer?.cancel();
      if (kept && isWanted && clock.elapsed() - kept.since >= turnLimits.busyMs)
        await kept.half.stop('it had its turn, and others waited');
      if (kept?.half.isOver) await kept.half.exited;
      return kept ? { kind: 'ready', half: kept.half } : start(app, config, signal);
    },
    idle() {
      isBusy = false;
      if (isWanted && kept) giveWaySoon();
    },
    async stop(note) {
      idleTimer?.cancel();
      await kept?.half.stop(note);
    },
  };
}

/** For people: `ended with code 1`. */
export function describeExit({ code, signal, note }: RunnerExit): string {
  const how =
    signal !== null ? `was ended by ${signal}` : code === null ? 'ended' : `ended with code ${code}`;
  return note === '' ? how : `${how}: ${note}`;
}

/** JSON has no integers beyond 2^53. */
function toJson(config: NodeConfig): object {
  const entries = Object.entries(config).map(([name, value]) => [
    name,
    typeof value === 'bigint' ? { integer: value.toString() } : value,
  ]);
  return Object.fromEntries(entries) as object;
}
