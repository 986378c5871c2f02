/** The version of what the store holds. A new store gets it, an older one is migrated, a newer one is refused. */
import { RollcallError } from '../base/errors.js';
import type { Store } from './store.js';

/** Brings a store from one version to the next. It may be cut short and run again, so it must bear being repeated. */
export type Migration = (store: Store) => Promise<void>;

/** The first leads from version 1 to 2, and so on. */
const migrations: readonly Migration[] = [];

const schemaKey = 'meta/schema';

function schemaError(message: string, hint: string): RollcallError {
  return new RollcallError('STORE_SCHEMA', message, { hint });
}

async function readVersion(store: Store): Promise<number | undefined> {
  const value = await store.get(schemaKey);
  if (value !== undefined) {
    const text = Buffer.from(value).toString('latin1');
    if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  } else if ((await store.list({ prefix: '', limit: 1 })).length === 0) {
    return undefined;
  }
  throw schemaError(
    'the database does not say which version of the store it holds',
    'is the data folder the one of a link?',
  );
}

async function writeVersion(store: Store, version: number, before: number | undefined): Promise<void> {
  await store.commit(
    [{ type: 'put', key: schemaKey, value: Buffer.from(String(version)) }],
    [{ key: schemaKey, value: before === undefined ? undefined : Buffer.from(String(before)) }],
  );
}

/** Makes the store fit this version of the program; STORE_SCHEMA when it cannot. Gives the version it now has. */
export async function prepareStore(store: Store, steps: readonly Migration[] = migrations): Promise<number> {
  const wanted = steps.length + 1;
  const found = await readVersion(store);
  if (found === undefined) {
    await writeVersion(store, wanted, undefined);
    return wanted;
  }
  if (found > wanted) {
    throw schemaError(
      `the database was written by a newer version of rollcall (schema ${found}, this one knows ${wanted})`,
      'use the newer version, or restore a backup made by this one',
    );
  }
  for (const [index, migrate] of steps.entries()) {
    const version = index + 1;
    if (version < found) continue;
    await migrate(store);
    await writeVersion(store, version + 1, version);
  }
  return wanted;
}
