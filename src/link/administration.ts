/**
 * The operations on users, roles, services, tokens, keys and tenants, once, for every door. The door has
 * checked the permission; here is what no table can say: nobody gives away, or takes over, more than they hold.
 */
import { RollcallError } from '../base/errors.js';
import type { Reads } from '../store/store.js';
import type { TimeSpan } from '../tokens/revoked-list.js';
import type { Access } from './access/access.js';
import type { ApiToken, NewApiToken } from './access/tokens/api-tokens.js';
import { parseNewName } from './access/accounts/names.js';
import { permissionNames, permissions } from './access/permissions.js';
import { actorOf, hashAskerOf, may, notAllowed, type Principal } from './access/principal.js';
import type { Grounds } from './access/records.js';
import type { Role } from './access/accounts/roles.js';
import type { Service, ServiceSettings } from './access/accounts/services.js';
import type { RotateOptions } from './access/tokens/keys.js';
import type { Reason, User } from './access/accounts/users.js';

/** An account as others see it. */
export interface UserView {
  readonly id: string;
  readonly name: string;
  readonly roles: readonly string[];
  readonly enabled: boolean;
  readonly secondFactor: boolean;
  readonly createdAt: number;
}

export type ServiceView = Omit<Service, 'secrets' | 'tenant'> & { readonly secrets: number };

/** A field that is left out stays as it is. */
export interface UserRequest {
  readonly roles?: readonly string[] | undefined;
  readonly enabled?: boolean | undefined;
  readonly endSessions?: boolean | undefined;
  /** A new password, told to the user by other means; ends the sessions there are. */
  readonly password?: string | undefined;
  /** True takes the second factor away from somebody who lost it. */
  readonly removeSecondFactor?: boolean | undefined;
}

/** Ends what goes on in a deleted tenant, such as the sessions of its nodes; resolves with the number of sessions ended. */
export type EndTenant = (tenant: string) => Promise<number>;

export class Administration {
  readonly #access: Access;
  readonly #endTenant: EndTenant;

  constructor(access: Access, endTenant: EndTenant) {
    this.#access = access;
    this.#endTenant = endTenant;
  }

  async listUsers({ tenant }: Principal) {
    return (await this.#access.users.list(tenant)).map(viewUser);
  }

  async createUser(
    principal: Principal,
    { name, roles: names, password }: { name: string; roles: readonly string[]; password: string },
  ): Promise<UserView> {
    await this.#requireHolding(principal, names);
    const passwordHash = await this.#access.passwords.hash(password, hashAskerOf(principal));
    const grounds = this.#holding(principal, () => names);
    const reason: Reason = { type: 'user.created', by: actorOf(principal), grounds };
    return viewUser(
      await this.#access.users.create(principal.tenant, { name, roles: names, passwordHash }, reason),
    );
  }

  async changeUser(principal: Principal, reference: string, request: UserRequest): Promise<UserView> {
    // One by one: whatever else an object from outside holds stays outside.
    const { roles: names, enabled, endSessions, password, removeSecondFactor } = request;
    const given = { roles: names, enabled, endSessions, password, removeSecondFactor };
    const { id, roles: held } = await this.#access.users.get(principal.tenant, reference);
    await this.#requireHolding(principal, [...held, ...(names ?? [])]);
    const wanted = {
      ...(names && { roles: names }),
      ...(enabled !== undefined && { enabled }),
      endSessions: endSessions === true || enabled === false || password !== undefined,
      ...(password !== undefined && {
        passwordHash: await this.#access.passwords.hash(password, hashAskerOf(principal)),
      }),
      ...(removeSecondFactor && { secondFactor: null }),
    };
    const changed = Object.entries(given).filter(([, value]) => value !== undefined);
    const detail = {
      changed: changed.map(([name]) => name).join(' '),
      ...(names && { roles: names.join(' ') }),
      ...(enabled !== undefined && { enabled }),
    };
    const grounds = this.#holdingUser(principal, id, names);
    const reason: Reason = { type: 'user.changed', by: actorOf(principal), detail, grounds };
    return viewUser(await this.#access.users.change(principal.tenant, id, wanted, reason));
  }

  async deleteUser(principal: Principal, reference: string): Promise<void> {
    const { id, tenant } = await this.#access.users.get(principal.tenant, reference);
    await this.#access.users.remove(tenant, id, {
      by: actorOf(principal),
      grounds: this.#holdingUser(principal, id),
    });
  }

