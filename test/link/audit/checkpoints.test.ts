/** Checkpoints, pages and exports of the audit log over real stores: memory, one that loses power, level. */
import { chmod, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import t from 'tap';
import { verifyCheckpoint } from '../../../src/audit-log/checkpoint.js';
import { verifyExport, type VerifyOptions } from '../../../src/audit-log/verify-export.js';
import type { Log } from '../../../src/base/log.js';
import { systemRandom } from '../../../src/base/random.js';
import { readPublicKey } from '../../../src/identity/key-file.js';
import { generatePrivateKey, toPkcs8Pem } from '../../../src/identity/private-key.js';
import { createAudit, type Audit, type AuditEvent } from '../../../src/link/audit/audit.js';
import { openCheckpoints, type Checkpoints } from '../../../src/link/audit/checkpoints.js';
import { createAuditReading } from '../../../src/link/audit/audit-reading.js';
import { listEventPage, type EventPageQuery } from '../../../src/link/audit/query.js';
import { exportLines } from '../../../src/link/audit/export.js';
import { checkLogs } from '../../../src/link/audit/log-check.js';
import { Retention } from '../../../src/link/audit/retention.js';
import { openLevelStore } from '../../../src/store/level.js';
import { createMemoryStore } from '../../../src/store/memory.js';
import { createPowerCutStore } from '../../../src/store/power-cut.js';
import type { Store } from '../../../src/store/store.js';
import { createManualClock, type ManualClock } from '../registry/manual-clock.js';
import { userParty } from '../../harness/parties.js';

const trustDomain = 'fleet.example';
const dayMs = 86_400_000;

function keepingLog(): { readonly log: Log; readonly said: string[] } {
  const said: string[] = [];
  const say = (_fields: object, message: string) => void said.push(message);
  const log: Log = {
    trace: say,
    debug: say,
    info: say,
    warn: say,
    error: say,
    child: () => log,
  };
  return { log, said };
}

interface Bench {
  readonly retention: Retention;
  /** Alerts for an operator. */
  readonly faults: string[];
  readonly audit: Audit;
  readonly folder: string;
  readonly store: Store;
  readonly clock: ManualClock;
  /** Days pass on the wall clock without any timer. */
  readonly skip: (days: number) => void;
  readonly said: string[];
  readonly checkpoints: Checkpoints;
  readonly tell: (tenant: string, count: number) => Promise<void>;
  readonly seqs: (tenant: string) => Promise<number[]>;
  readonly check: (tenant: string, options?: VerifyOptions) => ReturnType<typeof verifyExport>;
}

async function openBench(store: Store, folder: string, every = 10): Promise<Bench> {
  const manual = createManualClock();
  let skippedMs = 0;
  const clock = { ...manual, now: () => manual.now() + skippedMs };
  const { log, said } = keepingLog();
  const audit = createAudit({ clock });
  const checkpoints = await openCheckpoints({
    folder,
    store,
    audit,
    clock,
    random: systemRandom,
    log,
    trustDomain,
    every,
  });
  const { publicKeyPem } = checkpoints;
  const faults: string[] = [];
  const onFault = (tenant: string, fault: string): void => void faults.push(`${tenant}: ${fault}`);
  const retention = new Retention({
    store,
    audit,
    checkpoints,
    clock,
    log,
    onFault,
    retentionMs: 400 * dayMs,
  });
  return {
    skip: days => void (skippedMs += days * dayMs),
    retention,
    faults,
    audit,
    folder,
    store,
    clock,
    said,
    checkpoints,
    async tell(tenant, count) {
      for (let index = 0; index < count; index += 1) {
        await store.commit([
          audit.auditChange(tenant, { type: 'login', by: userParty('me'), detail: { index } }),
        ]);
      }
      await settle();
    },
    seqs: async tenant => (await checkpoints.list(tenant)).map(({ seq }) => seq),
    check: (tenant, options) =>
      verifyExport(exportLines({ store, tenant, trustDomain, publicKeyPem }), options),
  };
}

/** The same in a store of its own, as after a restart. */
async function copyOf(store: Store): Promise<Store> {
  const copy = createMemoryStore();
  const entries = await store.list({ prefix: '' });
  await copy.commit(entries.map(({ key, value }) => ({ type: 'put', key, value })));
  return copy;
}

/** Until what is under way in memory has come to its end. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await nextTurn();
}

/** Waits for what a disk takes its time for. */
async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await nextTurn();
}

