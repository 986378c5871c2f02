/** The place of a token in a request (RFC 6750 §2.1): the only one, for the link and for other programs. */
import { tokenMissing } from './refusals.js';

const bearer = /^Bearer +(\S+)$/i;

/** The token in `Bearer …`, if any. */
export function findBearer(authorization: string | undefined): string | undefined {
  return bearer.exec(authorization ?? '')?.[1];
}

/** TOKEN_REFUSED without a token. */
export function getBearer(authorization: string | undefined): string {
  const token = findBearer(authorization);
  if (token === undefined) throw tokenMissing();
  return token;
}
