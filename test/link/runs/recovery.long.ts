/** Runs that a link leaves open when it closes, and finds when it starts. */
import t from 'tap';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { encodeQuestion } from '../../../src/link/runs/messages/message-record.js';
import {
  messageKey,
  messagePrefix,
  openRunKey,
  openRunPrefix,
  runKey,
} from '../../../src/link/runs/run-keys.js';
import { decodeRunRecord, encodeRunRecord, type RunRecord } from '../../../src/link/runs/run-record.js';
import { RunOutcome, RunStatus, type Run } from '../../../src/protocol/generated/rollcall/v1/runs.js';
import { createManualClock } from '../../harness/manual-clock.js';
import { newKey } from '../../harness/test-link.js';
import { startHandSite, type HandSite } from './fixtures/hand-site.js';

async function readRecord(site: HandSite, { id }: Run): Promise<RunRecord> {
  const value = await site.store.get(runKey('default', id));
  if (!value) throw new Error('there is no such run');
  return decodeRunRecord(value);
}

/** Changes the record of a run, as an earlier link might have left it. */
async function rewrite(site: HandSite, run: Run, change: Partial<RunRecord>): Promise<void> {
  const value = encodeRunRecord({ ...(await readRecord(site, run)), ...change });
  await site.store.commit([{ type: 'put', key: runKey('default', run.id), value }]);
}

void t.test('a closed link does not fail a run whose server half it has disconnected itself', async t => {
  const clock = createManualClock();
  const site = await startHandSite(t, { clock });
  const { run, half } = await site.running(await site.supervise());
  await site.link.close();
  await half.closed;
  await new Promise(resolve => setImmediate(resolve));
  clock.advance(61_000);
  await new Promise(resolve => setImmediate(resolve));
  t.equal((await readRecord(site, run)).status, 'running');
});

void t.test('a pending run is still pending after a restart of the link, and starts', async t => {
  const site = await startHandSite(t);
  const run = await site.start();
  const next = await site.restart();
  t.equal((await next.runs.get(run.id)).status, RunStatus.RUN_STATUS_PENDING);
  const supervisor = await next.supervise();
  const half = await next.half(await supervisor.started(run));
  half.say('ready', {});
  half.say('finished', {});
  t.equal((await next.finished(run)).outcome, RunOutcome.RUN_OUTCOME_COMPLETED);
});

void t.test('a run that was starting is started again after a restart, with a new token', async t => {
  const site = await startHandSite(t);
  const supervisor = await site.supervise();
  const run = await site.start();
  const token = await supervisor.started(run);
  const next = await site.restart();
  const again = await next.supervise([run]);
  await again.stopped(run);
  again.exited(run);
  const fresh = await again.started(run);
  t.not(fresh, token);
  t.equal((await next.half(token)).welcome.name, 'bye', 'the old one is worth nothing');
  const half = await next.half(fresh);
  t.match(half.welcome.value, { resumed: false });
  half.say('ready', {});
  half.say('finished', {});
  t.equal((await next.finished(run)).outcome, RunOutcome.RUN_OUTCOME_COMPLETED);
});

void t.test('a run whose server half is in an app host continues after a restart', async t => {
  const site = await startHandSite(t);
  const supervisor = await site.supervise();
  const key = newKey();
  const node = await site.node(key);
  const { run, half, token } = await site.running(supervisor);
  const content = Buffer.from('question');
  for (const number of [1, 2]) half.say('send', { number, node: `${node.id}`, type: 'train' }, content);
  await half.hear('accepted');
  await half.hear('accepted');
  await node.hear('deliver');
  node.reply(run.id, 1, 'one');
  await half.hear('answer');

  const next = await site.restart();
  t.equal((await next.runs.get(run.id)).status, RunStatus.RUN_STATUS_RUNNING);
  await next.supervise([run]);
  const back = await next.half(token);
  t.equal((await back.hear('answer')).body.toString(), 'one', 'an answer that was not taken comes again');
  back.say('send', { number: 2, node: `${node.id}`, type: 'train' }, content);
  t.same((await back.hear('accepted')).value, { number: 2 });
  const again = await next.node(key, [run.id]);
  t.equal((await again.hear('deliver')).message, 2n);
  again.reply(run.id, 2, 'two');
  t.equal((await back.hear('answer')).body.toString(), 'two');
  back.say('finished', { result: 2 });
  const done = await next.finished(run);
  t.same([done.outcome, done.resultJson], [RunOutcome.RUN_OUTCOME_COMPLETED, '2']);
  t.equal((await next.audit('run.finished', 'run.stopped')).length, 1);
});

