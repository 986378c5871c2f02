/**
 * What a service asks of a caller whose token holds. Each gives the caller back, or throws: NOT_ALLOWED (403,
 * PERMISSION_DENIED) for one who may not, TOKEN_REFUSED (401, UNAUTHENTICATED) where nobody came with a token. Thrown in
 * a handler, `statusCode` is what fastify and express answer with; for gRPC see `toGrpcStatus`.
 */
import { RollcallError } from '../base/errors.js';
import type { TokenClaims } from './claims.js';
import { tokenMissing } from './refusals.js';

export type Caller = TokenClaims | undefined;

/** `scope` must name it: permissions of the link in users' tokens, what a service was registered with in its own. */
export function requirePermission(caller: Caller, permission: string): TokenClaims {
  const known = requireCaller(caller);
  if (hasPermission(known, permission)) return known;
  throw notAllowed(`this needs ${permission}`);
}

/** By its name at the link; a role says nothing of what it allows. */
export function requireRole(caller: Caller, role: string): TokenClaims {
  const known = requireCaller(caller);
  if (known.roles.includes(role)) return known;
  throw notAllowed(`this needs the role ${role}`);
}

/** The caller is the owner, as `sub` names them, or has the permission that stands for owning everything. */
export function requireOwner(caller: Caller, owner: string, orPermission?: string): TokenClaims {
  const known = requireCaller(caller);
  if (known.subject === owner) return known;
  if (orPermission !== undefined && hasPermission(known, orPermission)) return known;
  throw notAllowed('this belongs to somebody else');
}

function requireCaller(caller: Caller): TokenClaims {
  if (caller) return caller;
  throw Object.assign(tokenMissing(), { statusCode: 401 });
}

function hasPermission({ scope }: TokenClaims, permission: string): boolean {
  return scope?.split(' ').includes(permission) ?? false;
}

function notAllowed(why: string): RollcallError {
  return Object.assign(new RollcallError('NOT_ALLOWED', `not allowed: ${why}`), { statusCode: 403 });
}
