/**
 * `token-keys.json` in the data folder: every key that signs tokens and the secret that refresh tokens are derived
 * with. Not in the store, so that a copy of the store lets nobody make tokens. Always written whole.
 *
 * A change of keys is told in the store, and the two cannot be written at once: the next set is put beside the present
 * one, under a number of its own, and counts from when the store says so (keys.ts).
 */
import { RollcallError } from '../../../base/errors.js';
import { maxFileBytes, readSecretFile, unlessMissing, writeWholeFile } from '../../../base/secret-file.js';
import { decodeBase64url, isJsonObject, parseStrictJson } from '../../../tokens/strict-json.js';
import { openTokenKey, readKeyRecord, recordOf, unfit, type TokenKey } from './key.js';

/** A set of keys, by number: each one is higher than those before it. */
export interface TokenKeySet {
  /** 0 in a file of before there were numbers. */
  readonly generation: number;
  readonly keys: readonly TokenKey[];
}

export interface TokenKeyFile extends TokenKeySet {
  /** 32 bytes. */
  readonly refreshSecret: Buffer;
  /** The next set of keys; it counts once the store says so. */
  readonly next?: TokenKeySet | undefined;
}

export const refreshSecretBytes = 32;
const version = 1;

/** Gives undefined when there is none. FILE_PERMISSIONS when others can read it, CONFIG_INVALID when it is no good. */
export async function readKeyFile(path: string): Promise<TokenKeyFile | undefined> {
  const content = await unlessMissing(readSecretFile(path, 'file of token keys'));
  if (!content) return undefined;
  const { refreshSecret, next, ...present } = readMembers(path, content);
  const secret = typeof refreshSecret === 'string' ? decodeBase64url(refreshSecret) : undefined;
  if (secret?.length !== refreshSecretBytes) throw damaged(path);
  return {
    refreshSecret: secret,
    ...(await readSet(path, present)),
    next: next === undefined ? undefined : await readSet(path, next),
  };
}

async function readSet(path: string, set: unknown): Promise<TokenKeySet> {
  if (!isJsonObject(set)) throw damaged(path);
  const { generation = 0, keys } = set;
  if (!Number.isSafeInteger(generation) || !Array.isArray(keys)) throw damaged(path);
  const records = keys.map(readKeyRecord);
  refuseTwins(records.map(({ kid }) => kid));
  return { generation: generation as number, keys: await Promise.all(records.map(openTokenKey)) };
}

/** Durable when it resolves; STORE_FULL for more keys than could be read again. */
export async function writeKeyFile(
  path: string,
  { refreshSecret, next, ...set }: TokenKeyFile,
): Promise<void> {
  const secret = refreshSecret.toString('base64url');
  const file = { version, refreshSecret: secret, ...toRecords(set), next: next && toRecords(next) };
  const text = `${JSON.stringify(file, undefined, 2)}\n`;
  if (Buffer.byteLength(text) > maxFileBytes) {
    throw new RollcallError('STORE_FULL', 'there are too many token keys', {
      hint: 'rotate and drop the old keys at once, or let fewer audiences have secrets of their own',
    });
  }
  await writeWholeFile(path, text, { overwrite: true });
}

function toRecords({ generation, keys }: TokenKeySet): object {
  return { generation, keys: keys.map(recordOf) };
}

function readMembers(path: string, content: Buffer): Readonly<Record<string, unknown>> {
  const file = parseOrRefuse(path, content);
  if (!isJsonObject(file) || typeof file['version'] !== 'number') throw damaged(path);
  if (file['version'] === version) return file;
  throw new RollcallError('CONFIG_INVALID', `${path} was written by another version of rollcall`, {
    hint: 'start the version that wrote it, or a newer one',
  });
}

function parseOrRefuse(path: string, content: Buffer): unknown {
  try {
    return parseStrictJson(content);
  } catch (error) {
    // The message of JSON.parse quotes the text around the place, and this text is secret.
    throw damaged(path, error instanceof Error ? error.name : undefined);
  }
}

function damaged(path: string, cause?: string): RollcallError {
  return new RollcallError('CONFIG_INVALID', `${path} is damaged`, {
    hint: 'bring it back from a backup, or move it away for new keys; then everybody logs in again',
    cause,
  });
}

/** With two keys of one name, which of them verifies would be a matter of their order. */
function refuseTwins(kids: readonly string[]): void {
  const twin = kids.find((kid, index) => kids.indexOf(kid) !== index);
  if (twin !== undefined) throw unfit(twin, 'there are two keys of that kid');
}
