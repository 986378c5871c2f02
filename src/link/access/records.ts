/**
 * Small JSON records of access in the store: read, list, and change on condition that nobody was faster. What a record
 * means is its owner's business; here is only how it is kept.
 */
import { isRollcallError, RollcallError } from '../../base/errors.js';
import type { Change, Key, Reads, Store, Value } from '../../store/store.js';

/** Only somebody who changes the same records at the same time makes a second try necessary. */
const maxTries = 20;

function encodeRecord(record: object): Value {
  return Buffer.from(JSON.stringify(record));
}

/** The caller knows what it stored there: nobody else writes below its keys. */
// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters
export function decodeRecord<T>(value: Value): T {
  try {
    const record: unknown = JSON.parse(Buffer.from(value).toString());
    if (typeof record === 'object' && record !== null) return record as T;
    throw new TypeError('not an object');
  } catch (error) {
    throw new RollcallError('INTERNAL', 'a record of access is damaged', { cause: error });
  }
}

export async function readRecord<T>(reads: Reads, key: Key): Promise<T | undefined> {
  const value = await reads.get(key);
  return value && decodeRecord<T>(value);
}

/** Every record below a prefix, in the order of the keys. */
export async function listRecords<T>(store: Store, prefix: Key): Promise<T[]> {
  return (await store.list({ prefix })).map(({ value }) => decodeRecord<T>(value));
}

export function putRecord(key: Key, record: object): Change {
  return { type: 'put', key, value: encodeRecord(record) };
}

export interface Decision<R> {
  readonly changes: readonly Change[];
  readonly result: R;
}

/** A further condition of a change: throws where it does not hold. */
export type Grounds = (reads: Reads) => Promise<unknown>;

/**
 * Decides and commits. Whatever is read through `reads` must still be so at the commit: when it is not, it is decided
 * anew. Lists are no such reads: where one decides, a record stands for it that changes with every member. A decision
 * without changes commits nothing. Durable when it resolves.
 */
export async function decide<R>(
  store: Store,
  decision: (reads: Reads) => Decision<R> | Promise<Decision<R>>,
): Promise<R> {
  for (let tries = 1; ; tries++) {
    // A value that was read once stays the same for the whole decision.
    const seen = new Map<Key, Promise<Value | undefined>>();
    const { changes, result } = await decision({
      get(key) {
        const value = seen.get(key) ?? store.get(key);
        seen.set(key, value);
        return value;
      },
    });
    if (changes.length === 0) return result;
    const keys = [...seen.keys()];
    const values = await Promise.all(seen.values());
    try {
      await store.commit(
        changes,
        keys.map((key, index) => ({ key, value: values[index] })),
      );
      return result;
    } catch (error) {
      if (!isRollcallError(error, 'STORE_CONFLICT') || tries >= maxTries) throw error;
    }
  }
}

/** The store did not take it, though it may be found there later; as opposed to a refusal. */
export function isStoreFailure(error: unknown): boolean {
  return isRollcallError(error, 'STORE_FULL') || isRollcallError(error, 'STORE_UNAVAILABLE');
}
