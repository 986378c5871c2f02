/**
 * Requests that are well formed and mean anything at all, through the control port of a real link: every answer is one
 * an operator can act on, and the link lives on.
 *
 * An input is the method as one byte and its message. What only a running link knows stands as a placeholder in text:
 * `#3` is the id of the third node, and a page token `#5` is the one that goes on after 5.
 */
import type { Metadata } from '@grpc/grpc-js';
import fc from 'fast-check';
import { errorCodes, type ErrorCode } from '../../../src/base/errors.js';
import { makePageToken } from '../../../src/link/registry/page-token.js';
import {
  ControlService,
  GetNodeRequest,
  ListNodeHistoryRequest,
  ListNodesRequest,
  ListNodesResponse,
  Node,
  RegisterNodeRequest,
  RevokeNodeRequest,
  WatchNodesRequest,
} from '../../../src/protocol/generated/rollcall/v1/control.js';
import { fromGrpcStatus, hasStatedCode } from '../../../src/protocol/status.js';
import type { ControlCalls } from '../../harness/control-calls.js';
import { changeBytes, pick, steps } from '../bytes.js';
import { checkWords, demand, type Target } from '../fuzzing.js';
import { fixedKey } from './keys.js';

const methods = [
  'registerNode',
  'getNode',
  'listNodes',
  'listNodeHistory',
  'revokeNode',
  'watchNodes',
] as const;
type Method = (typeof methods)[number];

const pool = Array.from({ length: 24 }, (_, index) =>
  fixedKey(index % 4 === 0 ? 'P-384' : 'P-256', `fuzz ${index}`),
);
const keys = pool.map(({ publicKey }) => publicKey.spki);
const fingerprints = pool.map(({ publicKey }) => publicKey.fingerprint);

// Texts people and programs might send.

const words = [
  ...['', 'node-1', 'node-2', 'a', 'x'.repeat(64), 'x'.repeat(65), '42', '007', '0', '-1', 'site', 'rack/1'],
  ...[
    '#0',
    '#1',
    '#2',
    '#3',
    '#17',
    '18446744073709551616',
    '99999999999999999999',
    'SHA256:',
    'SHA256:/../',
  ],
  ...[
    '\0',
    '\n',
    '\u001b[2J',
    '\u202e',
    '\ufeff',
    '\ufffd',
    'é',
    '😀',
    '😀'.repeat(50),
    'ß'.repeat(100),
    '\ud800',
  ],
  ...[
    '../',
    '%2f',
    '/',
    '\\',
    '"',
    '${x}',
    '__proto__',
    'constructor',
    'null',
    ' ',
    'x'.repeat(5000),
    '=',
    '&',
  ],
];
const text = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...words, ...fingerprints) },
  { weight: 1, arbitrary: fc.array(fc.constantFrom(...words), { maxLength: 4 }).map(list => list.join('')) },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 90 }) },
);
const nodeText = fc.oneof(fc.constantFrom('#0', '#1', '#2', '#3', '#17', 'node-1', ...fingerprints), text);
const name = fc.oneof(
  fc.constant(''),
  fc.nat(40).map(number => `node-${number}`),
  text,
);
const labels = fc.oneof(
  { weight: 2, arbitrary: fc.constant<Record<string, string>>({}) },
  {
    weight: 1,
    arbitrary: fc.dictionary(fc.constantFrom('site', 'rack/1', 'a'), fc.constantFrom('é', '😀', ''), {
      maxKeys: 2,
    }),
  },
  { weight: 1, arbitrary: fc.dictionary(text, text, { maxKeys: 3 }) },
);
const status = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 1, max: 6 }) },
  { weight: 1, arbitrary: fc.constantFrom(0, 7, -1, 2_147_483_647) },
);
const count = fc.constantFrom(0, 0, 1, 2, 100, 1000, 1001, 4_294_967_295);
const token = fc.oneof(
  { weight: 3, arbitrary: fc.constant('') },
  {
    weight: 2,
    arbitrary: fc.constantFrom(
      '#0',
      '#1',
      '#5',
      '#18446744073709551616',
      '#99999999999999999999',
      '#9999999999',
    ),
  },
  { weight: 1, arbitrary: text },
);
const publicKey = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...keys) },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.nat(), steps).map(([number, list]) => changeBytes(pick(keys, number), list, keys)),
  },
);

const finish = (writer: { finish(): Uint8Array }) => writer.finish();
const requests: Readonly<Record<Method, fc.Arbitrary<Uint8Array>>> = {
  registerNode: fc
    .record({ publicKey, name, labels, again: fc.boolean() })
    .map(request => finish(RegisterNodeRequest.encode(request))),
  getNode: nodeText.map(node => finish(GetNodeRequest.encode({ node }))),
  listNodes: fc
    .record({
      statuses: fc.array(status, { maxLength: 3 }),
      labels,
      text: fc.oneof(fc.constant(''), text),
      pageSize: count,
      pageToken: token,
    })
    // eslint-disable-next-line @typescript-eslint/no-unsafe-enum-assignment
    .map(request => finish(ListNodesRequest.encode(request))),
  listNodeHistory: fc
    .record({ node: nodeText, pageSize: count, pageToken: token })
    .map(request => finish(ListNodeHistoryRequest.encode(request))),
  revokeNode: fc
    .record({ node: nodeText, comment: text })
    .map(request => finish(RevokeNodeRequest.encode(request))),
  watchNodes: fc.boolean().map(snapshot => finish(WatchNodesRequest.encode({ snapshot }))),
};

