/** Messages over the wire before the sender is authenticated: protobuf messages, and the status of a call. */
import { logVerbosity, Metadata, setLogVerbosity } from '@grpc/grpc-js';
import fc from 'fast-check';
import { errorCodes, RollcallError } from '../../../src/base/errors.js';
import {
  ChangeServiceRequest,
  ChangeUserRequest,
  ListAuditEventsRequest,
  RotateKeysRequest,
} from '../../../src/protocol/generated/rollcall/v1/administration.js';
import {
  GetNodeRequest,
  ListNodeHistoryRequest,
  ListNodesRequest,
  NodeStatus,
  RegisterNodeRequest,
  RevokeNodeRequest,
  WatchNodesRequest,
} from '../../../src/protocol/generated/rollcall/v1/control.js';
import { LinkFrame, NodeFrame, type LinkError } from '../../../src/protocol/generated/rollcall/v1/link.js';
import {
  ListRunsRequest,
  ReadRunLogRequest,
  RunStatus,
  StartRunRequest,
} from '../../../src/protocol/generated/rollcall/v1/runs.js';
import { fromGrpcStatus, hasStatedCode, statusTable, toGrpcStatus } from '../../../src/protocol/status.js';
import { changeBytes, pick, steps } from '../bytes.js';
import { demand, type Target } from '../fuzzing.js';
import { fixedKey } from './keys.js';

interface Message<T> {
  encode(value: T): { finish(): Uint8Array };
  decode(bytes: Uint8Array): T;
}

/** A message with samples of it; what is decoded stays the same when it is encoded and decoded once more. */
interface Kind {
  readonly samples: readonly Buffer[];
  /** The bytes of what is in these bytes. */
  recode(bytes: Uint8Array): Buffer;
}

function kind<T>(message: Message<T>, ...samples: readonly T[]): Kind {
  const encode = (value: T) => Buffer.from(message.encode(value).finish());
  return { samples: samples.map(encode), recode: bytes => encode(message.decode(bytes)) };
}

const { spki } = fixedKey('P-256').publicKey;
const bytes = Buffer.alloc(70, 7);
const page = { pageSize: 1000, pageToken: 'MTIuMDEyMw' };

const nodeFrames = kind<NodeFrame>(
  NodeFrame,
  {
    frame: {
      $case: 'hello',
      value: {
        protocolVersions: [1, 2, 4_000_000_000],
        tenant: 'default',
        publicKey: spki,
        bindingType: 'tls-exporter',
        agentVersion: 'é 1.0',
        nodeClockMs: -1n,
        trustDomain: 'fleet.example.org',
      },
    },
  },
  {
    frame: {
      $case: 'proof',
      value: {
        signature: bytes,
        sessionPublicKey: spki,
        sessionSignature: bytes,
        generation: (1n << 64n) - 1n,
      },
    },
  },
  { frame: { $case: 'leave', value: {} } },
  { frame: { $case: 'openObjects', value: { protocolVersion: 1 } } },
  {
    frame: {
      $case: 'readObject',
      value: { transfer: 1, run: 1n, digest: bytes, fromChunk: 4_294_967_295, pieces: 8 },
    },
  },
  { frame: { $case: 'writeObject', value: { transfer: 2, run: 1n, manifest: bytes } } },
  { frame: { $case: 'piece', value: { transfer: 2, chunk: 1, bytes } } },
  { frame: { $case: 'takePieces', value: { transfer: 1, pieces: 4 } } },
  { frame: { $case: 'endTransfer', value: { transfer: 1 } } },
  {
    frame: {
      $case: 'ready',
      value: { protocolVersion: 1, agentVersion: 'test', nodeClockMs: 1_924_988_400_000n, runs: [1n] },
    },
  },
  { frame: { $case: 'pong', value: { sequence: (1n << 64n) - 1n } } },
  {
    frame: {
      $case: 'reply',
      value: {
        run: 1n,
        message: 2n,
        outcome: { $case: 'body', value: { body: { $case: 'content', value: bytes } } },
      },
    },
  },
  {
    frame: {
      $case: 'reply',
      value: {
        run: 1n,
        message: (1n << 64n) - 1n,
        outcome: { $case: 'error', value: { code: 'HANDLER_THREW', message: 'é' } },
      },
    },
  },
  { frame: { $case: 'progress', value: { run: 1n, message: 2n, fraction: NaN, note: 'half' } } },
  {
    frame: {
      $case: 'log',
      value: {
        run: 1n,
        sequence: 1n,
        lines: [
          { atMs: -1n, level: 'info', text: 'a' },
          { atMs: 0n, level: '', text: '' },
        ],
      },
    },
  },
);

const linkError: LinkError = {
  code: 'NODE_REVOKED',
  message: 'é',
  hint: 'x',
  isFinal: true,
  retryAfterMs: 7,
};

