/** The log of one run: ordered, without gaps, confirmed only when it is on the disk, and bounded. */
import t from 'tap';
import { openRunLog, readRunLog, type RunLog } from '../../../src/link/runs/run-log.js';
import { logLimits, type LogLine } from '../../../src/link/runs/run-log-draft.js';
import { runLogHeadKey } from '../../../src/link/runs/run-keys.js';
import { createMemoryStore } from '../../../src/store/memory.js';
import { createPowerCutStore } from '../../../src/store/power-cut.js';
import type { Store } from '../../../src/store/store.js';
import { createManualClock } from '../../harness/manual-clock.js';
import { roomyDisk } from '../../harness/objects.js';

const full = Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });

function open(store: Store, clock = createManualClock(1_000), floor = roomyDisk): Promise<RunLog> {
  return openRunLog({ ...{ store, clock, tenant: 'default', run: 1n, floor }, onChange: () => undefined });
}

function line(text: string, more: Partial<LogLine> = {}): LogLine {
  return { at: 5, level: 'info', text, ...more };
}

const linesOf = (count: number): LogLine[] => Array.from({ length: count }, (_, index) => line(`${index}`));

async function textsOf(store: Store, after = 0, limit = 1_000): Promise<string[]> {
  const entries = await readRunLog(store, 'default', 1n, after, limit);
  return entries.map(({ number, text }) => `${number} ${text}`);
}

async function settle(): Promise<void> {
  for (let count = 0; count < 5; count++) await new Promise(resolve => setImmediate(resolve));
}

void t.test('log lines are numbered in their order and can be read from any number', async t => {
  const { store } = createPowerCutStore();
  const log = await open(store);
  await Promise.all(['a', 'b', 'c'].map(text => log.append('server', [line(text), line(`${text}'`)])));
  t.same(await textsOf(store), ['1 a', "2 a'", '3 b', "4 b'", '5 c', "6 c'"]);
  t.same(await textsOf(store, 2, 3), ['3 b', "4 b'", '5 c']);
  t.same(await textsOf(store, 6), []);
  t.equal(log.count(), 6);
});

void t.test('lines that were confirmed survive a power cut, and numbering continues', async t => {
  const disk = createPowerCutStore();
  const log = await open(disk.store);
  await log.append('server', [line('kept')], 7);
  t.equal(log.serverSequence(), 7);
  disk.hold();
  let isTold = false;
  void log.append('server', [line('lost')], 8).then(() => (isTold = true));
  await settle();
  const store = disk.cut();
  t.notOk(isTold);
  const next = await open(store);
  t.same([next.count(), next.serverSequence()], [1, 7]);
  await next.append('server', [line('again')], 8);
  t.same(await textsOf(store), ['1 kept', '2 again']);
});

void t.test('log lines wait in order while the disk is full', async t => {
  const disk = createPowerCutStore();
  const clock = createManualClock(1_000);
  const log = await open(disk.store, clock);
  disk.failWrites(full);
  const told: string[] = [];
  const all = ['a', 'b', 'c'].map(text => log.append('server', [line(text)]).then(() => told.push(text)));
  for (let count = 0; count < 3; count++) {
    await settle();
    clock.advance(1_000);
  }
  t.same(told, []);
  t.equal(log.count(), 0);
  disk.failWrites(undefined);
  await settle();
  clock.advance(1_000);
  await Promise.all(all);
  t.same(await textsOf(disk.store), ['1 a', '2 b', '3 c']);
});

void t.test('while the disk is full, the lines of each party in memory are bounded', async t => {
  const disk = createPowerCutStore();
  const clock = createManualClock(1_000);
  const log = await open(disk.store, clock);
  disk.failWrites(full);
  const text = 'x'.repeat(logLimits.textLength);
  const batch = Array.from({ length: 200 }, () => line(text));
  const all = Array.from({ length: 30 }, () => [log.append('server', batch), log.append(7n, batch)]).flat();
  // As much as the first leaves.
  all.push(log.append(8n, batch), log.append('link', [line('the end')]));
  await settle();
  disk.failWrites(undefined);
  clock.advance(1_000);
  await Promise.all(all);
  await log.append('server', [line('last')]);
  await log.append(7n, [line('last')]);
  const entries = await readRunLog(disk.store, 'default', 1n, 0, 100_000);
  const countOf = (node: bigint): number =>
    entries.filter(each => each.node === node && each.text === text).length;
  const [ofServer, ofNode] = [countOf(0n), countOf(7n)];
  t.ok(ofServer >= 400 && ofServer <= 800, `${ofServer} lines of the server half`);
  t.ok(ofNode >= 600 && ofNode <= 1_200, `${ofNode} lines of the node`);
  t.equal(countOf(8n), 200, 'another node has room still');
  t.same(
    entries.filter(({ level }) => level === 'link').map(each => each.text.replace(/:.*/, '')),
    [
      `${6_000 - ofServer} lines of the server half were lost`,
      `${6_000 - ofNode} lines of node 7 were lost`,
      'the end',
    ],
  );
});

