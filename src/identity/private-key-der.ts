/**
 * Private keys in DER: reads PKCS#8 (RFC 5958) and SEC1 (RFC 5915), writes PKCS#8. It extracts curve and scalar from
 * the bytes itself, so that no library parses explicit curve parameters or a public key of another pair.
 */
import { isRollcallError } from '../base/errors.js';
import { curves, findCurveByOid, type Curve } from './curve.js';
import {
  bytesOfBits,
  childrenOf,
  contextTag,
  derTag,
  oidOf,
  readDer,
  sequenceOf,
  unsignedOf,
  expectTag,
  type DerElement,
} from './der.js';
import { nameOfAlgorithm, nameOfCurve } from './foreign-key.js';
import { refuseKey, type ExpectedKey } from './key-errors.js';

export interface PrivateNumber {
  readonly curve: Curve;
  /** Big-endian, as many bytes as a coordinate has. Secret. */
  readonly scalar: Uint8Array;
  /** The public point in the file, if any. */
  readonly point?: Buffer | undefined;
}

/** Reads an unencrypted PKCS#8 PrivateKeyInfo; KEY_UNSUPPORTED names other contents. */
export function parsePkcs8(der: Uint8Array, expected: ExpectedKey): PrivateNumber {
  return namingDamage(expected, () => {
    const [version, algorithm, key] = sequenceOf(readDer(der));
    unsignedOf(version);
    const foreign = nameOfAlgorithm(algorithm);
    if (foreign !== undefined) throw refuseKey(expected, foreign);
    const curve = getCurve(sequenceOf(algorithm)[1]);
    return readNumber(readDer(expectTag(key, derTag.octetString).content), curve, expected);
  });
}

/** Reads an unencrypted SEC1 ECPrivateKey, which must name its curve. */
export function parseSec1(der: Uint8Array, expected: ExpectedKey): PrivateNumber {
  return namingDamage(expected, () => readNumber(readDer(der), undefined, expected));
}

function readNumber(
  element: DerElement,
  outerCurve: Curve | undefined,
  expected: ExpectedKey,
): PrivateNumber {
  const [version, number, ...optional] = sequenceOf(element);
  if (!unsignedOf(version).equals(Buffer.of(1))) throw new Error('not version 1');
  const parameters = optionalField(optional, 0);
  const foreign = parameters || !outerCurve ? nameOfCurve(parameters) : undefined;
  if (foreign !== undefined) throw refuseKey(expected, foreign);
  const curve = parameters ? getCurve(parameters) : outerCurve;
  if (!curve || (outerCurve && outerCurve !== curve)) throw new Error('two curves');
  const point = optionalField(optional, 1);
  return {
    curve,
    scalar: wholeField(expectTag(number, derTag.octetString).content, curve),
    point: point && bytesOfBits(point),
  };
}

function getCurve(parameters: DerElement | undefined): Curve {
  const curve = findCurveByOid(oidOf(parameters));
  if (!curve) throw new Error('no curve');
  return curve;
}

function optionalField(fields: readonly DerElement[], number: number): DerElement | undefined {
  const field = fields.find(each => each.tag === contextTag(number));
  return field && childrenOf(field)[0];
}

/** Some writers drop leading zero bytes, some add one. */
export function wholeField(number: Uint8Array, curve: Curve): Uint8Array {
  const { fieldBytes } = curves[curve];
  const excess = number.subarray(0, Math.max(0, number.length - fieldBytes));
  if (excess.some(byte => byte !== 0)) throw new Error('number too long');
  const whole = new Uint8Array(fieldBytes);
  const digits = number.subarray(excess.length);
  whole.set(digits, fieldBytes - digits.length);
  return whole;
}

/** A malformed key is refused in one line; the problem is in the cause. */
function namingDamage<T>(expected: ExpectedKey, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (isRollcallError(error, 'KEY_UNSUPPORTED')) throw error;
    throw refuseKey(expected, 'a damaged private key', expected.hint, error);
  }
}

// PrivateKeyInfo up to the scalar, and the bytes between scalar and point (as OpenSSL writes them).
const pkcs8Frames: Readonly<Record<Curve, { readonly start: Buffer; readonly middle: Buffer }>> = {
  'P-256': {
    start: Buffer.from('308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420', 'hex'),
    middle: Buffer.from('a144034200', 'hex'),
  },
  'P-384': {
    start: Buffer.from('3081b6020100301006072a8648ce3d020106052b8104002204819e30819b0201010430', 'hex'),
    middle: Buffer.from('a164036200', 'hex'),
  },
};

/** Writes PKCS#8 DER with the uncompressed point. Secret. */
export function encodePkcs8(curve: Curve, scalar: Uint8Array, point: Uint8Array): Buffer {
  const { start, middle } = pkcs8Frames[curve];
  return Buffer.concat([start, scalar, middle, point]);
}
