/** Takes what has ended from the store, from time to time: one sweep at a time, and a page of the store at a time. */
import type { Clock } from '../../base/clock.js';
import type { Log } from '../../base/log.js';
import type { Entry, Key, Store } from '../../store/store.js';

/** Entries looked at, at once. */
const pageSize = 500;

export interface SweepOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly everyMs: number;
  /** The line of the log when it failed; the next sweep tries again. */
  readonly failure: string;
}

/** Gives what stops it. */
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

/** Everything below a prefix, in the order of the keys. Entries of a page may be deleted before the next is read. */
export async function* pagesBelow(store: Store, prefix: Key): AsyncGenerator<readonly Entry[]> {
  for (let after: Key | undefined; ;) {
    const page = await store.list({ prefix, after, limit: pageSize });
    if (page.length > 0) yield page;
    if (page.length < pageSize) return;
    after = page.at(-1)?.key;
  }
}
