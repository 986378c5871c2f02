/**
 * A node's public key. A key is accepted only in its one canonical form: SubjectPublicKeyInfo DER with the named
 * curve and the uncompressed point, 91 bytes on P-256 and 120 on P-384. That form is compared byte by byte before any
 * library parses it, because parsers have ended the process over other forms and have been fooled by some
 * (CVE-2020-0601).
 */
import { createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto';
import type { RollcallError } from '../base/errors.js';
import { curveNames, curves, type Curve } from './curve.js';
import { nameOfSpki } from './foreign-key.js';
import { refuseKey, expectedWireKey, type ExpectedKey } from './key-errors.js';
import { sshFingerprint, sshString } from './ssh-wire.js';

export type { Curve } from './curve.js';

export interface PublicKey {
  readonly curve: Curve;
  /** Canonical SubjectPublicKeyInfo DER: 91 bytes on P-256, 120 on P-384. */
  readonly spki: Buffer;
  /** `SHA256:…`, exactly as `ssh-keygen -lf` shows it. */
  readonly fingerprint: string;
  /** For node:crypto, parsed once. */
  readonly keyObject: KeyObject;
}

/** Reads a canonical SubjectPublicKeyInfo; KEY_UNSUPPORTED names the found and the `expected` key in one line. */
export function parseSpki(der: Uint8Array, expected: ExpectedKey = expectedWireKey): PublicKey {
  const { curve, spki } = canonicalSpki(der, expected);
  return Object.freeze({
    curve,
    spki,
    fingerprint: sshFingerprint(sshBlobOf(curve, pointOf(curve, spki))),
    keyObject: keyOnCurve(curve, spki, expected),
  });
}

/** The canonical form alone: the function that verifies with the key checks that its point is on the curve. */
export function canonicalSpki(
  der: Uint8Array,
  expected: ExpectedKey = expectedWireKey,
): { readonly curve: Curve; readonly spki: Buffer } {
  const curve = curveNames.find(each => isCanonical(der, each));
  if (!curve) throw refuseForeign(der, expected);
  return { curve, spki: Buffer.from(der) };
}

function refuseForeign(der: Uint8Array, expected: ExpectedKey): RollcallError {
  const name = nameOfSpki(der);
  return /(compressed|hybrid) point$/.test(name)
    ? refuseKey(
        expected,
        name,
        `write it uncompressed with: openssl pkey -pubin -in ${expected.path} -pubout -ec_conv_form uncompressed`,
      )
    : refuseKey(expected, name);
}

function isCanonical(der: Uint8Array, curve: Curve): boolean {
  const { spkiPrefix, fieldBytes } = curves[curve];
  return (
    der.length === spkiPrefix.length + 2 * fieldBytes &&
    spkiPrefix.every((byte, index) => der[index] === byte)
  );
}

function pointOf(curve: Curve, spki: Buffer): Buffer {
  return spki.subarray(curves[curve].spkiPrefix.length - 1);
}

/**
 * OpenSSL refuses coordinates outside the field and points off the curve; both curves have no small subgroups. On
 * P-256 its reader of coordinates takes half the time of its reader of DER; on P-384 it is the other way round.
 */
function keyOnCurve(curve: Curve, spki: Buffer, expected: ExpectedKey): KeyObject {
  try {
    return curve === 'P-256'
      ? createPublicKey({ key: toJwk(curve, spki), format: 'jwk' })
      : createPublicKey({ key: spki, format: 'der', type: 'spki' });
  } catch (error) {
    throw refuseKey(expected, 'an ECDSA key whose point is not on its curve', undefined, error);
  }
}

/** RFC 7518 §6.2.1. */
function toJwk(curve: Curve, spki: Buffer): JsonWebKey {
  const point = pointOf(curve, spki);
  const { fieldBytes } = curves[curve];
  const [x, y] = [point.subarray(1, 1 + fieldBytes), point.subarray(1 + fieldBytes)];
  return { kty: 'EC', crv: curve, x: x.toString('base64url'), y: y.toString('base64url') };
}

function sshBlobOf(curve: Curve, point: Uint8Array): Buffer {
  const { sshName } = curves[curve];
  return Buffer.concat([sshString(`ecdsa-sha2-${sshName}`), sshString(sshName), sshString(point)]);
}

/** The key of an uncompressed point: 0x04, x, y. */
export function publicKeyFromPoint(
  curve: Curve,
  point: Uint8Array,
  expected: ExpectedKey = expectedWireKey,
): PublicKey {
  const { spkiPrefix } = curves[curve];
  return parseSpki(Buffer.concat([spkiPrefix.subarray(0, -1), point]), expected);
}

/** The SSH public-key blob (RFC 5656 §3.1), the input of the fingerprint. */
export function toSshBlob({ curve, spki }: PublicKey): Buffer {
  return sshBlobOf(curve, pointOf(curve, spki));
}

/** The uncompressed point: 0x04, x, y. */
export function toPoint({ curve, spki }: PublicKey): Buffer {
  return pointOf(curve, spki);
}
