/** Who wants to hear of changes below which prefix. */
import type { Key, StopWatching, Store, Value } from './store.js';

type Listener = Parameters<Store['watch']>[1];

export interface Watchers {
  add(prefix: Key, listener: Listener): StopWatching;
  /** Tells everybody what one commit changed. A listener that throws is warned of and disturbs nobody. */
  notify(values: ReadonlyMap<Key, Value | undefined>): void;
  clear(): void;
}

export function createWatchers(): Watchers {
  const watches = new Set<{ readonly prefix: Key; readonly listener: Listener }>();

  function tell(listener: Listener, changes: Parameters<Listener>[0]): void {
    try {
      listener(changes);
    } catch (error) {
      process.emitWarning(error instanceof Error ? error : new Error(String(error)));
    }
  }

  return {
    add(prefix, listener) {
      const watch = { prefix, listener };
      watches.add(watch);
      return () => void watches.delete(watch);
    },
    notify(values) {
      for (const { prefix, listener } of [...watches]) {
        const changes = [];
        for (const [key, value] of values) if (key.startsWith(prefix)) changes.push({ key, value });
        if (changes.length > 0) tell(listener, changes);
      }
    },
    clear: () => watches.clear(),
  };
}
