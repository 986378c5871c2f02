/**
 * The way from the link's own certificate to a root, and the roots that are handed out because of it. Pure; whether a
 * node would take the certificates on the way is found out by rehearsal.ts.
 */
import type { X509Certificate } from 'node:crypto';

/**
 * From the leaf, first, to an anchor, last; undefined when no issuers lead there. The shortest way, through certificates
 * that are in date at `now` when there is such a way.
 */
export function findPath(
  leaf: X509Certificate,
  intermediates: readonly X509Certificate[],
  anchors: readonly X509Certificate[],
  now: number,
): readonly X509Certificate[] | undefined {
  const valid = (list: readonly X509Certificate[]) => list.filter(each => isInDate(each, now));
  return (
    shortestPath(leaf, valid(intermediates), valid(anchors)) ?? shortestPath(leaf, intermediates, anchors)
  );
}

export function isInDate({ validFrom, validTo }: X509Certificate, now: number): boolean {
  return Date.parse(validFrom) <= now && now < Date.parse(validTo);
}

function shortestPath(
  leaf: X509Certificate,
  intermediates: readonly X509Certificate[],
  anchors: readonly X509Certificate[],
): readonly X509Certificate[] | undefined {
  const seen = new Set([leaf]);
  let paths: X509Certificate[][] = [[leaf]];
  while (paths.length > 0) {
    const longer: X509Certificate[][] = [];
    for (const path of paths) {
      const last = path.at(-1) ?? leaf;
      if (isAmong(last, anchors)) return path;
      const anchor = anchors.find(each => isIssuer(each, last));
      if (anchor) return [...path, anchor];
      for (const each of intermediates) {
        if (seen.has(each) || !isIssuer(each, last)) continue;
        seen.add(each);
        longer.push([...path, each]);
      }
    }
    paths = longer;
  }
  return undefined;
}

/**
 * The anchors that the leaf goes back to, and those that one of them has signed: a node takes no others, and a site that
 * moves to a new root has the old one sign it. Each once, in the order of the file.
 */
export function findHandedOut(
  leaf: X509Certificate,
  intermediates: readonly X509Certificate[],
  anchors: readonly X509Certificate[],
): readonly X509Certificate[] {
  const distinct = [...new Map(anchors.map(each => [each.fingerprint256, each])).values()];
  const above = new Set([leaf]);
  for (const each of above) {
    for (const issuer of [...intermediates, ...distinct]) if (isIssuer(issuer, each)) above.add(issuer);
  }
  const handedOut = new Set(distinct.filter(each => above.has(each) || each.raw.equals(leaf.raw)));
  for (const each of handedOut) {
    for (const other of distinct) if (other.ca && isIssuer(each, other)) handedOut.add(other);
  }
  return distinct.filter(each => handedOut.has(each));
}

function isAmong(certificate: X509Certificate, list: readonly X509Certificate[]): boolean {
  return list.some(each => each.raw.equals(certificate.raw));
}

/** By name and signature; whether it may sign is another question. */
function isIssuer(issuer: X509Certificate, certificate: X509Certificate): boolean {
  if (issuer.subject !== certificate.issuer) return false;
  try {
    return certificate.verify(issuer.publicKey);
  } catch {
    // A key of a kind that OpenSSL does not read, as files of the system's roots may hold.
    return false;
  }
}
