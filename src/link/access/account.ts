/** What users do with their own account: change the password, put on or take off the second factor. */
import type { Clock } from '../../base/clock.js';
import { RollcallError } from '../../base/errors.js';
import type { Random } from '../../base/random.js';
import type { Guesses } from './guesses.js';
import type { Passwords } from './passwords.js';
import { actorOf, type Origin, type Principal } from './principal.js';
import { checkCode, newRecoveryCodes, newSecret, otpauthUri } from './second-factor.js';
import type { SecondFactor, User, Users } from './users.js';

export interface Account {
  /** Ends every session there is, the one that asks too. LOGIN_REFUSED for a wrong old password. */
  changePassword(principal: Principal, old: string, fresh: string, origin: Origin): Promise<void>;
  /** A secret to put into an authenticator; nothing changes before a code of it is confirmed. */
  proposeSecondFactor(principal: Principal): { readonly secret: string; readonly uri: string };
  /** Puts it on; gives the recovery codes, told this once. */
  confirmSecondFactor(
    principal: Principal,
    wanted: { readonly secret: string; readonly code: string; readonly password: string },
    origin: Origin,
  ): Promise<{ readonly recoveryCodes: readonly string[] }>;
  removeSecondFactor(principal: Principal, password: string, origin: Origin): Promise<void>;
}

export interface AccountOptions {
  readonly users: Users;
  readonly passwords: Passwords;
  readonly guesses: Guesses;
  readonly clock: Clock;
  readonly random: Random;
}

export function createAccount({ users, passwords, guesses, clock, random }: AccountOptions): Account {
  /** A session alone, which may have been left open, does not change how its user comes in. */
  async function requirePassword(principal: Principal, password: string, origin: Origin): Promise<User> {
    requireLogin(principal);
    const account = `${principal.tenant}/${principal.name.toLowerCase()}`;
    guesses.admit(origin.address, account);
    const user = await users.get(principal.tenant, principal.id);
    if (await passwords.matches(password, user.passwordHash)) {
      guesses.succeeded(origin.address, account);
      return user;
    }
    guesses.failed(origin.address, account);
    throw new RollcallError('LOGIN_REFUSED', 'the password is wrong');
  }

  return {
    async changePassword(principal, old, fresh, origin) {
      const user = await requirePassword(principal, old, origin);
      const passwordHash = await passwords.hash(fresh);
      const reason = { type: 'user.password-changed', by: actorOf(principal) };
      await users.change(user.tenant, user.id, { passwordHash, endSessions: true }, reason);
    },
    proposeSecondFactor(principal) {
      requireLogin(principal);
      const secret = newSecret(random);
      return { secret, uri: otpauthUri({ issuer: 'Rollcall', name: principal.name, secret }) };
    },
    async confirmSecondFactor(principal, { secret, code, password }, origin) {
      const user = await requirePassword(principal, password, origin);
      const { codes, hashes } = newRecoveryCodes(random);
      const proposed: SecondFactor = { secret, lastStep: 0, recovery: [] };
      const proved = /^[A-Z2-7]{16,64}$/.test(secret) && checkCode(proposed, code, clock.now());
      if (!proved) throw new RollcallError('LOGIN_REFUSED', 'that code does not belong to the secret');
      const reason = { type: 'user.second-factor-on', by: actorOf(principal) };
      await users.change(user.tenant, user.id, { secondFactor: { ...proved, recovery: hashes } }, reason);
      return { recoveryCodes: codes };
    },
    async removeSecondFactor(principal, password, origin) {
      const user = await requirePassword(principal, password, origin);
      const reason = { type: 'user.second-factor-off', by: actorOf(principal) };
      await users.change(user.tenant, user.id, { secondFactor: null }, reason);
    },
  };
}

/** A person who is logged in, as opposed to a program with a token of theirs. */
function requireLogin({ kind, session }: Principal): void {
  if (kind === 'user' && session !== undefined) return;
  throw new RollcallError('NOT_ALLOWED', 'only a user who is logged in can do this');
}
