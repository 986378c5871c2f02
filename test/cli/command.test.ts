/** The command against a real control port over TLS: what it asks, what it prints, how it ends. */
import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { generateKeyPairSync } from 'node:crypto';
import { join } from 'node:path';
import t from 'tap';
import { findingOf } from '../../src/control-client/diagnosis.js';
import { version } from '../../src/base/version.js';
import { NodeStatus } from '../../src/protocol/generated/rollcall/v1/control.js';
import { day, makeNode, noon, startControlServer, type ControlServer } from './fixtures/control-server.js';
import { startConnectProxy } from '../harness/connect-proxy.js';
import { Kept, run } from './fixtures/shell.js';

const server = await startControlServer();
t.teardown(() => server.close());
t.beforeEach(() => {
  server.nodes.length = 0;
  server.transitions.length = 0;
  server.asked.length = 0;
});

async function writeKey(name: string, curve = 'P-256'): Promise<string> {
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: curve });
  const path = join(server.folder, name);
  await writeFile(path, publicKey.export({ format: 'pem', type: 'spki' }));
  return path;
}

const ask = (words: readonly string[], options: Parameters<typeof run>[1] = {}) =>
  run([...words, ...server.flags], options);

const online = (fields: Parameters<typeof makeNode>[0] = {}) =>
  makeNode({
    id: 16019329408659850374n,
    name: 'press-3',
    status: NodeStatus.NODE_STATUS_ONLINE,
    reason: 'connected',
    ...fields,
  });

void t.test('nodes register prints the node of each key file', async t => {
  const keys = [await writeKey('one.pub'), await writeKey('two.pub', 'P-384')];
  const said = await ask(['nodes', 'register', ...keys, '--label', 'site=hamburg']);
  t.same(said, {
    code: 0,
    stdout: `✅ Node 16019329408659850374 registered successfully.
   SHA256:registered
✅ Node 16019329408659850375 registered successfully.
   SHA256:registered
`,
    stderr: '',
  });
  t.match(server.asked[0]?.request, { labels: { site: 'hamburg' }, again: false, name: '' });

  const json = await ask([
    'nodes',
    'register',
    await writeKey('three.pub'),
    '--name',
    'n3',
    '--again',
    '--json',
  ]);
  t.match(JSON.parse(json.stdout), [{ id: '16019329408659850376', name: 'n3', status: 'created' }]);
  t.match(server.asked[2]?.request, { name: 'n3', again: true });
  t.equal(json.stderr, '');
});

void t.test('nodes register reads every file first, and continues after a refused key', async t => {
  const good = await writeKey('good.pub');
  const bad = join(server.folder, 'bad.pub');
  await writeFile(bad, 'nonsense');
  const refusedFile = await ask(['nodes', 'register', good, bad]);
  t.equal(refusedFile.code, 2);
  t.match(refusedFile.stderr, /^error: .*bad\.pub/);
  t.equal(server.asked.length, 0, 'nothing was registered');

  await ask(['nodes', 'register', good]);
  const other = await writeKey('other.pub');
  const said = await ask(['nodes', 'register', good, other]);
  t.equal(said.code, 1);
  t.match(said.stderr, /^error: .*good\.pub: this key is registered as node 7\nhint: revoke it\n$/);
  t.match(said.stdout, /^✅ Node \d+ registered/);
  const json = await ask(['nodes', 'register', good, '--json']);
  t.same([json.code, json.stdout], [1, '[]\n']);
});

void t.test(
  'an error found by the link exits with 1, an error found by the command is a usage error with 2',
  async t => {
    const key = await writeKey('named.pub');
    const stated = await ask(['nodes', 'register', key, '--name', 'bad name']);
    t.same([stated.code, stated.stderr], [1, 'error: that is no name\n']);
    const twice = await ask(['nodes', 'register', key, key, '--name', 'n']);
    t.equal(twice.code, 2);
    t.match(twice.stderr, /--name goes with a single key file/);
  },
);

void t.test('nodes list, piped: plain columns, no escape codes', async t => {
  server.nodes.push(online({ sinceMs: BigInt(noon - 61_000) }), makeNode({ id: 7n }));
  const said = await ask(['nodes', 'list'], { now: noon });
  t.same(said, {
    code: 0,
    stdout: `Node ID               Name     Owner   Status   Elapsed   Status Changed @
16019329408659850374  press-3  <none>  online   00:01:01  2026-01-15 11:58:59Z
7                     -        <none>  created  -         N/A
`,
    stderr: '',
  });
  const wide = await ask(['nodes', 'list', '--wide', '--status', 'online'], { now: noon });
  t.match(wide.stdout, /Reason +Address +Labels\n.*press-3 .*connected +- +-\n$/);
  t.match(server.asked[1]?.request, { statuses: [NodeStatus.NODE_STATUS_ONLINE] });
});