void t.test('a checkpoint is written after a number of events in each tenant, and one at close', async t => {
  const bench = await openBench(createMemoryStore(), t.testdir());
  const { checkpoints, tell, seqs, check } = bench;
  await tell('a', 9);
  await tell('b', 9);
  t.strictSame([await seqs('a'), await seqs('b')], [[], []]);
  await tell('a', 1);
  t.strictSame([await seqs('a'), await seqs('b')], [[10], []]);
  await tell('a', 25);
  t.strictSame(await seqs('a'), [10, 20, 30]);
  t.match(await check('a'), { ok: true, entries: 35, vouchedTo: 30 });
  t.match(await checkpoints.latest('a'), {
    version: 1,
    tenant: 'a',
    trustDomain,
    seq: 30,
    at: bench.clock.now(),
  });
  t.equal(await checkpoints.latest('c'), undefined);
  await checkpoints.close();
  await checkpoints.close();
  t.strictSame([await seqs('a'), await seqs('b')], [[10, 20, 30, 35], [9]]);
  t.match(await check('a'), { ok: true, vouchedTo: 35 });
  t.match(await check('b'), { ok: true, vouchedTo: 9 });
  const latest = await checkpoints.latest('a');
  t.ok(latest && (await verifyCheckpoint(latest, readPublicKey(Buffer.from(checkpoints.publicKeyPem)))));
  await tell('a', 30);
  t.equal((await seqs('a')).length, 4, 'after close nothing is heard');
  t.strictSame(bench.said, []);
});

void t.test('a requested checkpoint covers the newest entry, and is the same without new events', async t => {
  const { checkpoints, tell, seqs } = await openBench(createMemoryStore(), t.testdir());
  await t.rejects(checkpoints.make('a'), { code: 'NOT_FOUND' });
  await tell('a', 3);
  const made = await Promise.all([checkpoints.make('a'), checkpoints.make('a')]);
  t.strictSame(made[0], made[1]);
  t.match(made[0], { seq: 3, tenant: 'a' });
  await tell('a', 1);
  t.equal((await checkpoints.make('a')).seq, 4);
  await checkpoints.close();
  t.strictSame(await seqs('a'), [3, 4], 'close adds none where there is no news');
});

void t.test('the checkpoint key and the count continue across a restart', async t => {
  const folder = t.testdir();
  const path = join(folder, 'store');
  const first = await openBench(await openLevelStore(path), folder);
  await first.tell('a/b', 7);
  await first.checkpoints.close();
  await first.store.close();
  t.equal((await stat(join(folder, 'audit-key.pem'))).mode & 0o777, 0o600);

  const second = await openBench(await openLevelStore(path), folder);
  t.equal(second.checkpoints.publicKeyPem, first.checkpoints.publicKeyPem);
  await second.tell('a/b', 9);
  t.strictSame(await second.seqs('a/b'), [7], 'nine since the last one');
  await second.tell('a/b', 1);
  await until(async () => (await second.seqs('a/b')).length === 2);
  t.strictSame(await second.seqs('a/b'), [7, 17]);
  await second.tell('a/b', 4);
  // As after a crash: the checkpoints are not closed.
  await second.store.close();

  const third = await openBench(await openLevelStore(path), folder, 4);
  await until(async () => (await third.seqs('a/b')).length === 3);
  t.strictSame(await third.seqs('a/b'), [7, 17, 21], 'what a crash prevented is made up for');
  const made = await third.checkpoints.make('a/b');
  t.match(await third.check('a/b', { keptCheckpoint: made }), { ok: true, entries: 21, vouchedTo: 21 });
  t.strictSame(third.said, []);
  await third.checkpoints.close();
  await third.store.close();
});

void t.test('a failing store fails no event, is logged once, and gets its checkpoint later', async t => {
  const power = createPowerCutStore();
  const { clock, said, checkpoints, tell, seqs } = await openBench(power.store, t.testdir());
  await tell('a', 9);
  power.failReads(new Error('no'));
  await tell('a', 3);
  power.failReads(undefined);
  t.equal(said.length, 1, 'once, not for every event');
  t.match(said[0], 'could not make a checkpoint of the audit log; trying again later');
  await tell('a', 1);
  t.strictSame(await seqs('a'), []);
  clock.advance(30_000);
  await settle();
  t.strictSame(await seqs('a'), [13]);
  await tell('a', 10);
  t.strictSame(await seqs('a'), [13, 23], 'then as before');
  await tell('a', 1);
  power.failWrites(new Error('no'));
  await checkpoints.close();
  t.equal(said.length, 2, 'a close that cannot write says so and ends');
});

