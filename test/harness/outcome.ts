/** The outcome of a call, as one word. */
import { isRollcallError, type ErrorCode } from '../../src/base/errors.js';

/** The code it was refused with, or 'nothing' when it was not. */
export function codeOf(promise: Promise<unknown>): Promise<ErrorCode | 'nothing'> {
  return promise.then(
    () => 'nothing' as const,
    (error: unknown) => (isRollcallError(error) ? error.code : 'INTERNAL'),
  );
}
