/**
 * The answers to some messages, as the app iterates over them: decoded in the order in which they come, and only a few ahead of
 * the app, so that an app that is slow does not hold all of them in memory.
 */
import type { GridProgress, GridReply, MessageFailure, Replies } from '../../app/app.js';
import { decodeContent } from '../../app/content.js';
import { isRollcallError, toRollcallError } from '../../base/errors.js';
import type { RawAnswer } from './message-frames.js';
import type { AnswerReceiver } from './messages.js';
import type { ObjectName } from './objects.js';
import type { WaitingReaders } from './waiting-readers.js';

export interface RepliesOptions {
  readonly readObject: (object: ObjectName) => Promise<Buffer>;
  readonly taken: (number: number) => void;
  readonly waitingReaders: WaitingReaders;
  /** Aborted when no further answer will come. */
  readonly signal: AbortSignal;
  readonly onProgress?: ((progress: GridProgress) => void) | undefined;
}

interface Arrived {
  readonly number: number;
  readonly answer: RawAnswer;
}

type Next = IteratorResult<GridReply, undefined>;

const maxAhead = 64;

export class OpenReplies implements AnswerReceiver {
  readonly #options: RepliesOptions;
  readonly #arrived: Arrived[] = [];
  readonly #decoded: GridReply[] = [];
  readonly #progress = { sent: 0, answered: 0, failed: 0 };
  #expected: number | undefined;
  /** The app has left its loop and reads no further answer. */
  #isLeft = false;
  #isDecoding = false;
  #sleepers: (() => void)[] = [];
  readonly #wake = (): void => {
    this.#options.signal.removeEventListener('abort', this.#wake);
    for (const wake of this.#sleepers) wake();
    this.#sleepers = [];
  };
  readonly #decodeOn = (): void => void this.#decode();

  constructor(options: RepliesOptions) {
    this.#options = options;
  }

  /** For the app. */
  asReplies(): Replies {
    const progress = this.#progress;
    return {
      [Symbol.asyncIterator]: () => ({ next: () => this.#next(), return: () => this.#leave() }),
      get progress() {
        return { ...progress };
      },
    };
  }

  /** This many answers will come. */
  expect(count: number): void {
    this.#expected = count;
    this.#wake();
  }

  onAccepted(): void {
    this.#progress.sent += 1;
  }

  onAnswer(number: number, answer: RawAnswer): void {
    this.#arrived.push({ number, answer });
    this.#decodeOn();
  }

  onProgress(progress: GridProgress): void {
    const { onProgress } = this.#options;
    // An error that it throws is the app's, not one of the connection.
    if (onProgress && !this.#isLeft) queueMicrotask(() => onProgress(progress));
  }

  async #next(): Promise<Next> {
    for (;;) {
      this.#options.signal.throwIfAborted();
      const value = this.#decoded.shift();
      if (value) {
        this.#decodeOn();
        return { done: false, value };
      }
      if (this.#isLeft || this.#progress.answered === this.#expected) return { done: true, value: undefined };
      await this.#sleep();
    }
  }

  #leave(): Promise<Next> {
    this.#isLeft = true;
    this.#decoded.length = 0;
    this.#decodeOn();
    this.#wake();
    return Promise.resolve({ done: true, value: undefined });
  }

  async #sleep(): Promise<void> {
    const { signal, waitingReaders } = this.#options;
    signal.addEventListener('abort', this.#wake);
    const woken = new Promise<void>(resolve => this.#sleepers.push(resolve));
    waitingReaders.begin();
    await woken;
    waitingReaders.end();
  }

  #hasRoom(): boolean {
    return !this.#isLeft && (this.#decoded.length < maxAhead || this.#options.waitingReaders.areThere);
  }

  async #decode(): Promise<void> {
    if (this.#isDecoding) return;
    this.#isDecoding = true;
    const { readObject, taken, waitingReaders } = this.#options;
    for (let next = this.#arrived[0]; next && this.#hasRoom(); next = this.#arrived[0]) {
      const reply = await decode(next, readObject);
      this.#arrived.shift();
      this.#keep(reply);
      taken(next.number);
      this.#wake();
    }
    this.#isDecoding = false;
    if (this.#isLeft) for (const { number } of this.#arrived.splice(0)) taken(number);
    else if (this.#arrived.length > 0) waitingReaders.onNext(this.#decodeOn);
  }

  #keep(reply: GridReply): void {
    if (!this.#isLeft) this.#decoded.push(reply);
    this.#progress.answered += 1;
    if (reply.error) this.#progress.failed += 1;
  }
}

/** An answer that cannot be decoded becomes an error. */
async function decode(
  { number: message, answer }: Arrived,
  readObject: RepliesOptions['readObject'],
): Promise<GridReply> {
  const { node } = answer;
  if ('error' in answer) return { message, node, error: answer.error };
  try {
    const bytes = 'bytes' in answer ? answer.bytes : await readObject(answer.object);
    return { message, node, content: decodeContent(bytes) };
  } catch (error) {
    return { message, node, error: failureOf(error) };
  }
}

function failureOf(error: unknown): MessageFailure {
  const { message } = toRollcallError(error);
  return { code: isRollcallError(error, 'NOT_FOUND') ? 'OBJECT_LOST' : 'APP_INVALID', message };
}
