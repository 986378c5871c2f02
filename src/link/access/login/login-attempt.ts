/**
 * One login attempt, with any kind of proof: it may have to wait. A refused attempt is counted, delays the next one, and
 * raises an alert once the failures look like guessing.
 */
import type { AuditDetail } from '../../../audit-log/entry.js';
import { isRollcallError, type RollcallError } from '../../../base/errors.js';
import type { Known, RefusalCounter } from '../../audit/refusals.js';
import type { Alerts } from '../alerts.js';
import type { Guess, Guesses } from './login-throttle.js';
import { accountIn } from './refused-account.js';

interface Place {
  readonly address: string;
  /** Of a user as `accountOf` gives it, or the id or the tenant and name of a service; undefined for the setup code, which is nobody's. */
  readonly account: string | undefined;
}

/** The account of a user, there or not. */
export function accountOf(tenant: string, name: string): string {
  return `${tenant}/${name.toLowerCase()}`;
}

/** Throws RATE_LIMITED, or what `prove` throws; of that only LOGIN_REFUSED is a wrong guess. */
export type Attempt = <T>(place: Place, prove: (guess: Guess) => Promise<T>) => Promise<T>;

export interface AttemptOptions {
  readonly guesses: Guesses;
  readonly refusals: RefusalCounter;
  readonly alerts: Alerts;
}

export function createAttempt({ guesses, refusals, alerts }: AttemptOptions): Attempt {
  function reportFailure({ address, account }: Place, guess: Guess, error: RollcallError): void {
    const found = accountIn(error);
    refusals.countLogin(address, error.code, account === undefined ? 'setup code' : found);
    const isSlowed = guess.failed();
    // The code is used once in the life of a link: every wrong one is worth a look.
    if (account === undefined) alerts.raise('security.setup-code-refused', { address });
    else if (isSlowed) alerts.raise('security.login-failures', { ...accountDetail(found), address });
  }

  return async (place, prove) => {
    const guess = await guesses.begin(place.address, place.account).catch((error: unknown) => {
      // The account was not looked up: an attempt that has to wait costs next to nothing.
      refusals.count(place.address, 'RATE_LIMITED');
      throw error;
    });
    try {
      const proved = await prove(guess);
      guess.succeeded();
      return proved;
    } catch (error) {
      if (isRollcallError(error, 'LOGIN_REFUSED')) reportFailure(place, guess, error);
      else guess.withdrawn();
      throw error;
    }
  };
}

/** A name that nobody has is a stranger's text, and often a password. */
function accountDetail(account: Known | undefined): AuditDetail {
  if (!account) return { account: 'unknown account' };
  const { tenant, id, name } = account;
  return { tenant, account: id, name };
}
