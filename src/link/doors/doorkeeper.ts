/**
 * Lets a call in or not, by its rule: who asks, whether they may, how often. One for both protocols, so that there is
 * one place where a refusal is decided.
 */
import type { Clock } from '../../base/clock.js';
import { RollcallError, toRollcallError } from '../../base/errors.js';
import { networkOf } from '../../base/network.js';
import type { Authenticate, Credentials } from '../access/authenticate.js';
import { createBoundedMap } from '../access/bounded-map.js';
import { isPermission, type Permission } from '../access/permissions.js';
import { missingPermission, partyOf, requirePermission, type Principal } from '../access/principal.js';
import { accountIn } from '../access/refused-account.js';
import type { RefusalCounter } from '../audit/refusals.js';
import { rates, type Access, type Rule } from './access-table.js';

export interface Doorkeeper {
  /**
   * Gives who asks, where that is to be known. Throws TOKEN_REFUSED, NOT_ALLOWED or RATE_LIMITED. What is asked `again`
   * of a request that was let in before does not count as another.
   */
  admit(rule: Rule, credentials: Credentials, again?: boolean): Promise<Principal | undefined>;
  /** Tells of somebody who was let in and then asked for what is not theirs; any other error is nobody's business. */
  tellRefused(principal: Principal | undefined, error: Refusal): void;
}

interface Refusal {
  readonly code: string;
  readonly message: string;
}

export interface DoorkeeperOptions {
  readonly authenticate: Authenticate;
  readonly refusals: RefusalCounter;
  readonly clock: Clock;
  /** Wants a token for what is public otherwise. */
  readonly requireAuth: boolean;
}

const windowMs = 60_000;
/** Networks of strangers whose requests are counted; beyond it the one that has been silent longest is forgotten. */
const maxNetworks = 20_000;

export function createDoorkeeper({
  authenticate,
  refusals,
  clock,
  requireAuth,
}: DoorkeeperOptions): Doorkeeper {
  // Apart, so that strangers of many networks make nobody's count be forgotten but their own.
  let ofKnown = new Map<string, number>();
  let ofStrangers = createBoundedMap<number>(maxNetworks);
  let windowEnds = clock.elapsed() + windowMs;

  function countRequest(principal: Principal | undefined, address: string, rate: Rule['rate']): void {
    if (rates[rate] === Infinity) return;
    const now = clock.elapsed();
    if (now >= windowEnds) {
      ofKnown = new Map();
      ofStrangers = createBoundedMap(maxNetworks);
      windowEnds = now + windowMs;
    }
    const counts = principal ? ofKnown : ofStrangers;
    const key = `${rate} ${principal ? partyOf(principal) : networkOf(address)}`;
    const count = (counts.get(key) ?? 0) + 1;
    counts.set(key, count);
    if (count <= rates[rate]) return;
    throw new RollcallError('RATE_LIMITED', `more than ${rates[rate]} requests in a minute`, {
      hint: `try again in ${Math.ceil((windowEnds - now) / 1000)} s`,
      retryAfterMs: windowEnds - now,
    });
  }

  const isPublic = (access: Access): boolean =>
    access === 'open' || access === 'certificate' || (access === 'public' && !requireAuth);

  async function identify(access: Access, credentials: Credentials): Promise<Principal | undefined> {
    if (isPublic(access)) return undefined;
    if (access === 'optional' && !requireAuth && credentials.authorization === undefined) return undefined;
    try {
      return await authenticate(credentials);
    } catch (error) {
      const account = accountIn(error);
      const { address } = credentials.origin;
      if (account) refusals.countLogin(address, 'TOKEN_REFUSED', account);
      else refusals.count(address, 'TOKEN_REFUSED');
      throw error;
    }
  }

  function tellRefused(principal: Principal | undefined, { code, message }: Refusal): void {
    if (!principal || code !== 'NOT_ALLOWED') return;
    refusals.count(principal.origin.address, missingPermission(message) ?? code, principal);
  }

  return {
    tellRefused,
    async admit({ access, rate }, credentials, again = false) {
      const { address } = credentials.origin;
      const principal = await identify(access, credentials);
      if (!again) countRequest(principal, address, rate);
      try {
        if (principal) requireRight(principal, access);
      } catch (error) {
        tellRefused(principal, toRollcallError(error));
        throw error;
      }
      return principal && heldTo(principal, access);
    },
  };
}

/** A principal that is judged anew must still have the right that let it in. */
function heldTo(principal: Principal, access: Access): Principal {
  return {
    ...principal,
    async confirm(reads) {
      const now = await principal.confirm(reads);
      requireRight(now, access);
      return now;
    },
  };
}

function requireRight(principal: Principal, access: Access): void {
  requireKind(principal, access);
  const permission = permissionOf(access);
  if (permission !== undefined) requirePermission(principal, permission);
}

/** Nodes get only where the rule names them, and nobody else where it names only them. */
function requireKind({ kind }: Principal, access: Access): void {
  const forNodes = access === 'node' || access === 'anyoneOrNode' || access === 'optional';
  if (kind === 'node' ? forNodes : access !== 'node') return;
  throw new RollcallError('NOT_ALLOWED', kind === 'node' ? 'a node may not do this' : 'this is for nodes');
}

function permissionOf(access: Access): Permission | undefined {
  if (typeof access === 'object') return undefined;
  return isPermission(access) ? access : undefined;
}