void t.test('a commit does not wait for its checkpoint', async t => {
  const memory = createMemoryStore();
  let release: () => void = () => undefined;
  const gate = new Promise<void>(resolve => (release = resolve));
  const store: Store = {
    ...memory,
    async commit(changes, expectations) {
      if (changes.some(change => 'key' in change && change.key.includes('/checkpoint/'))) await gate;
      await memory.commit(changes, expectations);
    },
  };
  const { checkpoints, tell, seqs } = await openBench(store, t.testdir(), 1);
  await tell('a', 20);
  t.strictSame(await seqs('a'), [], 'the first is still under way');
  const closed = checkpoints.close();
  release();
  await closed;
  t.strictSame(await seqs('a'), [1, 20], 'close waits for it, and makes the last one');
  const lost = createPowerCutStore();
  const bench = await openBench(lost.store, t.testdir({ two: {} }), 5);
  await bench.tell('a', 5);
  const kept = await bench.checkpoints.make('a');
  const after = await openBench(lost.cut(), bench.folder, 5);
  t.match(
    await after.check('a', { keptCheckpoint: kept }),
    { ok: true, vouchedTo: 5 },
    'a made one is on the disk',
  );
  await after.checkpoints.close();
});

void t.test('an invalid checkpoint key is refused, and a new one is logged', async t => {
  const folder = t.testdir();
  const path = join(folder, 'audit-key.pem');
  const store = createMemoryStore();
  const first = await openBench(store, folder);
  await first.tell('a', 3);
  await first.checkpoints.close();
  const pem = await readFile(path, 'utf8');
  t.notOk(JSON.stringify(first.checkpoints).includes('PRIVATE'));

  await chmod(path, 0o644);
  await t.rejects(openBench(store, folder), { code: 'FILE_PERMISSIONS' });
  await chmod(path, 0o600);
  await writeFile(path, 'nonsense');
  await t.rejects(openBench(store, folder), { code: 'KEY_UNSUPPORTED' });
  await writeFile(path, toPkcs8Pem(generatePrivateKey('P-384')));
  await t.rejects(openBench(store, folder), { code: 'CONFIG_INVALID' });
  await writeFile(path, pem);
  const again = await openBench(store, folder);
  t.equal(again.checkpoints.publicKeyPem, first.checkpoints.publicKeyPem);
  await again.checkpoints.close();

  const other = await openBench(store, t.testdir({ other: {} }));
  t.match(other.said, [/the audit log has a new key/]);
  await other.checkpoints.close();
  t.match(
    await other.check('a'),
    { ok: true, vouchedTo: 4 },
    'one by the new key vouches for what the old one vouched for',
  );
  const [told] = (await listEventPage(store, 'a', { limit: 1, newestFirst: true })).entries;
  const fingerprintOf = (pem: string) => readPublicKey(Buffer.from(pem)).fingerprint;
  t.match(told, {
    type: 'audit.key-changed',
    by: { kind: 'link' },
    detail: {
      key: fingerprintOf(other.checkpoints.publicKeyPem),
      before: fingerprintOf(first.checkpoints.publicKeyPem),
    },
  });
  t.match(await other.check('a', { publicKeyPem: first.checkpoints.publicKeyPem }), {
    ok: false,
    problems: [{ kind: 'other key' }],
  });
});

