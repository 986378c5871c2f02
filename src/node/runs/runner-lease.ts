/**
 * The hold of one run on a runner: started with the first message that needs it, kept for the next ones, and started anew
 * when it is gone. While other runs wait for a slot, it gives its slot up between two messages once it has been idle or has
 * had its turn; nothing is lost by that, because the state of the run is in the journal.
 */
import type { Timer } from '../../base/clock.js';
import type { RunnerExit } from '../../app-host/hosting/hosting.js';
import type { ObjectBucket } from '../../objects/object-store.js';
import type { NodeConfig } from '../node-config.js';
import type { NodeApp } from './app-source.js';
import type { RunContext } from './run-context.js';
import type { RunnerListener } from './runner-frames.js';
import { RunnerSession, type StartedRunner } from './runner-session.js';
import type { Slot } from './runner-slots.js';

export interface RunnerLeaseOptions {
  readonly run: bigint;
  readonly context: RunContext;
  readonly listener: RunnerListener;
  /** For the contents of the runner's answers. */
  readonly openBucket: () => Promise<ObjectBucket>;
  /** The run is over. */
  readonly ending: AbortSignal;
}

/** While others wait: how long a runner may be idle, and how long it may go on, ms. */
export const turnLimits = { idleMs: 10_000, busyMs: 60_000 } as const;

interface Held {
  readonly session: RunnerSession;
  readonly since: number;
}

export class RunnerLease {
  readonly #options: RunnerLeaseOptions;
  #held: Held | undefined;
  #isBusy = false;
  /** Another run waits for the slot. */
  #isWanted = false;
  #idleTimer: Timer | undefined;

  constructor(options: RunnerLeaseOptions) {
    this.#options = options;
  }

  /** A runner that is ready; waits for a slot, and for an app host. One caller at a time, who calls `release` when done. */
  async take(app: NodeApp, config: object, signal: AbortSignal): Promise<StartedRunner> {
    this.#isBusy = true;
    this.#idleTimer?.cancel();
    const held = this.#held;
    if (held && this.#isWanted && this.#heldMs(held) >= turnLimits.busyMs)
      await held.session.stop('it had its turn, and others waited');
    if (this.#held?.session.isOver) await this.#held.session.exited;
    return this.#held ? { kind: 'ready', session: this.#held.session } : this.#start(app, config, signal);
  }

  /** The runner is kept for the next message. */
  release(): void {
    this.#isBusy = false;
    if (this.#isWanted && this.#held) this.#giveWaySoon();
  }

  /** Resolves when the runner is gone. */
  async stop(note: string): Promise<void> {
    this.#idleTimer?.cancel();
    await this.#held?.session.stop(note);
  }

  #heldMs({ since }: Held): number {
    return this.#options.context.clock.elapsed() - since;
  }

  #onWanted(): void {
    this.#isWanted = true;
    if (!this.#isBusy) this.#giveWaySoon();
  }

  #giveWaySoon(): void {
    this.#idleTimer?.cancel();
    this.#idleTimer = this.#options.context.clock.after(turnLimits.idleMs, () => {
      if (!this.#isBusy) void this.#held?.session.stop('it was idle, and others waited');
    });
  }

  async #start(app: NodeApp, config: object, signal: AbortSignal): Promise<StartedRunner> {
    this.#isWanted = false;
    const slot = await this.#options.context.runnerSlots.take(() => this.#onWanted(), signal);
    try {
      const started = await this.#startSession(app, config, signal);
      if (started.kind === 'ready') this.#hold(started.session, slot);
      else slot.release();
      return started;
    } catch (error) {
      slot.release();
      throw error;
    }
  }

  #hold(session: RunnerSession, slot: Slot): void {
    const { context, listener } = this.#options;
    const held: Held = { session, since: context.clock.elapsed() };
    this.#held = held;
    void session.exited.then((exit: RunnerExit) => {
      slot.release();
      if (this.#held === held) this.#held = undefined;
      if (this.#isBusy || exit.note !== '') return;
      const text = `the process of the node half ${describeExit(exit)}`;
      listener.onLog(Math.round(context.clock.now()), 'warn', text);
    });
  }

  async #startSession(app: NodeApp, config: object, signal: AbortSignal): Promise<StartedRunner> {
    const { run, context, listener, openBucket, ending } = this.#options;
    const hosting = await context.hosting(signal);
    const journal = await context.journal(signal);
    const state = await context.persist(() => journal.findState(run), signal);
    const { nodeId } = await context.link.whenLive(signal);
    const { name, version, entry, language, archiveBytes } = app;
    const node = { id: nodeId.toString(), config: toJson(context.nodeConfig) };
    const welcome = { app: { name, version, entry }, config, node };
    const { memoryBytes, clock, random } = context;
    const readArchive = (): AsyncIterable<Buffer> => app.readArchive();
    const start = { run, language, memoryBytes, welcome, archiveBytes, readArchive, state };
    return RunnerSession.start(
      { hosting, start, bucket: await openBucket(), listener, clock, random },
      ending,
    );
  }
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
