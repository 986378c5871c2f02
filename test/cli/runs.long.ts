/** `rollcall run` and `rollcall runs …` against a real control port whose runs change as the test directs. */
import { once } from 'node:events';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { readArchive } from '../../src/app-package/app-archive.js';
import { isSignedBy } from '../../src/app-package/app-signature.js';
import { openRuns } from '../../src/control-client/runs.js';
import { parseSettings } from '../../src/cli/runs/arguments.js';
import { followRun } from '../../src/cli/runs/follow.js';
import { noPaint } from '../../src/cli/terminal.js';
import { toPkcs8Pem } from '../../src/identity/private-key.js';
import { parseSpki } from '../../src/identity/public-key.js';
import type { RunRecord } from '../../src/link/runs/run-record.js';
import { makeFolder } from '../harness/folder.js';
import { createManualClock } from '../harness/manual-clock.js';
import { openRunPort, type RunPort } from '../harness/run-port.js';
import { newKey } from '../harness/test-link.js';
import { ended, Kept, run, start, type RunOptions } from './fixtures/shell.js';
import { userParty } from '../harness/parties.js';
import { formatEntry } from '../../src/cli/runs/log-printer.js';

const noon = Date.UTC(2026, 0, 15, 12);
const site = await openRunPort(t);
const folder = await makeFolder(t);
const app = join(folder, 'hello');
await mkdir(app);
const settings = { greeting: 'hello', rounds: 3, fast: false };
const manifest = { name: 'hello', version: '1.0.0', server: 'server.js', node: 'node.js', config: settings };
await writeFile(join(app, 'app.json'), JSON.stringify(manifest));
await writeFile(join(app, 'server.js'), '// server');
await writeFile(join(app, 'node.js'), '// node');
const environment = { ROLLCALL_CONFIG_HOME: join(folder, 'home') };
await run(['app', 'keygen'], { environment });

async function flagsFor(where: RunPort, token = where.token): Promise<string[]> {
  const file = async (name: string, content: string): Promise<string> => {
    const path = join(where.folder, `${name}-${token.slice(-12)}`);
    await writeFile(path, content, { mode: 0o600 });
    await chmod(path, 0o600);
    return path;
  };
  return [
    ...['--control', where.address()],
    ...['--root-certificates', await file('ca', where.ca)],
    ...['--token-file', await file('token', token)],
  ];
}

const flags = await flagsFor(site);
const ask = (words: readonly string[], options: RunOptions = {}) =>
  run([...words, ...flags], { environment, ...options });

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise(resolve => setTimeout(resolve, 5));
}

/** A command that goes on while the test does: what it has printed so far, and its Ctrl-C. */
function going(words: readonly string[], options: RunOptions = {}) {
  const stdout = new Kept(options.isTTY);
  let press = (): void => undefined;
  const said = run(words, {
    environment,
    ...options,
    stdout,
    onInterruptible: interrupt => (press = interrupt),
  });
  return {
    stdout,
    said,
    interrupt: () => press(),
    seen: (text: string) => until(() => stdout.text.includes(text)),
  };
}

/** Starts the app with --stream and waits until its log is followed. */
async function streaming(options: RunOptions & { readonly json?: boolean; readonly where?: RunPort } = {}) {
  const { where = site, json = false } = options;
  const before = where.runs.watchers();
  const words = ['run', app, '--stream', ...(json ? ['--json'] : []), ...(await flagsFor(where))];
  const command = going(words, options);
  await until(() => where.runs.watchers() > before);
  const [newest] = (await where.runs.list('default', { pageSize: 1 })).runs;
  return { ...command, id: newest?.id ?? 0n };
}

const finished = (outcome: RunRecord['outcome'] & string, reason = ''): Partial<RunRecord> => ({
  ...{ status: 'finished', outcome, reason, finishedAt: Date.now() },
});

