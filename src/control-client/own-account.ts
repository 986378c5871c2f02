/** Operations that need no permission: the own identity, the addresses for nodes, and the own account. */
import type { Assignment, Me } from './answers.js';
import type { Ask } from './control-http.js';

/** For users who logged in; a session alone does not change how its user comes in, so the password is asked for. */
export interface OwnAccount {
  /** Ends every session there is, the one that asks too. LOGIN_REFUSED for a wrong old password. */
  changePassword(old: string, fresh: string): Promise<void>;
  /** A secret to put into an authenticator; nothing changes before a code of it is confirmed. */
  proposeSecondFactor(): Promise<{ readonly secret: string; readonly uri: string }>;
  /** Puts it on; gives the recovery codes, told this once. */
  confirmSecondFactor(proof: SecondFactorProof): Promise<{ readonly recoveryCodes: readonly string[] }>;
  removeSecondFactor(password: string): Promise<void>;
}

export interface SecondFactorProof {
  readonly secret: string;
  readonly code: string;
  readonly password: string;
}

export function askMe(ask: Ask): Promise<Me> {
  return ask('GET', '/auth/me');
}

export function askAssignment(ask: Ask): Promise<Assignment> {
  return ask('GET', '/v1/assignment');
}

export function createOwnAccount(ask: Ask): OwnAccount {
  return {
    changePassword: async (old, fresh) => {
      await ask('POST', '/auth/password', { old, new: fresh });
    },
    proposeSecondFactor: () => ask('POST', '/auth/second-factor'),
    confirmSecondFactor: proof => ask('POST', '/auth/second-factor/confirm', proof),
    removeSecondFactor: async password => {
      await ask('POST', '/auth/second-factor/remove', { password });
    },
  };
}
