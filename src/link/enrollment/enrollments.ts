/**
 * From a registered key to a certificate: challenge → proof → certificate. Every attempt is one stream; its nonce is
 * made for it and forgotten with it. Who has not proved the key learns nothing about it; who has learns that key's own
 * state. A certificate is committed as the node's next before it leaves, and attempts in flight end with a revocation.
 */
import { nodeParty } from '../../audit-log/party.js';
import type { Clock } from '../../base/clock.js';
import { isRollcallError, RollcallError, toRollcallError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import type { Random } from '../../base/random.js';
import { RateLimit } from '../../base/rate-limit.js';
import type { PublicKey } from '../../identity/public-key.js';
import type {
  Challenge,
  Enrolled,
  Hello,
  Proof,
  TrustBundle,
} from '../../protocol/generated/rollcall/v1/enrollment.js';
import { limits } from '../../protocol/limits.js';
import type { Alerts } from '../access/alerts.js';
import { accountIn, ofAccount } from '../access/login/refused-account.js';
import type { RefusalCounter } from '../audit/refusals.js';
import type { Authority, IssuedCertificate } from '../authority/authority.js';
import type { Metrics } from '../metrics.js';
import type { NodeRecord } from '../registry/node-record.js';
import type { Registry } from '../registry/registry.js';
import { checkProof, nonceBytes, proofRefused, readHello, type Opening } from './attempt.js';
import { ForeignTrustDomains } from './foreign-trust-domains.js';
import { createPlaces, type Place } from './admission.js';

/** What an attempt needs of the stream it runs on; the door provides it. */
export interface EnrollPeer {
  readonly remoteAddress: string;
  /** What ties a proof to this connection, for a binding type the link accepts. */
  binding(type: string): Buffer;
  /** The certificate was issued; a live session on the same connection learns of its successor. */
  issued(nodeId: bigint, fingerprint: string): void;
  /** Tells the node why and cuts the connection; resolves when the socket is closed. */
  end(error: RollcallError): Promise<void>;
}

export interface Attempt {
  hello(hello: Hello): Challenge;
  proof(proof: Proof): Promise<Enrolled>;
  /** The stream is over, however it ended. */
  close(): void;
}

export interface Enrollments {
  /** Throws LINK_BUSY when too many are in flight and none of them has to give way. */
  begin(peer: EnrollPeer): Attempt;
  /** Ends every attempt with this key; resolves with how many when their sockets are closed. */
  endKey(tenant: string, fingerprint: string, error: RollcallError): Promise<number>;
  /** The same for every attempt in a tenant. */
  endTenant(tenant: string, error: RollcallError): Promise<number>;
}

export interface EnrollmentsOptions {
  readonly registry: Registry;
  readonly authority: Authority;
  readonly refusals: RefusalCounter;
  readonly alerts: Alerts;
  readonly trustDomain: string;
  readonly bindingTypes: readonly string[];
  readonly trustBundle: () => TrustBundle;
  readonly linkAddresses: readonly string[];
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly certificateLifetimeMs: number;
  /** Attempts at once. */
  readonly most: number;
}

/** What a certificate is asked for with. */
type Asked = [peer: EnrollPeer, opening: Opening, proof: Proof, sessionKey: PublicKey];

/** An attempt in flight. */
interface InFlight extends Place {
  readonly peer: EnrollPeer;
  opening?: Opening;
  /** By a revocation; no certificate leaves after it. */
  ended?: RollcallError;
}

/** Certificates that one node may ask for at once; then one a minute, or as often as short-lived ones are renewed. */
export const maxBurst = 30;
export const refillMs = 60_000;

/** Beyond this a clock is worth a word in the log, ms. */
const clockToleranceMs = 60_000;

export function createEnrollments(options: EnrollmentsOptions): Enrollments {
  const { registry, authority, refusals, alerts, clock, log, metrics } = options;
  const inFlight = createPlaces<InFlight>({
    most: options.most,
    clock,
    onLost: ({ peer }) => void refuse(peer, busy()),
  });

  // Every certificate is an event: a node with a good key must not decide how much the link writes.
  const rate = new RateLimit({
    elapsed: () => clock.elapsed(),
    burst: maxBurst,
    refillMs: Math.min(refillMs, options.certificateLifetimeMs / 4),
  });

  const foreign = new ForeignTrustDomains({ trustDomain: options.trustDomain, clock, log });

  function begin(peer: EnrollPeer): Attempt {
    const { remoteAddress } = peer;
    const state: InFlight = { remoteAddress, peer, proving: false, lost: false };
    if (!inFlight.take(state)) {
      throw refuse(peer, busy());
    }
    const attempt: Attempt = {
      hello(hello) {
        if (state.opening) throw new RollcallError('PROTOCOL_INVALID', 'a second Hello');
        state.opening = counted(peer, () => challengeFor(peer, hello));
        return state.opening.challenge;
      },
      async proof(proof) {
        const { opening } = state;
        if (!opening) throw new RollcallError('PROTOCOL_INVALID', 'a proof before Hello');
        if (state.lost) throw busy();
        state.proving = true;
        try {
          const enrolled = await enroll(peer, opening, proof);
          if (state.ended) throw state.ended;
          metrics.enrollment('enrolled');
          return enrolled;
        } catch (error) {
          throw refuse(peer, error);
        }
      },
      close: () => inFlight.free(state),
    };
    return attempt;
  }

  function challengeFor(peer: EnrollPeer, hello: Hello): Opening {
    const claim = readHello(hello, options.bindingTypes);
    const now = clock.now();
    if (Math.abs(now - claim.nodeClockMs) > clockToleranceMs) {
      log.debug(
        { remoteAddress: peer.remoteAddress, nodeClockMs: claim.nodeClockMs },
        'the clock of a peer is far off',
      );
    }
    if (claim.trustDomain !== undefined) foreign.heard(claim.trustDomain, peer.remoteAddress);
    return {
      claim,
      binding: peer.binding(claim.bindingType),
      challenge: {
        protocolVersion: claim.version,
        nonce: options.random(nonceBytes),
        trustDomain: options.trustDomain,
        linkClockMs: BigInt(now),
        deadlineMs: limits.proofMs,
      },
    };
  }

  async function enroll(peer: EnrollPeer, opening: Opening, proof: Proof): Promise<Enrolled> {
    const sessionKey = await checkProof(opening, proof);
    if (!sessionKey) throw proofRefused();
    const { claim } = opening;
    const node = await registry.findNodeByFingerprint(claim.tenant, claim.nodeKey.fingerprint);
    if (!node) {
      throw new RollcallError(
        'NODE_NOT_REGISTERED',
        `the key ${claim.nodeKey.fingerprint} is not registered here`,
        {
          hint: 'an operator registers it with "rollcall nodes register FILE.pub"',
        },
      );
    }
    const { issued, generation } = await issueTo(node, peer, opening, proof, sessionKey);
    peer.issued(node.id, issued.fingerprint);
    return {
      nodeId: node.id,
      certificateChain: issued.chain,
      trustBundle: options.trustBundle(),
      renewAfterMs: BigInt(issued.renewAfterMs),
      generation,
      linkAddresses: [...options.linkAddresses],
    };
  }

  /** It has proved its key: what it is refused from here on is told of under its name. */
  async function issueTo(node: NodeRecord, ...asked: Asked): ReturnType<typeof issue> {
    try {
      const refusal = rate.take(`${node.id}`, 'this node has asked for too many certificates');
      if (refusal) throw refusal;
      return await issue(node.id, ...asked);
    } catch (error) {
      const { code } = toRollcallError(error);
      const isNodes = code === 'RATE_LIMITED' || code.startsWith('NODE_');
      throw isNodes ? ofAccount(toRollcallError(error), { tenant: node.tenant, ...nodeParty(node) }) : error;
    }
  }

  async function issue(
    nodeId: bigint,
    peer: EnrollPeer,
    { claim }: Opening,
    proof: Proof,
    sessionKey: PublicKey,
  ): Promise<{ issued: IssuedCertificate; generation: bigint }> {
    let made: { issued: IssuedCertificate; generation: bigint } | undefined;
    const said = {
      rememberedGeneration: proof.generation,
      address: peer.remoteAddress,
      agentVersion: claim.agentVersion,
    };
    await registry.issueCertificate(claim.tenant, nodeId, said, (record, generation) => {
      const issued = authority.issue({ nodeId: record.id, publicKey: sessionKey.spki });
      made = { issued, generation };
      return {
        fingerprint: issued.fingerprint,
        serial: issued.serial,
        notAfter: issued.notAfter,
        generation,
      };
    });
    if (!made) throw new RollcallError('INTERNAL', 'no certificate was made');
    return made;
  }

  function counted<T>(peer: EnrollPeer, work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw refuse(peer, error);
    }
  }

  /** Counts a refusal for the audit and the metrics. */
  function refuse(peer: EnrollPeer, thrown: unknown): RollcallError {
    const error = toRollcallError(thrown);
    metrics.enrollment(error.code);
    if (isRollcallError(thrown)) refusals.count(peer.remoteAddress, error.code, accountIn(error));
    else log.error({ err: thrown }, 'an enrollment failed');
    if (error.code === 'PROOF_REFUSED')
      alerts.raise('security.proof-refused', { address: peer.remoteAddress });
    return error;
  }

  async function endAll(isConcerned: (opening: Opening) => boolean, error: RollcallError): Promise<number> {
    const concerned = [...inFlight].filter(({ opening }) => opening && isConcerned(opening));
    await Promise.all(
      concerned.map(state => {
        state.ended = error;
        return state.peer.end(error);
      }),
    );
    return concerned.length;
  }

  return {
    begin,
    endKey: (tenant, fingerprint, error) =>
      endAll(({ claim }) => claim.tenant === tenant && claim.nodeKey.fingerprint === fingerprint, error),
    endTenant: (tenant, error) => endAll(({ claim }) => claim.tenant === tenant, error),
  };
}

function busy(): RollcallError {
  return new RollcallError('LINK_BUSY', 'too many enrollments at once; try again in a moment');
}
