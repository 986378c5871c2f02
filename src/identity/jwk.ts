/** Reads a JSON Web Key on a supported curve (RFC 7517, RFC 7518 §6.2), as step and jose write it. */
import { curveNames, curves } from './curve.js';
import { refuseKey, type ExpectedKey } from './key-errors.js';
import type { PrivateNumber } from './private-key-der.js';

export interface Jwk extends Omit<PrivateNumber, 'scalar'> {
  /** The uncompressed point. */
  readonly point: Buffer;
  /** Absent in a public key. Secret. */
  readonly scalar?: Buffer | undefined;
}

const otherTypes: ReadonlyMap<unknown, string> = new Map([
  ['RSA', 'an RSA key'],
  ['OKP', 'a key on an Edwards or Montgomery curve'],
  ['oct', 'a symmetric key'],
]);

/** KEY_UNSUPPORTED names the contents of other text. */
export function parseJwk(text: string, expected: ExpectedKey): Jwk {
  const { kty, crv, x, y, d, keys } = membersOf(text, expected);
  if (keys !== undefined)
    throw refuseKey(expected, 'a set of JSON Web Keys', 'put one key, without "keys", in a file of its own');
  if (kty === undefined) throw refuseKey(expected, 'JSON');
  const other = otherTypes.get(kty);
  if (other !== undefined) throw refuseKey(expected, `${other} (JWK)`);
  const curve = curveNames.find(name => name === crv);
  if (kty !== 'EC' || !curve) throw refuseKey(expected, 'a key on another curve (JWK)');
  const numberOf = (member: unknown): Buffer => {
    const bytes = Buffer.from(typeof member === 'string' ? member : '', 'base64url');
    if (bytes.length === curves[curve].fieldBytes && bytes.toString('base64url') === member) return bytes;
    throw refuseKey(expected, 'a damaged JSON Web Key');
  };
  return {
    curve,
    point: Buffer.concat([Buffer.of(4), numberOf(x), numberOf(y)]),
    scalar: d === undefined ? undefined : numberOf(d),
  };
}

function membersOf(text: string, expected: ExpectedKey): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return { ...value };
  } catch {
    // Its message would repeat a part of the text.
  }
  throw refuseKey(expected, 'damaged JSON');
}
