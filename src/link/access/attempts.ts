/**
 * One try to come in, by whatever proof: it may have to wait, and one that is refused is counted, slows the next one
 * down, and is worth an alert once somebody seems to guess.
 */
import { isRollcallError } from '../../base/errors.js';
import type { RefusalCounter } from '../audit/refusals.js';
import type { Alerts } from './alerts.js';
import type { Guesses } from './guesses.js';

interface Place {
  readonly address: string;
  /** Of a user as `accountOf` gives it, or the id of a service; undefined for the setup code, which is nobody's. */
  readonly account: string | undefined;
}

/** The account of a user, there or not. */
export function accountOf(tenant: string, name: string): string {
  return `${tenant}/${name.toLowerCase()}`;
}

/** Throws RATE_LIMITED, or what `prove` throws; of that only LOGIN_REFUSED is a wrong guess. */
export type Attempt = <T>(place: Place, prove: () => Promise<T>) => Promise<T>;

export interface AttemptOptions {
  readonly guesses: Guesses;
  readonly refusals: RefusalCounter;
  readonly alerts: Alerts;
}

export function createAttempt({ guesses, refusals, alerts }: AttemptOptions): Attempt {
  function tellOfFailure({ address, account }: Place): void {
    refusals.count(address, 'LOGIN_REFUSED');
    const isSlowed = guesses.failed(address, account);
    // The code is used once in the life of a link: every wrong one is worth a look.
    if (account === undefined) alerts.raise('security.setup-code-refused', { address });
    else if (isSlowed) alerts.raise('security.login-failures', { account, address });
  }

  return async (place, prove) => {
    guesses.admit(place.address, place.account);
    try {
      const proved = await prove();
      guesses.succeeded(place.address, place.account);
      return proved;
    } catch (error) {
      if (isRollcallError(error, 'LOGIN_REFUSED')) tellOfFailure(place);
      throw error;
    }
  };
}
