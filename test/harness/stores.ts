/** Stores that behave as disks do on a bad day. */
import type { Clock } from '../../src/base/clock.js';
import type { Store } from '../../src/store/store.js';

/** Every commit takes this long more, ms, by the clock; reads are as quick as ever, as they are on a slow disk. */
export function slowStore(store: Store, clock: Clock, delayMs: () => number): Store {
  const wait = (ms: number): Promise<void> =>
    ms === 0 ? Promise.resolve() : new Promise(resolve => void clock.after(ms, resolve));
  return {
    get: key => store.get(key),
    list: range => store.list(range),
    watch: (prefix, listener) => store.watch(prefix, listener),
    close: () => store.close(),
    async commit(changes, expectations) {
      await wait(delayMs());
      await store.commit(changes, expectations);
    },
  };
}