void t.test('nodes list on a terminal has a box, and the status in colour without NO_COLOR', async t => {
  server.nodes.push(online());
  const said = await ask(['nodes', 'list'], { isTTY: true, now: noon });
  t.match(said.stdout, /^┏━{22}┳━{9}┳━{8}┳━{9}┳━{10}┳━{22}┓\n/);
  t.match(said.stdout, '│ \x1b[32monline\x1b[0m  │');
  const colourless = await ask(['nodes', 'list'], { isTTY: true, environment: { NO_COLOR: '1' } });
  t.match(colourless.stdout, '│ online  │');
  t.notMatch(colourless.stdout, '\x1b');
});

void t.test('nodes list prints a whole fleet page by page, as a table and as one JSON array', async t => {
  for (let id = 1n; id <= 2_500n; id += 1n) server.nodes.push(makeNode({ id }));
  const said = await ask(['nodes', 'list']);
  t.equal(said.stdout.trimEnd().split('\n').length, 2_501);
  t.equal(server.asked.length, 3);
  const json = JSON.parse((await ask(['nodes', 'list', '--json'])).stdout) as { id: string }[];
  t.same([json.length, json.at(-1)?.id], [2_500, '2500']);
  const few = JSON.parse((await ask(['nodes', 'list', '--json', '--limit', '3'])).stdout) as unknown[];
  t.equal(few.length, 3);
});

void t.test('an empty nodes list prints its header, and hints what to do next', async t => {
  const said = await ask(['nodes', 'list']);
  t.match(said, { code: 0, stdout: /^Node ID .*\n$/, stderr: /^hint: no node is registered yet/ });
  t.same(await ask(['nodes', 'list', '--json']), { code: 0, stdout: '[]\n', stderr: '' });
  t.match((await ask(['nodes', 'list', '--text', 'x'])).stderr, 'hint: no node matches');
  server.nodes.push(makeNode({ status: NodeStatus.NODE_STATUS_REVOKED }));
  t.match(await ask(['nodes', 'list']), {
    stdout: /^Node ID .*\n$/,
    stderr: 'hint: revoked nodes are hidden; --all shows them\n',
  });
  t.notMatch((await ask(['nodes', 'list'], { isTTY: true })).stdout, 'hidden', 'that is said once');
});

void t.test('nodes list shows revoked nodes only with the flag for them', async t => {
  server.nodes.push(
    online(),
    makeNode({ id: 7n, status: NodeStatus.NODE_STATUS_REVOKED }),
    makeNode({ id: 8n }),
  );
  const idsOf = async (...words: string[]) => {
    const { stdout } = await ask(['nodes', 'list', '--json', ...words]);
    return (JSON.parse(stdout) as { id: string }[]).map(({ id }) => id);
  };
  t.same(await idsOf(), ['16019329408659850374', '8']);
  t.same(await idsOf('--all'), ['16019329408659850374', '7', '8']);
  t.same(await idsOf('--status', 'revoked'), ['7']);
  t.match(
    (await ask(['nodes', 'list'], { isTTY: true, environment: { NO_COLOR: '1' } })).stdout,
    /┘\n2 nodes: 1 online, 1 created\nrevoked nodes are hidden; --all shows them\n$/,
  );
  const all = await ask(['nodes', 'list', '--all'], { isTTY: true, environment: { NO_COLOR: '1' } });
  t.match(all.stdout, /┘\n3 nodes: 1 online, 1 revoked, 1 created\n$/);
  const some = await ask(['nodes', 'list', '--limit', '1'], { isTTY: true, environment: { NO_COLOR: '1' } });
  t.match(some.stdout, /┘\nthe first 1: 1 online\n/);
});

