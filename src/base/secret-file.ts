/**
 * Files that hold secrets: read only when others cannot (src/base/secret-access.ts says who others are), written so that
 * they are whole and on the disk before anyone relies on them. Also the one place that reads files of unknown size with a
 * limit. Every failure names the file and says what to do.
 */
import { constants } from 'node:fs';
import { lstat, mkdir, open, readlink, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { randomBytes } from 'node:crypto';
import { fileError, isRollcallError, RollcallError, systemErrorCode } from './errors.js';
import { isSecretMount, readMounts } from './mounts.js';
import { accessHint, formatMode, handOverHint, isForAll, judgeAccess } from './secret-access.js';

/** No key, certificate, token or configuration is larger. */
export const maxFileBytes = 1024 * 1024;

/** Takes a sentence that the operator should read, and what to do about it. */
export type Warn = (message: string, hint: string) => void;

async function readWithin(handle: FileHandle, path: string, what: string, limit: number): Promise<Buffer> {
  const stats = await handle.stat();
  if (stats.isDirectory()) throw Object.assign(new Error('it is a folder'), { code: 'EISDIR' });
  const chunk = Buffer.alloc(limit + 1);
  let length = 0;
  for (;;) {
    const { bytesRead } = await handle.read(chunk, length, chunk.length - length);
    if (bytesRead === 0) break;
    length += bytesRead;
    if (length > limit) {
      throw new RollcallError('FILE_UNREADABLE', `the ${what} ${path} is larger than ${limit} bytes`, {
        hint: `a ${what} is much smaller; is this the right file?`,
      });
    }
  }
  return Buffer.from(chunk.subarray(0, length));
}

/** Reads a file of at most `limit` bytes; `what` names it in errors ("public key"). */
export async function readSmallFile(path: string, what: string, limit = maxFileBytes): Promise<Buffer> {
  return withFile(path, what, handle => readWithin(handle, path, what, limit));
}

/**
 * Reads a secret; refuses one that others can read or write (FILE_PERMISSIONS). One that a platform has mounted readable
 * by all is accepted where `warn` hears of it.
 */
export async function readSecretFile(
  path: string,
  what: string,
  limit = maxFileBytes,
  warn?: Warn,
): Promise<Buffer> {
  try {
    return await withFile(path, what, async handle => {
      await refuseOpenSecret(handle, path, what, warn);
      return readWithin(handle, path, what, limit);
    });
  } catch (error) {
    if (!isRollcallError(error) || systemErrorCode(error.cause) !== 'EACCES') throw error;
    const { code, message, hint, cause } = error;
    throw new RollcallError(code, message, {
      hint: `${hint}; or ${handOverHint(process.geteuid?.())}`,
      cause,
    });
  }
}

async function refuseOpenSecret(
  handle: FileHandle,
  path: string,
  what: string,
  warn: Warn | undefined,
): Promise<void> {
  const stats = await handle.stat();
  const holder = { owner: stats.uid, mode: stats.mode, asker: process.geteuid?.() };
  const access = judgeAccess(holder);
  if (access === 'closed' || stats.isDirectory()) return;
  const verb = (stats.mode & 0o022) === 0 ? 'read' : 'read or changed';
  const open = `the ${what} ${path} can be ${verb} by others (mode ${formatMode(stats.mode)})`;
  const isHeard = warn !== undefined || !isForAll(holder);
  if (access === 'open' || !isHeard || !(await isMounted(handle)))
    throw new RollcallError('FILE_PERMISSIONS', open, { hint: accessHint(path, holder) });
  if (isForAll(holder)) warn?.(open, handOverHint(holder.asker));
}

/** Judged by where the open file is, whatever links led there. */
async function isMounted(handle: FileHandle): Promise<boolean> {
  const path = await readlink(`/proc/self/fd/${handle.fd}`).catch(() => undefined);
  return path !== undefined && isSecretMount(path, await readMounts());
}

/** Reads a file; undefined when there is no such file. */
export async function unlessMissing<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    if (isRollcallError(error, 'FILE_UNREADABLE') && systemErrorCode(error.cause) === 'ENOENT')
      return undefined;
    throw error;
  }
}

