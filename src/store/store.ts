/**
 * The store port: an ordered key-value map with conditional commits. Everything the link must remember goes through
 * it, so that a back-end (memory, level, later a clustered one) is one file and passes one conformance suite.
 *
 * Promises: a commit is all or nothing; when it resolves it is durable; when an expectation fails nothing of it is
 * written (STORE_CONFLICT); commits take effect in the order they were called. A missing key is `undefined`, not an
 * error. A failing disk is STORE_UNAVAILABLE or, when full, STORE_FULL; nothing acknowledged is lost by it.
 */

/** ASCII text; keys are ordered by their characters. */
export type Key = string;
export type Value = Uint8Array;

export interface Entry {
  readonly key: Key;
  readonly value: Value;
}

export type Change =
  | { readonly type: 'put'; readonly key: Key; readonly value: Value }
  | { readonly type: 'delete'; readonly key: Key }
  /**
   * Adds the next entry of a log: its key is `log` followed by a 16-digit number, counted from 1. The value is made
   * when the commit is applied, from the entry before it (undefined for the first), so that entries can be chained.
   */
  | { readonly type: 'append'; readonly log: Key; readonly value: (previous: Value | undefined) => Value };

/** The commit is applied only if the key holds exactly this value, or nothing when undefined. */
export interface Expectation {
  readonly key: Key;
  readonly value: Value | undefined;
}

export interface Range {
  /** Keys that start with this. */
  readonly prefix: Key;
  /** Only keys after this one (before it, when reversed). */
  readonly after?: Key | undefined;
  readonly limit?: number | undefined;
  readonly reverse?: boolean | undefined;
}

/** Single keys, read from a store or on behalf of a decision that remembers what it read. */
export type Reads = Pick<Store, 'get'>;

/** Stops a watch. */
export type StopWatching = () => void;

export interface Store {
  get(key: Key): Promise<Value | undefined>;
  list(range: Range): Promise<Entry[]>;
  commit(changes: readonly Change[], expectations?: readonly Expectation[]): Promise<void>;
  /** Calls after each commit with what it changed below the prefix (value undefined: deleted), in commit order. */
  watch(
    prefix: Key,
    listener: (changes: readonly { readonly key: Key; readonly value: Value | undefined }[]) => void,
  ): StopWatching;
  /** Waits for running commits, then closes. Twice is one promise; later calls are STORE_UNAVAILABLE. */
  close(): Promise<void>;
}