void t.test('a party that fills its share of a log leaves room for every other party', async t => {
  const store = createMemoryStore();
  const log = await open(store);
  const batch = linesOf(1_000);
  for (let count = 0; count < 105; count++) await log.append(7n, batch);
  const share = log.count();
  t.ok(share > 10_000 && share < 20_000, `${share} lines of one node`);
  t.same(await textsOf(store, share - 1), [
    `${share} the share of node 7 in this log is full: its later lines are dropped`,
  ]);
  t.ok(log.isFull(7n));
  for (let node = 100n; node < 110n; node++)
    for (let count = 0; count < 20; count++) await log.append(node, batch);
  const ofNodes = log.count();
  await log.append(8n, linesOf(500));
  t.equal(log.count(), ofNodes + 500, 'an honest node after eleven that were not');
  for (let count = 0; count < 100; count++) await log.append('server', batch, count + 1);
  t.equal(log.serverSequence(), 100, 'the server half is not kept waiting for it');
  t.equal(log.count(), logLimits.lines - logLimits.linkLines);
  t.match((await textsOf(store, log.count() - 1))[0], /the share of the server half in this log is full/);
  await log.append('link', [line('run completed')]);
  t.equal(log.count(), logLimits.lines - logLimits.linkLines + 1);
  const next = await open(store);
  await next.append('server', batch);
  await next.append('link', [line('again')]);
  t.same(await textsOf(store, next.count() - 1), [`${next.count()} again`], 'nor after a restart');
});

void t.test('a log from before shares were counted continues within its bounds', async t => {
  const store = createMemoryStore();
  const head = Buffer.from(JSON.stringify({ lines: 80_000, serverSequence: 9 }));
  await store.commit([{ type: 'put', key: runLogHeadKey('default', 1n), value: head }]);
  const log = await open(store);
  t.same([log.count(), log.serverSequence()], [80_000, 9]);
  await log.append(7n, linesOf(10));
  t.equal(log.count(), 80_000, 'the lines that are there count as those of nodes');
  await log.append('server', [line('on')], 10);
  t.same([log.count(), log.serverSequence()], [80_001, 10]);
});

void t.test('on a nearly full disk lines of the link are stored and others are counted as lost', async t => {
  const store = createMemoryStore();
  let isFree = false;
  const floor = { ...roomyDisk, isFree: () => Promise.resolve(isFree) };
  const log = await open(store, createManualClock(1_000), floor);
  await Promise.all([log.append(7n, linesOf(3)), log.append('server', linesOf(2), 2)]);
  await log.append('link', [line('run failed')]);
  t.same(await textsOf(store), ['1 run failed']);
  t.equal(log.serverSequence(), 2);
  isFree = true;
  await log.append(7n, [line('back')]);
  t.same(await textsOf(store, 1), [
    '2 3 lines of node 7 were lost: too many arrived at once, or the disk was nearly full',
    '3 back',
  ]);
});

void t.test('lines of an app are cleaned and their fields kept within bounds', async t => {
  const { store } = createPowerCutStore();
  const log = await open(store);
  await log.append('server', [
    line('\u001b[2Jclear\n[link] run completed\u202e'),
    line('x'.repeat(5_000), { level: 'shout', at: NaN }),
    line('', { level: 'stderr', at: -1 }),
    line('y', { level: 'link', at: 2 ** 53 }),
  ]);
  await log.append(7n, [line('z', { level: 'link' })]);
  const entries = await readRunLog(store, 'default', 1n, 0, 10);
  t.equal(entries[0]?.text, '\ufffd[2Jclear\ufffd[link] run completed\ufffd');
  t.same([entries[1]?.text.length, entries[1]?.level, entries[1]?.at], [logLimits.textLength, 'info', 0]);
  t.same([entries[2]?.text, entries[2]?.level, entries[2]?.at], ['', 'stderr', 0]);
  t.same([entries[3]?.at, entries[3]?.level], [0, 'info'], 'nobody but the link speaks as the link');
  t.same([entries[4]?.node, entries[4]?.level], [7n, 'info']);
});

void t.test('a closed log accepts no lines and does not wait for the disk', async t => {
  const disk = createPowerCutStore();
  const clock = createManualClock(1_000);
  const log = await open(disk.store, clock);
  await log.append('server', [line('a')]);
  disk.failWrites(full);
  const waiting = log.append('server', [line('b')]);
  await settle();
  const closed = log.close();
  await log.append('server', [line('c')]);
  clock.advance(1_000);
  await Promise.all([closed, waiting]);
  disk.failWrites(undefined);
  t.same(await textsOf(disk.store), ['1 a']);
});
