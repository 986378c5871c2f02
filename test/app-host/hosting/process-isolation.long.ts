/**
 * Runners under another user: a real supervisor, of user "nobody" where the test is root, on a real socket; files it
 * cannot read, and its runners when either side is killed or restarted.
 */
import t, { type Test } from 'tap';
import { chmod, mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createHosting, type HostingOptions } from '../../../src/app-host/hosting/create-hosting.js';
import { FrameConnection } from '../../../src/app-host/wire/frames.js';
import type { Hosting } from '../../../src/app-host/hosting/hosting.js';
import { hashToken } from '../../../src/app-host/wire/token-hash.js';
import { systemClock } from '../../../src/base/clock.js';
import { createLog } from '../../../src/base/log.js';
import { codeOf } from '../../harness/outcome.js';
import {
  fakeRunner,
  hostKey,
  isRoot,
  makeSocketFolder,
  otherUser,
  startProcess,
  startSupervisor,
} from '../fixtures/supervised.js';
import { gone, isAlive, orderFor, watchRunner } from '../fixtures/watched-runner.js';

const programs = { node: fakeRunner, python: fakeRunner };
const log = createLog({ level: 'silent', name: 'test' });

async function hostingAt(t: Test, socketPath: string, more: Partial<HostingOptions> = {}): Promise<Hosting> {
  const hosting = await createHosting({
    isolation: 'process',
    socketPath,
    hostKey,
    programs,
    clock: systemClock,
    log,
    ...more,
  });
  t.teardown(() => hosting.close());
  return hosting;
}

function ready(hosting: Hosting): Promise<void> {
  return new Promise(resolve => {
    if (hosting.isReady()) resolve();
    else hosting.onReady(resolve);
  });
}

async function startRunner(hosting: Hosting, run = '7') {
  const runner = watchRunner();
  const order = orderFor(run);
  hosting.start(order, runner);
  const connection = await runner.connected();
  return { runner, order, connection, tell: tellTo(connection) };
}

function tellTo(connection: FrameConnection) {
  return (what: string, about: object = {}): void => void connection.send('do', { what, ...about });
}

void t.test('a start waits for a supervisor, which reports output and exit of the runner', async t => {
  const path = join(await makeSocketFolder(t), 's');
  const hosting = await hostingAt(t, path);
  const { mode, gid } = await stat(path);
  t.equal(mode & 0o777, 0o660);
  if (isRoot) t.equal(gid, otherUser, 'it has the group of its folder');
  t.notOk(hosting.isReady());
  const runner = watchRunner();
  hosting.start(orderFor('7'), runner);
  const withdrawn = watchRunner();
  hosting.start(orderFor('8'), withdrawn);
  hosting.stop('8', 'nobody wants it');
  t.strictSame(await withdrawn.exited, { code: null, signal: null, note: 'nobody wants it' });

  const supervisor = startSupervisor(t, path);
  const tell = tellTo(await runner.connected());
  t.ok(hosting.isReady());
  tell('write', { stream: 'stderr', base64: Buffer.from('\x1b[1mhello\x07\n').toString('base64') });
  t.equal(await runner.line(), 'stderr: hello?');
  tell('crash');
  t.match(await runner.exited, { code: 1, signal: null, note: '' });

  const second = await startRunner(hosting, '9');
  hosting.stop('9', 'stopped by ada');
  t.strictSame(await second.runner.exited, { code: null, signal: 'SIGKILL', note: 'stopped by ada' });
  t.strictSame(withdrawn.told, ['exit'], 'what was withdrawn was never started');
  t.equal(await supervisor.end('SIGTERM'), 0);
  const secrets = supervisor.lines.filter(line => line.includes(second.order.token));
  t.strictSame(secrets, [], 'tokens are not in its log');
});

const asRoot = isRoot ? {} : { skip: 'only root can start an app host under another user' };

