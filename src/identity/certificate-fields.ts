/**
 * Parses an X.509 version 3 certificate with the strict DER reader, without judging it: certificate.ts does that.
 * Anything malformed, or unknown in a place where only known values are safe, or not as RFC 5280 requires, throws an
 * Error that names the problem.
 */
import {
  booleanOf,
  bytesOfBits,
  childrenOf,
  contextTag,
  derTag,
  oidOf,
  readDer,
  sequenceOf,
  timeOf,
  unsignedOf,
  expectTag,
  type DerElement,
} from './der.js';

export interface CertificateFields {
  /** The bytes that the signature covers. */
  readonly signedPart: Buffer;
  /** DER of the AlgorithmIdentifier, which is in the certificate twice with equal bytes. */
  readonly signatureAlgorithm: Buffer;
  readonly signature: Buffer;
  /** Lower-case hex, whole bytes. */
  readonly serial: string;
  /** DER of the names. */
  readonly issuer: Buffer;
  readonly subject: Buffer;
  /** Milliseconds since 1970. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** SubjectPublicKeyInfo DER. */
  readonly spki: Buffer;
  /** By dotted object identifier, each at most once. */
  readonly extensions: ReadonlyMap<string, CertificateExtension>;
}

export interface CertificateExtension {
  readonly critical: boolean;
  /** DER of the extension's own type. */
  readonly value: Buffer;
}

export function readCertificateFields(der: Uint8Array): CertificateFields {
  const [body, algorithm, signature, ...rest] = sequenceOf(readDer(der));
  const signed = expectTag(body, derTag.sequence);
  const [version, serial, innerAlgorithm, issuer, validity, subject, spki, extensions, ...more] =
    sequenceOf(signed);
  // Further elements would be the unique identifiers of version 2, which must not be used (RFC 5280 §4.1.2.8).
  if (rest.length > 0 || more.length > 0) throw new Error('fields after the last');
  if (!unsignedOf(onlyChild(version, 0)).equals(Buffer.of(2))) throw new Error('not version 3');
  const [notBefore, notAfter, ...otherDates] = sequenceOf(validity);
  if (otherDates.length > 0) throw new Error('more than two dates');
  return {
    signedPart: signed.whole,
    signatureAlgorithm: readAlgorithm(algorithm, innerAlgorithm),
    signature: bytesOfBits(signature),
    serial: readSerial(serial),
    issuer: expectTag(issuer, derTag.sequence).whole,
    subject: expectTag(subject, derTag.sequence).whole,
    notBefore: timeOf(notBefore),
    notAfter: timeOf(notAfter),
    spki: expectTag(spki, derTag.sequence).whole,
    extensions: readExtensions(sequenceOf(onlyChild(extensions, 3))),
  };
}

/** The one element inside `[number]`. */
function onlyChild(element: DerElement | undefined, number: number): DerElement | undefined {
  const [child, ...others] = childrenOf(expectTag(element, contextTag(number)));
  if (others.length > 0) throw new Error('more than one element');
  return child;
}

/** The algorithm is inside and outside of the signed bytes; RFC 5280 §4.1.1.2 requires them to be equal. */
function readAlgorithm(outer: DerElement | undefined, inner: DerElement | undefined): Buffer {
  const { whole } = expectTag(outer, derTag.sequence);
  if (!inner?.whole.equals(whole)) throw new Error('two signature algorithms');
  return whole;
}

function readSerial(element: DerElement | undefined): string {
  const serial = unsignedOf(element);
  if (serial.length === 0 || expectTag(element, derTag.integer).content.length > 20) {
    throw new Error('a serial that is zero or too long');
  }
  return serial.toString('hex');
}

function readExtensions(elements: readonly DerElement[]): Map<string, CertificateExtension> {
  const extensions = new Map<string, CertificateExtension>();
  for (const element of elements) {
    const parts = sequenceOf(element);
    const name = oidOf(parts[0]);
    if (extensions.has(name)) throw new Error(`the extension ${name} twice`);
    const critical = parts.length === 3 && booleanOf(parts[1]);
    // FALSE is the default, and DER omits defaults.
    if (parts.length > 3 || (parts.length === 3 && !critical))
      throw new Error(`a malformed extension ${name}`);
    extensions.set(name, { critical, value: expectTag(parts.at(-1), derTag.octetString).content });
  }
  return extensions;
}

/** The name and the key of an authority, whatever its signer and its other fields are. */
export function readAnchorFields(der: Uint8Array): Pick<CertificateFields, 'subject' | 'spki'> {
  const fields = sequenceOf(sequenceOf(readDer(der))[0]);
  // Version 1 omits the version.
  const serialAt = fields[0]?.tag === contextTag(0) ? 1 : 0;
  const [, , , , subject, spki] = fields.slice(serialAt);
  return {
    subject: expectTag(subject, derTag.sequence).whole,
    spki: expectTag(spki, derTag.sequence).whole,
  };
}
