/** Runners as child processes: environment, output, limits and exit; each a real process. */
import t, { type Test } from 'tap';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createConnection, createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { createHosting, type HostingOptions } from '../../../src/app-host/hosting/create-hosting.js';
import { createExpectedRunners } from '../../../src/app-host/hosting/expected-runners.js';
import { FrameConnection, encodeFrame, type Frame } from '../../../src/app-host/wire/frames.js';
import type { Hosting } from '../../../src/app-host/hosting/hosting.js';
import { hashToken } from '../../../src/app-host/wire/token-hash.js';
import { peerLimits } from '../../../src/app-host/hosting/accept-peers.js';
import { systemClock } from '../../../src/base/clock.js';
import { createLog } from '../../../src/base/log.js';
import { makeFolder } from '../../harness/folder.js';
import { createManualClock } from '../../harness/manual-clock.js';
import { gone, orderFor, watchRunner, type WatchedRunner } from '../fixtures/watched-runner.js';

const fixtures = join(import.meta.dirname, '../fixtures');
const programs = { node: join(fixtures, 'fake-runner.js'), python: join(fixtures, 'fake_runner.py') };
const log = createLog({ level: 'silent', name: 'test' });

async function hostingFor(t: Test, more: Partial<HostingOptions> = {}): Promise<Hosting> {
  const hosting = await createHosting({
    isolation: 'subprocess',
    programs,
    environment: { ...process.env, ROLLCALL_TOKEN: 'secret', TZ: 'UTC' },
    clock: systemClock,
    log,
    ...more,
  });
  t.teardown(() => hosting.close());
  return hosting;
}

async function startRunner(hosting: Hosting, more: Parameters<typeof orderFor>[1] = {}, run = '7') {
  const runner = watchRunner();
  const order = orderFor(run, more);
  hosting.start(order, runner);
  const connection = await runner.connected();
  const tell = (what: string, about: object = {}): void => void connection.send('do', { what, ...about });
  return { runner, order, connection, tell };
}

/** The answer to this first frame. */
async function visit(path: string, name: string, value: object): Promise<Frame> {
  const socket = createConnection(path);
  const visitor = new FrameConnection(socket);
  const frame = await new Promise<Frame>(resolve => {
    visitor.onFrame(resolve);
    visitor.send(name, value);
  });
  await new Promise<void>(resolve => visitor.onClose(resolve));
  return frame;
}

void t.test('a hosted runner starts, is recognised by its token, and stops with its children', async t => {
  const hosting = await hostingFor(t);
  t.equal(hosting.isolation, 'subprocess');
  t.ok(hosting.isReady());
  const { mode } = await stat(dirname(hosting.socketPath));
  t.equal(mode & 0o777, 0o700);

  const { runner, tell } = await startRunner(hosting);
  t.throws(() => hosting.start(orderFor('7'), watchRunner()), /there already/);
  tell('child');
  const { value } = await runner.frame();
  hosting.stop('7', 'stopped by ada');
  t.strictSame(await runner.exited, { code: null, signal: 'SIGKILL', note: 'stopped by ada' });
  await gone(Number(value['pid']));
  t.pass('its child is gone too');

  const apart = await startRunner(hosting);
  apart.tell('child', { apart: true });
  const started = await apart.runner.frame();
  hosting.stop('7');
  await apart.runner.exited;
  await gone(Number(started.value['pid']));
  t.pass('and one that left its group');
  hosting.stop('7');
  hosting.stop('8');

  const second = await startRunner(hosting);
  second.tell('exit', { code: 5 });
  t.strictSame(
    await second.runner.exited,
    { code: 5, signal: null, note: '' },
    'the run may be hosted again',
  );
});

void t.test('a hosted runner gets a minimal environment, and a folder that is removed later', async t => {
  const hosting = await hostingFor(t);
  const { runner, tell } = await startRunner(hosting);
  tell('environment');
  const { value } = await runner.frame();
  const { cwd, uid, HOME, PATH, ...others } = value;
  t.equal(cwd, process.cwd());
  t.equal(uid, process.getuid?.());
  t.equal(PATH, process.env['PATH']);
  // tap adds its own to every process that is started below it.
  const isOurs = (name: string): boolean => !/^(_TAPJS_|NODE_OPTIONS$|LANG$)/.test(name);
  t.strictSame(Object.keys(others).filter(isOurs).sort(), ['TMPDIR', 'TZ']);
  t.ok(typeof HOME === 'string' && existsSync(HOME));
  tell('exit', { code: 0 });
  await runner.exited;
  t.notOk(existsSync(String(HOME)));
});

