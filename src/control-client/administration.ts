/** Users, roles, services, API tokens, tenants and signing keys, by the link's gRPC service `rollcall.v1.Administration`. */
import { RollcallError } from '../base/errors.js';
import type {
  EndedTime,
  ApiToken,
  AudienceSecret,
  DeletedTenant,
  IssuedToken,
  KeyRotation,
  NewApiToken,
  NewTenant,
  NewUser,
  NodeConfig,
  Role,
  RoleMatrix,
  RotateOptions,
  Service,
  ServiceChange,
  ServiceSecret,
  ServiceSettings,
  Tenant,
  TokenKey,
  User,
  UserChange,
} from './answers.js';
import type { AdministrationClient } from '../protocol/generated/rollcall/v1/administration.js';
import {
  readApiToken,
  readEndedTime,
  readRoles,
  readRotation,
  readSecret,
  readService,
  readTenant,
  readTokenKey,
  readUser,
  toInteger,
  toServiceSettings,
  toUserChange,
} from './administration-answers.js';
import type { Ask } from './control-http.js';
import type { Unary } from './grpc-client.js';

/** All of the tenant of who asks. `user` is a name or an id. NOT_ALLOWED without `users:manage`. */
export interface Users {
  list(): Promise<User[]>;
  /** NAME_TAKEN, PASSWORD_UNFIT. */
  create(user: NewUser): Promise<User>;
  change(user: string, change: UserChange): Promise<User>;
  /** Ends all their sessions and tokens. REQUEST_INVALID for the last admin. */
  delete(user: string): Promise<void>;
}

export interface Roles {
  list(): Promise<RoleMatrix>;
  /** Makes or changes one. NOT_ALLOWED without `roles:manage`, or for permissions that one has not oneself. */
  define(role: string, permissions: readonly string[]): Promise<Role>;
  remove(role: string): Promise<void>;
}

/** `service` is a name or a `client_id`. NOT_ALLOWED without `services:manage`. */
export interface Services {
  list(): Promise<Service[]>;
  create(name: string, settings?: ServiceSettings): Promise<Service>;
  /** A list that is given replaces the one before. */
  change(service: string, change: ServiceChange): Promise<Service>;
  /** Ends all its tokens. */
  delete(service: string): Promise<void>;
  /** A new one; the one before it still works until the next is made. */
  makeSecret(service: string): Promise<ServiceSecret>;
}

/** One's own; those of all with `users:manage`. */
export interface ApiTokens {
  list(): Promise<ApiToken[]>;
  /** NOT_ALLOWED without `tokens:issue`, or when asked with an API token. */
  create(token: NewApiToken): Promise<IssuedToken>;
  /** By its `id`. */
  revoke(id: string): Promise<void>;
  /**
   * Ends every token and session of the tenant that began before a moment, since one, or between two (`since`
   * included, `before` not), milliseconds since 1970; the own one too. Gives the time that has ended, which holds what
   * was asked for. NOT_ALLOWED without `users:manage`.
   */
  end(began: { readonly since?: number; readonly before?: number }): Promise<EndedTime>;
}

/** NOT_ALLOWED without `tenants:manage`. */
export interface Tenants {
  list(): Promise<Tenant[]>;
  create(tenant: NewTenant): Promise<Tenant>;
  /**
   * Ends everything of it: accounts, tokens, nodes and runs. Its audit log is kept, and its name stays taken. NOT_FOUND;
   * REQUEST_INVALID for the default one.
   */
  delete(tenant: string): Promise<DeletedTenant>;
}

/** NOT_ALLOWED without `keys:rotate`. */
export interface Keys {
  list(): Promise<TokenKey[]>;
  rotate(options?: RotateOptions): Promise<KeyRotation>;
  /** The one that signs first, then the next; REQUEST_INVALID for an audience that verifies by public keys; one with HS256 gets its first secret by this. */
  secrets(audience: string): Promise<readonly AudienceSecret[]>;
}

export interface Administration {
  readonly users: Users;
  readonly roles: Roles;
  readonly services: Services;
  readonly tokens: ApiTokens;
  readonly tenants: Tenants;
  readonly keys: Keys;
}

/** Asks one question of the service: `method` gives the method, bound to its client. */
export type AskAdministration = <Q, A>(
  method: (client: AdministrationClient) => Unary<Q, A>,
  request: Q,
) => Promise<A>;

