/**
 * A user proves to be one: password, then second factor where there is one. Whatever is wrong gets the same answer after
 * the same work; only who had the password right learns that a code is missing.
 */
import type { Clock } from '../../base/clock.js';
import { RollcallError } from '../../base/errors.js';
import { accountOf, type Attempt } from './attempts.js';
import type { Passwords } from './passwords.js';
import { actorFrom, type Origin } from './principal.js';
import { ofAccount } from './refused-account.js';
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
  readonly attempt: Attempt;
  readonly clock: Clock;
}

export function createSignIn({ users, passwords, attempt, clock }: SignInOptions): SignIn {
  /** Takes a code once, and brings an old hash up to date, in one commit. */
  async function settle(user: User, { password, code }: SignInRequest, origin: Origin): Promise<User> {
    const isDated = passwords.isDated(user.passwordHash);
    if (!user.secondFactor && !isDated) return user;
    const rehashed = isDated ? { passwordHash: await passwords.hash(password) } : {};
    return users.change(
      user.tenant,
      user.id,
      now => ({ ...rehashed, ...usedFactor(now, code, clock.now()) }),
      { type: 'login.factor-used', by: actorFrom({ ...user, kind: 'user' }, origin) },
    );
  }

  return (request, origin) => {
    const { tenant, name, password } = request;
    return attempt({ address: origin.address, account: accountOf(tenant, name) }, async guess => {
      const user = await users.findByName(tenant, name);
      const { party, isKnown, failures } = guess;
      const asker = { party, isKnown, failures, signal: origin.signal };
      const matches = await passwords.matches(password, user?.passwordHash, asker);
      if (!user || !matches || !user.enabled) throw refused(user);
      return settle(user, request, origin);
    });
  };
}

function usedFactor(user: User, code: string | undefined, now: number): UserChange {
  const { secondFactor } = user;
  if (!secondFactor) return {};
  if (code === undefined || code === '') {
    throw new RollcallError('OTP_REQUIRED', 'a code of the second factor is needed', {
      hint: 'send it as otp_code; a recovery code will do as well',
    });
  }
  const used = checkCode(secondFactor, code, now);
  if (!used) throw refused(user);
  return { secondFactor: used };
}

function refused(user: User | undefined): RollcallError {
  const error = new RollcallError('LOGIN_REFUSED', 'name, password or code is wrong');
  return ofAccount(error, user && { ...user, kind: 'user' });
}
