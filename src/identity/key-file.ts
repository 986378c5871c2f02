/**
 * Reads key files in every form people have them: OpenSSH public line and private file, PEM SubjectPublicKeyInfo,
 * PKCS#8 and SEC1, encrypted or not, JSON Web Keys. Whatever else is in the file gets one line that says what it is and what is
 * wanted (KEY_UNSUPPORTED), a missing or wrong passphrase is KEY_PASSPHRASE. The content is never repeated.
 */
import { isRollcallError } from '../base/errors.js';
import { readSecretFile, readSmallFile, type Warn } from '../base/secret-file.js';
import { nameOfLabel, parseKeyText } from './key-text.js';
import { privateKeyWish, publicKeyWish, refuseKey, type KeyWish } from './key-errors.js';
import { opensshPrivateLabel, parseOpensshPrivate, parseSshBlob } from './openssh.js';
import { decryptPem } from './pem-encrypted.js';
import type { PemBlock } from './pem.js';
import { parsePkcs8, parseSec1, type PrivateNumber } from './private-key-der.js';
import { privateKeyFromNumber, type PrivateKey } from './private-key.js';
import { parseSpki, publicKeyFromPoint, type PublicKey } from './public-key.js';

/** A key file is a few hundred bytes; 16 KiB RSA keys with comments fit as well, so that they can be named. */
export const maxKeyFileBytes = 64 * 1024;

export interface CommentedPublicKey extends PublicKey {
  /** What stands after the key in an OpenSSH line. */
  readonly comment?: string;
}

/** Reads a public key out of a file's bytes. `path` names the file in messages; nothing is opened. */
export function readPublicKey(bytes: Uint8Array, path?: string): CommentedPublicKey {
  const wish = publicKeyWish(path);
  const text = parseKeyText(bytes, wish);
  if (text.form === 'ssh-line') {
    const { type, blob, comment } = text.line;
    const key = parseSshBlob(blob, wish, type);
    return comment === '' ? key : Object.freeze({ ...key, comment });
  }
  if (text.form === 'jwk') {
    const { curve, point, scalar } = text.jwk;
    if (!scalar) return publicKeyFromPoint(curve, point, wish);
    throw refuseKey(wish, 'a private key', 'give its public half: the same JSON without the member "d"');
  }
  const { label, body } = text.block;
  if (label === 'PUBLIC KEY') return parseSpki(body, wish);
  throw refuseKey(wish, nameOfLabel(label), hintForPublic(label, wish));
}

function hintForPublic(label: string, { path, hint }: KeyWish): string {
  if (label === opensshPrivateLabel) return `give its public half: ssh-keygen -y -f ${path} > ${path}.pub`;
  if (label === 'TSS2 PRIVATE KEY')
    return 'give its public half, as the tool that made it in the TPM writes it';
  if (label.endsWith('PRIVATE KEY'))
    return `give its public half: openssl pkey -in ${path} -pubout -out ${path}.pub`;
  if (label.endsWith('CERTIFICATE'))
    return `take the key out of it: openssl x509 -in ${path} -pubkey -noout > ${path}.pub`;
  if (label.endsWith('REQUEST'))
    return `take the key out of it: openssl req -in ${path} -pubkey -noout > ${path}.pub`;
  return hint;
}

/** Reads a private key out of a file's bytes; the passphrase is needed only when it is encrypted. */
export function readPrivateKey(bytes: Uint8Array, passphrase?: string, path?: string): PrivateKey {
  const wish = privateKeyWish(path);
  const text = parseKeyText(bytes, wish);
  if (text.form === 'ssh-line') throw refusePublic(wish);
  if (text.form === 'jwk') {
    const { curve, point, scalar } = text.jwk;
    if (scalar) return privateKeyFromNumber({ curve, point, scalar }, wish);
    throw refusePublicJwk(wish);
  }
  return privateKeyFromNumber(readNumber(text.block, passphrase, wish), wish);
}

function refusePublic(wish: KeyWish) {
  return refuseKey(wish, 'a public key', 'give the other half of the pair: the file without .pub');
}

function refusePublicJwk(wish: KeyWish) {
  return refuseKey(wish, 'a public key', 'give the private key: the same JSON with the member "d"');
}

function readNumber(block: PemBlock, passphrase: string | undefined, wish: KeyWish): PrivateNumber {
  const isEncrypted = block.headers.some(header => /^Proc-Type:\s*4,\s*ENCRYPTED$/.test(header));
  switch (block.label) {
    case opensshPrivateLabel:
      return parseOpensshPrivate(block, passphrase, wish);
    case 'ENCRYPTED PRIVATE KEY':
      // What comes out is read by our own strict reader, whatever it is.
      return parsePkcs8(decryptPem(block, passphrase, wish), wish);
    case 'PRIVATE KEY':
      return parsePkcs8(block.body, wish);
    case 'EC PRIVATE KEY':
      return isEncrypted
        ? parsePkcs8(decryptPem(block, passphrase, wish), wish)
        : parseSec1(block.body, wish);
    case 'PUBLIC KEY':
      throw refusePublic(wish);
    default:
      throw refuseKey(wish, nameOfLabel(block.label), hintForPrivate(block.label, wish));
  }
}

function hintForPrivate(label: string, { hint }: KeyWish): string {
  return label === 'TSS2 PRIVATE KEY' || label.startsWith('PKCS#11')
    ? `a node key is in a file; ${hint}`
    : hint;
}

/** Reads a public key file. */
export async function loadPublicKeyFile(path: string): Promise<CommentedPublicKey> {
  return readPublicKey(await readSmallFile(path, 'public key', maxKeyFileBytes), path);
}

export interface PrivateKeyFileOptions {
  /** Asked once, and only when the key is encrypted. */
  readonly passphrase?: (() => Promise<string>) | undefined;
  /** Hears of a file that a platform has mounted readable by all. */
  readonly warn?: Warn;
}

/** Reads a private key file, which must be for its owner alone (FILE_PERMISSIONS). */
export async function loadPrivateKeyFile(
  path: string,
  { passphrase, warn }: PrivateKeyFileOptions = {},
): Promise<PrivateKey> {
  const bytes = await readOwnersFile(path, warn);
  try {
    return readPrivateKey(bytes, undefined, path);
  } catch (error) {
    if (!passphrase || !isRollcallError(error, 'KEY_PASSPHRASE')) throw error;
  }
  return readPrivateKey(bytes, await passphrase(), path);
}

async function readOwnersFile(path: string, warn: Warn | undefined): Promise<Buffer> {
  try {
    return await readSecretFile(path, 'private key', maxKeyFileBytes, warn);
  } catch (error) {
    if (isRollcallError(error, 'FILE_PERMISSIONS')) await refuseWhatIsNotPrivate(path);
    throw error;
  }
}

/** A public key or a certificate given by mistake is usually readable by all; "chmod 600" would be the wrong advice. */
async function refuseWhatIsNotPrivate(path: string): Promise<void> {
  const wish = privateKeyWish(path);
  const text = parseKeyText(await readSmallFile(path, 'private key', maxKeyFileBytes), wish);
  if (text.form === 'jwk') {
    if (text.jwk.scalar) return;
    throw refusePublicJwk(wish);
  }
  if (text.form === 'ssh-line' || text.block.label === 'PUBLIC KEY') throw refusePublic(wish);
  if (!text.block.label.endsWith('PRIVATE KEY')) throw refuseKey(wish, nameOfLabel(text.block.label));
}
