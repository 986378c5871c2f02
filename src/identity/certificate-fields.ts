/**
 * Takes an X.509 version 3 certificate apart with the strict DER reader, and judges nothing about it: that is done in
 * certificate.ts. What is malformed, unknown in a place where only the known is safe, or not as RFC 5280 writes it,
 * throws an Error that says so.
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
  wantTag,
  type DerElement,
} from './der.js';

export interface CertificateFields {
  /** What the signature covers. */
  readonly signedPart: Buffer;
  /** DER of the AlgorithmIdentifier, which stands twice and is the same both times. */
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
  const signed = wantTag(body, derTag.sequence);
  const [version, serial, innerAlgorithm, issuer, validity, subject, spki, extensions, ...more] =
    sequenceOf(signed);
  // Anything more would be the unique identifiers of version 2, which nobody may use (RFC 5280 §4.1.2.8).
  if (rest.length > 0 || more.length > 0) throw new Error('fields after the last');
  if (!unsignedOf(onlyChild(version, 0)).equals(Buffer.of(2))) throw new Error('not version 3');
  const [notBefore, notAfter, ...otherDates] = sequenceOf(validity);
  if (otherDates.length > 0) throw new Error('more than two dates');
  return {
    signedPart: signed.whole,
    signatureAlgorithm: readAlgorithm(algorithm, innerAlgorithm),
    signature: bytesOfBits(signature),
    serial: readSerial(serial),
    issuer: wantTag(issuer, derTag.sequence).whole,
    subject: wantTag(subject, derTag.sequence).whole,
    notBefore: timeOf(notBefore),
    notAfter: timeOf(notAfter),
    spki: wantTag(spki, derTag.sequence).whole,
    extensions: readExtensions(sequenceOf(onlyChild(extensions, 3))),
  };
}

/** The one element inside `[number]`. */
function onlyChild(element: DerElement | undefined, number: number): DerElement | undefined {
  const [child, ...others] = childrenOf(wantTag(element, contextTag(number)));
  if (others.length > 0) throw new Error('more than one element');
  return child;
}

/** The algorithm stands inside and outside of what is signed; RFC 5280 §4.1.1.2 wants them the same. */
function readAlgorithm(outer: DerElement | undefined, inner: DerElement | undefined): Buffer {
  const { whole } = wantTag(outer, derTag.sequence);
  if (!inner?.whole.equals(whole)) throw new Error('two signature algorithms');
  return whole;
}

function readSerial(element: DerElement | undefined): string {
  const serial = unsignedOf(element);
  if (serial.length === 0 || wantTag(element, derTag.integer).content.length > 20) {
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
    // FALSE is the default, and DER leaves defaults out.
    if (parts.length > 3 || (parts.length === 3 && !critical))
      throw new Error(`a malformed extension ${name}`);
    extensions.set(name, { critical, value: wantTag(parts.at(-1), derTag.octetString).content });
  }
  return extensions;
}

/** The name and the key of an authority, no matter who signed it and however it says the rest. */
export function readAnchorFields(der: Uint8Array): Pick<CertificateFields, 'subject' | 'spki'> {
  const fields = sequenceOf(sequenceOf(readDer(der))[0]);
  // The version is left out by version 1.
  const serialAt = fields[0]?.tag === contextTag(0) ? 1 : 0;
  const [, , , , subject, spki] = fields.slice(serialAt);
  return {
    subject: wantTag(subject, derTag.sequence).whole,
    spki: wantTag(spki, derTag.sequence).whole,
  };
}
