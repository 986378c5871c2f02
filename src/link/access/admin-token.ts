/**
 * The one credential of the control port until operators have accounts: 256 random bits in a file of the data
 * folder, 0600, the only copy. The link keeps a hash of it, compares in constant time, and never logs it.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { join } from 'node:path';
import { isRollcallError, RollcallError } from '../../base/errors.js';
import type { Random } from '../../base/random.js';
import { readSecretFile, writeWholeFile } from '../../base/secret-file.js';

export const adminTokenFile = 'admin-token';
const tokenPattern = /^rollcall-admin-[A-Za-z0-9_-]{43}$/;

export interface AdminToken {
  /** Where it is. */
  readonly path: string;
  /** Checks an `authorization` header; anything but `Bearer` with the token throws TOKEN_REFUSED. */
  check(authorization: string | undefined): void;
}

export async function openAdminToken(folder: string, random: Random): Promise<AdminToken> {
  const path = join(folder, adminTokenFile);
  const wanted = digest(await readOrCreate(path, random));
  return {
    path,
    check(authorization) {
      const match = /^Bearer +(\S{1,512})$/i.exec(authorization ?? '');
      if (match && timingSafeEqual(digest(match[1] ?? ''), wanted)) return;
      throw new RollcallError('TOKEN_REFUSED', match ? 'the token is not valid here' : 'a token is needed', {
        hint: `send "authorization: Bearer TOKEN" with the content of ${adminTokenFile} from the link's data folder`,
      });
    },
  };
}

async function readOrCreate(path: string, random: Random): Promise<string> {
  try {
    const token = (await readSecretFile(path, 'admin token', 4096)).toString('utf8').trim();
    if (tokenPattern.test(token)) return token;
  } catch (error) {
    if (!isRollcallError(error, 'FILE_UNREADABLE') || !isMissing(error.cause)) throw error;
    const token = `rollcall-admin-${random(32).toString('base64url')}`;
    await writeWholeFile(path, `${token}\n`);
    return token;
  }
  throw new RollcallError('CONFIG_INVALID', `${path} does not hold an admin token`, {
    hint: 'remove the file; the link makes a new token at the next start',
  });
}

function isMissing(error: unknown): boolean {
  return (error as { code?: unknown } | undefined)?.code === 'ENOENT';
}

function digest(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}
