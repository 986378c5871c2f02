/** How a call on our side ends badly: the caller is told, and the log when it is our fault. */
import type { ServerDuplexStream, ServerWritableStream } from '@grpc/grpc-js';
import { toRollcallError, type ErrorCode } from '../../../base/errors.js';
import type { Log } from '../../../base/log.js';
import { toGrpcStatus } from '../../../protocol/status.js';

const ourFault: ReadonlySet<ErrorCode> = new Set([
  'INTERNAL',
  'STORE_CONFLICT',
  'STORE_UNAVAILABLE',
  'STORE_FULL',
  'STORE_SCHEMA',
]);

/** Ends a stream with a status. On a stream that is over already nothing happens. */
export function endCall<Q, A>(
  call: ServerDuplexStream<Q, A> | ServerWritableStream<Q, A>,
  thrown: unknown,
): void {
  if (call.destroyed || call.writableEnded) return;
  call.emit('error', toGrpcStatus(thrown));
}

/** Logs what the operator of the link should know, with the cause that the caller never sees. */
export function logFault(log: Log, thrown: unknown, doing: string): void {
  const error = toRollcallError(thrown);
  if (ourFault.has(error.code)) log.error({ err: error, cause: error.cause }, `${doing} failed`);
}
