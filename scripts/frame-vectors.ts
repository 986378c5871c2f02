/** Makes docs/vectors/frames.json: `node --import=tsx scripts/frame-vectors.ts > docs/vectors/frames.json`. A test compares. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeLength } from '../src/protocol/frames.js';
import { LinkFrame, NodeFrame } from '../src/protocol/generated/rollcall/v1/link.js';
import { isMainModule } from './main-module.js';

type OfNode = NonNullable<NodeFrame['frame']>;
type OfLink = NonNullable<LinkFrame['frame']>;
type Step = { readonly node: OfNode } | { readonly link: OfLink };

interface ProofVectors {
  readonly keys: Readonly<Record<string, { readonly spki: string }>>;
  readonly cases: readonly {
    readonly name: string;
    readonly fields: Readonly<Record<string, string>>;
    readonly signature: string;
  }[];
}

const folder = join(import.meta.dirname, '../docs/vectors');
const proofs = JSON.parse(readFileSync(join(folder, 'proof.json'), 'utf8')) as ProofVectors;

function hex(text = ''): Buffer {
  return Buffer.from(text, 'hex');
}

function proofCase(role: string) {
  const found = proofs.cases.find(({ fields }) => fields['role'] === role);
  if (!found) throw new Error(`no proof of the ${role}`);
  return found;
}

const byNode = proofCase('node');
const bySession = proofCase('session');
const { fields } = byNode;
const clock = 1_924_988_400_000n;
const digest = Buffer.alloc(32, 0xd1);
const noContent = { $case: 'content' as const, value: Buffer.of(0) };

const hello: OfNode = {
  $case: 'hello',
  value: {
    protocolVersions: [1],
    tenant: fields['tenant'] ?? '',
    publicKey: hex(fields['nodeKey']),
    bindingType: fields['bindingType'] ?? '',
    agentVersion: 'vector',
    nodeClockMs: clock,
    trustDomain: '',
  },
};
const challenge: OfLink = {
  $case: 'challenge',
  value: {
    protocolVersion: 1,
    nonce: hex(fields['nonce']),
    trustDomain: fields['trustDomain'] ?? '',
    linkClockMs: clock,
    deadlineMs: 10_000,
  },
};
const proof: OfNode = {
  $case: 'proof',
  value: {
    signature: hex(byNode.signature),
    sessionPublicKey: hex(fields['sessionKey']),
    sessionSignature: hex(bySession.signature),
    generation: BigInt(fields['generation'] ?? 0),
  },
};
const refusal = {
  code: 'NODE_REVOKED',
  message: 'this node was revoked',
  hint: '',
  isFinal: true,
  retryAfterMs: 0,
};
const busy = { ...refusal, code: 'LINK_BUSY', message: 'too many enrollments at once', isFinal: false };

const ready: OfNode = {
  $case: 'ready',
  value: { protocolVersion: 1, agentVersion: 'vector', nodeClockMs: clock, runs: [] },
};
const welcome: OfLink = {
  $case: 'welcome',
  value: {
    nodeId: 16_019_329_408_659_850_374n,
    sessionId: 1n,
    silenceMs: 30_000,
    linkClockMs: clock,
    expiresAtMs: clock + 3_600_000n,
    protocolVersion: 1,
  },
};

const conversations: readonly { readonly name: string; readonly steps: readonly Step[] }[] = [
  { name: 'an enrollment up to the proof', steps: [{ node: hello }, { link: challenge }, { node: proof }] },
  {
    name: 'an enrollment that is refused',
    steps: [{ node: hello }, { link: { $case: 'error', value: busy } }],
  },
  {
    name: 'a session with a ping, ended by the node',
    steps: [
      { node: ready },
      { link: welcome },
      { link: { $case: 'ping', value: { sequence: 1n } } },
      { node: { $case: 'pong', value: { sequence: 1n } } },
      { node: { $case: 'leave', value: {} } },
    ],
  },
  {
    name: 'a session whose renewal is refused and whose node is then revoked',
    steps: [
      { node: ready },
      { link: welcome },
      { node: hello },
      { link: { $case: 'enrollmentRefused', value: busy } },
      { link: { $case: 'error', value: refusal } },
    ],
  },
  {
    name: 'a message that is answered with its content',
    steps: [
      {
        link: {
          $case: 'deliver',
          value: {
            ...{ run: 7n, message: 1n, type: 'query', group: '', attempt: 1, ttlMs: 3_600_000n },
            ...{ createdAtMs: clock, body: { body: noContent } },
          },
        },
      },
      {
        node: {
          $case: 'reply',
          value: { run: 7n, message: 1n, outcome: { $case: 'body', value: { body: noContent } } },
        },
      },
      { link: { $case: 'acknowledge', value: { run: 7n, message: 1n } } },
    ],
  },
  {
    name: 'an object of one chunk that is read',
    steps: [
      { node: { $case: 'openObjects', value: { protocolVersion: 1 } } },
      { link: { $case: 'objectsOpen', value: { protocolVersion: 1 } } },
      { node: { $case: 'readObject', value: { transfer: 1, run: 7n, digest, fromChunk: 0, pieces: 8 } } },
      { link: { $case: 'manifest', value: { transfer: 1, manifest: Buffer.alloc(40, 0xaa) } } },
      { link: { $case: 'piece', value: { transfer: 1, chunk: 0, bytes: Buffer.from('piece') } } },
      { node: { $case: 'endTransfer', value: { transfer: 1 } } },
    ],
  },
  {
    name: 'an object of two chunks of which one is written',
    steps: [
      { node: { $case: 'writeObject', value: { transfer: 2, run: 7n, manifest: Buffer.alloc(72, 0xbb) } } },
      { link: { $case: 'missingChunks', value: { transfer: 2, chunks: [1], pieces: 8 } } },
      { node: { $case: 'piece', value: { transfer: 2, chunk: 1, bytes: Buffer.from('piece') } } },
      { link: { $case: 'takePieces', value: { transfer: 2, pieces: 4 } } },
      { link: { $case: 'stored', value: { transfer: 2 } } },
    ],
  },
];

/** Bytes of a node that has said nothing yet, and the code of the error frame that ends the connection. */
const refused = {
  'a length above 16 KiB': [encodeLength(16 * 1024 + 1), 'PROTOCOL_INVALID'],
  'a message without a member': [framed(Buffer.alloc(0)), 'PROTOCOL_INVALID'],
  'bytes that are no message': [framed(Buffer.alloc(3, 0xff)), 'PROTOCOL_INVALID'],
  'a member that no version has': [framed(hex('7a0161')), 'PROTOCOL_INVALID'],
  'a proof before Hello': [framed(NodeFrame.encode({ frame: proof }).finish()), 'PROTOCOL_INVALID'],
  'a session without a certificate': [
    framed(NodeFrame.encode({ frame: ready }).finish()),
    'CERTIFICATE_REFUSED',
  ],
} as const;

