/**
 * From a registered key to a certificate: Hello → Challenge → Proof → Enrolled, on one stream of a verified
 * connection. The same code enrolls on a fresh connection and renews as the second stream of a live one; the node key
 * signs every time, and every certificate is for a session key made for it. What the link says is checked before it
 * is believed; nothing is kept here.
 */
import { X509Certificate } from 'node:crypto';
import type { ClientDuplexStream } from '@grpc/grpc-js';
import type { Clock } from '../base/clock.js';
import { RollcallError } from '../base/errors.js';
import { toPem } from '../base/pem.js';
import type { Random } from '../base/random.js';
import { version as agentVersion } from '../base/version.js';
import { onAbort } from '../base/wait.js';
import { exporterBinding } from '../identity/binding.js';
import { verifyNodeCertificate, type NodeCertificate } from '../identity/certificate.js';
import { isNodeId, type NodeId } from '../identity/node-id.js';
import { generatePrivateKey, toPkcs8Pem, type PrivateKey } from '../identity/private-key.js';
import { isTrustDomain } from '../identity/spiffe.js';
import { encodeTranscript } from '../identity/transcript.js';
import type {
  Challenge,
  Enrolled,
  EnrollRequest,
  EnrollResponse,
  Hello,
  Proof,
} from '../protocol/generated/rollcall/v1/enrollment.js';
import { limits, protocolVersions } from '../protocol/limits.js';
import { openCall, toCallFailure } from './connection-error.js';
import type { LinkConnection } from './connection.js';

export interface EnrollOptions {
  readonly connection: Pick<LinkConnection, 'enrollment' | 'exporter'>;
  readonly privateKey: PrivateKey;
  readonly tenant: string;
  /** The trust domain this node belongs to, once it knows; another one is refused. */
  readonly trustDomain?: string | undefined;
  /** Of the last certificate this node remembers, 0 for none. */
  readonly generation: bigint;
  readonly clock: Clock;
  readonly random: Random;
  readonly signal?: AbortSignal | undefined;
}

export interface Enrollment {
  readonly nodeId: NodeId;
  readonly trustDomain: string;
  readonly generation: bigint;
  /** PEM, the node's own certificate first. */
  readonly certificateChain: readonly string[];
  /** PKCS#8 PEM. Secret. */
  readonly sessionKey: string;
  /** How long the certificate is good for from now on, by the link's clock, ms. */
  readonly lifeMs: number;
  /** How long before its end the link wants it renewed, ms; never more than lifeMs. */
  readonly renewalMarginMs: number;
  /** DER; undefined when the link said nothing of roots. */
  readonly serverRoots: readonly Buffer[] | undefined;
  /** The link's clock, ms since 1970. */
  readonly linkClockMs: number;
}

export const nonceBytes = 32;
export const maxChainLength = 8;
/** For the whole exchange. The link is strict about the node's part; this bounds the link's, ms. */
const withinMs = limits.helloMs + limits.proofMs;

type Call = ClientDuplexStream<EnrollRequest, EnrollResponse>;

/**
 * Enrolls once. Rejects with what the link stated (PROOF_REFUSED, NODE_NOT_REGISTERED, NODE_REVOKED, …),
 * PROTOCOL_INVALID when its answer makes no sense, LINK_UNVERIFIED when it is the link of another trust domain,
 * LINK_UNREACHABLE when the connection failed.
 */
export async function enroll(options: EnrollOptions): Promise<Enrollment> {
  const call = openCall(() => options.connection.enrollment.enroll());
  const stop = () => call.cancel();
  const late = options.clock.after(withinMs, stop);
  call.once('status', () => late.cancel());
  const forget = onAbort(options.signal, stop);
  try {
    const enrollment = await exchange(call, options);
    call.end();
    return enrollment;
  } catch (error) {
    stop();
    throw toCallFailure(error);
  } finally {
    forget();
  }
}

async function exchange(call: Call, options: EnrollOptions): Promise<Enrollment> {
  const answers = answersOf(call);
  call.write({ step: { $case: 'hello', value: sayHello(options) } });
  const challenge = checkChallenge(await answers('challenge'), options.trustDomain);
  const sessionKey = generatePrivateKey('P-256', options.random);
  call.write({ step: { $case: 'proof', value: prove(options, challenge, sessionKey) } });
  return checkEnrolled(await answers('enrolled'), challenge, sessionKey);
}

function sayHello({ privateKey, tenant, trustDomain = '', clock }: EnrollOptions): Hello {
  return {
    protocolVersions: [...protocolVersions],
    tenant,
    publicKey: privateKey.publicKey.spki,
    bindingType: exporterBinding,
    agentVersion,
    nodeClockMs: BigInt(Math.round(clock.now())),
    trustDomain,
  };
}

