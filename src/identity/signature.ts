/**
 * Checks ECDSA signatures: SHA-256 with P-256, SHA-384 with P-384, strict DER. Either S is accepted, since no
 * signature is ever an identifier. A bad signature is `false`, never an error.
 *
 * A P-384 check takes half a millisecond and runs in the thread pool; a P-256 check takes less than the way there.
 */
import { verify, type KeyObject } from 'node:crypto';
import { curves, type Curve } from './curve.js';
import { derTag, readDer, childrenOf, unsignedOf } from './der.js';
import type { PublicKey } from './public-key.js';

/**
 * True when the bytes are `SEQUENCE { r INTEGER, s INTEGER }` in minimal DER, with no bytes after it, and both
 * numbers are positive and no longer than the curve's order.
 */
export function isStrictSignature(signature: Uint8Array, curve: Curve): boolean {
  const { fieldBytes } = curves[curve];
  // The maximum: two integers with a zero byte before a full field, each with two bytes of tag and length.
  if (signature.length > 2 * (fieldBytes + 3) + 3) return false;
  try {
    const numbers = childrenOf(readDer(signature, derTag.sequence));
    return (
      numbers.length === 2 &&
      numbers.map(unsignedOf).every(({ length }) => length > 0 && length <= fieldBytes)
    );
  } catch {
    return false;
  }
}

/** Whether `signature` (ECDSA in DER) is by this key over this message. Never rejects. */
export async function verifySignature(
  { curve, keyObject }: PublicKey,
  message: Uint8Array,
  signature: Uint8Array,
): Promise<boolean> {
  if (!isStrictSignature(signature, curve)) return false;
  if (curve === 'P-384') return verifyOnThreadPool(keyObject, message, signature);
  return verify(curves[curve].hash, message, keyObject, signature);
}

function verifyOnThreadPool(key: KeyObject, message: Uint8Array, signature: Uint8Array): Promise<boolean> {
  return new Promise(resolve => {
    verify(curves['P-384'].hash, message, key, signature, (error, valid) => resolve(!error && valid));
  });
}