void t.test('settings of a run have the types that the app declares', t => {
  t.same(parseSettings(['greeting=a=b', 'rounds=-1.5e2', 'fast=true'], settings), {
    ...{ greeting: 'a=b', rounds: -150, fast: true },
  });
  t.same(parseSettings(['greeting='], settings), { greeting: '' });
  t.same(parseSettings(undefined, settings), {});
  const wrong: readonly (readonly [string, RegExp])[] = [
    ...['rounds=', 'rounds=x', 'rounds=0x10', 'rounds= 1', 'rounds=Infinity', 'rounds=1e999'].map(
      pair => [pair, /expects a number/] as const,
    ),
    ...['fast=1', 'fast=', 'fast=TRUE'].map(pair => [pair, /expects true or false/] as const),
    ...['greeting', '=x', ''].map(pair => [pair, /expects NAME=VALUE/] as const),
    ...['rouds=3', 'constructor=1', '__proto__=1'].map(pair => [pair, /has no setting/] as const),
  ];
  for (const [pair, message] of wrong)
    t.throws(() => parseSettings([pair], settings), { code: 'REQUEST_INVALID', message }, pair);
  t.throws(() => parseSettings(['rounds=1', 'rounds=2'], settings), { message: /given twice/ });
  t.throws(() => parseSettings(['x=1'], settings), {
    code: 'REQUEST_INVALID',
    hint: 'it has: greeting=hello, rounds=3, fast=false',
  });
  t.end();
});

void t.test('run packs, signs and starts an app, and prints how to follow it', async t => {
  const said = await ask(['run', app, '--set', 'rounds=5', '--set', 'fast=true']);
  const [newest] = (await site.runs.list('default', { pageSize: 1 })).runs;
  const id = `${newest?.id ?? ''}`;
  t.same(said, {
    code: 0,
    stdout: `✅ Run ${id} started.\n`,
    stderr: `hint: follow it with rollcall runs logs ${id} --follow\n`,
  });
  const sent = site.runs.started.at(-1);
  if (!sent) return;
  t.same(sent.config, { rounds: 5, fast: true }, 'of the settings only what differs');
  const { appName: name, appVersion: version, appDigest: digest } = sent;
  t.ok(await isSignedBy(parseSpki(sent.signer), { name, version, digest }, sent.signature));
  t.match(readArchive(sent.archive), { digest, manifest: { name: 'hello' } });

  t.match(
    sent.idempotency?.key,
    /^[0-9a-f-]{36}$/,
    'a key of its own, so that a lost answer is asked for again',
  );
  await ask(['run', app, '--idempotency-key', 'nightly-1']);
  t.equal(site.runs.started.at(-1)?.idempotency?.key, 'nightly-1');
  const json = await ask(['run', app, '--detach', '--json', '--tenant', 'default']);
  t.match(JSON.parse(json.stdout), { status: 'pending', outcome: null, app: { name: 'hello' } });
  t.equal(json.stderr, '');
});

void t.test('run finds local errors before it sends anything', async t => {
  const before = site.runs.started.length;
  const p384 = join(folder, 'p384');
  await writeFile(p384, toPkcs8Pem(newKey('P-384')), { mode: 0o600 });
  const cases: readonly (readonly [readonly string[], RegExp, RunOptions?])[] = [
    [['run', folder], /^error: this folder is no app/],
    [['run', join(folder, 'nowhere')], /^error: cannot read .*: there is no such file or folder/],
    [
      ['run', app, '--set', 'colour=red'],
      /^error: the app has no setting "colour"\nhint: it has: greeting=hello/,
    ],
    [['run', app, '-c', 'rounds=5'], /^error: run reads no configuration file .*\nhint: .*--set NAME=VALUE/],
    [['run', app, '--stream', '--detach'], /^error: --stream and --detach/],
    [
      ['run', app, '--app-key', join(folder, 'none')],
      /^error: there is no app key at .*none\nhint: .*keygen/,
    ],
    [
      ['run', app],
      /^error: there is no app key at .*\nhint: make one with rollcall app keygen/,
      { environment: { ROLLCALL_CONFIG_HOME: join(folder, 'empty') } },
    ],
    [['run', app, '--app-key', join(folder, 'home', 'app-key.pub')], /^error: .*public key/],
    [['run', app, '--app-key', p384], /^error: apps are signed by a key on P-256\nhint: .*keygen/],
    [['run', app, '--tenant', 'ward'], /^error: .* belongs to the tenant default, not to ward\nhint: /],
    [['runs', 'show', '12ab'], /^error: "12ab" is no id of a run\nhint: rollcall runs list/],
    [['runs', 'show', '18446744073709551616'], /is no id of a run/],
    [['runs', 'stop', 'newest'], /is no id of a run/],
    [
      ['runs', 'list', '--status', 'over'],
      /^error: there is no status "over" of runs\nhint: there are: pending/,
    ],
    [['runs', 'list', '--limit', '0'], /--limit: expected/],
    [['runs', 'logs', '1', '--after', '-1'], /--after: expected the number of a line/],
  ];
  for (const [words, stderr, options] of cases)
    t.match(await ask(words, options), { code: 2, stdout: '', stderr }, words.join(' '));
  t.equal(site.runs.started.length, before);
  const sam = await site.person('sam', ['viewer']);
  const refused = await run(['run', app, ...(await flagsFor(site, sam.token))], { environment });
  t.match(refused, { code: 1, stderr: /^error: not allowed: this needs runs:submit\n/ });
  t.match(await run(['run', app, ...flags, '--control', '127.0.0.1:1'], { environment }), {
    code: 3,
    stderr: /^error: nothing listens/,
  });
});

