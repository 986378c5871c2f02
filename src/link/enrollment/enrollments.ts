/**
 * From a registered key to a certificate: challenge → proof → certificate. Every attempt is one stream; its nonce is
 * made for it and forgotten with it. Attempts in flight end with a revocation, and no certificate leaves after it.
 */
import type { Clock } from '../../base/clock.js';
import { isRollcallError, RollcallError, toRollcallError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import type { Random } from '../../base/random.js';
import type { Challenge, Enrolled, Hello, Proof } from '../../protocol/generated/rollcall/v1/enrollment.js';
import { limits } from '../../protocol/limits.js';
import type { Alerts } from '../access/alerts.js';
import { accountIn } from '../access/login/refused-account.js';
import type { RefusalCounter } from '../audit/refusals.js';
import type { Metrics } from '../metrics.js';
import { nonceBytes, readHello, type Opening } from './attempt.js';
import { EnrollmentSlots, type Slot } from './slots.js';
import { ForeignTrustDomains } from './foreign-trust-domains.js';
import { Issuance, type IssuanceOptions, type Recipient } from './issuance.js';

/** The connection of an attempt; the door provides it. */
export interface EnrollPeer extends Recipient {
  /** The bytes that bind a proof to this connection, for a binding type the link accepts. */
  binding(type: string): Buffer;
  /** Tells the node why and cuts the connection; resolves when the socket is closed. */
  end(error: RollcallError): Promise<void>;
}

export interface Attempt {
  hello(hello: Hello): Challenge;
  proof(proof: Proof): Promise<Enrolled>;
  /** The stream is over, however it ended. */
  close(): void;
}

export interface EnrollmentsOptions extends IssuanceOptions {
  readonly refusals: RefusalCounter;
  readonly alerts: Alerts;
  readonly trustDomain: string;
  readonly bindingTypes: readonly string[];
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Attempts at once. */
  readonly maxInFlight: number;
}

/** An attempt in flight. */
interface InFlight extends Slot {
  readonly peer: EnrollPeer;
  opening?: Opening;
  /** By a revocation; no certificate leaves after it. */
  ended?: RollcallError;
}

/** A clock that is further off is worth a word in the log, ms. */
const clockToleranceMs = 60_000;

export class Enrollments {
  readonly #options: EnrollmentsOptions;
  readonly #inFlight: EnrollmentSlots<InFlight>;
  readonly #foreign: ForeignTrustDomains;
  readonly #issuance: Issuance;

  constructor(options: EnrollmentsOptions) {
    const { trustDomain, clock, log } = options;
    this.#options = options;
    this.#inFlight = new EnrollmentSlots<InFlight>({
      max: options.maxInFlight,
      clock,
      onEvicted: ({ peer }) => void this.#refuse(peer, busy()),
    });
    this.#foreign = new ForeignTrustDomains({ trustDomain, clock, log });
    this.#issuance = new Issuance(options);
  }

  /** Throws LINK_BUSY when too many are in flight and none of them has to give way. */
  begin(peer: EnrollPeer): Attempt {
    const state: InFlight = { remoteAddress: peer.remoteAddress, peer, isProving: false, isEvicted: false };
    if (!this.#inFlight.take(state)) throw this.#refuse(peer, busy());
    return {
      hello: hello => this.#hello(state, hello),
      proof: proof => this.#proof(state, proof),
      close: () => this.#inFlight.free(state),
    };
  }

  /** Ends every attempt with this key; resolves with how many when their sockets are closed. */
  endKey(tenant: string, fingerprint: string, error: RollcallError): Promise<number> {
    return this.#endAll(
      ({ claim }) => claim.tenant === tenant && claim.nodeKey.fingerprint === fingerprint,
      error,
    );
  }

  /** The same for every attempt in a tenant. */
  endTenant(tenant: string, error: RollcallError): Promise<number> {
    return this.#endAll(({ claim }) => claim.tenant === tenant, error);
  }

  #hello(state: InFlight, hello: Hello): Challenge {
    if (state.opening) throw new RollcallError('PROTOCOL_INVALID', 'a second Hello');
    try {
      state.opening = this.#challenge(state.peer, hello);
    } catch (error) {
      throw this.#refuse(state.peer, error);
    }
    return state.opening.challenge;
  }

  async #proof(state: InFlight, proof: Proof): Promise<Enrolled> {
    const { peer, opening } = state;
    if (!opening) throw new RollcallError('PROTOCOL_INVALID', 'a proof before Hello');
    if (state.isEvicted) throw busy();
    state.isProving = true;
    try {
      const enrolled = await this.#issuance.enroll(peer, opening, proof);
      if (state.ended) throw state.ended;
      this.#options.metrics.enrollment('enrolled');
      return enrolled;
    } catch (error) {
      throw this.#refuse(peer, error);
    }
  }

  #challenge(peer: EnrollPeer, hello: Hello): Opening {
    const { bindingTypes, trustDomain, clock, random, log } = this.#options;
    const claim = readHello(hello, bindingTypes);
    const now = clock.now();
    if (Math.abs(now - claim.nodeClockMs) > clockToleranceMs) {
      const fields = { remoteAddress: peer.remoteAddress, nodeClockMs: claim.nodeClockMs };
      log.debug(fields, 'the clock of a peer is far off');
    }
    if (claim.trustDomain !== undefined) this.#foreign.heard(claim.trustDomain, peer.remoteAddress);
    return {
      claim,
      binding: peer.binding(claim.bindingType),
      challenge: {
        protocolVersion: claim.version,
        nonce: random(nonceBytes),
        trustDomain,
        linkClockMs: BigInt(now),
        deadlineMs: limits.proofMs,
      },
    };
  }

  /** Counts a refusal for the audit and the metrics. */
  #refuse(peer: EnrollPeer, thrown: unknown): RollcallError {
    const { metrics, refusals, alerts, log } = this.#options;
    const error = toRollcallError(thrown);
    metrics.enrollment(error.code);
    if (isRollcallError(thrown)) refusals.count(peer.remoteAddress, error.code, accountIn(error));
    else log.error({ err: thrown }, 'an enrollment failed');
    if (error.code === 'PROOF_REFUSED')
      alerts.raise('security.proof-refused', { address: peer.remoteAddress });
    return error;
  }

  async #endAll(isConcerned: (opening: Opening) => boolean, error: RollcallError): Promise<number> {
    const concerned = [...this.#inFlight].filter(({ opening }) => opening && isConcerned(opening));
    await Promise.all(
      concerned.map(state => {
        state.ended = error;
        return state.peer.end(error);
      }),
    );
    return concerned.length;
  }
}

function busy(): RollcallError {
  return new RollcallError('LINK_BUSY', 'too many enrollments at once; try again in a moment');
}
