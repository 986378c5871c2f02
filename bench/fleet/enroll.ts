/** Enrollment of a light agent: Hello, Challenge, Proof, Enrolled, on a connection of its own. */
import { generateKeyPairSync, sign, type KeyObject } from 'node:crypto';
import { curves } from '../../src/identity/curve.js';
import { exporterBytes, exporterLabel } from '../../src/identity/binding.js';
import { encodeTranscript } from '../../src/identity/transcript.js';
import {
  EnrollRequest,
  EnrollResponse,
  type Challenge,
  type Enrolled,
  type Proof,
} from '../../src/protocol/generated/rollcall/v1/enrollment.js';
import { defaultTenant } from '../../src/protocol/limits.js';
import { openTls, type LightAgent } from './agent.js';
import { openGrpcStream } from './http2.js';
import type { Dialect } from './orders.js';

const path = '/rollcall.v1.Enrollment/Enroll';

/** Enrolls an agent; a bare server cannot know the channel, so with it the proof is bound to zeros. */
export async function enrollAgent(agent: LightAgent, port: number, dialect: Dialect): Promise<void> {
  const socket = await openTls({ port, protocol: 'h2' });
  const binding =
    dialect === 'bare'
      ? Buffer.alloc(exporterBytes)
      : socket.exportKeyingMaterial(exporterBytes, exporterLabel, Buffer.alloc(0));
  try {
    await new Promise<void>((resolve, reject) => {
      const refused = (): void => reject(new Error('the server ended an enrollment early'));
      socket.once('close', refused);
      let sessionKey: SessionKey | undefined;
      const stream = openGrpcStream(socket, path, encodeHello(agent), {
        message(bytes) {
          const { step } = EnrollResponse.decode(bytes);
          if (step?.$case === 'challenge') {
            sessionKey = makeSessionKey();
            const value = makeProof(agent, binding, step.value, sessionKey);
            stream.write(EnrollRequest.encode({ step: { $case: 'proof', value } }).finish());
          } else if (step && sessionKey) {
            keep(agent, step.value, sessionKey);
            resolve();
          }
        },
        ended: refused,
      });
    });
  } finally {
    socket.destroy();
  }
}

function encodeHello(agent: LightAgent): Uint8Array {
  const value = {
    protocolVersions: [1],
    tenant: defaultTenant,
    publicKey: agent.spki,
    bindingType: 'tls-exporter',
    agentVersion: 'bench',
    nodeClockMs: BigInt(Date.now()),
    trustDomain: '',
  };
  return EnrollRequest.encode({ step: { $case: 'hello', value } }).finish();
}

interface SessionKey {
  readonly key: KeyObject;
  readonly spki: Buffer;
}

export function makeSessionKey(): SessionKey {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  return { key: privateKey, spki: publicKey.export({ type: 'spki', format: 'der' }) };
}

function makeProof(agent: LightAgent, binding: Buffer, challenge: Challenge, session: SessionKey): Proof {
  const signed = (role: 'node' | 'session'): Buffer =>
    encodeTranscript({
      role,
      trustDomain: challenge.trustDomain,
      tenant: defaultTenant,
      bindingType: 'tls-exporter',
      binding,
      nonce: challenge.nonce,
      nodeKey: agent.spki,
      sessionKey: session.spki,
      generation: agent.generation,
    });
  return {
    signature: sign(curves[agent.curve].hash, signed('node'), agent.key),
    sessionPublicKey: session.spki,
    sessionSignature: sign('sha256', signed('session'), session.key),
    generation: agent.generation,
  };
}

function keep(agent: LightAgent, { certificateChain, generation }: Enrolled, session: SessionKey): void {
  agent.generation = generation;
  agent.context = undefined;
  agent.issued = { chain: certificateChain, key: session.key };
}
