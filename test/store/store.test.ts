import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { openLevelStore } from '../../src/store/level.js';
import { createMemoryStore } from '../../src/store/memory.js';
import { listTenants, tenantOf, tenantPrefix } from '../../src/store/keys.js';
import { createPowerCutStore } from '../../src/store/power-cut.js';
import { prepareStore } from '../../src/store/schema.js';
import type { Change, Store } from '../../src/store/store.js';
import { pausingStore } from '../harness/stores.js';
import { testStore } from './conformance.js';

const root = mkdtempSync(join(tmpdir(), 'rollcall-store-'));
t.teardown(() => rmSync(root, { recursive: true, force: true }));
let folders = 0;
const newFolder = (): string => join(root, String(folders++), 'store');
const put = (key: string, value: string): Change => ({ type: 'put', key, value: Buffer.from(value) });
const append = (log: string, name: string): Change => ({
  type: 'append',
  log,
  value: previous => Buffer.from(`${previous ? Buffer.from(previous).toString() : ''}${name}`),
});
const text = async (store: Store, key: string): Promise<string | undefined> => {
  const value = await store.get(key);
  return value && Buffer.from(value).toString();
};
const noSpace = () => new Error('IO error: /data/000003.log: No space left on device');

testStore(t, 'memory', () => Promise.resolve({ store: createMemoryStore() }));
testStore(t, 'level', async () => {
  const folder = newFolder();
  return { store: await openLevelStore(folder), reopen: () => openLevelStore(folder) };
});
testStore(t, 'power cut', () => {
  const power = createPowerCutStore();
  return Promise.resolve({ store: power.store, reopen: () => Promise.resolve(power.cut()) });
});

testStore(t, 'pausing', () => Promise.resolve({ store: pausingStore(createMemoryStore()).store }));

void t.test('acknowledged commits survive a power cut at any moment', async test => {
  const power = createPowerCutStore();
  await power.store.commit([put('a', '1'), append('log/', 'a')]);
  let store = power.cut();
  test.equal(await text(store, 'a'), '1');

  power.hold();
  const lost = test.rejects(power.store.commit([put('a', '2'), put('b', '2')]), {
    code: 'STORE_UNAVAILABLE',
  });
  await new Promise(setImmediate);
  store = power.cut();
  await lost;
  test.equal(await text(store, 'a'), '1', 'what was on its way is gone');
  await store.commit([append('log/', 'b')]);
  test.equal(await text(store, `log/${'2'.padStart(16, '0')}`), 'ab');

  power.hold();
  const kept = test.rejects(store.commit([put('a', '3'), put('b', '3')]), { code: 'STORE_UNAVAILABLE' });
  await new Promise(setImmediate);
  store = power.cut({ keepHeld: true });
  await kept;
  test.equal(await text(store, 'a'), '3', 'or it is there as a whole');
  test.equal(await text(store, 'b'), '3');
});

void t.test('a failed batch rejects its whole group and leaves no trace', async test => {
  const power = createPowerCutStore();
  const { store } = power;
  await store.commit([append('log/', 'a')]);
  const heard: string[] = [];
  store.watch('', changes => heard.push(...changes.map(({ key }) => key)));
  power.failWrites(new Error('the cable is out'));
  const failed = await Promise.allSettled([
    store.commit([put('x', '1'), append('log/', 'b')]),
    store.commit([append('log/', 'c')]),
    store.commit([put('x', '2')], [{ key: 'x', value: undefined }]),
  ]);
  for (const result of failed) test.match(result, { reason: { code: 'STORE_UNAVAILABLE' } });
  power.failWrites(noSpace());
  await test.rejects(store.commit([put('x', '1')]), { code: 'STORE_FULL' });
  const overQuota = Object.assign(new Error('write'), { code: 'EDQUOT' });
  power.failWrites(new Error('wrapped', { cause: overQuota }));
  await test.rejects(store.commit([put('x', '1')]), { code: 'STORE_FULL' });
  power.failWrites(undefined);
  test.same(heard, []);
  test.equal(await store.get('x'), undefined);
  await store.commit([append('log/', 'd')]);
  test.equal(await text(store, `log/${'2'.padStart(16, '0')}`), 'ad');
});

