/** The life of a run: starting, watching and ending it, with the rights for each, and that it ends once. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { RollcallError } from '../../../src/base/errors.js';
import { RunOutcome, RunStatus } from '../../../src/protocol/generated/rollcall/v1/runs.js';
import { createPowerCutStore } from '../../../src/store/power-cut.js';
import { eventually } from '../../harness/attacked-link.js';
import { createManualClock, type ManualClock } from '../../harness/manual-clock.js';
import { issueToken, makeUser } from '../../harness/operator.js';
import { codeOf } from '../../harness/outcome.js';
import { newKey } from '../../harness/test-link.js';
import { runsOf, startHandSite } from './fixtures/hand-site.js';
import { userParty } from '../../harness/parties.js';

const full = Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });

async function refusalOf(promise: Promise<unknown>): Promise<RollcallError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof RollcallError) return error;
    throw error;
  }
  throw new Error('it was not refused');
}

/** Lets time pass until it is so. */
async function whileMoving(clock: ManualClock, so: Promise<unknown>): Promise<void> {
  const waiting = new Set([so]);
  void so.then(() => waiting.clear());
  while (waiting.size > 0) {
    clock.advance(500);
    await new Promise(resolve => setImmediate(resolve));
  }
}

/** An operator of another tenant. */
async function openOther(t: Test, site: Parameters<typeof runsOf>[0]): Promise<ReturnType<typeof runsOf>> {
  const { access } = site.link;
  await access.tenants.create('other', userParty('test'));
  const user = await makeUser(access, 'stranger', ['admin'], 'other');
  const runs = runsOf(site, await issueToken(access, user));
  t.teardown(() => runs.close());
  return runs;
}

void t.test('followers of a run see every step from pending to finished', async t => {
  const clock = createManualClock();
  const site = await startHandSite(t, { clock });
  const run = await site.start();
  t.equal(run.status, RunStatus.RUN_STATUS_PENDING);
  t.equal((await site.runs.get(run.id)).reason, 'waiting for an app host');
  const told = async () => (await site.log(run)).map(({ text }) => text);
  t.same(await told(), ['waiting for an app host']);
  clock.advance(59_000);
  t.same(await told(), ['waiting for an app host'], 'told once');
  clock.advance(2_000);
  t.ok(await eventually(async () => (await told()).length === 2), 'and again each minute');
  const supervisor = await site.supervise();
  const half = await site.half(await supervisor.started(run));
  t.equal((await site.runs.get(run.id)).status, RunStatus.RUN_STATUS_STARTING);
  half.say('ready', {});
  half.say('send', { number: 1, node: 'nobody', type: '' });
  await half.hear('accepted');
  t.equal((await site.runs.get(run.id)).status, RunStatus.RUN_STATUS_RUNNING, 'before anything is accepted');
  half.say('finished', { result: { accuracy: 0.9 } });
  const done = await site.finished(run);
  t.equal(done.outcome, RunOutcome.RUN_OUTCOME_COMPLETED);
  t.same(JSON.parse(done.resultJson), { accuracy: 0.9 });
  t.ok(done.createdAtMs <= done.startingAtMs && done.startingAtMs <= done.runningAtMs);
  t.ok(done.runningAtMs <= done.finishedAtMs);
  t.same(
    (await site.log(run)).map(({ level, text }) => `${level} ${text}`),
    ['link waiting for an app host', 'link waiting for an app host', 'link run completed'],
  );
  t.same(
    (await site.audit('run.started', 'run.finished', 'run.stopped')).map(({ type, subject }) => [
      type,
      subject,
    ]),
    [
      ['run.started', `${run.id}`],
      ['run.finished', `${run.id}`],
    ],
  );
});

void t.test('an app that differs from its digest, signature or settings is refused', async t => {
  const site = await startHandSite(t);
  t.equal(await codeOf(site.start({}, { author: newKey() })), 'REQUEST_INVALID', 'signed by somebody else');
  t.equal(await codeOf(site.start({ nothing: 1 })), 'REQUEST_INVALID', 'a setting it does not have');
  t.equal(await codeOf(site.start({ rounds: '3' })), 'REQUEST_INVALID', 'a setting of another type');
  t.equal(await codeOf(site.start({ toString: 'x' })), 'REQUEST_INVALID', 'a setting every object has');
  const config = Object.fromEntries(Array.from({ length: 12 }, (_, index) => [`s${index}`, '']));
  const long = Object.fromEntries(Object.keys(config).map(name => [name, 'x'.repeat(6_000)]));
  t.match(await refusalOf(site.start(long, { config })), {
    code: 'REQUEST_INVALID',
    message: /at most 65536 bytes/,
  });
  t.same(await site.audit('run.started'), []);
  t.same(await site.store.list({ prefix: 'runs/' }), []);
});

