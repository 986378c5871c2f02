/** The command as a process of its own: exit codes, pipes, signals, a real terminal, no warnings, no token anywhere. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import t from 'tap';
import { NodeStatus } from '../../src/protocol/generated/rollcall/v1/control.js';
import { makeNode, startControlServer } from './fixtures/control-server.js';
import { command, ended, root, start } from './fixtures/shell.js';

const server = await startControlServer();
t.teardown(() => server.close());
server.nodes.push(
  makeNode({ id: 16019329408659850374n, status: NodeStatus.NODE_STATUS_ONLINE, reason: 'connected' }),
);

void t.test('exit codes and output of a process; by IP address no warning is printed', async t => {
  const environment = { NODE_OPTIONS: '--trace-deprecation' };
  const [listed, usage, unreachable, refused] = await Promise.all([
    ended(start(['nodes', 'list', ...server.flags], environment)),
    ended(start(['nodes', 'lst'])),
    ended(start(['nodes', 'list', ...server.flags, '--control', '127.0.0.1:1'])),
    ended(start(['nodes', 'show', 'nobody', ...server.flags])),
  ]);
  t.match(listed, { code: 0, stdout: /16019329408659850374 {2}<none> {2}online/, stderr: '' });
  t.notMatch(listed.stdout, '\x1b');
  t.match(usage, { code: 2, stdout: '', stderr: /^error: .*\nhint: .*\n$/ });
  t.match(unreachable, { code: 3, stdout: '', stderr: /^error: .*\nhint: .*\n$/ });
  t.match(refused, { code: 1, stdout: '', stderr: /^error: .*\nhint: .*\n$/ });
  for (const { stdout, stderr } of [listed, usage, unreachable, refused]) {
    t.notMatch(stdout + stderr, server.token);
  }
});

void t.test('a reader that has seen enough ends the command quietly', async t => {
  for (let id = 1n; id <= 20_000n; id += 1n) server.nodes.push(makeNode({ id }));
  t.teardown(() => server.nodes.splice(1));
  const child = start(['nodes', 'list', '--json', ...server.flags]);
  child.stdout?.once('data', () => child.stdout?.destroy());
  let stderr = '';
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const [code] = (await once(child, 'exit')) as [number | null];
  t.same([code, stderr], [0, '']);
});

void t.test('Ctrl-C ends a watch with 0', async t => {
  const child = start(['nodes', 'watch', '--snapshot', '--json', ...server.flags]);
  const said = ended(child);
  child.stdout?.once('data', () => child.kill('SIGINT'));
  const { code, stdout, stderr } = await said;
  t.same([code, stderr], [0, '']);
  t.match(JSON.parse(stdout), { id: '16019329408659850374', status: 'online' });
});

const hasScript = spawnSync('script', ['--version']).status === 0;

void t.test(
  'on a real terminal there are a box and colours',
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
