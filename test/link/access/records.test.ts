import t from 'tap';
import { isRollcallError } from '../../../src/base/errors.js';
import type { Log } from '../../../src/base/log.js';
import { createAlerts, linesPerMinute, type AlertEvent } from '../../../src/link/access/alerts.js';
import { createBoundedMap } from '../../../src/link/access/bounded-map.js';
import { denial, openDenied } from '../../../src/link/access/tokens/deny-list.js';
import { decide, listRecords, putRecord, readRecord } from '../../../src/link/access/records.js';
import { createTenants } from '../../../src/link/access/accounts/tenants.js';
import { openCutoffs } from '../../../src/link/access/tokens/cutoffs.js';
import { createAudit } from '../../../src/link/audit/audit.js';
import { listEvents } from '../../../src/link/audit/query.js';
import { createMemoryStore } from '../../../src/store/memory.js';
import { createPowerCutStore } from '../../../src/store/power-cut.js';
import { createManualClock } from '../../harness/manual-clock.js';
import { userParty } from '../../harness/parties.js';

interface Line {
  readonly fields: Record<string, unknown>;
  readonly message: string;
}

function recordingLog(): Log & { readonly warnings: Line[] } {
  const warnings: Line[] = [];
  const ignore = (): void => undefined;
  const log = {
    warnings,
    trace: ignore,
    debug: ignore,
    info: ignore,
    error: ignore,
    warn: (fields: Record<string, unknown>, message: string) => void warnings.push({ fields, message }),
    child: (): Log => log,
  };
  return log;
}

void t.test('a stored record is read as it was put, and a missing one is undefined', async test => {
  const store = createMemoryStore();
  test.equal(await readRecord(store, 'a/1'), undefined);
  await store.commit([putRecord('a/2', { n: 2 }), putRecord('a/1', { n: 1 }), putRecord('b/1', {})]);
  test.same(await readRecord(store, 'a/1'), { n: 1 });
  test.same(await listRecords(store, 'a/'), [{ n: 1 }, { n: 2 }], 'in the order of the keys');
});

void t.test('reading a damaged record fails with an error that does not show its contents', async test => {
  const store = createMemoryStore();
  for (const text of ['{"secret":', '7', 'null', '"text"', '']) {
    await store.commit([{ type: 'put', key: 'a', value: Buffer.from(text) }]);
    const error = await readRecord(store, 'a').catch((each: unknown) => each);
    test.ok(isRollcallError(error, 'INTERNAL') && !error.message.includes('secret'), text);
  }
});

void t.test('simultaneous changes of one record are all applied', async test => {
  const store = createMemoryStore();
  const add = () =>
    decide(store, async reads => {
      const n = ((await readRecord<{ n: number }>(reads, 'count'))?.n ?? 0) + 1;
      return { changes: [putRecord('count', { n })], result: n };
    });
  const results = await Promise.all(Array.from({ length: 12 }, add));
  test.same(
    results.sort((one, other) => one - other),
    Array.from({ length: 12 }, (_, index) => index + 1),
  );
  test.same(await readRecord(store, 'count'), { n: 12 });
});

void t.test(
  'a change that always conflicts fails in the end, and other errors are not retried',
  async test => {
    const store = createMemoryStore();
    let tries = 0;
    const losing = decide(store, async reads => {
      await reads.get('a');
      await store.commit([putRecord('a', { n: ++tries })]);
      return { changes: [putRecord('a', {})], result: undefined };
    });
    await test.rejects(losing, { code: 'STORE_CONFLICT' });
    test.equal(tries, 20);
    const failing = createPowerCutStore();
    failing.failWrites(new Error('gone'));
    let asked = 0;
    const once = decide(failing.store, () => {
      asked += 1;
      return { changes: [putRecord('a', {})], result: undefined };
    });
    await test.rejects(once, { code: 'STORE_UNAVAILABLE' });
    test.equal(asked, 1);
  },
);

void t.test(
  'a commit expects every record that its decision read, and a decision reads each record once',
  async test => {
    const store = createMemoryStore();
    await store.commit([putRecord('a', { n: 1 }), putRecord('b', { n: 1 })]);
    for (const key of ['a', 'b', 'c']) {
      const seen: unknown[] = [];
      await decide(store, async reads => {
        const [first, , again] = [await reads.get('a'), await reads.get('b'), await reads.get('a')];
        test.equal(first, again);
        await reads.get('c');
        seen.push(await readRecord(reads, key));
        // The first time, somebody is quicker.
        if (seen.length === 1) await store.commit([putRecord(key, { n: 2 })]);
        return { changes: [putRecord('d', {})], result: undefined };
      });
      test.same(seen.at(-1), { n: 2 }, `${key} is read anew`);
      test.equal(seen.length, 2);
    }
  },
);

