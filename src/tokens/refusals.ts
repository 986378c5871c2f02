/**
 * The errors for a refused token. There are two sentences, because an honest caller can act on the one and not on the
 * other; the failed check would help only an attacker, and is in the cause.
 */
import { RollcallError } from '../base/errors.js';

/** `reason` is for the log: it names the failed check, and never holds the token. */
export function tokenRefused(reason: string, cause?: unknown): RollcallError {
  return new RollcallError('TOKEN_REFUSED', 'the token is not valid here', {
    cause: new Error(reason, { cause }),
  });
}

/** Only for a token that is otherwise valid. */
export function tokenExpired(): RollcallError {
  return new RollcallError('TOKEN_REFUSED', 'the token has expired', {
    hint: 'get a new one',
    cause: new Error('exp has passed'),
  });
}

/** The issuer has revoked it, in a list that it signed. */
export function tokenRevoked(): RollcallError {
  return new RollcallError('TOKEN_REFUSED', 'the token was revoked', {
    hint: 'get a new one',
    cause: new Error('it is on the list of revoked tokens'),
  });
}

export function tokenMissing(): RollcallError {
  return new RollcallError('TOKEN_REFUSED', 'a token is missing', {
    hint: 'send one as "authorization: Bearer …"',
    cause: new Error('no bearer token in the request'),
  });
}
