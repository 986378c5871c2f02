/** Deletes expired entries from the store at intervals, one sweep at a time. */
import type { Clock } from '../../base/clock.js';
import type { Log } from '../../base/log.js';

/** Entries of the store that a sweep looks at, at once. */
export const sweepPageSize = 500;

export interface SweepOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly everyMs: number;
  /** The line of the log when it failed; the next sweep tries again. */
  readonly failure: string;
}

/** Returns a function that stops the sweeps. */
export function sweepEvery(
  { clock, log, everyMs, failure }: SweepOptions,
  sweep: () => Promise<void>,
): () => void {
  let isSweeping = false;
  const timer = clock.every(everyMs, () => {
    if (isSweeping) return;
    isSweeping = true;
    sweep()
      .catch((error: unknown) => log.warn({ err: error }, failure))
      .finally(() => (isSweeping = false));
  });
  return () => timer.cancel();
}
