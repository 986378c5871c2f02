// The state folder with real files: what is kept, what is refused, what is set aside, who may use it.
import { generateKeyPairSync } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { spawn } from 'node:child_process';
import fc from 'fast-check';
import t from 'tap';
import { systemRandom } from '../../src/base/random.js';
import { makeDevelopmentCertificates } from '../../src/link/authority/development.js';
import { decodeState, encodeState, openStateFolder, type NodeState } from '../../src/node/state.js';

const made = makeDevelopmentCertificates({ hosts: [], days: 1, now: Date.now(), random: systemRandom });
const owner = { nodeKey: 'SHA256:Zm9v', tenant: 'default' };

const state: NodeState = {
  ...owner,
  trustDomain: 'test.example',
  nodeId: 16019329408659850374n,
  generation: 3n,
  sessionKey: made.server.key,
  certificateChain: [made.server.certificate, made.ca.certificate],
  renewalMarginMs: 1_200_000,
  serverRoots: [made.ca.certificate],
};

async function makeFolder(t: { teardown(call: () => unknown): void }): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'rollcall-state-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

const open = (folder: string, whose = owner) => openStateFolder(folder, whose, systemRandom);

async function reopen(folder: string, whose = owner) {
  const store = await open(folder, whose);
  try {
    return await store.load();
  } finally {
    await store.close();
  }
}

void t.test('a saved state is read after a restart, from a private file', async t => {
  const folder = join(await makeFolder(t), 'made', 'deep');
  const store = await open(folder);
  t.same(await store.load(), { kind: 'nothing' });
  await store.save(state);
  await store.save({ ...state, generation: 4n });
  await store.close();
  t.same(await reopen(folder), { kind: 'found', state: { ...state, generation: 4n } });
  t.equal((await stat(folder)).mode & 0o777, 0o700);
  t.equal((await stat(join(folder, 'session.json'))).mode & 0o777, 0o600);
  t.same(await readdir(folder), ['session.json'], 'no lock and no draft is left');
});

void t.test('a damaged state file is set aside and logged, and is never fatal', async t => {
  const folder = await makeFolder(t);
  const path = join(folder, 'session.json');
  const good = encodeState(state);
  const damaged = [
    '',
    '{}',
    'null',
    '[]',
    '\0'.repeat(100),
    good.slice(0, good.length / 2),
    good.replace('node state 1', 'node state 2'),
    good.replace('"generation": "3"', '"generation": "-3"'),
    good.replace('"generation": "3"', '"generation": 3'),
    good.replace('16019329408659850374', '0'),
    good.replace('16019329408659850374', '99999999999999999999'),
    good.replace('test.example', 'Test Example'),
    good.replace('"renewalMarginMs": 1200000', '"renewalMarginMs": -1'),
    good.replace('"tenant": "default"', '"tenant": ""'),
    good.replace('"tenant"', '"extra": 1, "tenant"'),
    encodeState({ ...state, sessionKey: made.ca.key }),
    encodeState({ ...state, sessionKey: 'no key' }),
    encodeState({ ...state, certificateChain: [] }),
    encodeState({ ...state, certificateChain: ['no certificate'] }),
    encodeState({ ...state, serverRoots: ['no certificate'] }),
  ];
  for (const text of damaged) {
    await writeFile(path, text, { mode: 0o600 });
    t.match(await reopen(folder), { kind: 'set aside', why: /damaged/, aside: `${path}.damaged` });
    t.equal(await readFile(`${path}.damaged`, 'utf8'), text);
    t.same(await reopen(folder), { kind: 'nothing' });
  }
});

void t.test('a state file of another node key or tenant is set aside', async t => {
  const folder = await makeFolder(t);
  for (const other of [
    { ...owner, nodeKey: 'SHA256:YmFy' },
    { ...owner, tenant: 'elsewhere' },
  ]) {
    const store = await open(folder);
    await store.save(state);
    await store.close();
    t.match(await reopen(folder, other), { kind: 'set aside', why: /another node key/ });
    t.same(await reopen(folder), { kind: 'nothing' });
  }
});

void t.test('a state file that others can read and a folder that others can write are refused', async t => {
  const folder = await makeFolder(t);
  const path = join(folder, 'session.json');
  await writeFile(path, encodeState(state), { mode: 0o600 });
  await chmod(path, 0o640);
  await t.rejects(reopen(folder), { code: 'FILE_PERMISSIONS', hint: `chmod 600 ${path}` });
  await chmod(path, 0o600);
  await chmod(folder, 0o770);
  await t.rejects(reopen(folder), { code: 'FILE_PERMISSIONS', hint: `chmod 700 ${folder}` });
  await chmod(folder, 0o750);
  t.match(await reopen(folder), { kind: 'found' });
});

