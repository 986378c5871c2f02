/**
 * The permission and the rate limit of each operation: every gRPC method and every REST route, once. One that is not here does not compile,
 * and one that is not known at run time is refused.
 *
 * `public` needs nothing; `open` is public even where the configuration requires a token for everything, because without
 * it nobody could get one; `optional` looks at a token when one is given, and refuses a bad one; `anyone` requires a valid token of a user or service,
 * `node` one of a node, `anyoneOrNode` any of them: nodes get nowhere else. Everything else is
 * the permission that is wanted; with `orOwner` those without it get in too, and are held to what is their own by
 * control.ts and run-control.ts; with `orService` a request without a Bearer token gets in, and is held to prove a service
 * as at the token endpoint by its route.
 */
import type { AdministrationService } from '../../protocol/generated/rollcall/v1/administration.js';
import type { ControlService } from '../../protocol/generated/rollcall/v1/control.js';
import type { RunsService } from '../../protocol/generated/rollcall/v1/runs.js';
import type { Permission } from '../access/permissions.js';

export type Access =
  | 'public'
  | 'open'
  | 'optional'
  | 'anyone'
  | 'node'
  | 'anyoneOrNode'
  | Permission
  | { readonly orOwner: Permission }
  | { readonly orService: Permission };

/** Requests a minute: of one principal, or of one address where nobody has to say who they are. */
export const rates = {
  login: 300,
  public: 1_200,
  read: 30_000,
  write: 60_000,
} as const;

export interface Rule {
  readonly access: Access;
  readonly rate: keyof typeof rates;
}

/** For a connection on which nothing is asked now: its token must still be good for something. */
export const anybodysRule: Rule = { access: 'anyoneOrNode', rate: 'read' };

export const routeRules = {
  'GET /healthz': { access: 'public', rate: 'public' },
  'GET /readyz': { access: 'public', rate: 'public' },
  'GET /metrics': { access: 'metrics:read', rate: 'read' },
  'GET /.well-known/jwks.json': { access: 'open', rate: 'public' },
  'GET /.well-known/oauth-authorization-server': { access: 'open', rate: 'public' },
  'GET /.well-known/openid-configuration': { access: 'open', rate: 'public' },
  'GET /auth/setup': { access: 'open', rate: 'public' },
  'POST /auth/setup/code': { access: 'open', rate: 'login' },
  'POST /auth/setup': { access: 'open', rate: 'login' },
  'POST /auth/token': { access: 'open', rate: 'login' },
  'POST /token': { access: 'open', rate: 'login' },
  'POST /auth/revoke': { access: 'open', rate: 'login' },
  'POST /auth/introspect': { access: { orService: 'tokens:introspect' }, rate: 'public' },
  'GET /auth/revoked': { access: { orService: 'tokens:introspect' }, rate: 'public' },
  'GET /auth/me': { access: 'anyoneOrNode', rate: 'read' },
  'POST /auth/password': { access: 'anyone', rate: 'login' },
  'POST /auth/second-factor': { access: 'anyone', rate: 'login' },
  'POST /auth/second-factor/confirm': { access: 'anyone', rate: 'login' },
  'POST /auth/second-factor/remove': { access: 'anyone', rate: 'login' },
  'GET /v1/link': { access: 'optional', rate: 'public' },
  'GET /v1/assignment': { access: 'anyoneOrNode', rate: 'read' },
  'GET /v1/node': { access: 'node', rate: 'read' },
  'GET /v1/nodes': { access: { orOwner: 'nodes:read' }, rate: 'read' },
  'POST /v1/nodes': { access: 'nodes:register', rate: 'write' },
  'GET /v1/nodes/:node': { access: { orOwner: 'nodes:read' }, rate: 'read' },
  'GET /v1/nodes/:node/history': { access: { orOwner: 'nodes:read' }, rate: 'read' },
  'POST /v1/nodes/:node/revoke': { access: { orOwner: 'nodes:revoke' }, rate: 'write' },
  'DELETE /v1/nodes/:node': { access: { orOwner: 'nodes:revoke' }, rate: 'write' },
  'POST /v1/nodes/:node/config': { access: 'nodes:register', rate: 'write' },
  'GET /v1/runs': { access: { orOwner: 'runs:read' }, rate: 'read' },
  'GET /v1/runs/:run': { access: { orOwner: 'runs:read' }, rate: 'read' },
  'GET /v1/runs/:run/log': { access: { orOwner: 'runs:read' }, rate: 'read' },
  'POST /v1/runs/:run/stop': { access: { orOwner: 'runs:stop' }, rate: 'write' },
  'GET /v1/users': { access: 'users:manage', rate: 'read' },
  'POST /v1/users': { access: 'users:manage', rate: 'write' },
  'PATCH /v1/users/:user': { access: 'users:manage', rate: 'write' },
  'DELETE /v1/users/:user': { access: 'users:manage', rate: 'write' },
  'GET /v1/roles': { access: 'anyone', rate: 'read' },
  'PUT /v1/roles/:role': { access: 'roles:manage', rate: 'write' },
  'DELETE /v1/roles/:role': { access: 'roles:manage', rate: 'write' },
  'GET /v1/services': { access: 'services:manage', rate: 'read' },
  'POST /v1/services': { access: 'services:manage', rate: 'write' },
  'PATCH /v1/services/:service': { access: 'services:manage', rate: 'write' },
  'DELETE /v1/services/:service': { access: 'services:manage', rate: 'write' },
  'POST /v1/services/:service/secret': { access: 'services:manage', rate: 'write' },
  'GET /v1/tokens': { access: 'anyone', rate: 'read' },
  'POST /v1/tokens': { access: 'tokens:issue', rate: 'write' },
  'DELETE /v1/tokens/:token': { access: 'anyone', rate: 'write' },
  'POST /v1/tokens/end': { access: 'users:manage', rate: 'write' },
  'GET /v1/tenants': { access: 'tenants:manage', rate: 'read' },
  'POST /v1/tenants': { access: 'tenants:manage', rate: 'write' },
  'DELETE /v1/tenants/:tenant': { access: 'tenants:manage', rate: 'write' },
  'GET /v1/keys': { access: 'keys:rotate', rate: 'read' },
  'POST /v1/keys/rotate': { access: 'keys:rotate', rate: 'write' },
  'GET /v1/keys/:audience/secret': { access: 'keys:rotate', rate: 'read' },
  'GET /v1/audit/events': { access: 'audit:read', rate: 'read' },
  'GET /v1/audit/export': { access: 'audit:read', rate: 'read' },
  'POST /v1/audit/checkpoint': { access: 'audit:read', rate: 'write' },
} as const satisfies Readonly<Record<string, Rule>>;

