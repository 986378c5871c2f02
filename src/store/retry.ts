/** Failures of the store that pass, such as a full disk: what is owed is tried until it is written. */
import type { Clock } from '../base/clock.js';
import { toRollcallError } from '../base/errors.js';
import { sleep } from '../base/wait.js';

const retryMs = 1_000;

export function isPassing(error: unknown): boolean {
  const { code } = toRollcallError(error);
  return code === 'STORE_FULL' || code === 'STORE_UNAVAILABLE';
}

/** Resolves when the time for another attempt has come. */
export function untilRetry(clock: Clock): Promise<void> {
  return sleep(clock, retryMs);
}

/** Does it again and again while it fails in passing, as long as somebody wants it. */
export async function untilStored<T>(
  clock: Clock,
  work: () => Promise<T>,
  isWanted: () => boolean = () => true,
): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!isPassing(error) || !isWanted()) throw error;
    }
    await untilRetry(clock);
  }
}
