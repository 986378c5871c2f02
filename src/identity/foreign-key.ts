/**
 * Names a key of an unsupported type ("an RSA key of 2048 bits") for a refusal. It uses the strict reader alone: no
 * cryptographic library ever parses a foreign key.
 */
import { curveNames, curves, findCurveByOid } from './curve.js';
import { bytesOfBits, oidOf, readDer, sequenceOf, unsignedOf, type DerElement } from './der.js';

const keyNames: Readonly<Record<string, string>> = {
  '1.2.840.113549.1.1.1': 'an RSA key',
  '1.2.840.113549.1.1.7': 'an RSA-OAEP key',
  '1.2.840.113549.1.1.10': 'an RSA-PSS key',
  '1.2.840.10040.4.1': 'a DSA key',
  '1.2.840.113549.1.3.1': 'a Diffie-Hellman key',
  '1.2.840.10046.2.1': 'a Diffie-Hellman key',
  '1.3.101.110': 'an X25519 key',
  '1.3.101.111': 'an X448 key',
  '1.3.101.112': 'an Ed25519 key',
  '1.3.101.113': 'an Ed448 key',
};

const ellipticKey = '1.2.840.10045.2.1';

const otherCurves: Readonly<Record<string, string>> = {
  '1.2.840.10045.3.1.1': 'P-192',
  '1.3.132.0.33': 'P-224',
  '1.3.132.0.35': 'P-521',
  '1.3.132.0.10': 'secp256k1',
  '1.3.36.3.3.2.8.1.1.7': 'brainpoolP256r1',
  '1.3.36.3.3.2.8.1.1.11': 'brainpoolP384r1',
  '1.3.36.3.3.2.8.1.1.13': 'brainpoolP512r1',
  '1.2.156.10197.1.301': 'SM2',
};

/** The key type of an AlgorithmIdentifier; undefined for an ECDSA key on a supported curve. */
export function nameOfAlgorithm(algorithm: DerElement | undefined): string | undefined {
  const [type, parameters] = sequenceOf(algorithm);
  const oid = oidOf(type);
  if (oid !== ellipticKey) return keyNames[oid] ?? `a key of an unknown kind (${oid})`;
  return nameOfCurve(parameters);
}

/** The name of EC parameters; undefined for a supported named curve. */
export function nameOfCurve(parameters: DerElement | undefined): string | undefined {
  if (parameters?.tag === 0x30) return 'an EC key with explicit curve parameters';
  if (parameters?.tag !== 0x06) return 'an EC key that does not name its curve';
  const oid = oidOf(parameters);
  if (findCurveByOid(oid)) return undefined;
  const name = otherCurves[oid];
  return name ? `an EC key on ${name}` : `an EC key on an unknown curve (${oid})`;
}

/** The name of the unsupported key in a SubjectPublicKeyInfo. Never throws. */
export function nameOfSpki(der: Uint8Array): string {
  try {
    const [algorithm, key] = sequenceOf(readDer(der));
    const bits = bytesOfBits(key);
    const name = nameOfAlgorithm(algorithm);
    if (name === undefined) return nameOfPoint(bits);
    return name.startsWith('an RSA') ? `${name}${sizeOfModulus(bits)}` : name;
  } catch {
    return hasSupportedPrefix(der)
      ? 'an ECDSA key that is cut off or has bytes after its end'
      : 'not a public key in SubjectPublicKeyInfo DER';
  }
}

function nameOfPoint(point: Buffer): string {
  const form = point[0];
  if (form === 2 || form === 3) return 'an ECDSA key with a compressed point';
  if (form === 6 || form === 7) return 'an ECDSA key with a hybrid point';
  return form === 4
    ? 'an ECDSA key whose point is not on its curve or not of its size'
    : 'an EC key with a malformed point';
}

function sizeOfModulus(bits: Buffer): string {
  const [modulus] = sequenceOf(readDer(bits));
  const magnitude = unsignedOf(modulus);
  const topBits = 32 - Math.clz32(magnitude[0] ?? 0);
  return ` of ${Math.max(0, magnitude.length - 1) * 8 + topBits} bits`;
}

function hasSupportedPrefix(der: Uint8Array): boolean {
  return curveNames.some(curve => {
    const { spkiPrefix } = curves[curve];
    // The first two bytes are the length, which truncated or appended bytes may change.
    return Buffer.from(der.subarray(2, spkiPrefix.length)).equals(spkiPrefix.subarray(2));
  });
}

const sshTypes: readonly (readonly [RegExp, string])[] = [
  [/-cert-v\d\d@openssh\.com$/, 'an OpenSSH certificate'],
  [/^sk-ssh-ed25519/, 'a FIDO security key (Ed25519)'],
  [/^(webauthn-)?sk-ecdsa/, 'a FIDO security key (ECDSA)'],
  [/^ssh-rsa$|^rsa-sha2-/, 'an RSA key'],
  [/^ssh-dss$/, 'a DSA key'],
  [/^ssh-ed25519$/, 'an Ed25519 key'],
  [/^ssh-ed448$/, 'an Ed448 key'],
  [/^ssh-xmss/, 'an XMSS key'],
  [/^ecdsa-sha2-nistp521$/, 'an EC key on P-521'],
];

/** The name of an unsupported SSH key type. The type string itself is never repeated. */
export function nameOfSshType(type: string): string {
  return sshTypes.find(([pattern]) => pattern.test(type))?.[1] ?? 'an SSH key of an unknown kind';
}
