/** Users, roles, services, API tokens, tenants and signing keys: an operation a route of the link's `/v1`. */
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
import type { Ask } from './control-http.js';

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

/** A link from before keys waited published leaves out what was always the same there. */
type KeyAnswer = Omit<TokenKey, 'use' | 'signsAt'> & Partial<Pick<TokenKey, 'use' | 'signsAt'>>;
type SecretAnswer = Omit<AudienceSecret, 'use'> & Partial<Pick<AudienceSecret, 'use'>>;
type RotationAnswer = Readonly<
  Record<'made' | 'retired' | 'dropped', readonly KeyAnswer[]> & Partial<Record<'signing', KeyAnswer[]>>
>;

/** There, each key signed as soon as it was made, and until it was retired. */
function completeKey({ use, signsAt, ...key }: KeyAnswer): TokenKey {
  return {
    ...key,
    use: use ?? (key.retiredAt === null ? 'signs' : 'verifies'),
    signsAt: signsAt === undefined ? key.createdAt : signsAt,
  };
}

function completeRotation({ made, signing, retired, dropped }: RotationAnswer): KeyRotation {
  return {
    made: made.map(completeKey),
    signing: (signing ?? made).map(completeKey),
    retired: retired.map(completeKey),
    dropped: dropped.map(completeKey),
  };
}

export function createAdministration(ask: Ask): Administration {
  return {
    users: {
      list: async () => (await ask<{ users: User[] }>('GET', '/v1/users')).users,
      create: user => ask('POST', '/v1/users', user),
      change: async (user, change) => ask('PATCH', pathOf('users', 'user', user), change),
      delete: async user => {
        await ask('DELETE', pathOf('users', 'user', user));
      },
    },
    roles: {
      list: () => ask('GET', '/v1/roles'),
      define: async (role, permissions) => ask('PUT', pathOf('roles', 'role', role), { permissions }),
      remove: async role => {
        await ask('DELETE', pathOf('roles', 'role', role));
      },
    },
    services: {
      list: async () => (await ask<{ services: Service[] }>('GET', '/v1/services')).services,
      create: (name, settings = {}) => ask('POST', '/v1/services', { name, ...settings }),
      change: async (service, change) => ask('PATCH', pathOf('services', 'service', service), change),
      delete: async service => {
        await ask('DELETE', pathOf('services', 'service', service));
      },
      makeSecret: async service => ask('POST', `${pathOf('services', 'service', service)}/secret`),
    },
    tokens: {
      list: async () => (await ask<{ tokens: ApiToken[] }>('GET', '/v1/tokens')).tokens,
      create: token => ask('POST', '/v1/tokens', token),
      revoke: async id => {
        await ask('DELETE', pathOf('tokens', 'token', id));
      },
      end: began => ask('POST', '/v1/tokens/end', began),
    },
    tenants: {
      list: async () => (await ask<{ tenants: Tenant[] }>('GET', '/v1/tenants')).tenants,
      create: tenant => ask('POST', '/v1/tenants', tenant),
      delete: async tenant => ask('DELETE', pathOf('tenants', 'tenant', tenant)),
    },
    keys: {
      list: async () => (await ask<{ keys: KeyAnswer[] }>('GET', '/v1/keys')).keys.map(completeKey),
      rotate: async (options = {}) =>
        completeRotation(await ask<RotationAnswer>('POST', '/v1/keys/rotate', options)),
      secrets: async audience => {
        const path = `${pathOf('keys', 'audience', audience)}/secret`;
        const { secrets } = await ask<{ secrets: SecretAnswer[] }>('GET', path);
        return secrets.map(({ use, ...secret }, index) => ({
          ...secret,
          use: use ?? (index === 0 ? 'signs' : 'verifies'),
        }));
      },
    },
  };
}

/** The node's settings, with new tokens for the programs on its machine. */
export async function askNodeConfig(ask: Ask, node: string): Promise<NodeConfig> {
  return ask('POST', `${pathOf('nodes', 'node', node)}/config`);
}

/** The path of one thing, whatever its name: `/v1/users/anna`. */
function pathOf(room: string, what: string, name: string): string {
  if (name !== '') return `/v1/${room}/${encodeURIComponent(name)}`;
  throw new RollcallError('REQUEST_INVALID', `the ${what} wants a name`);
}