void t.test('run --stream prints the log as it comes, and exits by the outcome of the run', async t => {
  const key = newKey().publicKey;
  const node = await site.registry.registerNode({
    ...{ tenant: 'default', publicKey: key, name: 'press-3', labels: {}, again: false, owner: '' },
    by: userParty('test'),
  });
  const { id, said, seen } = await streaming();
  site.runs.say(id, 'round 1', { at: noon });
  await seen('round 1');
  site.runs.say(id, 'loss 0.5', { at: noon, node: node.id });
  site.runs.say(id, 'unknown node', { at: noon, node: 7n });
  site.runs.say(id, 'careful\x1b[2J\u202e\n  and so on\x07', { at: noon, level: 'warn' });
  site.runs.say(id, 'starting', { at: noon, level: 'link' });
  const counts = { nodes: 2, sent: 40, answered: 39, failed: 1, logLines: 5 };
  site.runs.change(id, { ...finished('completed'), counts, result: '{"accuracy":0.93}' });
  const { code, stdout, stderr } = await said;
  t.equal(code, 0);
  t.equal(
    stdout.replace(/in \d\d:\d\d:\d\d/, 'in TIME'),
    `✅ Run ${id} started.
2026-01-15 12:00:00Z  server  round 1
2026-01-15 12:00:00Z  press-3  loss 0.5
2026-01-15 12:00:00Z  7        unknown node
2026-01-15 12:00:00Z  server   warn: careful[2J
                                 and so on
2026-01-15 12:00:00Z  link     starting
✅ Run ${id} completed in TIME: 40 messages to 2 nodes, 1 not answered, 1 failed.
   Result  {"accuracy":0.93}
`,
  );
  t.equal(stderr, '');

  const failing = await streaming();
  site.runs.change(failing.id, finished('failed', 'the server half threw:\n it broke'));
  t.match(await failing.said, {
    code: 1,
    stderr: `error: run ${failing.id} failed: the server half threw: it broke\nhint: rollcall runs logs ${failing.id} shows what it said\n`,
  });
  const stopped = await streaming();
  site.runs.change(stopped.id, finished('stopped', 'stopped by ada'));
  t.match(await stopped.said, { code: 5, stderr: `error: run ${stopped.id} was stopped: stopped by ada\n` });
});

void t.test('run --stream --json prints one object per line: the run, its log, and its outcome', async t => {
  const { id, said } = await streaming({ json: true });
  site.runs.say(id, 'hi', { at: noon, node: 7n });
  site.runs.change(id, { ...finished('completed'), result: '[1]' });
  const { stdout, stderr } = await said;
  const lines = stdout
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line) as object);
  t.match(lines, [
    { run: { id: `${id}`, status: 'pending' } },
    { entry: { number: 1, at: '2026-01-15T12:00:00.000Z', node: '7', level: 'info', text: 'hi' } },
    { run: { outcome: 'completed', result: [1], config: {} } },
  ]);
  t.same([lines.length, stderr], [3, '']);
});

