/** Calls that last: the right to one may not, so it is looked at again, every five seconds. */
import type { ServerWritableStream } from '@grpc/grpc-js';
import type { Clock, Timer } from '../../../base/clock.js';
import { RollcallError } from '../../../base/errors.js';
import type { Principal } from '../../access/principal.js';
import { endCall } from './call-end.js';
import type { GrpcDoor } from './grpc-door.js';

/** A token that has ended, or was revoked, ends a call within this, ms. */
const recheckEveryMs = 5_000;

export interface RecheckOptions {
  readonly door: Pick<GrpcDoor, 'recheck'>;
  readonly clock: Clock;
  /** Throws when who asks, as they are now, may not have this any more. */
  readonly check: (now: Principal) => void | Promise<void>;
}

/** Ends the call when its token or the right to it has gone. To be cancelled with the call. */
export function recheckCall<Q, A>(
  call: ServerWritableStream<Q, A>,
  { door, clock, check }: RecheckOptions,
): Timer {
  const checking = clock.every(recheckEveryMs, () => {
    door
      .recheck(call)
      .then(now => {
        if (!now) throw new RollcallError('TOKEN_REFUSED', 'nobody is known to make this call');
        return check(now);
      })
      .catch((error: unknown) => {
        checking.cancel();
        endCall(call, error);
      });
  });
  return checking;
}
