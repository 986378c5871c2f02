/** How an error travels on the node port: as a LinkError, by its code. Causes never travel. */
import { errorCodes, RollcallError } from '../base/errors.js';
import type { LinkError } from './generated/rollcall/v1/link.js';

/** Characters of the message and of the hint. */
const maxTextLength = 1_024;

export function toLinkError(error: RollcallError, retryAfterMs = 0): LinkError {
  return {
    code: error.code,
    message: error.message.slice(0, maxTextLength),
    hint: (error.hint ?? '').slice(0, maxTextLength),
    isFinal: error.code === 'NODE_REVOKED',
    retryAfterMs,
  };
}

/** What the link said. A code that this version does not know is INTERNAL. */
export function fromLinkError({ code, message, hint }: LinkError): RollcallError {
  const known = errorCodes.find(each => each === code) ?? 'INTERNAL';
  return new RollcallError(known, message, { hint: hint === '' ? undefined : hint });
}
