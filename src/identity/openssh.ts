/**
 * The two OpenSSH formats of `ssh-keygen -t ecdsa`: the public line, and the private file (PROTOCOL.key of OpenSSH).
 * Certificates and security keys are refused by name.
 */
import { toPem } from '../base/pem.js';
import { systemRandom, type Random } from '../base/random.js';
import { curves, findCurveBySshType } from './curve.js';
import { nameOfSshType } from './foreign-key.js';
import { refuseKey, type ExpectedKey } from './key-errors.js';
import { decryptOpenssh } from './openssh-encrypted.js';
import type { PemBlock } from './pem.js';
import { wholeField, type PrivateNumber } from './private-key-der.js';
import { revealScalar, type PrivateKey } from './private-key.js';
import { publicKeyFromPoint, toPoint, toSshBlob, type PublicKey } from './public-key.js';
import { createSshReader, sshMpint, sshString, sshUint32 } from './ssh-wire.js';

const magic = Buffer.from('openssh-key-v1\0', 'latin1');
export const opensshPrivateLabel = 'OPENSSH PRIVATE KEY';

/** Reads an SSH public-key blob; KEY_UNSUPPORTED names other contents. `stated` is the type before it in a line. */
export function parseSshBlob(blob: Buffer, expected: ExpectedKey, stated?: string): PublicKey {
  const { type, curveName, point, rest } = readBlob(blob, expected);
  const curve = findCurveBySshType(type);
  if (!curve) throw refuseKey(expected, nameOfSshType(type));
  if (stated !== undefined && stated !== type) {
    throw refuseKey(expected, 'an OpenSSH line whose type contradicts its key');
  }
  if (curveName !== curves[curve].sshName || rest > 0) throw refuseKey(expected, 'a damaged OpenSSH key');
  return publicKeyFromPoint(curve, point, expected);
}

function readBlob(blob: Buffer, expected: ExpectedKey) {
  try {
    const reader = createSshReader(blob);
    const type = reader.string().toString('latin1');
    if (!findCurveBySshType(type)) return { type, curveName: '', point: Buffer.of(), rest: 0 };
    const curveName = reader.string().toString('latin1');
    return { type, curveName, point: reader.string(), rest: reader.rest().length };
  } catch (error) {
    throw refuseKey(expected, 'a damaged OpenSSH key', expected.hint, error);
  }
}

/** `ecdsa-sha2-nistp256 AAAA… comment`, with a line feed. */
export function formatOpensshPublic(publicKey: PublicKey, comment: string): string {
  const type = `ecdsa-sha2-${curves[publicKey.curve].sshName}`;
  return `${[type, toSshBlob(publicKey).toString('base64'), oneLine(comment)].join(' ').trim()}\n`;
}

/** The private file without a passphrase, for a 0600 file. Secret. */
export function formatOpensshPrivate(
  privateKey: PrivateKey,
  comment: string,
  random: Random = systemRandom,
): string {
  const { publicKey } = privateKey;
  const blob = toSshBlob(publicKey);
  const check = random(4);
  const secret = Buffer.concat([
    check,
    check,
    blob,
    sshMpint(revealScalar(privateKey)),
    sshString(oneLine(comment)),
  ]);
  // Without a cipher the block is 8 bytes; the padding counts 1, 2, 3 …
  const padding = Uint8Array.from({ length: (8 - (secret.length % 8)) % 8 }, (_, index) => index + 1);
  const file = [
    magic,
    sshString('none'),
    sshString('none'),
    sshString(''),
    sshUint32(1),
    sshString(blob),
    sshString(Buffer.concat([secret, padding])),
  ];
  return toPem(Buffer.concat(file), opensshPrivateLabel, { width: 70 });
}

function oneLine(comment: string): string {
  return comment.replaceAll(/\s+/g, ' ').trim();
}

interface Container {
  readonly cipher: string;
  readonly kdf: string;
  readonly kdfOptions: Buffer;
  readonly keyCount: number;
  readonly blob: Buffer;
  readonly secret: Buffer;
}

/**
 * Reads an OpenSSH private file. Its unencrypted part (key type, number of keys) is checked before the passphrase is
 * requested: KEY_PASSPHRASE when it is missing or wrong.
 */
export function parseOpensshPrivate(
  block: PemBlock,
  passphrase: string | undefined,
  expected: ExpectedKey,
): PrivateNumber {
  const container = readContainer(block.body, expected);
  if (container.keyCount !== 1) throw refuseKey(expected, `${container.keyCount} keys`);
  const publicKey = parseSshBlob(container.blob, expected);
  const { curve } = publicKey;
  const point = toPoint(publicKey);
  if (container.cipher === 'none' && container.kdf === 'none') {
    return { curve, point, scalar: readSecret(container.secret, publicKey, expected) };
  }
  const number = decryptOpenssh(block, container, passphrase, expected);
  return { curve, point, scalar: namingDamage(expected, () => wholeField(number, curve)) };
}

/** A malformed file is refused in one line; the problem is in the cause. */
function namingDamage<T>(expected: ExpectedKey, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw refuseKey(expected, 'a damaged OpenSSH private key', expected.hint, error);
  }
}

function readContainer(body: Buffer, expected: ExpectedKey): Container {
  return namingDamage(expected, () => {
    if (!body.subarray(0, magic.length).equals(magic)) throw new Error('another magic');
    const reader = createSshReader(body.subarray(magic.length));
    const [cipher, kdf] = [reader.string().toString('latin1'), reader.string().toString('latin1')];
    const kdfOptions = reader.string();
    const keyCount = reader.uint32();
    const blob = reader.string();
    const secret = keyCount === 1 ? reader.string() : Buffer.of();
    return { cipher, kdf, kdfOptions, keyCount, blob, secret };
  });
}

function readSecret(secret: Buffer, publicKey: PublicKey, expected: ExpectedKey): Uint8Array {
  return namingDamage(expected, () => {
    const reader = createSshReader(secret);
    if (reader.uint32() !== reader.uint32()) throw new Error('the check numbers differ');
    const own = toSshBlob(publicKey);
    if (!reader.rest().subarray(0, own.length).equals(own)) throw new Error('two public keys');
    const after = createSshReader(reader.rest().subarray(own.length));
    const scalar = wholeField(after.string(), publicKey.curve);
    after.string();
    if (!after.rest().every((byte, index) => byte === index + 1)) throw new Error('padding');
    return scalar;
  });
}
