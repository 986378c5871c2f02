/**
 * Runs at both doors of the control port: who may see, start and stop which, what is taken of an app that comes in, and how a log
 * goes out. The runs themselves are kept in memory by the test.
 */
import t, { type Test } from 'tap';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { credentials, Metadata, type ClientReadableStream, type ServiceError } from '@grpc/grpc-js';
import { openRuns, type LogEvent, type Runs } from '../../../src/control-client/runs.js';
import { readConfig } from '../../../src/link/doors/grpc/runs-codec.js';
import { uploadBounds } from '../../../src/link/doors/grpc/run-upload.js';
import type { RunRecord } from '../../../src/link/runs/run-record.js';
import {
  RunOutcome,
  RunsClient,
  RunStatus,
  type NewRun,
  type ReadRunLogRequest,
  type Run,
  type RunLogEvent,
  type StartRunRequest,
} from '../../../src/protocol/generated/rollcall/v1/runs.js';
import { limits } from '../../../src/protocol/limits.js';
import { fromGrpcStatus } from '../../../src/protocol/status.js';
import { createManualClock } from '../../harness/manual-clock.js';
import { restCalls } from '../../harness/rest-calls.js';
import { openRunPort, type RunPort } from '../../harness/run-port.js';
import { newKey } from '../../harness/test-link.js';
import { userParty } from '../../harness/parties.js';

const site = await openRunPort(t);
const ask = restCalls(t, site.port, site.ca);
const operator = { token: site.token };
await site.access.roles.define(
  'default',
  { name: 'submitter', permissions: ['runs:submit'] },
  userParty('test'),
);
await site.access.roles.define(
  'default',
  { name: 'registrar', permissions: ['nodes:register'] },
  userParty('test'),
);
const people = {
  viewer: await site.person('vera', ['viewer']),
  sam: await site.person('sam', ['submitter']),
  sue: await site.person('sue', ['submitter']),
  nobody: await site.person('stranger', ['registrar']),
};
const author = newKey();

function connect(test: Pick<Test, 'teardown'>, token: string, where: RunPort = site): Runs {
  const target = {
    address: { host: '127.0.0.1', port: where.port },
    addressText: where.address(),
    roots: Buffer.from(where.ca),
    rootsPath: 'ca',
    names: { address: 'address', roots: 'roots' },
  };
  const runs = openRuns(target, { get: () => token, refusedHint: '' });
  test.teardown(() => runs.close());
  return runs;
}