const linkFrames = kind<LinkFrame>(
  LinkFrame,
  {
    frame: {
      $case: 'challenge',
      value: { protocolVersion: 1, nonce: bytes, trustDomain: 'a.b', linkClockMs: 1n, deadlineMs: 10_000 },
    },
  },
  {
    frame: {
      $case: 'enrolled',
      value: {
        nodeId: 16019329408659850374n,
        certificateChain: [bytes, spki],
        trustBundle: { serverRoots: [bytes] },
        renewAfterMs: 1n,
        generation: 1n,
        linkAddresses: ['a:1'],
      },
    },
  },
  { frame: { $case: 'error', value: linkError } },
  { frame: { $case: 'enrollmentRefused', value: linkError } },
  { frame: { $case: 'objectsOpen', value: { protocolVersion: 1 } } },
  { frame: { $case: 'manifest', value: { transfer: 1, manifest: bytes } } },
  { frame: { $case: 'missingChunks', value: { transfer: 2, chunks: [0, 7], pieces: 8 } } },
  { frame: { $case: 'stored', value: { transfer: 2 } } },
  { frame: { $case: 'transferError', value: { transfer: 1, error: linkError } } },
  {
    frame: {
      $case: 'welcome',
      value: {
        nodeId: 1n,
        sessionId: 2n,
        silenceMs: 30_000,
        linkClockMs: 3n,
        expiresAtMs: 4n,
        protocolVersion: 1,
      },
    },
  },
  { frame: { $case: 'ping', value: { sequence: 1n } } },
  { frame: { $case: 'trustBundle', value: { serverRoots: [bytes] } } },
  { frame: { $case: 'drain', value: { reason: 'restart', reconnectAfterMs: 1 } } },
  {
    frame: {
      $case: 'assign',
      value: {
        ...{
          run: 1n,
          appName: 'digits',
          appVersion: '1.0.0',
          appDigest: bytes,
          signer: spki,
          signature: bytes,
        },
        ...{ archive: { digest: bytes, sizeBytes: 70_000n }, configJson: '{"rounds":3}' },
      },
    },
  },
  {
    frame: {
      $case: 'deliver',
      value: {
        ...{ run: 1n, message: 2n, type: 'train', group: '', attempt: 1, ttlMs: 5_000n, createdAtMs: 1n },
        body: { body: { $case: 'object', value: { digest: bytes, sizeBytes: (1n << 64n) - 1n } } },
      },
    },
  },
  { frame: { $case: 'cancel', value: { run: 1n, message: 0n } } },
  { frame: { $case: 'acknowledge', value: { run: 1n, message: 2n } } },
  { frame: { $case: 'logTaken', value: { run: 1n, sequence: 2n } } },
);

/** In the order of `controlMethods` of the target that sends them. */
export const controlRequests: readonly Kind[] = [
  kind<RegisterNodeRequest>(RegisterNodeRequest, {
    publicKey: spki,
    name: 'node-1',
    labels: { site: 'é', ['__proto__']: 'x', constructor: 'y' },
    again: true,
  }),
  kind<GetNodeRequest>(GetNodeRequest, { node: '16019329408659850374' }),
  kind<ListNodesRequest>(ListNodesRequest, {
    statuses: [NodeStatus.NODE_STATUS_ONLINE, NodeStatus.NODE_STATUS_OFFLINE],
    labels: { site: 'b' },
    text: 'x',
    ...page,
  }),
  kind<ListNodeHistoryRequest>(ListNodeHistoryRequest, { node: 'node-1', ...page }),
  kind<RevokeNodeRequest>(RevokeNodeRequest, { node: 'node-1', comment: 'lost' }),
  kind<WatchNodesRequest>(WatchNodesRequest, { snapshot: true }),
];

/** Messages with other fields than strings. */
const administrationRequests: readonly Kind[] = [
  kind<ChangeUserRequest>(ChangeUserRequest, {
    ...{ user: 'ann', roles: { texts: ['viewer', ''] }, enabled: false, endSessions: true },
    ...{ password: 'é', removeSecondFactor: true },
  }),
  kind<ChangeServiceRequest>(ChangeServiceRequest, {
    service: 'trainer',
    settings: { enabled: true, scopes: { texts: [] }, tokenLifetimeMs: (1n << 64n) - 1n },
    endTokens: true,
  }),
  kind<RotateKeysRequest>(RotateKeysRequest, { audience: '', dropOld: true, now: false }),
  kind<ListAuditEventsRequest>(ListAuditEventsRequest, {
    ...{ limit: 4_294_967_295, from: (1n << 64n) - 1n, sinceMs: -1n, untilMs: 0n, newestFirst: true },
    ...{ typePrefix: 'node.', subject: 'x', by: 'é' },
  }),
];

const runRequests: readonly Kind[] = [
  kind<StartRunRequest>(
    StartRunRequest,
    {
      part: {
        $case: 'run',
        value: {
          ...{ appName: 'digits', appVersion: '1.0.0', appDigest: bytes, signer: spki, signature: bytes },
          ...{ archiveBytes: 70_000n, configJson: '{"rounds":3}', idempotencyKey: 'x-1' },
        },
      },
    },
    { part: { $case: 'archive', value: bytes } },
  ),
  kind<ListRunsRequest>(ListRunsRequest, { statuses: [RunStatus.RUN_STATUS_RUNNING], ...page }),
  kind<ReadRunLogRequest>(ReadRunLogRequest, { run: (1n << 64n) - 1n, after: 5n, follow: true, limit: 7 }),
];

