/** Tries work again and again, with longer and longer pauses, until it succeeds or a signal is aborted. */
import type { Clock } from '../../base/clock.js';
import { toRollcallError, type RollcallError } from '../../base/errors.js';
import { sleep } from '../../base/wait.js';

const retryPauses = { firstMs: 500, maxMs: 30_000 } as const;

export interface RetryOptions {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly onFailure: (error: RollcallError, retryInMs: number) => void;
}

/** Rejects only when the signal is aborted. */
export async function retry<T>(work: () => Promise<T>, options: RetryOptions): Promise<T> {
  const { clock, signal, onFailure } = options;
  for (let pauseMs: number = retryPauses.firstMs; ; pauseMs = Math.min(2 * pauseMs, retryPauses.maxMs)) {
    signal.throwIfAborted();
    try {
      return await work();
    } catch (error) {
      signal.throwIfAborted();
      onFailure(toRollcallError(error), pauseMs);
    }
    await sleep(clock, pauseMs, signal);
  }
}
