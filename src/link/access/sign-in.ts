/**
 * A user proves to be one: password, then second factor where there is one. Whatever is wrong gets the same answer after
 * the same work; only who had the password right learns that a code is missing.
 */
import type { Clock } from '../../base/clock.js';
import { RollcallError } from '../../base/errors.js';
import type { RefusalCounter } from '../audit/refusals.js';
import type { Alerts } from './alerts.js';
import type { Guesses } from './guesses.js';
import type { Passwords } from './passwords.js';
import { actorFrom, type Origin } from './principal.js';
import { checkCode } from './second-factor.js';
import type { User, UserChange, Users } from './users.js';

export interface SignInRequest {
  readonly tenant: string;
  readonly name: string;
  readonly password: string;
  /** Of the second factor, or a recovery code. */
  readonly code?: string | undefined;
}

/** Throws LOGIN_REFUSED, OTP_REQUIRED or RATE_LIMITED. */
export type SignIn = (request: SignInRequest, origin: Origin) => Promise<User>;

export interface SignInOptions {
  readonly users: Users;
  readonly passwords: Passwords;
  readonly guesses: Guesses;
  readonly alerts: Alerts;
  readonly refusals: RefusalCounter;
  readonly clock: Clock;
}

export function createSignIn(options: SignInOptions): SignIn {
  const { users, passwords, guesses, alerts, refusals, clock } = options;

  /** Takes a code once, and brings an old hash up to date, in one commit. */
  async function settle(user: User, { password, code }: SignInRequest, origin: Origin): Promise<User> {
    const isDated = passwords.isDated(user.passwordHash);
    if (!user.secondFactor && !isDated) return user;
    const rehashed = isDated ? { passwordHash: await passwords.hash(password) } : {};
    return users.change(
      user.tenant,
      user.id,
      now => ({ ...rehashed, ...usedFactor(now, code, clock.now()) }),
      { type: 'login.factor-used', by: actorFrom(user.name, origin) },
    );
  }

  return async (request, origin) => {
    const { tenant, name, password } = request;
    const account = `${tenant}/${name.toLowerCase()}`;
    guesses.admit(origin.address, account);
    const user = await users.findByName(tenant, name);
    const matches = await passwords.matches(password, user?.passwordHash);
    try {
      if (!user || !matches || !user.enabled) throw refused();
      const settled = await settle(user, request, origin);
      guesses.succeeded(origin.address, account);
      return settled;
    } catch (error) {
      if (error instanceof RollcallError && error.code === 'LOGIN_REFUSED') {
        refusals.count(origin.address, 'LOGIN_REFUSED');
        if (guesses.failed(origin.address, account))
          alerts.raise('security.login-failures', { account, address: origin.address });
      }
      throw error;
    }
  };
}

function usedFactor({ secondFactor }: User, code: string | undefined, now: number): UserChange {
  if (!secondFactor) return {};
  if (code === undefined || code === '') {
    throw new RollcallError('OTP_REQUIRED', 'a code of the second factor is needed', {
      hint: 'send it as otp_code; a recovery code will do as well',
    });
  }
  const used = checkCode(secondFactor, code, now);
  if (!used) throw refused();
  return { secondFactor: used };
}

function refused(): RollcallError {
  return new RollcallError('LOGIN_REFUSED', 'name, password or code is wrong');
}
