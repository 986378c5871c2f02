/**
 * Writes X.509 certificates (RFC 5280): the DER by node-forge's asn1, whose one importer this file is, the signature
 * by node:crypto. It writes what the template says and refuses only what would not be a certificate at all; which
 * certificates there may be is decided in authority.ts. Reading and checking them belongs to src/identity.
 */
import { sign, type KeyObject } from 'node:crypto';
import { isIPv4, isIPv6 } from 'node:net';
import forge from 'node-forge';
import { derTag, readDer } from '../../identity/der.js';
import { keyIdentifierOf } from './issuer.js';

const { asn1 } = forge;
const { Class, Type } = asn1;
type Element = forge.asn1.Asn1;
/** With numbers for the type: a context tag is none of the types forge lists. */
const createElement: (
  tagClass: number,
  type: number,
  constructed: boolean,
  value: string | Element[],
) => Element = asn1.create;

export type KeyUsage = keyof typeof keyUsageBit;
export type ExtendedKeyUsage = keyof typeof extendedKeyUsageOid;
export type AlternativeName = { readonly dns: string } | { readonly ip: string } | { readonly uri: string };

export interface CertificateTemplate {
  /** Common name, 1 to 64 characters (RFC 5280, ub-common-name). */
  readonly subject: string;
  /** Common name, or the DER of a whole Name as `readIssuer` gives it. */
  readonly issuer: string | Uint8Array;
  /** SPKI in DER. */
  readonly publicKey: Uint8Array;
  /** SPKI in DER; the same bytes as `publicKey` for a certificate that signs itself. */
  readonly issuerPublicKey: Uint8Array;
  /** The issuer's own subject key identifier, when it was not made from `issuerPublicKey` our way. */
  readonly issuerKeyIdentifier?: Uint8Array | undefined;
  /** The issuer's private key: P-256 signs with SHA-256, P-384 with SHA-384. */
  readonly signWith: KeyObject;
  /** Content of a positive DER integer of at most 20 octets, as `createSerial` makes it. */
  readonly serial: Uint8Array;
  /** Milliseconds since 1970, cut to whole seconds. */
  readonly notBefore: number;
  /** Milliseconds since 1970, cut to whole seconds. */
  readonly notAfter: number;
  /** Present when it may sign others; `pathLength` is how many authorities may stand below it. */
  readonly ca?: { readonly pathLength?: number };
  readonly keyUsage: readonly KeyUsage[];
  readonly extendedKeyUsage?: readonly ExtendedKeyUsage[];
  readonly alternativeNames?: readonly AlternativeName[];
}

/** A version 3 certificate in DER. RangeError for a template that cannot be one, REQUEST_INVALID for parts
 * that are not DER. */
export function writeCertificate(template: CertificateTemplate): Buffer {
  const { issuer } = template;
  const algorithm = signatureAlgorithm(template.signWith);
  const body = derOf(
    sequence(
      explicit(0, integer(Buffer.of(2))), // counted from 0: version 3
      serialNumber(template.serial),
      algorithm.identifier,
      typeof issuer === 'string' ? name(issuer) : written(issuer),
      sequence(time(template.notBefore), time(template.notAfter)),
      name(template.subject),
      written(template.publicKey),
      explicit(3, sequence(...extensions(template))),
    ),
  );
  const signature = sign(algorithm.hash, body, template.signWith);
  return derOf(sequence(written(body), algorithm.identifier, bitString(signature)));
}

// The parts of a certificate.

function signatureAlgorithm(key: KeyObject): (typeof signatureAlgorithms)[keyof typeof signatureAlgorithms] {
  const curve = key.type === 'private' ? key.asymmetricKeyDetails?.namedCurve : undefined;
  if (curve === 'prime256v1' || curve === 'secp384r1') return signatureAlgorithms[curve];
  throw new RangeError('a certificate is signed by a P-256 or P-384 private key');
}

function serialNumber(serial: Uint8Array): Element {
  const [first = 0, second = 0] = serial;
  const minimal = first > 0 || second >= 0x80;
  if (minimal && first < 0x80 && serial.length <= 20) return integer(serial);
  throw new RangeError('a serial is a positive DER integer of at most 20 octets');
}

