/** How a call on our side ends badly: the caller is told, and the log when it is our fault. */
import type { ServerDuplexStream, ServerWritableStream } from '@grpc/grpc-js';
import { isFileError, toRollcallError, type ErrorCode, type RollcallError } from '../../../base/errors.js';
import type { Log } from '../../../base/log.js';
import { toGrpcStatus, type GrpcStatus } from '../../../protocol/status.js';
import { storeFailure } from '../../../store/failure.js';

const ourFault: ReadonlySet<ErrorCode> = new Set([
  'INTERNAL',
  'STORE_CONFLICT',
  'STORE_UNAVAILABLE',
  'STORE_FULL',
  'STORE_SCHEMA',
]);

/** What a caller is told. Which file of the link it is, and what the system says of it, is for the log alone. */
export function toldOutside(thrown: unknown): RollcallError {
  const error = toRollcallError(thrown);
  return isFileError(error) ? storeFailure(error) : error;
}

export function statusOf(thrown: unknown): GrpcStatus {
  return toGrpcStatus(toldOutside(thrown));
}

/** Ends a stream with a status. On a stream that is over already nothing happens. */
export function endCall<Q, A>(
  call: ServerDuplexStream<Q, A> | ServerWritableStream<Q, A>,
  thrown: unknown,
): void {
  if (call.destroyed || call.writableEnded) return;
  call.emit('error', statusOf(thrown));
}

/** Logs what the operator of the link should know, with the cause that the caller never sees. */
export function logFault(log: Log, thrown: unknown, doing: string): void {
  const error = toRollcallError(thrown);
  if (ourFault.has(error.code) || isFileError(error))
    log.error({ err: error, cause: error.cause }, `${doing} failed`);
}
