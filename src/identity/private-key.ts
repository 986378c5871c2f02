/**
 * A private key that can sign and reveals only its fingerprint when it is printed, logged or serialised. Signatures
 * are deterministic (RFC 6979), so a bad random source cannot leak the key, and are made by @noble/curves.
 *
 * The interface has no scalar on purpose: a key held by hardware can implement it as well.
 */
import type { KeyObject } from 'node:crypto';
import { inspect } from 'node:util';
import { p256, p384 } from '@noble/curves/nist.js';
import { RollcallError } from '../base/errors.js';
import { toPem } from '../base/pem.js';
import { systemRandom, type Random } from '../base/random.js';
import type { Curve } from './curve.js';
import { expectedPrivateKey, refuseKey, type ExpectedKey } from './key-errors.js';
import { encodePkcs8, parsePkcs8, type PrivateNumber } from './private-key-der.js';
import { publicKeyFromPoint, toPoint, type PublicKey } from './public-key.js';

export interface PrivateKey {
  readonly publicKey: PublicKey;
  /** ECDSA in DER, deterministic: SHA-256 on P-256, SHA-384 on P-384. */
  sign(message: Uint8Array): Buffer;
}

const ecdsa = { 'P-256': p256, 'P-384': p384 };

/**
 * An agent signs a few times in its life: with the default tables, which pay off after hundreds, its first use took
 * 45 ms.
 */
for (const { Point } of Object.values(ecdsa)) Point.BASE.precompute(4);

/** The scalar of each key made here, out of reach for printers and serialisers. */
const scalars = new WeakMap<PrivateKey, Uint8Array>();

function holdPrivateKey(curve: Curve, scalar: Uint8Array, publicKey: PublicKey): PrivateKey {
  const description = `PrivateKey(${publicKey.fingerprint})`;
  const key = {
    publicKey,
    // Low S is a rule of other protocols; without it the result is that of RFC 6979.
    sign: (message: Uint8Array) =>
      Buffer.from(ecdsa[curve].sign(message, scalar, { format: 'der', lowS: false, prehash: true })),
    toJSON: () => description,
    toString: () => description,
    [inspect.custom]: () => description,
  };
  scalars.set(key, scalar);
  return Object.freeze(key);
}

/** The key of a scalar read from a file; a point in the file must belong to it. */
export function privateKeyFromNumber(
  number: PrivateNumber,
  expected: ExpectedKey = expectedPrivateKey(),
): PrivateKey {
  const { curve, point } = number;
  const scalar = Uint8Array.from(number.scalar);
  if (!ecdsa[curve].utils.isValidSecretKey(scalar)) {
    throw refuseKey(expected, 'a private key out of range');
  }
  const publicKey = publicKeyFromPoint(curve, ecdsa[curve].getPublicKey(scalar, false), expected);
  if (point && !samePoint(point, toPoint(publicKey))) {
    throw refuseKey(expected, 'a private key and a public key that do not belong together');
  }
  return holdPrivateKey(curve, scalar, publicKey);
}

/** A file may hold the point compressed; then the x coordinate and the parity of y are compared. */
function samePoint(said: Buffer, own: Buffer): boolean {
  if (said[0] === 0x04) return said.equals(own);
  const x = own.subarray(1, 1 + (own.length - 1) / 2);
  return said.equals(Buffer.concat([Buffer.of(2 + ((own.at(-1) ?? 0) & 1)), x]));
}

/** A fresh key by FIPS 186-5 A.2.1: more random bits than the order has, reduced. */
export function generatePrivateKey(curve: Curve, random: Random = systemRandom): PrivateKey {
  const seed = random(ecdsa[curve].lengths.seed ?? 0);
  return privateKeyFromNumber({ curve, scalar: ecdsa[curve].utils.randomSecretKey(Uint8Array.from(seed)) });
}

/** The same key as a node:crypto private key on P-256 or P-384. */
export function privateKeyFromKeyObject(keyObject: KeyObject): PrivateKey {
  const expected = expectedPrivateKey();
  if (keyObject.type !== 'private') throw refuseKey(expected, `a ${keyObject.type} key object`);
  const der = keyObject.export({ type: 'pkcs8', format: 'der' });
  return privateKeyFromNumber(parsePkcs8(der, expected), expected);
}

/** The secret scalar itself, for the writers of key files only. Never print or keep it. */
export function revealScalar(privateKey: PrivateKey): Uint8Array {
  const scalar = scalars.get(privateKey);
  if (!scalar) throw new RollcallError('KEY_UNSUPPORTED', 'this private key cannot be exported');
  return Uint8Array.from(scalar);
}

/** PKCS#8 PEM, unencrypted: the `key` of TLS and the contents of a 0600 file. Secret. */
export function toPkcs8Pem(privateKey: PrivateKey): string {
  const { publicKey } = privateKey;
  return toPem(encodePkcs8(publicKey.curve, revealScalar(privateKey), toPoint(publicKey)), 'PRIVATE KEY');
}

/** SubjectPublicKeyInfo PEM. */
export function toSpkiPem(publicKey: PublicKey): string {
  return toPem(publicKey.spki, 'PUBLIC KEY');
}
