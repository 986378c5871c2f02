/**
 * The verification of a server certificate: one rule for agent, command and programs, and for the link, which checks
 * its own certificate by it before a node does. Every given root is an anchor, whether it is self-signed or signed by
 * another authority: RFC 5280 §6.1.1 takes a name and a key, and a site that trusts only its intermediate means just
 * that.
 */
import { isIP } from 'node:net';
import { checkServerIdentity, type PeerCertificate, type SecureVersion } from 'node:tls';

/** PEM: one text, or one certificate each. */
export type RootCertificates = string | Buffer | readonly string[];

export interface TrustedRoots {
  readonly ca: string | Buffer | string[];
  readonly allowPartialTrustChain: true;
}

/** For createSecureContext(), tls.connect() and https.request() alike. */
export interface ServerTrust extends TrustedRoots {
  readonly minVersion: SecureVersion;
  readonly maxVersion: SecureVersion;
  readonly rejectUnauthorized: true;
  readonly servername?: string;
  readonly checkServerIdentity: (sent: string, certificate: PeerCertificate) => Error | undefined;
}

/** The given roots and no others, as anchors. */
export function trustRoots(roots: RootCertificates): TrustedRoots {
  const ca = typeof roots === 'string' || Buffer.isBuffer(roots) ? roots : [...roots];
  return { ca, allowPartialTrustChain: true };
}

/** For TLS 1.3 with a link: its chain must end at a root, and its certificate must be for `host`. */
export function trustServer(host: string, roots: RootCertificates): ServerTrust {
  return {
    ...trustRoots(roots),
    minVersion: 'TLSv1.3',
    maxVersion: 'TLSv1.3',
    rejectUnauthorized: true,
    // RFC 6066 §3 allows no IP address as the server name.
    ...(isIP(host) === 0 && { servername: host }),
    checkServerIdentity: (_sent, certificate) => checkServerIdentity(host, certificate),
  };
}