void t.test(
  'an app under another user reads no key, enters no folder, and sees no variables',
  asRoot,
  async t => {
    const folder = await makeSocketFolder(t);
    const hosting = await hostingAt(t, join(folder, 's'));
    startSupervisor(t, hosting.socketPath);
    const home = dirname(folder);
    const key = join(home, 'node.key');
    await writeFile(key, 'secret', { mode: 0o600 });
    const store = join(home, 'store');
    await mkdir(store, { mode: 0o700 });
    await writeFile(join(store, 'CURRENT'), 'open to all', { mode: 0o644 });
    const open = join(home, 'open');
    await writeFile(open, 'open to all', { mode: 0o644 });

    const { runner, tell } = await startRunner(hosting);
    const ask = async (what: string, path: string): Promise<unknown> => {
      tell(what, { path });
      return (await runner.frame()).value['is'];
    };
    t.equal(await ask('read', open), 'done', 'the test would see it');
    t.equal(await ask('read', key), 'EACCES');
    t.equal(await ask('read', join(store, 'CURRENT')), 'EACCES');
    t.equal(await ask('list', store), 'EACCES');
    t.equal(
      await ask('read', `/proc/${process.pid}/environ`),
      'EACCES',
      'nor the memory and variables of ours',
    );
    tell('environment');
    const { uid, cwd, HOME, ...others } = (await runner.frame()).value;
    t.equal(uid, otherUser);
    t.equal(cwd, '/');
    t.strictSame(Object.keys(others).sort(), ['PATH', 'TMPDIR']);
    hosting.stop('7');
    await runner.exited;
    t.notOk(existsSync(String(HOME)), 'its folder is gone');
  },
);

void t.test(
  'a supervisor that is killed takes its runners with it, and the next supervisor starts new ones',
  async t => {
    const hosting = await hostingAt(t, join(await makeSocketFolder(t), 's'));
    const first = startSupervisor(t, hosting.socketPath);
    const { runner, tell } = await startRunner(hosting);
    tell('child');
    const { value } = await runner.frame();
    t.equal(await first.end('SIGKILL'), 'SIGKILL');
    const nextReady = new Promise<void>(resolve => hosting.onReady(resolve));
    const waiting = watchRunner();
    hosting.start(orderFor('8'), waiting);
    startSupervisor(t, hosting.socketPath);
    await nextReady;
    t.strictSame(await runner.exited, { code: null, signal: null, note: 'its app host was restarted' });
    await waiting.connected();
    const child = Number(value['pid']);
    // Its runner ended by itself, so its child processes live on; ending those is up to the system.
    if (isAlive(child)) process.kill(child, 'SIGKILL');
  },
);

void t.test(
  'runners survive a restart of the link, and reconnect to every run that expects them',
  async t => {
    const path = join(await makeSocketFolder(t), 's');
    const before = await hostingAt(t, path);
    const supervisor = startSupervisor(t, path);
    const kept = await startRunner(before, '1');
    const forgotten = await startRunner(before, '2');
    const dying = await startRunner(before, '3');
    await before.close();
    t.notOk(existsSync(path));
    await supervisor.said('disconnected');

    const after = await hostingAt(t, path, { held: true });
    // All runners reconnect before any run expects them.
    const expected = { kept: watchRunner(), dying: watchRunner(), lost: watchRunner() };
    after.expect('1', hashToken(kept.order.token), expected.kept);
    after.expect('3', hashToken(dying.order.token), expected.dying);
    after.expect('4', hashToken('of a runner that nobody has'), expected.lost);
    after.open();
    const tell = tellTo(await expected.kept.connected());
    tell('write', { stream: 'stdout', base64: Buffer.from('still here\n').toString('base64') });
    t.equal(await expected.kept.line(), 'stdout: still here');
    t.match(await expected.lost.exited, { note: 'its app host was restarted' });
    await supervisor.said('"run":"2"');
    t.strictSame(forgotten.runner.told, ['connection'], 'nothing is told to a hosting that is closed');
    tellTo(await expected.dying.connected())('exit', { code: 4 });
    t.match(await expected.dying.exited, { code: 4 });
    after.stop('1', 'stopped by ada');
    t.match(await expected.kept.exited, { signal: 'SIGKILL', note: 'stopped by ada' });
  },
);

void t.test('the output and the exit of a runner are reported after the link was away', async t => {
  const path = join(await makeSocketFolder(t), 's');
  const before = await hostingAt(t, path);
  const supervisor = startSupervisor(t, path);
  const { order, tell } = await startRunner(before);
  const signal = join(dirname(dirname(path)), 'now');
  tell('floodLater', { lines: 20, path: signal });
  await before.close();
  await supervisor.said('disconnected');
  await writeFile(signal, '');
  await supervisor.said('a runner has ended');

  const runner = watchRunner();
  const after = await hostingAt(t, path, { held: true });
  after.expect('7', hashToken(order.token), runner);
  after.open();
  t.match(await runner.exited, { code: 0, signal: null });
  t.equal(runner.lines.at(-1), 'stdout: line 20');
});

