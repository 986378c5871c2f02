/** The stamp that says when the link was last there: after a crash it dates the end of every session. */
import type { Clock } from '../base/clock.js';
import type { Log } from '../base/log.js';
import type { Store } from '../store/store.js';

const key = 'meta/alive';
const everyMs = 5_000;

export interface Alive {
  /** The last stamp of the run before, never in the future; undefined at the first start. */
  readonly lastAt: number | undefined;
  /** Why the last stamp could not be written; undefined when it was. */
  failure(): unknown;
  stop(): void;
}

export async function startAlive(store: Store, clock: Clock, log: Log): Promise<Alive> {
  const startedAt = clock.now();
  const stored = await store.get(key);
  const stamp = async (): Promise<void> =>
    store.commit([{ type: 'put', key, value: Buffer.from(`${clock.now()}`) }]);
  let failure: unknown;
  const timer = clock.every(everyMs, () => {
    stamp().then(
      () => (failure = undefined),
      (error: unknown) => {
        if (failure === undefined) log.warn({ err: error }, 'the store does not take the alive stamp');
        failure = error;
      },
    );
  });
  return {
    // A clock that ran ahead when it was written must not date what ended then years from now.
    lastAt: stored && Math.min(Number(Buffer.from(stored).toString()), startedAt),
    failure: () => failure,
    stop: () => timer.cancel(),
  };
}
