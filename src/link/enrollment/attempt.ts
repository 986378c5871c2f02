/**
 * The messages and checks of one enrollment, without streams and storage: Hello in, Challenge out; Proof in, verdict out.
 * The same number of signatures is checked whatever the keys are, and nothing is looked up before they hold.
 */
import { RollcallError } from '../../base/errors.js';
import { parseSpki, type PublicKey } from '../../identity/public-key.js';
import { verifySignature } from '../../identity/signature.js';
import { isTrustDomain } from '../../identity/spiffe.js';
import { encodeTranscript } from '../../identity/transcript.js';
import type { Challenge, Hello, Proof } from '../../protocol/generated/rollcall/v1/enrollment.js';
import { protocolVersions } from '../../protocol/limits.js';

export const nonceBytes = 32;
export const maxTextLength = 255;

/** A Hello that can be worked with; still only claims. */
export interface Claim {
  readonly version: number;
  readonly tenant: string;
  readonly nodeKey: PublicKey;
  readonly bindingType: string;
  readonly agentVersion: string;
  readonly nodeClockMs: number;
  /** The trust domain that the node remembers; undefined for a name that cannot be one. */
  readonly trustDomain: string | undefined;
}

/** Reads a Hello. Its errors are sent as they are: they reveal nothing about registered keys. */
export function readHello(hello: Hello, bindingTypes: readonly string[]): Claim {
  const version = protocolVersions.find(each => hello.protocolVersions.includes(each));
  if (version === undefined) {
    throw new RollcallError('PROTOCOL_VERSION', 'none of the protocol versions offered is spoken here', {
      hint: `this link speaks version ${protocolVersions.join(', ')}`,
    });
  }
  if (!bindingTypes.includes(hello.bindingType)) {
    throw new RollcallError('BINDING_REFUSED', 'this kind of channel binding is not accepted here', {
      hint: `accepted: ${bindingTypes.join(', ')}`,
    });
  }
  for (const text of [hello.tenant, hello.agentVersion]) {
    if (text.length > maxTextLength)
      throw new RollcallError('PROTOCOL_INVALID', 'a text in Hello is too long');
  }
  return {
    version,
    tenant: hello.tenant,
    nodeKey: parseSpki(hello.publicKey),
    bindingType: hello.bindingType,
    agentVersion: hello.agentVersion.slice(0, 64),
    nodeClockMs: Number(hello.nodeClockMs),
    trustDomain: isTrustDomain(hello.trustDomain) ? hello.trustDomain : undefined,
  };
}

export interface Opening {
  readonly claim: Claim;
  readonly challenge: Challenge;
  readonly binding: Buffer;
}

/** The session key, if both signatures hold over exactly this opening; otherwise undefined, whatever was wrong. */
export async function checkProof(opening: Opening, proof: Proof): Promise<PublicKey | undefined> {
  const { claim, challenge, binding } = opening;
  const sessionKey = tryParse(proof.sessionPublicKey);
  const signed = (role: 'node' | 'session') =>
    encodeTranscript({
      role,
      trustDomain: challenge.trustDomain,
      tenant: claim.tenant,
      bindingType: claim.bindingType,
      binding,
      nonce: challenge.nonce,
      nodeKey: claim.nodeKey.spki,
      sessionKey: proof.sessionPublicKey,
      generation: proof.generation,
    });
  const [byNode, bySession] = await Promise.all([
    verifySignature(claim.nodeKey, signed('node'), proof.signature),
    // Without a usable session key the node key stands in, so that the work done is the same.
    verifySignature(sessionKey ?? claim.nodeKey, signed('session'), proof.sessionSignature),
  ]);
  const distinct = sessionKey !== undefined && !sessionKey.spki.equals(claim.nodeKey.spki);
  return byNode && bySession && distinct ? sessionKey : undefined;
}

function tryParse(spki: Uint8Array): PublicKey | undefined {
  try {
    return parseSpki(spki);
  } catch {
    return undefined;
  }
}

/** The one answer to every proof that does not hold. */
export function proofRefused(): RollcallError {
  return new RollcallError('PROOF_REFUSED', 'the proof of possession was refused', {
    hint: 'check that the node uses its own private key and reaches the link directly (TLS must end at the link)',
  });
}
