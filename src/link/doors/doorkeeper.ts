/**
 * Lets a call in or not, by its rule: who asks, whether they may, how often. One for both protocols, so that there is
 * one place where a refusal is decided.
 */
import type { Clock } from '../../base/clock.js';
import { RollcallError, toRollcallError } from '../../base/errors.js';
import { networkOf } from '../../base/network.js';
import { findBearer } from '../../tokens/bearer.js';
import type { Authenticate, Credentials } from '../access/authenticate.js';
import { createBoundedMap } from '../access/bounded-map.js';
import { isPermission, type Permission } from '../access/permissions.js';
import { missingPermission, partyOf, requirePermission, type Principal } from '../access/principal.js';
import { accountIn } from '../access/login/refused-account.js';
import type { RefusalCounter } from '../audit/refusals.js';
import { rates, type Access, type Rule } from './access-table.js';
import { OpenRequests, type OpenRequest } from './open-requests.js';

export interface Doorkeeper {
  /** Gives who asks, where that is to be known. Throws TOKEN_REFUSED, NOT_ALLOWED or RATE_LIMITED. */
  admit(rule: Rule, credentials: Credentials, occasion?: Occasion): Promise<Principal | undefined>;
  /** Counts a request that was let in as open; LINK_BUSY when its caller has too many. */
  enter(who: Who, request: OpenRequest): Entered;
  /** Tells of somebody who was let in and then asked for what is not theirs; any other error is nobody's business. */
  tellRefused(principal: Principal | undefined, error: Refusal): void;
}

interface Refusal {
  readonly code: string;
  readonly message: string;
}

/**
 * Why somebody is judged: for a `request`; `again`, for one that was let in and has gone on since, which does not count
 * twice; or for what they `hold`, of which the link asks by itself, so that a refusal is nobody's.
 */
export type Occasion = 'request' | 'again' | 'hold';

/** Who makes a request: a principal, or the party at this address. */
export interface Who {
  readonly principal: Principal | undefined;
  readonly address: string;
}

export interface Entered {
  /** LINK_BUSY when so much waits to be read that no answer is written. */
  requireReader(): void;
  /** The request is over. */
  leave(): void;
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
  const openRequests = new OpenRequests();
  // Apart, so that strangers of many networks make nobody's count be forgotten but their own.
  let ofKnown = new Map<string, number>();
  let ofStrangers = createBoundedMap<number>(maxNetworks);
  let windowEnds = clock.elapsed() + windowMs;

  function countRequest({ principal, address }: Who, rate: Rule['rate']): void {
    if (rates[rate] === Infinity) return;
    const now = clock.elapsed();
    if (now >= windowEnds) {
      ofKnown = new Map();
      ofStrangers = createBoundedMap(maxNetworks);
      windowEnds = now + windowMs;
    }
    const counts = principal ? ofKnown : ofStrangers;
    const key = `${rate} ${nameOf({ principal, address })}`;
    const count = (counts.get(key) ?? 0) + 1;
    counts.set(key, count);
    if (count <= rates[rate]) return;
    throw new RollcallError('RATE_LIMITED', `more than ${rates[rate]} requests in a minute`, {
      hint: `try again in ${Math.ceil((windowEnds - now) / 1000)} s`,
      retryAfterMs: windowEnds - now,
    });
  }

  const isPublic = (access: Access): boolean => access === 'open' || (access === 'public' && !requireAuth);

  async function identify(
    access: Access,
    credentials: Credentials,
    occasion: Occasion,
  ): Promise<Principal | undefined> {
    if (isPublic(access)) return undefined;
    if (isForService(access) && findBearer(credentials.authorization) === undefined) return undefined;
    if (access === 'optional' && !requireAuth && credentials.authorization === undefined) return undefined;
    try {
      return await authenticate(credentials, occasion === 'hold');
    } catch (error) {
      if (occasion !== 'hold') tellOfToken(credentials.origin.address, error);
      throw error;
    }
  }

  function tellOfToken(address: string, error: unknown): void {
    const account = accountIn(error);
    if (account) refusals.countLogin(address, 'TOKEN_REFUSED', account);
    else refusals.count(address, 'TOKEN_REFUSED');
  }

  function tellRefused(principal: Principal | undefined, { code, message }: Refusal): void {
    if (!principal || code !== 'NOT_ALLOWED') return;
    refusals.count(principal.origin.address, missingPermission(message) ?? code, principal);
  }

  return {
    tellRefused,
    async admit({ access, rate }, credentials, occasion = 'request') {
      const { address } = credentials.origin;
      const principal = await identify(access, credentials, occasion);
      if (occasion === 'request') countRequest({ principal, address }, rate);
      try {
        if (principal) requireRight(principal, access);
      } catch (error) {
        if (occasion !== 'hold') tellRefused(principal, toRollcallError(error));
        throw error;
      }
      return principal && heldTo(principal, access);
    },
    enter(who, request) {
      const party = nameOf(who);
      openRequests.enter(party, request);
      return {
        requireReader: () => openRequests.requireReader(party),
        leave: () => openRequests.leave(party, request),
      };
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

/** Of the party that shares a bound. */
function nameOf({ principal, address }: Who): string {
  return principal ? partyOf(principal) : networkOf(address);
}

function requireRight(principal: Principal, access: Access): void {
  requireKind(principal, access);
  const permission = permissionOf(access);
  if (permission !== undefined) requirePermission(principal, permission);
}

function isForService(access: Access): boolean {
  return typeof access === 'object' && 'orService' in access;
}

/** Nodes get only where the rule names them, and nobody else where it names only them. */
function requireKind({ kind }: Principal, access: Access): void {
  const forNodes = access === 'node' || access === 'anyoneOrNode' || access === 'optional';
  if (kind === 'node' ? forNodes : access !== 'node') return;
  throw new RollcallError('NOT_ALLOWED', kind === 'node' ? 'a node may not do this' : 'this is for nodes');
}

function permissionOf(access: Access): Permission | undefined {
  if (typeof access === 'object') return 'orService' in access ? access.orService : undefined;
  return isPermission(access) ? access : undefined;
}