export type RouteName = keyof typeof routeRules;

type PathsOf<Service> = {
  [Method in keyof Service]: Service[Method] extends { path: infer Path } ? Path : never;
}[keyof Service];
export type MethodPath = PathsOf<ControlService> | PathsOf<RunsService> | PathsOf<AdministrationService>;

export const methodRules: Readonly<Record<MethodPath, Rule>> = {
  '/rollcall.v1.Control/RegisterNode': { access: 'nodes:register', rate: 'write' },
  '/rollcall.v1.Control/GetNode': { access: { orOwner: 'nodes:read' }, rate: 'read' },
  '/rollcall.v1.Control/ListNodes': { access: { orOwner: 'nodes:read' }, rate: 'read' },
  '/rollcall.v1.Control/RevokeNode': { access: { orOwner: 'nodes:revoke' }, rate: 'write' },
  '/rollcall.v1.Control/DeleteNode': routeRules['DELETE /v1/nodes/:node'],
  '/rollcall.v1.Control/ListNodeHistory': { access: { orOwner: 'nodes:read' }, rate: 'read' },
  '/rollcall.v1.Control/WatchNodes': { access: { orOwner: 'nodes:read' }, rate: 'read' },
  '/rollcall.v1.Runs/StartRun': { access: 'runs:submit', rate: 'write' },
  // As the routes that ask the same of the same functions.
  '/rollcall.v1.Runs/GetRun': routeRules['GET /v1/runs/:run'],
  '/rollcall.v1.Runs/ListRuns': routeRules['GET /v1/runs'],
  '/rollcall.v1.Runs/StopRun': routeRules['POST /v1/runs/:run/stop'],
  '/rollcall.v1.Runs/ReadRunLog': routeRules['GET /v1/runs/:run/log'],
  '/rollcall.v1.Administration/WhoAmI': routeRules['GET /auth/me'],
  '/rollcall.v1.Administration/GetAssignment': routeRules['GET /v1/assignment'],
  '/rollcall.v1.Administration/ListUsers': routeRules['GET /v1/users'],
  '/rollcall.v1.Administration/CreateUser': routeRules['POST /v1/users'],
  '/rollcall.v1.Administration/ChangeUser': routeRules['PATCH /v1/users/:user'],
  '/rollcall.v1.Administration/DeleteUser': routeRules['DELETE /v1/users/:user'],
  '/rollcall.v1.Administration/ListRoles': routeRules['GET /v1/roles'],
  '/rollcall.v1.Administration/DefineRole': routeRules['PUT /v1/roles/:role'],
  '/rollcall.v1.Administration/RemoveRole': routeRules['DELETE /v1/roles/:role'],
  '/rollcall.v1.Administration/ListServices': routeRules['GET /v1/services'],
  '/rollcall.v1.Administration/CreateService': routeRules['POST /v1/services'],
  '/rollcall.v1.Administration/ChangeService': routeRules['PATCH /v1/services/:service'],
  '/rollcall.v1.Administration/DeleteService': routeRules['DELETE /v1/services/:service'],
  '/rollcall.v1.Administration/MakeServiceSecret': routeRules['POST /v1/services/:service/secret'],
  '/rollcall.v1.Administration/ListTokens': routeRules['GET /v1/tokens'],
  '/rollcall.v1.Administration/IssueToken': routeRules['POST /v1/tokens'],
  '/rollcall.v1.Administration/RevokeToken': routeRules['DELETE /v1/tokens/:token'],
  '/rollcall.v1.Administration/EndTokens': routeRules['POST /v1/tokens/end'],
  '/rollcall.v1.Administration/ListTenants': routeRules['GET /v1/tenants'],
  '/rollcall.v1.Administration/CreateTenant': routeRules['POST /v1/tenants'],
  '/rollcall.v1.Administration/DeleteTenant': routeRules['DELETE /v1/tenants/:tenant'],
  '/rollcall.v1.Administration/ListKeys': routeRules['GET /v1/keys'],
  '/rollcall.v1.Administration/RotateKeys': routeRules['POST /v1/keys/rotate'],
  '/rollcall.v1.Administration/GetAudienceSecret': routeRules['GET /v1/keys/:audience/secret'],
  '/rollcall.v1.Administration/ListAuditEvents': routeRules['GET /v1/audit/events'],
  '/rollcall.v1.Administration/WriteAuditCheckpoint': routeRules['POST /v1/audit/checkpoint'],
  '/rollcall.v1.Administration/ExportAudit': routeRules['GET /v1/audit/export'],
};
