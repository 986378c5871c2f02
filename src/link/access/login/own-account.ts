/** The operations of users on their own account: change the password, turn the second factor on or off. */
import type { Clock } from '../../../base/clock.js';
import { RollcallError } from '../../../base/errors.js';
import type { Random } from '../../../base/random.js';
import { accountOf, type Attempt } from './login-attempt.js';
import type { Passwords } from '../accounts/passwords.js';
import { actorOf, hashAskerOf, type Principal } from '../principal.js';
import { ofAccount } from './refused-account.js';
import { checkCode, newRecoveryCodes, newSecret, otpauthUri } from '../accounts/second-factor.js';
import type { Reason, SecondFactor, User, UserChange, Users } from '../accounts/users.js';

export interface Account {
  /** Ends every session there is, the one that asks too. LOGIN_REFUSED for a wrong old password. */
  changePassword(principal: Principal, old: string, fresh: string): Promise<void>;
  /** A secret to put into an authenticator; nothing changes before a code of it is confirmed. */
  proposeSecondFactor(principal: Principal): { readonly secret: string; readonly uri: string };
  /** Puts it on; gives the recovery codes, told this once. */
  confirmSecondFactor(
    principal: Principal,
    wanted: { readonly secret: string; readonly code: string; readonly password: string },
  ): Promise<{ readonly recoveryCodes: readonly string[] }>;
  removeSecondFactor(principal: Principal, password: string): Promise<void>;
}

export interface AccountOptions {
  readonly users: Users;
  readonly passwords: Passwords;
  readonly attempt: Attempt;
  readonly clock: Clock;
  readonly random: Random;
}

export function createAccount({ users, passwords, attempt, clock, random }: AccountOptions): Account {
  /** A session alone, which may have been left open, does not change how its user comes in. */
  async function requirePassword(principal: Principal, password: string): Promise<User> {
    requireLogin(principal);
    const { tenant, id, name, origin } = principal;
    return attempt({ address: origin.address, account: accountOf(tenant, name) }, async () => {
      const user = await users.get(tenant, id);
      if (await passwords.matches(password, user.passwordHash, hashAskerOf(principal))) return user;
      throw wrongPassword(principal);
    });
  }

  /** Changes the account in the name of a principal, who proved the password that it still has. */
  async function changeChecked(
    principal: Principal,
    checked: User,
    type: Reason['type'],
    change: UserChange,
  ): Promise<void> {
    const reason = { type, by: actorOf(principal), grounds: principal.confirm };
    const stillChecked = (now: User): UserChange => {
      if (now.passwordHash !== checked.passwordHash) throw wrongPassword(principal);
      return change;
    };
    await users.change(checked.tenant, checked.id, stillChecked, reason);
  }

  return {
    async changePassword(principal, old, fresh) {
      const user = await requirePassword(principal, old);
      const passwordHash = await passwords.hash(fresh, hashAskerOf(principal));
      await changeChecked(principal, user, 'user.password-changed', { passwordHash, endSessions: true });
    },
    proposeSecondFactor(principal) {
      requireLogin(principal);
      const secret = newSecret(random);
      return { secret, uri: otpauthUri({ issuer: 'Rollcall', name: principal.name, secret }) };
    },
    async confirmSecondFactor(principal, { secret, code, password }) {
      const user = await requirePassword(principal, password);
      const { codes, hashes } = newRecoveryCodes(random);
      const proposed: SecondFactor = { secret, lastStep: 0, recovery: [] };
      const proved = /^[A-Z2-7]{16,64}$/.test(secret) && checkCode(proposed, code, clock.now());
      if (!proved) throw new RollcallError('LOGIN_REFUSED', 'that code does not belong to the secret');
      const secondFactor = { ...proved, recovery: hashes };
      await changeChecked(principal, user, 'user.second-factor-on', { secondFactor });
      return { recoveryCodes: codes };
    },
    async removeSecondFactor(principal, password) {
      const user = await requirePassword(principal, password);
      await changeChecked(principal, user, 'user.second-factor-off', { secondFactor: null });
    },
  };
}

function wrongPassword(principal: Principal): RollcallError {
  return ofAccount(new RollcallError('LOGIN_REFUSED', 'the password is wrong'), principal);
}

/** A person who is logged in, as opposed to a program with a token of theirs. */
function requireLogin({ kind, session }: Principal): void {
  if (kind === 'user' && session !== undefined) return;
  throw new RollcallError('NOT_ALLOWED', 'only a user who is logged in can do this');
}