void t.test('a runner reports its last frame before its exit', async t => {
  const hosting = await hostingFor(t);
  const { runner, tell } = await startRunner(hosting);
  tell('finish');
  await runner.exited;
  t.strictSame(runner.told, ['connection', 'frame finished', 'exit']);
});

void t.test('the exit of a runner waits for its last frames, but not for ever', async t => {
  const path = join(await makeFolder(t), 's');
  const clock = createManualClock();
  const runners = createExpectedRunners(clock);
  const server = createServer(socket => void runners.connect('hash', new FrameConnection(socket))).listen(
    path,
  );
  t.teardown(() => server.close());
  for (const isRead of [true, false]) {
    const runner = watchRunner();
    const expected = runners.add('7', 'hash', runner);
    const process = createConnection(path);
    const connection = await runner.connected();
    connection.pause();
    await new Promise<void>(resolve => process.end(encodeFrame('finished', {}), resolve));
    expected.end({ code: 0, signal: null, note: '' });
    await new Promise(resolve => setImmediate(resolve));
    t.strictSame(runner.told, ['connection'], 'its end is not told yet');
    if (isRead) connection.resume();
    else clock.advance(2_000);
    await runner.exited;
    t.strictSame(runner.told, isRead ? ['connection', 'frame finished', 'exit'] : ['connection', 'exit']);
    process.destroy();
  }
});

void t.test('a runner that crashes exits with the error on its standard error', async t => {
  const hosting = await hostingFor(t);
  const { runner, tell } = await startRunner(hosting);
  tell('crash');
  t.match(await runner.exited, { code: 1, signal: null, note: '' });
  t.match(runner.lines.join('\n'), /stderr: Error: this app is broken/);
});

