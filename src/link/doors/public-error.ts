/** Reports an error to a peer of either port, and to the log. */
import { isFileError, toRollcallError, type ErrorCode, type RollcallError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import { storeFailure } from '../../store/failure.js';

const ourFault: ReadonlySet<ErrorCode> = new Set([
  'INTERNAL',
  'STORE_CONFLICT',
  'STORE_UNAVAILABLE',
  'STORE_FULL',
  'STORE_SCHEMA',
]);

/** For a peer. The path of a file and what the system says of it are for the log alone. */
export function publicError(thrown: unknown): RollcallError {
  const error = toRollcallError(thrown);
  return isFileError(error) ? storeFailure(error) : error;
}

/** Logs what the operator of the link should know, with the cause that the caller never sees. */
export function logFault(log: Log, thrown: unknown, doing: string): void {
  const error = toRollcallError(thrown);
  if (ourFault.has(error.code) || isFileError(error))
    log.error({ err: error, cause: error.cause }, `${doing} failed`);
}
