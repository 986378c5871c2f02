/**
 * What a caller is told of a token that is not taken. There are two sentences, for an honest caller can do something
 * about the one and not about the other; which check failed helps only someone who tries, and goes into the cause.
 */
import { RollcallError } from '../base/errors.js';

/** `reason` is for the log: it says which check failed, and never holds the token. */
export function tokenRefused(reason: string, cause?: unknown): RollcallError {
  return new RollcallError('TOKEN_REFUSED', 'the token is not valid here', {
    cause: new Error(reason, { cause }),
  });
}

/** Only for a token that is good in every other way. */
export function tokenExpired(): RollcallError {
  return new RollcallError('TOKEN_REFUSED', 'the token has expired', {
    hint: 'get a new one',
    cause: new Error('exp has passed'),
  });
}

/** The issuer has said so, in a list that it signed. */
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
