/**
 * A stream goes as fast as its reader reads. What waits for a reader is bounded in bytes, and so is the time for which one
 * that takes nothing is waited for.
 */
import type { ServerWritableStream } from '@grpc/grpc-js';
import type { Clock } from '../../../base/clock.js';
import { RollcallError } from '../../../base/errors.js';
import { endCall } from './call-end.js';

/** Bytes that may wait for one reader; the last message may exceed them. */
export const maxUnreadBytes = 64 * 1024;
/** A reader that takes nothing for so long has gone, or never meant to read, ms. */
export const stillMs = 5 * 60_000;

export class ReaderPace<Q, A> {
  readonly #call: ServerWritableStream<Q, A>;
  readonly #clock: Clock;
  #unreadBytes = 0;
  #wake = (): void => undefined;

  constructor(call: ServerWritableStream<Q, A>, clock: Clock) {
    this.#call = call;
    this.#clock = clock;
    call.on('cancelled', () => this.#wake());
  }

  get hasRoom(): boolean {
    return this.#unreadBytes < maxUnreadBytes;
  }

  /** The reader has gone. */
  isOver(): boolean {
    return this.#call.cancelled || this.#call.destroyed || this.#call.writableEnded;
  }

  /** `bytes` is what the message takes, near enough. */
  write(message: A, bytes: number): void {
    if (this.isOver()) return;
    this.#unreadBytes += bytes;
    this.#call.write(message, () => {
      this.#unreadBytes -= bytes;
      this.#wake();
    });
  }

  /** Resolves when there is room for more, or nobody reads any more. */
  async room(): Promise<void> {
    while (!this.hasRoom && !this.isOver()) {
      const still = this.#clock.after(stillMs, () => endCall(this.#call, tooStill()));
      await new Promise<void>(resolve => (this.#wake = resolve));
      still.cancel();
    }
  }
}

function tooStill(): RollcallError {
  return new RollcallError('DEADLINE_EXCEEDED', 'nothing of the stream was read in time');
}