  listRoles({ tenant }: Principal): Promise<Role[]> {
    return this.#access.roles.list(tenant);
  }

  permissions() {
    return permissionNames.map(name => ({ name, allows: permissions[name] }));
  }

  defineRole(principal: Principal, role: { name: string; permissions: readonly string[] }): Promise<Role> {
    return this.#access.roles.define(principal.tenant, role, actorOf(principal), async reads => {
      const now = await principal.confirm(reads);
      const beyond = permissionNames.find(each => role.permissions.includes(each) && !may(now, each));
      if (beyond !== undefined) throw notAllowed(beyond);
    });
  }

  removeRole(principal: Principal, name: string) {
    return this.#access.roles.remove(principal.tenant, name, actorOf(principal), principal.confirm);
  }

  async listServices({ tenant }: Principal) {
    return (await this.#access.services.list(tenant)).map(viewService);
  }

  async createService(principal: Principal, name: string, settings: ServiceSettings): Promise<ServiceView> {
    const grounds = this.#holding(principal, () => settings.roles ?? []);
    const { tenant } = principal;
    return viewService(
      await this.#access.services.create(tenant, name, settings, actorOf(principal), grounds),
    );
  }

  async changeService(
    principal: Principal,
    reference: string,
    settings: ServiceSettings & { readonly endTokens?: boolean },
  ): Promise<ServiceView> {
    const { id, tenant } = await this.#access.services.get(principal.tenant, reference);
    const grounds = this.#holdingService(principal, id, settings.roles);
    return viewService(await this.#access.services.change(tenant, id, settings, actorOf(principal), grounds));
  }

  async makeServiceSecret(
    principal: Principal,
    reference: string,
  ): Promise<{ service: ServiceView; secret: string }> {
    const { id, tenant } = await this.#access.services.get(principal.tenant, reference);
    const grounds = this.#holdingService(principal, id);
    const { service, secret } = await this.#access.services.addSecret(
      tenant,
      id,
      actorOf(principal),
      grounds,
    );
    return { service: viewService(service), secret };
  }

  async deleteService(principal: Principal, reference: string): Promise<void> {
    const { id, tenant } = await this.#access.services.get(principal.tenant, reference);
    await this.#access.services.remove(tenant, id, actorOf(principal), this.#holdingService(principal, id));
  }

  issueToken(principal: Principal, token: NewApiToken) {
    return this.#access.apiTokens.issue(principal, token);
  }

  /** One's own; with users:manage all of the tenant. */
  async listTokens(principal: Principal): Promise<ApiToken[]> {
    const all = await this.#access.apiTokens.list(principal.tenant);
    return may(principal, 'users:manage') ? all : all.filter(({ holder }) => holder === principal.id);
  }

  revokeToken(principal: Principal, id: string) {
    return this.#access.apiTokens.revoke(principal.tenant, id, {
      by: actorOf(principal),
      async isTheirs({ holder }, reads) {
        const now = await principal.confirm(reads);
        return holder === now.id || may(now, 'users:manage');
      },
    });
  }

  /**
   * Of the whole tenant, the own ones too: those that began before a moment, since one, or between two, milliseconds
   * since 1970. Gives what has ended, which may be more than was asked for, and whether what the asker came with has.
   */
  async endTokens(
    principal: Principal,
    wanted: Partial<TimeSpan>,
  ): Promise<TimeSpan & { ownEnded: boolean }> {
    const { tenant, beganAt } = principal;
    const span = await this.#access.cutoffs.raise(tenant, wanted, actorOf(principal), principal.confirm);
    return { ...span, ownEnded: this.#access.cutoffs.of(tenant).covers(beganAt) };
  }

  listKeys() {
    return this.#access.keys.list();
  }

  rotateKeys(principal: Principal, options: RotateOptions) {
    return this.#access.rotateKeys(options, principal);
  }

  secretOf(principal: Principal, audience: string) {
    return this.#access.readSecret(principal, audience);
  }

  listTenants() {
    return this.#access.tenants.list();
  }

  /** With its first admin, since nobody of another tenant can make one. */
  async createTenant(
    principal: Principal,
    { name, admin, password }: { name: string; admin: string; password: string },
  ) {
    parseNewName(name, 'tenant name');
    parseNewName(admin, 'user name');
    const passwordHash = await this.#access.passwords.hash(password, hashAskerOf(principal));
    const reason: Reason = { type: 'user.created', by: actorOf(principal), grounds: principal.confirm };
    const user = { name: admin, roles: ['admin'], passwordHash };
    return this.#access.tenants.create(name, actorOf(principal), reads =>
      this.#access.users.planCreation(reads, name, user, reason),
    );
  }

  /** Everybody and everything of it is out when this resolves; its audit log is kept, and its name stays taken. */
  async deleteTenant(principal: Principal, name: string): Promise<{ sessionsEnded: number }> {
    await this.#access.tenants.remove(name, actorOf(principal), principal.confirm);
    return { sessionsEnded: await this.#endTenant(name) };
  }

  /** The principal as it is shown to itself. */
  describe(principal: Principal) {
    const { kind, id, name, tenant, roles: names, permissions: held, expiresAt } = principal;
    return { kind, id, name, tenant, roles: names, permissions: [...held].sort(), expiresAt };
  }

  /** NOT_ALLOWED if the roles hold a permission that the principal lacks. A role that does not exist holds none. */
  async #requireHolding(principal: Principal, names: readonly string[], reads?: Reads): Promise<void> {
    const wanted = await this.#access.roles.permissionsOf(principal.tenant, names, reads);
    const beyond = [...wanted].find(each => !may(principal, each));
    if (beyond !== undefined) throw notAllowed(beyond);
  }

  /** Checked again in the commit: the principal may still do it, and holds all that these roles hold. */
  #holding(
    principal: Principal,
    namesOf: (reads: Reads) => Promise<readonly string[]> | readonly string[],
  ): Grounds {
    return async reads => this.#requireHolding(await principal.confirm(reads), await namesOf(reads), reads);
  }

  /** A principal that may change an account may take it over, so it must hold all that the account holds or is given. */
  #holdingUser(principal: Principal, id: string, given: readonly string[] = []): Grounds {
    return this.#holding(principal, async reads => [
      ...(await this.#access.users.get(principal.tenant, id, reads)).roles,
      ...given,
    ]);
  }

  #holdingService(principal: Principal, id: string, given: readonly string[] = []): Grounds {
    return this.#holding(principal, async reads => [
      ...(await this.#access.services.get(principal.tenant, id, reads)).roles,
      ...given,
    ]);
  }
}

function viewUser({ id, name, roles, enabled, secondFactor, createdAt }: User): UserView {
  return { id, name, roles, enabled, secondFactor: secondFactor !== undefined, createdAt };
}

function viewService({ secrets, tenant: _, ...service }: Service): ServiceView {
  return { ...service, secrets: secrets.length };
}

/** For a route that only a node may ask. */
export function requireNode({ kind, id }: Principal): string {
  if (kind === 'node') return id.slice('node:'.length);
  throw new RollcallError('NOT_ALLOWED', 'this is for nodes');
}