void t.test('changed entries in the store are found by their checkpoint, and a report is kept', async t => {
  const { store, checkpoints, tell, check, said } = await openBench(createMemoryStore(), t.testdir(), 5);
  await tell('a', 12);
  const kept = await checkpoints.make('a');
  const prefix = 't/a/audit/';
  const entries = await store.list({ prefix });
  const last = entries.at(-1);
  const middle = entries[6];
  if (!last || !middle) throw new Error('no entries');
  const original = middle.value;
  const edited = Buffer.from(Buffer.from(original).toString().replace('"me"', '"mallory"'));
  await store.commit([{ type: 'put', key: middle.key, value: edited }]);
  t.match((await check('a')).problems, [{ kind: 'changed', seq: 7 }]);
  await store.commit([{ type: 'put', key: middle.key, value: Buffer.from('{"x\n\u001b[2J') }]);
  t.match((await check('a')).problems[0], { kind: 'damaged', seq: 7 });
  t.match(await listEventPage(store, 'a', { limit: 50 }), { entries: { length: 11 }, damaged: [7] });
  await store.commit([{ type: 'delete', key: middle.key }]);
  t.match((await check('a')).problems[0], { kind: 'missing', seq: 7 });
  await store.commit([{ type: 'put', key: middle.key, value: original }]);
  t.ok((await check('a')).ok);

  const ofLast = `t/a/checkpoint/${last.key.slice(prefix.length)}`;
  const forged = Buffer.from(JSON.stringify({ ...kept, hash: 'ab'.repeat(32) }));
  await store.commit([{ type: 'put', key: ofLast, value: forged }]);
  await t.rejects(checkpoints.make('a'), {
    code: 'INTERNAL',
    message: /the audit log was changed: entry 12/,
  });
  await store.commit([{ type: 'delete', key: last.key }]);
  t.match((await check('a', { keptCheckpoint: kept })).problems[0], { kind: 'truncated', seq: 12 });
  await store.commit([{ type: 'put', key: last.key, value: Buffer.from('{') }]);
  await t.rejects(checkpoints.make('a'), { code: 'INTERNAL', message: /damaged/ });
  await checkpoints.close();
  t.ok(said.length <= 1);
});

void t.test(
  'a log that was cut is detected by a later checkpoint in the store, also when it has grown again',
  async t => {
    const { store, tell, checkpoints, check, folder } = await openBench(createMemoryStore(), t.testdir(), 5);
    await tell('a', 12);
    await checkpoints.make('a');
    const cut = await store.list({ prefix: 't/a/audit/', after: 't/a/audit/0000000000000008' });
    await store.commit(cut.map(({ key }) => ({ type: 'delete', key })));
    t.match(await check('a'), {
      ok: false,
      last: 8,
      problems: [{ kind: 'truncated', seq: 9, sentence: /its newest checkpoint is of entry 12/ }],
    });

    // A new process: the writer that is open remembers where the log ended.
    const again = await openBench(await copyOf(store), folder, 1000);
    await again.tell('a', 4);
    const reading = createAuditReading({ ...again, trustDomain });
    const lines: string[] = [];
    for await (const line of reading.exportLines('a')) lines.push(line);
    t.match(await verifyExport(lines), {
      ok: false,
      last: 12,
      problems: [{ kind: 'rewritten', seq: 10 }],
    });
  },
);

/** Five events on each of so many days that have passed. */
async function tellDays({ store, audit, skip }: Bench, days: number): Promise<void> {
  for (let day = 0; day < days; day += 1) {
    const events = Array.from({ length: 5 }, () =>
      audit.auditChange('a', { type: 'login', by: userParty('me'), detail: { day } }),
    );
    await store.commit(events);
    skip(1);
  }
  await settle();
}

void t.test('the oldest events are removed after their time, and the remaining log verifies', async t => {
  const bench = await openBench(createMemoryStore(), t.testdir(), 100_000);
  const { retention, check, store, skip, checkpoints } = bench;
  await tellDays(bench, 500);
  const kept = await checkpoints.make('a');
  await retention.run();
  // 500 of those events are older than 400 days: too few for a batch, but the oldest is a week past its time.
  const after = await check('a', { keptCheckpoint: kept });
  t.match(after, { ok: true, trimmedTo: 500, first: 501, last: 2501, problems: [] });
  t.match(after.checkpoints, [
    { seq: 500, finding: 'holds' },
    { seq: 2500, finding: 'holds' },
  ]);
  const [told] = (await listEventPage(store, 'a', { limit: 1, newestFirst: true })).entries;
  t.match(told, { type: 'audit.trimmed', by: { kind: 'link' }, detail: { from: 1, to: 500 } });
  await retention.run();
  t.match(await check('a'), { last: 2501 }, 'nothing is taken away that is not due');
  skip(6);
  await retention.run();
  t.match(await check('a'), { last: 2501 }, 'and nothing for a few entries of a few days');

  skip(1_000);
  await retention.run();
  const end = await check('a', { keptCheckpoint: kept });
  t.match(end, { ok: true, trimmedTo: 2501, entries: 3, first: 2502 }, 'the newest entry is always left');
  t.match(end.kept, { finding: 'not compared' }, 'a checkpoint that was kept goes on being of this log');
  await bench.tell('a', 1);
  t.match(await check('a'), { ok: true, last: 2505 }, 'and the count goes on');
  t.strictSame([...bench.faults, ...bench.said], []);
  await retention.close();
  await checkpoints.close();
});

