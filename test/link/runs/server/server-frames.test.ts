/** Decoding of frames from the runner of a server half, which executes untrusted code. */
import t from 'tap';
import fc from 'fast-check';
import type { Frame } from '../../../../src/app-host/wire/frames.js';
import { appLimits } from '../../../../src/app/limits.js';
import { isRollcallError } from '../../../../src/base/errors.js';
import {
  readContent,
  readNodesRequest,
  readSend,
  readCount,
  readText,
} from '../../../../src/link/runs/server/server-frames.js';
import { limits } from '../../../../src/protocol/limits.js';

const none = Buffer.alloc(0);
const frame = (value: object, body = none): Frame => ({ name: 'x', value: value as Frame['value'], body });
const digest = 'ab'.repeat(32);

function codeOf(read: () => unknown): string {
  try {
    read();
    return 'read';
  } catch (error) {
    return isRollcallError(error) ? error.code : `not ours: ${String(error)}`;
  }
}

void t.test('a message frame of a runner is read', t => {
  const sent = { number: 1, node: '16019329408659850374', type: 'train', group: '3', ttlMs: 5_000 };
  t.same(readSend(frame(sent, Buffer.from('content'))), {
    ...sent,
    node: 16019329408659850374n,
    nodeText: sent.node,
    content: { bytes: Buffer.from('content') },
  });
  const object = { digest, sizeBytes: 70_000 };
  t.same(readSend(frame({ number: 2, object })), {
    ...{ number: 2, node: undefined, nodeText: '', type: '', group: '', ttlMs: appLimits.defaultTtlMs },
    content: { object },
  });
  t.end();
});

void t.test('a message to an invalid node id is read with its node undefined', t => {
  for (const node of ['', '0', '-1', '007', '18446744073709551616', 'node-1', '１'])
    t.equal(readSend(frame({ number: 1, node })).node, undefined, node);
  t.end();
});

void t.test('times in frames are clamped to their bounds', t => {
  const ttlOf = (ttlMs: number): number => readSend(frame({ number: 1, ttlMs })).ttlMs;
  t.same([-5, 0, 0.4, 1.6, 1e300].map(ttlOf), [
    appLimits.minTtlMs,
    appLimits.minTtlMs,
    appLimits.minTtlMs,
    2,
    appLimits.maxTtlMs,
  ]);
  const waitOf = (timeoutMs: unknown): number =>
    readNodesRequest(frame({ request: 1, timeoutMs })).criteria.timeoutMs;
  t.same([0, 5, undefined, null, -1, 'x', {}].map(waitOf), [0, 5, ...Array<number>(5).fill(Infinity)]);
  const minOf = (min: unknown): number => readNodesRequest(frame({ request: 1, min })).criteria.min;
  t.same([undefined, 0, -3, 2.4, 1e300].map(minOf), [1, 0, 0, 2, 1e300]);
  t.end();
});

void t.test('invalid frames of a server half are refused', t => {
  const sends: readonly object[] = [
    {},
    ...[0, -1, 1.5, '1', null, true, 2 ** 53, NaN].map(number => ({ number })),
    ...[5, {}, [], 'x'.repeat(201)].map(node => ({ number: 1, node })),
    ...[5, {}, 'x'.repeat(201)].map(type => ({ number: 1, type })),
    ...[5, {}, 'x'.repeat(201)].map(group => ({ number: 1, group })),
    ...['5', {}, Infinity, NaN].map(ttlMs => ({ number: 1, ttlMs })),
    ...[null, 5, 'x', [], {}, { digest }, { sizeBytes: 5 }].map(object => ({ number: 1, object })),
    ...[digest.toUpperCase(), digest.slice(1), `${digest}0`, '../../../x', 5].map(each => ({
      number: 1,
      object: { digest: each, sizeBytes: 5 },
    })),
    ...[0, -1, 1.5, '5', 2 ** 53].map(sizeBytes => ({ number: 1, object: { digest, sizeBytes } })),
  ];
  for (const value of sends)
    t.equal(
      codeOf(() => readSend(frame(value))),
      'PROTOCOL_INVALID',
      JSON.stringify(value),
    );

  const large = Buffer.alloc(limits.contentBytes + 1);
  t.equal(
    codeOf(() => readSend(frame({ number: 1 }, large))),
    'PROTOCOL_INVALID',
    'a content that is an object',
  );
  t.same(readContent({}, large.subarray(1)), { bytes: large.subarray(1) });

  const labels = Object.fromEntries(Array.from({ length: 101 }, (_, index) => [`l${index}`, '']));
  for (const value of [
    {},
    { request: 0 },
    { request: 1, labels },
    { request: 1, labels: { site: 5 } },
    { request: 1, labels: [] },
    { request: 1, labels: 'x' },
    { request: 1, min: 'x' },
    { request: 1, min: Infinity },
  ])
    t.equal(
      codeOf(() => readNodesRequest(frame(value))),
      'PROTOCOL_INVALID',
      JSON.stringify(value).slice(0, 60),
    );
  t.equal(
    codeOf(() => readCount({ sequence: 0 }, 'sequence')),
    'PROTOCOL_INVALID',
  );
  t.equal(
    codeOf(() => readText({ level: 'x'.repeat(21) }, 'level', 20)),
    'PROTOCOL_INVALID',
  );
  t.end();
});

void t.test('every frame is either read within its bounds or refused with PROTOCOL_INVALID', t => {
  const names = [
    'number',
    'node',
    'type',
    'group',
    'ttlMs',
    'object',
    'request',
    'min',
    'labels',
    'timeoutMs',
  ];
  const someValue = fc.oneof(
    fc.constantFrom<unknown>(1, 5, '5', digest, { digest, sizeBytes: 70_000 }, {}, 'x'),
    fc.jsonValue({ maxDepth: 2 }),
  );
  const some = fc.dictionary(fc.constantFrom(...names, '__proto__', 'x'), someValue, {
    noNullPrototype: true,
  });
  const value = fc
    .tuple(fc.boolean(), some)
    .map(([isCounted, fields]) => ({ ...(isCounted && { number: 1, request: 1 }), ...fields }));
  let read = 0;
  fc.assert(
    fc.property(value, fc.boolean(), (fields, isLong) => {
      const said = frame(fields, isLong ? Buffer.alloc(70_000) : none);
      for (const reader of [readSend, readNodesRequest]) {
        const code = codeOf(() => reader(said));
        if (code === 'read') read += 1;
        else if (code !== 'PROTOCOL_INVALID') throw new Error(code);
      }
    }),
    { numRuns: 2_000 },
  );
  t.ok(read > 200, `${read} were read`);
  t.end();
});
