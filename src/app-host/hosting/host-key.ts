/**
 * Admits supervisors of runners to a socket: those that show the key that the owner of the socket keeps beside its own secrets. Node.js
 * tells nothing of the process at the other end of a Unix socket, and apps run as the user of their app host, so that neither a
 * user nor coming first says who may be given the tokens of runs.
 */
import { timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileError, RollcallError } from '../../base/errors.js';
import type { Random } from '../../base/random.js';
import { readSecretFile, unlessMissing, writeWholeFile, type Warn } from '../../base/secret-file.js';
import { hashToken } from '../wire/token-hash.js';

const keyBytes = 32;
const maxFileBytes = 256;
const what = 'key of app hosts';

/** Reads the key at this path, 0600; makes one where there is none. */
export async function openHostKey(path: string, random: Random): Promise<string> {
  const found = await unlessMissing(readSecretFile(path, what, maxFileBytes));
  if (found) return parseHostKey(found.toString('latin1'), path);
  const key = random(keyBytes).toString('hex');
  await writeWholeFile(path, `${key}\n`);
  return key;
}

/** Reads the key that an app host was given: from a file, or, for `-`, from standard input. */
export async function readHostKey(source: string, warn?: Warn): Promise<string> {
  if (source !== '-')
    return parseHostKey((await readSecretFile(source, what, maxFileBytes, warn)).toString('latin1'), source);
  return parseHostKey(readInput().subarray(0, maxFileBytes).toString('latin1'), 'on standard input');
}

function readInput(): Buffer {
  try {
    return readFileSync(0);
  } catch (error) {
    throw fileError(`read the ${what} from`, 'standard input', error);
  }
}

function parseHostKey(text: string, where: string): string {
  const key = text.trim();
  if (/^[0-9a-f]{64}$/.test(key)) return key;
  throw new RollcallError(
    'CONFIG_INVALID',
    `invalid key of app hosts ${where}: expected 64 hexadecimal digits`,
    {
      hint: 'the link or the agent makes it: app-host.key in its data or state folder',
    },
  );
}

/** Takes as long for every key that is wrong. */
export function isHostKey(shown: unknown, key: string): boolean {
  const hashOf = (text: string): Buffer => Buffer.from(hashToken(text), 'hex');
  return typeof shown === 'string' && timingSafeEqual(hashOf(shown), hashOf(key));
}
