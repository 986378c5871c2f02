/**
 * The part of a store below its writer: reads, and whole batches that are on the disk when `write` resolves.
 * Expectations, appends, grouping, watching and error codes are the writer's (writer.ts), so a back-end stays small.
 */
import type { Entry, Key, Range, Value } from './store.js';

/** A value, or undefined to delete the key. */
export type Operation = readonly [key: Key, value: Value | undefined];

export interface Backend {
  get(key: Key): Value | undefined | Promise<Value | undefined>;
  list(range: Range): Entry[] | Promise<Entry[]>;
  /**
   * Writes all operations or none. With `sync` it resolves once they outlive a power cut. A batch that failed may
   * still be found later (its bytes reached the log, the sync failed), whole or not at all.
   */
  write(operations: readonly Operation[], options: { readonly sync: boolean }): Promise<void>;
  /**
   * After a batch that failed: resolves when what is read is what lies there, that batch or nothing of it. Rejects while that
   * cannot be known. A back-end that knows at once has none.
   */
  mend?(): Promise<void>;
  close(): void | Promise<void>;
}

/** Keys are printable ASCII, so this is after every key with the prefix. */
export function endOf(prefix: Key): Key {
  return `${prefix}\x7f`;
}

export interface Bounds {
  readonly from: Key;
  readonly fromIncluded: boolean;
  /** Not included. */
  readonly to: Key;
}

/** The keys of a range, lowest first, whichever way they will be read. */
export function boundsOf({ prefix, after, reverse }: Range): Bounds {
  const end = endOf(prefix);
  if (after === undefined) return { from: prefix, fromIncluded: true, to: end };
  if (reverse) return { from: prefix, fromIncluded: true, to: after < end ? after : end };
  return after < prefix
    ? { from: prefix, fromIncluded: true, to: end }
    : { from: after, fromIncluded: false, to: end };
}