void t.test('a runner that no run expects is killed before its run starts another', async t => {
  const hosting = await hostingAt(t, join(await makeSocketFolder(t), 's'));
  const old = await playSupervisor(hosting.socketPath, []);
  const first = watchRunner();
  hosting.start(orderFor('7'), first);
  t.match(await old.frame(), { name: 'start', value: { run: '7' } });
  old.connection.destroy();
  hosting.stop('7', 'stopped meanwhile');
  // The end is reported, whether it came before or after the lost connection was noticed.
  t.match(await first.exited, { note: 'stopped meanwhile' });
  const second = watchRunner();
  hosting.start(orderFor('7'), second);
  const next = await playSupervisor(hosting.socketPath, ['7', '9']);
  t.strictSame(
    [await next.frame(), await next.frame()].map(({ name, value }) => [name, value['run']]),
    [
      ['stop', '7'],
      ['stop', '9'],
    ],
  );
  const elsewhere = watchRunner();
  hosting.start(orderFor('10'), elsewhere);
  t.match(await next.frame(), { name: 'start', value: { run: '10' } }, 'others need not wait');
  next.connection.send('output', { run: '7', stream: 'stdout', text: 'of the old one' });
  next.connection.send('exited', { run: '7', code: null, signal: 'SIGKILL', note: '' });
  t.match(await next.frame(), { name: 'start', value: { run: '7' } });
  next.connection.send('output', { run: '7', stream: 'stdout', text: 'of the \x1b[31mnew one\x07' });
  t.equal(await second.line(), 'stdout: of the new one?');
  next.connection.send('exited', { run: '7', code: 0, signal: '\x1b', note: 'n'.repeat(1_000) });
  const exit = await second.exited;
  t.match(exit, { code: 0, signal: '?' });
  t.equal(exit.note.length, 200, 'what a supervisor says is bounded');
  next.connection.destroy();
});

void t.test('a start that was lost with its connection is repeated once', async t => {
  const hosting = await hostingAt(t, join(await makeSocketFolder(t), 's'));
  const runner = watchRunner();
  hosting.start(orderFor('7'), runner);
  for (const round of [1, 2]) {
    const { connection, frame } = await playSupervisor(hosting.socketPath, []);
    t.match(await frame(), { name: 'start', value: { run: '7' } }, `round ${round}`);
    connection.destroy();
    while (hosting.isReady()) await new Promise(resolve => setImmediate(resolve));
  }
  await playSupervisor(hosting.socketPath, []);
  t.match(await runner.exited, { code: null, note: 'its app host was restarted' });
  t.strictSame(runner.told, ['exit']);
});

/** A supervisor that the test plays by hand. */
async function playSupervisor(path: string, runs: readonly string[], key: unknown = hostKey) {
  const connection = new FrameConnection(createConnection(path));
  const watched = watchRunner();
  watched.onConnection(connection);
  connection.send('supervise', { protocol: 1, key, runs });
  const answer = await watched.frame();
  return { connection, answer, frame: () => watched.frame() };
}

void t.test('an app host accepts one supervisor at a time', async t => {
  const hosting = await hostingAt(t, join(await makeSocketFolder(t), 's'));
  const first = startSupervisor(t, hosting.socketPath);
  await ready(hosting);
  const second = startSupervisor(t, hosting.socketPath);
  t.match(await second.said('cannot connect'), /there is a supervisor already/);
  const nextReady = new Promise<void>(resolve => hosting.onReady(resolve));
  await first.end('SIGTERM');
  await nextReady;
  t.pass('the second takes over when the first is gone');
});

void t.test('a supervisor that sends invalid runs is disconnected', async t => {
  const hosting = await hostingAt(t, join(await makeSocketFolder(t), 's'));
  for (const runs of [['7', 8], 'all', ['../7'], Array.from({ length: 1_001 }, () => '7')]) {
    const { answer } = await playSupervisor(hosting.socketPath, runs as string[]);
    t.match(answer, { name: 'bye', value: { message: /list of runs/ } });
  }
  t.notOk(hosting.isReady());
  const { connection, answer } = await playSupervisor(hosting.socketPath, []);
  t.equal(answer.name, 'welcome');
  const runner = watchRunner();
  hosting.start(orderFor('7'), runner);
  for (const odd of [
    {},
    { run: 7 },
    { run: '8' },
    { run: '7', stream: 'stdin', text: '' },
    { run: '7', stream: 'stdout' },
  ])
    connection.send('output', odd);
  connection.send('exited', {});
  connection.send('exited', { run: '7', code: 'x', signal: 9, note: {} });
  t.strictSame(await runner.exited, { code: null, signal: null, note: '' });
  t.strictSame(runner.lines, []);
  const closed = new Promise<void>(resolve => connection.onClose(resolve));
  const broken = Buffer.alloc(8, 0xff);
  connection.send('passed-over', {}, broken);
  const raw = createConnection(hosting.socketPath).resume();
  raw.write(broken);
  await once(raw, 'close');
  t.ok(hosting.isReady(), 'garbage of others is not its fault');
  connection.destroy();
  await closed;
});

