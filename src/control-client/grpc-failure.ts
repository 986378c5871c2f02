/** Explains the failure of a gRPC call: by the error that the link stated, or by asking once more. */
import { status as Status, type ServiceError } from '@grpc/grpc-js';
import { RollcallError } from '../base/errors.js';
import { fromGrpcStatus, hasStatedCode } from '../protocol/status.js';
import { diagnose, StatedByLink } from './diagnosis.js';
import type { HttpTarget } from './http-target.js';

/** For an answer, ms. */
export const answerWithinMs = 10_000;
const lateAnswer = `nothing came within ${answerWithinMs / 1000} seconds`;

export async function explain(error: ServiceError, target: HttpTarget): Promise<RollcallError> {
  if (hasStatedCode(error)) return new StatedByLink(fromGrpcStatus(error));
  if (error.code === Status.UNAVAILABLE) return diagnose(target, 'the connection failed');
  if (error.code === Status.DEADLINE_EXCEEDED) return diagnose(target, lateAnswer);
  if (error.code === Status.UNIMPLEMENTED) {
    return new RollcallError(
      'LINK_UNREACHABLE',
      `what answers at ${target.addressText} is not a control port`,
      {
        hint: 'nodes use 9092 and operators 9093 unless the link was told otherwise',
        cause: error,
      },
    );
  }
  return fromGrpcStatus(error);
}

/** Why a watch did not begin; without an error nothing came. */
export async function explainStart(
  error: ServiceError | undefined,
  target: HttpTarget,
): Promise<RollcallError> {
  if (error === undefined || error.code === Status.CANCELLED) return diagnose(target, lateAnswer);
  return explain(error, target);
}

/** Why a watch that was on has ended; without an error the link went away. */
export async function explainEnd(
  error: ServiceError | undefined,
  target: HttpTarget,
): Promise<RollcallError> {
  const isLost = error === undefined || error.code === Status.UNAVAILABLE || error.code === Status.CANCELLED;
  if (error !== undefined && (!isLost || isRefusal(error))) return explain(error, target);
  return new RollcallError('LINK_UNREACHABLE', `the link at ${target.addressText} went away`, {
    hint: 'watch again when it is back',
    cause: error,
  });
}

/** True for a stated refusal that is not just the link closing. */
function isRefusal(error: ServiceError): boolean {
  return hasStatedCode(error) && fromGrpcStatus(error).code !== 'LINK_DRAINING';
}
