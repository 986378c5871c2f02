/**
 * The authority: the only issuer of node certificates, known to the link alone. It authenticates no server, and the
 * server roots that nodes trust authenticate no node. It signs whatever session key it is given: that the node proved
 * it holds its registered key, and that the session key is in canonical form, is seen to in src/link/enrollment.
 */
import { generateKeyPairSync, type X509Certificate } from 'node:crypto';
import type { Clock } from '../../base/clock.js';
import { sha256Hex } from '../../base/hash.js';
import { RollcallError } from '../../base/errors.js';
import type { Random } from '../../base/random.js';
import type { Warn } from '../../base/secret-file.js';
import { certificateFingerprint, verifyNodeCertificate } from '../../identity/certificate.js';
import type { NodeId } from '../../identity/node-id.js';
import { formatSpiffeId } from '../../identity/spiffe.js';
import { backdatingMs, openGivenFiles, openOwnFiles } from './authority-files.js';
import type { SigningPair } from './signing-pair.js';
import { writeCertificate } from './x509.js';
import { createSerial, formatSerial } from './issuer.js';

export interface AuthorityOptions {
  /** The folder of the link's own authority (`authority.key`, `authority.crt`); unused when files are given. */
  readonly folder: string;
  /** An authority of the operator's own: one P-256 or P-384 certificate and its key, PEM. Both or neither. */
  readonly certificateFile?: string | undefined;
  readonly keyFile?: string | undefined;
  readonly trustDomain: string;
  readonly clock: Clock;
  readonly random: Random;
  /** How long node certificates are valid from now on; an hour by default. */
  readonly certificateLifetimeMs?: number | undefined;
  /** Hears of a key that a platform has mounted readable by all. */
  readonly warn?: Warn | undefined;
}

export interface Subject {
  readonly nodeId: NodeId;
  /** The session key: canonical SPKI in DER. */
  readonly publicKey: Uint8Array;
}

export interface IssuedCertificate {
  /** DER. */
  readonly certificate: Buffer;
  /** DER, the leaf first and its issuer last. */
  readonly chain: Buffer[];
  /** Lower-case hex without leading zero octets. */
  readonly serial: string;
  /** SHA-256 of the DER in lower-case hex. */
  readonly fingerprint: string;
  /** Milliseconds since 1970, whole seconds. */
  readonly notBefore: number;
  /** Milliseconds since 1970, whole seconds. */
  readonly notAfter: number;
}

export interface Authority {
  /** Of the issuer and the trust domain it issues for: certificates of another are not this link's. */
  readonly id: string;
  /** The issuers whose node certificates the link accepts. */
  readonly certificates: readonly X509Certificate[];
  /** The certificates after the leaf in a chain, DER, its issuer first. */
  readonly chain: readonly Buffer[];
  /** INTERNAL once the authority itself has expired. */
  issue(subject: Subject): IssuedCertificate;
}

/**
 * Opens the authority, making it at the first start. CONFIG_INVALID, FILE_UNREADABLE or FILE_PERMISSIONS when its
 * files are not what they should be.
 */
export async function openAuthority(options: AuthorityOptions): Promise<Authority> {
  const pair = await openPair(options);
  const issue = (subject: Subject) => issueCertificate(pair, options, subject);
  refuseIfUseless(pair, options, issue({ nodeId: 1n, publicKey: trialKey() }));
  const id = authorityId(pair.certificate, options.trustDomain);
  return { id, certificates: [pair.certificate], chain: [pair.certificate.raw], issue };
}

/** 128 bits of a SHA-256, hex. */
function authorityId(certificate: X509Certificate, trustDomain: string): string {
  return sha256Hex(`${certificateFingerprint(certificate.raw)} ${trustDomain}`).slice(0, 32);
}

async function openPair(options: AuthorityOptions): Promise<SigningPair> {
  const { certificateFile, keyFile, clock, warn } = options;
  if (certificateFile !== undefined && keyFile !== undefined) {
    return openGivenFiles(certificateFile, keyFile, clock, warn);
  }
  if (certificateFile === undefined && keyFile === undefined) return openOwnFiles(options);
  throw new RollcallError('CONFIG_INVALID', "an authority's certificate and key are given together", {
    hint: `the ${keyFile === undefined ? 'key' : 'certificate'} is missing; without both the link uses its own`,
  });
}

function trialKey(): Buffer {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ type: 'spki', format: 'der' });
}

/** Judges a certificate issued for nobody as the link will judge real ones: better no start than no enrollment. */
function refuseIfUseless(pair: SigningPair, options: AuthorityOptions, issued: IssuedCertificate): void {
  const { trustDomain, clock } = options;
  try {
    verifyNodeCertificate(issued.certificate, {
      authorities: [pair.certificate],
      trustDomain,
      now: clock.now(),
    });
  } catch (cause) {
    throw new RollcallError(
      'CONFIG_INVALID',
      'what the authority signs would be refused by the link itself',
      {
        hint: "the authority's certificate is unusual; give one that `openssl verify -x509_strict` accepts",
        cause,
      },
    );
  }
}

const oneHourMs = 3_600_000;

function issueCertificate(pair: SigningPair, options: AuthorityOptions, subject: Subject): IssuedCertificate {
  const { clock, random, trustDomain, certificateLifetimeMs = oneHourMs } = options;
  const now = clock.now();
  const notBefore = wholeSeconds(now - backdatingMs);
  const notAfter = wholeSeconds(Math.min(now + certificateLifetimeMs, pair.notAfter));
  if (notAfter <= now) throw expired(pair);
  const serial = createSerial(random);
  const certificate = writeCertificate({
    subject: subject.nodeId.toString(),
    issuer: pair.issuer.name,
    publicKey: subject.publicKey,
    issuerPublicKey: pair.publicKey,
    issuerKeyIdentifier: pair.issuer.keyIdentifier,
    signWith: pair.key,
    serial,
    notBefore,
    notAfter,
    keyUsage: ['digitalSignature'],
    extendedKeyUsage: ['clientAuth'],
    alternativeNames: [{ uri: formatSpiffeId(trustDomain, subject.nodeId) }],
  });
  return {
    certificate,
    chain: [certificate, pair.certificate.raw],
    serial: formatSerial(serial),
    fingerprint: certificateFingerprint(certificate),
    notBefore,
    notAfter,
  };
}

/** A certificate holds no fractions; cut here, so that what is recorded is what it says. */
function wholeSeconds(at: number): number {
  return Math.floor(at / 1000) * 1000;
}

function expired({ certificate }: SigningPair): RollcallError {
  return new RollcallError('INTERNAL', `the link's authority expired at ${certificate.validTo}`, {
    hint: 'the operator of the link must renew its authority',
  });
}
