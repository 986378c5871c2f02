/**
 * A bare grpc-js server: the same streams and calls as the link's, with the least work in them. It has no registry,
 * no store, no revocation, no audit, no caps and no deadlines. The cost of the link above it is that of the link
 * itself; the cost of this one is that of gRPC and TLS in Node.js.
 */
import { createPublicKey, randomBytes, verify } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Server, ServerCredentials, type ServerDuplexStream, type ServerWritableStream } from '@grpc/grpc-js';
import { curveNames, curves } from '../../src/identity/curve.js';
import { exporterBytes } from '../../src/identity/binding.js';
import { encodeTranscript } from '../../src/identity/transcript.js';
import {
  ControlService,
  NodeStatus,
  type ControlServer,
  type Node,
} from '../../src/protocol/generated/rollcall/v1/control.js';
import type {
  Challenge,
  Enrolled,
  Hello,
  Proof,
} from '../../src/protocol/generated/rollcall/v1/enrollment.js';
import { chunkBytes } from '../../src/objects/limits.js';
import { chunkLengthOf, digestOfChunk, makeManifest } from '../../src/objects/manifest.js';
import type { LinkFrame, NodeFrame } from '../../src/protocol/generated/rollcall/v1/link.js';
import { defaultTenant, limits } from '../../src/protocol/limits.js';
import { now } from '../usage.js';
import { trustDomain } from '../workplace.js';
import type { BareEvent, BarePlan } from './bare.js';
import { enrollService, nodeService } from './methods.js';
import { pushMethod } from './push.js';

const plan = JSON.parse(process.env['BENCH_BARE'] ?? '{}') as BarePlan;
const pingEveryMs = 9_000;

type LinkCall = ServerDuplexStream<NodeFrame, LinkFrame>;
type ReadCall = ServerWritableStream<NodeFrame, LinkFrame>;
const sessions = new Map<string, LinkCall>();
const tell = (event: BareEvent): void => void process.send?.(event);
const tellPresence = (event: 'online' | 'offline', id: string): void => {
  if (plan.tellsPresence) tell({ event, id, at: now() });
};

const link = {
  connect(call: LinkCall) {
    const id = call.getAuthContext().sslPeerCertificate?.subject.CN as string;
    call.on('data', (said: NodeFrame) => {
      const { frame } = said;
      if (frame?.$case === 'reply') sender?.write(said);
      if (frame?.$case !== 'ready') return;
      sessions.set(id, call);
      tellPresence('online', id);
      const times = {
        silenceMs: 30_000,
        linkClockMs: BigInt(Date.now()),
        expiresAtMs: 0n,
        protocolVersion: 1,
      };
      call.write({ frame: { $case: 'welcome', value: { nodeId: BigInt(id), sessionId: 1n, ...times } } });
    });
    call.on('error', () => undefined);
    call.on('end', () => call.end());
    call.on('cancelled', () => {
      if (sessions.get(id) === call) sessions.delete(id);
      tellPresence('offline', id);
    });
  },
};

/** The one that is connected. */
let sender: ServerDuplexStream<LinkFrame, NodeFrame> | undefined;

function push(call: ServerDuplexStream<LinkFrame, NodeFrame>): void {
  sender = call;
  call.on('error', () => undefined);
  call.on('end', () => call.end());
  call.on('data', (said: LinkFrame) => {
    if (said.frame?.$case === 'deliver') sessions.get(`${said.frame.value.run}`)?.write(said);
  });
}

const zeros = Buffer.alloc(chunkBytes);
const zeroDigests = new Map<number, string>();

function zeroDigest(lengthBytes: number): string {
  const known = zeroDigests.get(lengthBytes) ?? digestOfChunk(zeros.subarray(0, lengthBytes));
  zeroDigests.set(lengthBytes, known);
  return known;
}

/** Objects of zeros, of the size that the digest begins with, in the pieces that the link sends. */
const objects = {
  read(call: ReadCall) {
    call.on('error', () => undefined);
    const { frame } = call.request;
    if (frame?.$case === 'readObject') void sendObject(call, Number(frame.value.digest.readBigUInt64BE()));
  },
};

async function sendObject(call: ReadCall, sizeBytes: number): Promise<void> {
  const chunks = Array.from({ length: Math.ceil(sizeBytes / chunkBytes) }, (_, chunk) =>
    zeroDigest(Math.min(chunkBytes, sizeBytes - chunk * chunkBytes)),
  );
  const manifest = makeManifest(sizeBytes, chunks);
  const transfer = 1;
  call.write({ frame: { $case: 'manifest', value: { transfer, manifest: manifest.bytes } } });
  for (const chunk of chunks.keys()) {
    const lengthBytes = chunkLengthOf(manifest, chunk);
    for (let at = 0; at < lengthBytes; at += limits.pieceBytes) {
      const bytes = zeros.subarray(at, Math.min(at + limits.pieceBytes, lengthBytes));
      const isTaken = call.write({ frame: { $case: 'piece', value: { transfer, chunk, bytes } } });
      if (!isTaken) await once(call, 'drain');
    }
  }
  call.end();
}

