/**
 * The connection of a server half, which outlives the link it leads to: when it is lost, it is opened again, with growing
 * pauses, for five minutes. Frames that were on their way are sent again by their sender, on `onConnected`.
 */
import type { Clock } from '../../base/clock.js';
import { isRollcallError, RollcallError, toRollcallError } from '../../base/errors.js';
import { visibleText } from '../../base/text.js';
import { sleep } from '../../base/wait.js';
import type { Frame, FrameConnection } from '../wire/frames.js';
import type { RunnerConnection } from './connection.js';
import { ObjectTransfer } from './objects.js';

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

const minPauseMs = 50;
const maxPauseMs = 2_000;
const giveUpMs = 5 * 60_000;
/** Refused on this many connections, it is given up: what it sends again on each may be what is refused. */
const maxByes = 3;
/** A connection that lasts this long begins the count anew. */
const byesCountMs = 30_000;

export class RunnerLink {
  readonly #options: RunnerLinkOptions;
  #current: Connected | undefined;
  #waiting: ((now: Connected) => void)[] = [];
  #byes = 0;
  #lastBye = '';
  #isClosed = false;

  constructor(options: RunnerLinkOptions) {
    this.#options = options;
    this.#current = connected(options.first);
  }

  /** False when so much waits to be written that one should wait for `ready`. Without a connection, nothing is sent. */
  send(name: string, value: object, body?: Uint8Array): boolean {
    return this.#current?.connection.send(name, value, body) ?? false;
  }

  /** Resolves when there is a connection with room. */
  async ready(): Promise<void> {
    const { connection } = await this.#wait();
    await connection.drained();
    if (connection.closed) await this.#wait();
  }

  /** Does the work on the present connection, and again on the next one when that is lost meanwhile. */
  async withObjects<T>(work: (objects: ObjectTransfer) => Promise<T>): Promise<T> {
    for (;;) {
      const now = await this.#wait();
      try {
        return await work(now.objects);
      } catch (error) {
        if (!now.connection.closed) throw error;
        // `run` hears of the loss in this very turn: the next wait must be for the next connection.
        if (this.#current === now) this.#current = undefined;
      }
    }
  }

  /**
   * Gives the frames that are not about objects to `onFrame`, and calls `onConnected` now and after every reconnect. Resolves
   * when it was closed; rejects when the connection was lost for too long, or the other side refuses it.
   */
  async run(listeners: LinkListeners): Promise<void> {
    const { clock } = this.#options;
    for (let next = this.#current; next;) {
      this.#current = next;
      const servedFrom = clock.elapsed();
      await this.#serve(next, listeners);
      this.#current = undefined;
      if (this.#isClosed) return;
      if (clock.elapsed() - servedFrom > byesCountMs) this.#byes = 0;
      if (this.#byes >= maxByes) throw new RollcallError('TOKEN_REFUSED', `refused: ${this.#lastBye}`);
      next = await this.#reopen();
    }
  }

  close(): void {
    this.#isClosed = true;
    this.#current?.connection.destroy();
  }

  #wait(): Promise<Connected> {
    const current = this.#current;
    return current ? Promise.resolve(current) : new Promise(resolve => this.#waiting.push(resolve));
  }

  /** Resolves when the connection is lost. */
  #serve(now: Connected, { onFrame, onConnected }: LinkListeners): Promise<void> {
    const lost = new Promise<void>(resolve => now.connection.onClose(resolve));
    onConnected();
    for (const resolve of this.#waiting) resolve(now);
    this.#waiting = [];
    now.connection.onFrame(frame => {
      if (now.objects.take(frame)) return;
      if (frame.name === 'bye') {
        this.#byes += 1;
        this.#lastBye = visibleText(String(frame.value['message']));
      } else onFrame(frame);
    });
    return lost;
  }

  async #reopen(): Promise<Connected> {
    const { clock, open } = this.#options;
    const lostAt = clock.elapsed();
    for (let pauseMs = minPauseMs; ; pauseMs = Math.min(maxPauseMs, pauseMs * 2)) {
      await sleep(clock, pauseMs);
      try {
        return connected((await open()).connection);
      } catch (error) {
        const isPassing = isRollcallError(error, 'LINK_UNREACHABLE');
        if (!isPassing || clock.elapsed() - lostAt > giveUpMs) throw toRollcallError(error);
      }
    }
  }
}

function connected(connection: FrameConnection): Connected {
  return { connection, objects: new ObjectTransfer(connection) };
}