void t.test('the newest entry of a log stays, however old it is', async t => {
  const bench = await openBench(createMemoryStore(), t.testdir());
  await bench.tell('a', 1);
  bench.skip(5_000);
  await bench.retention.run();
  t.match(await bench.check('a'), { ok: true, trimmedTo: 0, entries: 1, last: 1 });
  t.same(bench.said, []);
  await bench.checkpoints.close();
});

void t.test('a log that is cut at its beginning is distinguished from one that was trimmed', async t => {
  const bench = await openBench(createMemoryStore(), t.testdir(), 10);
  await bench.tell('a', 30);
  const front = await bench.store.list({ prefix: 't/a/audit/', limit: 10 });
  await bench.store.commit(front.map(({ key }) => ({ type: 'delete', key })));
  t.match(await bench.check('a'), {
    ok: false,
    trimmedTo: 0,
    first: 11,
    problems: [{ kind: 'missing', seq: 1, sentence: /^entries 1 to 10 are missing/ }],
  });
  await bench.checkpoints.close();
});

void t.test('a power cut or a full disk during trimming leaves a log that verifies', async t => {
  const power = createPowerCutStore();
  const bench = await openBench(power.store, t.testdir(), 100_000);
  await tellDays(bench, 420);
  power.failWrites(new Error('no'));
  await bench.retention.run();
  t.match(bench.said, ['could not trim the audit log; trying again in an hour']);
  t.match(await bench.check('a'), { ok: true, trimmedTo: 0, entries: 2100 });
  power.failWrites(undefined);
  let before = bench;
  for (const keepHeld of [false, true]) {
    const open = power.hold();
    before.skip(2_000);
    const running = before.retention.run();
    await settle();
    const after = await openBench(power.cut({ keepHeld }), bench.folder, 100_000);
    const trimmedTo = keepHeld ? 1000 : 0;
    t.match(
      await after.check('a'),
      { ok: true, trimmedTo, first: trimmedTo + 1 },
      keepHeld ? 'the batch is found' : 'the batch is lost',
    );
    open();
    await running;
    before = after;
  }
});

void t.test(
  'an export in progress keeps its entries, and delays the trimming for an hour at most',
  async t => {
    const bench = await openBench(createMemoryStore(), t.testdir(), 100_000);
    const { retention, checkpoints, store, clock } = bench;
    await tellDays(bench, 500);
    const reading = createAuditReading({ store, checkpoints, retention, trustDomain });
    const lines: string[] = [];
    for await (const line of reading.exportLines('a')) {
      lines.push(line);
      if (lines.length === 3) await retention.run();
    }
    t.match(await verifyExport(lines), { ok: true, entries: 2500, trimmedTo: 0 }, 'all that its header says');
    const slow = reading.exportLines('a')[Symbol.asyncIterator]();
    await slow.next();
    clock.advance(3_600_001);
    await retention.run();
    t.match(await bench.check('a'), { ok: true, trimmedTo: 505 });
    await slow.return?.();
    await checkpoints.close();
  },
);

