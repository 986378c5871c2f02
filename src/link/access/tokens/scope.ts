/**
 * The permissions of a token for the link as its `scope` (RFC 9068 §2.2.3.1), so that a service that verifies it
 * needs no table of roles. It never says more than the roles give. The link itself goes by what they give at each
 * request: there a scope narrows only when somebody asked for it, which `scope_from` tells apart.
 */
import type { Reads } from '../../../store/store.js';
import type { TokenClaims } from '../../../tokens/claims.js';
import { grantRefused } from '../login/grant-errors.js';
import type { Roles } from '../accounts/roles.js';

export interface ScopeRequest {
  readonly tenant: string;
  readonly roles: readonly string[];
  /** Separated by spaces; undefined for everything the roles give. */
  readonly asked?: string | undefined;
}

export type TokenScope = Pick<TokenClaims, 'scope' | 'scopeFrom'>;

/** Refuses as `invalid_scope` when nothing is left of what was asked for: a token without a scope is not narrowed. */
export async function scopeOfToken(
  roles: Pick<Roles, 'permissionsOf'>,
  { tenant, roles: names, asked }: ScopeRequest,
  reads: Reads,
): Promise<TokenScope> {
  const held: ReadonlySet<string> = await roles.permissionsOf(tenant, names, reads);
  if (asked === undefined) return held.size === 0 ? {} : { scope: [...held].join(' '), scopeFrom: 'roles' };
  const left = asked.split(' ').filter(each => held.has(each));
  if (left.length > 0) return { scope: left.join(' ') };
  throw grantRefused('invalid_scope', 'the roles give nothing of that scope', {
    hint: '`rollcall whoami` shows what you may do; an admin gives roles with `rollcall users change`',
  });
}

/** Returns the permissions that a token is limited to at the link; undefined when it is not limited. */
export function narrowingOf({ scope, scopeFrom }: TokenScope): readonly string[] | undefined {
  return scopeFrom === 'roles' ? undefined : scope?.split(' ');
}
