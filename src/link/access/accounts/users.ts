/**
 * User accounts of a tenant. A name is one account, whatever the case of its letters; once it is deleted, the name is free
 * for another account, with another id, and the audit log keeps meaning the one before by its id. There is always an
 * enabled admin: the last one cannot be deleted, disabled or lose the role.
 */
import type { AuditDetail } from '../../../audit-log/entry.js';
import type { Clock } from '../../../base/clock.js';
import { RollcallError } from '../../../base/errors.js';
import type { Random } from '../../../base/random.js';
import type { Actor, Audit } from '../../audit/audit.js';
import type { AuditEventType } from '../../audit/event-types.js';
import { tenantPrefix } from '../../../store/keys.js';
import type { Change, Key, Reads, Store } from '../../../store/store.js';
import { denial } from '../tokens/deny-list.js';
import { isAccessName, nameTaken, notFound, parseNewName, requireFew } from './names.js';
import { decide, listRecords, putRecord, readRecord, type Grounds } from '../records.js';
import type { Roles } from './roles.js';
import { maxApiTokenMs } from '../tokens/lifetimes.js';

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

/** The audit event of a change, and what else must hold at its commit. */
export interface Reason {
  readonly type: AuditEventType;
  readonly by: Actor;
  readonly detail?: AuditDetail;
  readonly grounds?: Grounds;
}

/** A user as they will be, with the changes for the commit that makes them so. */
export interface UserPlan {
  readonly user: User;
  readonly changes: readonly Change[];
}

const adminRole = 'admin';
const prefixOf = (tenant: string): Key => `${tenantPrefix(tenant)}user/`;
const keyOf = (tenant: string, id: string): Key => prefixOf(tenant) + id;
const nameKeyOf = (tenant: string, name: string): Key =>
  `${tenantPrefix(tenant)}user-name/${name.toLowerCase()}`;
/** Changes whenever an admin comes or goes, so that two admins cannot disable each other at once. */
const adminsKeyOf = (tenant: string): Key => `${tenantPrefix(tenant)}admins`;

interface Admins {
  readonly turn: number;
}

export interface UsersOptions {
  readonly store: Store;
  readonly audit: Audit;
  readonly clock: Clock;
  readonly random: Random;
  readonly roles: Pick<Roles, 'requireAll'>;
}

export class Users {
  readonly #options: UsersOptions;

  constructor(options: UsersOptions) {
    this.#options = options;
  }