void t.test('a run whose server half was a child of the previous link fails at the restart', async t => {
  const site = await startHandSite(t);
  const supervisor = await site.supervise();
  const { run } = await site.running(supervisor);
  const next = await site.restart(() => rewrite(site, run, { hostedBy: 'subprocess' }));
  const { outcome, reason } = await next.runs.get(run.id);
  t.equal(outcome, RunOutcome.RUN_OUTCOME_FAILED);
  t.match(reason, /ran as a child/);
  t.equal((await next.audit('run.finished')).length, 1);
});

void t.test('a run that its app host no longer knows fails after a restart', async t => {
  const site = await startHandSite(t);
  const { run } = await site.running(await site.supervise());
  const next = await site.restart();
  await next.supervise([]);
  const { outcome, reason } = await next.finished(run);
  t.equal(outcome, RunOutcome.RUN_OUTCOME_FAILED);
  t.match(reason, /app host was restarted/);
});

void t.test('a run whose app host does not reconnect after a restart fails', async t => {
  const clock = createManualClock();
  const site = await startHandSite(t, { clock });
  const { run } = await site.running(await site.supervise());
  const next = await site.restart();
  clock.advance(59_000);
  t.equal((await next.runs.get(run.id)).status, RunStatus.RUN_STATUS_RUNNING);
  clock.advance(1_000);
  const { outcome, reason } = await next.finished(run);
  t.equal(outcome, RunOutcome.RUN_OUTCOME_FAILED);
  t.match(reason, /did not reconnect/);
});

void t.test('a running run fails when the restarted link no longer hosts it', async t => {
  const site = await startHandSite(t);
  const { run } = await site.running(await site.supervise());
  const settings: Record<string, unknown> = { 'app-host-socket': [] };
  const next = await startHandSite(t, {
    ...{ folder: site.folder, settings },
    store: await site.link.close().then(() => site.store),
  });
  t.equal((await next.runs.get(run.id)).outcome, RunOutcome.RUN_OUTCOME_FAILED);
});

void t.test('messages and objects that a finished run left are removed at the restart', async t => {
  const site = await startHandSite(t);
  const { run, half } = await site.running(await site.supervise());
  half.say('finished', {});
  await half.hear('over');
  await site.finished(run);
  const objects = join(site.folder, 'data', 'objects');
  const next = await site.restart(async () => {
    // As if the link had been killed before it had cleaned up.
    const times = { createdAt: 1, expiresAt: 2 ** 52 };
    const question = { number: 1, node: 7n, type: '', group: '', ...times };
    await site.store.commit([
      { type: 'put', key: openRunKey(run.id), value: Buffer.from('default') },
      {
        type: 'put',
        key: messageKey('default', run.id, 1),
        value: encodeQuestion(question, { bytes: Buffer.from('x') }),
      },
    ]);
    await mkdir(join(objects, `${run.id}`, 'app', 'chunks'), { recursive: true });
    await writeFile(join(objects, `${run.id}`, 'app', 'chunks', 'ab'.repeat(32)), 'x');
  });
  t.equal((await next.runs.get(run.id)).outcome, RunOutcome.RUN_OUTCOME_COMPLETED);
  t.same(await next.store.list({ prefix: openRunPrefix }), []);
  t.same(await next.store.list({ prefix: messagePrefix('default', run.id) }), []);
  t.same(await readdir(objects), []);
});

void t.test('a run with damaged messages fails at the restart, and others continue', async t => {
  const site = await startHandSite(t);
  const supervisor = await site.supervise();
  const key = newKey();
  const node = await site.node(key);
  const damaged = await site.running(supervisor);
  const other = await site.running(supervisor);
  for (const { half } of [damaged, other])
    for (const number of [1, 2])
      half.say('send', { number, node: `${node.id}`, type: 'train' }, Buffer.from('x'));
  for (let count = 0; count < 4; count++) await node.hear('deliver');
  const next = await site.restart(() =>
    site.store.commit([
      { type: 'put', key: messageKey('default', damaged.run.id, 2), value: Buffer.from('?') },
    ]),
  );
  const { outcome, reason } = await next.runs.get(damaged.run.id);
  t.equal(outcome, RunOutcome.RUN_OUTCOME_FAILED);
  t.match(reason, /cannot read its messages/);
  await next.supervise([other.run, damaged.run]);
  const half = await next.half(other.token);
  const again = await next.node(key, [damaged.run.id, other.run.id]);
  t.same(await again.hear('cancel'), { run: damaged.run.id, message: 0n });
  for (const message of [1n, 2n]) {
    const { run } = await again.hear('deliver');
    t.equal(run, other.run.id);
    again.reply(run, message, 'y');
    await half.hear('answer');
  }
  half.say('finished', {});
  t.equal((await next.finished(other.run)).outcome, RunOutcome.RUN_OUTCOME_COMPLETED);
  t.same(
    (await next.runs.listPage()).runs.map(({ status }) => status),
    [RunStatus.RUN_STATUS_FINISHED, RunStatus.RUN_STATUS_FINISHED],
  );
});