void t.test('a link that hosts no apps refuses runs', async t => {
  const site = await startHandSite(t, { settings: { 'app-host-socket': [] } });
  const error = await refusalOf(site.start());
  t.equal(error.code, 'RUN_REFUSED');
  t.match(error.hint, /--app-host-socket PATH.*--isolation subprocess/);
});

void t.test('a link with several tenants runs no apps as its children', async t => {
  const site = await startHandSite(t, { settings: { isolation: 'subprocess', 'app-host-socket': [] } });
  await openOther(t, site);
  const error = await refusalOf(site.start());
  t.equal(error.code, 'RUN_REFUSED');
  t.match(error.hint, /--isolation process/);
});

void t.test('a run is invisible to other tenants', async t => {
  const site = await startHandSite(t);
  const other = await openOther(t, site);
  const supervisor = await site.supervise();
  const { run, half } = await site.running(supervisor);
  const readLog = async (): Promise<void> => {
    for await (const event of other.log(run.id)) t.fail(JSON.stringify(event));
  };
  t.equal(await codeOf(other.get(run.id)), 'NOT_FOUND');
  t.equal(await codeOf(other.stop(run.id)), 'NOT_FOUND');
  t.equal(await codeOf(readLog()), 'NOT_FOUND');
  t.same((await other.listPage()).runs, []);
  t.equal((await site.runs.listPage()).runs.length, 1);
  half.say('finished', {});
  await half.hear('over');
  t.equal(await codeOf(other.get(run.id)), 'NOT_FOUND', 'also when it is over');
  t.equal(await codeOf(readLog()), 'NOT_FOUND');
});

void t.test('stopping a run asks its server half and kills it after a grace period', async t => {
  const clock = createManualClock();
  const site = await startHandSite(t, { clock });
  const supervisor = await site.supervise();

  await t.test('stopping a server half that obeys ends the run as stopped', async t => {
    const { run, half } = await site.running(supervisor);
    const stopped = site.runs.stop(run.id);
    await half.hear('stop');
    half.say('failed', { message: 'stopped in the middle' });
    await half.hear('over');
    const { outcome, reason } = await stopped;
    t.equal(outcome, RunOutcome.RUN_OUTCOME_STOPPED);
    t.equal(reason, 'stopped by operator');
  });

  await t.test('stopping a server half that ignores it kills it', async t => {
    const { run, half } = await site.running(supervisor);
    const stopped = site.runs.stop(run.id);
    await half.hear('stop');
    clock.advance(3_000);
    t.equal((await stopped).outcome, RunOutcome.RUN_OUTCOME_STOPPED);
    await half.hear('over');
    clock.advance(3_000);
    await supervisor.stopped(run);
  });

  await t.test('stopping a run that was never started ends it', async t => {
    await supervisor.leave();
    const run = await site.start();
    t.equal((await site.runs.stop(run.id)).outcome, RunOutcome.RUN_OUTCOME_STOPPED);
    const next = await site.supervise();
    const later = await site.running(next);
    later.half.say('finished', {});
    await site.finished(later.run);
    t.equal((await site.runs.get(run.id)).outcome, RunOutcome.RUN_OUTCOME_STOPPED);
  });

  t.equal((await site.audit('run.stopped')).length, 3);
});

void t.test('several simultaneous ends of a run are recorded once', async t => {
  const site = await startHandSite(t);
  const supervisor = await site.supervise();
  for (let round = 0; round < 6; round++) {
    const { run, half } = await site.running(supervisor);
    const ends = [
      () => half.say('finished', { result: round }),
      () => half.say('failed', { message: 'failed' }),
      () => supervisor.exited(run, 9),
      () => half.connection.destroy(),
    ];
    const stops = [site.runs.stop(run.id), site.runs.stop(run.id)];
    for (let index = 0; index < ends.length; index++) ends[(index + round) % ends.length]?.();
    const [first, second] = await Promise.all(stops);
    const later = await site.finished(run);
    t.same([first?.outcome, first?.reason], [later.outcome, later.reason]);
    t.same([second?.outcome, second?.reason], [later.outcome, later.reason]);
    const entries = await site.audit('run.finished', 'run.stopped');
    t.equal(entries.filter(({ subject }) => subject === `${run.id}`).length, 1);
    t.equal((await site.log(run)).filter(({ text }) => text.startsWith('run ')).length, 1);
  }
});

