/** An enrollment message by message, for peers that do not follow the rules. */
import type { RollcallError } from '../../src/base/errors.js';
import { generatePrivateKey, type PrivateKey } from '../../src/identity/private-key.js';
import { encodeTranscript, type Transcript } from '../../src/identity/transcript.js';
import type { LinkConnection, ReceivedFrame } from '../../src/node/connection.js';
import type {
  Challenge,
  Enrolled,
  Hello,
  Proof,
} from '../../src/protocol/generated/rollcall/v1/enrollment.js';
import { fromLinkError } from '../../src/protocol/link-error.js';

export interface RawEnrollment {
  hello(changes?: Partial<Hello>): void;
  proof(proof: Proof): void;
  /** The next answer, or the refusal as a rejection. */
  challenge(): Promise<Challenge>;
  enrolled(): Promise<Enrolled>;
  /** How the link refused it. */
  readonly refused: Promise<RollcallError>;
  end(): void;
}

type Answer = Extract<ReceivedFrame, { $case: 'challenge' | 'enrolled' }>;

export function rawEnrollment(
  connection: Pick<LinkConnection, 'send' | 'listen' | 'over' | 'close'>,
  key: PrivateKey,
): RawEnrollment {
  const answers: Answer[] = [];
  let wake: (() => void) | undefined;
  let failure: RollcallError | undefined;
  const refused = new Promise<RollcallError>(resolve => {
    const fail = (error: RollcallError): void => {
      failure = error;
      resolve(error);
      wake?.();
    };
    connection.listen(frame => {
      if (frame.$case === 'enrollmentRefused') fail(fromLinkError(frame.value));
      if (frame.$case !== 'challenge' && frame.$case !== 'enrolled') return;
      answers.push(frame);
      wake?.();
    });
    void connection.over.then(fail);
  });
  async function next(): Promise<Answer> {
    for (;;) {
      const answer = answers.shift();
      if (answer) return answer;
      if (failure) throw failure;
      await new Promise<void>(resolve => (wake = resolve));
    }
  }
  return {
    hello: changes =>
      void connection.send({
        $case: 'hello',
        value: {
          protocolVersions: [1],
          tenant: 'default',
          publicKey: key.publicKey.spki,
          bindingType: 'tls-exporter',
          agentVersion: 'raw',
          nodeClockMs: BigInt(Date.now()),
          trustDomain: '',
          ...changes,
        },
      }),
    proof: value => void connection.send({ $case: 'proof', value }),
    async challenge() {
      const answer = await next();
      if (answer.$case !== 'challenge') throw new Error('no challenge');
      return answer.value;
    },
    async enrolled() {
      const answer = await next();
      if (answer.$case !== 'enrolled') throw new Error('no enrolled');
      return answer.value;
    },
    refused,
    end: () => void connection.close(),
  };
}

/** A proof as the agent would make it, with parts of what is signed replaced. */
export function makeProof(
  connection: Pick<LinkConnection, 'exporter'>,
  key: PrivateKey,
  challenge: Pick<Challenge, 'nonce' | 'trustDomain'>,
  changes: Partial<Transcript> = {},
  sessionKey = generatePrivateKey('P-256'),
): Proof {
  const signed = (role: 'node' | 'session') =>
    encodeTranscript({
      role,
      trustDomain: challenge.trustDomain,
      tenant: 'default',
      bindingType: 'tls-exporter',
      binding: connection.exporter,
      nonce: challenge.nonce,
      nodeKey: key.publicKey.spki,
      sessionKey: sessionKey.publicKey.spki,
      generation: 0n,
      ...changes,
    });
  return {
    signature: key.sign(signed('node')),
    sessionPublicKey: sessionKey.publicKey.spki,
    sessionSignature: sessionKey.sign(signed('session')),
    generation: 0n,
  };
}
