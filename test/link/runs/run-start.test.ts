/** A start is atomic and happens once, whatever fails and however often it is repeated. */
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { openRunPrefix, runKey } from '../../../src/link/runs/run-keys.js';
import { decodeRunRecord, encodeRunRecord } from '../../../src/link/runs/run-record.js';
import { cutoffKey } from '../../../src/link/tenant-mark.js';
import { createMemoryStore } from '../../../src/store/memory.js';
import { createPowerCutStore } from '../../../src/store/power-cut.js';
import { RunOutcome, RunStatus } from '../../../src/protocol/generated/rollcall/v1/runs.js';
import { as } from '../../../src/base/settings.js';
import { createManualClock, type ManualClock } from '../../harness/manual-clock.js';
import { issueToken, makeUser } from '../../harness/operator.js';
import { codeOf } from '../../harness/outcome.js';
import { pausingStore } from '../../harness/stores.js';
import { startSwallowingProxy } from '../../harness/swallowing-proxy.js';
import { runsOf, startHandSite, type HandSite } from './fixtures/hand-site.js';

const full = Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
const hourMs = 3_600_000;
const turn = (): Promise<void> => new Promise(resolve => setImmediate(resolve));

/** Moves the clock until it is so. */
async function until(
  clock: ManualClock,
  isSo: () => boolean | Promise<boolean>,
  stepMs = 500,
): Promise<void> {
  while (!(await isSo())) {
    clock.advance(stepMs);
    await turn();
  }
}

const folders = (site: HandSite): Promise<string[]> => readdir(join(site.folder, 'data', 'objects'));

void t.test('a run whose first commit was reported as failed but stored starts normally', async t => {
  const power = createPowerCutStore();
  const clock = createManualClock();
  const site = await startHandSite(t, { clock, store: power.store });
  const supervisor = await site.supervise();
  const app = { ...(await site.pack()), idempotencyKey: 'mine' };
  power.failWrites(full, { kept: 'later' });
  await t.rejects(site.runs.start(app), {
    code: 'STORE_FULL',
    hint: /repeat the start with the same idempotency key/,
  });
  t.equal(
    await codeOf(site.runs.start(app)),
    'STORE_FULL',
    'nobody is told that it is stored while that is not known',
  );
  power.failWrites(undefined);
  await until(clock, async () => (await site.runs.listPage()).runs.length > 0);
  const [run] = (await site.runs.listPage()).runs;
  if (!run) throw new Error('the run is not there');
  await until(clock, async () => (await site.runs.get(run.id)).status === RunStatus.RUN_STATUS_STARTING);
  const half = await site.half(await supervisor.started(run));
  t.ok((await half.hear('archive')).body.length > 0, 'its archive is there');
  t.equal((await site.runs.start(app)).id, run.id, 'and asking again finds it');
  half.say('ready', {});
  half.say('finished', {});
  await until(clock, async () => (await site.runs.get(run.id)).status === RunStatus.RUN_STATUS_FINISHED);
  t.equal((await site.runs.get(run.id)).outcome, RunOutcome.RUN_OUTCOME_COMPLETED);
});

void t.test('a run whose start was in doubt can be stopped at once', async t => {
  const power = createPowerCutStore();
  const site = await startHandSite(t, { clock: createManualClock(), store: power.store });
  power.failWrites(full, { kept: true });
  t.equal(await codeOf(site.start()), 'STORE_FULL');
  power.failWrites(undefined);
  const [run] = (await site.runs.listPage()).runs;
  if (!run) throw new Error('the run is not there');
  t.equal((await site.runs.stop(run.id)).outcome, RunOutcome.RUN_OUTCOME_STOPPED);
  while ((await site.store.list({ prefix: openRunPrefix })).length > 0) await turn();
  t.same(await folders(site), []);
});

void t.test('a run whose first commit failed leaves no objects', async t => {
  const power = createPowerCutStore();
  const clock = createManualClock();
  const site = await startHandSite(t, { clock, store: power.store });
  power.failWrites(full);
  t.equal(await codeOf(site.start()), 'STORE_FULL');
  t.equal((await folders(site)).length, 1, 'it may be found yet');
  power.failWrites(undefined);
  await until(clock, async () => (await folders(site)).length === 0);
  t.same((await site.runs.listPage()).runs, []);
});

void t.test('objects of runs that were never stored are removed at the start of the link', async t => {
  const site = await startHandSite(t);
  const run = await site.start();
  const next = await site.restart(async () => {
    const chunks = join(site.folder, 'data', 'objects', '77', 'app', 'chunks');
    await mkdir(chunks, { recursive: true });
    await writeFile(join(chunks, 'ab'.repeat(32)), 'x');
  });
  t.same(await folders(next), [`${run.id}`]);
});