export function createAdministration(ask: AskAdministration): Administration {
  return {
    users: createUsers(ask),
    roles: createRoles(ask),
    services: createServices(ask),
    tokens: createApiTokens(ask),
    tenants: createTenants(ask),
    keys: createKeys(ask),
  };
}

function createUsers(ask: AskAdministration): Users {
  return {
    async list() {
      const { users } = await ask(client => client.listUsers.bind(client), {});
      return users.map(readUser);
    },
    async create({ name, roles, password }) {
      return readUser(
        await ask(client => client.createUser.bind(client), { name, roles: [...roles], password }),
      );
    },
    async change(user, change) {
      return readUser(
        await ask(client => client.changeUser.bind(client), toUserChange(named('user', user), change)),
      );
    },
    async delete(user) {
      await ask(client => client.deleteUser.bind(client), { user: named('user', user) });
    },
  };
}

function createRoles(ask: AskAdministration): Roles {
  return {
    list: async () => readRoles(await ask(client => client.listRoles.bind(client), {})),
    define: async (role, permissions) =>
      ask(client => client.defineRole.bind(client), {
        name: named('role', role),
        permissions: [...permissions],
      }),
    async remove(role) {
      await ask(client => client.removeRole.bind(client), { name: named('role', role) });
    },
  };
}

function createServices(ask: AskAdministration): Services {
  return {
    async list() {
      const { services } = await ask(client => client.listServices.bind(client), {});
      return services.map(readService);
    },
    async create(name, settings = {}) {
      const request = { name, settings: toServiceSettings(settings) };
      return readService(await ask(client => client.createService.bind(client), request));
    },
    async change(service, { endTokens = false, ...settings }) {
      const request = {
        service: named('service', service),
        settings: toServiceSettings(settings),
        endTokens,
      };
      return readService(await ask(client => client.changeService.bind(client), request));
    },
    async delete(service) {
      await ask(client => client.deleteService.bind(client), { service: named('service', service) });
    },
    async makeSecret(service) {
      const request = { service: named('service', service) };
      const made = await ask(client => client.makeServiceSecret.bind(client), request);
      return { service: readService(made.service), secret: made.secret };
    },
  };
}

function createApiTokens(ask: AskAdministration): ApiTokens {
  return {
    async list() {
      const { tokens } = await ask(client => client.listTokens.bind(client), {});
      return tokens.map(readApiToken);
    },
    async create({ name, roles, lifetimeMs, user = '' }) {
      const request = { name, roles: [...roles], lifetimeMs: toInteger(lifetimeMs, 'lifetimeMs'), user };
      const { record, token } = await ask(client => client.issueToken.bind(client), request);
      return { record: readApiToken(record), token };
    },
    async revoke(id) {
      await ask(client => client.revokeToken.bind(client), { id: named('token', id) });
    },
    async end({ since = 0, before = 0 }) {
      const request = { sinceMs: toInteger(since, 'since'), beforeMs: toInteger(before, 'before') };
      return readEndedTime(await ask(client => client.endTokens.bind(client), request));
    },
  };
}

function createTenants(ask: AskAdministration): Tenants {
  return {
    async list() {
      const { tenants } = await ask(client => client.listTenants.bind(client), {});
      return tenants.map(readTenant);
    },
    create: async tenant => readTenant(await ask(client => client.createTenant.bind(client), tenant)),
    delete: async tenant =>
      ask(client => client.deleteTenant.bind(client), { tenant: named('tenant', tenant) }),
  };
}

function createKeys(ask: AskAdministration): Keys {
  return {
    async list() {
      const { keys } = await ask(client => client.listKeys.bind(client), {});
      return keys.map(readTokenKey);
    },
    async rotate({ audience, dropOld = false, now = false } = {}) {
      return readRotation(await ask(client => client.rotateKeys.bind(client), { audience, dropOld, now }));
    },
    async secrets(audience) {
      const request = { audience: named('audience', audience) };
      const { secrets } = await ask(client => client.getAudienceSecret.bind(client), request);
      return secrets.map(readSecret);
    },
  };
}

/** The node's settings, with new tokens for the programs on its machine. */
export async function askNodeConfig(ask: Ask, node: string): Promise<NodeConfig> {
  return ask('POST', `/v1/nodes/${encodeURIComponent(named('node', node))}/config`);
}

function named(what: string, name: string): string {
  if (name !== '') return name;
  throw new RollcallError('REQUEST_INVALID', `expected the name of a ${what}, found an empty text`);
}
