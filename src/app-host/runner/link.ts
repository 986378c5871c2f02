/**
 * The connection of a server half, which outlives the link it leads to: when it is lost, it is opened again, with growing
 * pauses, for five minutes. What was on its way is for whoever sent it to send again: `onConnected` says when.
 */
import type { Clock } from '../../base/clock.js';
import { isRollcallError, RollcallError, toRollcallError } from '../../base/errors.js';
import { visibleText } from '../../base/text.js';
import type { Frame, FrameConnection } from '../wire/frames.js';
import type { RunnerConnection } from './connection.js';
import { createObjectTransfer, type ObjectTransfer } from './objects.js';

export interface RunnerLink {
  /** False when so much waits to be written that one should wait for `ready`. Nothing is sent while there is no connection. */
  send(name: string, value: object, body?: Uint8Array): boolean;
  /** Resolves when there is a connection with room. */
  ready(): Promise<void>;
  /** Does the work on the connection there is, and again on the next one when that is lost meanwhile. */
  withObjects<T>(work: (objects: ObjectTransfer) => Promise<T>): Promise<T>;
  /**
   * Begins: gives the frames that are not about objects, and calls `onConnected` now and after every reconnect. Resolves when
   * it was closed; rejects when it was lost for too long, or the other side wants no more of it.
   */
  run(listeners: LinkListeners): Promise<void>;
  close(): void;
}

export interface LinkListeners {
  readonly onFrame: (frame: Frame) => void;
  readonly onConnected: () => void;
}

export interface RunnerLinkOptions {
  readonly first: FrameConnection;
  readonly open: () => Promise<RunnerConnection>;
  readonly clock: Clock;
}

interface Connected {
  readonly connection: FrameConnection;
  readonly objects: ObjectTransfer;
}

const firstPauseMs = 50;
const longestPauseMs = 2_000;
const giveUpMs = 5 * 60_000;
/** So often it may be told bye and come again: what it sends anew may be what was wrong. A while without one, and they count no more. */
const mostByes = 3;
const byesCountMs = 30_000;

export function createRunnerLink({ first, open, clock }: RunnerLinkOptions): RunnerLink {
  let current: Connected | undefined = connected(first);
  let waiting: ((now: Connected) => void)[] = [];
  let byes = 0;
  let lastBye = '';
  let isClosed = false;

  function connected(connection: FrameConnection): Connected {
    return { connection, objects: createObjectTransfer(connection) };
  }

  function wait(): Promise<Connected> {
    return current ? Promise.resolve(current) : new Promise(resolve => waiting.push(resolve));
  }

  /** Until it is lost. */
  function serve(now: Connected, { onFrame, onConnected }: LinkListeners): Promise<void> {
    const lost = new Promise<void>(resolve => now.connection.onClose(resolve));
    onConnected();
    for (const resolve of waiting) resolve(now);
    waiting = [];
    now.connection.onFrame(frame => {
      if (now.objects.take(frame)) return;
      if (frame.name === 'bye') {
        byes += 1;
        lastBye = visibleText(String(frame.value['message']));
      } else onFrame(frame);
    });
    return lost;
  }

  async function reopen(): Promise<Connected> {
    const lostAt = clock.elapsed();
    for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(longestPauseMs, pauseMs * 2)) {
      await new Promise<void>(resolve => void clock.after(pauseMs, resolve));
      try {
        return connected((await open()).connection);
      } catch (error) {
        const isPassing = isRollcallError(error, 'LINK_UNREACHABLE');
        if (!isPassing || clock.elapsed() - lostAt > giveUpMs) throw toRollcallError(error);
      }
    }
  }

  return {
    send: (name, value, body) => current?.connection.send(name, value, body) ?? false,
    async ready() {
      const { connection } = await wait();
      await connection.drained();
      if (connection.closed) await wait();
    },
    async withObjects(work) {
      for (;;) {
        const now = await wait();
        try {
          return await work(now.objects);
        } catch (error) {
          if (!now.connection.closed) throw error;
          // Told to `serve` in this very turn: the next wait is for the next connection.
          if (current === now) current = undefined;
        }
      }
    },
    async run(listeners) {
      for (let next = current; next;) {
        current = next;
        const servedFrom = clock.elapsed();
        await serve(next, listeners);
        current = undefined;
        if (isClosed) return;
        if (clock.elapsed() - servedFrom > byesCountMs) byes = 0;
        if (byes >= mostByes) throw new RollcallError('TOKEN_REFUSED', `refused: ${lastBye}`);
        next = await reopen();
      }
    },
    close() {
      isClosed = true;
      current?.connection.destroy();
    },
  };
}
