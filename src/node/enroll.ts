/**
 * From a registered key to a certificate: Hello → Challenge → Proof → Enrolled, on a verified connection.
 * The same code enrolls on a fresh connection and renews on a live one; the node key
 * signs every time, and every certificate is for a session key made for it. What the link says is checked before it
 * is believed; nothing is kept here.
 */
import { X509Certificate } from 'node:crypto';
import type { Clock } from '../base/clock.js';
import { RollcallError } from '../base/errors.js';
import { toPem } from '../base/pem.js';
import type { Random } from '../base/random.js';
import { version as agentVersion } from '../base/version.js';
import { deferred, onAbort } from '../base/wait.js';
import { exporterBinding } from '../identity/binding.js';
import { verifyNodeCertificate, type NodeCertificate } from '../identity/certificate.js';
import { isNodeId, type NodeId } from '../identity/node-id.js';
import { generatePrivateKey, toPkcs8Pem, type PrivateKey } from '../identity/private-key.js';
import { isTrustDomain } from '../identity/spiffe.js';
import { encodeTranscript } from '../identity/transcript.js';
import type { Challenge, Enrolled, Hello, Proof } from '../protocol/generated/rollcall/v1/enrollment.js';
import { protocolVersions } from '../protocol/limits.js';
import { fromLinkError } from '../protocol/link-error.js';
import type { LinkConnection, ReceivedFrame } from './connection.js';

export interface EnrollOptions {
  readonly connection: Pick<LinkConnection, 'send' | 'listen' | 'over' | 'exporter'>;
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
const withinMs = 15_000;

/**
 * Enrolls once. Rejects with what the link stated (PROOF_REFUSED, NODE_NOT_REGISTERED, NODE_REVOKED, …),
 * PROTOCOL_INVALID when its answer makes no sense, LINK_UNVERIFIED when it is the link of another trust domain,
 * LINK_UNREACHABLE when the connection failed.
 */
export async function enroll(options: EnrollOptions): Promise<Enrollment> {
  const { connection, clock, signal } = options;
  const stopped = deferred<never>();
  stopped.promise.catch(() => undefined);
  const late = clock.after(withinMs, () =>
    stopped.reject(new RollcallError('DEADLINE_EXCEEDED', 'the link did not answer the enrollment in time')),
  );
  const forget = onAbort(signal, () =>
    stopped.reject(new RollcallError('LINK_UNREACHABLE', 'the enrollment was told to stop')),
  );
  void connection.over.then(stopped.reject);
  const answers = new Answers(connection);
  try {
    return await Promise.race([exchange(answers, options), stopped.promise]);
  } finally {
    answers.close();
    late.cancel();
    forget();
  }
}

async function exchange(answers: Answers, options: EnrollOptions): Promise<Enrollment> {
  const { connection, random, trustDomain } = options;
  connection.send({ $case: 'hello', value: sayHello(options) });
  const challenge = checkChallenge(await answers.next('challenge'), trustDomain);
  const sessionKey = generatePrivateKey('P-256', random);
  connection.send({ $case: 'proof', value: prove(options, challenge, sessionKey) });
  return checkEnrolled(await answers.next('enrolled'), challenge, sessionKey);
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

type Answer = Extract<ReceivedFrame, { $case: 'challenge' | 'enrolled' | 'enrollmentRefused' }>;
type ValueOf<Case extends Answer['$case']> = Extract<Answer, { $case: Case }>['value'];

/** The frames of the link that answer an enrollment, one by one. */
class Answers {
  readonly #early: Answer[] = [];
  readonly #forget: () => void;
  #deliver: ((answer: Answer) => void) | undefined;

  constructor(connection: Pick<LinkConnection, 'listen'>) {
    this.#forget = connection.listen(frame => {
      if (frame.$case !== 'challenge' && frame.$case !== 'enrolled' && frame.$case !== 'enrollmentRefused')
        return;
      if (this.#deliver) this.#deliver(frame);
      else this.#early.push(frame);
    });
  }

  /** The next one, which must be what is due. */
  async next<Case extends Answer['$case']>(due: Case): Promise<ValueOf<Case>> {
    const answer = this.#early.shift() ?? (await new Promise<Answer>(resolve => (this.#deliver = resolve)));
    this.#deliver = undefined;
    if (answer.$case === 'enrollmentRefused') throw fromLinkError(answer.value);
    if (answer.$case !== due) throw senseless(`it is no ${due}`);
    return answer.value as ValueOf<Case>;
  }

  close(): void {
    this.#forget();
  }
}