void t.test('a log continues after a batch that failed but was written', async test => {
  const power = createPowerCutStore();
  await power.store.commit([append('log/', 'a')]);
  power.failWrites(new Error('the sync failed'), { kept: true });
  await test.rejects(power.store.commit([append('log/', 'b')]), { code: 'STORE_UNAVAILABLE' });
  power.failWrites(undefined);
  await power.store.commit([append('log/', 'c')]);
  test.equal(await text(power.store, `log/${'3'.padStart(16, '0')}`), 'abc');
});

void t.test('expectations are checked against the disk once the disk has recovered', async test => {
  const power = createPowerCutStore();
  const { store } = power;
  await store.commit([append('log/', 'a')]);
  power.failWrites(new Error('the sync failed'), { kept: 'later' });
  await test.rejects(store.commit([put('x', '1'), append('log/', 'b')]), { code: 'STORE_UNAVAILABLE' });
  test.equal(await store.get('x'), undefined, 'as a database shows it before it is opened again');
  await test.rejects(store.commit([put('y', '1')]), { code: 'STORE_UNAVAILABLE' });
  power.failWrites(undefined);
  const results = await Promise.allSettled([
    store.commit([put('x', '2')], [{ key: 'x', value: undefined }]),
    store.commit([append('log/', 'c')]),
  ]);
  test.match(results, [{ reason: { code: 'STORE_CONFLICT' } }, { status: 'fulfilled' }]);
  test.equal(await text(store, 'x'), '1');
  test.equal(
    await text(store, `log/${'3'.padStart(16, '0')}`),
    'abc',
    'and no entry of a log is written over',
  );
});

void t.test(
  'a failing read is STORE_UNAVAILABLE, also within a commit, and fails that commit only',
  async test => {
    const power = createPowerCutStore();
    power.failReads(new Error('bad sector'));
    await test.rejects(power.store.get('a'), { code: 'STORE_UNAVAILABLE' });
    const results = await Promise.allSettled([
      power.store.commit([put('a', '1')], [{ key: 'a', value: undefined }]),
      power.store.commit([put('b', '1')]),
    ]);
    power.failReads(undefined);
    test.match(results[0], { reason: { code: 'STORE_UNAVAILABLE' } });
    test.equal(await power.store.get('a'), undefined);
    test.equal(await text(power.store, 'b'), '1');
  },
);

void t.test('concurrent commits share syncs', async test => {
  const power = createPowerCutStore();
  const commits = Array.from({ length: 3000 }, (_, index) => power.store.commit([put(`n/${index}`, '')]));
  await Promise.all(commits);
  test.ok(power.syncs() < 10, `${power.syncs()} syncs for 3000 commits`);
  const before = power.syncs();
  await power.store.commit([]);
  test.equal(power.syncs(), before, 'and nothing to write costs none');
});

void t.test('level: one process at a time opens the folder of a store', async test => {
  const folder = newFolder();
  const store = await openLevelStore(folder);
  test.equal(statSync(folder).mode & 0o777, 0o700);
  const url = new URL('../../src/store/level.ts', import.meta.url).href;
  const script = `import(${JSON.stringify(url)}).then(({ openLevelStore }) => openLevelStore(${JSON.stringify(folder)}))
    .then(() => console.log('opened'), error => console.log(error.code, error.message, error.hint))`;
  const said = execFileSync(process.execPath, ['--import=tsx', '--input-type=module', '-e', script], {
    encoding: 'utf8',
  });
  test.match(said, /^STORE_LOCKED another process has the database .* open stop the other link first/);
  await store.close();
  await (await openLevelStore(folder)).close();
});

void t.test('level: a database that cannot be opened is STORE_UNAVAILABLE', async test => {
  const damaged = newFolder();
  await (await openLevelStore(damaged)).close();
  writeFileSync(join(damaged, 'CURRENT'), 'garbage');
  await test.rejects(openLevelStore(damaged), { code: 'STORE_UNAVAILABLE' });
  const missing = newFolder();
  await (await openLevelStore(missing)).close();
  writeFileSync(join(missing, 'CURRENT'), 'MANIFEST-999999\n');
  await test.rejects(openLevelStore(missing), { code: 'STORE_UNAVAILABLE' });
});

