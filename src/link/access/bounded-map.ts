/** A map that holds so many entries at most: a new one pushes out the one that was set longest ago. */

export interface BoundedMap<T> {
  get(key: string): T | undefined;
  /** Also makes the entry the newest. */
  set(key: string, value: T): void;
  delete(key: string): void;
  /** The oldest first. */
  entries(): Iterable<readonly [string, T]>;
  readonly size: number;
}

export function createBoundedMap<T>(max: number): BoundedMap<T> {
  // A Map goes through its entries in the order they were added.
  const entries = new Map<string, T>();
  return {
    get: key => entries.get(key),
    set(key, value) {
      entries.delete(key);
      for (const oldest of entries.keys()) {
        if (entries.size < max) break;
        entries.delete(oldest);
      }
      entries.set(key, value);
    },
    delete: key => void entries.delete(key),
    entries: () => entries.entries(),
    get size() {
      return entries.size;
    },
  };
}
