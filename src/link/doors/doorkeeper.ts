/**
 * Accepts or refuses a call by its rule: who makes it, whether they have the right, how often they ask. One for both
 * protocols, so that a refusal is decided in one place.
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

interface Refusal {
  readonly code: string;
  readonly message: string;
}

/**
 * Why a principal is judged: for a `request`; `again`, for an accepted request that has gone on since, which is not
 * counted twice; or for what they `hold`, which the link checks by itself, so that a refusal is not audited.
 */
export type Occasion = 'request' | 'again' | 'hold';

/** The maker of a request: a principal, or the party at this address. */
export interface Who {
  readonly principal: Principal | undefined;
  readonly address: string;
}

export interface Entered {
  /** LINK_BUSY when so much waits to be read that no answer is written. */
  requireReader(): void;
  /** Ends the request. */
  leave(): void;
}

export interface DoorkeeperOptions {
  readonly authenticate: Authenticate;
  readonly refusals: RefusalCounter;
  readonly clock: Clock;
  /** Requires a token for what is public otherwise. */
  readonly requireAuth: boolean;
}

const windowMs = 60_000;
/** Networks of unknown callers whose requests are counted; beyond it the longest silent one is forgotten. */
const maxNetworks = 20_000;

export class Doorkeeper {
  readonly #options: DoorkeeperOptions;
  readonly #counter: RequestCounter;
  readonly #openRequests = new OpenRequests();

  constructor(options: DoorkeeperOptions) {
    this.#options = options;
    this.#counter = new RequestCounter(options.clock);
  }

  /** Gives the principal, where the rule requires one. Throws TOKEN_REFUSED, NOT_ALLOWED or RATE_LIMITED. */
  async admit(
    { access, rate }: Rule,
    credentials: Credentials,
    occasion: Occasion = 'request',
  ): Promise<Principal | undefined> {
    const { address } = credentials.origin;
    const principal = await this.#identify(access, credentials, occasion);
    if (occasion === 'request') this.#counter.count({ principal, address }, rate);
    try {
      if (principal) requireRight(principal, access);
    } catch (error) {
      if (occasion !== 'hold') this.auditRefusal(principal, toRollcallError(error));
      throw error;
    }
    return principal && heldTo(principal, access);
  }

  /** Counts an accepted request as open; LINK_BUSY when its caller has too many. */
  enter(who: Who, request: OpenRequest): Entered {
    const party = nameOf(who);
    this.#openRequests.enter(party, request);
    return {
      requireReader: () => this.#openRequests.requireReader(party),
      leave: () => this.#openRequests.leave(party, request),
    };
  }

  /** Audits a known caller's request beyond their rights; ignores any other error. */
  auditRefusal(principal: Principal | undefined, { code, message }: Refusal): void {
    if (!principal || code !== 'NOT_ALLOWED') return;
    const { refusals } = this.#options;
    refusals.count(principal.origin.address, missingPermission(message) ?? code, principal);
  }

  async #identify(
    access: Access,
    credentials: Credentials,
    occasion: Occasion,
  ): Promise<Principal | undefined> {
    const { authenticate, requireAuth } = this.#options;
    if (access === 'open' || (access === 'public' && !requireAuth)) return undefined;
    if (isForService(access) && findBearer(credentials.authorization) === undefined) return undefined;
    if (access === 'optional' && !requireAuth && credentials.authorization === undefined) return undefined;
    try {
      return await authenticate(credentials, occasion === 'hold');
    } catch (error) {
      if (occasion !== 'hold') this.#auditToken(credentials.origin.address, error);
      throw error;
    }
  }

  #auditToken(address: string, error: unknown): void {
    const { refusals } = this.#options;
    const account = accountIn(error);
    if (account) refusals.countLogin(address, 'TOKEN_REFUSED', account);
    else refusals.count(address, 'TOKEN_REFUSED');
  }
}

/** Requests of each party within the minute. */
class RequestCounter {
  readonly #clock: Clock;
  // Apart, so that unknown callers from many networks make the link forget only each other's counts.
  #ofKnown = new Map<string, number>();
  #ofStrangers = createBoundedMap<number>(maxNetworks);
  #windowEnds: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#windowEnds = clock.elapsed() + windowMs;
  }

  /** RATE_LIMITED beyond the rate. */
  count({ principal, address }: Who, rate: Rule['rate']): void {
    if (rates[rate] === Infinity) return;
    const now = this.#clock.elapsed();
    if (now >= this.#windowEnds) {
      this.#ofKnown = new Map();
      this.#ofStrangers = createBoundedMap(maxNetworks);
      this.#windowEnds = now + windowMs;
    }
    const counts = principal ? this.#ofKnown : this.#ofStrangers;
    const key = `${rate} ${nameOf({ principal, address })}`;
    const count = (counts.get(key) ?? 0) + 1;
    counts.set(key, count);
    if (count <= rates[rate]) return;
    throw new RollcallError('RATE_LIMITED', `more than ${rates[rate]} requests in a minute`, {
      hint: `try again in ${Math.ceil((this.#windowEnds - now) / 1000)} s`,
      retryAfterMs: this.#windowEnds - now,
    });
  }
}

/** Confirming the principal later checks the right of this call again. */
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

/** A node may use only rules that name nodes; a rule for nodes alone refuses everybody else. */
function requireKind({ kind }: Principal, access: Access): void {
  const forNodes = access === 'node' || access === 'anyoneOrNode' || access === 'optional';
  if (kind === 'node' ? forNodes : access !== 'node') return;
  throw new RollcallError('NOT_ALLOWED', kind === 'node' ? 'a node may not do this' : 'this is for nodes');
}

function permissionOf(access: Access): Permission | undefined {
  if (typeof access === 'object') return 'orService' in access ? access.orService : undefined;
  return isPermission(access) ? access : undefined;
}
