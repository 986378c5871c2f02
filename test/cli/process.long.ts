/** The command as a process of its own: exit codes, pipes, signals, a real terminal, no warnings, no token anywhere. */
import { spawn, spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t from 'tap';
import { NodeStatus } from '../../src/protocol/generated/rollcall/v1/control.js';
import { operatorFlags, operatorTokenFile, prepareOperator } from '../harness/operator.js';
import { startConnectProxy } from '../harness/connect-proxy.js';
import { makeNode, startControlServer } from './fixtures/control-server.js';
import { command, ended, root, run, start } from './fixtures/shell.js';

const server = await startControlServer();
t.teardown(() => server.close());
server.nodes.push(
  makeNode({ id: 16019329408659850374n, status: NodeStatus.NODE_STATUS_ONLINE, reason: 'connected' }),
);

// Asked first, as the answer takes as long as the command is willing to wait; read last.
const mute = createServer(socket => socket.on('error', () => undefined).resume());
await new Promise<void>(resolve => mute.listen(0, '127.0.0.1', resolve));
t.teardown(() => mute.close());
const { port: mutePort } = mute.address() as AddressInfo;
const unanswered = ended(start(['nodes', 'list', ...server.flags, '--control', `127.0.0.1:${mutePort}`]));

void t.test('exit codes and output of a process; an IP address causes no warning', async t => {
  const environment = { NODE_OPTIONS: '--trace-deprecation' };
  const [listed, usage, unreachable, refused] = await Promise.all([
    ended(start(['nodes', 'list', ...server.flags], environment)),
    ended(start(['nodes', 'lst'])),
    ended(start(['nodes', 'list', ...server.flags, '--control', '127.0.0.1:1'])),
    ended(start(['nodes', 'show', 'nobody', ...server.flags])),
  ]);
  t.match(listed, { code: 0, stdout: /16019329408659850374 {2}- {5}<none> {2}online/, stderr: '' });
  t.notMatch(listed.stdout, '\x1b');
  t.match(usage, { code: 2, stdout: '', stderr: /^error: .*\nhint: .*\n$/ });
  t.match(unreachable, { code: 3, stdout: '', stderr: /^error: .*\nhint: .*\n$/ });
  t.match(refused, { code: 1, stdout: '', stderr: /^error: .*\nhint: .*\n$/ });
  for (const { stdout, stderr } of [listed, usage, unreachable, refused]) {
    t.notMatch(stdout + stderr, server.token);
  }
});

void t.test(
  'a command through an http:// or https:// proxy ends by itself and prints no warning',
  async t => {
    const [cert, key] = await Promise.all([
      readFile(server.certificatePath, 'utf8'),
      readFile(server.keyPath, 'utf8'),
    ]);
    const [plain, secure] = await Promise.all([
      startConnectProxy(t),
      startConnectProxy(t, { tls: { cert, key } }),
    ]);
    const environment = { NODE_OPTIONS: '--trace-deprecation' };
    const list = ['nodes', 'list', ...server.flags, '--control', `localhost:${server.port}`];
    const through = ({ url }: { url: string }, words: readonly string[]) =>
      ended(start([...list, '--proxy', url, ...words], environment));
    const roots = ['--proxy-root-certificates', server.rootsPath];
    const [byHttp, byHttps, gone] = await Promise.all([
      through(plain, []),
      through(secure, roots),
      through(secure, [...roots, '--control', '127.0.0.1:1']),
    ]);
    for (const said of [byHttp, byHttps])
      t.match(said, { code: 0, stdout: /16019329408659850374 {2}- {5}<none> {2}online/, stderr: '' });
    t.match(gone, {
      code: 3,
      stderr: /^error: the proxy https:.* cannot reach 127\.0\.0\.1:1: 503 .*\nhint: /,
    });
    t.same(plain.asked, [`localhost:${server.port}`]);
  },
);

void t.test('a command ends quietly when the reader of its output closes the pipe', async t => {
  for (let id = 1n; id <= 20_000n; id += 1n) server.nodes.push(makeNode({ id }));
  t.teardown(() => server.nodes.splice(1));
  const child = start(['nodes', 'list', '--json', ...server.flags]);
  child.stdout?.once('data', () => child.stdout?.destroy());
  let stderr = '';
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const [code] = (await once(child, 'exit')) as [number | null];
  t.same([code, stderr], [0, '']);
});

void t.test('Ctrl-C ends nodes watch with 0', async t => {
  const child = start(['nodes', 'watch', '--snapshot', '--json', ...server.flags]);
  const said = ended(child);
  child.stdout?.once('data', () => child.kill('SIGINT'));
  const { code, stdout, stderr } = await said;
  t.same([code, stderr], [0, '']);
  t.match(JSON.parse(stdout), { id: '16019329408659850374', status: 'online' });
});

const hasScript = spawnSync('script', ['--version']).status === 0;

void t.test(
  'nodes list on a real terminal has a box and colours',
  { skip: !hasScript && 'no script(1) here' },
  async t => {
    const onTerminal = async (environment: Record<string, string>) => {
      const line = [...command, 'nodes', 'list', ...server.flags].map(word => `'${word}'`).join(' ');
      const child = spawn('script', ['-qec', line, '/dev/null'], {
        cwd: root,
        env: {
          PATH: process.env['PATH'],
          TERM: 'xterm',
          ROLLCALL_CONFIG_HOME: '/nonexistent',
          ...environment,
        },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      return ended(child);
    };
    const [coloured, colourless] = await Promise.all([onTerminal({}), onTerminal({ NO_COLOR: '1' })]);
    t.match(coloured.stdout, '┏━━━━');
    t.match(coloured.stdout, '\x1b[32monline\x1b[0m');
    t.match(colourless.stdout, '┏━━━━');
    t.notMatch(colourless.stdout, '\x1b[');
    t.same([coloured.code, colourless.code], [0, 0]);
  },
);

interface Address {
  readonly host: string;
  readonly port: number;
}

void t.test('a link started by its flags answers the commands', async t => {
  const folder = server.folder;
  const data = join(folder, 'link-data');
  await prepareOperator(data);
  const link = start([
    'link',
    ...['--ssl-ca-certfile', server.rootsPath, '--ssl-certfile', server.certificatePath],
    ...['--ssl-keyfile', server.keyPath, '--data-dir', data, '--enable-supernode-auth'],
    ...['--node-address', '127.0.0.1:0', '--control-address', '127.0.0.1:0', ...operatorFlags],
  ]);
  t.teardown(() => link.kill('SIGKILL'));
  const said = ended(link);
  if (!link.stderr) throw new Error('no standard error');
  const lines = createInterface({ input: link.stderr });
  const line = await new Promise<string>(resolve => {
    lines.on('line', each => each.includes('"link started"') && resolve(each));
  });
  const { controlAddress } = JSON.parse(line) as { controlAddress: Address };
  const flags = ['--root-certificates', server.rootsPath, '--token-file', operatorTokenFile(data)];
  const ask = (...words: string[]) =>
    run([...words.slice(0, 2), '--control', `localhost:${controlAddress.port}`, ...flags, ...words.slice(2)]);

  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' });
  const key = join(folder, 'real.pub');
  await writeFile(key, publicKey.export({ format: 'pem', type: 'spki' }));
  const registered = await ask('nodes', 'register', key, '--name', 'press-3', '--label', 'site=hamburg');
  t.match(registered, { code: 0, stdout: /^✅ Node \d+ registered successfully\.\n {3}SHA256:\S{43}\n$/ });
  t.match(await ask('nodes', 'register', key), { code: 1, stderr: /^error: .*\nhint: / });
  const listed = JSON.parse((await ask('nodes', 'list', '--json', '--status', 'created')).stdout) as {
    id: string;
  }[];
  t.match(listed, [{ name: 'press-3', labels: { site: 'hamburg' }, status: 'created' }]);
  t.match(await ask('nodes', 'show', 'nobody'), { code: 1, stderr: /^error: / });
  t.match(await ask('nodes', 'revoke', 'press-3', '--comment', 'lost'), {
    code: 0,
    stdout: / revoked; no session was open\.\n$/,
  });
  t.match(await ask('nodes', 'history', listed[0]?.id ?? ''), {
    code: 0,
    stdout: /revoked .*lost\n.*created /,
  });
  t.match(await ask('nodes', 'list', '--token-file', server.tokenPath), {
    code: 1,
    stderr: /^error: the token/,
  });
  link.kill('SIGTERM');
  t.equal((await said).code, 0);
});

void t.test('link and node report mistakes in their flags', async t => {
  const [link, insecure, node] = await Promise.all([
    ended(start(['link', '--check-config'])),
    ended(start(['link', '--insecure'])),
    ended(start(['node', '--superlink', 'nowhere', '--insecure'])),
  ]);
  t.match(link, { code: 2, stderr: /--ssl-certfile is needed/ });
  t.match(insecure, { code: 2, stderr: /^error: --insecure: / });
  t.match(node, { code: 2, stderr: /^error: --link: expected HOST:PORT.*\nerror: --insecure: /s });
});

void t.test('a command ends although a peer accepts its connection and stays silent', async t => {
  t.match(await unanswered, { code: 3, stderr: /^error: cannot reach the link at .*: no answer\nhint: / });
});
