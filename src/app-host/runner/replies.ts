/**
 * The answers to some messages, as the app iterates over them: decoded in the order in which they come, a few ahead of the
 * app and no more, so that an app that is slow does not hold all of them in memory.
 */
import type { GridProgress, GridReply, MessageFailure, Replies } from '../../app/app.js';
import { decodeContent } from '../../app/content.js';
import { isRollcallError, toRollcallError } from '../../base/errors.js';
import type { ObjectName } from './objects.js';
import type { AnswerReceiver, RawAnswer } from './messages.js';

export interface OpenReplies {
  /** For the app. */
  readonly replies: Replies;
  readonly receiver: AnswerReceiver;
  /** So many answers will come, and no more. */
  expect(count: number): void;
}

export interface RepliesOptions {
  readonly readObject: (object: ObjectName) => Promise<Buffer>;
  readonly taken: (number: number) => void;
  readonly hunger: Hunger;
  /** Aborted when there is nothing more to wait for. */
  readonly signal: AbortSignal;
  readonly onProgress?: ((progress: GridProgress) => void) | undefined;
}

/**
 * Loops of the app that wait and have nothing. While there is one, nobody's answers are held back: the link gives only so many
 * that are not taken, and what that loop waits for may come after them.
 */
export interface Hunger {
  begin(): void;
  end(): void;
  isThere(): boolean;
  /** Called once, when there is one; the same function is kept once. */
  onceThere(call: () => void): void;
}

export function createHunger(): Hunger {
  let loops = 0;
  const calls = new Set<() => void>();
  return {
    begin() {
      loops += 1;
      const called = [...calls];
      calls.clear();
      for (const call of called) call();
    },
    end: () => void (loops -= 1),
    isThere: () => loops > 0,
    onceThere: call => void calls.add(call),
  };
}

interface Arrived {
  readonly number: number;
  readonly answer: RawAnswer;
}

const mostAhead = 64;

export function createReplies({
  readObject,
  taken,
  hunger,
  signal,
  onProgress,
}: RepliesOptions): OpenReplies {
  const arrived: Arrived[] = [];
  const decoded: GridReply[] = [];
  const progress = { sent: 0, answered: 0, failed: 0 };
  let expected: number | undefined;
  /** The app has left its loop: whatever else comes is of no use. */
  let isLeft = false;
  let isDecoding = false;
  let sleepers: (() => void)[] = [];

  function wake(): void {
    signal.removeEventListener('abort', wake);
    for (const each of sleepers) each();
    sleepers = [];
  }

  async function sleep(): Promise<void> {
    signal.addEventListener('abort', wake);
    const woken = new Promise<void>(resolve => sleepers.push(resolve));
    hunger.begin();
    await woken;
    hunger.end();
  }

  function hasRoom(): boolean {
    return !isLeft && (decoded.length < mostAhead || hunger.isThere());
  }

  function hasLeft(): boolean {
    return isLeft;
  }

  async function decodeOn(): Promise<void> {
    if (isDecoding) return;
    isDecoding = true;
    for (let next = arrived[0]; next && hasRoom(); next = arrived[0]) {
      const reply = await decode(next, readObject);
      arrived.shift();
      if (!hasLeft()) decoded.push(reply);
      progress.answered += 1;
      if (reply.error) progress.failed += 1;
      taken(next.number);
      wake();
    }
    isDecoding = false;
    if (isLeft) for (const { number } of arrived.splice(0)) taken(number);
    else if (arrived.length > 0) hunger.onceThere(goOn);
  }

  function goOn(): void {
    void decodeOn();
  }

  async function next(): Promise<IteratorResult<GridReply, undefined>> {
    for (;;) {
      signal.throwIfAborted();
      const reply = decoded.shift();
      if (reply) {
        void decodeOn();
        return { done: false, value: reply };
      }
      if (isLeft || progress.answered === expected) return { done: true, value: undefined };
      await sleep();
    }
  }

  function leave(): Promise<IteratorResult<GridReply, undefined>> {
    isLeft = true;
    decoded.length = 0;
    void decodeOn();
    wake();
    return Promise.resolve({ done: true, value: undefined });
  }

  return {
    replies: {
      [Symbol.asyncIterator]: () => ({ next, return: leave }),
      get progress() {
        return { ...progress };
      },
    },
    receiver: {
      onAccepted: () => void (progress.sent += 1),
      onAnswer(number, answer) {
        arrived.push({ number, answer });
        void decodeOn();
      },
      onProgress(each) {
        // What it throws is the app's error, not one of the connection.
        if (onProgress && !isLeft) queueMicrotask(() => onProgress(each));
      },
    },
    expect(count) {
      expected = count;
      wake();
    },
  };
}

/** An answer that cannot be read is an error like any other. */
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
