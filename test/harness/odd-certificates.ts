/** Client certificates that no honest authority writes, signed by any key, the link's own authority among them. */
import {
  createPrivateKey,
  generateKeyPairSync,
  randomBytes,
  sign,
  type KeyObject,
  type X509Certificate,
} from 'node:crypto';
import { toPem } from '../../src/base/pem.js';
import { writeCertificate } from '../../src/link/authority/x509.js';
import { commonName, der, ecdsaSha256, extension, hex, sequence, utcTime } from './der-writer.js';

export interface Pair {
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

/** For TLS. */
export interface ClientCertificate {
  readonly cert: string;
  readonly key: string;
}

export interface Issuer {
  readonly certificate: X509Certificate;
  readonly key: KeyObject;
}

/** Deviations of a certificate from a valid node certificate. Parts are DER. */
export interface OddParts {
  readonly issuer: Issuer;
  readonly uris: readonly string[];
  readonly subject?: string;
  readonly notBefore?: number;
  readonly notAfter?: number;
  readonly purpose?: 'clientAuth' | 'serverAuth';
  readonly ca?: boolean;
  readonly pair?: Pair;
  readonly moreExtensions?: readonly Uint8Array[];
}

export const p256 = (): Pair => generateKeyPairSync('ec', { namedCurve: 'P-256' });

export function oddCertificate(parts: OddParts): ClientCertificate & { readonly der: Buffer } {
  const { issuer, uris, pair = p256(), purpose = 'clientAuth', ca = false, subject = 'node' } = parts;
  const now = Date.now();
  const body = sequence(
    hex('a003020102'),
    der(0x02, Buffer.concat([Buffer.of(1), randomBytes(15)])),
    ecdsaSha256,
    subjectOf(issuer.certificate),
    sequence(utcTime(parts.notBefore ?? now - 60_000), utcTime(parts.notAfter ?? now + 3_600_000)),
    commonName(subject),
    pair.publicKey.export({ type: 'spki', format: 'der' }),
    der(
      0xa3,
      sequence(
        extension(19, sequence(...(ca ? [hex('0101ff')] : [])), true),
        extension(15, hex(ca ? '03020284' : '03020780'), true),
        extension(
          37,
          sequence(hex(purpose === 'clientAuth' ? '06082b06010505070302' : '06082b06010505070301')),
        ),
        extension(17, sequence(...uris.map(uri => der(0x86, Buffer.from(uri, 'latin1'))))),
        ...(parts.moreExtensions ?? []),
      ),
    ),
  );
  const signature = sign('sha256', body, issuer.key);
  const whole = sequence(body, ecdsaSha256, der(0x03, Buffer.concat([Buffer.of(0), signature])));
  return { der: whole, cert: toPem(whole), key: pemOf(pair.privateKey) };
}

/** An unknown extension of this size that is not critical. */
export function fillerExtension(bytes: number): Buffer {
  return extension(99, der(0x04, Buffer.alloc(bytes)));
}

/** A chain of authorities, each issued by the one before, and the key of the last. */
export function longChain(length: number): { readonly certificates: Buffer[]; readonly last: KeyObject } {
  const certificates: Buffer[] = [];
  let issuer = p256();
  const root = issuer;
  for (let position = 0; position < length; position += 1) {
    const pair = position === 0 ? root : p256();
    certificates.push(
      writeCertificate({
        subject: `authority ${position}`,
        issuer: `authority ${Math.max(0, position - 1)}`,
        publicKey: pair.publicKey.export({ type: 'spki', format: 'der' }),
        issuerPublicKey: issuer.publicKey.export({ type: 'spki', format: 'der' }),
        signWith: issuer.privateKey,
        serial: Buffer.of((position % 127) + 1),
        notBefore: Date.now() - 60_000,
        notAfter: Date.now() + 3_600_000,
        ca: {},
        keyUsage: ['keyCertSign'],
      }),
    );
    issuer = pair;
  }
  return { certificates, last: issuer.privateKey };
}

/**
 * An RSA key of 14,364 bits in no time: its primes are the known ones 2^4423 − 1 and 2^9941 − 1 (Mersenne), so there is
 * nothing to search for.
 */
export function giantRsaKey(): KeyObject {
  const p = (1n << 9941n) - 1n;
  const q = (1n << 4423n) - 1n;
  const e = 65_537n;
  const d = inverse(e, (p - 1n) * (q - 1n));
  const parts = { n: p * q, e, d, p, q, dp: d % (p - 1n), dq: d % (q - 1n), qi: inverse(q, p) };
  const jwk = Object.fromEntries(Object.entries(parts).map(([name, value]) => [name, base64url(value)]));
  return createPrivateKey({ key: { kty: 'RSA', ...jwk }, format: 'jwk' });
}

/** By the extended algorithm of Euclid. */
function inverse(of: bigint, modulus: bigint): bigint {
  let [a, b, x, y] = [of % modulus, modulus, 1n, 0n];
  while (b !== 0n) [a, b, x, y] = [b, a % b, y, x - (a / b) * y];
  return ((x % modulus) + modulus) % modulus;
}

function base64url(value: bigint): string {
  const digits = value.toString(16);
  return Buffer.from(digits.length % 2 === 0 ? digits : `0${digits}`, 'hex').toString('base64url');
}

export function pemOf(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString();
}

/** Our authorities have one common name and nothing else. */
function subjectOf({ subject }: X509Certificate): Buffer {
  return commonName(subject.replace(/^CN=/, ''));
}