function name(commonName: string): Element {
  const characters = Array.from(commonName).length;
  if (characters < 1 || characters > 64) throw new RangeError('a common name has 1 to 64 characters');
  const attribute = sequence(oids.commonName, primitive(Type.UTF8, Buffer.from(commonName)));
  return sequence(create(Class.UNIVERSAL, Type.SET, [attribute]));
}

/** UTCTime to the end of 2049, GeneralizedTime from then on (RFC 5280 §4.1.2.5). */
function time(at: number): Element {
  const year = new Date(at).getUTCFullYear();
  if (!(year >= 1950 && year <= 9999)) throw new RangeError('a certificate holds times from 1950 to 9999');
  const digits = new Date(at).toISOString().slice(0, 19).replaceAll(/\D/g, '');
  return year < 2050
    ? primitive(Type.UTCTIME, Buffer.from(`${digits.slice(2)}Z`))
    : primitive(Type.GENERALIZEDTIME, Buffer.from(`${digits}Z`));
}

function extensions(template: CertificateTemplate): Element[] {
  const { ca, keyUsage, extendedKeyUsage = [], alternativeNames = [] } = template;
  const list: Element[] = [critical(oids.basicConstraints, basicConstraints(ca))];
  if (keyUsage.length > 0) list.push(critical(oids.keyUsage, keyUsageBits(keyUsage)));
  list.push(extension(oids.subjectKeyIdentifier, octets(keyIdentifierOf(template.publicKey))));
  // Only a certificate that signs itself may go without (RFC 5280 §4.2.1.1).
  if (!Buffer.from(template.publicKey).equals(template.issuerPublicKey)) {
    const identifier = template.issuerKeyIdentifier ?? keyIdentifierOf(template.issuerPublicKey);
    list.push(extension(oids.authorityKeyIdentifier, sequence(tagged(0, identifier))));
  }
  if (extendedKeyUsage.length > 0) {
    const uses = extendedKeyUsage.map(use => extendedKeyUsageOid[use]);
    list.push(extension(oids.extendedKeyUsage, sequence(...uses)));
  }
  if (alternativeNames.length > 0) {
    list.push(extension(oids.subjectAltName, sequence(...alternativeNames.map(alternativeName))));
  }
  return list;
}

/** A leaf says so by an empty sequence: FALSE is the default, and DER leaves defaults out. */
function basicConstraints(ca: CertificateTemplate['ca']): Element {
  if (!ca) return sequence();
  const { pathLength } = ca;
  if (pathLength === undefined) return sequence(yes);
  if (!Number.isInteger(pathLength) || pathLength < 0 || pathLength > 127) {
    throw new RangeError('a path length is 0 to 127');
  }
  return sequence(yes, integer(Buffer.of(pathLength)));
}

/** A named bit list ends at its last set bit (X.690 §11.2.2). */
function keyUsageBits(uses: readonly KeyUsage[]): Element {
  const bits = uses.reduce((sum, use) => sum | (0x80 >> keyUsageBit[use]), 0);
  const lowestSetBit = bits & -bits;
  return bitString(Buffer.of(bits), 31 - Math.clz32(lowestSetBit));
}

function alternativeName(alternative: AlternativeName): Element {
  if ('uri' in alternative) return tagged(6, ascii(alternative.uri));
  return 'dns' in alternative ? tagged(2, ascii(alternative.dns)) : tagged(7, ipOctets(alternative.ip));
}

function ascii(text: string): Buffer {
  const encoded = Buffer.from(text);
  if (encoded.length > 0 && encoded.every(octet => octet < 0x80)) return encoded;
  throw new RangeError('an alternative name is ASCII and not empty');
}

function extension(identifier: Element, value: Element): Element {
  return sequence(identifier, octets(derOf(value)));
}

function critical(identifier: Element, value: Element): Element {
  return sequence(identifier, yes, octets(derOf(value)));
}

// ASN.1 by forge, whose strings hold one octet a character.

function derOf(element: Element): Buffer {
  return Buffer.from(asn1.toDer(element).getBytes(), 'latin1');
}

