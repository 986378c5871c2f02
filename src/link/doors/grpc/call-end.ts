/** How a gRPC call on our side ends badly. */
import type { ServerDuplexStream, ServerWritableStream } from '@grpc/grpc-js';
import { toGrpcStatus, type GrpcStatus } from '../../../protocol/status.js';
import { publicError } from '../public-error.js';

export function statusOf(thrown: unknown): GrpcStatus {
  return toGrpcStatus(publicError(thrown));
}

/** Ends a stream with a status. On a stream that is over already nothing happens. */
export function endCall<Q, A>(
  call: ServerDuplexStream<Q, A> | ServerWritableStream<Q, A>,
  thrown: unknown,
): void {
  if (call.destroyed || call.writableEnded) return;
  call.emit('error', statusOf(thrown));
}