void t.test('an idempotency key starts one run for as long as that run is kept', async t => {
  const clock = createManualClock();
  const site = await startHandSite(t, { clock, settings: { 'run-retention': '1d' } });
  const app = { ...(await site.pack()), idempotencyKey: 'nightly-2026-11-30' };
  const start = (): Promise<bigint> => site.runs.start(app).then(({ id }) => id);
  const [first, second] = await Promise.all([start(), start()]);
  t.equal(first, second, 'two at once');
  t.equal(await start(), first);
  t.same(await folders(site), [`${first}`]);
  t.equal((await site.audit('run.started')).length, 1);
  t.equal(await codeOf(site.runs.start({ ...app, config: { rounds: 4 } })), 'IDEMPOTENCY_KEY_REUSED');
  t.equal(await codeOf(site.runs.start({ ...app, config: { rounds: 3 } })), 'nothing', 'the default, said');
  t.not((await site.runs.start({ ...app, idempotencyKey: 'other' })).id, first);
  t.equal(await codeOf(site.runs.start({ ...app, idempotencyKey: 'with space' })), 'REQUEST_INVALID');
  const { access } = site.link;
  const other = runsOf(site, await issueToken(access, await makeUser(access, 'bea', ['admin'])));
  t.teardown(() => other.close());
  t.not((await other.start(app)).id, first, 'a key is its caller’s alone');

  const next = await site.restart();
  t.equal((await next.runs.start(app)).id, first, 'also after a restart');
  await next.runs.stop(first);
  t.equal((await next.runs.start(app)).id, first, 'also when it is over');
  await until(clock, async () => (await next.store.get(runKey('default', first))) === undefined, hourMs);
  t.not((await next.runs.start(app)).id, first, 'the key goes with its run');
});

void t.test('a client that repeats a start with a lost answer gets the same run', async t => {
  const pausing = pausingStore(createMemoryStore());
  const site = await startHandSite(t, { store: pausing.store, clock: createManualClock() });
  const proxy = await startSwallowingProxy(t, site.link.addresses.control.port);
  const runs = runsOf(site, site.token, as.address(proxy.address));
  t.teardown(() => runs.close());
  const app = await site.pack();
  const paused = pausing.pause();
  const starting = runs.start(app);
  await paused.held;
  proxy.cut();
  paused.resume();
  const { id } = await starting;
  t.same(
    (await site.runs.listPage()).runs.map(run => run.id),
    [id],
  );
});

void t.test('starts and changes that conflict in the store are retried', async t => {
  const pausing = pausingStore(createMemoryStore());
  const site = await startHandSite(t, { store: pausing.store, clock: createManualClock() });
  const paused = pausing.pause();
  const first = site.start();
  await paused.held;
  const second = await site.start();
  paused.resume();
  const { id } = await first;
  const orders = await Promise.all(
    [id, second.id].map(async run => {
      const value = await site.store.get(runKey('default', run));
      return value && decodeRunRecord(value).order;
    }),
  );
  t.equal(new Set(orders).size, 2, 'each has a place of its own');
  t.same(
    (await site.runs.listPage()).runs.map(run => run.id),
    [id, second.id],
  );
});

void t.test('a start that races the deletion of its tenant is refused and leaves nothing', async t => {
  const pausing = pausingStore(createMemoryStore());
  const site = await startHandSite(t, { store: pausing.store, clock: createManualClock() });
  const app = { ...(await site.pack()), idempotencyKey: 'mine' };
  const paused = pausing.pause();
  const starting = codeOf(site.runs.start(app));
  await paused.held;
  const deleted = Buffer.from(JSON.stringify({ before: 0, deletedAt: 1 }));
  await pausing.store.commit([{ type: 'put', key: cutoffKey('default'), value: deleted }]);
  paused.resume();
  t.equal(await starting, 'NOT_FOUND');
  t.same(await site.store.list({ prefix: openRunPrefix }), []);
  t.same(await site.store.list({ prefix: 't/default/run-start/' }), [], 'not even its idempotency key');
  t.same(await folders(site), []);
});

void t.test('a run whose end was stored by a failed commit keeps that end', async t => {
  const pausing = pausingStore(createMemoryStore());
  const site = await startHandSite(t, { store: pausing.store, clock: createManualClock() });
  const run = await site.start();
  const key = runKey('default', run.id);
  while (!/waiting/.test((await site.runs.get(run.id)).reason)) await turn();
  const paused = pausing.pause();
  const stopping = site.runs.stop(run.id);
  // Its line in the log is the first commit, its record the second.
  await paused.held;
  const second = pausing.pause();
  paused.resume();
  await second.held;
  const value = await site.store.get(key);
  if (!value) throw new Error('the run is not there');
  const ended = { status: 'finished', outcome: 'failed', reason: 'found', finishedAt: 7 } as const;
  await pausing.store.commit([
    { type: 'put', key, value: encodeRunRecord({ ...decodeRunRecord(value), ...ended }) },
  ]);
  second.resume();
  t.match(await stopping, { outcome: RunOutcome.RUN_OUTCOME_FAILED, reason: 'found' });
  t.same(await site.audit('run.stopped', 'run.finished'), [], 'and is not told of twice');
});

void t.test('a record from before idempotency keys is read, and removed at its age', async t => {
  const clock = createManualClock();
  const site = await startHandSite(t, { clock, settings: { 'run-retention': '1d' } });
  const run = await site.runs.start({ ...(await site.pack()), idempotencyKey: 'x' });
  const key = runKey('default', run.id);
  const next = await site.restart(async () => {
    const value = await site.store.get(key);
    const old = JSON.parse(Buffer.from(value ?? '').toString()) as Record<string, unknown>;
    delete old['startHash'];
    await site.store.commit([{ type: 'put', key, value: Buffer.from(JSON.stringify(old)) }]);
  });
  await next.runs.stop(run.id);
  await until(clock, async () => (await next.store.get(key)) === undefined, hourMs);
  t.same((await next.runs.listPage()).runs, []);
});