/** Runs in a process whose files may not grow past a limit: the disk is full for LevelDB's log, until a new one. */
const fullDiskScript = `
  const { openLevelStore } = await import(process.env.STORE_URL);
  const store = await openLevelStore(process.env.STORE_FOLDER);
  const kept = [], codes = [];
  for (let index = 0; index < 60; index++) {
    const key = 'k/' + String(index).padStart(3, '0');
    await store.commit([
      { type: 'put', key, value: Buffer.alloc(9000, index) },
      { type: 'append', log: 'log/', value: previous => Buffer.from(String(Number(previous?.toString() ?? 0) + 1)) },
    ]).then(() => kept.push(key), error => codes.push(error.code));
    if (kept.length > 0 && !(await store.get(kept[0]))) throw new Error('unreadable');
    if (kept.length > 0 && (await store.list({ prefix: 'k/' })).length < kept.length) throw new Error('unlisted');
  }
  await store.close();
  console.log(JSON.stringify({ kept, codes }));
`;

async function runWithSmallFiles(test: Test, folder: string): Promise<{ kept: string[]; codes: string[] }> {
  // The hooks that the test runner loads into every process would take the signal of the limit for an end.
  const command = 'unset NODE_OPTIONS; ulimit -f 256; exec "$0" --import=tsx --input-type=module -e "$1"';
  const child = spawn('sh', ['-c', command, process.execPath, fullDiskScript], {
    env: {
      ...process.env,
      STORE_FOLDER: folder,
      STORE_URL: new URL('../../src/store/level.ts', import.meta.url).href,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const ended = await new Promise(resolve => child.once('close', (...how) => resolve(how)));
  test.same(ended, [0, null]);
  return JSON.parse(output) as { kept: string[]; codes: string[] };
}

void t.test(
  'level: failed writes lose nothing acknowledged, and the store recovers by itself',
  async test => {
    const folder = newFolder();
    const { kept, codes } = await runWithSmallFiles(test, folder);
    test.ok(codes.length > 0, 'writes failed');
    test.ok(kept.length > codes.length, 'and succeeded again');
    test.same(new Set(codes), new Set(['STORE_UNAVAILABLE']));
    const store = await openLevelStore(folder);
    test.teardown(() => store.close());
    const found = (await store.list({ prefix: 'k/' })).map(({ key }) => key);
    test.same(
      kept.filter(key => !found.includes(key)),
      [],
    );
    const log = await store.list({ prefix: 'log/' });
    test.equal(Buffer.from(log.at(-1)?.value ?? []).toString(), String(log.length), 'the log has no gap');
    test.notOk(readdirSync(folder).includes('ROOM'));
  },
);

void t.test('a new store gets the schema version, and a newer store is refused', async test => {
  const store = createMemoryStore();
  test.equal(await prepareStore(store), 1);
  test.equal(await text(store, 'meta/schema'), '1');
  test.equal(await prepareStore(store), 1);
  await store.commit([put('meta/schema', '2')]);
  await test.rejects(prepareStore(store), { code: 'STORE_SCHEMA', message: /newer version of rollcall/ });
  await store.commit([put('meta/schema', 'two')]);
  await test.rejects(prepareStore(store), { code: 'STORE_SCHEMA' });
  const foreign = createMemoryStore();
  await foreign.commit([put('something', 'else')]);
  await test.rejects(prepareStore(foreign), { code: 'STORE_SCHEMA' });
});

void t.test('an older store is migrated step by step, and an interrupted migration resumes', async test => {
  const store = createMemoryStore();
  await prepareStore(store);
  const ran: string[] = [];
  let broken = true;
  const steps = [
    async (each: Store) => {
      ran.push('1 to 2');
      await each.commit([put('two', '')]);
    },
    () => {
      ran.push('2 to 3');
      return broken ? Promise.reject(new Error('cut short')) : Promise.resolve();
    },
  ];
  await test.rejects(prepareStore(store, steps), { message: 'cut short' });
  test.equal(await text(store, 'meta/schema'), '2');
  broken = false;
  test.equal(await prepareStore(store, steps), 3);
  test.same(ran, ['1 to 2', '2 to 3', '2 to 3']);
  test.equal(await text(store, 'meta/schema'), '3');
});

void t.test('no tenant name reaches into the keys of another tenant', async test => {
  const names = ['default', 'a', 'a/node', 'ä b', '%0061', '', '..', '\ud800'];
  const store = createMemoryStore();
  for (const name of names) {
    test.equal(tenantOf(`${tenantPrefix(name)}node/1`), name);
    test.match(tenantPrefix(name), /^t\/[A-Za-z0-9._%-]*\/$/);
    await store.commit([put(`${tenantPrefix(name)}node/1`, ''), put(`${tenantPrefix(name)}node/2`, '')]);
  }
  test.same((await listTenants(store)).sort(), [...names].sort());
});