function framed(message: Uint8Array): Buffer {
  return Buffer.concat([encodeLength(message.length), message]);
}

function encode(step: Step): Buffer {
  return framed(
    'node' in step
      ? NodeFrame.encode({ frame: step.node }).finish()
      : LinkFrame.encode({ frame: step.link }).finish(),
  );
}

/** Bytes as hex, 64-bit numbers as decimal strings, a member under its name. */
function plain(value: unknown): unknown {
  if (Buffer.isBuffer(value)) return value.toString('hex');
  if (typeof value === 'bigint') return value.toString();
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  if ('$case' in value && 'value' in value) return { [String(value.$case)]: plain(value.value) };
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, plain(each)]));
}

export function frameVectors(): string {
  const vectors = {
    description:
      'Conversations on the node port, frame by frame. "bytes" is the frame with its length; protobuf has other encodings of the same message, so compare what is decoded.',
    conversations: conversations.map(({ name, steps }) => ({
      name,
      steps: steps.map(step => ({
        from: 'node' in step ? 'node' : 'link',
        frame: plain('node' in step ? step.node : step.link),
        bytes: encode(step).toString('hex'),
      })),
    })),
    refused: Object.entries(refused).map(([name, [bytes, code]]) => ({
      name,
      bytes: bytes.toString('hex'),
      code,
    })),
  };
  return `${JSON.stringify(vectors, null, 2)}\n`;
}

if (isMainModule(import.meta.url)) process.stdout.write(frameVectors());