void t.test('a list that is longer than the terminal is shown in the pager', async t => {
  for (let id = 1n; id <= 2_500n; id += 1n) server.nodes.push(makeNode({ id }));
  const read: string[] = [];
  let pages = Infinity;
  const openPager = () =>
    Promise.resolve({
      write: (text: string) => Promise.resolve(read.push(text) < pages),
      end: () => Promise.resolve(),
    });
  const said = await ask(['nodes', 'list'], { isTTY: true, openPager });
  t.equal(said.stdout, '');
  t.equal(read.join('').split('\n').length, 2_500 + 4 + 2);
  t.match(read.at(-1), '2500 nodes: 2500 created');
  read.length = 0;
  pages = 1;
  server.asked.length = 0;
  t.match(await ask(['nodes', 'list'], { isTTY: true, openPager }), { code: 0, stdout: '' });
  t.equal(
    server.asked.filter(({ method }) => method === 'listNodes').length,
    2,
    'no page more once nobody reads',
  );
  read.length = 0;
  server.nodes.length = 5;
  t.match((await ask(['nodes', 'list'], { isTTY: true, openPager })).stdout, '5 nodes: 5 created');
  t.match((await ask(['nodes', 'list', '--json'], { openPager })).stdout, /^\[\n/);
  const unknown = Object.assign(new Kept(true), { rows: 0 });
  await ask(['nodes', 'list'], { isTTY: true, stdout: unknown, openPager });
  t.match(unknown.text, '5 nodes: 5 created');
  t.same(read, [], 'a short one, JSON, and one on a terminal of unknown height do not');
});

void t.test('nodes show and history print everything known of a node', async t => {
  server.nodes.push(
    online({ labels: { note: 'a\x1b[2Jb' }, address: '10.0.0.9:5151', certificateExpiresAtMs: 1n }),
  );
  server.transitions.push({
    atMs: BigInt(noon),
    status: NodeStatus.NODE_STATUS_OFFLINE,
    reason: 'connection lost',
    detail: '',
    address: '10.0.0.9:5151',
  });
  const shown = await ask(['nodes', 'show', 'press-3'], { now: noon + 1_000 });
  t.match(shown.stdout, /^Node ID +16019329408659850374\nName +press-3\n/);
  t.match(shown.stdout, /Since +2026-01-15 12:00:00Z \(00:00:01\)\n/);
  t.notMatch(shown.stdout, '\x1b');
  t.notMatch(shown.stdout, /^Agent/m, 'what is not known is not shown');
  t.match(JSON.parse((await ask(['nodes', 'show', 'press-3', '--json'])).stdout), {
    id: '16019329408659850374',
    since: '2026-01-15T12:00:00.000Z',
  });

  const history = await ask(['nodes', 'history', '16019329408659850374']);
  t.match(history.stdout, /2026-01-15 12:00:00Z {2}offline {2}connection lost {2}10\.0\.0\.9:5151 {2}-\n$/);
  t.same(JSON.parse((await ask(['nodes', 'history', 'press-3', '--json'])).stdout), [
    {
      at: '2026-01-15T12:00:00.000Z',
      status: 'offline',
      reason: 'connection lost',
      detail: null,
      address: '10.0.0.9:5151',
    },
  ]);
  const unknown = await ask(['nodes', 'show', 'nobody']);
  t.same(unknown, {
    code: 1,
    stdout: '',
    stderr: 'error: there is no node "nobody"\nhint: rollcall nodes list shows them\n',
  });
});

void t.test('nodes revoke prints the sessions it ended and how fast; unregister is its alias', async t => {
  server.nodes.push(online(), makeNode({ id: 7n }));
  const said = await ask(['nodes', 'revoke', 'press-3', '7', '--comment', 'lost']);
  t.same(said, {
    code: 0,
    stdout: `✅ Node 16019329408659850374 revoked; one session ended in 3.2 ms.
✅ Node 7 revoked; no session was open.
`,
    stderr: '',
  });
  t.match(server.asked[0]?.request, { node: 'press-3', comment: 'lost' });
  const again = await ask(['nodes', 'unregister', 'nobody', '7', '--json']);
  t.equal(again.code, 1);
  t.match(again.stderr, /^error: nobody: there is no node "nobody"/);
  t.match(JSON.parse(again.stdout), [
    { id: '7', status: 'revoked', sessionsEnded: 0, closedAfterMs: 0, alreadyRevoked: true },
  ]);
  t.same(await ask(['nodes', 'revoke', '7']), {
    code: 0,
    stdout: '✅ Node 7 was revoked already, 2026-01-15 12:00:00Z.\n',
    stderr: '',
  });
});

void t.test('nodes delete prints the deleted nodes, and the sessions it ended', async t => {
  server.nodes.push(online(), makeNode({ id: 7n }));
  t.same(await ask(['nodes', 'delete', 'press-3', '7']), {
    code: 0,
    stdout:
      '✅ Node 16019329408659850374 deleted; one session ended.\n✅ Node 7 deleted; no session was open.\n',
    stderr: '',
  });
  server.nodes.push(makeNode({ id: 8n }));
  const again = await ask(['nodes', 'delete', '7', '8', '--json']);
  t.match(again, { code: 1, stderr: /^error: 7: there is no node "7"/ });
  t.match(JSON.parse(again.stdout), [{ id: '8', sessionsEnded: 0 }]);
});

/** Waits until a line came, without a clock. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise(resolve => setImmediate(resolve));
}

async function startWatch(words: readonly string[], options: Parameters<typeof run>[1] = {}) {
  const stdout = new Kept(options.isTTY);
  let interrupt: () => void = () => undefined;
  const onInterruptible = (listener: () => void) => (interrupt = listener);
  const said = ask(['nodes', 'watch', ...words], { ...options, stdout, onInterruptible });
  await until(() => server.watching.size > 0);
  const send = async (node: Parameters<typeof makeNode>[0]) => {
    const before = stdout.text.length;
    for (const call of server.watching) call.write({ node: online(node) });
    await until(() => stdout.text.length > before);
  };
  return { said, stdout, send, interrupt: () => interrupt() };
}

void t.test('nodes watch prints each change at once, and Ctrl-C ends it with 0', async t => {
  const watch = await startWatch([]);
  await watch.send({});
  await watch.send({ id: 7n, name: '', status: NodeStatus.NODE_STATUS_OFFLINE, reason: 'connection lost' });
  watch.interrupt();
  t.same(await watch.said, {
    code: 0,
    stdout: `2026-01-15 12:00:00Z  16019329408659850374  online       connected  (press-3)
2026-01-15 12:00:00Z  7                     offline      connection lost
`,
    stderr: '',
  });

  server.nodes.push(makeNode({ id: 1n }));
  const json = await startWatch(['--json', '--snapshot']);
  await until(() => json.stdout.text.includes('\n'));
  await json.send({});
  json.interrupt();
  const { stdout } = await json.said;
  const ids = stdout
    .trimEnd()
    .split('\n')
    .map(line => (JSON.parse(line) as { id: string }).id);
  t.same(ids, ['1', '16019329408659850374']);
});

void t.test('commands in the syntax of Flower work or are answered with a hint', async t => {
  const key = await writeKey('flower.pub');
  const registered = await ask(['nodes', 'register', key, '.', 'my-federation']);
  t.match(registered, { code: 0, stdout: /^✅/, stderr: /^hint: "\. my-federation" is not needed/ });
  t.match(await ask(['nodes', 'list', '.', 'my-federation']), {
    code: 0,
    stderr: /^hint: "\. my-federation"/,
  });
  t.match(await ask(['nodes', 'revoke', '16019329408659850374', '.']), {
    code: 0,
    stderr: /^hint: "\." is not/,
  });
  t.equal((await ask(['nodes', 'revoke', '.'])).code, 2);
  for (const [words, hint] of [
    [['register', 'key.pub', '.'], 'use rollcall nodes register KEY…'],
    [['list', '--verbose'], 'use rollcall nodes list'],
    [['unregister', '7'], 'use rollcall nodes revoke NODE…'],
    [[], 'use rollcall node to run one, and rollcall nodes register, list or revoke'],
  ] as const) {
    t.same(await run(['supernode', ...words]), {
      code: 2,
      stdout: '',
      stderr: `error: rollcall has no "supernode" command\nhint: ${hint}\n`,
    });
  }
});

void t.test('each command name of Flower is answered with its name in Rollcall', async t => {
  for (const [words, hint] of [
    [['superlink', '--insecure'], 'use rollcall link'],
    [['flower-superlink'], 'use rollcall link'],
    [['flower-supernode', '--help'], 'use rollcall node'],
    [['superexec'], 'use rollcall app-host'],
    [
      ['federation', 'list'],
      'a link holds one fleet for each tenant: rollcall nodes list, rollcall tenants list',
    ],
    [['new'], 'an app is a folder: copy examples/hello; docs/apps.md says what is in it'],
    [['build'], 'use rollcall app pack DIR; rollcall run DIR packs by itself'],
    [['log', '7'], 'use rollcall runs logs RUN'],
    [['stop', '7'], 'use rollcall runs stop RUN'],
  ] as const) {
    t.same(await run(words), {
      code: 2,
      stdout: '',
      stderr: `error: rollcall has no "${words[0]}" command\nhint: ${hint}\n`,
    });
  }
});

void t.test('aliases and word orders of other commands are understood', async t => {
  server.nodes.push(online());
  const list = await ask(['nodes', 'list'], { now: noon });
  t.match(list.stdout, '16019329408659850374');
  for (const words of [['status'], ['list'], ['ls'], ['nodes', 'ls']])
    t.same(await ask(words, { now: noon }), list, words.join(' '));
  const json = await ask(['nodes', 'list', '--json']);
  for (const words of [
    ['--json', 'nodes', 'list'],
    ['nodes', '--json', 'list'],
    ['--json', 'ls'],
  ])
    t.same(await ask(words), json, words.join(' '));
  t.same(await run(['version']), await run(['--version']));
  t.same(await run(['help']), await run(['--help']));
  for (const [words, same] of [
    [
      ['help', 'nodes'],
      ['nodes', '--help'],
    ],
    [
      ['help', 'nodes', 'list'],
      ['nodes', 'list', '--help'],
    ],
    [
      ['nodes', 'help'],
      ['nodes', '--help'],
    ],
    [
      ['nodes', 'help', 'list'],
      ['nodes', 'list', '--help'],
    ],
    [
      ['help', 'link'],
      ['link', '--help'],
    ],
    [
      ['help', 'users'],
      ['users', '--help'],
    ],
  ] as const) {
    const helped = await run(words);
    t.equal(helped.code, 0);
    t.same(helped, await run(same), words.join(' '));
  }
  t.match(await run(['run', 'ls', '--app-key', '/nonexistent/key']), { code: 2, stderr: /folder|ls/ });
});

void t.test('a mistake in the arguments is a usage error with a hint, and nothing is sent', async t => {
  for (const [words, stderr] of [
    [['nodes', 'lst'], "error: unknown command 'lst'\nhint: did you mean list?\n"],
    [['lnk'], "error: unknown command 'lnk'\nhint: did you mean link?\n"],
    [['nodes', 'list', '--wid'], "error: unknown option '--wid'\nhint: did you mean --wide?\n"],
    [
      ['nodes', 'list', '--zzz'],
      "error: unknown option '--zzz'\nhint: rollcall nodes list --help shows what there is\n",
    ],
    [
      ['nodes', 'register'],
      "error: missing required argument 'file'\nhint: rollcall nodes register --help shows what there is\n",
    ],
    [['nodes', 'list', 'x'], 'error: nodes list takes no "x"\nhint: to search, use --text x\n'],
    [['nodes', 'list', '--status', 'up'], /^error: there is no status "up"\nhint: there are: created, /],
    [['nodes', 'list', '--limit', '0'], /^error: --limit: expected/],
    [['nodes', 'list', '--label', 'x'], /^error: --label: expected NAME=VALUE/],
    [['node', 'list'], /^error: too many arguments.*\nhint: did you mean rollcall nodes list\?\n$/],
    [['run', 'list'], /^error: .*\nhint: did you mean rollcall runs list\?\n$/],
    [['user', 'list'], "error: unknown command 'user'\nhint: did you mean rollcall users list?\n"],
    [['service', 'list'], /hint: did you mean rollcall services list\?\n$/],
    [['token', 'revoke', 'x'], /hint: did you mean rollcall tokens revoke\?\n$/],
    [['role', 'list'], /hint: did you mean rollcall roles list\?\n$/],
    [['tenant', 'list'], /hint: did you mean rollcall tenants list\?\n$/],
    [['key', 'list'], /hint: did you mean rollcall keys list\?\n$/],
    [['link', '--data-dri', 'x'], "error: unknown option '--data-dri'\nhint: did you mean --data-dir?\n"],
    [['link', 'extra'], /^error: too many arguments/],
    [['link'], /^error: --ssl-ca-certfile is needed.*hint: rollcall link --help shows all settings/s],
    [['profile', 'show'], /^error: missing required argument 'name'/],
    [['nodes', 'watch', '--bad\x1b[31m'], /^error: unknown option '--bad\[31m'/],
  ] as const) {
    const said = await run(words);
    t.equal(said.code, 2, words.join(' '));
    t.match(said.stderr, stderr);
    t.equal(said.stdout, '');
  }
  t.equal(server.asked.length, 0);
});

void t.test('help and version exit with 0, and help shows examples', async t => {
  t.same(await run(['--version']), { code: 0, stdout: `${version}\n`, stderr: '' });
  for (const words of [['--help'], [], ['nodes'], ['nodes', '--help']]) {
    const said = await run(words);
    t.match(said, { code: 0, stderr: '' });
    t.match(said.stdout, 'Examples:');
  }
  const help = await run(['link', '--help']);
  t.match(help, { code: 0, stderr: '' });
  t.match(help.stdout, /--data-dir <DIR> +folder of the registry/);
  t.match(help.stdout, 'ROLLCALL_LINK_LOG_LEVEL');
  t.match(help.stdout, /--log-format <FORMAT> .*default: auto/s);
  for (const name of ['certs', 'keygen']) {
    const made = await run([name, '--help']);
    t.match(made, { code: 0, stderr: '', stdout: new RegExp(`^usage: rollcall ${name} `) });
    t.match(await run([name, '--zzz']), { code: 2, stdout: '', stderr: /^error: .*zzz/ });
  }
  t.match(help.stdout, /default:\s+0\.0\.0\.0:9092/);
  t.notMatch((await run(['--help'])).stdout, 'supernode');
});

void t.test('every help text fits the terminal, and breaks between words', async t => {
  const all = [
    [],
    ['link'],
    ['node'],
    ['app-host'],
    ['certs'],
    ['keygen'],
    ['nodes', 'config'],
    ['login'],
    ['run'],
  ];
  for (const columns of [40, 60, 80])
    for (const words of all) {
      const stdout = new Kept(true, columns);
      await run([...words, '--help'], { stdout });
      const lines = stdout.text.split('\n');
      // One word that is wider than there is room, such as a flag with its value, stays whole.
      const wide = lines.filter(
        line => line.length > columns && /\S \S+ \S/.test(line.trim()) && !/^ +(?:\$|-)/.test(line),
      );
      t.same(wide, [], `${words.join(' ')} --help in ${columns} columns`);
      t.match(stdout.text, /usage: rollcall/i);
    }
});

void t.test('each cause of an unreachable link is reported with what to do', async t => {
  const list = (flags: Record<string, string>) => {
    const settings = {
      control: `127.0.0.1:${server.port}`,
      'root-certificates': server.rootsPath,
      'token-file': server.tokenPath,
      ...flags,
    };
    return run([
      'nodes',
      'list',
      ...Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]),
    ]);
  };
  const silent = createServer(socket => {
    socket.on('error', () => undefined).resume();
    socket.end('hello, this is not TLS\n');
  });
  await new Promise<void>(resolve => silent.listen(0, '127.0.0.1', resolve));
  const plainPort = (silent.address() as AddressInfo).port;
  t.match(await list({ control: `127.0.0.1:${plainPort}` }), {
    code: 3,
    stderr:
      /^error: what answers at 127\.0\.0\.1:\d+ does not speak TLS 1\.3\nhint: is this the control port/,
  });
  await new Promise(resolve => silent.close(resolve));
  t.match(await list({ control: `127.0.0.1:${plainPort}` }), {
    code: 3,
    stderr: /^error: nothing listens at 127\.0\.0\.1:\d+\nhint: is the link running\?/,
  });
  t.match(await list({ 'root-certificates': server.strangerRootsPath }), {
    code: 3,
    stderr:
      /^error: what answers at .* shows a certificate that no root in .*stranger\.crt has issued\nhint: /,
  });
  t.match(await list({ control: `[::1]:${server.port}` }), { code: 3, stderr: /nothing listens at \[::1\]/ });
  t.match(await list({ control: 'no.such.host.invalid:9093' }), {
    code: 3,
    stderr: /no\.such\.host\.invalid/,
  });
  t.equal((await list({ control: `localhost:${server.port}` })).code, 0, 'by name it is reached');

  const wrong = join(server.folder, 'wrong-token');
  await writeFile(wrong, 'rollcall-admin-wrong\n', { mode: 0o600 });
  t.match(await list({ 'token-file': wrong }), {
    code: 1,
    stderr: /^error: the token is not valid here\nhint: the token came from .*wrong-token; log in again/,
  });
});

void t.test('a certificate of another address and an expired certificate are not trusted', async t => {
  const everywhere = await startControlServer({ host: '0.0.0.0' });
  t.teardown(() => everywhere.close());
  const flags = ['--root-certificates', everywhere.rootsPath, '--token-file', everywhere.tokenPath];
  const control = `127.0.0.3:${everywhere.port}`;
  const elsewhere = await run(['nodes', 'list', '--control', control, ...flags]);
  t.match(elsewhere, {
    code: 3,
    stderr:
      /^error: the certificate shown at 127\.0\.0\.3:\d+ is not for 127\.0\.0\.3\nhint: it is for DNS:localhost/,
  });
  const expired = await startControlServer({ madeAt: Date.now() - 3 * day });
  t.teardown(() => expired.close());
  t.match(await run(['nodes', 'list', ...expired.flags]), {
    code: 3,
    stderr: /^error: the certificate shown at .* has expired\nhint: /,
  });
  t.equal(everywhere.asked.length + expired.asked.length, 0, 'nobody was shown a token');
});

void t.test('the cause of a failed connection is derived from its error code', t => {
  const settings = {
    address: { host: '127.0.0.3', port: 1 },
    addressText: '127.0.0.3:1',
    roots: Buffer.alloc(0),
    rootsPath: 'ca.crt',
    names: { address: '--control', roots: '--root-certificates' },
  };
  const failure = (code: string, more: object = {}) => Object.assign(new Error('x'), { code, ...more });
  const named = findingOf(
    failure('ERR_TLS_CERT_ALTNAME_INVALID', { cert: { subjectaltname: 'DNS:localhost' } }),
    settings,
  );
  t.match(named, {
    code: 'LINK_UNVERIFIED',
    hint: 'it is for DNS:localhost; use one of its names with --control',
  });
  t.match(findingOf(failure('CERT_HAS_EXPIRED'), settings), {
    code: 'LINK_UNVERIFIED',
    message: /has expired$/,
  });
  t.match(findingOf(failure('ETIMEDOUT'), settings), { code: 'LINK_UNREACHABLE', message: /no answer$/ });
  t.match(findingOf(failure('EWEIRD'), settings), { code: 'LINK_UNREACHABLE', message: /EWEIRD$/ });
  t.end();
});

void t.test('settings come from flags, then the environment, then a profile', async t => {
  const home = join(server.folder, 'config');
  await mkdir(home, { mode: 0o700 });
  const environment = { ROLLCALL_CONFIG_HOME: home };
  const port = String(server.port);
  const missing = await run(['nodes', 'list'], { environment });
  t.equal(missing.code, 2);
  t.equal(
    missing.stderr,
    'error: nobody is logged in to the link at 127.0.0.1:9093\n' +
      'hint: log in first: rollcall login --root-certificates FILE (the first admin adds --setup); or give --token-file FILE or ROLLCALL_TOKEN\n',
  );
  const named = ['--control', 'link.test:9093', '--root-certificates', server.rootsPath];
  t.match(
    (await run(['status', ...named], { environment })).stderr,
    [
      'error: nobody is logged in to the link at link.test:9093\n',
      `hint: log in first: rollcall login --control link.test:9093 --root-certificates ${server.rootsPath} `,
    ].join(''),
  );
  const byToken = await run(['nodes', 'list'], { environment: { ...environment, ROLLCALL_TOKEN: 'some' } });
  t.match(byToken.stderr, /^error: no root certificates are known .*\nhint: give --root/);

  const saved = await run(['profile', 'save', 'default', ...server.flags], { environment });
  t.match(saved, { code: 0, stdout: '✅ Profile default saved.\n', stderr: '' });
  t.equal((await stat(join(home, 'profiles.json'))).mode & 0o777, 0o600);
  t.equal((await run(['nodes', 'list'], { environment })).code, 0);

  const fromEnvironment = { ...environment, ROLLCALL_TOKEN_FILE: join(server.folder, 'missing') };
  t.match(await run(['nodes', 'list'], { environment: fromEnvironment }), {
    code: 2,
    stderr: /folder|missing/,
  });
  t.equal(
    (await run(['nodes', 'list', '--token-file', server.tokenPath], { environment: fromEnvironment })).code,
    0,
  );

  const other = await run(['nodes', 'list', '--control', `localhost:${port}`], { environment });
  t.equal(other.code, 2, "the default profile's token is not sent to another link");
  t.equal(
    (await run(['nodes', 'list', '--control', `localhost:${port}`, '--profile', 'default'], { environment }))
      .code,
    0,
    'unless the profile is named',
  );
  const everything = {
    ROLLCALL_CONTROL: `127.0.0.1:${port}`,
    ROLLCALL_ROOT_CERTIFICATES: server.rootsPath,
    ROLLCALL_TOKEN_FILE: server.tokenPath,
  };
  t.equal((await run(['nodes', 'list'], { environment: everything })).code, 0);
});

void t.test('a proxy comes from a flag, then the environment, then the saved profile', async t => {
  const home = join(server.folder, 'proxied');
  const secret = join(server.folder, 'proxy-credentials');
  await writeFile(secret, 'bob:open sesame\n', { mode: 0o600 });
  const [open, closed] = await Promise.all([
    startConnectProxy(t),
    startConnectProxy(t, { credentials: 'bob:open sesame' }),
  ]);
  const list = (words: readonly string[], environment: Record<string, string> = {}) =>
    run(['nodes', 'list', ...words], { environment: { ROLLCALL_CONFIG_HOME: home, ...environment } });
  const save = (...words: string[]) =>
    run(['profile', 'save', 'default', ...words], { environment: { ROLLCALL_CONFIG_HOME: home } });
  const target = `127.0.0.1:${server.port}`;

  t.equal((await list([...server.flags, '--proxy', open.url])).code, 0);
  t.same(open.asked, [target]);
  t.equal((await list(server.flags, { ROLLCALL_PROXY: open.url })).code, 0);
  t.equal((await list(server.flags, { ROLLCALL_PROXY: 'environment', HTTPS_PROXY: open.url })).code, 0);
  t.equal(open.asked.length, 3);
  t.equal((await list(server.flags, { HTTPS_PROXY: 'http://127.0.0.1:1', grpc_proxy: open.url })).code, 0);
  t.equal(open.asked.length, 3, 'variables count only when a setting says so');

  const credentials = ['--proxy-credentials-file', secret];
  t.equal((await save(...server.flags, '--proxy', closed.url, ...credentials)).code, 0);
  t.equal((await list([])).code, 0, 'with the credentials of the profile');
  t.match(
    await list(['--proxy', closed.url]),
    {
      code: 3,
      stderr: /^error: the proxy .* refuses .*: 407 .*\nhint: it asks for a user and a password: give/,
    },
    'credentials of a profile go to no proxy that is named otherwise',
  );
  t.equal((await list(['--proxy', 'none'])).code, 0);
  await save('--proxy', open.url);
  const shown = await run(['profile', 'show', 'default'], { environment: { ROLLCALL_CONFIG_HOME: home } });
  t.match(shown.stdout, `Proxy              ${open.url}\n`);
  t.notMatch(shown.stdout, 'credentials', 'they went with the proxy they were for');
});

void t.test('an invalid proxy is a usage error, and its password is never shown', async t => {
  for (const [words, message] of [
    [['--proxy', 'http://bob:sesame@p:1'], /^error: the proxy: expected a URL without user and password/],
    [['--proxy', 'ftp://p:1'], /^error: the proxy: expected http:/],
    [['--proxy-credentials-file', 'x'], /^error: --proxy is needed with --proxy-credentials-file/],
  ] as const) {
    const said = await ask(['nodes', 'list', ...words]);
    t.match(said, { code: 2, stderr: message });
    t.notMatch(said.stderr, 'sesame');
  }
  const environment = { ROLLCALL_CONFIG_HOME: join(server.folder, 'no-such-home') };
  const saved = await run(['profile', 'save', 'p', '--proxy', 'http://bob:sesame@p'], { environment });
  t.match(saved, { code: 2, stderr: /^error: the proxy: expected a URL without/ });
});

void t.test('the hint of an unreachable link names a proxy variable that is not used', async t => {
  const words = ['nodes', 'list', ...server.flags, '--control', '127.0.0.1:1'];
  const hint = /; HTTPS_PROXY is set but not used; to go through that proxy: --proxy environment\n$/;
  t.match(await run(words, { environment: { HTTPS_PROXY: 'http://p:1' } }), { code: 3, stderr: hint });
  const exempt = await run(words, { environment: { HTTPS_PROXY: 'http://p:1', NO_PROXY: '127.0.0.1' } });
  t.notMatch(exempt.stderr, 'HTTPS_PROXY');
});

void t.test('profiles are saved, changed, listed, shown and removed', async t => {
  const environment = { ROLLCALL_CONFIG_HOME: join(server.folder, 'profiles') };
  const profile = (...words: string[]) => run(['profile', ...words], { environment });
  t.match(await profile('list'), { code: 0, stderr: /^hint: no profile is saved/ });
  t.equal((await profile('save', 'lab')).code, 2, 'with nothing to save');
  t.equal((await profile('save', '../x', '--control', 'a:1')).code, 2);
  t.match(await profile('save', 'lab', '--control', 'lab'), {
    code: 2,
    stderr: /^error: --control: expected HOST:PORT/,
  });
  t.match(await profile('save', 'lab', '--control', 'lab.example:9093', '--token-file', 'no-such-token'), {
    code: 0,
    stderr: /no-such-token is not there yet\nhint: use it with --profile lab/,
  });
  await profile('save', 'lab', '--root-certificates', server.rootsPath);
  t.same(JSON.parse((await profile('show', 'lab', '--json')).stdout), {
    name: 'lab',
    control: 'lab.example:9093',
    rootCertificates: server.rootsPath,
    tokenFile: join(process.cwd(), 'no-such-token'),
    proxy: null,
    proxyCredentialsFile: null,
    proxyRootCertificates: null,
  });
  t.match((await profile('show', 'lab')).stdout, /^Profile +lab\nControl +lab\.example:9093\n/);
  await profile('save', 'attic', '--control', '[::1]:9093');
  const listed = JSON.parse((await profile('list', '--json')).stdout) as { name: string }[];
  t.same(
    listed.map(({ name }) => name),
    ['attic', 'lab'],
  );
  t.equal((await profile('remove', 'lab')).code, 0);
  t.match(await profile('show', 'lab'), { code: 2, stderr: /no profile "lab"\nhint: there are: attic/ });
  t.match(await run(['nodes', 'list', '--profile', 'lab'], { environment }), {
    code: 2,
    stderr: /no profile "lab"/,
  });

  const path = join(server.folder, 'profiles', 'profiles.json');
  t.notMatch(await readFile(path, 'utf8'), server.token);
  for (const [content, message] of [
    ['{', 'is not JSON'],
    ['[]', 'holds no profiles'],
    ['{"version":2,"profiles":{}}', 'another version'],
    ['{"version":1,"profiles":{"a":{"control":1}}}', 'whose control is not text'],
    ['{"version":1,"profiles":{"a":[]}}', 'cannot be read'],
  ] as const) {
    await writeFile(path, content);
    t.match(await profile('list'), { code: 2, stderr: message });
  }
  await chmod(path, 0o644);
  t.match(await profile('list'), { code: 2, stderr: /can be read by others.*\nhint: chmod 600/ });
});

void t.test(
  'token files that others can read or that hold no token are refused, and never quoted',
  async t => {
    const path = join(server.folder, 'open-token');
    await writeFile(path, `${server.token}\n`, { mode: 0o644 });
    await chmod(path, 0o644);
    const withToken = (file: string) => run(['nodes', 'list', ...server.flags.slice(0, -1), file]);
    const open = await withToken(path);
    t.match(open, { code: 2, stderr: /can be read by others.*\nhint: chmod 600/ });
    await chmod(path, 0o600);
    for (const content of ['', 'two secret words\n', 'sécret\n', `${server.token}\n${server.token}\n`]) {
      await writeFile(path, content);
      const said = await withToken(path);
      t.match(said, { code: 2, stderr: /does not hold a token\nhint: / });
      t.notMatch(said.stderr, /secret|sécret|rollcall-admin/);
    }
    const notCertificates = await run([
      'nodes',
      'list',
      '--root-certificates',
      server.tokenPath,
      '--token-file',
      server.tokenPath,
    ]);
    t.match(notCertificates, { code: 2, stderr: /a certificate is wanted/ });
    t.notMatch(notCertificates.stderr, server.token);
  },
);

void t.test('nodes watch reports the loss of the link and exits with 3', async t => {
  const gone: ControlServer = await startControlServer();
  t.teardown(() => gone.close());
  const said = run(['nodes', 'watch', ...gone.flags]);
  await until(() => gone.watching.size > 0);
  for (const call of gone.watching) call.write({ node: online() });
  await until(() => gone.watching.size > 0);
  gone.kill();
  t.match(await said, {
    code: 3,
    stderr: /^error: the link at 127\.0\.0\.1:\d+ went away\nhint: watch again when it is back\n$/,
  });
  const refused = await run(['nodes', 'watch', ...gone.flags]);
  t.match(refused, { code: 3, stderr: /nothing listens at/ });
  const wrong = join(server.folder, 'wrong-watch-token');
  await writeFile(wrong, 'rollcall-admin-wrong\n', { mode: 0o600 });
  t.equal((await run(['nodes', 'watch', ...server.flags.slice(0, -1), wrong])).code, 1);
});

void t.test(
  'help shows the flags of a command before those of the connection, which every command has',
  async t => {
    for (const words of [['nodes', 'list'], ['run'], ['runs', 'logs'], ['tokens', 'create']]) {
      const { stdout } = await run([...words, '--help']);
      const [own, connection] = ['Options:', 'Connection to the link:'].map(each => stdout.indexOf(each));
      t.ok(own !== -1 && own !== undefined && own < (connection ?? -1), words.join(' '));
      t.match(stdout.slice(connection), /--control <HOST:PORT>[^]*--profile <NAME>/);
    }
  },
);
