/** The encoding of an error on the node port: a LinkError with its code. Causes are never sent. */
import { errorCodes, RollcallError } from '../base/errors.js';
import type { LinkError } from './generated/rollcall/v1/link.js';

/** Maximum number of characters of the message and of the hint. */
const maxTextLength = 1_024;

export function toLinkError(error: RollcallError): LinkError {
  return {
    code: error.code,
    message: error.message.slice(0, maxTextLength),
    hint: (error.hint ?? '').slice(0, maxTextLength),
    isFinal: error.code === 'NODE_REVOKED',
    retryAfterMs: Math.ceil(error.retryAfterMs ?? 0),
  };
}

/** The error that the link sent. An unknown code becomes INTERNAL. */
export function fromLinkError({ code, message, hint, retryAfterMs }: LinkError): RollcallError {
  const known = errorCodes.find(each => each === code) ?? 'INTERNAL';
  return new RollcallError(known, message, {
    hint: hint === '' ? undefined : hint,
    retryAfterMs: retryAfterMs === 0 ? undefined : retryAfterMs,
  });
}
