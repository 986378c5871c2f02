/**
 * The fields that a certificate passes on to those it issues. They are copied byte for byte, because chains are matched by name and key
 * identifier whatever these are made of: people's own authorities have longer names than ours and other identifiers.
 */
import { createHash } from 'node:crypto';
import { readAnchorFields } from '../../identity/certificate-fields.js';
import {
  bytesOfBits,
  childrenOf,
  contextTag,
  derTag,
  oidOf,
  readDer,
  sequenceOf,
} from '../../identity/der.js';
import type { Random } from '../../base/random.js';

export interface Issuer {
  /** Its subject: DER of a whole Name. */
  readonly name: Buffer;
  /** Its subject key identifier; undefined when it has none. */
  readonly keyIdentifier: Buffer | undefined;
}

/** Reads an authority's certificate in DER; REQUEST_INVALID when it is not DER of that shape. */
export function readIssuer(certificate: Uint8Array): Issuer {
  const { subject } = readAnchorFields(certificate);
  const body = sequenceOf(sequenceOf(readDer(certificate))[0]);
  const wrapped = body.find(element => element.tag === contextTag(3));
  const extensions = wrapped ? sequenceOf(childrenOf(wrapped)[0]).map(sequenceOf) : [];
  const found = extensions.find(([oid]) => oidOf(oid) === subjectKeyIdentifierOid);
  const value = found?.at(-1)?.content;
  return { name: subject, keyIdentifier: value && readDer(value, derTag.octetString).content };
}

const subjectKeyIdentifierOid = '2.5.29.14';

/**
 * The identifier of a key given as SPKI in DER: SHA-1 of its bits (RFC 5280 §4.2.1.2, method 1). It only helps to
 * find an issuer; nothing rests on its strength.
 */
export function keyIdentifierOf(spki: Uint8Array): Buffer {
  const bits = bytesOfBits(sequenceOf(readDer(spki))[1]);
  return createHash('sha1').update(bits).digest();
}

/**
 * Random, so that two authorities with one name cannot use a number twice and nobody can guess the next (CA/Browser
 * Forum asks for 64 random bits).
 */
const serialBytes = 16;

/** 128 random bits as a positive DER integer of at most 17 octets. */
export function createSerial(random: Random): Buffer {
  return positiveInteger(random(serialBytes));
}

/** The shortest DER content of an unsigned number; zero, which RFC 5280 forbids as a serial, becomes one. */
export function positiveInteger(magnitude: Uint8Array): Buffer {
  const start = magnitude.findIndex(octet => octet !== 0);
  if (start < 0) return Buffer.of(1);
  const shortest = magnitude.subarray(start);
  const signed = ((shortest[0] ?? 0) & 0x80) !== 0;
  return Buffer.concat([Buffer.alloc(signed ? 1 : 0), shortest]);
}

/** Lower-case hex without the sign octet: what X509Certificate.serialNumber shows, in lower case. */
export function formatSerial(serial: Uint8Array): string {
  return Buffer.from(serial.length > 1 && serial[0] === 0 ? serial.subarray(1) : serial).toString('hex');
}