const inputs = fc.oneof(
  ...methods.map((method, index) => ({
    weight: method === 'watchNodes' || method === 'revokeNode' ? 1 : 4,
    arbitrary: requests[method].map(message => Buffer.concat([Buffer.of(index), message])),
  })),
);

/** Allowed errors for an operator, by method. */
const refusals: Readonly<Record<Method, readonly ErrorCode[]>> = {
  registerNode: ['REQUEST_INVALID', 'KEY_UNSUPPORTED', 'NODE_ALREADY_REGISTERED', 'NODE_NAME_TAKEN'],
  // A prefix of several ids is not a request for one node.
  getNode: ['NODE_NOT_FOUND', 'REQUEST_INVALID'],
  listNodes: ['REQUEST_INVALID'],
  listNodeHistory: ['NODE_NOT_FOUND', 'REQUEST_INVALID'],
  revokeNode: ['NODE_NOT_FOUND'],
  watchNodes: [],
};

type Refusal = Parameters<typeof fromGrpcStatus>[0];

/** A control port under test, and what became known of it. */
class Asker {
  readonly #ids: bigint[] = [];
  readonly #calls: ControlCalls;

  constructor(calls: ControlCalls) {
    this.#calls = calls;
  }

  async ask(input: Buffer): Promise<string> {
    const method = pick(methods, input[0] ?? 0);
    const message = this.#fillIn(method, input.subarray(1));
    const refusal = await (method === 'watchNodes' ? this.#watch(message) : this.#unary(method, message));
    if (!refusal) return `${method} answered`;
    demand(hasStatedCode(refusal), `a stated code, not ${refusal.details ?? ''}`);
    const { code, message: words, hint = '' } = fromGrpcStatus(refusal);
    demand(errorCodes.includes(code) && refusals[method].includes(code), `${method} may not say ${code}`);
    checkWords(words);
    checkWords(hint);
    return code;
  }

  #nodeOf(node: string): string {
    const match = /^#(\d+)$/.exec(node);
    return match ? `${this.#ids[Number(match[1])] ?? 1n}` : node;
  }

  #tokenOf(asked: readonly unknown[], pageToken: string): string {
    const match = /^#(\d{1,20})$/.exec(pageToken);
    return match ? makePageToken(asked, BigInt(match[1] ?? 0)) : pageToken;
  }

  #fillIn(method: Method, message: Buffer): Uint8Array {
    if (method === 'getNode') {
      return finish(GetNodeRequest.encode({ node: this.#nodeOf(GetNodeRequest.decode(message).node) }));
    }
    if (method === 'revokeNode') {
      const request = RevokeNodeRequest.decode(message);
      return finish(RevokeNodeRequest.encode({ ...request, node: this.#nodeOf(request.node) }));
    }
    if (method === 'listNodes') {
      const request = ListNodesRequest.decode(message);
      const asked = ['nodes', 'default', [], [], ''];
      const pageToken = this.#tokenOf(asked, request.pageToken);
      return finish(ListNodesRequest.encode({ ...request, pageToken }));
    }
    if (method === 'listNodeHistory') {
      const request = ListNodeHistoryRequest.decode(message);
      const node = this.#nodeOf(request.node);
      const pageToken = this.#tokenOf(['history', 'default', node], request.pageToken);
      return finish(ListNodeHistoryRequest.encode({ ...request, node, pageToken }));
    }
    return message;
  }

  #unary(method: Exclude<Method, 'watchNodes'>, message: Uint8Array): Promise<Refusal | undefined> {
    const { client, metadata } = this.#calls;
    return new Promise(resolve => {
      client.makeUnaryRequest(
        ControlService[method].path,
        (bytes: Uint8Array) => Buffer.from(bytes),
        (bytes: Buffer) => bytes,
        message,
        metadata,
        (error, answer) => {
          if (!error && answer) this.#hear(method, answer);
          resolve(error ?? undefined);
        },
      );
    });
  }

  #hear(method: Method, answer: Buffer): void {
    if (method === 'registerNode') this.#ids.push(Node.decode(answer).id);
    if (method !== 'listNodes') return;
    const { nodes } = ListNodesResponse.decode(answer);
    demand(nodes.length <= 1000, 'a page of bounded size');
  }

  /** Waits until the stream has started; then ends it. */
  #watch(message: Uint8Array): Promise<Refusal | undefined> {
    const { client, metadata } = this.#calls;
    const call = client.watchNodes(WatchNodesRequest.decode(message), metadata);
    return new Promise(resolve => {
      let isOn = false;
      call.on('data', () => undefined);
      call.on('metadata', (_: Metadata) => {
        isOn = true;
        call.cancel();
      });
      call.on('error', error => resolve(isOn ? undefined : error));
      call.on('end', () => resolve(undefined));
    });
  }
}

export function controlTarget(calls: ControlCalls): Target {
  const asker = new Asker(calls);
  return {
    name: 'control port',
    inputs,
    weight: 10,
    reaches: [
      ...methods.map(method => `${method} answered`),
      ...[
        'REQUEST_INVALID',
        'KEY_UNSUPPORTED',
        'NODE_NOT_FOUND',
        'NODE_ALREADY_REGISTERED',
        'NODE_NAME_TAKEN',
      ],
    ],
    check: input => asker.ask(input),
  };
}
