/** Tries every second to write the presence that waits in the overlay, one node first: is the store well again? */
import type { Clock, Timer } from '../../base/clock.js';
import type { Log } from '../../base/log.js';
import type { PresenceOverlay, WaitingNode } from './presence-overlay.js';

const retryAfterMs = 1000;
const atOnce = 500;

export interface PresenceRetry {
  /** Something waits. */
  start(): void;
  /** Tries once more and stops. */
  close(): Promise<void>;
}

export interface PresenceRetryOptions {
  readonly overlay: PresenceOverlay;
  readonly clock: Clock;
  readonly log: Log;
  /** Writes what waits of one node; rejects when the store does not take it. */
  readonly write: (node: WaitingNode) => Promise<void>;
}

export function createPresenceRetry({ overlay, clock, log, write }: PresenceRetryOptions): PresenceRetry {
  let timer: Timer | undefined;
  let trying: Promise<void> | undefined;
  let closed = false;

  async function writeAll(): Promise<void> {
    const [first] = overlay.all();
    if (!first) return;
    await write(first);
    for (let rest = overlay.all(); rest.length > 0; rest = overlay.all()) {
      await Promise.all(rest.slice(0, atOnce).map(write));
    }
    log.info({}, 'the store takes presence again; everything is written');
  }

  async function tryOnce(): Promise<void> {
    try {
      await writeAll();
    } catch (error) {
      log.debug({ err: error, waiting: overlay.all().length }, 'the store does not take presence yet');
    }
  }

  function schedule(): void {
    if (closed || timer || trying || overlay.all().length === 0) return;
    timer = clock.after(retryAfterMs, () => {
      timer = undefined;
      trying = tryOnce().finally(() => {
        trying = undefined;
        schedule();
      });
    });
  }

  return {
    start() {
      if (!timer && !trying) {
        log.warn({}, 'the store does not take presence; keeping it in memory and trying again every second');
      }
      schedule();
    },
    async close() {
      closed = true;
      timer?.cancel();
      await trying;
      await tryOnce();
    },
  };
}
