/**
 * The link as runs see it: there now, or not. Sessions come and go; work that needs one waits for it, and is retried after a
 * failure on the next session, or on the same one after a pause.
 */
import type { Clock } from '../../base/clock.js';
import { toRollcallError, type RollcallError } from '../../base/errors.js';
import { deferred, withAbort } from '../../base/wait.js';
import type { NodeId } from '../../identity/node-id.js';
import type { SentFrame } from '../connection.js';
import type { ObjectsLink } from '../object-connection.js';

/** A welcomed session. */
export interface LiveLink {
  readonly nodeId: NodeId;
  readonly objects: ObjectsLink;
  /** Gives false when frames wait to be read by the link: then wait for `drained`. Does nothing when the session is over. */
  send(frame: SentFrame): boolean;
  /** Resolves when none wait any more, or the session is over. */
  drained(): Promise<void>;
}

const retryPauses = { firstMs: 500, maxMs: 30_000 } as const;

export class LinkHolder {
  readonly #clock: Clock;
  readonly #onFailure: (error: RollcallError, retryInMs: number) => void;
  readonly #listeners = new Set<() => void>();
  #live: LiveLink | undefined;

  /** `onFailure` hears of failures that are retried. */
  constructor(clock: Clock, onFailure: (error: RollcallError, retryInMs: number) => void = () => undefined) {
    this.#clock = clock;
    this.#onFailure = onFailure;
  }

  get live(): LiveLink | undefined {
    return this.#live;
  }

  set(next: LiveLink | undefined): void {
    this.#live = next;
    for (const listener of [...this.#listeners]) listener();
  }

  /** Rejects when the signal is aborted. */
  async whenLive(signal: AbortSignal): Promise<LiveLink> {
    signal.throwIfAborted();
    while (!this.#live) await this.#change(signal);
    return this.#live;
  }

  /** Works with a link, again and again until the work succeeds or `isFinal` says that it never will. */
  async persist<T>(
    work: (live: LiveLink) => Promise<T>,
    isFinal: (error: RollcallError) => boolean,
    signal: AbortSignal,
  ): Promise<T> {
    const { firstMs, maxMs } = retryPauses;
    for (let pauseMs: number = firstMs; ; pauseMs = Math.min(2 * pauseMs, maxMs)) {
      const current = await this.whenLive(signal);
      try {
        return await work(current);
      } catch (thrown) {
        signal.throwIfAborted();
        const error = toRollcallError(thrown);
        if (isFinal(error)) throw error;
        if (current === this.#live) this.#onFailure(error, pauseMs);
      }
      if (current === this.#live) await this.#change(signal, pauseMs);
    }
  }

  /** Resolves at the next change of the link, after this time at the latest. */
  async #change(signal: AbortSignal, timeoutMs?: number): Promise<void> {
    const { promise: changed, resolve } = deferred();
    const timer = timeoutMs === undefined ? undefined : this.#clock.after(timeoutMs, resolve);
    this.#listeners.add(resolve);
    try {
      await withAbort(changed, signal);
    } finally {
      timer?.cancel();
      this.#listeners.delete(resolve);
    }
  }
}
