/**
 * The authority's key and certificate, read from text and judged: whether node certificates signed with them would be
 * accepted. Pure; files are authority-files.ts. Every refusal is CONFIG_INVALID and says what to do.
 */
import { createPrivateKey, createPublicKey, X509Certificate, type KeyObject } from 'node:crypto';
import { RollcallError } from '../../base/errors.js';
import { fromPem } from '../../base/pem.js';
import { readIssuer, type Issuer } from './issuer.js';

export interface SigningPair {
  readonly key: KeyObject;
  readonly certificate: X509Certificate;
  /** SPKI in DER. */
  readonly publicKey: Buffer;
  /** The fields that the certificates it signs copy from it. */
  readonly issuer: Issuer;
  /** Milliseconds since 1970. */
  readonly notAfter: number;
}

/** A text and where it is from, for messages. */
export interface Source {
  readonly text: string;
  readonly path: string;
}

/** Reads the authority's private key: PEM, not encrypted, P-256 or P-384. */
export function parseSigningKey({ text, path }: Source): KeyObject {
  if (text.includes('ENCRYPTED')) {
    throw refusal(
      `the authority key ${path} is encrypted`,
      `the link starts unattended and cannot ask: openssl pkey -in ${path} -out FILE writes it without a passphrase`,
    );
  }
  const key = findPrivateKey(text);
  if (!key) {
    throw refusal(
      `the authority key ${path} holds no private key`,
      'it starts with -----BEGIN PRIVATE KEY-----',
    );
  }
  const kind = key.asymmetricKeyDetails?.namedCurve ?? key.asymmetricKeyType ?? 'of an unknown kind';
  if (kind === 'prime256v1' || kind === 'secp384r1') return key;
  throw refusal(
    `the authority key ${path} is ${kind}; it must be EC P-256 or P-384`,
    'people and nodes never see this key: one made for the link alone, by itself or by your own authority, is best',
  );
}

function findPrivateKey(text: string): KeyObject | undefined {
  try {
    return createPrivateKey(text);
  } catch {
    return undefined; // what OpenSSL says about it is no help, and may quote the file
  }
}

/** Joins key and certificate when the certificate is the key's, an authority's, and valid at `now` (ms since 1970). */
export function createSigningPair(key: KeyObject, source: Source, now: number): SigningPair {
  const { certificate, issuer } = parseCertificate(source);
  refuseUnfit(certificate, key, source.path);
  refuseOutOfDate(certificate, source.path, now);
  const publicKey = createPublicKey(key).export({ type: 'spki', format: 'der' });
  return { key, certificate, publicKey, issuer, notAfter: Date.parse(certificate.validTo) };
}

function parseCertificate({ text, path }: Source): Pick<SigningPair, 'certificate' | 'issuer'> {
  const [der, ...others] = fromPem(text, `authority certificate ${path}`);
  if (others.length > 0) {
    throw refusal(
      `the authority certificate ${path} holds ${others.length + 1} certificates`,
      'keep only the one that belongs to the key: the link accepts nodes from no other issuer',
    );
  }
  try {
    return { certificate: new X509Certificate(der), issuer: readIssuer(der) };
  } catch (error) {
    throw refusal(`the authority certificate ${path} cannot be read`, 'copy the file again, whole', error);
  }
}

function refuseUnfit(certificate: X509Certificate, key: KeyObject, path: string): void {
  if (!certificate.checkPrivateKey(key)) {
    throw refusal(
      `the authority certificate ${path} belongs to another key`,
      'give the certificate and the key that were made together',
    );
  }
  if (!certificate.ca) {
    throw refusal(
      `the authority certificate ${path} may not sign certificates`,
      'it needs basicConstraints CA:TRUE and, if it states any key usage, keyCertSign',
    );
  }
  // Node.js calls the extended key usage keyUsage; an authority that states one passes it on as a limit.
  const uses = certificate.keyUsage as string[] | undefined;
  if (uses && !uses.includes(clientAuth) && !uses.includes(anyUse)) {
    throw refusal(
      `the authority certificate ${path} may not sign for clients`,
      'its extended key usage must include clientAuth, or be left out',
    );
  }
}

const clientAuth = '1.3.6.1.5.5.7.3.2';
const anyUse = '2.5.29.37.0';

function refuseOutOfDate({ validFrom, validTo }: X509Certificate, path: string, now: number): void {
  if (now >= Date.parse(validTo)) {
    throw refusal(
      `the authority certificate ${path} expired at ${validTo}`,
      'a new one for the same key is enough; one that the link made itself it makes anew once the old file is moved away',
    );
  }
  if (now < Date.parse(validFrom)) {
    throw refusal(
      `the authority certificate ${path} is valid only from ${validFrom}`,
      `this machine's clock says ${new Date(now).toUTCString()}; is it right?`,
    );
  }
}

function refusal(message: string, hint: string, cause?: unknown): RollcallError {
  return new RollcallError('CONFIG_INVALID', message, { hint, cause });
}
