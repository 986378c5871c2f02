/**
 * The connection of a server half as the link uses it: memory is bounded in both directions, and a temporary failure of the
 * store does not end it.
 */
import type { FrameConnection } from '../../../app-host/wire/frames.js';
import type { Clock } from '../../../base/clock.js';
import { toRollcallError } from '../../../base/errors.js';
import { untilStored } from '../../../store/retry.js';

/** No frame is read while more operations than this are open. */
const maxOpenWork = 256;

export class ServerConnection {
  readonly frames: FrameConnection;
  readonly #clock: Clock;
  readonly #work = new Set<Promise<unknown>>();
  /** Identifies the pause for a full write buffer. */
  readonly #unwritten = {};

  constructor(frames: FrameConnection, clock: Clock) {
    this.frames = frames;
    this.#clock = clock;
  }

  /** Sends a frame. Nothing is read from the half until it has read what was sent. */
  send(name: string, value: object): void {
    if (this.frames.send(name, value)) return;
    this.frames.pause(this.#unwritten);
    void this.frames.drained().then(() => this.frames.resume(this.#unwritten));
  }

  /** Ends the connection with the error's message. */
  refuse(error: unknown): void {
    this.frames.bye(toRollcallError(error).message);
  }

  /** Counts the work as open until it settles. A failure ends the connection. */
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

  /** Resolves when all work that is open now has settled. */
  async workDone(): Promise<void> {
    await Promise.all(this.#work);
  }

  /** Retries the work after temporary failures of the store, until the connection is closed. */
  whileOpen<T>(work: () => Promise<T>): Promise<T> {
    return untilStored(this.#clock, work, () => !this.frames.closed);
  }
}
