/**
 * Files that hold secrets: 0600, refused when others can read them, written so that they are whole and on the disk
 * before anyone relies on them. Also the one place that reads files of unknown size with a limit.
 */
import { constants } from 'node:fs';
import { mkdir, open, rename, rm, type FileHandle } from 'node:fs/promises';
import { dirname, join, basename } from 'node:path';
import { randomBytes } from 'node:crypto';
import { isRollcallError, RollcallError, systemErrorCode } from './errors.js';

/** No key, certificate, token or configuration is larger. */
export const maxFileBytes = 1024 * 1024;

function unreadable(path: string, what: string, error: unknown): RollcallError {
  const reasons: Partial<Record<string, string>> = {
    ENOENT: 'there is no such file',
    EACCES: 'permission denied',
    EISDIR: 'it is a folder',
    ENOTDIR: 'part of the path is not a folder',
  };
  const code = systemErrorCode(error) ?? '';
  return new RollcallError('FILE_UNREADABLE', `cannot read the ${what} ${path}: ${reasons[code] ?? code}`, {
    cause: error,
  });
}

async function readWithin(handle: FileHandle, path: string, what: string, limit: number): Promise<Buffer> {
  const stats = await handle.stat();
  if (stats.isDirectory()) throw Object.assign(new Error('folder'), { code: 'EISDIR' });
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

/** Reads a secret; refuses one that its group or others can read or write (FILE_PERMISSIONS). */
export async function readSecretFile(path: string, what: string, limit = maxFileBytes): Promise<Buffer> {
  return withFile(path, what, async handle => {
    const { mode } = await handle.stat();
    if ((mode & 0o077) !== 0 && process.platform !== 'win32') {
      throw new RollcallError(
        'FILE_PERMISSIONS',
        `the ${what} ${path} can be read by others (mode ${(mode & 0o777).toString(8).padStart(4, '0')})`,
        { hint: `chmod 600 ${path}` },
      );
    }
    return readWithin(handle, path, what, limit);
  });
}

/** What is read from a file, or undefined when there is no such file. */
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
    throw error instanceof RollcallError ? error : unreadable(path, what, error);
  } finally {
    await handle?.close();
  }
}

export interface WriteOptions {
  /** 0o600 unless told. */
  readonly mode?: number;
  /** Replace what is there; otherwise FILE_EXISTS. */
  readonly overwrite?: boolean;
}

/** Writes a file whole: to a neighbour, fsync, rename, fsync of the folder. 0600 unless told, never overwrites unless told. */
export async function writeWholeFile(
  path: string,
  content: string | Uint8Array,
  options: WriteOptions = {},
): Promise<void> {
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
    await rm(draft, { force: true });
    throw error;
  }
  await syncFolder(folder);
}

async function refuseExisting(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((error: unknown) => {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (!handle) return;
  await handle.close();
  throw new RollcallError('FILE_EXISTS', `${path} exists already`);
}

/** Makes a folder for secrets (0700) when it is not there. */
export async function makeSecretFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
}

async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
