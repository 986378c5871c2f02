/**
 * Checks of an authenticated caller. Each returns the caller, or throws: NOT_ALLOWED (403, PERMISSION_DENIED) without
 * the permission, TOKEN_REFUSED (401, UNAUTHENTICATED) without a token. In a handler of fastify and express,
 * `statusCode` becomes the status of the response; for gRPC see `toGrpcStatus`.
 */
import { RollcallError } from '../base/errors.js';
import type { TokenClaims } from './claims.js';
import { tokenMissing } from './refusals.js';

export type Caller = TokenClaims | undefined;

/** `scope` must contain it: permissions of the link in users' tokens, registered scopes in tokens of services. */
export function requirePermission(caller: Caller, permission: string): TokenClaims {
  const known = requireCaller(caller);
  if (hasPermission(known, permission)) return known;
  throw notAllowed(`this needs ${permission}`);
}

/** By its name at the link; the permissions of a role are not in the token. */
export function requireRole(caller: Caller, role: string): TokenClaims {
  const known = requireCaller(caller);
  if (known.roles.includes(role)) return known;
  throw notAllowed(`this needs the role ${role}`);
}

/** The caller is the owner, by its `sub`, or has the permission for objects of every owner. */
export function requireOwner(caller: Caller, owner: string, orPermission?: string): TokenClaims {
  const known = requireCaller(caller);
  if (known.subject === owner) return known;
  if (orPermission !== undefined && hasPermission(known, orPermission)) return known;
  throw notAllowed('only the owner may do this');
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
