/**
 * Reads key files in every common form: OpenSSH public line and private file, PEM SubjectPublicKeyInfo, PKCS#8 and
 * SEC1, encrypted or not, and JSON Web Keys. For any other contents KEY_UNSUPPORTED names the found and the expected
 * key in one line; a missing or wrong passphrase is KEY_PASSPHRASE. Contents are never repeated.
 */
import { isRollcallError } from '../base/errors.js';
import { readSecretFile, readSmallFile, type Warn } from '../base/secret-file.js';
import { nameOfLabel, parseKeyText } from './key-text.js';
import { expectedPrivateKey, expectedPublicKey, refuseKey, type ExpectedKey } from './key-errors.js';
import { opensshPrivateLabel, parseOpensshPrivate, parseSshBlob } from './openssh.js';
import { decryptPem } from './pem-encrypted.js';
import type { PemBlock } from './pem.js';
import { parsePkcs8, parseSec1, type PrivateNumber } from './private-key-der.js';
import { privateKeyFromNumber, type PrivateKey } from './private-key.js';
import { parseSpki, publicKeyFromPoint, type PublicKey } from './public-key.js';

/** A key file has a few hundred bytes; the limit fits 16 KiB RSA keys with comments, so that they can be named. */
export const maxKeyFileBytes = 64 * 1024;

export interface CommentedPublicKey extends PublicKey {
  /** The comment after the key in an OpenSSH line. */
  readonly comment?: string;
}

/** Reads a public key from the bytes of a file. `path` names the file in messages; nothing is opened. */
export function readPublicKey(bytes: Uint8Array, path?: string): CommentedPublicKey {
  const expected = expectedPublicKey(path);
  const text = parseKeyText(bytes, expected);
  if (text.form === 'ssh-line') {
    const { type, blob, comment } = text.line;
    const key = parseSshBlob(blob, expected, type);
    return comment === '' ? key : Object.freeze({ ...key, comment });
  }
  if (text.form === 'jwk') {
    const { curve, point, scalar } = text.jwk;
    if (!scalar) return publicKeyFromPoint(curve, point, expected);
    throw refuseKey(expected, 'a private key', 'give its public half: the same JSON without the member "d"');
  }
  const { label, body } = text.block;
  if (label === 'PUBLIC KEY') return parseSpki(body, expected);
  throw refuseKey(expected, nameOfLabel(label), hintForPublic(label, expected));
}

function hintForPublic(label: string, { path, hint }: ExpectedKey): string {
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

/** Reads a private key from the bytes of a file; an encrypted key needs the passphrase. */
export function readPrivateKey(bytes: Uint8Array, passphrase?: string, path?: string): PrivateKey {
  const expected = expectedPrivateKey(path);
  const text = parseKeyText(bytes, expected);
  if (text.form === 'ssh-line') throw refusePublic(expected);
  if (text.form === 'jwk') {
    const { curve, point, scalar } = text.jwk;
    if (scalar) return privateKeyFromNumber({ curve, point, scalar }, expected);
    throw refusePublicJwk(expected);
  }
  return privateKeyFromNumber(readNumber(text.block, passphrase, expected), expected);
}

function refusePublic(expected: ExpectedKey) {
  return refuseKey(expected, 'a public key', 'give the other half of the pair: the file without .pub');
}

function refusePublicJwk(expected: ExpectedKey) {
  return refuseKey(expected, 'a public key', 'give the private key: the same JSON with the member "d"');
}

function readNumber(block: PemBlock, passphrase: string | undefined, expected: ExpectedKey): PrivateNumber {
  const isEncrypted = block.headers.some(header => /^Proc-Type:\s*4,\s*ENCRYPTED$/.test(header));
  switch (block.label) {
    case opensshPrivateLabel:
      return parseOpensshPrivate(block, passphrase, expected);
    case 'ENCRYPTED PRIVATE KEY':
      // Our own strict reader parses the decrypted bytes, whatever they are.
      return parsePkcs8(decryptPem(block, passphrase, expected), expected);
    case 'PRIVATE KEY':
      return parsePkcs8(block.body, expected);
    case 'EC PRIVATE KEY':
      return isEncrypted
        ? parsePkcs8(decryptPem(block, passphrase, expected), expected)
        : parseSec1(block.body, expected);
    case 'PUBLIC KEY':
      throw refusePublic(expected);
    default:
      throw refuseKey(expected, nameOfLabel(block.label), hintForPrivate(block.label, expected));
  }
}

function hintForPrivate(label: string, { hint }: ExpectedKey): string {
  return label === 'TSS2 PRIVATE KEY' || label.startsWith('PKCS#11')
    ? `a node key is in a file; ${hint}`
    : hint;
}

/** Reads a public key file. */
export async function loadPublicKeyFile(path: string): Promise<CommentedPublicKey> {
  return readPublicKey(await readSmallFile(path, 'public key', maxKeyFileBytes), path);
}

export interface PrivateKeyFileOptions {
  /** Called once, and only when the key is encrypted. */
  readonly passphrase?: (() => Promise<string>) | undefined;
  /** Called for a file that a platform has mounted readable by all. */
  readonly warn?: Warn;
}

/** Reads a private key file, which must be private to its owner (FILE_PERMISSIONS). */
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
    if (isRollcallError(error, 'FILE_PERMISSIONS')) await refuseUnlessPrivate(path);
    throw error;
  }
}

/** A public key or a certificate passed by mistake is usually readable by all; "chmod 600" would be wrong advice. */
async function refuseUnlessPrivate(path: string): Promise<void> {
  const expected = expectedPrivateKey(path);
  const text = parseKeyText(await readSmallFile(path, 'private key', maxKeyFileBytes), expected);
  if (text.form === 'jwk') {
    if (text.jwk.scalar) return;
    throw refusePublicJwk(expected);
  }
  if (text.form === 'ssh-line' || text.block.label === 'PUBLIC KEY') throw refusePublic(expected);
  if (!text.block.label.endsWith('PRIVATE KEY')) throw refuseKey(expected, nameOfLabel(text.block.label));
}
