/**
 * Decrypts OpenSSH private files; the only module that uses sshpk, for its bcrypt key derivation. Every value of a
 * hostile file (cipher, rounds, sizes) is checked before sshpk reads it. sshpk is loaded only for an encrypted file:
 * most starts do without it.
 */
import { createRequire } from 'node:module';
import type sshpk from 'sshpk';
import { RollcallError } from '../base/errors.js';
import { missingPassphrase, refuseKey, wrongPassphrase, type ExpectedKey } from './key-errors.js';
import type { PemBlock } from './pem.js';
import { createSshReader } from './ssh-wire.js';

const ciphers = ['aes256-ctr', 'aes192-ctr', 'aes128-ctr', 'aes256-cbc', 'aes192-cbc', 'aes128-cbc'];

/** ssh-keygen uses 16 or 24; each costs some 20 ms here. */
const maxRounds = 1000;

export interface Encryption {
  readonly cipher: string;
  readonly kdf: string;
  readonly kdfOptions: Buffer;
  readonly secret: Buffer;
}

/** The private number inside, as big-endian bytes. Secret. */
export function decryptOpenssh(
  block: PemBlock,
  encryption: Encryption,
  passphrase: string | undefined,
  expected: ExpectedKey,
): Uint8Array {
  refuseUnsupportedEncryption(encryption, expected);
  if (passphrase === undefined || passphrase === '') throw missingPassphrase(expected);
  try {
    const { parsePrivateKey } = createRequire(import.meta.url)('sshpk') as typeof sshpk;
    const number = parsePrivateKey(block.text, 'ssh-private', { passphrase }).part['d' as 'ecdsa'] as
      { data: Buffer } | undefined;
    if (!number) throw new Error('no private number');
    return number.data;
  } catch {
    // The cause stays here: sshpk's errors may hold parts of what it decrypted.
    throw wrongPassphrase(expected);
  }
}

function refuseUnsupportedEncryption(
  { cipher, kdf, kdfOptions, secret }: Encryption,
  expected: ExpectedKey,
): void {
  if (!ciphers.includes(cipher) || kdf !== 'bcrypt') {
    throw refuseKey(
      expected,
      'an OpenSSH private key with an unsupported encryption',
      `encrypt it anew with: ssh-keygen -p -Z aes256-ctr -f ${expected.path}`,
    );
  }
  if (secret.length === 0 || secret.length % 16 !== 0)
    throw refuseKey(expected, 'a damaged OpenSSH private key');
  const rounds = findRounds(kdfOptions);
  if (rounds === undefined || rounds === 0) throw refuseKey(expected, 'a damaged OpenSSH private key');
  if (rounds > maxRounds) {
    throw refuseKey(
      expected,
      `an OpenSSH private key with ${rounds} rounds of key derivation, more than ${maxRounds}`,
      `encrypt it anew with: ssh-keygen -p -a 24 -f ${expected.path}`,
    );
  }
}

function findRounds(kdfOptions: Buffer): number | undefined {
  try {
    const reader = createSshReader(kdfOptions);
    return reader.string().length > 0 ? reader.uint32() : undefined;
  } catch (error) {
    if (error instanceof RollcallError) return undefined;
    throw error;
  }
}