function create(tagClass: number, type: number, content: Uint8Array | Element[]): Element {
  return Array.isArray(content)
    ? createElement(tagClass, type, true, content)
    : createElement(tagClass, type, false, Buffer.from(content).toString('latin1'));
}

function primitive(type: number, content: Uint8Array): Element {
  return create(Class.UNIVERSAL, type, content);
}

function sequence(...elements: Element[]): Element {
  return create(Class.UNIVERSAL, Type.SEQUENCE, elements);
}

function integer(content: Uint8Array): Element {
  return primitive(Type.INTEGER, content);
}

function octets(content: Uint8Array): Element {
  return primitive(Type.OCTETSTRING, content);
}

function bitString(content: Uint8Array, unusedBits = 0): Element {
  return primitive(Type.BITSTRING, Buffer.concat([Buffer.of(unusedBits), content]));
}

function oid(dotted: string): Element {
  return primitive(Type.OID, Buffer.from(asn1.oidToDer(dotted).getBytes(), 'latin1'));
}

/** `[tag] IMPLICIT` in place of a primitive type. */
function tagged(tag: number, content: Uint8Array): Element {
  return create(Class.CONTEXT_SPECIFIC, tag, content);
}

/** `[tag] EXPLICIT` around an element. */
function explicit(tag: number, element: Element): Element {
  return create(Class.CONTEXT_SPECIFIC, tag, [element]);
}

/**
 * A SEQUENCE that is in DER already, to be written as it is. Parsing it with forge would be slower and is a trap: one
 * P-256 key in 256 looks like an OCTET STRING inside its BIT STRING. The bit for "constructed" rides in the type.
 */
function written(der: Uint8Array): Element {
  return primitive(derTag.sequence, readDer(der, derTag.sequence).content);
}

// Made once, since they are the same in every certificate.

const yes = primitive(Type.BOOLEAN, Buffer.of(0xff));

const oids = {
  commonName: oid('2.5.4.3'),
  subjectKeyIdentifier: oid('2.5.29.14'),
  keyUsage: oid('2.5.29.15'),
  subjectAltName: oid('2.5.29.17'),
  basicConstraints: oid('2.5.29.19'),
  authorityKeyIdentifier: oid('2.5.29.35'),
  extendedKeyUsage: oid('2.5.29.37'),
};

/** By the names node:crypto gives the curves (RFC 5758 §3.2). */
const signatureAlgorithms = {
  prime256v1: { hash: 'sha256', identifier: sequence(oid('1.2.840.10045.4.3.2')) },
  secp384r1: { hash: 'sha384', identifier: sequence(oid('1.2.840.10045.4.3.3')) },
};

/** Places in the bit string, from its left (RFC 5280 §4.2.1.3). */
const keyUsageBit = { digitalSignature: 0, keyCertSign: 5, cRLSign: 6 };

/** RFC 5280 §4.2.1.12. */
const extendedKeyUsageOid = { clientAuth: oid('1.3.6.1.5.5.7.3.2'), serverAuth: oid('1.3.6.1.5.5.7.3.1') };

/**
 * Octets of an IPv4 or IPv6 address in its usual text form, as a certificate holds it (RFC 5280 §4.2.1.6); without zone;
 * RangeError for anything else.
 */
export function ipOctets(text: string): Buffer {
  if (isIPv4(text)) return Buffer.from(text.split('.').map(Number));
  if (isIPv6(text) && !text.includes('%')) return ipv6Octets(text);
  throw new RangeError('not an IP address');
}

/** Expects what isIPv6 accepts: at most one `::`, perhaps an IPv4 address in the last four octets. */
function ipv6Octets(text: string): Buffer {
  const [head = [], tail] = text.split('::').map(groupOctets);
  if (tail === undefined) return Buffer.from(head);
  const zeros = new Array<number>(16 - head.length - tail.length).fill(0);
  return Buffer.from([...head, ...zeros, ...tail]);
}

function groupOctets(groups: string): number[] {
  return groups
    .split(':')
    .filter(group => group !== '')
    .flatMap(group =>
      group.includes('.')
        ? group.split('.').map(Number)
        : [Number.parseInt(group, 16) >> 8, Number.parseInt(group, 16) & 0xff],
    );
}
