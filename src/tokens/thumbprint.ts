/** Certificate-bound tokens (RFC 8705 §3): a stolen token is useless without the key of the certificate. */
import { sha256Base64url } from '../base/hash.js';
import type { TokenClaims } from './claims.js';

/** `x5t#S256` of a certificate in DER (RFC 8705 §3.1). */
export function thumbprintOf(certificate: Uint8Array): string {
  return sha256Base64url(certificate);
}

/** True for the certificate that the token is bound to, and with any certificate for a token that is not bound. */
export function isHolder(
  { confirmation }: Pick<TokenClaims, 'confirmation'>,
  certificate: Uint8Array | undefined,
): boolean {
  if (confirmation === undefined) return true;
  return certificate !== undefined && thumbprintOf(certificate) === confirmation;
}