  create(tenant: string, user: NewUser, reason: Reason): Promise<User> {
    return decide(this.#options.store, async reads => {
      const { user: result, changes } = await this.planCreation(reads, tenant, user, reason);
      return { changes, result };
    });
  }

  /** As `create`, for a commit that does more than that. */
  async planCreation(
    reads: Reads,
    tenant: string,
    { name, roles: names, passwordHash }: NewUser,
    { type, by, detail, grounds }: Reason,
  ): Promise<UserPlan> {
    await grounds?.(reads);
    parseNewName(name, 'user name');
    await this.#options.roles.requireAll(tenant, names, reads);
    const index = nameKeyOf(tenant, name);
    if (await readRecord(reads, index)) throw nameTaken('user', name);
    const user: User = {
      id: `user:${this.#options.random(16).toString('hex')}`,
      tenant,
      name,
      roles: [...new Set(names)],
      enabled: true,
      passwordHash,
      createdAt: this.#options.clock.now(),
      validAfter: 0,
    };
    return {
      user,
      changes: [
        putRecord(index, { id: user.id }),
        putRecord(keyOf(tenant, user.id), user),
        ...(await this.#keepAnAdmin(reads, undefined, user)),
        this.#options.audit.auditChange(tenant, {
          type,
          subject: user.id,
          by,
          detail: { name, roles: user.roles.join(' '), ...detail },
        }),
      ],
    };
  }

  find(tenant: string, id: string, reads: Reads = this.#options.store): Promise<User | undefined> {
    return readRecord<User>(reads, keyOf(tenant, id));
  }

  async findByName(
    tenant: string,
    name: string,
    reads: Reads = this.#options.store,
  ): Promise<User | undefined> {
    if (!isAccessName(name)) return undefined;
    const index = await readRecord<{ id: string }>(reads, nameKeyOf(tenant, name));
    return index && this.find(tenant, index.id, reads);
  }

  /** By name or id; NOT_FOUND. */
  async get(tenant: string, reference: string, reads?: Reads): Promise<User> {
    const user = reference.startsWith('user:')
      ? await this.find(tenant, reference, reads)
      : await this.findByName(tenant, reference, reads);
    if (!user) throw notFound('user');
    return user;
  }

  list(tenant: string): Promise<User[]> {
    return listRecords<User>(this.#options.store, prefixOf(tenant));
  }

  /** True while the tenant has no user. An admin who comes in the meantime keeps the commit from being made. */
  async isEmpty(tenant: string, reads: Reads = this.#options.store): Promise<boolean> {
    await this.#adminsOf(reads, tenant);
    return (await this.#options.store.list({ prefix: prefixOf(tenant), limit: 1 })).length === 0;
  }

  /** Decided from the account as it is at the commit. A change to nothing commits only the audit event. */
  change(
    tenant: string,
    id: string,
    change: UserChange | ((user: User) => UserChange),
    { type, by, detail, grounds }: Reason,
  ): Promise<User> {
    return decide(this.#options.store, async reads => {
      await grounds?.(reads);
      const before = await this.find(tenant, id, reads);
      if (!before) throw notFound('user');
      const wanted = typeof change === 'function' ? change(before) : change;
      const { user, changes } = await this.planChange(reads, before, wanted);
      const event = { type, subject: id, by, detail: { name: before.name, ...detail } };
      return { changes: [...changes, this.#options.audit.auditChange(tenant, event)], result: user };
    });
  }

  /** Their sessions and tokens end with the account. REQUEST_INVALID for the last admin. */
  async remove(tenant: string, id: string, { by, grounds }: Omit<Reason, 'type'>): Promise<void> {
    await decide(this.#options.store, async reads => {
      await grounds?.(reads);
      const user = await this.find(tenant, id, reads);
      if (!user) throw notFound('user');
      const { name } = user;
      const detail = { name, roles: user.roles.join(' ') };
      return {
        changes: [
          { type: 'delete', key: keyOf(tenant, id) },
          { type: 'delete', key: nameKeyOf(tenant, name) },
          ...(await this.#keepAnAdmin(reads, user, { ...user, enabled: false })),
          // Here no token of nobody counts; those who verify elsewhere read it from the list.
          denial({ id, endsAt: this.#options.clock.now() + maxApiTokenMs, tenant }),
          this.#options.audit.auditChange(tenant, { type: 'user.deleted', subject: id, by, detail }),
        ],
        result: undefined,
      };
    });
  }

  /** As `change` of a user who was read, without the audit event: for a commit that tells of more than that. */
  async planChange(reads: Reads, before: User, wanted: UserChange): Promise<UserPlan> {
    // A role that they have already and that is gone keeps nobody from changing them.
    const added = wanted.roles?.filter(name => !before.roles.includes(name)) ?? [];
    requireFew(wanted.roles ?? [], 'roles');
    await this.#options.roles.requireAll(before.tenant, added, reads);
    const user = changed(before, wanted, this.#options.clock.now());
    const guard = await this.#keepAnAdmin(reads, before, user);
    return { user, changes: [putRecord(keyOf(user.tenant, user.id), user), ...guard] };
  }

  /** Read by every decision that counts on which admins there are, and written by every one that changes that. */
  #adminsOf(reads: Reads, tenant: string): Promise<Admins | undefined> {
    return readRecord<Admins>(reads, adminsKeyOf(tenant));
  }

  /** The expectation that keeps two changes of the admins from happening at once. Another enabled admin must be left. */
  async #keepAnAdmin(reads: Reads, before: User | undefined, after: User): Promise<readonly Change[]> {
    const wasAdmin = before !== undefined && isAdmin(before);
    if (wasAdmin === isAdmin(after)) return [];
    const { turn } = (await this.#adminsOf(reads, after.tenant)) ?? { turn: 0 };
    if (wasAdmin && !(await this.list(after.tenant)).some(each => each.id !== after.id && isAdmin(each))) {
      throw new RollcallError('REQUEST_INVALID', `${before.name} is the last admin`, {
        hint: 'give another user the role admin first',
      });
    }
    // Never the same twice, so that nothing went on unseen between the look and the commit.
    return [putRecord(adminsKeyOf(after.tenant), { turn: turn + 1 })];
  }
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
