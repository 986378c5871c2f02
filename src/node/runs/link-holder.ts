/**
 * The link as runs see it: there now, or not. Sessions come and go; work that needs one waits for it, and what failed with
 * it is tried again on the next, or on the same after a pause.
 */
import type { Clock } from '../../base/clock.js';
import { toRollcallError, type RollcallError } from '../../base/errors.js';
import type { NodeId } from '../../identity/node-id.js';
import type { NodeFrame, ObjectsClient } from '../../protocol/generated/rollcall/v1/link.js';

export type OutgoingFrame = NonNullable<NodeFrame['frame']>;

/** A welcomed session. */
export interface LiveLink {
  readonly nodeId: NodeId;
  readonly objects: ObjectsClient;
  /** Gives false when frames wait to be read by the link: then wait for `drained`. Nothing on one that is over. */
  send(frame: OutgoingFrame): boolean;
  /** Resolves when none wait any more, or the session is over. */
  drained(): Promise<void>;
}

export interface LinkHolder {
  readonly live: LiveLink | undefined;
  set(live: LiveLink | undefined): void;
  /** Rejects when the signal says so. */
  whenLive(signal: AbortSignal): Promise<LiveLink>;
  /** Does the work when there is a link, again and again until it succeeds or `isFinal` says that it never will. */
  persist<T>(
    work: (live: LiveLink) => Promise<T>,
    isFinal: (error: RollcallError) => boolean,
    signal: AbortSignal,
  ): Promise<T>;
}

const pauses = { firstMs: 500, mostMs: 30_000 } as const;

/** `onFailure` hears of what will be tried again. */
export function createLinkHolder(
  clock: Clock,
  onFailure: (error: RollcallError, retryInMs: number) => void = () => undefined,
): LinkHolder {
  const listeners = new Set<() => void>();
  let live: LiveLink | undefined;

  /** Resolves at the next change, after the time at the latest. */
  function change(signal: AbortSignal, withinMs?: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = withinMs === undefined ? undefined : clock.after(withinMs, done);
      function done(): void {
        timer?.cancel();
        listeners.delete(done);
        signal.removeEventListener('abort', done);
        if (signal.aborted) reject(signal.reason as Error);
        else resolve();
      }
      listeners.add(done);
      signal.addEventListener('abort', done);
      if (signal.aborted) done();
    });
  }

  async function whenLive(signal: AbortSignal): Promise<LiveLink> {
    signal.throwIfAborted();
    while (!live) await change(signal);
    return live;
  }

  return {
    get live() {
      return live;
    },
    set(next) {
      live = next;
      for (const listener of [...listeners]) listener();
    },
    whenLive,
    async persist(work, isFinal, signal) {
      for (let pauseMs: number = pauses.firstMs; ; pauseMs = Math.min(2 * pauseMs, pauses.mostMs)) {
        const current = await whenLive(signal);
        try {
          return await work(current);
        } catch (thrown) {
          signal.throwIfAborted();
          const error = toRollcallError(thrown);
          if (isFinal(error)) throw error;
          if (current === live) onFailure(error, pauseMs);
        }
        if (current === live) await change(signal, pauseMs);
      }
    },
  };
}