function prove(
  { connection, privateKey, tenant, generation }: EnrollOptions,
  { nonce, trustDomain }: Challenge,
  sessionKey: PrivateKey,
): Proof {
  const transcript = (role: 'node' | 'session') =>
    encodeTranscript({
      role,
      trustDomain,
      tenant,
      bindingType: exporterBinding,
      binding: connection.exporter,
      nonce,
      nodeKey: privateKey.publicKey.spki,
      sessionKey: sessionKey.publicKey.spki,
      generation,
    });
  return {
    signature: privateKey.sign(transcript('node')),
    sessionPublicKey: sessionKey.publicKey.spki,
    sessionSignature: sessionKey.sign(transcript('session')),
    generation,
  };
}

function senseless(what: string, cause?: unknown): RollcallError {
  return new RollcallError('PROTOCOL_INVALID', `the link's answer makes no sense: ${what}`, { cause });
}

function checkChallenge(challenge: Challenge, remembered: string | undefined): Challenge {
  const { protocolVersion, nonce, trustDomain } = challenge;
  if (!protocolVersions.some(each => each === protocolVersion)) {
    throw new RollcallError(
      'PROTOCOL_VERSION',
      'the link chose a protocol version this agent does not speak',
    );
  }
  if (nonce.length !== nonceBytes) throw senseless('the nonce is not 32 bytes');
  if (!isTrustDomain(trustDomain)) throw senseless('the trust domain is malformed');
  if (remembered !== undefined && trustDomain !== remembered) {
    throw new RollcallError(
      'LINK_UNVERIFIED',
      `this is the link of trust domain ${trustDomain}; this node belongs to ${remembered}`,
      {
        hint: `if its data was lost, start that link on an empty --data-dir with --trust-domain ${remembered} and register its keys again; to move this node there, give it an empty --state-dir`,
      },
    );
  }
  return challenge;
}

function checkEnrolled(enrolled: Enrolled, challenge: Challenge, sessionKey: PrivateKey): Enrollment {
  const { nodeId, certificateChain: chain, generation, renewAfterMs, trustBundle } = enrolled;
  if (!isNodeId(nodeId)) throw senseless('invalid node id');
  // It may be lower than the one before: a link restored from a backup must be able to take its nodes back.
  if (generation === 0n) throw senseless('invalid generation');
  const { trustDomain } = challenge;
  const linkClockMs = Number(challenge.linkClockMs);
  const { notAfter, nodeId: certified } = readChain(chain, sessionKey, trustDomain, linkClockMs);
  if (certified !== nodeId) throw senseless('the certificate is for another node');
  const lifeMs = notAfter - linkClockMs;
  return {
    nodeId,
    trustDomain,
    generation,
    certificateChain: chain.map(der => toPem(der)),
    sessionKey: toPkcs8Pem(sessionKey),
    lifeMs,
    renewalMarginMs: Math.max(0, lifeMs - Number(renewAfterMs)),
    serverRoots: trustBundle?.serverRoots,
    linkClockMs,
  };
}

/** Dates go by the link's clock: this machine's may be years off, and the link is who will judge the certificate. */
function readChain(
  [leaf, ...authorities]: readonly Buffer[],
  sessionKey: PrivateKey,
  trustDomain: string,
  now: number,
): NodeCertificate {
  if (!leaf || authorities.length === 0 || authorities.length > maxChainLength)
    throw senseless('no whole chain');
  try {
    const certificate = verifyNodeCertificate(leaf, {
      authorities: authorities.map(der => new X509Certificate(der)),
      trustDomain,
      now,
    });
    if (!certificate.spki.equals(sessionKey.publicKey.spki)) throw new Error('another key');
    return certificate;
  } catch (error) {
    throw senseless('the certificate is not one for this session key', error);
  }
}

type Step = NonNullable<EnrollResponse['step']>;
type ValueOf<Case extends Step['$case']> = Extract<Step, { $case: Case }>['value'];

/** Gives the answers one by one, each of which must be the step that is due. */
function answersOf(call: Call): <Case extends Step['$case']>(due: Case) => Promise<ValueOf<Case>> {
  const answers = call[Symbol.asyncIterator]() as AsyncIterator<EnrollResponse, undefined>;
  // The iterator tells of errors while someone waits; afterwards they concern nobody, but must have a listener.
  call.on('error', () => undefined);
  return async due => {
    const answer = await answers.next();
    if (answer.done === true)
      throw new RollcallError('LINK_UNREACHABLE', 'the link ended the enrollment without an answer');
    const { step } = answer.value;
    if (step?.$case !== due) throw senseless(`it is no ${due}`);
    return step.value as ValueOf<typeof due>;
  };
}