void t.test('a state folder that is not a folder is refused in one line', async t => {
  const folder = await makeFolder(t);
  await writeFile(join(folder, 'file'), '');
  await t.rejects(open(join(folder, 'file')), {
    code: 'FILE_UNWRITABLE',
    message: /cannot make the state folder .*: a file is in its place$/,
  });
  await t.rejects(open(join(folder, 'file', 'below')), { code: 'FILE_UNWRITABLE' });
  await symlink(join(folder, 'nowhere'), join(folder, 'dangling'));
  await t.rejects(open(join(folder, 'dangling')), { code: 'FILE_UNWRITABLE' });
  await mkdir(join(folder, 'odd', 'session.json'), { recursive: true, mode: 0o700 });
  await t.rejects(reopen(join(folder, 'odd')), { code: 'FILE_UNREADABLE' });
  t.same(await readdir(join(folder, 'odd')), ['session.json'], 'the lock was given back');
});

void t.test('temporary files that a crash left in the state folder are removed', async t => {
  const folder = await makeFolder(t);
  await writeFile(join(folder, '.session.json.0123456789ab'), 'secret');
  t.same(await reopen(folder), { kind: 'nothing' });
  t.same(await readdir(folder), []);
});

void t.test('two agents do not share a state folder', async t => {
  const folder = await makeFolder(t);
  const first = await open(folder);
  await t.rejects(open(folder), { code: 'CONFIG_INVALID', message: /is in use by process \d+/ });
  await first.close();
  await first.close();
  const second = await open(folder);
  await first.close();
  await t.rejects(open(folder), { code: 'CONFIG_INVALID' }, 'an old close does not free the new lock');
  await second.close();
});

void t.test('the lock of a state folder ends with its process', async t => {
  const folder = await makeFolder(t);
  const lock = join(folder, 'lock');
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e6); console.log("up")']);
  t.teardown(() => child.kill('SIGKILL'));
  await new Promise(resolve => child.stdout.once('data', resolve));
  const pid = child.pid ?? 0;
  const stats = await readFile(`/proc/${pid}/stat`, 'utf8');
  const startedAt = Number(stats.slice(stats.lastIndexOf(')') + 2).split(' ')[19]);
  const hold = (holder: object | string) =>
    writeFile(lock, typeof holder === 'string' ? holder : JSON.stringify(holder), { mode: 0o600 });

  await hold({ pid, host: hostname(), startedAt });
  await t.rejects(reopen(folder), { code: 'CONFIG_INVALID', message: new RegExp(`process ${pid}$`) });

  const stale = [
    { pid, host: hostname(), startedAt: startedAt - 1 },
    { pid, host: 'another-container', startedAt },
    { pid: process.pid, host: hostname(), startedAt: 0 },
    { pid: 2 ** 22 + 1, host: hostname(), startedAt: 0 },
    { pid: -1, host: hostname(), startedAt: 0 },
    '',
    '{',
  ];
  for (const holder of stale) {
    await hold(holder);
    t.match(await reopen(folder), { kind: 'nothing' }, JSON.stringify(holder));
    t.same(await readdir(folder), []);
  }

  await hold({ pid, host: hostname(), startedAt });
  const gone = new Promise(resolve => child.once('exit', resolve));
  child.kill('SIGKILL');
  await gone;
  t.match(await reopen(folder), { kind: 'nothing' }, 'after kill -9');
});

void t.test('of many agents that start at once over a stale lock, one gets the folder', async t => {
  const folder = await makeFolder(t);
  await writeFile(join(folder, 'lock'), '{}', { mode: 0o600 });
  const results = await Promise.allSettled(Array.from({ length: 8 }, () => open(folder)));
  const winners = results.filter(each => each.status === 'fulfilled');
  t.equal(winners.length, 1);
  await Promise.all(winners.map(each => each.value.close()));
});

void t.test('reading any state file gives a state or nothing', t => {
  const good = JSON.parse(encodeState(state)) as Record<string, unknown>;
  fc.assert(
    fc.property(fc.constantFrom(...Object.keys(good)), fc.jsonValue(), (name, value) => {
      const read = decodeState(JSON.stringify({ ...good, [name]: value }));
      return read === undefined || encodeState(read) === encodeState(read);
    }),
    { numRuns: 200 },
  );
  fc.assert(fc.property(fc.string(), text => decodeState(text) === undefined));
  t.end();
});

void t.test('a certificate in the state is accepted only with its own key', t => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const other = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  t.equal(decodeState(encodeState({ ...state, sessionKey: other })), undefined);
  t.same(decodeState(encodeState(state)), state);
  t.end();
});