/** The bare client, for what ours would never send. */
function bare(test: Pick<Test, 'teardown'>, token: string, where: RunPort = site) {
  const client = new RunsClient(`localhost:${where.port}`, credentials.createSsl(Buffer.from(where.ca)));
  test.teardown(() => client.close());
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${token}`);
  return { client, metadata };
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

function codeOf(error: unknown): string {
  return (error as { code: string }).code;
}

function describeError(error: unknown): string {
  return `${codeOf(error)} ${(error as Error).message}`;
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise(resolve => setTimeout(resolve, 5));
}

const said = (events: readonly LogEvent[]): (string | undefined)[] => events.map(({ entry }) => entry?.text);
const app = (archive = randomBytes(100)) => ({
  appName: 'hello',
  appVersion: '1.0.0',
  appDigest: 'ab'.repeat(32),
  signer: author.publicKey.spki,
  signature: Buffer.from('signature'),
  archive,
});

void t.test('run settings are a flat JSON object of strings, numbers and booleans', t => {
  t.same(readConfig(''), {});
  t.same(readConfig('{"a":"x","b":1.5,"c":false}'), { a: 'x', b: 1.5, c: false });
  const odd = [
    ...['[]', 'null', '1', '"a"', '{', '{"a":1,"a":2}', '{"a":1,"\\u0061":2}', '{"a":null}', '{"a":[1]}'],
    ...['{"a":{}}', '{"a":1e999}', '\ufeff{}', JSON.stringify(Object.fromEntries(manySettings()))],
  ];
  for (const json of odd) t.throws(() => readConfig(json), { code: 'REQUEST_INVALID' }, json.slice(0, 40));
  t.end();
});

function manySettings(): [string, number][] {
  return Array.from({ length: 101 }, (_, index) => [`s${index}`, index]);
}

void t.test('permissions on own and foreign runs are the same over gRPC and REST', async t => {
  const theirs = site.runs.add({ startedBy: 'sam' });
  const others = site.runs.add({ startedBy: 'sue' });
  const foreign = site.runs.add({ startedBy: 'sam', tenant: 'ward' });
  const missing = 4711n;
  const deny = (permission: string) => `NOT_ALLOWED not allowed: this needs ${permission}`;
  const gone = 'NOT_FOUND there is no such run';
  const expected: Readonly<Record<string, Readonly<Record<'see' | 'stop', readonly string[]>>>> = {
    // Of their own run, another's, another tenant's, and none.
    operator: { see: ['ok', 'ok', gone, gone], stop: ['ok', 'ok', gone, gone] },
    viewer: { see: ['ok', 'ok', gone, gone], stop: Array<string>(4).fill(deny('runs:stop')) },
    sam: {
      see: ['ok', ...Array<string>(3).fill(deny('runs:read'))],
      stop: ['ok', ...Array<string>(3).fill(deny('runs:stop'))],
    },
    nobody: {
      see: Array<string>(4).fill(deny('runs:read')),
      stop: Array<string>(4).fill(deny('runs:stop')),
    },
  };
  for (const [name, outcomes] of Object.entries(expected)) {
    const { token } = { operator, ...people }[name] ?? operator;
    const runs = connect(t, token);
    const ways: readonly (readonly ['see' | 'stop', string, (id: bigint) => Promise<unknown>])[] = [
      ['see', 'get', id => runs.get(id)],
      ['see', 'log', id => all(runs.log(id))],
      ['see', 'GET /v1/runs/:run', id => ask(`GET /v1/runs/${id}`, { token }).then(thrown)],
      ['see', 'GET /v1/runs/:run/log', id => ask(`GET /v1/runs/${id}/log`, { token }).then(thrown)],
      ['stop', 'stop', id => runs.stop(id)],
      ['stop', 'POST stop', id => ask(`POST /v1/runs/${id}/stop`, { token }).then(thrown)],
    ];
    for (const [kind, way, call] of ways) {
      const found: string[] = [];
      for (const id of [theirs.id, others.id, foreign.id, missing]) {
        found.push(await call(id).then(() => 'ok', describeError));
      }
      t.same(found, outcomes[kind], `${way} by ${name}`);
    }
  }
  t.equal((await site.runs.find('ward', foreign.id))?.status, 'pending', 'nothing happened to it');
  t.match(await site.runs.find('default', theirs.id), { reason: /^stopped by (operator|sam)$/ });
  const { runs } = await connect(t, people.sam.token).listPage();
  t.same(
    runs.map(({ id }) => id),
    [theirs.id],
    'a list holds one’s own',
  );
  t.match((await ask('GET /v1/runs', people.sam)).json, { runs: [{ id: `${theirs.id}` }] });
  await t.rejects(connect(t, people.nobody.token).listPage(), { code: 'NOT_ALLOWED' });
  await t.rejects(connect(t, people.viewer.token).start(app()), { code: 'NOT_ALLOWED' });
  t.equal(site.runs.started.length, 0);
  for (const id of ['absent', '0', '-1', '1e3', '99999999999999999999', '%20'])
    t.match(await ask(`GET /v1/runs/${id}`, operator), { status: 404, fields: { code: 'NOT_FOUND' } }, id);
});

function thrown({ status, fields }: { status: number; fields: Readonly<Record<string, string>> }): void {
  if (status !== 200) throw Object.assign(new Error(fields['title']), { code: fields['code'] });
}

void t.test('an app is uploaded completely, under the name of its caller', async t => {
  const archive = randomBytes(3 * 1024 * 1024 + 17);
  const sent: number[] = [];
  const config = { rounds: 3, name: 'x', fast: true };
  const run = await connect(t, people.sam.token).start({
    ...app(archive),
    config,
    onProgress: bytes => sent.push(bytes),
  });
  const started = site.runs.started.at(-1);
  t.ok(started?.archive.equals(archive));
  t.match(started, {
    tenant: 'default',
    startedBy: 'sam',
    by: { name: 'sam' },
    config,
    appDigest: 'ab'.repeat(32),
  });
  t.match(run, { status: RunStatus.RUN_STATUS_PENDING, outcome: RunOutcome.RUN_OUTCOME_UNSPECIFIED });
  t.match(run, {
    startedBy: 'sam',
    signer: author.publicKey.fingerprint,
    configJson: JSON.stringify(config),
  });
  t.equal(sent.at(-1), archive.length);
  t.equal(sent.length, Math.ceil(archive.length / limits.pieceBytes));
  t.match(await connect(t, site.token).get(run.id), { id: run.id, appName: 'hello' });
});

type Parts = readonly StartRunRequest['part'][];

/** Sends these parts and gives how it ended. */
function upload(test: Pick<Test, 'teardown'>, parts: Parts, { where = site, end = true } = {}) {
  const { client, metadata } = bare(test, where.token, where);
  let call!: ReturnType<typeof client.startRun>;
  const outcome = new Promise<string>(resolve => {
    call = client.startRun(metadata, (error, run) => {
      resolve(error ? fromGrpcStatus(error).code : `started ${run.appName}`);
    });
  });
  for (const part of parts) call.write({ part });
  if (end) call.end();
  return { call, outcome };
}

const first = (fields: Partial<NewRun> = {}): StartRunRequest['part'] => ({
  $case: 'run',
  value: {
    ...{ appName: 'hello', appVersion: '1.0.0', appDigest: Buffer.alloc(32), signature: Buffer.alloc(8) },
    ...{ signer: author.publicKey.spki, archiveBytes: 4n, configJson: '', idempotencyKey: '', ...fields },
  },
});
const piece = (bytes: number): StartRunRequest['part'] => ({
  $case: 'archive',
  value: Buffer.alloc(bytes, 1),
});

void t.test('an invalid app is refused', async t => {
  const before = site.runs.started.length;
  const cases: Readonly<Record<string, Parts>> = {
    nothing: [],
    'a piece first': [piece(4)],
    'no part': [undefined],
    'no archive': [first()],
    'less than announced': [first(), piece(3)],
    'more than announced': [first(), piece(3), piece(2)],
    'twice what to run': [first(), first(), piece(4)],
    'an empty piece': [first(), piece(0), piece(4)],
    'a piece that is too large': [first({ archiveBytes: 70_000n }), piece(limits.pieceBytes + 1)],
    'an archive of nothing': [first({ archiveBytes: 0n })],
    'one that is too large': [first({ archiveBytes: 1n << 40n })],
    'one of 2^64 - 1 bytes': [first({ archiveBytes: (1n << 64n) - 1n })],
    'an invalid digest': [first({ appDigest: Buffer.alloc(31) }), piece(4)],
    'settings that are none': [first({ configJson: '[]' }), piece(4)],
  };
  for (const [name, parts] of Object.entries(cases))
    t.equal(await upload(t, parts).outcome, 'REQUEST_INVALID', name);
  t.equal(site.runs.started.length, before);
  t.equal(await upload(t, [first(), piece(1), piece(3)]).outcome, 'started hello');
});

void t.test('concurrent uploads of apps are bounded, and stalled uploads are ended', async t => {
  const clock = createManualClock();
  const where = await openRunPort(t, { clock });
  const one = () => upload(t, [first(), piece(4)], { where }).outcome;
  /** Uploads that stay open, and are all there when it resolves; one whose place another had for a moment begins again. */
  const hold = async (firsts: readonly StartRunRequest['part'][][]) => {
    const begin = (parts: readonly StartRunRequest['part'][]) => {
      const begun = { ...upload(t, [...parts], { where, end: false }), ended: '' };
      void begun.outcome.then(code => (begun.ended = code));
      return begun;
    };
    let held = firsts.map(begin);
    while ((await one()) !== 'LINK_BUSY')
      held = held.map((each, index) => (each.ended === 'LINK_BUSY' ? begin(firsts[index] ?? []) : each));
    return held;
  };
  const held = await hold(
    Array.from({ length: uploadBounds.places.perPrincipal }, () => [first(), piece(1)]),
  );
  let outcome: string;
  held[0]?.call.cancel();
  t.equal(await held[0]?.outcome, 'INTERNAL', 'one that is given up');
  outcome = await one();
  while (outcome !== 'started hello') outcome = await one();
  t.equal(outcome, 'started hello', 'makes room');
  clock.advance(uploadBounds.silenceMs);
  const ends = await Promise.all(held.slice(1).map(each => each.outcome));
  t.same(new Set(ends), new Set(['DEADLINE_EXCEEDED']), 'and so do those that are silent');

  const [slow, ...beside] = await hold([
    [first({ archiveBytes: 1_000n })],
    ...Array.from({ length: uploadBounds.places.perPrincipal - 1 }, () => [first(), piece(1)]),
  ]);
  if (!slow) throw new Error('there is no slow upload');
  for (const each of beside) each.call.cancel();
  let ended = '';
  void slow.outcome.then(code => (ended = code));
  while (ended === '') {
    slow.call.write({ part: piece(1) });
    await new Promise(resolve => setTimeout(resolve, 5));
    clock.advance(uploadBounds.silenceMs - 1_000);
  }
  t.equal(ended, 'DEADLINE_EXCEEDED', 'one that takes for ever is ended too');
  t.equal(await one(), 'started hello');
});

void t.test('a list of runs is paged, filtered, and omits long fields', async t => {
  const where = await openRunPort(t);
  const [oldest, , newest] = [1, 2, 3].map(() => where.runs.add({ result: '{"a":1}' }));
  where.runs.change(newest?.id ?? 0n, { status: 'running' });
  const runs = connect(t, where.token, where);
  const ids = (await all(runs.list())).map(({ id }) => id);
  t.same([ids.length, ids[0], ids[2]], [3, newest?.id, oldest?.id]);
  const page = await runs.listPage({ pageSize: 2 });
  t.match(await runs.listPage({ pageSize: 2, pageToken: page.nextPageToken }), {
    runs: [{ id: oldest?.id }],
  });
  t.match(page.runs[0], { configJson: '', resultJson: '' });
  t.match(await runs.get(ids[0] ?? 0n), { configJson: '{"greeting":"hello"}', resultJson: '{"a":1}' });
  const running = await all(runs.list({ statuses: [RunStatus.RUN_STATUS_RUNNING] }));
  t.same(
    running.map(({ id }) => id),
    [newest?.id],
  );
  for (const status of [RunStatus.RUN_STATUS_UNSPECIFIED, RunStatus.UNRECOGNIZED])
    await t.rejects(runs.listPage({ statuses: [status] }), { code: 'REQUEST_INVALID' });
});

void t.test('over HTTP a run, its list and its log are JSON', async t => {
  const finished: Partial<RunRecord> = { status: 'finished', outcome: 'failed', reason: 'it threw' };
  const { id } = site.runs.add({ ...finished, createdAt: 1, finishedAt: 1_000, result: '{"accuracy":0.9}' });
  site.runs.say(id, 'one', { at: 500 });
  site.runs.say(id, 'two', { node: 7n, level: 'warn', at: 600 });
  const { json } = await ask(`GET /v1/runs/${id}`, operator);
  t.match(json, {
    ...{ id: `${id}`, status: 'finished', outcome: 'failed', reason: 'it threw', startedBy: 'somebody' },
    app: { name: 'hello', version: '1.0.0', digest: 'ab'.repeat(32), signer: 'SHA256:author' },
    ...{ createdAt: '1970-01-01T00:00:00.001Z', startingAt: null, finishedAt: '1970-01-01T00:00:01.000Z' },
    counts: { sent: 0, logLines: 2 },
    config: { greeting: 'hello' },
    result: { accuracy: 0.9 },
  });
  t.notMatch(JSON.stringify(json), /signature|token|archive/i, 'and nothing of what it is started with');
  const { runs } = (await ask('GET /v1/runs?status=finished&pageSize=1', operator)).json as {
    runs: object[];
  };
  t.match(runs, [{ id: `${id}` }]);
  t.notOk('config' in (runs[0] ?? {}));
  t.same((await ask(`GET /v1/runs/${id}/log?limit=1`, operator)).json, {
    entries: [{ number: 1, at: '1970-01-01T00:00:00.500Z', node: null, level: 'info', text: 'one' }],
    next: 1,
  });
  t.match((await ask(`GET /v1/runs/${id}/log?after=1`, operator)).json, {
    entries: [{ node: '7' }],
    next: 2,
  });
  t.same((await ask(`GET /v1/runs/${id}/log?after=2`, operator)).json, { entries: [], next: 2 });
  const wrong = ['limit=0', 'limit=1001', 'limit=x', 'after=-1', 'after=1.5', 'follow=true'];
  for (const query of wrong)
    t.equal((await ask(`GET /v1/runs/${id}/log?${query}`, operator)).status, 400, query);
  t.equal((await ask('GET /v1/runs?status=over', operator)).status, 400);
  t.equal((await ask('POST /v1/runs', { ...operator, json: {} })).status, 405, 'no run is started here');
});

void t.test('a log is read from any line, and the log of a finished run ends', async t => {
  const { id } = site.runs.add();
  for (let line = 1; line <= 450; line += 1) site.runs.say(id, `line ${line}`);
  const runs = connect(t, site.token);
  const lines = said(await all(runs.log(id)));
  t.same([lines.length, lines[0], lines[449]], [450, 'line 1', 'line 450']);
  t.same(said(await all(runs.log(id, { after: 448 }))), ['line 449', 'line 450']);
  t.same(said(await all(runs.log(id, { after: 10, limit: 2 }))), ['line 11', 'line 12']);
  t.same(said(await all(runs.log(id, { after: 1_000 }))), []);
  t.same(said(await all(runs.log(id, { after: 449, limit: 1, follow: true }))), [undefined, 'line 450']);
  site.runs.change(id, { status: 'finished', outcome: 'completed' });
  const events = await all(runs.log(id, { follow: true, after: 449 }));
  t.match(events, [
    { run: {} },
    { entry: { number: 450n } },
    { run: { outcome: RunOutcome.RUN_OUTCOME_COMPLETED } },
  ]);
  const { client, metadata } = bare(t, site.token);
  const beyond = client.readRunLog({ run: id, after: (1n << 64n) - 1n, follow: false, limit: 0 }, metadata);
  const [error] = (await once(beyond.resume(), 'error')) as [ServiceError];
  t.equal(fromGrpcStatus(error).code, 'REQUEST_INVALID');
});

void t.test('a followed log yields each line once, the run in between, and ends with it', async t => {
  const { id } = site.runs.add({ status: 'running' });
  site.runs.say(id, 'line 1');
  const following = all(connect(t, site.token).log(id, { follow: true }));
  await until(() => site.runs.watchers() > 0);
  for (let line = 2; line <= 600; line += 1) {
    site.runs.say(id, `line ${line}`);
    if (line % 50 === 0) await new Promise(resolve => setImmediate(resolve));
  }
  const counts = { nodes: 2, sent: 4, answered: 4, failed: 1, logLines: 600 };
  site.runs.change(id, { status: 'finished', outcome: 'completed', counts });
  const events = await following;
  t.same(
    said(events).filter(Boolean),
    Array.from({ length: 600 }, (_, index) => `line ${index + 1}`),
  );
  const told = events.flatMap(({ run }) => run ?? []);
  t.equal(events[0]?.run, told[0], 'the run comes first');
  t.match(events.at(-1)?.run, { status: RunStatus.RUN_STATUS_FINISHED, messagesFailed: 1n, nodes: 2 });
  t.ok(told.length < 20, `and now and then in between (${told.length})`);
  await until(() => site.runs.watchers() === 0);
});

void t.test('a follower of a run gets its changes only, and a closed follower delays nothing', async t => {
  const { id } = site.runs.add({ status: 'running' });
  const ending = new AbortController();
  const seen: Run[] = [];
  let opened = 0;
  const options = { follow: true, signal: ending.signal, onOpen: () => void (opened += 1) };
  for await (const { run } of connect(t, site.token).log(id, options)) {
    if (run) seen.push(run);
    if (seen.length === 1)
      site.runs.change(id, { counts: { nodes: 1, sent: 1, answered: 0, failed: 0, logLines: 0 } });
    if (seen.length === 2) ending.abort();
  }
  t.match([opened, seen[1]?.messagesSent], [1, 1n]);
  await until(() => site.runs.watchers() === 0);
});

void t.test('a log is sent no faster than it is read', async t => {
  const { id } = site.runs.add();
  for (let line = 1; line <= 5_000; line += 1) site.runs.say(id, 'x'.repeat(4_000));
  const start = site.runs.linesRead();
  const read = (): number => site.runs.linesRead() - start;
  const { client, metadata } = bare(t, site.token);
  const request: ReadRunLogRequest = { run: id, after: 0n, follow: true, limit: 0 };
  const call: ClientReadableStream<RunLogEvent> = client.readRunLog(request, metadata);
  call.on('error', () => undefined);
  // Before the first read the library takes in everything: it pauses from the first message on.
  await once(call, 'readable');
  t.match(call.read(), { event: { $case: 'run' } });
  const runs = connect(t, site.token);
  // The link has had every chance to read on.
  for (let turn = 0; turn < 30; turn += 1) await runs.listPage({ pageSize: 1 });
  t.ok(read() < 2_000, `${read()} of 5000 lines were taken from the store`);
  let came = 0;
  call.on('data', ({ event }: RunLogEvent) => void (came += event?.$case === 'entry' ? 1 : 0));
  await until(() => came === 5_000);
  call.cancel();
});

for (const how of ['the token ends', 'the right goes', 'the run was started by somebody else'] as const) {
  void t.test(`a followed log ends when ${how}`, async t => {
    const clock = createManualClock();
    const where = await openRunPort(t, { clock });
    await where.access.roles.define(
      'default',
      { name: 'submitter', permissions: ['runs:submit'] },
      userParty('test'),
    );
    const { id: user, token } = await where.person('sam', ['submitter']);
    const { id } = where.runs.add({ status: 'running', startedBy: 'sam' });
    let ended = '';
    void all(connect(t, token, where).log(id, { follow: true })).then(
      () => (ended = 'ok'),
      (error: unknown) => (ended = codeOf(error)),
    );
    await until(() => where.runs.watchers() > 0);
    const reason = { type: 'user.changed', by: userParty('test') } as const;
    if (how === 'the token ends')
      await where.access.users.change('default', user, { enabled: false }, reason);
    if (how === 'the right goes') await where.access.users.change('default', user, { roles: [] }, reason);
    if (how === 'the run was started by somebody else') where.runs.change(id, { startedBy: 'sue' });
    // A change is read a moment after its notification, by a timer set only after an advance: hence many small steps.
    // They stay below the minute after which every right is judged again, whatever happened.
    const startedAt = clock.elapsed();
    await until(() => {
      clock.advance(10);
      return ended !== '' || clock.elapsed() - startedAt > 50_000;
    });
    t.equal(ended, how === 'the token ends' ? 'TOKEN_REFUSED' : 'NOT_ALLOWED');
    await until(() => {
      clock.advance(10);
      return where.runs.watchers() === 0;
    });
  });
}