void t.test('a socket folder that others can enter and an invalid socket path are refused', async t => {
  const folder = await makeSocketFolder(t);
  const path = join(folder, 's');
  const open = (at = path) =>
    createHosting({ isolation: 'process', socketPath: at, hostKey, programs, clock: systemClock, log });
  for (const mode of [0o751, 0o752, 0o754, 0o777]) {
    await chmod(folder, mode);
    t.equal(await codeOf(open()), 'CONFIG_INVALID', mode.toString(8));
  }
  await t.rejects(open(), { code: 'CONFIG_INVALID', message: /others may enter/ });
  await chmod(folder, 0o750);
  t.equal(await codeOf(open(join(folder, 'nowhere/s'))), 'CONFIG_INVALID', 'no folder');
  t.equal(await codeOf(open(join(folder, 'x'.repeat(100)))), 'CONFIG_INVALID', 'too long');
  await writeFile(path, 'a file');
  t.equal(await codeOf(open()), 'CONFIG_INVALID', 'a file is not removed');
  t.strictSame(await readdir(folder), ['s']);
});

void t.test('an app host takes over a socket only when no process answers on it', async t => {
  const path = join(await makeSocketFolder(t), 's');
  const first = await hostingAt(t, path);
  await t.rejects(hostingAt(t, path), { code: 'CONFIG_INVALID', message: /another program listens/ });
  t.ok(existsSync(path));
  await first.close();

  // Left over from a process that was killed.
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  await startProcess(t, ['-e', script], false).end('SIGCONT');
  t.ok((await stat(path)).isSocket());
  const second = await hostingAt(t, path);
  t.equal((await playSupervisor(second.socketPath, [])).answer.name, 'welcome');
});

const command = join(import.meta.dirname, '../../../dist/src/cli/main.js');

void t.test('rollcall app-host connects, ends on SIGTERM, and requires --allow-root as root', async t => {
  const hosting = await hostingAt(t, join(await makeSocketFolder(t), 's'));
  const words = [command, 'app-host', '--socket', hosting.socketPath, '--key', '-'];
  const keyed = (...parts: Parameters<typeof startProcess>) =>
    startProcess(parts[0], parts[1], parts[2], hostKey);
  const running = keyed(t, words);
  await ready(hosting);
  t.equal(await running.end('SIGTERM'), 0);

  const homeless = startProcess(t, [command, 'app-host']);
  t.match(await homeless.said('error:'), /--socket is needed/);
  t.match(await homeless.said('--key'), /--key is needed/);
  t.equal(await homeless.end('SIGCONT'), 2);
  if (!isRoot) return;
  const asRoot = keyed(t, words, false);
  t.match(await asRoot.said('error:'), /this is root/);
  t.match(await asRoot.said('hint:'), /--allow-root/);
  t.equal(await asRoot.end('SIGCONT'), 2);
  const nextReady = new Promise<void>(resolve => hosting.onReady(resolve));
  const allowed = keyed(t, [...words, '--allow-root'], false);
  await nextReady;
  t.match(await allowed.said('apps run as root'), /"level":"warn"/);
  t.equal(await allowed.end('SIGTERM'), 0);
});

void t.test(
  'rollcall app-host warns of a key in a file that its apps can read, and names this file',
  async t => {
    const folder = await makeSocketFolder(t);
    const [socket, file] = [join(folder, 's'), join(folder, 'host.key')];
    await writeFile(file, hostKey, { mode: 0o600 });
    const words = ['app-host', '--socket', socket, '--key', file, ...(isRoot ? ['--allow-root'] : [])];
    const running = startProcess(t, [command, ...words], false);
    const warning = await running.said('can read the key of this app host');
    t.match(warning, `"keyFile":"${file}"`);
    await running.end('SIGTERM');
  },
);

void t.test('an app host that ends kills its runners', async t => {
  const hosting = await hostingAt(t, join(await makeSocketFolder(t), 's'));
  const supervisor = startSupervisor(t, hosting.socketPath);
  const { runner, connection, tell } = await startRunner(hosting);
  tell('child');
  const { value } = await runner.frame();
  const closed = new Promise<void>(resolve => connection.onClose(resolve));
  t.equal(await supervisor.end('SIGTERM'), 0);
  await closed;
  await gone(Number(value['pid']));
  t.strictSame(runner.told, ['connection', 'frame child'], 'its end is told when an app host is back');
});
