/**
 * The embedded store, on LevelDB: one folder, one process. The one file that knows `level`.
 *
 * After a write has failed, LevelDB's log may end in half a record. A later record would be acknowledged and yet be
 * skipped at the next opening (tried: a full disk, space freed, one synced write lost). So nothing more is written
 * until the database was closed and opened again, which starts a new log. Opening needs space of its own; without
 * it the old database stays open, for reading.
 */
import { open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Level } from 'level';
import { RollcallError, systemErrorCode } from '../base/errors.js';
import { makeSecretFolder } from '../base/secret-file.js';
import { findRefusal, isDiskFull } from '../base/system-error.js';
import { boundsOf, type Backend, type Operation } from './backend.js';
import { storeFailure } from './failure.js';
import type { Entry, Key, Range, Store, Value } from './store.js';
import { createStore } from './writer.js';

type Database = Level<Key, Buffer>;

const cacheBytes = 32 * 1024 * 1024;
/** Bytes that opening writes besides the old log's content: a manifest, a new log. */
const openingBytes = 256 * 1024;

/** Opens the store in this folder (made 0700), STORE_LOCKED when another process has it. */
export async function openLevelStore(folder: string): Promise<Store> {
  await makeSecretFolder(folder);
  return createStore(createLevelBackend(folder, await openDatabase(folder)));
}

async function openDatabase(folder: string): Promise<Database> {
  const database: Database = new Level(folder, { valueEncoding: 'buffer', cacheSize: cacheBytes });
  try {
    await database.open();
    return database;
  } catch (error) {
    throw openingError(folder, error);
  }
}

function openingError(folder: string, error: unknown): RollcallError {
  const cause = error instanceof Error ? error.cause : undefined;
  if (systemErrorCode(cause) === 'LEVEL_LOCKED') {
    return new RollcallError('STORE_LOCKED', `another process has the database ${folder} open`, {
      hint: 'stop the other link first, or give this one a data folder of its own',
      cause: error,
    });
  }
  if (systemErrorCode(cause) === 'LEVEL_CORRUPTION') {
    return new RollcallError('STORE_UNAVAILABLE', `the database ${folder} is damaged`, {
      hint: 'restore it from a backup; nothing in it was changed',
      cause: error,
    });
  }
  const refusal = findRefusal(error);
  return refusal
    ? new RollcallError(
        isDiskFull(error) ? 'STORE_FULL' : 'STORE_UNAVAILABLE',
        `cannot open the database ${folder}: ${refusal.reason}`,
        {
          hint: refusal.hint,
          cause: error,
        },
      )
    : storeFailure(error);
}

/** Throws as the disk does unless there is room to open the database again, or when nothing can be written at all. */
async function checkRoom(folder: string): Promise<void> {
  const logs = (await readdir(folder)).filter(name => name.endsWith('.log'));
  const sizes = await Promise.all(logs.map(async name => (await stat(join(folder, name))).size));
  const path = join(folder, 'ROOM');
  try {
    const file = await open(path, 'w', 0o600);
    try {
      await file.writeFile(Buffer.alloc(sizes.reduce((sum, size) => sum + size, openingBytes)));
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (error) {
    // A limit on the size of one file (ulimit -f) is not a lack of room.
    if (systemErrorCode(error) !== 'EFBIG') throw error;
  } finally {
    await rm(path, { force: true });
  }
}

async function listEntries(database: Database, range: Range): Promise<Entry[]> {
  const { from, fromIncluded, to } = boundsOf(range);
  const entries = await database
    .iterator({
      ...(fromIncluded ? { gte: from } : { gt: from }),
      lt: to,
      limit: range.limit ?? -1,
      reverse: range.reverse ?? false,
    })
    .all();
  return entries.map(([key, value]) => ({ key, value }));
}

/** A chained batch: it takes a third of the processor time of an array of operations, each of which is an object with options. */
async function writeBatch(
  database: Database,
  operations: readonly Operation[],
  options: { readonly sync: boolean },
): Promise<void> {
  const batch = database.batch();
  try {
    for (const [key, value] of operations) {
      if (value === undefined) batch.del(key);
      else batch.put(key, Buffer.from(value.buffer, value.byteOffset, value.byteLength));
    }
    await batch.write(options);
  } catch (error) {
    await batch.close();
    throw error;
  }
}

function createLevelBackend(folder: string, opened: Database): Backend {
  let database: Database | undefined = opened;
  let opening: Promise<Database> | undefined;
  let wounded = false;
  let closed = false;

  async function reopen(): Promise<Database> {
    const old = database;
    database = undefined;
    await old?.close();
    if (closed) throw new RollcallError('STORE_UNAVAILABLE', 'the store of the link is closed');
    database = await openDatabase(folder);
    wounded = false;
    return database;
  }

  function startOpening(): Promise<Database> {
    return (opening ??= reopen().finally(() => (opening = undefined)));
  }

  async function whenOpen(): Promise<Database> {
    return opening ?? database ?? startOpening();
  }

  async function whenWell(): Promise<Database> {
    if (!wounded) return whenOpen();
    if (database) await checkRoom(folder);
    return startOpening();
  }

  return {
    get(key): Value | undefined | Promise<Value | undefined> {
      return database ? database.getSync(key) : whenOpen().then(again => again.getSync(key));
    },
    async list(range) {
      const current = await whenOpen();
      try {
        return await listEntries(current, range);
      } catch (error) {
        if (current === database) throw error;
        return listEntries(await whenOpen(), range);
      }
    },
    async mend() {
      if (wounded) await whenWell();
    },
    async write(operations, options) {
      const current = await whenWell();
      try {
        await writeBatch(current, operations, options);
      } catch (error) {
        wounded = true;
        throw error;
      }
    },
    async close() {
      closed = true;
      await opening?.catch(() => undefined);
      await database?.close();
    },
  };
}
