/** /v1/users, roles, services, tokens, keys, tenants: thin translations of src/link/administration.ts. */
import type { TimeSpan } from '../../../tokens/revoked-list.js';
import type { ServiceSettings } from '../../access/accounts/services.js';
import type { RotateOptions } from '../../access/tokens/keys.js';
import type { Administration, UserRequest } from '../../administration.js';
import type { RouteName } from '../access-table.js';
import { known, type Exchange, type Route } from './route.js';
import { anyText, flag, listOf, objectOf, text } from './schemas.js';

type AdminRoute = Extract<
  RouteName,
  `${string} /v1/${'users' | 'roles' | 'services' | 'tokens' | 'tenants' | 'keys'}${string}`
>;

const names = listOf(text(63));
/** Read by the domain, which says what is wrong with one. */
const password = anyText(10_000);
const moment = { type: 'integer', minimum: 0 };
const lifetimeMs = { type: 'integer', minimum: 1_000 };

const serviceSettings = {
  enabled: flag,
  roles: names,
  audiences: listOf(text(200)),
  scopes: listOf(text(200)),
  addresses: listOf(text(60)),
  tokenLifetimeMs: lifetimeMs,
  publicKeys: listOf(text(2_000)),
  certificates: listOf(text(43)),
};

/** A part of the path. */
const part = (exchange: Exchange, name: string): string => exchange.parameters[name] ?? '';

export function adminRoutes(administration: Administration): Record<AdminRoute, Route> {
  const by = ({ principal }: Exchange) => known(principal);
  return {
    'GET /v1/users': {
      does: 'users of the tenant',
      answer: async exchange => ({ users: await administration.listUsers(by(exchange)) }),
    },
    'POST /v1/users': {
      does: 'makes a user',
      schema: { body: objectOf({ name: text(63), roles: names, password }) },
      answer: exchange =>
        administration.createUser(
          by(exchange),
          exchange.body as { name: string; roles: string[]; password: string },
        ),
    },
    'PATCH /v1/users/:user': {
      does: 'changes a user',
      schema: {
        body: objectOf(
          {},
          { roles: names, enabled: flag, endSessions: flag, password, removeSecondFactor: flag },
        ),
      },
      answer: exchange =>
        administration.changeUser(by(exchange), part(exchange, 'user'), exchange.body as UserRequest),
    },
    'DELETE /v1/users/:user': {
      does: 'deletes a user; their tokens and sessions end',
      async answer(exchange) {
        await administration.deleteUser(by(exchange), part(exchange, 'user'));
        return {};
      },
    },

    'GET /v1/roles': {
      does: 'roles, and every permission',
      answer: async exchange => ({
        roles: await administration.listRoles(by(exchange)),
        permissions: administration.permissions(),
      }),
    },
    'PUT /v1/roles/:role': {
      does: 'makes or changes a role',
      schema: { body: objectOf({ permissions: names }) },
      answer: exchange =>
        administration.defineRole(by(exchange), {
          name: part(exchange, 'role'),
          ...(exchange.body as { permissions: string[] }),
        }),
    },
    'DELETE /v1/roles/:role': {
      does: 'removes a role',
      async answer(exchange) {
        await administration.removeRole(by(exchange), part(exchange, 'role'));
        return {};
      },
    },

    'GET /v1/services': {
      does: 'services of the tenant',
      answer: async exchange => ({ services: await administration.listServices(by(exchange)) }),
    },
    'POST /v1/services': {
      does: 'registers a service',
      schema: { body: objectOf({ name: text(63) }, serviceSettings) },
      answer(exchange) {
        const { name, ...settings } = exchange.body as ServiceSettings & { name: string };
        return administration.createService(by(exchange), name, settings);
      },
    },
    'PATCH /v1/services/:service': {
      does: 'changes a service',
      schema: { body: objectOf({}, { ...serviceSettings, endTokens: flag }) },
      answer: exchange =>
        administration.changeService(
          by(exchange),
          part(exchange, 'service'),
          exchange.body as ServiceSettings,
        ),
    },
    'DELETE /v1/services/:service': {
      does: 'deletes a service; its tokens end',
      async answer(exchange) {
        await administration.deleteService(by(exchange), part(exchange, 'service'));
        return {};
      },
    },
    'POST /v1/services/:service/secret': {
      does: 'gives it a new secret',
      answer: exchange => administration.makeServiceSecret(by(exchange), part(exchange, 'service')),
    },

    'GET /v1/tokens': {
      does: 'API tokens of the caller; with `users:manage` those of the tenant',
      answer: async exchange => ({ tokens: await administration.listTokens(by(exchange)) }),
    },
    'POST /v1/tokens': {
      does: 'makes an API token',
      schema: { body: objectOf({ name: text(63), roles: names, lifetimeMs }, { user: text(100) }) },
      answer: exchange =>
        administration.issueToken(
          by(exchange),
          exchange.body as { name: string; roles: string[]; lifetimeMs: number; user?: string },
        ),
    },
    'DELETE /v1/tokens/:token': {
      does: 'ends an API token, by its id; with `users:manage` that of anyone',
      async answer(exchange) {
        await administration.revokeToken(by(exchange), part(exchange, 'token'));
        return {};
      },
    },

    'POST /v1/tokens/end': {
      does: 'ends all tokens and sessions that began in a span of time',
      schema: { body: objectOf({}, { before: moment, since: moment }) },
      answer: exchange => administration.endTokens(by(exchange), exchange.body as Partial<TimeSpan>),
    },

    'GET /v1/tenants': {
      does: 'every tenant',
      answer: async () => ({ tenants: await administration.listTenants() }),
    },
    'POST /v1/tenants': {
      does: 'makes a tenant with its first admin',
      schema: { body: objectOf({ name: text(63), admin: text(63), password }) },
      answer: exchange =>
        administration.createTenant(
          by(exchange),
          exchange.body as { name: string; admin: string; password: string },
        ),
    },
    'DELETE /v1/tenants/:tenant': {
      does: 'deletes a tenant; its links, nodes and runs end',
      answer: exchange => administration.deleteTenant(by(exchange), part(exchange, 'tenant')),
    },

    'GET /v1/keys': {
      does: 'the keys that sign tokens',
      answer: () => ({ keys: administration.listKeys() }),
    },
    'POST /v1/keys/rotate': {
      does: 'makes the next key of each kind, or makes it sign now',
      schema: { body: objectOf({}, { audience: text(200), dropOld: flag, now: flag }) },
      answer: exchange => administration.rotateKeys(by(exchange), exchange.body as RotateOptions),
    },
    'GET /v1/keys/:audience/secret': {
      does: 'the secrets of an audience with HS256',
      answer: async exchange => ({
        secrets: await administration.secretOf(by(exchange), part(exchange, 'audience')),
      }),
    },
  };
}
