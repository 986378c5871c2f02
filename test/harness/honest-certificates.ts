/** Certificates as the link writes them, at a moment that is always the same. */
import type { KeyObject } from 'node:crypto';
import { formatSpiffeId } from '../../src/identity/spiffe.js';
import { writeCertificate, type CertificateTemplate } from '../../src/link/authority/x509.js';

export const trustDomain = 'fleet.example.org';
export const nodeId = 16019329408659850374n;
export const start = Date.UTC(2031, 0, 1);
export const hour = 3_600_000;

export interface Signer {
  readonly name: string;
  readonly spki: Buffer;
  readonly key: KeyObject;
}

const issuedBy = ({ name, spki, key }: Signer) => ({ issuer: name, issuerPublicKey: spki, signWith: key });

export function authorityCertificate(signer: Signer): Buffer {
  return writeCertificate({
    ...issuedBy(signer),
    subject: signer.name,
    publicKey: signer.spki,
    serial: Buffer.of(1),
    notBefore: start - hour,
    notAfter: start + 24 * hour,
    ca: { pathLength: 0 },
    keyUsage: ['keyCertSign'],
  });
}

export function nodeCertificate(
  signer: Signer,
  publicKey: Buffer,
  more: Partial<CertificateTemplate> = {},
): Buffer {
  return writeCertificate({
    ...issuedBy(signer),
    subject: 'a node',
    publicKey,
    serial: Buffer.from('00a1b2c3', 'hex'),
    notBefore: start,
    notAfter: start + hour,
    keyUsage: ['digitalSignature'],
    extendedKeyUsage: ['clientAuth'],
    alternativeNames: [{ uri: formatSpiffeId(trustDomain, nodeId) }],
    ...more,
  });
}
