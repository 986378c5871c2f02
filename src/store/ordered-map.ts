/** A map whose keys can be listed in order: what the back-ends in memory keep their entries in. */
import { boundsOf, type Operation } from './backend.js';
import type { Entry, Key, Range, Value } from './store.js';

export interface OrderedMap {
  get(key: Key): Value | undefined;
  list(range: Range): Entry[];
  apply(operations: readonly Operation[]): void;
  copy(): OrderedMap;
}

/** Values are copied in and out, so that nobody's later writing into a buffer changes what is stored. */
export function createOrderedMap(entries: Iterable<readonly [Key, Value]> = []): OrderedMap {
  const values = new Map<Key, Value>(entries);
  const keys = [...values.keys()].sort((one, other) => (one < other ? -1 : 1));

  /** The place of the first key that is not before this one. */
  function placeOf(key: Key): number {
    let low = 0;
    let high = keys.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((keys[middle] ?? '') < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  function set(key: Key, value: Value | undefined): void {
    if (value === undefined) {
      if (values.delete(key)) keys.splice(placeOf(key), 1);
      return;
    }
    if (!values.has(key)) keys.splice(placeOf(key), 0, key);
    values.set(key, Buffer.from(value));
  }

  function get(key: Key): Value | undefined {
    const value = values.get(key);
    return value && Buffer.from(value);
  }

  return {
    get,
    list(range) {
      const { from, fromIncluded, to } = boundsOf(range);
      const first = placeOf(from) + (!fromIncluded && values.has(from) ? 1 : 0);
      const end = Math.max(first, placeOf(to));
      const limit = range.limit ?? end - first;
      const found = range.reverse
        ? keys.slice(Math.max(first, end - limit), end).reverse()
        : keys.slice(first, Math.min(end, first + limit));
      return found.map(key => ({ key, value: get(key) ?? Buffer.alloc(0) }));
    },
    apply(operations) {
      for (const [key, value] of operations) set(key, value);
    },
    copy: () => createOrderedMap(values),
  };
}
