/**
 * Decides whether a certificate is a valid node certificate now. TLS has checked only that the peer holds its key;
 * the verdict of the TLS library is not used, because it is frozen at the handshake. Our own strict reader parses the
 * bytes; only signatures are checked by node:crypto.
 *
 * The authorities are trust anchors, each a name and a key. Removing one from the list ends its certificates.
 */
import { verify, type KeyObject, type X509Certificate } from 'node:crypto';
import { sha256Hex } from '../base/hash.js';
import { isRollcallError, RollcallError } from '../base/errors.js';
import { readAnchorFields, readCertificateFields, type CertificateFields } from './certificate-fields.js';
import { derTag, oidOf, readDer, sequenceOf } from './der.js';
import type { NodeId } from './node-id.js';
import { canonicalSpki, parseSpki, type PublicKey } from './public-key.js';
import { isStrictSignature } from './signature.js';
import { parseSpiffeId } from './spiffe.js';

export { endPointBinding } from './binding.js';

/** Node certificates have some 500 bytes; larger ones are not parsed. */
export const maxNodeCertificateBytes = 4096;

export interface NodeCertificate {
  readonly nodeId: NodeId;
  /** Lower-case hex. */
  readonly serial: string;
  /** First millisecond it is valid in, since 1970. */
  readonly notBefore: number;
  /** First millisecond it is no longer valid in, since 1970. */
  readonly notAfter: number;
  /** SHA-256 of the DER, lower-case hex. */
  readonly fingerprint: string;
  /** Canonical SubjectPublicKeyInfo DER. TLS has checked that the peer holds this key; nothing is verified with it here. */
  readonly spki: Buffer;
}

export interface CertificateTrust {
  /** The only issuers; P-256 or P-384. */
  readonly authorities: readonly X509Certificate[];
  readonly trustDomain: string;
  /** Milliseconds since 1970. */
  readonly now: number;
}

/** The node of a certificate, or CERTIFICATE_REFUSED: its cause says exactly why, its message in general. */
export function verifyNodeCertificate(
  der: Uint8Array,
  { authorities, trustDomain, now }: CertificateTrust,
): NodeCertificate {
  const fields = readFields(der);
  checkIssuer(fields, authorities);
  checkDates(fields, now);
  checkUsage(fields);
  return {
    nodeId: readNodeId(fields, trustDomain),
    serial: fields.serial,
    notBefore: fields.notBefore,
    notAfter: fields.notAfter,
    fingerprint: certificateFingerprint(der),
    spki: readKey(fields),
  };
}

/** SHA-256 of a certificate's DER, lower-case hex. */
export function certificateFingerprint(der: Uint8Array): string {
  return sha256Hex(der);
}

const enrollAgain = 'enroll again with the node key';

function refuse(message: string, cause: unknown, hint: string = enrollAgain): RollcallError {
  return new RollcallError('CERTIFICATE_REFUSED', message, { hint, cause });
}

function notForNodes(cause: unknown): RollcallError {
  return refuse('the certificate is not a node certificate of this link', cause);
}

function readFields(der: Uint8Array): CertificateFields {
  if (der.length > maxNodeCertificateBytes) throw notForNodes(`${der.length} bytes`);
  try {
    return readCertificateFields(der);
  } catch (error) {
    throw notForNodes(error);
  }
}

/** AlgorithmIdentifiers without parameters (RFC 5758 §3.2): ecdsa-with-SHA256, ecdsa-with-SHA384. */
const signatureAlgorithms = [
  { der: Buffer.from('300a06082a8648ce3d040302', 'hex'), hash: 'sha256' },
  { der: Buffer.from('300a06082a8648ce3d040303', 'hex'), hash: 'sha384' },
] as const;

