/**
 * User accounts of a tenant. A name is one account, whatever the case of its letters; an account is never deleted, only
 * disabled, so that the audit log keeps meaning somebody. There is always an enabled admin: the last one cannot be
 * disabled or lose the role.
 */
import type { AuditDetail } from '../../audit-log/entry.js';
import type { Clock } from '../../base/clock.js';
import { RollcallError } from '../../base/errors.js';
import type { Random } from '../../base/random.js';
import type { Actor, Audit } from '../audit/audit.js';
import type { AuditEventType } from '../audit/event-types.js';
import { tenantPrefix } from '../../store/keys.js';
import type { Change, Expectation, Key, Store } from '../../store/store.js';
import { isAccessName, nameTaken, notFound, parseNewName } from './names.js';
import { decideRecord, decodeRecord, listRecords, putRecord, readRecord } from './records.js';
import type { Roles } from './roles.js';

export interface SecondFactor {
  /** Base32. */
  readonly secret: string;
  /** The last time step a code was taken for: a code counts once. */
  readonly lastStep: number;
  /** SHA-256 of each recovery code that is left, hex. */
  readonly recovery: readonly string[];
}

export interface User {
  /** `user:` and 32 hex digits. */
  readonly id: string;
  readonly tenant: string;
  readonly name: string;
  readonly roles: readonly string[];
  readonly enabled: boolean;
  readonly passwordHash: string;
  readonly secondFactor?: SecondFactor | undefined;
  readonly createdAt: number;
  /** Sessions and tokens from before this moment count no more, ms since 1970. */
  readonly validAfter: number;
}

export interface NewUser {
  readonly name: string;
  readonly roles: readonly string[];
  readonly passwordHash: string;
}

export interface UserChange {
  readonly roles?: readonly string[];
  readonly enabled?: boolean;
  readonly passwordHash?: string;
  /** Null takes it away. */
  readonly secondFactor?: SecondFactor | null;
  /** Ends all sessions and tokens there are. */
  readonly endSessions?: boolean;
}

/** What the audit log says of a change. */
export interface Reason {
  readonly type: AuditEventType;
  readonly by: Actor;
  readonly detail?: AuditDetail;
}

export interface Users {
  create(tenant: string, user: NewUser, reason: Reason): Promise<User>;
  find(tenant: string, id: string): Promise<User | undefined>;
  findByName(tenant: string, name: string): Promise<User | undefined>;
  /** By name or id; NOT_FOUND. */
  get(tenant: string, reference: string): Promise<User>;
  list(tenant: string): Promise<User[]>;
  /** True while the tenant has no user. */
  isEmpty(tenant: string): Promise<boolean>;
  /** Decided from the account as it is at the commit. A change to nothing commits only the audit event. */
  change(
    tenant: string,
    id: string,
    change: UserChange | ((user: User) => UserChange),
    reason: Reason,
  ): Promise<User>;
}

const adminRole = 'admin';
const prefixOf = (tenant: string): Key => `${tenantPrefix(tenant)}user/`;
const keyOf = (tenant: string, id: string): Key => prefixOf(tenant) + id;
const nameKeyOf = (tenant: string, name: string): Key =>
  `${tenantPrefix(tenant)}user-name/${name.toLowerCase()}`;
/** Changes whenever an admin comes or goes, so that two admins cannot disable each other at once. */
const adminsKeyOf = (tenant: string): Key => `${tenantPrefix(tenant)}admins`;

interface Guard {
  readonly changes: readonly Change[];
  readonly expectations: readonly Expectation[];
}

export interface UsersOptions {
  readonly store: Store;
  readonly audit: Audit;
  readonly clock: Clock;
  readonly random: Random;
  readonly roles: Pick<Roles, 'requireAll'>;
}

