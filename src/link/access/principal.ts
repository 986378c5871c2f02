/**
 * The authenticated caller of a request. Made by access alone, from a token and what the store says of its holder now; every
 * decision above goes by this, never by a field of the request.
 */
import type { Party } from '../../audit-log/party.js';
import { RollcallError } from '../../base/errors.js';
import type { Actor } from '../audit/audit.js';
import type { Reads } from '../../store/store.js';
import type { HashAsker } from './accounts/hash-queue.js';
import { isPermission, type Permission } from './permissions.js';

export type PrincipalKind = 'user' | 'service' | 'node';

export interface Principal {
  readonly kind: PrincipalKind;
  /** As `sub` in a token: `user:…`, `service:…` or `node:` and its id. */
  readonly id: string;
  /** As the audit shows it: the user name, the name of the service or of the node. */
  readonly name: string;
  readonly tenant: string;
  readonly roles: readonly string[];
  /** The permissions that its roles hold now, cut down to the scope of the token. */
  readonly permissions: ReadonlySet<Permission>;
  /** `jti` of the token it came with. */
  readonly tokenId: string;
  /** The login it comes from; undefined for an API token or a service. */
  readonly session?: string | undefined;
  /** When that token ends, milliseconds since 1970. */
  readonly expiresAt: number;
  /** The origin of this request. */
  readonly origin: Origin;
  /** When what its token came from began: a login, an API token, or the token itself; ms since 1970. */
  readonly beganAt: number;
  /** Tokens and sessions that begin from this moment on are valid, ms since 1970. */
  readonly countsFrom: number;
  /** When its account was made, ms since 1970: what belonged to one of the same name before is not its own. */
  readonly accountSince: number;
  /**
   * Judges the principal anew, by what these reads say: whatever a commit does in its name depends on it. Gives it with
   * the permissions it has left. TOKEN_REFUSED once its token, its session or its holder has ended; NOT_ALLOWED once it
   * no longer has the permission that the request needed.
   */
  readonly confirm: (reads: Reads) => Promise<Principal>;
}

/** The origin of a request, for limits and the audit. */
export interface Origin {
  readonly address: string;
  /** Of this request alone. */
  readonly requestId: string;
  /** As sent; empty for none. */
  readonly userAgent: string;
  /** Fires, with a RollcallError as its reason, when its sender has hung up. */
  readonly signal?: AbortSignal | undefined;
}

/** The actor of a request, as the audit log names it. */
export function actorOf(principal: Principal): Actor {
  return actorFrom(principal, principal.origin);
}

export function actorFrom({ kind, id, name }: Party, { address, requestId }: Origin): Actor {
  return { kind, id, name, address, requestId };
}

/** A logged-in caller does not wait behind strangers for a password to be hashed. */
export function hashAskerOf({ id, origin }: Principal): HashAsker {
  return { party: id, isKnown: true, signal: origin.signal };
}

/** How a principal is written down as the owner of something: names of users stand alone. */
export function ownerName({ kind, name }: Principal): string {
  return kind === 'user' ? name : `${kind}:${name}`;
}

/** Whether something that was made then, by an owner of that name, is the principal's own. */
export function isOwn(principal: Principal, owner: string, madeAt: number): boolean {
  return owner === ownerName(principal) && madeAt >= principal.accountSince;
}

/** The key of a limit that all tokens of one principal share. No network is spelled like this. */
export function partyOf({ tenant, id }: Principal): string {
  return `${tenant} ${id}`;
}

export function may({ permissions }: Principal, permission: Permission): boolean {
  return permissions.has(permission);
}

/** Throws NOT_ALLOWED, which names the permission: an honest caller can ask an admin for it. */
export function requirePermission(principal: Principal, permission: Permission): void {
  if (!may(principal, permission)) throw notAllowed(permission);
}

/** The missing permission that `notAllowed` names; undefined for any other refusal. */
export function missingPermission(message: string): Permission | undefined {
  const [, named = ''] = /^not allowed: this needs (\S+)$/.exec(message) ?? [];
  return isPermission(named) ? named : undefined;
}

export function notAllowed(permission: Permission): RollcallError {
  return new RollcallError('NOT_ALLOWED', `not allowed: this needs ${permission}`, {
    hint: '`rollcall whoami` shows what you may do; an admin gives roles with `rollcall users change`',
  });
}