async function withFile<T>(path: string, what: string, use: (handle: FileHandle) => Promise<T>): Promise<T> {
  let handle: FileHandle | undefined;
  try {
    // O_NONBLOCK: a named pipe given by mistake must not hang the start.
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    return await use(handle);
  } catch (error) {
    throw fileError(`read the ${what}`, path, error);
  } finally {
    await handle?.close();
  }
}

export interface WriteOptions {
  /** Defaults to 0o600. */
  readonly mode?: number;
  /** Replace what is there; otherwise FILE_EXISTS. */
  readonly overwrite?: boolean;
}

/** Writes a file whole: to a neighbour, fsync, rename, fsync of the folder. 0600 and a new file by default. */
export async function writeWholeFile(
  path: string,
  content: string | Uint8Array,
  options: WriteOptions = {},
): Promise<void> {
  try {
    await writeWhole(path, content, options);
  } catch (error) {
    throw fileError('write', path, error);
  }
}

async function writeWhole(path: string, content: string | Uint8Array, options: WriteOptions): Promise<void> {
  const folder = dirname(path);
  if (!options.overwrite) await refuseExisting(path);
  const draft = join(folder, `.${basename(path)}.${randomBytes(6).toString('hex')}`);
  try {
    const handle = await open(draft, 'wx', options.mode ?? 0o600);
    try {
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(draft, path);
  } catch (error) {
    await rm(draft, { force: true }).catch(() => undefined);
    throw error;
  }
  await syncFolder(folder);
}

async function refuseExisting(path: string): Promise<void> {
  if (await isThere(path)) throw new RollcallError('FILE_EXISTS', `${path} exists already`);
}

/** Whether anything is there, a link that leads nowhere included. Throws where the system does not tell. */
export async function isThere(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(systemErrorCode(error) ?? '')) return false;
    throw fileError('look at', path, error);
  }
}

/** Makes a folder for secrets (0700) when it is not there. `setting` is the flag that names another one. */
export async function makeSecretFolder(path: string, what = 'folder', setting?: string): Promise<void> {
  await makeFolder(path, { mode: 0o700, what, setting });
}

export interface FolderOptions {
  readonly mode: number;
  /** `data folder`, for errors. */
  readonly what: string;
  /** The flag that names another one. */
  readonly setting?: string | undefined;
}

/** Makes a folder, with those above it, when it is not there. */
export async function makeFolder(path: string, { mode, what, setting }: FolderOptions): Promise<void> {
  const place = resolve(path);
  try {
    await makeFolders(place, mode);
  } catch (error) {
    const { code, message, hint } =
      systemErrorCode(error) === 'EEXIST'
        ? new RollcallError('FILE_UNWRITABLE', `cannot make the ${what} ${place}: a file is in its place`)
        : fileError(`make the ${what}`, place, error);
    const hints = [hint, setting && `${setting} names another one`].filter(each => each !== undefined);
    throw new RollcallError(code, message, { hint: hints.join('; ') || undefined, cause: error });
  }
}

/** One by one: where a file system refuses new folders with ENOENT, as /proc does, Node.js 20 tries for ever by itself. */
async function makeFolders(path: string, mode: number): Promise<void> {
  const parent = dirname(path);
  try {
    await makeOneFolder(path, mode);
  } catch (error) {
    if (systemErrorCode(error) !== 'ENOENT' || parent === path) throw error;
    if (!(await isThere(parent))) await makeFolders(parent, mode);
    // The parent is there now, be it by another process that makes the same.
    await makeOneFolder(path, mode);
  }
}

async function makeOneFolder(path: string, mode: number): Promise<void> {
  try {
    await mkdir(path, { mode });
  } catch (error) {
    if (systemErrorCode(error) !== 'EEXIST' || !(await stat(path)).isDirectory()) throw error;
  }
}

async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
