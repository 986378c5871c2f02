/**
 * A user proves to be one: password, then second factor where there is one. Whatever is wrong gets the same answer after
 * the same work; only who had the password right learns that a code is missing.
 *
 * Checking a password takes long. What was checked is an expectation of the commit that goes by it: a password that was
 * changed meanwhile, an account that was disabled, or a code that was used lets nobody in.
 */
import type { Clock } from '../../../base/clock.js';
import { isRollcallError, RollcallError } from '../../../base/errors.js';
import type { Audit, AuditEvent } from '../../audit/audit.js';
import type { Reads, Store } from '../../../store/store.js';
import { accountOf, type Attempt } from './login-attempt.js';
import type { Cutoffs } from '../tokens/cutoffs.js';
import type { Passwords } from '../accounts/passwords.js';
import { actorFrom, type Origin } from '../principal.js';
import { decide, type Decision } from '../records.js';
import { ofAccount } from './refused-account.js';
import { checkCode } from '../accounts/second-factor.js';
import type { SecondFactor, User, Users } from '../accounts/users.js';

export interface SignInRequest {
  readonly tenant: string;
  readonly name: string;
  readonly password: string;
  /** Of the second factor, or a recovery code. */
  readonly code?: string | undefined;
}

/**
 * Commits what `begin` makes of the user who came in. Throws LOGIN_REFUSED, OTP_REQUIRED or RATE_LIMITED, or what `begin`
 * throws.
 */
export type SignIn = <T>(
  request: SignInRequest,
  origin: Origin,
  begin: (user: User, reads: Reads) => Promise<Decision<T>>,
) => Promise<T>;

export interface SignInOptions {
  readonly store: Store;
  readonly audit: Audit;
  readonly users: Users;
  readonly passwords: Passwords;
  readonly attempt: Attempt;
  readonly clock: Clock;
  readonly cutoffs: Pick<Cutoffs, 'read'>;
}

export function createSignIn(options: SignInOptions): SignIn {
  const { store, audit, users, passwords, attempt, clock, cutoffs } = options;

  /** Takes a code once, and brings an old hash up to date, in the commit of what it lets begin. */
  async function settle(
    checked: User,
    { code, rehashed, origin }: { code: string | undefined; rehashed: string | undefined; origin: Origin },
    reads: Reads,
  ): Promise<Decision<User>> {
    const now = await users.find(checked.tenant, checked.id, reads);
    const { isDeleted } = await cutoffs.read(reads, checked.tenant);
    if (isDeleted || !now?.enabled || now.passwordHash !== checked.passwordHash) throw refused(checked);
    const factor = useFactor(now, code, clock.now());
    if (!factor && rehashed === undefined) return { changes: [], result: now };
    const { user, changes } = await users.planChange(reads, now, {
      ...(factor && { secondFactor: factor.used }),
      ...(rehashed !== undefined && { passwordHash: rehashed }),
    });
    const { id, tenant, name } = user;
    const event: AuditEvent | undefined = factor && {
      type: 'login.factor-used',
      subject: id,
      by: actorFrom({ kind: 'user', id, name }, origin),
      detail: factor.detail,
    };
    return { changes: [...changes, ...(event ? [audit.auditChange(tenant, event)] : [])], result: user };
  }

  return (request, origin, begin) => {
    const { tenant, name, password, code } = request;
    return attempt({ address: origin.address, account: accountOf(tenant, name) }, async guess => {
      const { party, isKnown, failures } = guess;
      const asker = { party, isKnown, failures, signal: origin.signal };
      const checked = await users.findByName(tenant, name);
      const matches = await passwords
        .matches(password, checked?.passwordHash, asker)
        .catch((error: unknown) => {
          throw isRollcallError(error, 'LOGIN_REFUSED') ? ofUser(error, checked) : error;
        });
      if (!checked || !matches || !checked.enabled) throw refused(checked);
      const isDated = passwords.isDated(checked.passwordHash);
      const rehashed = isDated ? await passwords.hash(password, asker) : undefined;
      return decide(store, async reads => {
        const { changes, result: user } = await settle(checked, { code, rehashed, origin }, reads);
        const begun = await begin(user, reads);
        return { changes: [...changes, ...begun.changes], result: begun.result };
      });
    });
  };
}

/** The factor after this login, and what the audit log says of it; undefined for an account that has none. */
function useFactor(
  user: User,
  code: string | undefined,
  now: number,
): { used: SecondFactor; detail: Readonly<Record<string, string | number>> } | undefined {
  const { secondFactor } = user;
  if (!secondFactor) return undefined;
  if (code === undefined || code === '') {
    throw new RollcallError('OTP_REQUIRED', 'a code of the second factor is needed', {
      hint: 'send it as otp_code; a recovery code will do as well',
    });
  }
  const used = checkCode(secondFactor, code, now);
  if (!used) throw refused(user);
  const left = used.recovery.length;
  const isRecovery = left < secondFactor.recovery.length;
  return { used, detail: isRecovery ? { factor: 'recovery code', left } : { factor: 'time code' } };
}

function refused(user: User | undefined): RollcallError {
  return ofUser(new RollcallError('LOGIN_REFUSED', 'name, password or code is wrong'), user);
}

function ofUser(error: RollcallError, user: User | undefined): RollcallError {
  return ofAccount(error, user && { ...user, kind: 'user' });
}