void t.test('a run fails when its server half exits without an outcome', async t => {
  const site = await startHandSite(t);
  const supervisor = await site.supervise();
  const { run, half } = await site.running(supervisor);
  half.connection.destroy();
  supervisor.exited(run, 3);
  const { outcome, reason } = await site.finished(run);
  t.equal(outcome, RunOutcome.RUN_OUTCOME_FAILED);
  t.match(reason, /exit code 3/);
});

void t.test('runs above the maximum wait for others to end', async t => {
  const site = await startHandSite(t, { settings: { 'max-runs': '1' } });
  const supervisor = await site.supervise();
  const { half } = await site.running(supervisor);
  const waiting = await site.start();
  t.equal((await site.runs.get(waiting.id)).reason, 'waiting for other runs to end');
  half.say('finished', {});
  t.ok(await supervisor.started(waiting));
});

void t.test('a run that ends while the disk is full is recorded once there is room', async t => {
  const disk = createPowerCutStore();
  const clock = createManualClock();
  const site = await startHandSite(t, { store: disk.store, clock });
  const supervisor = await site.supervise();
  const { run, half } = await site.running(supervisor);
  half.say('send', { number: 1, node: 'nobody', type: '' });
  await half.hear('accepted');
  disk.failWrites(full);
  const stopped = site.runs.stop(run.id);
  await half.hear('stop');
  half.say('failed', { message: 'stopped' });
  await whileMoving(clock, supervisor.stopped(run));
  const objects = join(site.folder, 'data', 'objects');
  // The files of the run go first.
  while ((await readdir(objects)).length > 0) await new Promise(resolve => setImmediate(resolve));
  t.equal((await site.runs.get(run.id)).status, RunStatus.RUN_STATUS_RUNNING, 'it is not recorded');
  disk.failWrites(undefined);
  supervisor.exited(run);
  await whileMoving(clock, stopped);
  t.equal((await stopped).outcome, RunOutcome.RUN_OUTCOME_STOPPED);
  t.equal((await site.audit('run.stopped')).length, 1);
});

void t.test('old finished runs are removed with their logs, open ones stay', async t => {
  const clock = createManualClock();
  const site = await startHandSite(t, { clock, settings: { 'run-retention': '2h' } });
  const supervisor = await site.supervise();
  const old = await site.running(supervisor);
  old.half.say('log', { sequence: 1, at: 1, level: 'info', text: 'x' });
  await old.half.hear('logged');
  old.half.say('finished', {});
  await site.finished(old.run);
  const lasting = await site.running(supervisor);
  const listed = async (): Promise<bigint[]> => (await site.runs.listPage()).runs.map(({ id }) => id);
  clock.advance(3_600_000);
  t.same(await listed(), [lasting.run.id, old.run.id]);
  clock.advance(2 * 3_600_000);
  while ((await listed()).length > 1) await new Promise(resolve => setImmediate(resolve));
  t.same(await listed(), [lasting.run.id]);
  const prefix = 't/default/run';
  const left = (await site.store.list({ prefix })).filter(({ key, value }) =>
    `${key} ${Buffer.from(value).toString()}`.includes(`${old.run.id}`),
  );
  t.same(left, []);
  lasting.half.say('finished', {});
  await lasting.half.hear('over');
});

void t.test('lists of runs are paged, newest first, and filtered by status', async t => {
  const site = await startHandSite(t);
  const ids: bigint[] = [];
  for (let count = 0; count < 5; count++) ids.unshift((await site.start()).id);
  await site.runs.stop(ids[1] ?? 0n);
  const found: bigint[] = [];
  let pageToken = '';
  do {
    const page = await site.runs.listPage({ pageSize: 2, pageToken });
    found.push(...page.runs.map(({ id }) => id));
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  t.same(found, ids);
  const { runs } = await site.runs.listPage({ statuses: [RunStatus.RUN_STATUS_FINISHED] });
  t.same(
    runs.map(({ id }) => id),
    [ids[1]],
  );
  t.equal(await codeOf(site.runs.listPage({ pageToken: 'x' })), 'REQUEST_INVALID');
});
