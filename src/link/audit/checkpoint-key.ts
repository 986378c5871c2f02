/**
 * The key that signs checkpoints: P-256, in `audit-key.pem` of the data folder, 0600, made at the first start and used
 * for nothing else. Its public half is for operators to keep.
 */
import { join } from 'node:path';
import { RollcallError } from '../../base/errors.js';
import type { Random } from '../../base/random.js';
import { readSecretFile, unlessMissing, writeWholeFile } from '../../base/secret-file.js';
import { readPrivateKey } from '../../identity/key-file.js';
import { generatePrivateKey, toPkcs8Pem, type PrivateKey } from '../../identity/private-key.js';

export const auditKeyFile = 'audit-key.pem';

export interface CheckpointKey {
  readonly key: PrivateKey;
  /** It was not there before. */
  readonly isNew: boolean;
}

/** Opens the key, making it when there is none. CONFIG_INVALID, FILE_* or KEY_UNSUPPORTED when it is not as it should be. */
export async function openCheckpointKey(folder: string, random: Random): Promise<CheckpointKey> {
  const path = join(folder, auditKeyFile);
  const bytes = await unlessMissing(readSecretFile(path, 'audit key'));
  if (!bytes) {
    const key = generatePrivateKey('P-256', random);
    await writeWholeFile(path, toPkcs8Pem(key));
    return { key, isNew: true };
  }
  const key = readPrivateKey(bytes, undefined, path);
  if (key.publicKey.curve === 'P-256') return { key, isNew: false };
  throw new RollcallError(
    'CONFIG_INVALID',
    `${path} holds a key on ${key.publicKey.curve}; wanted is P-256`,
    {
      hint: 'bring the key back from a backup, or move the file away; the link then makes a new key',
    },
  );
}