export function createUsers({ store, audit, clock, random, roles }: UsersOptions): Users {
  const find = (tenant: string, id: string): Promise<User | undefined> =>
    readRecord<User>(store, keyOf(tenant, id));
  const list = (tenant: string): Promise<User[]> => listRecords<User>(store, prefixOf(tenant));

  async function findByName(tenant: string, name: string): Promise<User | undefined> {
    if (!isAccessName(name)) return undefined;
    const index = await readRecord<{ id: string }>(store, nameKeyOf(tenant, name));
    return index && find(tenant, index.id);
  }

  /** Another enabled admin must be left, still so at the commit. */
  async function keepAnAdmin(before: User, after: User): Promise<Guard> {
    if (isAdmin(before) === isAdmin(after)) return { changes: [], expectations: [] };
    const key = adminsKeyOf(before.tenant);
    const value = await store.get(key);
    const others = (await list(before.tenant)).filter(({ id }) => id !== before.id);
    if (isAdmin(before) && !others.some(isAdmin)) {
      throw new RollcallError('REQUEST_INVALID', `${before.name} is the last admin`, {
        hint: 'give another user the role admin first',
      });
    }
    // Never the same twice, so that nothing went on unseen between the look and the commit.
    const { turn } = value ? decodeRecord<{ turn: number }>(value) : { turn: 0 };
    return { changes: [putRecord(key, { turn: turn + 1 })], expectations: [{ key, value }] };
  }

  return {
    async create(tenant, { name, roles: names, passwordHash }, { type, by, detail }) {
      parseNewName(name, 'user name');
      await roles.requireAll(tenant, names);
      const user: User = {
        id: `user:${random(16).toString('hex')}`,
        tenant,
        name,
        roles: [...new Set(names)],
        enabled: true,
        passwordHash,
        createdAt: clock.now(),
        validAfter: 0,
      };
      const index = nameKeyOf(tenant, name);
      return decideRecord<{ id: string }, User>(store, index, holder => {
        if (holder) throw nameTaken('user', name);
        return {
          changes: [
            putRecord(index, { id: user.id }),
            putRecord(keyOf(tenant, user.id), user),
            audit.auditChange(tenant, {
              type,
              subject: user.id,
              by,
              detail: { name, roles: user.roles.join(' '), ...detail },
            }),
          ],
          expectations: [{ key: keyOf(tenant, user.id), value: undefined }],
          result: user,
        };
      });
    },
    find,
    findByName,
    async get(tenant, reference) {
      const user = reference.startsWith('user:')
        ? await find(tenant, reference)
        : await findByName(tenant, reference);
      if (!user) throw notFound('user');
      return user;
    },
    list,
    async isEmpty(tenant) {
      return (await store.list({ prefix: prefixOf(tenant), limit: 1 })).length === 0;
    },
    async change(tenant, id, change, { type, by, detail }) {
      return decideRecord<User, User>(store, keyOf(tenant, id), async before => {
        if (!before) throw notFound('user');
        const wanted = typeof change === 'function' ? change(before) : change;
        if (wanted.roles) await roles.requireAll(tenant, wanted.roles);
        const after = changed(before, wanted, clock.now());
        const guard = await keepAnAdmin(before, after);
        return {
          changes: [
            putRecord(keyOf(tenant, id), after),
            ...guard.changes,
            audit.auditChange(tenant, { type, subject: id, by, detail: { name: before.name, ...detail } }),
          ],
          expectations: guard.expectations,
          result: after,
        };
      });
    },
  };
}

function isAdmin({ enabled, roles }: User): boolean {
  return enabled && roles.includes(adminRole);
}

function changed(user: User, change: UserChange, now: number): User {
  const { roles = user.roles, enabled = user.enabled, passwordHash = user.passwordHash } = change;
  const secondFactor =
    change.secondFactor === undefined ? user.secondFactor : (change.secondFactor ?? undefined);
  // After this millisecond: what was made within it may have been before.
  const validAfter = change.endSessions ? Math.max(now, user.validAfter) + 1 : user.validAfter;
  return { ...user, roles: [...new Set(roles)], enabled, passwordHash, secondFactor, validAfter };
}