void t.test('a decision that does nothing or throws writes nothing', async test => {
  const disk = createPowerCutStore();
  const none = await decide(disk.store, () => ({ changes: [], result: 'none' }));
  test.equal(none, 'none');
  const thrown = decide(disk.store, () => {
    throw new RangeError('no');
  });
  await test.rejects(thrown, RangeError);
  test.equal(disk.syncs(), 0);
});

void t.test('a denied token stays denied over a restart, until it has expired', async test => {
  const clock = createManualClock(1_700_000_000_000);
  const store = createMemoryStore();
  const log = recordingLog();
  const first = await openDenied({ store, clock, log });
  const inAMinute = clock.now() + 60_000;
  await first.deny({ id: 'short', endsAt: inAMinute, tenant: 'ward' }, () =>
    Promise.resolve([putRecord('other', { with: 'it' })]),
  );
  await first.deny({ id: 'long/odd', endsAt: clock.now() + 3_600_000, tenant: 'default' });
  await store.commit([denial({ id: 'gone', endsAt: inAMinute, tenant: 'ward' })]);
  test.ok(first.has('gone'), 'by a commit of somebody else’s');
  // As it was written before tenants were.
  const old = `access/denied/${`${inAMinute}`.padStart(16, '0')}/old`;
  await store.commit([{ type: 'put', key: old, value: Buffer.of() }]);
  test.same(await readRecord(store, 'other'), { with: 'it' }, 'in the same commit');
  first.close();

  const second = await openDenied({ store, clock, log });
  test.ok(second.has('short') && second.has('long/odd') && second.has('old'));
  test.same(
    second.list('ward').map(({ id }) => id),
    ['gone', 'short'],
    'each tenant has a list of its own',
  );
  test.same(
    second.list('default').map(({ id }) => id),
    ['old', 'long/odd'],
  );
  test.notOk(second.has('other') || second.has('__proto__') || second.has(''));
  clock.advance(120_000);
  test.ok(second.has('short'), 'a little beyond its end, for clocks that differ');
  clock.advance(180_000);
  await new Promise(resolve => setImmediate(resolve));
  test.notOk(second.has('short'));
  test.ok(second.has('long/odd'));
  test.equal((await store.list({ prefix: 'access/denied/' })).length, 1, 'nor does the store keep it');
  second.close();
  const third = await openDenied({ store, clock, log });
  test.ok(third.has('long/odd') && !third.has('short'));
  third.close();
});

void t.test('a token that was denied twice leaves nothing in the store after the later end', async test => {
  const clock = createManualClock(1_700_000_000_000);
  const store = createMemoryStore();
  const denied = await openDenied({ store, clock, log: recordingLog() });
  const entry = { id: 'twice', tenant: 'default' };
  await denied.deny({ ...entry, endsAt: clock.now() + 60_000 });
  await denied.deny({ ...entry, endsAt: clock.now() + 1_800_000 });
  clock.advance(600_000);
  await new Promise(resolve => setImmediate(resolve));
  test.ok(denied.has('twice'), 'until then it is denied');
  test.equal((await store.list({ prefix: 'access/denied/' })).length, 1, 'by one key');
  clock.advance(1_800_000);
  await new Promise(resolve => setImmediate(resolve));
  test.notOk(denied.has('twice'));
  test.same(await store.list({ prefix: 'access/denied/' }), []);
  denied.close();
});

void t.test(
  'a token is denied at once, even when the store fails, and a later denial cannot shorten it',
  async test => {
    const clock = createManualClock(1_700_000_000_000);
    const disk = createPowerCutStore();
    const log = recordingLog();
    const denied = await openDenied({ store: disk.store, clock, log });
    const open = disk.hold();
    const writing = denied.deny({ id: 'a', endsAt: clock.now() + 3_600_000, tenant: 'default' });
    test.ok(denied.has('a'), 'before it is written');
    open();
    await writing;
    await denied.deny({ id: 'a', endsAt: clock.now() + 1_000, tenant: 'default' });
    disk.failWrites(new Error('gone'));
    await test.rejects(denied.deny({ id: 'b', endsAt: clock.now() + 60_000, tenant: 'default' }), {
      code: 'STORE_UNAVAILABLE',
    });
    test.ok(denied.has('b'));
    clock.advance(1_800_000);
    await new Promise(resolve => setImmediate(resolve));
    test.ok(denied.has('a'));
    test.match(log.warnings, [{ message: /could not forget/ }], 'and a failing sweep is only told');
    denied.close();
  },
);