if (plan.keepAliveMs === undefined && !plan.isQuiet) {
  let sequence = 0n;
  setInterval(() => {
    sequence += 1n;
    for (const call of sessions.values()) call.write({ frame: { $case: 'ping', value: { sequence } } });
  }, pingEveryMs);
}

const enrollment = {
  enroll(call: LinkCall) {
    let hello: Hello | undefined;
    const nonce = randomBytes(32);
    const times = { linkClockMs: BigInt(Date.now()), deadlineMs: 10_000 };
    const challenge: Challenge = { protocolVersion: 1, nonce, trustDomain, ...times };
    call.on('error', () => undefined);
    call.on('data', ({ frame }: NodeFrame) => {
      if (frame?.$case === 'hello') {
        hello = frame.value;
        call.write({ frame: { $case: 'challenge', value: challenge } });
      } else if (frame?.$case === 'proof' && hello && holds(hello, challenge, frame.value)) {
        call.write({ frame: { $case: 'enrolled', value: enrolled } });
        call.end();
      }
    });
  },
};

/** A certificate it did not issue. */
const enrolled: Enrolled = {
  nodeId: 1n,
  certificateChain: [readFileSync(plan.serverCertificateFile)],
  trustBundle: undefined,
  renewAfterMs: 1n,
  generation: 0n,
  linkAddresses: [],
};

/** Both signatures, which every server that requires a proof has to verify. */
function holds({ publicKey }: Hello, { nonce }: Challenge, proof: Proof): boolean {
  const check = (role: 'node' | 'session', spki: Buffer, signature: Buffer): boolean => {
    const curve = curveNames.find(
      each => spki.length === curves[each].spkiPrefix.length + 2 * curves[each].fieldBytes,
    );
    const signed = encodeTranscript({
      role,
      trustDomain,
      tenant: defaultTenant,
      bindingType: 'tls-exporter',
      binding: Buffer.alloc(exporterBytes),
      nonce,
      nodeKey: publicKey,
      sessionKey: proof.sessionPublicKey,
      generation: proof.generation,
    });
    const key = createPublicKey({ key: spki, format: 'der', type: 'spki' });
    return verify(curves[curve ?? 'P-256'].hash, signed, key, signature);
  };
  return (
    check('node', publicKey, proof.signature) &&
    check('session', proof.sessionPublicKey, proof.sessionSignature)
  );
}

const nodes: Node[] = Array.from({ length: 100 }, (_, index) => ({
  id: 2n ** 63n + BigInt(index),
  tenant: defaultTenant,
  name: `node-${index}`,
  owner: '',
  labels: { site: 'bench' },
  publicKey: randomBytes(91),
  fingerprint: `SHA256:${'a'.repeat(43)}`,
  status: NodeStatus.NODE_STATUS_CREATED,
  sinceMs: 1_800_000_000_000n,
  reason: 'registered',
  registeredAtMs: 1_800_000_000_000n,
  address: '',
  agentVersion: '',
  certificateExpiresAtMs: 0n,
}));

/** The calls that are compared; a bare server has no others. */
const control: Pick<ControlServer, 'listNodes' | 'getNode' | 'revokeNode'> = {
  listNodes: (_call, callback) => callback(null, { nodes, nextPageToken: '' }),
  getNode: (_call, callback) => callback(null, nodes[0]),
  revokeNode({ request }, callback) {
    const call = sessions.get(request.node);
    call?.emit('error', { code: 7, details: 'revoked' });
    callback(null, { node: nodes[0], sessionsEnded: call ? 1 : 0, closedAfterUs: 0n, alreadyRevoked: false });
  },
};

function pairs() {
  return [
    { cert_chain: readFileSync(plan.serverCertificateFile), private_key: readFileSync(plan.serverKeyFile) },
  ];
}

function listen(server: Server, credentials: ServerCredentials, address = '127.0.0.1:0'): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(address, credentials, (error, port) => {
      if (error) reject(error);
      else resolve(port);
    });
  });
}

const keepAlive =
  plan.keepAliveMs === undefined
    ? {}
    : {
        'grpc.keepalive_time_ms': plan.keepAliveMs,
        'grpc.keepalive_timeout_ms': plan.keepAliveTimeoutMs ?? 0,
      };
const nodeServer = new Server(keepAlive);
nodeServer.addService(nodeService, { ...link, ...objects });
const pushServer = new Server();
pushServer.addService({ push: pushMethod }, { push });
const openServer = new Server();
openServer.addService(enrollService, enrollment);
openServer.addService(ControlService, { ...control });
const mutual = ServerCredentials.createSsl(readFileSync(plan.authorityFile), pairs(), true);
const nodePort = await listen(nodeServer, mutual);
const openPort = await listen(openServer, ServerCredentials.createSsl(null, pairs(), false));
await listen(pushServer, ServerCredentials.createInsecure(), `unix:${plan.pushSocket}`);
tell({ event: 'listening', nodePort, openPort });
process.on('disconnect', () => process.exit());
