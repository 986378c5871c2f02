/**
 * Certificates for trying things out on one's own machines: a certificate authority that nodes trust as their server
 * root, and a certificate for the link signed by it. Not the link's authority: this one authenticates no node.
 */
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { isIP } from 'node:net';
import { RollcallError } from '../../base/errors.js';
import { toPem } from '../../base/pem.js';
import type { Random } from '../../base/random.js';
import { createSerial, readIssuer } from './issuer.js';
import type { SigningPair } from './signing-pair.js';
import { ipOctets, writeCertificate, type AlternativeName } from './x509.js';

export interface DevelopmentOptions {
  /** Names and addresses besides localhost, 127.0.0.1 and ::1. */
  readonly hosts: readonly string[];
  /** How long the server certificate is valid; the CA lasts ten years, or as long when that is more. */
  readonly days: number;
  /** Milliseconds since 1970. */
  readonly now: number;
  readonly random: Random;
}

/** Both in PEM, the key in PKCS#8 and not encrypted. */
export interface PemPair {
  readonly certificate: string;
  readonly key: string;
}

export interface DevelopmentCertificates {
  readonly ca: PemPair;
  readonly server: PemPair;
}

const dayMs = 86_400_000;
const tenYearsDays = 3652;
const loopback = ['localhost', '127.0.0.1', '::1'];
/** For machines whose clock is a little behind. */
const backdatingMs = 5 * 60_000;

/** Makes a CA and a server certificate, EC P-256. REQUEST_INVALID for an invalid host. */
export function makeDevelopmentCertificates(options: DevelopmentOptions): DevelopmentCertificates {
  const { days, now, random } = options;
  // A name of its own each time: two CAs of one name and different keys make for puzzling refusals.
  const name = `Rollcall development CA ${random(4).toString('hex')}`;
  const { key, spki, pem } = generatePair();
  const notAfter = now + Math.max(days, tenYearsDays) * dayMs;
  const certificate = writeCertificate({
    subject: name,
    issuer: name,
    publicKey: spki,
    issuerPublicKey: spki,
    signWith: key,
    serial: createSerial(random),
    notBefore: now - backdatingMs,
    notAfter,
    ca: { pathLength: 0 },
    keyUsage: ['keyCertSign', 'cRLSign'],
  });
  const ca = { key, publicKey: spki, issuer: readIssuer(certificate), notAfter };
  return { ca: { certificate: toPem(certificate), key: pem }, server: makeServerCertificate(options, ca) };
}

/** A new key for the link, and its certificate: valid for as long as asked, but not longer than the CA. */
export function makeServerCertificate(
  { hosts, days, now, random }: DevelopmentOptions,
  ca: Omit<SigningPair, 'certificate'>,
): PemPair {
  const { spki, pem } = generatePair();
  const certificate = writeCertificate({
    subject: 'Rollcall development link',
    issuer: ca.issuer.name,
    publicKey: spki,
    issuerPublicKey: ca.publicKey,
    issuerKeyIdentifier: ca.issuer.keyIdentifier,
    signWith: ca.key,
    serial: createSerial(random),
    notBefore: now - backdatingMs,
    notAfter: Math.min(now + days * dayMs, ca.notAfter),
    keyUsage: ['digitalSignature'],
    extendedKeyUsage: ['serverAuth'],
    alternativeNames: [
      ...new Map([...loopback, ...hosts].map(parseHost).map(each => [spellingOf(each), each])).values(),
    ],
  });
  return { certificate: toPem(certificate), key: pem };
}

/** The same for `::1` and `0:0:0:0:0:0:0:1`. */
function spellingOf(name: AlternativeName): string {
  return 'ip' in name ? ipOctets(name.ip).toString('hex') : JSON.stringify(name);
}

function generatePair(): { key: KeyObject; spki: Buffer; pem: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return {
    key: privateKey,
    spki: publicKey.export({ type: 'spki', format: 'der' }),
    pem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}

const hostLabel = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/i;

/**
 * A host as a certificate names it: an IP address, a DNS name of at most 253 characters, or `*.` before one.
 * REQUEST_INVALID for anything else.
 */
export function parseHost(host: string): AlternativeName {
  if (isIP(host) !== 0 && !host.includes('%')) return { ip: host };
  const labels = host.replace(/^\*\./, '').split('.');
  const isName = host.length <= 253 && labels.every(label => hostLabel.test(label));
  // A last label of digits alone would be read as an IP address (WHATWG URL §3.5).
  if (isName && !/^\d+$/.test(labels.at(-1) ?? '')) return { dns: host };
  throw new RollcallError(
    'REQUEST_INVALID',
    `${JSON.stringify(host.slice(0, 80))} is no host name or IP address`,
    {
      hint: 'such as link.example.org, *.example.org, 192.0.2.1 or 2001:db8::1: no port, no brackets, no scheme',
    },
  );
}
