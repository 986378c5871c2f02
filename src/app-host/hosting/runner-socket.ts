/**
 * The socket of a link or an agent that a supervisor and runners of another user connect to. Who can open it can be given
 * apps and tokens, so it lies in a folder that others cannot enter, and belongs to the group of that folder.
 */
import { chmod, chown, lstat, stat, unlink } from 'node:fs/promises';
import { createConnection, type Server } from 'node:net';
import { dirname } from 'node:path';
import { RollcallError, systemErrorCode } from '../../base/errors.js';
import { isThere } from '../../base/secret-file.js';
import { refusalOf } from '../../base/system-error.js';

/** The maximum length on every system; `sun_path` is 104 to 108 bytes long. */
export const maxSocketPathBytes = 100;
const socketMode = 0o660;

/** Listens at a path in a folder that is closed to others. CONFIG_INVALID when that cannot be done safely. */
export async function listenInClosedFolder(server: Server, path: string): Promise<void> {
  requireShort(path);
  const folder = await requireClosedFolder(dirname(path));
  await removeStaleSocket(path);
  await listen(server, path);
  // A folder that hands its group on has done this already; where we may not, the mode says enough.
  await chown(path, -1, folder.gid).catch(() => undefined);
  await chmod(path, socketMode);
}

/** Listens at a path. CONFIG_INVALID when the system refuses it. */
export async function listen(server: Server, path: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', error => reject(refused(path, error)));
    server.listen(path, resolve);
  });
}

function requireShort(path: string): void {
  if (Buffer.byteLength(path) <= maxSocketPathBytes) return;
  throw new RollcallError(
    'CONFIG_INVALID',
    `the path of the socket is longer than ${maxSocketPathBytes} bytes: ${path}`,
    {
      hint: 'no system takes a longer one; choose a shorter folder',
    },
  );
}

async function requireClosedFolder(folder: string): Promise<{ gid: number }> {
  const found = await stat(folder).catch((error: unknown) => {
    throw refused(folder, error);
  });
  if (!found.isDirectory()) throw unusable(folder, 'it is no folder');
  if ((found.mode & 0o007) !== 0) {
    throw new RollcallError(
      'CONFIG_INVALID',
      `others may enter ${folder}: who can connect there can be given apps and tokens`,
      {
        hint: `give it the group of the app host and close it to others: chmod 2750 ${folder}`,
      },
    );
  }
  return { gid: found.gid };
}

/** A socket that refuses connections is left over from a killed process. */
async function removeStaleSocket(path: string): Promise<void> {
  if (!(await isThere(path))) return;
  if (!(await lstat(path)).isSocket()) throw unusable(path, 'it exists and is not a socket');
  const answer = await tryConnect(path);
  if (answer === 'connected') throw unusable(path, 'another program listens there');
  if (answer !== 'ECONNREFUSED') throw unusable(path, refusalOf(answer).reason);
  await unlink(path);
}

function tryConnect(path: string): Promise<string> {
  return new Promise(resolve => {
    const socket = createConnection(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve('connected');
    });
    socket.once('error', error => resolve(systemErrorCode(error) ?? 'unknown'));
  });
}

function refused(path: string, error: unknown): RollcallError {
  const { reason, hint } = refusalOf(systemErrorCode(error) ?? 'for an unknown reason');
  return unusable(path, reason, hint, error);
}

function unusable(path: string, what: string, hint?: string, cause?: unknown): RollcallError {
  return new RollcallError('CONFIG_INVALID', `cannot use ${path} for app hosts: ${what}`, { hint, cause });
}
