/**
 * The connection of a server half as the link uses it: memory is bounded in both directions, and a store that fails in passing
 * does not end it.
 */
import type { FrameConnection } from '../../../app-host/wire/frames.js';
import type { Clock } from '../../../base/clock.js';
import { toRollcallError } from '../../../base/errors.js';
import { untilStored } from '../../../store/retry.js';

/** While more work than this is open, no frame is read. */
const maxOpenWork = 256;

export class ServerConnection {
  readonly frames: FrameConnection;
  readonly #clock: Clock;
  readonly #work = new Set<Promise<unknown>>();
  /** Pauses the reading while much waits to be written. */
  readonly #unwritten = {};

  constructor(frames: FrameConnection, clock: Clock) {
    this.frames = frames;
    this.#clock = clock;
  }

  /** While the half does not read what was sent, nothing is read from it either. */
  say(name: string, value: object): void {
    if (this.frames.send(name, value)) return;
    this.frames.pause(this.#unwritten);
    void this.frames.drained().then(() => this.frames.resume(this.#unwritten));
  }

  /** Ends the connection with the error's message. */
  refuse(error: unknown): void {
    this.frames.bye(toRollcallError(error).message);
  }

  /** Counts the work as open until it ends. Work that fails ends the connection. */
  track(work: Promise<unknown>): void {
    const done = work
      .catch((error: unknown) => this.refuse(error))
      .finally(() => {
        this.#work.delete(done);
        if (this.#work.size === maxOpenWork) this.frames.resume();
      });
    this.#work.add(done);
    if (this.#work.size > maxOpenWork) this.frames.pause();
  }

  /** Resolves when all work that is open now has ended. */
  async workDone(): Promise<void> {
    await Promise.all(this.#work);
  }

  /** Repeats the work while the store fails in passing, until the connection is closed. */
  whileOpen<T>(work: () => Promise<T>): Promise<T> {
    return untilStored(this.#clock, work, () => !this.frames.closed);
  }
}
