/**
 * The newest entry of a log, from which the next is made. A log is written by `append` alone; its old entries may be
 * deleted, its newest never, or it would count from 1 again.
 */
import { RollcallError } from '../base/errors.js';
import type { Backend } from './backend.js';
import type { Key, Value } from './store.js';

export interface Head {
  /** 0 for a log without entries. */
  readonly number: number;
  readonly value: Value | undefined;
}

const maxCachedHeads = 1024;

/** Reads the head of a log; INTERNAL when something else lies where its entries belong. */
export async function readHead(backend: Backend, log: Key): Promise<Head> {
  // Entries begin with a digit, and ":" comes right after "9": a log below this one is not in the way.
  const [entry] = await backend.list({ prefix: log, after: `${log}:`, reverse: true, limit: 1 });
  if (!entry) return { number: 0, value: undefined };
  const digits = entry.key.slice(log.length);
  if (!/^\d{16}$/.test(digits)) throw new RollcallError('INTERNAL', 'a log of the store is damaged');
  return { number: Number(digits), value: entry.value };
}

export interface HeadCache {
  get(log: Key): Head | undefined;
  set(log: Key, head: Head): void;
  clear(): void;
}

/** Remembers the heads of the logs written last. */
export function createHeadCache(): HeadCache {
  const heads = new Map<Key, Head>();
  return {
    get: log => heads.get(log),
    set(log, head) {
      heads.delete(log);
      heads.set(log, head);
      for (const oldest of heads.keys()) {
        if (heads.size <= maxCachedHeads) break;
        heads.delete(oldest);
      }
    },
    clear: () => heads.clear(),
  };
}
