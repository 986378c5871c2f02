/** An Enroll stream message by message, for peers that do not follow the rules. */
import type { ServiceError } from '@grpc/grpc-js';
import type { RollcallError } from '../../src/base/errors.js';
import { generatePrivateKey, type PrivateKey } from '../../src/identity/private-key.js';
import { encodeTranscript, type Transcript } from '../../src/identity/transcript.js';
import type { LinkConnection } from '../../src/node/connection.js';
import type {
  Challenge,
  Enrolled,
  EnrollResponse,
  Hello,
  Proof,
} from '../../src/protocol/generated/rollcall/v1/enrollment.js';
import { fromGrpcStatus } from '../../src/protocol/status.js';

export interface RawEnrollment {
  hello(changes?: Partial<Hello>): void;
  proof(proof: Proof): void;
  /** The next answer, or the refusal as a rejection. */
  challenge(): Promise<Challenge>;
  enrolled(): Promise<Enrolled>;
  /** How the link ended the stream. */
  readonly refused: Promise<RollcallError>;
  end(): void;
}

export function rawEnrollment(
  connection: Pick<LinkConnection, 'enrollment'>,
  key: PrivateKey,
): RawEnrollment {
  const call = connection.enrollment.enroll();
  const answers: EnrollResponse[] = [];
  let wake: (() => void) | undefined;
  let failure: RollcallError | undefined;
  call.on('data', (answer: EnrollResponse) => {
    answers.push(answer);
    wake?.();
  });
  const refused = new Promise<RollcallError>(resolve => {
    call.on('error', (error: ServiceError) => {
      failure = fromGrpcStatus(error);
      resolve(failure);
      wake?.();
    });
  });
  async function next(): Promise<EnrollResponse> {
    for (;;) {
      const answer = answers.shift();
      if (answer) return answer;
      if (failure) throw failure;
      await new Promise<void>(resolve => (wake = resolve));
    }
  }
  return {
    hello: changes =>
      void call.write({
        step: {
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
        },
      }),
    proof: value => void call.write({ step: { $case: 'proof', value } }),
    async challenge() {
      const { step } = await next();
      if (step?.$case !== 'challenge') throw new Error('no challenge');
      return step.value;
    },
    async enrolled() {
      const { step } = await next();
      if (step?.$case !== 'enrolled') throw new Error('no enrolled');
      return step.value;
    },
    refused,
    end: () => call.end(),
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
