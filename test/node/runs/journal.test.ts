// The journal of a node: its records survive a power cut, and are removed once they are settled.
import { appendFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { decodeAnswer, encodeAnswer, Journal, type Answer } from '../../../src/node/runs/journal.js';
import { EntryLog } from '../../../src/node/runs/entry-log.js';
import { openLevelStore } from '../../../src/store/level.js';
import { createMemoryStore } from '../../../src/store/memory.js';
import { createPowerCutStore } from '../../../src/store/power-cut.js';
import type { Store } from '../../../src/store/store.js';
import { makeFolder } from '../../harness/folder.js';
import { pausingStore } from '../../harness/stores.js';
import { assignOf, attach, makeApp, said, startBench } from './fixtures/run-bench.js';

const content = (text: string): Answer => ({ kind: 'content', content: Buffer.from(text) });
const error: Answer = { kind: 'error', code: 'HANDLER_THREW', message: 'Error: nö' };
const object: Answer = { kind: 'object', digest: 'ab'.repeat(32), sizeBytes: 5_000_000_000 };
const keysOf = async (store: Store) => (await store.list({ prefix: '' })).map(({ key }) => key);
const stateOf = (value: Uint8Array | undefined) => value && Buffer.from(value).toString();

void t.test('answers in the journal are read as they were written, and invalid ones are refused', t => {
  for (const answer of [content('hello'), content(''), error, object]) {
    const read = decodeAnswer(encodeAnswer(answer));
    t.same(read, answer);
  }
  for (const damaged of ['', 'x', 'e', 'o{}', 'e{"code":"NONE","message":""}', 'o{"digest":"a"}', 'enull'])
    t.throws(() => decodeAnswer(Buffer.from(damaged)), { code: 'INTERNAL' }, damaged);
  t.end();
});

void t.test('a journal on disk is read by the next process', async t => {
  const folder = join(await makeFolder(t), 'runs');
  const entries = `${folder}-entered`;
  const first = await Journal.open(await openLevelStore(folder), new EntryLog(entries));
  first.enter(7n, 1);
  first.enter(7n, 1);
  first.enter(7n, 2);
  await first.answer(7n, 2, content('two'), Buffer.from('state'));
  await first.answer(18_446_744_073_709_551_615n, 10, object);
  await first.answer(18_446_744_073_709_551_615n, 9, error);
  await first.close();

  const store = await openLevelStore(folder);
  const second = await Journal.open(store, new EntryLog(entries));
  t.same([...second.runs()].sort(), [18_446_744_073_709_551_615n, 7n].sort());
  t.equal(second.timesEntered(7n, 1), 2);
  t.equal(second.timesEntered(7n, 3), 0);
  t.same(second.answered(7n), [2]);
  t.same(second.answered(18_446_744_073_709_551_615n), [9, 10]);
  t.ok(second.isAnswered(7n, 2));
  t.notOk(second.isAnswered(7n, 1));
  t.same(await second.findAnswer(7n, 2), content('two'));
  t.same(await second.findAnswer(7n, 1), undefined);
  t.equal(stateOf(await second.findState(7n)), 'state');
  t.equal(second.objectOf(18_446_744_073_709_551_615n, 10), 'ab'.repeat(32));
  t.equal(second.objectOf(18_446_744_073_709_551_615n, 9), undefined);

  await second.forgetRun(18_446_744_073_709_551_615n);
  await second.forget(7n, 1);
  await second.forget(7n, 2);
  t.same(second.runs(), [7n], 'its state is still there');
  await second.forgetRun(7n);
  t.same(second.runs(), []);
  t.same(await keysOf(store), ['meta/schema'], 'nothing is left');
  await second.close();
});

void t.test('runs 1, 12 and 123 do not share records in the journal', async t => {
  const store = createMemoryStore();
  const journal = await Journal.open(store);
  for (const run of [1n, 12n, 123n])
    await journal.answer(run, 1, content(`${run}`), Buffer.from(`state ${run}`));
  await journal.forgetRun(12n);
  t.same(journal.runs(), [1n, 123n]);
  t.same(await journal.findAnswer(123n, 1), content('123'));
  t.equal(stateOf(await journal.findState(1n)), 'state 1');
  t.equal(await journal.findState(12n), undefined);
});

void t.test('the journal forgets a run with its last message', async t => {
  const journal = await Journal.open(createMemoryStore());
  journal.enter(5n, 1);
  await journal.answer(5n, 1, content('one'));
  t.same(journal.runs(), [5n]);
  await journal.forget(5n, 1);
  t.same(journal.runs(), []);
  await journal.forget(5n, 1);
});

void t.test('after a power cut the journal has an answer with its state, or neither', async t => {
  const disk = createPowerCutStore();
  const journal = await Journal.open(disk.store);
  journal.enter(7n, 1);
  await journal.answer(7n, 1, content('one'), Buffer.from('after one'));
  for (const keepHeld of [false, true]) {
    const running = await Journal.open(disk.store);
    disk.hold();
    const lost = running.answer(7n, 2, content('two'), Buffer.from('after two'));
    lost.catch(() => undefined);
    await new Promise(setImmediate);
    t.notOk(running.isAnswered(7n, 2), 'not before it is on the disk');
    const after = await Journal.open(disk.cut({ keepHeld }));
    t.ok(after.isAnswered(7n, 1));
    t.equal(after.isAnswered(7n, 2), keepHeld);
    t.equal(stateOf(await after.findState(7n)), keepHeld ? 'after two' : 'after one');
    if (!keepHeld) await t.rejects(lost);
  }
});

void t.test('an answer that fails to be written to disk is absent from the journal in memory', async t => {
  const disk = createPowerCutStore();
  const journal = await Journal.open(disk.store);
  disk.failWrites(Object.assign(new Error('full'), { code: 'ENOSPC' }));
  await t.rejects(journal.answer(7n, 1, content('one')), { code: 'STORE_FULL' });
  t.notOk(journal.isAnswered(7n, 1));
  disk.failWrites(undefined);
  await journal.answer(7n, 1, content('one'));
  t.ok(journal.isAnswered(7n, 1));
});

void t.test('an answer that is written while its run is forgotten is forgotten too', async t => {
  const disk = createPowerCutStore();
  const journal = await Journal.open(disk.store);
  const open = disk.hold();
  const answering = journal.answer(7n, 1, content('one'), Buffer.from('state'));
  const forgetting = journal.forgetRun(7n);
  open();
  await Promise.all([answering, forgetting]);
  t.same(journal.runs(), []);
  t.same(await keysOf(disk.store), ['meta/schema']);
});

void t.test(
  'an answer is in the journal before it is sent, with the state that its handler left',
  async t => {
    const pausing = pausingStore(createMemoryStore());
    const app = await makeApp(
      t,
      'export default nodeApp({ query: (_, { state }) => ({ count: (state.count = (state.count ?? 0) + 1) }) });',
    );
    const { runs } = await startBench(t, {
      apps: { folder: app.folder },
      openStore: () => Promise.resolve(pausing.store),
    });
    const link = attach(runs);
    link.assign(assignOf(7n, app));
    // The first answer opens the journal, which is written to as well.
    link.deliver(7n, 1);
    await link.reply(7n, 1);
    const paused = pausing.pause();
    link.deliver(7n, 2);
    await paused.held;
    for (let count = 0; count < 20; count++) await new Promise(resolve => setImmediate(resolve));
    t.same(link.replies(7n, 2), [], 'what is not on the disk is not sent');
    paused.resume();
    t.same(said(await link.reply(7n, 2)), { count: 2 });
    const journal = await Journal.open(pausing.store);
    t.same(journal.answered(7n), [1, 2]);
    t.ok(await journal.findState(7n));
  },
);

void t.test('a journal that is claimed by another node is emptied', async t => {
  const store = createMemoryStore();
  const journal = await Journal.open(store);
  t.notOk(await journal.claim('42'), 'there was nothing');
  await journal.answer(7n, 1, content('one'), Buffer.from('state'));
  t.notOk(await journal.claim('42'));
  t.same(journal.runs(), [7n]);
  t.ok(await journal.claim('43'));
  t.same(journal.runs(), []);
  t.same(await keysOf(store), ['meta/schema', 'owner']);
});

void t.test('a journal of a newer version is refused', async t => {
  const store = createMemoryStore();
  await store.commit([{ type: 'put', key: 'meta/schema', value: Buffer.from('99') }]);
  await t.rejects(Journal.open(store), { code: 'STORE_SCHEMA' });
});

void t.test('entries of handlers survive a restart and half a line, and the file is compacted', async t => {
  const path = join(await makeFolder(t), 'entered');
  const max = 18_446_744_073_709_551_615n;
  const first = new EntryLog(path);
  first.enter(max, 1);
  first.enter(max, 1);
  first.enter(7n, 9);
  first.enter(8n, 1);
  first.forget(7n, 9);
  first.forgetRun(8n);
  // Not closed: it was killed.
  appendFileSync(path, '+ 7 1');
  const second = new EntryLog(path);
  t.equal(second.times(max, 1), 2);
  t.equal(second.times(7n, 1), 1, 'a whole line but for its end');
  t.same(second.runs(), [max, 7n]);
  appendFileSync(path, '+ 7 1\0\0\n\u001b\n+ x\n- \n');
  const third = new EntryLog(path);
  t.same(third.runs(), [max, 7n]);
  t.equal(third.times(7n, 1), 1);
  for (let message = 1; message <= 100_000; message++) {
    third.enter(9n, message);
    third.forget(9n, message);
  }
  t.ok(statSync(path).size <= 1024 * 1024 + 100);
  third.enter(7n, 1);
  third.close();
  const fourth = new EntryLog(path);
  t.equal(fourth.times(7n, 1), 2);
  t.same(fourth.runs(), [max, 7n]);
  fourth.forgetRun(max);
  fourth.forget(7n, 1);
  t.equal(statSync(path).size, 0, 'nothing owed, nothing kept');
  fourth.enter(7n, 2);
  fourth.clear();
  t.same(new EntryLog(path).runs(), []);
  t.throws(() => new EntryLog(join(path, 'below a file')), { code: 'STORE_UNAVAILABLE' });
});
