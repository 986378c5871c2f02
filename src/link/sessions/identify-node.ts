/**
 * Decides which node a client certificate belongs to. TLS has shown that the peer holds its key. The registry knows every
 * certificate before it leaves the link, so its SHA-256 decides, and the dates are those on record. The strict reader is
 * for the rest: certificates from before the registry kept that index, superseded ones, and those of strangers.
 */
import type { Clock } from '../../base/clock.js';
import { RollcallError } from '../../base/errors.js';
import {
  certificateFingerprint,
  checkDates,
  maxNodeCertificateBytes,
  verifyNodeCertificate,
  type NodeCertificate,
} from '../../identity/certificate.js';
import type { Authority } from '../authority/authority.js';
import type { Registry } from '../registry/registry.js';

export interface NodeIdentifier {
  readonly registry: Pick<Registry, 'findCertificate' | 'tenantOf'>;
  readonly authority: Pick<Authority, 'id' | 'certificates'>;
  readonly trustDomain: string;
  readonly clock: Clock;
}

/** The part of a node certificate that its session needs. */
export type SessionCertificate = Pick<NodeCertificate, 'nodeId' | 'fingerprint' | 'notAfter'>;

export interface IdentifiedNode {
  readonly tenant: string;
  readonly certificate: SessionCertificate;
}

/** `der` is the certificate whose key signed the handshake. CERTIFICATE_REFUSED for one that is not valid here now. */
export async function identifyNode(
  { registry, authority, trustDomain, clock }: NodeIdentifier,
  der: Uint8Array | undefined,
): Promise<IdentifiedNode> {
  if (!der) {
    throw new RollcallError('CERTIFICATE_REFUSED', 'the connection carries no node certificate', {
      hint: 'enroll first, then connect with the certificate',
    });
  }
  const fingerprint = certificateFingerprint(der);
  const known =
    der.length > maxNodeCertificateBytes ? undefined : await registry.findCertificate(fingerprint);
  if (known?.authority === authority.id) {
    checkDates(known, clock.now());
    const { tenant, nodeId, notAfter } = known;
    return { tenant, certificate: { nodeId, fingerprint, notAfter } };
  }
  const trust = { authorities: authority.certificates, trustDomain, now: clock.now() };
  const { nodeId, notAfter } = verifyNodeCertificate(der, trust);
  return { tenant: await registry.tenantOf(nodeId), certificate: { nodeId, fingerprint, notAfter } };
}