/** The kind is chosen by the first byte, the message follows. */
function decoding(name: string, kinds: readonly Kind[]): Target {
  const pool = kinds.flatMap(({ samples }) => samples);
  const choices = kinds.flatMap(({ samples }, index) => samples.map(sample => ({ index, sample })));
  return {
    name,
    inputs: fc.tuple(fc.noBias(fc.nat()), steps).map(([number, list]) => {
      const { index, sample } = pick(choices, number);
      return Buffer.concat([Buffer.of(index), changeBytes(sample, list, pool)]);
    }),
    reaches: ['decoded', 'refused'],
    check(input) {
      // eslint-disable-next-line @typescript-eslint/unbound-method
      const { recode } = pick(kinds, input[0] ?? 0);
      const message = input.subarray(1);
      let once: Buffer;
      try {
        once = recode(message);
      } catch (error) {
        // The gRPC library answers every Error, and nothing else.
        demand(error instanceof Error, 'what is thrown is an Error');
        return 'refused';
      }
      demand(recode(once).equals(once), 'what was understood is said the same way again');
      // Invalid UTF-8 grows to three bytes each.
      demand(once.length <= 3 * message.length, 'no more comes out than went in');
      return 'decoded';
    },
  };
}

// The status of a call, as JSON.

const words = [
  ...['', 'x', '\0', '\n', '\u001b[2J', 'é', '😀', '\ud800', '\udc00x', '%', '%E0%A4%A', 'a'.repeat(1023)],
  ...['x'.repeat(5000), '😀'.repeat(600), ...errorCodes.slice(0, 5), 'INTERNAL', '__proto__', 'constructor'],
];
const someText = fc.array(fc.constantFrom(...words), { maxLength: 3 }).map(list => list.join(''));

const stated: Target = {
  name: 'toGrpcStatus',
  inputs: fc
    .record({
      code: fc.constantFrom(...errorCodes),
      message: someText,
      hint: fc.option(someText, { nil: undefined }),
    })
    .map(error => Buffer.from(JSON.stringify(error))),
  reaches: ['said'],
  check(input) {
    const { code, message, hint } = JSON.parse(input.toString()) as Pick<
      RollcallError,
      'code' | 'message' | 'hint'
    >;
    const status = toGrpcStatus(new RollcallError(code, message, { hint, cause: new Error('private') }));
    // As the library writes them into headers; it throws outside of any catch when they do not fit.
    const headers = { 'grpc-message': encodeURI(status.details), ...status.metadata.toHttp2Headers() };
    const said = JSON.stringify(headers);
    demand(/^[\x20-\x7e]*$/.test(said) && said.length < 12_000, 'headers that can be sent');
    demand(!said.includes('private'), 'causes never travel');
    demand(status.code === statusTable[code].grpc, 'the status of the table');
    const heard = fromGrpcStatus(status);
    demand(
      heard.code === code && (heard.hint === undefined) === (hint === undefined),
      'what was said is heard',
    );
    return 'said';
  },
};

// It would log every ignored header.
setLogVerbosity(logVerbosity.NONE);

const someHeaders = fc.dictionary(
  fc.constantFrom('rollcall-code', 'rollcall-hint', 'rollcall-code-bin', 'grpc-status', 'x'),
  fc.oneof(someText, fc.array(someText, { maxLength: 2 })),
);

const heard: Target = {
  name: 'fromGrpcStatus',
  inputs: fc
    .record(
      {
        code: fc.oneof(fc.integer({ min: -1, max: 20 }), fc.constantFrom(null, 'OK', 1.5)),
        details: someText,
        message: someText,
        headers: someHeaders,
      },
      { requiredKeys: [] },
    )
    .map(status => Buffer.from(JSON.stringify(status))),
  reaches: ['a stated code', 'judged by the status'],
  check(input) {
    const { headers, ...status } = JSON.parse(input.toString()) as {
      readonly headers?: Record<string, string | string[]>;
    };
    const metadata = headers && Metadata.fromHttp2Headers(headers);
    const said = { ...status, ...(metadata && { metadata }) };
    const error = fromGrpcStatus(said);
    demand(errorCodes.includes(error.code), 'a code of the closed set');
    demand(typeof error.message === 'string', 'a message');
    demand(error.hint === undefined || typeof error.hint === 'string', 'a hint or none');
    // An error that one link received may be sent on by another.
    encodeURI(toGrpcStatus(error).details);
    toGrpcStatus(error).metadata.toHttp2Headers();
    return hasStatedCode(said) && metadata?.get('rollcall-code')[0] === error.code
      ? 'a stated code'
      : 'judged by the status';
  },
};

export const messageTargets = [
  decoding('NodeFrame.decode', [nodeFrames]),
  decoding('Control requests, decode', controlRequests),
  decoding('Administration requests, decode', administrationRequests),
  decoding('Runs requests, decode', runRequests),
  decoding('LinkFrame.decode', [linkFrames]),
  stated,
  heard,
];
