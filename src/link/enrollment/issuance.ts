/**
 * From a proof to a certificate. A peer that has not proved its key learns nothing about it; one that has learns the
 * state of that key alone. A certificate is committed as the node's next before it leaves.
 */
import { nodeParty } from '../../audit-log/party.js';
import type { Clock } from '../../base/clock.js';
import { RollcallError, toRollcallError } from '../../base/errors.js';
import { RateLimit } from '../../base/rate-limit.js';
import type { PublicKey } from '../../identity/public-key.js';
import type { Enrolled, Proof, TrustBundle } from '../../protocol/generated/rollcall/v1/enrollment.js';
import { ofAccount } from '../access/login/refused-account.js';
import type { Authority, IssuedCertificate } from '../authority/authority.js';
import type { NodeRecord } from '../registry/node-record.js';
import type { Registry } from '../registry/registry.js';
import { renewAfter } from './renewal.js';
import { checkProof, proofRefused, type Claim, type Opening } from './attempt.js';

export interface IssuanceOptions {
  readonly registry: Pick<Registry, 'findNodeByFingerprint' | 'issueCertificate'>;
  readonly authority: Pick<Authority, 'id' | 'issue'>;
  readonly trustBundle: () => TrustBundle;
  readonly linkAddresses: readonly string[];
  readonly certificateLifetimeMs: number;
  readonly clock: Clock;
}

/** The receiver of a certificate. */
export interface Recipient {
  readonly remoteAddress: string;
  /** The certificate was issued; a live session on the same connection learns of its successor. */
  issued(nodeId: bigint, fingerprint: string): void;
}

/** A proof that holds, and its node. */
interface Proved {
  readonly address: string;
  readonly claim: Claim;
  readonly proof: Proof;
  readonly sessionKey: PublicKey;
}

interface Issued {
  readonly issued: IssuedCertificate;
  readonly generation: bigint;
}

/** Certificates that one node may ask for at once; then one a minute, or as often as short-lived ones are renewed. */
export const maxBurst = 30;
export const refillMs = 60_000;

export class Issuance {
  readonly #options: IssuanceOptions;
  readonly #rate: RateLimit;

  constructor(options: IssuanceOptions) {
    const { clock, certificateLifetimeMs } = options;
    this.#options = options;
    // Every certificate is an event: a node with a good key must not decide how much the link writes.
    this.#rate = new RateLimit({
      elapsed: () => clock.elapsed(),
      burst: maxBurst,
      refillMs: Math.min(refillMs, certificateLifetimeMs / 4),
    });
  }

  /** PROOF_REFUSED, NODE_NOT_REGISTERED, RATE_LIMITED, or what the registry refuses the node. */
  async enroll(recipient: Recipient, opening: Opening, proof: Proof): Promise<Enrolled> {
    const { registry, trustBundle, linkAddresses, clock } = this.#options;
    const sessionKey = await checkProof(opening, proof);
    if (!sessionKey) throw proofRefused();
    const { claim } = opening;
    const node = await registry.findNodeByFingerprint(claim.tenant, claim.nodeKey.fingerprint);
    if (!node) throw notRegistered(claim);
    const proved = { address: recipient.remoteAddress, claim, proof, sessionKey };
    const { issued, generation } = await this.#issueTo(node, proved);
    recipient.issued(node.id, issued.fingerprint);
    return {
      nodeId: node.id,
      certificateChain: issued.chain,
      trustBundle: trustBundle(),
      renewAfterMs: BigInt(renewAfter(issued.notAfter, clock.now())),
      generation,
      linkAddresses: [...linkAddresses],
    };
  }

  /** The node has proved its key: a refusal from here on is recorded under its name. */
  async #issueTo(node: NodeRecord, proved: Proved): Promise<Issued> {
    try {
      const refusal = this.#rate.take(`${node.id}`, 'this node has asked for too many certificates');
      if (refusal) throw refusal;
      return await this.#issue(node.id, proved);
    } catch (error) {
      const { code } = toRollcallError(error);
      const isNodes = code === 'RATE_LIMITED' || code.startsWith('NODE_');
      throw isNodes ? ofAccount(toRollcallError(error), { tenant: node.tenant, ...nodeParty(node) }) : error;
    }
  }

  async #issue(nodeId: bigint, { address, claim, proof, sessionKey }: Proved): Promise<Issued> {
    const { registry, authority } = this.#options;
    let made: Issued | undefined;
    const said = { rememberedGeneration: proof.generation, address, agentVersion: claim.agentVersion };
    await registry.issueCertificate(claim.tenant, nodeId, said, (record, generation) => {
      const issued = authority.issue({ nodeId: record.id, publicKey: sessionKey.spki });
      made = { issued, generation };
      const { fingerprint, serial, notBefore, notAfter } = issued;
      return { fingerprint, serial, notBefore, notAfter, generation, authority: authority.id };
    });
    if (!made) throw new RollcallError('INTERNAL', 'no certificate was made');
    return made;
  }
}

function notRegistered({ nodeKey }: Claim): RollcallError {
  return new RollcallError('NODE_NOT_REGISTERED', `the key ${nodeKey.fingerprint} is not registered here`, {
    hint: 'an operator registers it with "rollcall nodes register FILE.pub"',
  });
}
