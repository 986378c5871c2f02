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

/** Opens the key, making it when it is missing. Fails with CONFIG_INVALID, FILE_* or KEY_UNSUPPORTED for one that is not fit. */
export async function openCheckpointKey(folder: string, random: Random): Promise<PrivateKey> {
  const path = join(folder, auditKeyFile);
  const bytes = await unlessMissing(readSecretFile(path, 'audit key'));
  if (!bytes) {
    const key = generatePrivateKey('P-256', random);
    await writeWholeFile(path, toPkcs8Pem(key));
    return key;
  }
  const key = readPrivateKey(bytes, undefined, path);
  if (key.publicKey.curve === 'P-256') return key;
  throw new RollcallError('CONFIG_INVALID', `${path} holds a key on ${key.publicKey.curve}; expected P-256`, {
    hint: 'bring the key back from a backup, or move the file away; the link then makes a new key',
  });
}
