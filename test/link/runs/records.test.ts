/** Records of runs in the store: they are read as they were written, or refused as damaged. */
import { deepStrictEqual } from 'node:assert/strict';
import t from 'tap';
import fc from 'fast-check';
import { messageErrors, type MessageErrorCode } from '../../../src/app/message-error.js';
import { isRollcallError } from '../../../src/base/errors.js';
import {
  decodeMessage,
  encodeAnswer,
  encodeQuestion,
  type Content,
} from '../../../src/link/runs/messages/message-record.js';
import {
  decodeLogEntry,
  decodeRunRecord,
  encodeLogEntry,
  encodeRunRecord,
  runOutcomeNames,
  runStatusNames,
  type RunRecord,
} from '../../../src/link/runs/run-record.js';
import { numberOfKey, runKey, runOrderKey, runOrderPrefix } from '../../../src/link/runs/run-keys.js';
import { listRuns } from '../../../src/link/runs/run-list.js';
import { removeOldRuns } from '../../../src/link/runs/run-list.js';
import { createMemoryStore } from '../../../src/store/memory.js';
import type { Change } from '../../../src/store/store.js';
import { pausingStore } from '../../harness/stores.js';
import { pendingRun } from './fixtures/records.js';

function plain<T>(model: { readonly [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record<T>(model, { noNullPrototype: true });
}

const count = fc.maxSafeNat();
const id = fc.bigInt({ min: 1n, max: (1n << 64n) - 1n });
const text = fc.string({ unit: 'binary', maxLength: 40 });
const digest = fc
  .uint8Array({ minLength: 32, maxLength: 32 })
  .map(bytes => Buffer.from(bytes).toString('hex'));
const bytes = fc.uint8Array({ maxLength: 500 }).map(each => Buffer.from(each));
const object = plain({ digest, sizeBytes: fc.integer({ min: 1, max: 2 ** 40 }) });
const content: fc.Arbitrary<Content> = fc.oneof(plain({ bytes }), plain({ object }));
const codes = Object.keys(messageErrors) as MessageErrorCode[];
const error = plain({ code: fc.constantFrom(...codes), message: text });
const question = plain({
  ...{ number: count, node: id, type: text, group: text },
  ...{ createdAt: count, expiresAt: count },
});

const run: fc.Arbitrary<RunRecord> = fc.record(
  {
    ...{ id, tenant: text, startedBy: text, reason: text, result: text, order: count },
    ...{ createdAt: count, startingAt: count, runningAt: count, finishedAt: count },
    status: fc.constantFrom(...runStatusNames),
    config: fc.dictionary(text, fc.oneof(text, fc.integer(), fc.boolean()), { noNullPrototype: true }),
    app: plain({
      ...{ name: text, version: text, digest, serverEntry: text, nodeEntry: text },
      ...{ signer: text, signerFingerprint: text, signature: text, archive: object },
    }),
    counts: plain({ nodes: count, sent: count, answered: count, failed: count, logLines: count }),
    outcome: fc.constantFrom(...runOutcomeNames),
    hostedBy: fc.constantFrom('process', 'subprocess'),
    tokenHash: digest,
  },
  {
    noNullPrototype: true,
    requiredKeys: [
      ...(['id', 'tenant', 'app', 'status', 'reason', 'startedBy', 'config', 'order', 'createdAt'] as const),
      ...(['startingAt', 'runningAt', 'finishedAt', 'counts', 'result'] as const),
    ],
  },
);

/** The value of bytes, or `damaged`; any other error fails the test. */
function orDamaged<T>(decode: () => T): T | 'damaged' {
  try {
    return decode();
  } catch (thrown) {
    if (isRollcallError(thrown, 'INTERNAL')) return 'damaged';
    throw thrown;
  }
}

const place = fc.noBias(fc.nat());

/** One byte is another, or the end is missing. */
function damage(whole: Buffer, at: number, by: number): Buffer {
  const copy = Buffer.from(whole);
  const index = at % whole.length;
  if (by % 256 === 0) return copy.subarray(0, index);
  copy[index] = (copy[index] ?? 0) ^ (by % 256);
  return copy;
}

void t.test('questions and answers are read as they were written', t => {
  fc.assert(
    fc.property(question, content, fc.oneof(content, plain({ error })), (asked, body, answer) => {
      deepStrictEqual(decodeMessage(encodeQuestion(asked, body)), { question: asked, content: body });
      const { number, node } = asked;
      deepStrictEqual(decodeMessage(encodeAnswer(asked, answer)), { question: { number, node }, answer });
    }),
    { numRuns: 200 },
  );
  t.pass('all of them');
  t.end();
});

void t.test('a damaged message is refused or decodes to a valid message', t => {
  fc.assert(
    fc.property(question, content, place, place, (asked, body, at, by) => {
      const found = orDamaged(() => decodeMessage(damage(encodeQuestion(asked, body), at, by)));
      if (found !== 'damaged') deepStrictEqual(typeof found.question.node, 'bigint');
    }),
    { numRuns: 300 },
  );
  for (const bad of ['', '\0\0\0\u0002{}', '\0\0\0\u0004null', '\u00ff\u00ff\u00ff\u00ff{}', '\0\0\0\0'])
    t.equal(
      orDamaged(() => decodeMessage(Buffer.from(bad, 'latin1'))),
      'damaged',
      JSON.stringify(bad),
    );
  t.end();
});

void t.test('records of runs are read as they were written', t => {
  fc.assert(
    fc.property(run, record => {
      deepStrictEqual(decodeRunRecord(encodeRunRecord(record)), record);
    }),
    { numRuns: 200 },
  );
  t.pass('all of them');
  t.end();
});

void t.test('a damaged record is refused or decodes to a record that encodes and decodes unchanged', t => {
  const whole = encodeRunRecord(pendingRun);
  fc.assert(
    fc.property(place, place, (at, by) => {
      const bytes = damage(whole, at, by);
      const found = orDamaged(() => decodeRunRecord(bytes));
      if (found !== 'damaged') deepStrictEqual(decodeRunRecord(encodeRunRecord(found)), found);
    }),
    { numRuns: 500 },
  );
  const changed = (change: object): Buffer =>
    Buffer.from(JSON.stringify({ ...(JSON.parse(whole.toString()) as object), ...change }));
  for (const bad of [
    Buffer.from('null'),
    Buffer.from('[]'),
    changed({ id: 5 }),
    changed({ id: '007' }),
    changed({ id: 'x' }),
    changed({ status: 'sleeping' }),
    changed({ app: null }),
    changed({ app: { archive: {} } }),
    ...Object.keys(pendingRun).map(name => changed({ [name]: undefined })),
    ...Object.keys(pendingRun.app).map(name => changed({ app: { ...pendingRun.app, [name]: undefined } })),
    ...Object.keys(pendingRun.counts).map(name => changed({ counts: { ...pendingRun.counts, [name]: '1' } })),
    changed({ outcome: 'lost' }),
    changed({ config: { rounds: null } }),
  ])
    t.equal(
      orDamaged(() => decodeRunRecord(bad)),
      'damaged',
      bad.toString().slice(0, 60),
    );
  t.end();
});

void t.test('lines of logs are read as they were written', t => {
  fc.assert(
    fc.property(plain({ number: count, at: count, node: id, level: text, text }), entry => {
      deepStrictEqual(decodeLogEntry(entry.number, encodeLogEntry(entry)), entry);
    }),
    { numRuns: 200 },
  );
  for (const bad of [
    '',
    'null',
    '{}',
    '{"node":"x"}',
    '{"node":"1"}',
    '{"at":1,"node":"01","level":"","text":""}',
  ])
    t.equal(
      orDamaged(() => decodeLogEntry(1, Buffer.from(bad))),
      'damaged',
      bad,
    );
  t.end();
});

void t.test('retention removes all old finished runs, also more than one batch', async t => {
  const store = createMemoryStore();
  const runs = Array.from({ length: 1_300 }, (_, index): RunRecord => {
    const status = index === 700 ? 'pending' : 'finished';
    return { ...pendingRun, id: BigInt(index + 1), order: index + 1, status };
  });
  await store.commit(
    runs.flatMap((run): Change[] => [
      { type: 'put', key: runKey('default', run.id), value: encodeRunRecord(run) },
      { type: 'put', key: runOrderKey('default', run.order), value: Buffer.from(`${run.id}`) },
    ]),
  );
  await removeOldRuns(store, 1_251, { isOpen: id => id === 600n, isWanted: () => true });
  const left = await store.list({ prefix: runOrderPrefix('default') });
  t.same(
    left.map(({ key }) => Number(numberOfKey(key))),
    [600, 701, ...Array.from({ length: 50 }, (_, index) => 1_251 + index)],
  );
});

void t.test('one page of runs reads a bounded number of records', async t => {
  const store = createMemoryStore();
  const ids = Array.from({ length: 12_001 }, (_, index) => index + 1);
  await store.commit(
    ids.map(id => ({ type: 'put', key: runOrderKey('default', id), value: Buffer.from(`${id}`) })),
  );
  let looked = 0;
  const find = (id: bigint): Promise<RunRecord> => {
    looked += 1;
    const status = id === 1n || id > 11_999n ? 'running' : 'finished';
    return Promise.resolve({ ...pendingRun, id, order: Number(id), status });
  };
  const found: bigint[] = [];
  let calls = 0;
  for (let pageToken: string | undefined = ''; pageToken !== undefined; calls++) {
    const before = looked;
    const page = await listRuns(store, 'default', { statuses: ['running'], pageToken }, find);
    t.ok(looked - before <= 5_000, `${looked - before} runs in one call`);
    found.push(...page.runs.map(({ id }) => id));
    pageToken = page.nextPageToken === '' ? undefined : page.nextPageToken;
  }
  t.same([found, calls], [[12_001n, 12_000n, 1n], 3]);
});

void t.test('retention keeps a run that has changed since it was read', async t => {
  const pausing = pausingStore(createMemoryStore());
  const { store } = pausing;
  const key = runKey('default', 1n);
  const run: RunRecord = { ...pendingRun, id: 1n, order: 1, status: 'finished' };
  await store.commit([
    { type: 'put', key, value: encodeRunRecord(run) },
    { type: 'put', key: runOrderKey('default', 1), value: Buffer.from('1') },
  ]);
  const paused = pausing.pause();
  const removing = removeOldRuns(store, 2, { isOpen: () => false, isWanted: () => true });
  await paused.held;
  await store.commit([{ type: 'put', key, value: encodeRunRecord({ ...run, status: 'running' }) }]);
  paused.resume();
  await removing;
  t.ok(await store.get(key));
});
