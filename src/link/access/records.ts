/**
 * Small JSON records of access in the store: read, list, and change on condition that nobody was faster. What a record
 * means is its owner's business; here is only how it is kept.
 */
import { isRollcallError, RollcallError } from '../../base/errors.js';
import type { Change, Expectation, Key, Store, Value } from '../../store/store.js';

/** Only somebody who changes the same record at the same time makes a second try necessary. */
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

export async function readRecord<T>(store: Store, key: Key): Promise<T | undefined> {
  const value = await store.get(key);
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
  /** What else must still be so at the commit. */
  readonly expectations?: readonly Expectation[];
  readonly result: R;
}

/**
 * Reads the record, decides, and commits what was decided on condition that the record is still what was read; when
 * it is not, once more. A decision without changes commits nothing. Durable when it resolves.
 */
// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- as decodeRecord's
export async function decideRecord<T, R>(
  store: Store,
  key: Key,
  decide: (record: T | undefined) => Decision<R> | Promise<Decision<R>>,
): Promise<R> {
  for (let tries = 1; ; tries++) {
    const value = await store.get(key);
    const { changes, expectations = [], result } = await decide(value && decodeRecord<T>(value));
    if (changes.length === 0) return result;
    try {
      await store.commit(changes, [{ key, value }, ...expectations]);
      return result;
    } catch (error) {
      if (!isRollcallError(error, 'STORE_CONFLICT') || tries >= maxTries) throw error;
    }
  }
}