void t.test('entries that were changed are not trimmed unnoticed', async t => {
  const bench = await openBench(createMemoryStore(), t.testdir(), 50);
  const { store, faults, retention, check } = bench;
  await tellDays(bench, 500);
  const entries = await store.list({ prefix: 't/a/audit/', limit: 500 });
  const changed = entries[99];
  const conflicting = await store.get('t/a/checkpoint/0000000000000500');
  if (!changed || !conflicting) throw new Error('no entry');
  await store.commit([
    { type: 'put', key: changed.key, value: Buffer.from('{') },
    {
      type: 'put',
      key: 't/a/checkpoint/0000000000000500',
      value: Buffer.from(
        Buffer.from(conflicting)
          .toString()
          .replace(/"hash":"..../, '"hash":"0000'),
      ),
    },
  ]);
  await retention.run();
  t.match(await check('a'), { trimmedTo: 499, first: 500 }, 'the log shrinks all the same');
  t.match(faults, [/^a: the audit log was changed: entry 500/, /^a: entry 100 cannot be read/]);
  const [told] = (await listEventPage(store, 'a', { limit: 1, newestFirst: true })).entries;
  t.match(told, { type: 'audit.trimmed', outcome: 'failed', detail: { fault: /^entry 100 cannot be read/ } });
});

void t.test('a new key signs for the old one where entries were trimmed', async t => {
  const store = createMemoryStore();
  const bench = await openBench(store, t.testdir(), 100_000);
  await tellDays(bench, 500);
  await bench.retention.run();
  await bench.checkpoints.close();
  const other = await openBench(store, t.testdir({ other: {} }), 100_000);
  t.match(await other.check('a'), { ok: true, trimmedTo: 500, first: 501 });
  await other.checkpoints.close();
});

void t.test(
  'a starting link compares its audit logs with their checkpoints, and reports differences',
  async t => {
    const started = async (change: (store: Store) => Promise<void>) => {
      const store = createMemoryStore();
      const bench = await openBench(store, t.testdir({ [`f${folders++}`]: {} }), 10);
      await bench.tell('a', 25);
      await bench.tell('b', 25);
      await change(store);
      const key = bench.checkpoints.publicKey;
      const { log } = keepingLog();
      const { faults, audit } = bench;
      const onFault = (tenant: string, fault: string): void => void faults.push(`${tenant}: ${fault}`);
      const copy = await copyOf(store);
      await checkLogs({ store: copy, audit, log, key, onFault });
      const page = await listEventPage(copy, 'a', { limit: 5, typePrefix: 'audit.' });
      t.strictSame((await listEventPage(copy, 'b', { limit: 5, typePrefix: 'audit.' })).entries, []);
      await bench.checkpoints.close();
      return { faults, events: page.entries };
    };
    let folders = 0;
    t.strictSame(await started(() => Promise.resolve()), { faults: [], events: [] }, 'an honest log');

    const at = (seq: number): string => `t/a/audit/${`${seq}`.padStart(16, '0')}`;
    const checkpoint = 't/a/checkpoint/0000000000000020';
    const remove = async (store: Store, ...keys: string[]) =>
      store.commit(keys.map(key => ({ type: 'delete', key })));
    const rewrite = async (store: Store, key: string, from: string, to: string) => {
      const text = Buffer.from((await store.get(key)) ?? '').toString();
      await store.commit([{ type: 'put', key, value: Buffer.from(text.replace(from, to)) }]);
    };
    const cases: [string, (store: Store) => Promise<void>, RegExp][] = [
      [
        'cut',
        store => remove(store, ...[18, 19, 20, 21, 22, 23, 24, 25].map(at)),
        /truncated: it ends at entry 17/,
      ],
      ['one gone', store => remove(store, at(20)), /entry 20, which a checkpoint is of, is missing/],
      [
        'rewritten',
        store => rewrite(store, at(20), '"name":"me"', '"name":"eve"'),
        /entry 20 is not the one/,
      ],
      [
        'damaged',
        store => rewrite(store, at(20), '{', ''),
        /entry 20, which a checkpoint is of, cannot be read/,
      ],
      ['beheaded', store => remove(store, at(1)), /entry 1 is missing, and no checkpoint of entry 1/],
      [
        'a changed checkpoint',
        store => rewrite(store, checkpoint, '"at":17', '"at":18'),
        /signature does not fit/,
      ],
      [
        'a damaged checkpoint',
        store => rewrite(store, checkpoint, '{', ''),
        /checkpoint of entry 20 cannot be read/,
      ],
    ];
    for (const [name, change, sentence] of cases) {
      const { faults, events } = await started(change);
      t.match(faults, [sentence], name);
      t.match(events, [{ type: 'audit.fault-found', outcome: 'failed', detail: { fault: sentence } }], name);
    }
  },
);

void t.test('an export covers one moment of a growing log, also of a large one', async t => {
  const { store, tell, checkpoints } = await openBench(createMemoryStore(), t.testdir(), 400);
  await tell('a', 1203);
  const { publicKeyPem } = checkpoints;
  const lines = exportLines({ store, tenant: 'a', trustDomain, publicKeyPem });
  const taken: string[] = [];
  for await (const line of lines) {
    taken.push(line);
    if (taken.length === 2) await tell('a', 400);
  }
  t.match(await verifyExport(taken), {
    ok: true,
    entries: 1203,
    vouchedTo: 1200,
    checkpoints: { length: 3 },
  });
  const none = exportLines({ store, tenant: 'nobody', trustDomain, publicKeyPem });
  t.match(await verifyExport(none), { ok: true, entries: 0 });
  await checkpoints.close();
});

void t.test('pages of events, from either end and filtered, read a bounded number of entries', async t => {
  const store = createMemoryStore();
  const clock = createManualClock(1_000_000);
  const audit = createAudit({ clock });
  const events: AuditEvent[] = Array.from({ length: 30 }, (_, index) => ({
    type: index % 3 === 0 ? 'node.registered' : 'login',
    by: userParty(index % 2 === 0 ? 'anna' : 'bert'),
    subject: `s${index % 5}`,
    ...(index === 4 && {
      by: { ...userParty('anna'), address: '10.0.0.1', requestId: 'r4' },
      outcome: 'refused' as const,
    }),
  }));
  for (const event of events) {
    await store.commit([audit.auditChange('a', event)]);
    clock.advance(1000);
  }
  const seqs = async (query: Partial<EventPageQuery>) => {
    const { entries, next } = await listEventPage(store, 'a', { limit: 4, ...query });
    return { seqs: entries.map(({ seq }) => seq), next };
  };
  t.strictSame(await seqs({}), { seqs: [1, 2, 3, 4], next: 4 });
  t.strictSame(await seqs({ from: 28 }), { seqs: [29, 30], next: undefined });
  t.strictSame(await seqs({ newestFirst: true }), { seqs: [30, 29, 28, 27], next: 27 });
  t.strictSame(await seqs({ newestFirst: true, from: 3 }), { seqs: [2, 1], next: undefined });
  t.strictSame(await seqs({ from: 26 }), { seqs: [27, 28, 29, 30], next: undefined });
  t.strictSame(await seqs({ typePrefix: 'node.' }), { seqs: [1, 4, 7, 10], next: 10 });
  t.strictSame(await seqs({ typePrefix: 'node.', from: 10, limit: 9 }), {
    seqs: [13, 16, 19, 22, 25, 28],
    next: undefined,
  });
  t.strictSame(await seqs({ by: 'bert', subject: 's1', newestFirst: true }), {
    seqs: [22, 12, 2],
    next: undefined,
  });
  t.strictSame(await seqs({ since: 1_005_000, until: 1_008_000 }), { seqs: [6, 7, 8], next: undefined });
  t.strictSame(await seqs({ by: 'nobody' }), { seqs: [], next: undefined });
  const { entries } = await listEventPage(store, 'a', { limit: 10 });
  t.match(entries[4], { address: '10.0.0.1', requestId: 'r4', outcome: 'refused' });
  t.notOk(entries[3] && ('address' in entries[3] || 'outcome' in entries[3]));
  t.strictSame(
    (await listEventPage(store, 'b', { limit: 10 })).entries,
    [],
    'another tenant sees nothing of it',
  );

  const many = Array.from({ length: 12_000 }, () =>
    audit.auditChange('c', { type: 'login', by: userParty('me') }),
  );
  await store.commit(many);
  const first = await listEventPage(store, 'c', { limit: 10, by: 'nobody' });
  t.strictSame(first, { entries: [], damaged: [], next: 10_000 });
  t.equal((await listEventPage(store, 'c', { limit: 10, by: 'nobody', from: first.next })).next, undefined);
  t.equal((await listEventPage(store, 'c', { limit: 5000 })).entries.length, 1000, 'no page is longer');
  for (const unfit of [
    ...[{ from: -1 }, { from: 1e15 }, { since: 0.5 }, { until: NaN }, { limit: Infinity }],
    ...[{ by: 'x'.repeat(201) }, { subject: 'x'.repeat(201) }, { typePrefix: 'x'.repeat(201) }],
  ])
    await t.rejects(listEventPage(store, 'c', { limit: 10, ...unfit }), { code: 'REQUEST_INVALID' });
});
