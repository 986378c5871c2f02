/**
 * Decrypts OpenSSH private files; the one file that uses sshpk, for its bcrypt key derivation. Everything that a
 * hostile or odd file could say (cipher, rounds, sizes) is checked before sshpk sees it. sshpk is loaded only when an
 * encrypted file is met: most starts do without it.
 */
import { createRequire } from 'node:module';
import type sshpk from 'sshpk';
import { RollcallError } from '../base/errors.js';
import { missingPassphrase, refuseKey, wrongPassphrase, type KeyWish } from './key-errors.js';
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
  wish: KeyWish,
): Uint8Array {
  refuseOdd(encryption, wish);
  if (passphrase === undefined || passphrase === '') throw missingPassphrase(wish);
  try {
    const { parsePrivateKey } = createRequire(import.meta.url)('sshpk') as typeof sshpk;
    const number = parsePrivateKey(block.text, 'ssh-private', { passphrase }).part['d' as 'ecdsa'] as
      { data: Buffer } | undefined;
    if (!number) throw new Error('no private number');
    return number.data;
  } catch {
    // The cause stays here: sshpk's errors may hold parts of what it decrypted.
    throw wrongPassphrase(wish);
  }
}

function refuseOdd({ cipher, kdf, kdfOptions, secret }: Encryption, wish: KeyWish): void {
  if (!ciphers.includes(cipher) || kdf !== 'bcrypt') {
    throw refuseKey(
      wish,
      'an OpenSSH private key encrypted in a way that is not read here',
      `encrypt it anew with: ssh-keygen -p -Z aes256-ctr -f ${wish.path}`,
    );
  }
  if (secret.length === 0 || secret.length % 16 !== 0) throw refuseKey(wish, 'a damaged OpenSSH private key');
  const rounds = findRounds(kdfOptions);
  if (rounds === undefined || rounds === 0) throw refuseKey(wish, 'a damaged OpenSSH private key');
  if (rounds > maxRounds) {
    throw refuseKey(
      wish,
      `an OpenSSH private key with ${rounds} rounds of key derivation, more than ${maxRounds}`,
      `encrypt it anew with: ssh-keygen -p -a 24 -f ${wish.path}`,
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