void t.test('the log on a terminal shows warnings in colour and a line of progress', async t => {
  const kept = new Kept(true);
  const { id, said, seen } = await streaming({ isTTY: true, stderr: kept });
  const counts = { nodes: 2, sent: 4, answered: 1, failed: 0, logLines: 0 };
  site.runs.change(id, { status: 'running', counts });
  site.runs.say(id, 'bad', { level: 'error' });
  await seen('bad');
  // It comes while nothing is printed.
  await until(() => kept.text.includes('3 not answered'));
  site.runs.change(id, finished('completed'));
  const { stdout, stderr } = await said;
  t.match(stdout, /\x1b\[31merror: bad\x1b\[0m\n/);
  t.match(stderr, 'running, 4 messages to 2 nodes, 3 not answered …');
  t.ok(stderr.endsWith('\r\x1b[2K'), 'and is gone at the end');
});

void t.test('Ctrl-C detaches from a run that continues; twice stops the run', async t => {
  const detached = await streaming();
  site.runs.say(detached.id, 'working');
  await detached.seen('working');
  detached.interrupt();
  const { code, stderr } = await detached.said;
  t.equal(code, 0);
  t.equal(
    stderr,
    `hint: detaching; the run goes on (rollcall runs logs ${detached.id} --follow); Ctrl-C again within 2 s stops it\n`,
  );
  t.equal((await site.runs.find('default', detached.id))?.status, 'pending');

  const stopped = await streaming();
  stopped.interrupt();
  stopped.interrupt();
  t.match(await stopped.said, {
    code: 5,
    stderr: /hint: detaching.*\nhint: stopping the run\nerror: run \d+ was stopped/,
  });
  t.match(await site.runs.find('default', stopped.id), { outcome: 'stopped', reason: 'stopped by operator' });
  await until(() => site.runs.watchers() === 0);
});

void t.test('a signal detaches the process of run --stream; a second signal stops the run', async t => {
  const words = ['run', app, '--stream', ...flags];
  for (const [signals, code] of [
    [1, 0],
    [2, 5],
  ] as const) {
    const child = start(words, environment);
    const said = ended(child);
    await once(child.stdout ?? child, 'data');
    const [newest] = (await site.runs.list('default', { pageSize: 1 })).runs;
    const id = newest?.id ?? 0n;
    site.runs.say(id, 'working');
    await once(child.stdout ?? child, 'data');
    child.kill('SIGINT');
    if (signals === 2) {
      await once(child.stderr ?? child, 'data');
      child.kill('SIGINT');
    }
    t.equal((await said).code, code);
    t.equal((await site.runs.find('default', id))?.outcome, signals === 2 ? 'stopped' : undefined);
    t.notMatch((await said).stderr + (await said).stdout, site.token);
  }
});

void t.test('runs logs continues from the last line after the link was restarted', async t => {
  const where = await openRunPort(t);
  const { id, said, seen, stdout } = await streaming({ where });
  where.runs.say(id, 'line 1');
  where.runs.say(id, 'line 2');
  await seen('line 2');
  await where.stop();
  where.runs.say(id, 'line 3');
  await until(() => where.runs.watchers() === 0);
  await where.reopen();
  await seen('line 3');
  where.runs.say(id, 'line 4');
  await seen('line 4');
  where.runs.change(id, finished('completed'));
  const { code, stderr } = await said;
  t.equal(code, 0);
  t.same(stdout.text.match(/line \d/g), ['line 1', 'line 2', 'line 3', 'line 4']);
  t.equal(stderr, 'hint: the link went away; asking again until it is back\n');
});

function follow(
  test: Pick<Test, 'teardown'>,
  where: RunPort,
  id: bigint,
  token: (refused?: string) => string,
) {
  const target = {
    ...{ address: { host: '127.0.0.1', port: where.port }, addressText: where.address() },
    ...{ roots: Buffer.from(where.ca), rootsPath: 'ca', names: { address: 'address', roots: 'roots' } },
  };
  const runs = openRuns(target, { get: token, refusedHint: 'log in again' });
  test.teardown(() => runs.close());
  const seen: string[] = [];
  let lost = 0;
  const done = followRun({
    ...{ runs, run: id, signal: new AbortController().signal, onRun: () => undefined },
    onEntry: ({ text }) => void seen.push(text),
    onLost: () => void (lost += 1),
    patience: { giveUpAfterMs: 50, pauseMs: 10 },
  });
  done.catch(() => undefined);
  return { seen, done, lost: () => lost };
}

void t.test('runs logs gives up on a link that stays away, and prints where to continue', async t => {
  const where = await openRunPort(t);
  const { id } = where.runs.add();
  where.runs.say(id, 'one');
  const { done, seen } = follow(t, where, id, () => where.token);
  await until(() => seen.length === 1);
  await where.stop();
  await t.rejects(done, {
    code: 'LINK_UNREACHABLE',
    message: /^gave up waiting for the link: /,
    hint: `the run may go on: rollcall runs logs ${id} --follow --after 1`,
  });
});

void t.test(
  'a log stream replaces a token that ends, and without another token it reports the end',
  async t => {
    const clock = createManualClock();
    const where = await openRunPort(t, { clock });
    const [first, second] = [await where.person('ada', ['viewer']), await where.person('bea', ['viewer'])];
    const { id } = where.runs.add();
    where.runs.say(id, 'one');
    const disable = (user: string) =>
      where.access.users.change(
        'default',
        user,
        { enabled: false },
        { type: 'user.changed', by: userParty('test') },
      );
    const following = follow(t, where, id, refused => (refused === first.token ? second.token : first.token));
    await until(() => following.seen.length === 1);
    await disable(first.id);
    clock.advance(5_000);
    await until(() => following.lost() === 1);
    where.runs.say(id, 'two');
    await until(() => {
      // The follower polls by its clock.
      clock.advance(20);
      return following.seen.length === 2;
    });
    await disable(second.id);
    clock.advance(5_000);
    await t.rejects(following.done, { code: 'TOKEN_REFUSED', hint: 'log in again' });
    t.same(following.seen, ['one', 'two']);
  },
);

void t.test('runs list, show, logs and stop print tables and JSON', async t => {
  const where = await openRunPort(t);
  const there = await flagsFor(where);
  const on = (words: readonly string[], options: RunOptions = {}) =>
    run([...words, ...there], { environment, now: noon + 61_000, ...options });
  t.match(await on(['runs', 'list']), { code: 0, stdout: /^Run ID .*\n$/, stderr: /^hint: no run yet/ });
  t.same(await on(['runs', 'list', '--json']), { code: 0, stdout: '[]\n', stderr: '' });
  t.match(await on(['runs', 'show', 'latest']), { code: 2, stderr: /^error: there is no run yet/ });

  const counts = { nodes: 2, sent: 40, answered: 40, failed: 1, logLines: 2 };
  const over = where.runs.add({
    ...finished('failed', 'it\x1b[2J threw'),
    ...{ createdAt: noon, startingAt: noon, runningAt: noon, finishedAt: noon + 12_000, counts },
    result: '{"rounds":[0.5,0.9]}',
  });
  const going = where.runs.add({ status: 'running', reason: 'running', createdAt: noon, startedBy: 'ada' });
  where.runs.say(over.id, 'one', { at: noon });
  where.runs.say(over.id, 'two', { at: noon });

  t.equal(
    (await on(['runs', 'list'])).stdout,
    `Run ID                App          Status     Started By  Started @             Elapsed   Nodes  Messages
${going.id}  hello 1.0.0  running    ada         2026-01-15 12:00:00Z  00:01:01  0      0/0
${over.id}  hello 1.0.0  failed     somebody    2026-01-15 12:00:00Z  00:00:12  2      40/40
`,
  );
  t.match((await on(['runs', 'list'], { isTTY: true })).stdout, /┏━.*\x1b\[31mfailed\x1b\[0m/s);
  const listed = JSON.parse(
    (await on(['runs', 'list', '--json', '--status', 'finished,pending'])).stdout,
  ) as object[];
  t.match(listed, [{ id: `${over.id}`, outcome: 'failed', messages: { sent: 40 } }]);
  t.notOk('config' in (listed[0] ?? {}), 'a list leaves out what is long');
  t.equal((await on(['runs', 'list', '--json', '--limit', '1'])).stdout.split('\n').length, 4);

  const shown = await on(['runs', 'show', `${over.id}`]);
  t.equal(
    shown.stdout,
    `Run ID      ${over.id}
App         hello 1.0.0
Digest      ${'ab'.repeat(32)}
Signer      SHA256:author
Status      failed
Reason      it[2J threw
Started by  somebody
Tenant      default
Created     2026-01-15 12:00:00Z
Starting    2026-01-15 12:00:00Z
Running     2026-01-15 12:00:00Z
Finished    2026-01-15 12:00:12Z
Took        00:00:12
Messages    40 messages to 2 nodes, 1 failed
Log lines   2
Settings    greeting=hello
Result      {
              "rounds": [
                0.5,
                0.9
              ]
            }
`,
  );
  t.match(JSON.parse((await on(['runs', 'show', 'latest', '--json'])).stdout), {
    ...{ id: `${going.id}`, config: { greeting: 'hello' }, result: null, finishedAt: null },
  });
  t.match(await on(['runs', 'show', '4711']), { code: 1, stderr: /^error: there is no such run\nhint: / });

  const line = (text: string) => `2026-01-15 12:00:00Z  server  ${text}\n`;
  t.same(await on(['runs', 'logs', `${over.id}`]), {
    code: 0,
    stdout: line('one') + line('two'),
    stderr: '',
  });
  t.equal((await on(['runs', 'logs', `${over.id}`, '--after', '1'])).stdout, line('two'));
  t.equal((await on(['runs', 'logs', `${over.id}`, '--limit', '1'])).stdout, line('one'));
  t.match(JSON.parse((await on(['runs', 'logs', `${over.id}`, '--limit', '1', '--json'])).stdout), {
    number: 1,
  });
  const followed = await on(['runs', 'logs', `${over.id}`, '--follow']);
  t.match(followed, {
    code: 1,
    stdout: line('one') + line('two'),
    stderr: /^error: run \d+ failed: it\[2J threw\n/,
  });
  t.same((await on(['runs', 'logs', 'latest'])).stdout, '');

  t.match(await on(['runs', 'stop', `${over.id}`]), {
    code: 0,
    stdout: `✅ Run ${over.id} was over already: failed.\n`,
  });
  t.match(await on(['runs', 'stop', 'latest']), { code: 0, stdout: `✅ Run ${going.id} is stopped.\n` });
  t.match(JSON.parse((await on(['runs', 'stop', `${going.id}`, '--json'])).stdout), { outcome: 'stopped' });
  t.match(await on(['runs', 'stop', '4711']), { code: 1, stderr: /^error: there is no such run/ });
});

void t.test('runs logs --follow ends with Ctrl-C and does not stop the run', async t => {
  const { id } = site.runs.add();
  const { said, interrupt } = going(['runs', 'logs', 'latest', '--follow', ...flags]);
  await until(() => site.runs.watchers() > 0);
  interrupt();
  t.same(await said, { code: 0, stdout: '', stderr: '' });
  t.equal((await site.runs.find('default', id))?.status, 'pending');
});

void t.test('the log shows node ids without nodes:read, and asks for each name once', async t => {
  await site.access.roles.define(
    'default',
    { name: 'submitter', permissions: ['runs:submit'] },
    userParty('test'),
  );
  const { token } = await site.person('sue', ['submitter']);
  const { id } = site.runs.add({ startedBy: 'sue' });
  for (const node of [7n, 8n, 7n]) site.runs.say(id, 'x', { node, at: noon });
  const { stdout } = await run(['runs', 'logs', `${id}`, ...(await flagsFor(site, token))], { environment });
  t.match(stdout, /Z {2}7 {7}x\n.*Z {2}8 {7}x\n.*Z {2}7 {7}x\n$/);
});

void t.test('a line of a log cannot imitate another line or move the cursor', t => {
  const entry = { number: 1n, atMs: BigInt(noon), node: 0n, level: 'info', text: '' };
  const shown = (text: string) => formatEntry({ ...entry, text }, 'server', 6, noPaint);
  t.equal(
    shown('a\n2026-01-15 12:00:00Z  server  b'),
    `${shown('a')}\n${' '.repeat(30)}2026-01-15 12:00:00Z  server  b`,
  );
  t.equal(shown('a\r\x1b[1Ab\u2028c\x9bd'), `${shown('')}a[1Abcd`);
  t.equal(shown('  set in\tkept'), `${shown('')}  set in    kept`);
  t.equal(shown('\n\n').trimEnd(), shown('').trimEnd());
  t.end();
});
