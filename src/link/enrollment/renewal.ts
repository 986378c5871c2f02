/** When a node renews its certificate. */

/** The share of its life that is over when the node asks for the next certificate. */
const renewAfterShare = 2 / 3;

/** Milliseconds from now until the node should renew a certificate that ends at `notAfter`. */
export function renewAfter(notAfter: number, now: number): number {
  return Math.round((notAfter - now) * renewAfterShare);
}
