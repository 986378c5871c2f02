/** A store in memory: for tests, and for a link that may forget everything. */
import { createOrderedMap } from './ordered-map.js';
import type { Store } from './store.js';
import { createStore } from './writer.js';

export function createMemoryStore(): Store {
  const entries = createOrderedMap();
  return createStore({
    get: key => entries.get(key),
    list: range => entries.list(range),
    write(operations) {
      entries.apply(operations);
      return Promise.resolve();
    },
    close: () => undefined,
  });
}
