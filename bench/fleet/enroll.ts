/** Enrollment of a light agent: Hello, Challenge, Proof, Enrolled, on a connection of its own. */
import { generateKeyPairSync, sign, type KeyObject } from 'node:crypto';
import { curves } from '../../src/identity/curve.js';
import { exporterBytes, exporterLabel } from '../../src/identity/binding.js';
import { encodeTranscript } from '../../src/identity/transcript.js';
import type {
  Challenge,
  Enrolled,
  Hello,
  Proof,
} from '../../src/protocol/generated/rollcall/v1/enrollment.js';
import { NodeFrame } from '../../src/protocol/generated/rollcall/v1/link.js';
import { defaultTenant } from '../../src/protocol/limits.js';
import { paths } from '../bare/methods.js';
import { openTls, type LightAgent } from './agent.js';
import { decodeFrame, openFrames, type Heard } from './frames.js';
import { openGrpcStream } from './http2.js';
import type { Dialect } from './orders.js';

/** Enrolls an agent; a bare server cannot know the channel, so with it the proof is bound to zeros. */
export function enrollAgent(agent: LightAgent, port: number, dialect: Dialect): Promise<void> {
  return dialect === 'bare' ? enrollByGrpc(agent, port) : enrollByFrames(agent, port);
}

async function enrollByFrames(agent: LightAgent, port: number): Promise<void> {
  const steps: ((frame: Heard | undefined) => void)[] = [];
  const connection = await openFrames(port, undefined, message => steps[0]?.(decodeFrame(message)));
  const { socket } = connection;
  const binding = socket.exportKeyingMaterial(exporterBytes, exporterLabel, Buffer.alloc(0));
  try {
    await new Promise<void>((resolve, reject) => {
      const refused = (): void => reject(new Error('the server ended an enrollment early'));
      socket.once('close', refused);
      const sessionKey = makeSessionKey();
      steps.push(frame => {
        if (frame?.$case === 'challenge')
          connection.say({ $case: 'proof', value: makeProof(agent, binding, frame.value, sessionKey) });
        else if (frame?.$case === 'enrolled') {
          keep(agent, frame.value, sessionKey);
          resolve();
        } else refused();
      });
      connection.say({ $case: 'hello', value: hello(agent) });
    });
  } finally {
    socket.destroy();
  }
}

async function enrollByGrpc(agent: LightAgent, port: number): Promise<void> {
  const socket = await openTls({ port, protocol: 'h2' });
  const binding = Buffer.alloc(exporterBytes);
  try {
    await new Promise<void>((resolve, reject) => {
      const refused = (): void => reject(new Error('the server ended an enrollment early'));
      socket.once('close', refused);
      const sessionKey = makeSessionKey();
      const first = NodeFrame.encode({ frame: { $case: 'hello', value: hello(agent) } }).finish();
      const stream = openGrpcStream(socket, paths.enroll, first, {
        message(bytes) {
          const frame = decodeFrame(bytes);
          if (frame?.$case === 'challenge') {
            const value = makeProof(agent, binding, frame.value, sessionKey);
            stream.write(NodeFrame.encode({ frame: { $case: 'proof', value } }).finish());
          } else if (frame?.$case === 'enrolled') {
            keep(agent, frame.value, sessionKey);
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

function hello(agent: LightAgent): Hello {
  return {
    protocolVersions: [1],
    tenant: defaultTenant,
    publicKey: agent.spki,
    bindingType: 'tls-exporter',
    agentVersion: 'bench',
    nodeClockMs: BigInt(Date.now()),
    trustDomain: '',
  };
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

function keep(
  agent: LightAgent,
  { certificateChain: [certificate], generation }: Enrolled,
  session: SessionKey,
): void {
  if (!certificate) throw new Error('no certificate was issued');
  agent.generation = generation;
  agent.context = undefined;
  agent.issued = { certificate, key: session.key };
}