void t.test('a runner may write bytes that are not text, and lines beyond the limit are dropped', async t => {
  const hosting = await hostingFor(t);
  const binary = await startRunner(hosting);
  binary.tell('write', {
    stream: 'stdout',
    base64: Buffer.from([0, 255, 254, 27, 91, 50, 74, 10]).toString('base64'),
  });
  t.equal(await binary.runner.line(), 'stdout: ?\ufffd\ufffd');

  const flood = await startRunner(hosting, {}, '8');
  flood.tell('flood', { lines: 50_000 });
  t.equal((await flood.runner.exited).code, 0);
  const [first] = flood.runner.lines;
  t.equal(first, 'stdout: line 1');
  t.ok(flood.runner.lines.length < 5_000, `${flood.runner.lines.length} lines came`);
  const left = flood.runner.lines.map(line =>
    Number(/^stderr: \((\d+) more lines were left out/.exec(line)?.[1] ?? 0),
  );
  const whole = left.filter(count => count === 0).length;
  t.equal(whole + left.reduce((sum, count) => sum + count, 0), 50_000, 'every line is given or counted');
});

void t.test('stopping a runner that never returns kills it', async t => {
  const hosting = await hostingFor(t);
  const { runner, tell } = await startRunner(hosting);
  tell('spin');
  hosting.stop('7', 'took too long');
  t.strictSame(await runner.exited, { code: null, signal: 'SIGKILL', note: 'took too long' });
});

void t.test('a runner that exceeds its memory limit is killed, and its exit names the reason', async t => {
  const hosting = await hostingFor(t);
  const note = 'it used more than 128 MiB of memory';
  const memoryBytes = 128 * 1024 * 1024;
  const heap = await startRunner(hosting, { memoryBytes }, '9');
  heap.tell('fillHeap');
  t.match(await heap.runner.exited, { note }, 'in the heap');
  if (!existsSync('/proc/self/status')) {
    t.comment('the system does not tell how much memory a process has');
    return;
  }
  const buffers = await startRunner(hosting, { memoryBytes });
  buffers.tell('allocate');
  t.strictSame(await buffers.runner.exited, { code: null, signal: 'SIGKILL', note }, 'outside of the heap');
  const parent = await startRunner(hosting, { memoryBytes });
  parent.tell('child', { script: 'const held = []; for (;;) held.push(Buffer.alloc(8 * 1024 * 1024, 1));' });
  t.strictSame(await parent.runner.exited, { code: null, signal: 'SIGKILL', note }, 'in what it has started');
});

const pythonIsThere = spawnSync('python3', ['--version']).status === 0;
const withPython = pythonIsThere ? {} : { skip: 'python3 is not there' };

void t.test('a runner in Python is hosted as in JavaScript, with its memory limit', withPython, async t => {
  const hosting = await hostingFor(t);
  const runner = watchRunner();
  hosting.start(orderFor('7', { language: 'python' }), runner);
  const connection = await runner.connected();
  connection.send('welcome', {});
  const { value } = await runner.frame();
  t.equal(value['ROLLCALL_APP_MEMORY_BYTES'], String(256 * 1024 * 1024));
  const told = Object.keys(value).filter(name => name.startsWith('ROLLCALL_'));
  t.strictSame(told, ['ROLLCALL_APP_MEMORY_BYTES']);
  t.equal(await runner.line(), 'stdout: written by python');
  connection.send('bye', { message: '' });
  t.match(await runner.exited, { code: 0, note: '' });
});

void t.test('an app in Python on a host without python3 exits with a note that says so', async t => {
  const hosting = await hostingFor(t, { environment: { PATH: '/nonexistent' } });
  const runner = watchRunner();
  hosting.start(orderFor('7', { language: 'python' }), runner);
  t.match(await runner.exited, { code: null, signal: null, note: /python3 is not there/ });
});

void t.test('connections without a known token and silent connections are closed', async t => {
  const clock = createManualClock();
  const hosting = await hostingFor(t, { clock });
  const path = hosting.socketPath;
  const unknown = { protocol: 1, token: '00'.repeat(32) };
  t.match(await visit(path, 'run', unknown), { name: 'bye', value: { message: /unknown token/ } });
  t.match(await visit(path, 'run', { protocol: 1 }), { name: 'bye' });
  t.match(await visit(path, 'run', { ...unknown, protocol: 2 }), {
    value: { message: /expected version 1/ },
  });
  t.match(await visit(path, 'supervise', { protocol: 1 }), { value: { message: /without a supervisor/ } });
  t.match(await visit(path, 'log', { text: '' }), { value: { message: /expected "run" or "supervise"/ } });

  const silent = createConnection(path).resume();
  await once(silent, 'connect');
  // Served in order: when this one was answered, the silent one has been taken in.
  await visit(path, 'run', unknown);
  clock.advance(peerLimits.speakWithinMs);
  await once(silent, 'close');
  t.pass('silence ends');
});

void t.test('an app host accepts a limited number of unauthenticated connections', async t => {
  const hosting = await hostingFor(t, { clock: createManualClock() });
  const visitors = Array.from({ length: peerLimits.unnamed }, () => createConnection(hosting.socketPath));
  await Promise.all(visitors.map(visitor => once(visitor, 'connect')));
  const extra = createConnection(hosting.socketPath).resume();
  await once(extra, 'close');
  const [first] = visitors;
  first?.destroy();
  const { runner } = await startRunner(hosting);
  t.strictSame(runner.told, ['connection']);
  for (const visitor of visitors) visitor.destroy();
});

void t.test('the token of a runner is valid from its start until its exit', async t => {
  const hosting = await hostingFor(t);
  const { runner, order, connection, tell } = await startRunner(hosting);
  const again = new FrameConnection(createConnection(hosting.socketPath));
  again.onFrame(() => undefined);
  again.send('run', { protocol: 1, token: order.token });
  await runner.connected();
  t.ok(connection, 'the newer connection takes the place of the older');
  await new Promise<void>(resolve => connection.onClose(resolve));
  await runner.connected();
  hosting.stop('7');
  await runner.exited;
  again.destroy();
  const late = await visit(hosting.socketPath, 'run', { protocol: 1, token: order.token });
  t.equal(late.name, 'bye');
  tell('exit');
});

void t.test('closing a hosting kills its runners, removes its socket, and starts no others', async t => {
  const hosting = await hostingFor(t);
  const { runner } = await startRunner(hosting);
  const closing = hosting.close();
  t.equal(hosting.close(), closing);
  await closing;
  t.match(await runner.exited, { signal: 'SIGKILL', note: 'the program it worked for ends' });
  t.notOk(existsSync(dirname(hosting.socketPath)));
  t.notOk(hosting.isReady());
  const late: WatchedRunner = watchRunner();
  hosting.start(orderFor('8'), late);
  t.match(await late.exited, { code: null, note: 'the program it worked for ends' });
});

void t.test('a process hosting that reopens reports earlier runners as ended with their parent', async t => {
  const hosting = await hostingFor(t, { held: true });
  const runner = watchRunner();
  hosting.expect('7', hashToken('x'), runner);
  hosting.open();
  t.match(await runner.exited, { note: /it ended with the program that had started it/ });
});

void t.test('process isolation requires a socket path', async t => {
  const hosting = createHosting({ isolation: 'process', programs, clock: systemClock, log });
  await t.rejects(hosting, { code: 'CONFIG_INVALID' });
});
