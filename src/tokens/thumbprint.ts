/** Tokens that are bound to a certificate (RFC 8705 §3): anyone who took one without the key of the certificate has nothing. */
import { sha256Base64url } from '../base/hash.js';
import type { TokenClaims } from './claims.js';

/** `x5t#S256` of a certificate in DER (RFC 8705 §3.1). */
export function thumbprintOf(certificate: Uint8Array): string {
  return sha256Base64url(certificate);
}

/** True for the certificate the token is bound to, and for whatever came with a token that is bound to none. */
export function isHolder(
  { confirmation }: Pick<TokenClaims, 'confirmation'>,
  certificate: Uint8Array | undefined,
): boolean {
  if (confirmation === undefined) return true;
  return certificate !== undefined && thumbprintOf(certificate) === confirmation;
}
