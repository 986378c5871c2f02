/** A store whose commits are timed. */
import type { Clock } from '../base/clock.js';
import type { Store } from './store.js';

/** `observe` gets seconds, for commits that succeeded. */
export function measureCommits(store: Store, clock: Clock, observe: (seconds: number) => void): Store {
  return {
    get: key => store.get(key),
    list: range => store.list(range),
    watch: (prefix, listener) => store.watch(prefix, listener),
    close: () => store.close(),
    async commit(changes, expectations) {
      const start = clock.elapsed();
      await store.commit(changes, expectations);
      observe((clock.elapsed() - start) / 1000);
    },
  };
}