function checkIssuer(fields: CertificateFields, authorities: readonly X509Certificate[]): void {
  const { issuer, signatureAlgorithm, signedPart, signature } = fields;
  const hash = signatureAlgorithms.find(({ der }) => der.equals(signatureAlgorithm))?.hash;
  if (!hash) throw notForNodes(`signature algorithm ${signatureAlgorithm.toString('hex')}`);
  const named = authorities.map(readAnchor).filter(({ name }) => name.equals(issuer));
  const signed = named.some(
    ({ key }) =>
      isStrictSignature(signature, key.curve) && verify(hash, signedPart, key.keyObject, signature),
  );
  if (signed) return;
  throw refuse(
    'the certificate was not issued by this link',
    named.length === 0 ? 'no authority has its issuer name' : 'its signature is not by an authority',
  );
}

interface Anchor {
  readonly name: Buffer;
  readonly key: { readonly curve: PublicKey['curve']; readonly keyObject: KeyObject };
}

/** Cached, since an authority signs many certificates. */
const anchors = new WeakMap<X509Certificate, Anchor>();

function readAnchor(authority: X509Certificate): Anchor {
  const known = anchors.get(authority);
  if (known) return known;
  const { subject, spki } = readAnchorFields(authority.raw);
  const anchor = { name: subject, key: parseSpki(spki) };
  anchors.set(authority, anchor);
  return anchor;
}

/** Throws CERTIFICATE_REFUSED. Milliseconds since 1970. */
export function checkDates(
  { notBefore, notAfter }: Pick<NodeCertificate, 'notBefore' | 'notAfter'>,
  now: number,
): void {
  const dates = () => [notBefore, now, notAfter].map(at => new Date(at).toISOString()).join(' / ');
  if (now < notBefore) throw refuse('the certificate is not valid yet', dates(), 'check both clocks');
  if (now >= notAfter) throw refuse('the certificate has expired', dates());
}

const extension = {
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyIdentifier: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
};

const known = new Set(Object.values(extension));
const clientAuth = '1.3.6.1.5.5.7.3.2';

/** DER of the BIT STRING with digitalSignature alone (RFC 5280 §4.2.1.3). */
const digitalSignatureOnly = Buffer.from('03020780', 'hex');
/** An empty SEQUENCE: cA is FALSE by default, and DER omits defaults. */
const notAnAuthority = Buffer.from('3000', 'hex');

function checkUsage({ extensions }: CertificateFields): void {
  for (const [name, { critical }] of extensions) {
    if (critical && !known.has(name)) throw notForNodes(`unknown critical extension ${name}`);
  }
  const constraints = extensions.get(extension.basicConstraints)?.value ?? notAnAuthority;
  if (!constraints.equals(notAnAuthority)) throw notForNodes('basic constraints are not an empty sequence');
  const usage = extensions.get(extension.keyUsage)?.value;
  if (!usage?.equals(digitalSignatureOnly)) throw notForNodes('key usage is not digitalSignature alone');
  const purposes = readingExtension(extensions.get(extension.extendedKeyUsage)?.value, value =>
    sequenceOf(readDer(value)).map(oidOf),
  );
  if (purposes.length !== 1 || purposes[0] !== clientAuth) {
    throw notForNodes('extended key usage is not clientAuth alone');
  }
}

function readingExtension<T>(value: Buffer | undefined, read: (value: Buffer) => T): T {
  if (!value) throw notForNodes('a required extension is missing');
  try {
    return read(value);
  } catch (error) {
    throw notForNodes(error);
  }
}

/** `[6] IMPLICIT IA5String`: uniformResourceIdentifier (RFC 5280 §4.2.1.6). */
const uriTag = 0x86;

function readNodeId({ extensions }: CertificateFields, trustDomain: string): NodeId {
  const names = readingExtension(extensions.get(extension.subjectAltName)?.value, value =>
    sequenceOf(readDer(value, derTag.sequence)),
  );
  const [name] = names;
  if (names.length !== 1 || name?.tag !== uriTag) throw notForNodes('its names are not exactly one URI');
  const id = parseSpiffeId(name.content.toString('latin1'));
  if (id?.trustDomain !== trustDomain) throw notForNodes('its URI is not a node of this trust domain');
  return id.nodeId;
}

function readKey({ spki }: CertificateFields): Buffer {
  try {
    return canonicalSpki(spki).spki;
  } catch (error) {
    throw isRollcallError(error, 'KEY_UNSUPPORTED') ? notForNodes(error) : error;
  }
}
