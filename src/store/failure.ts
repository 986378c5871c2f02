/** Translates the error of a back-end for callers: the disk is full, or the store cannot be used now. */
import { isFileError, RollcallError } from '../base/errors.js';
import { isDiskFull } from '../base/system-error.js';

/**
 * STORE_FULL for a full disk or quota, STORE_UNAVAILABLE for the rest; a RollcallError stays what it is, except that of a
 * file, whose path is not for callers.
 */
export function storeFailure(error: unknown): RollcallError {
  if (error instanceof RollcallError && !isFileError(error)) return error;
  if (isDiskFull(error)) {
    return new RollcallError('STORE_FULL', 'the disk of the link is full: nothing new can be written', {
      hint: 'free space on the disk that holds the data folder',
      cause: error,
    });
  }
  return new RollcallError('STORE_UNAVAILABLE', 'the store of the link cannot be used now; try again later', {
    cause: error,
  });
}
