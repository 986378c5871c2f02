/** Calls of one request and one answer: finds the caller, and reports failures, in one place for every service. */
import type { handleUnaryCall } from '@grpc/grpc-js';
import type { Log } from '../../../base/log.js';
import type { Principal } from '../../access/principal.js';
import { statusOf } from './call-end.js';
import { logFault } from '../public-error.js';
import type { GrpcDoor } from './grpc-door.js';

export type Unary = <Q, A>(
  work: (request: Q, principal: Principal) => A | Promise<A>,
) => handleUnaryCall<Q, A>;

export interface UnaryOptions {
  readonly door: Pick<GrpcDoor, 'principalOf'>;
  readonly log: Log;
  /** Names the failed call in the log, such as "a control request". */
  readonly what: string;
}

/** Gives a function that makes a handler of some work. */
export function createUnary({ door, log, what }: UnaryOptions): Unary {
  return work => (call, callback) => {
    Promise.resolve()
      .then(() => work(call.request, door.principalOf(call)))
      .then(
        answer => callback(null, answer),
        (error: unknown) => {
          logFault(log, error, what);
          callback(statusOf(error));
        },
      );
  };
}
