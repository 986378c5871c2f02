/**
 * Chooses the roots of a link's bundle that this node comes to trust: those it trusts already, and those signed by one
 * of them, that is CA certificates one of them has signed. So anyone who takes over a link can pass nothing on that the
 * holder of a root the node was given has not signed. What was given on the command line is never dropped.
 */
import { X509Certificate } from 'node:crypto';
import { limits } from '../protocol/limits.js';

export interface RootsDecision {
  /** PEM of every pushed root that was accepted, in the order of the bundle, each once; without the given ones. */
  readonly accepted: readonly string[];
  /** How many of the pushed were refused. */
  readonly refused: number;
}

/**
 * `given` (PEM) come from the command line and are always trusted; `held` (PEM) were accepted before; `pushed` (DER)
 * is the new bundle, which replaces `held`. Of a bundle beyond what a link may hand out, the rest is not looked at.
 */
export function acceptServerRoots(
  given: readonly string[],
  held: readonly string[],
  pushed: readonly Uint8Array[],
): RootsDecision {
  const trusted = [...given, ...held].map(pem => new X509Certificate(pem));
  const accepted = new Map<string, string>();
  let refused = Math.max(0, pushed.length - limits.serverRoots);
  for (const der of pushed.slice(0, limits.serverRoots)) {
    const root = readRoot(der);
    if (!root || !isTrusted(root, trusted)) refused += 1;
    else if (!isAmong(root, given)) accepted.set(root.fingerprint256, root.toString());
  }
  return { accepted: [...accepted.values()], refused };
}

function readRoot(der: Uint8Array): X509Certificate | undefined {
  if (der.length > limits.serverRootBytes) return undefined;
  try {
    const root = new X509Certificate(der);
    // Bytes after the certificate would be dropped in silence.
    return root.raw.equals(der) ? root : undefined;
  } catch {
    return undefined;
  }
}

function isTrusted(root: X509Certificate, trusted: readonly X509Certificate[]): boolean {
  return trusted.some(each => each.raw.equals(root.raw)) || trusted.some(each => hasSigned(each, root));
}

function isAmong(root: X509Certificate, given: readonly string[]): boolean {
  return given.some(pem => new X509Certificate(pem).raw.equals(root.raw));
}

/** Names, key identifiers and key usage by checkIssued; the signature by verify. */
function hasSigned(issuer: X509Certificate, root: X509Certificate): boolean {
  try {
    return root.ca && issuer.ca && root.checkIssued(issuer) && root.verify(issuer.publicKey);
  } catch {
    return false;
  }
}
