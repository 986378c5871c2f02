/** The log of one run: in order, without gaps, on the disk before it is told, and bounded. */
import t from 'tap';
import {
  logLimits,
  openRunLog,
  readRunLog,
  type LogLine,
  type RunLog,
} from '../../../src/link/runs/run-log.js';
import { createMemoryStore } from '../../../src/store/memory.js';
import { createPowerCutStore } from '../../../src/store/power-cut.js';
import type { Store } from '../../../src/store/store.js';
import { createManualClock } from '../../harness/manual-clock.js';

const full = Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });

function open(store: Store, clock = createManualClock(1_000)): Promise<RunLog> {
  return openRunLog({ ...{ store, clock, tenant: 'default', run: 1n }, onChange: () => undefined });
}

function line(text: string, more: Partial<LogLine> = {}): LogLine {
  return { at: 5, node: 0n, level: 'info', text, ...more };
}

async function textsOf(store: Store, after = 0, limit = 1_000): Promise<string[]> {
  const entries = await readRunLog(store, 'default', 1n, after, limit);
  return entries.map(({ number, text }) => `${number} ${text}`);
}

async function settle(): Promise<void> {
  for (let count = 0; count < 5; count++) await new Promise(resolve => setImmediate(resolve));
}

void t.test('lines are counted in the order in which they come, and read from any of them', async t => {
  const { store } = createPowerCutStore();
  const log = await open(store);
  await Promise.all(['a', 'b', 'c'].map(text => log.append([line(text), line(`${text}'`)])));
  t.same(await textsOf(store), ['1 a', "2 a'", '3 b', "4 b'", '5 c', "6 c'"]);
  t.same(await textsOf(store, 2, 3), ['3 b', "4 b'", '5 c']);
  t.same(await textsOf(store, 6), []);
  t.equal(log.count(), 6);
});

void t.test('what was told is there after a power cut, and the count goes on', async t => {
  const disk = createPowerCutStore();
  const log = await open(disk.store);
  await log.append([line('kept')], 7);
  t.equal(log.serverSequence(), 7);
  disk.hold();
  let isTold = false;
  void log.append([line('lost')], 8).then(() => (isTold = true));
  await settle();
  const store = disk.cut();
  t.notOk(isTold);
  const next = await open(store);
  t.same([next.count(), next.serverSequence()], [1, 7]);
  await next.append([line('again')], 8);
  t.same(await textsOf(store), ['1 kept', '2 again']);
});

void t.test('lines wait for a full disk, in order', async t => {
  const disk = createPowerCutStore();
  const clock = createManualClock(1_000);
  const log = await open(disk.store, clock);
  disk.failWrites(full);
  const told: string[] = [];
  const all = ['a', 'b', 'c'].map(text => log.append([line(text)]).then(() => told.push(text)));
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

void t.test(
  'while the disk is full, memory holds so many lines and no more; the others are told',
  async t => {
    const disk = createPowerCutStore();
    const clock = createManualClock(1_000);
    const log = await open(disk.store, clock);
    disk.failWrites(full);
    const batch = Array.from({ length: 1_000 }, () => line('x'));
    const all = Array.from({ length: 30 }, () => log.append(batch));
    await settle();
    disk.failWrites(undefined);
    clock.advance(1_000);
    await Promise.all(all);
    await log.append([line('last')]);
    const kept = log.count();
    t.ok(kept >= logLimits.waiting && kept <= logLimits.waiting + 2_000, `${kept} lines`);
    const [note] = (await readRunLog(disk.store, 'default', 1n, 0, kept)).filter(
      ({ level }) => level === 'link',
    );
    t.equal(note?.text, `${30_000 - (kept - 2)} lines were lost: too many came at once`);
  },
);

void t.test('a log has 100,000 lines, and its last one says so', async t => {
  const store = createMemoryStore();
  const log = await open(store);
  const batch = Array.from({ length: 1_000 }, (_, index) => line(`${index}`));
  for (let count = 0; count < 105; count++) await log.append(batch, count + 1);
  t.equal(log.count(), logLimits.lines);
  t.same(await textsOf(store, logLimits.lines - 2), [
    `${logLimits.lines - 1} 998`,
    `${logLimits.lines} the log of this run is full: nothing more is kept`,
  ]);
  t.equal(log.serverSequence(), 105, 'the server half is not kept waiting for it');
  const next = await open(store);
  await next.append(batch);
  t.equal(next.count(), logLimits.lines, 'nor after a restart');
});

void t.test('what an app writes is made harmless', async t => {
  const { store } = createPowerCutStore();
  const log = await open(store);
  await log.append([
    line('\u001b[2Jclear\n[link] run completed\u202e'),
    line('x'.repeat(5_000), { level: 'shout', at: NaN }),
    line('', { level: 'stderr', at: -1 }),
    line('y', { level: 'link', at: 2 ** 53 }),
  ]);
  const entries = await readRunLog(store, 'default', 1n, 0, 10);
  t.equal(entries[0]?.text, '\ufffd[2Jclear\ufffd[link] run completed\ufffd');
  t.same([entries[1]?.text.length, entries[1]?.level, entries[1]?.at], [logLimits.textLength, 'info', 0]);
  t.same([entries[2]?.text, entries[2]?.level, entries[2]?.at], ['', 'stderr', 0]);
  t.equal(entries[3]?.at, 0);
});

void t.test('a log that was closed takes nothing more, and waits for no disk', async t => {
  const disk = createPowerCutStore();
  const clock = createManualClock(1_000);
  const log = await open(disk.store, clock);
  await log.append([line('a')]);
  disk.failWrites(full);
  const waiting = log.append([line('b')]);
  await settle();
  const closed = log.close();
  await log.append([line('c')]);
  clock.advance(1_000);
  await Promise.all([closed, waiting]);
  disk.failWrites(undefined);
  t.same(await textsOf(disk.store), ['1 a']);
});