void t.test(
  'tenants: the default one exists, names ignore the case of letters, and changes are audited',
  async test => {
    const clock = createManualClock(1_700_000_000_000);
    const store = createMemoryStore();
    const audit = createAudit({ clock });
    const tenants = createTenants({
      store,
      audit,
      clock,
      cutoffs: await openCutoffs({ store, audit, clock }),
    });
    test.ok(await tenants.exists('default'));
    await tenants.create('Ward-7', userParty('admin'));
    test.ok(await tenants.exists('Ward-7'));
    for (const name of [
      'ward-7',
      'other',
      '',
      '__proto__',
      'constructor',
      'ward-7/../default',
      '\u212aelvin',
    ])
      test.notOk(await tenants.exists(name), `there is no tenant ${name}`);
    for (const name of ['default', 'DEFAULT', 'Ward-7', 'wARD-7'])
      await test.rejects(tenants.create(name, userParty('admin')), { code: 'NAME_TAKEN' }, name);
    for (const name of ['', '..', '-rf', '../../etc', 'a/b', 'a\nb', 'x'.repeat(64), '__proto__'])
      await test.rejects(
        async () => tenants.create(name, userParty('admin')),
        { code: 'REQUEST_INVALID' },
        name,
      );
    await tenants.create('constructor', userParty('admin'));
    test.same(
      (await tenants.list()).map(({ name }) => name),
      ['default', 'constructor', 'Ward-7'],
    );
    test.match(await listEvents(store, 'default', { limit: 10 }), [
      { type: 'tenant.created', subject: 'Ward-7', by: { name: 'admin' } },
      { type: 'tenant.created', subject: 'constructor' },
    ]);
  },
);

void t.test('a bounded map evicts the entry that was set longest ago', test => {
  const map = createBoundedMap<number>(2);
  map.set('a', 1);
  map.set('b', 2);
  map.set('a', 3);
  map.set('c', 4);
  test.same([map.get('a'), map.get('b'), map.get('c'), map.size], [3, undefined, 4, 2]);
  map.delete('a');
  test.equal(map.size, 1);
  map.set('__proto__', 5);
  test.equal(map.get('__proto__'), 5);
  test.end();
});

void t.test('every alert is counted, some are logged, and the number of omitted ones is logged', test => {
  const clock = createManualClock(1_700_000_000_000);
  const log = recordingLog();
  const counted: AlertEvent[] = [];
  const alerts = createAlerts({ log, clock, count: event => void counted.push(event) });
  for (let n = 0; n < 1000; n++) alerts.raise('security.login-failures', { n });
  alerts.raise('security.token-denied', { address: '192.0.2.7' });
  test.equal(counted.length, 1001);
  test.equal(log.warnings.length, linesPerMinute + 1, 'each event has lines of its own');
  test.same(log.warnings.at(-1)?.fields, { address: '192.0.2.7', event: 'security.token-denied' });
  clock.advance(60_000);
  alerts.raise('security.login-failures');
  test.same(log.warnings.at(-1)?.fields, { leftOut: 990, event: 'security.login-failures' });
  alerts.raise('security.login-failures');
  test.same(log.warnings.at(-1)?.fields, { event: 'security.login-failures' });
  test.end();
});

void t.test('values from outside cannot forge a line or the name of an alert', test => {
  const log = recordingLog();
  const alerts = createAlerts({ log, clock: createManualClock(), count: () => undefined });
  alerts.raise('security.proof-refused', {
    name: 'a\n{"level":"fatal"}\u001b[31m\u202e',
    long: 'x'.repeat(5000),
    event: 'other',
  });
  const [line] = log.warnings;
  test.equal(line?.fields['event'], 'security.proof-refused');
  test.notMatch(JSON.stringify(line?.fields), /\\n|\\u001b|\u202e/);
  test.ok(String(line?.fields['long']).length <= 256);
  test.end();
});
