/**
 * The agent and the command through the proxies that sites run, with and without a password: tinyproxy and squid, where
 * they are installed (`apt-get install tinyproxy squid`).
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { connect, createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { startRollcall, type Running } from '../../scripts/running.js';
import { openSite, type Site } from '../harness/site.js';
import { newKey } from '../harness/test-link.js';

interface ProxyProgram {
  readonly name: string;
  /** Arguments that start it in the foreground. */
  readonly command: (configuration: string) => readonly [string, ...string[]];
  /** Lets bob in by his password where `helper` is given, and everybody otherwise; CONNECT to these ports alone. */
  readonly configure: (port: number, ports: readonly string[], helper: string | undefined) => string;
  /** Its answer for a port that it does not allow, and for one without a listener. */
  readonly forbids: RegExp;
  readonly cannotReach: RegExp;
}

const password = 'open-sesame';

const programs: readonly ProxyProgram[] = [
  {
    name: 'tinyproxy',
    command: configuration => ['tinyproxy', '-d', '-c', configuration],
    configure: (port, ports, helper) =>
      [
        `Port ${port}`,
        'Listen 127.0.0.1',
        ...ports.map(each => `ConnectPort ${each}`),
        ...(helper === undefined ? [] : [`BasicAuth bob ${password}`]),
      ].join('\n'),
    forbids: / refuses \S+: 403 Access violation$/,
    cannotReach: / cannot reach \S+: 500 Unable to connect$/,
  },
  {
    name: 'squid',
    command: configuration => ['squid', '-N', '-f', configuration],
    configure: (port, ports, helper) =>
      [
        `http_port 127.0.0.1:${port}`,
        ...['pid_filename none', 'access_log none', 'cache_log /dev/null', 'shutdown_lifetime 0 seconds'],
        ...(helper === undefined ? [] : [`auth_param basic program /bin/sh ${helper}`]),
        ...(helper === undefined ? [] : ['acl known proxy_auth REQUIRED', 'http_access deny !known']),
        `acl link port ${ports.join(' ')}`,
        'http_access allow CONNECT link',
        'http_access deny all',
      ].join('\n'),
    forbids: / refuses \S+: 403 Forbidden$/,
    cannotReach: / cannot reach \S+: 503 Service Unavailable$/,
  },
];

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise(resolve => server.close(resolve));
  return port;
}

async function accepts(port: number): Promise<boolean> {
  const socket = connect({ host: '127.0.0.1', port });
  const isOpen = await new Promise<boolean>(resolve => {
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
  });
  socket.destroy();
  return isOpen;
}

/** Starts it on a free port; gives its URL. */
async function startProgram(t: Test, program: ProxyProgram, folder: string, lines: (port: number) => string) {
  const port = await freePort();
  const configuration = join(folder, `${program.name}.conf`);
  await writeFile(configuration, `${lines(port)}\n`);
  const [file, ...words] = program.command(configuration);
  const child = spawn(file, words, { stdio: 'ignore' });
  const ended = once(child, 'close');
  t.teardown(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  while (!(await accepts(port))) {
    if (child.exitCode !== null) throw new Error(`${program.name} ended with ${child.exitCode}`);
    await new Promise(resolve => setTimeout(resolve, 50));
  }
  return `http://127.0.0.1:${port}`;
}

/** Squid asks this program, which runs as squid's own user. */
async function writeHelper(folder: string): Promise<string> {
  const helper = join(folder, 'helper');
  await writeFile(
    helper,
    `while read -r who; do [ "$who" = "bob ${password}" ] && echo OK || echo ERR; done\n`,
  );
  return helper;
}

const portOf = (address: string) => address.slice(address.lastIndexOf(':') + 1);

async function listNodes(site: Site, flags: readonly string[]): Promise<Running> {
  const command = startRollcall(
    [
      ...[
        'nodes',
        'list',
        '--control',
        site.link.control,
        '--root-certificates',
        join(site.folder, 'ca.crt'),
      ],
      ...['--token-file', join(site.folder, 'data.operator-token'), ...flags],
    ],
    { environment: { ROLLCALL_CONFIG_HOME: join(site.folder, 'no-config') } },
  );
  await command.exited;
  return command;
}

for (const program of programs) {
  const isThere = spawnSync(program.name, ['-v']).status === 0;
  const skip = !isThere && `${program.name} is not installed`;
  for (const withPassword of [false, true]) {
    const title = `an agent through ${program.name} ${withPassword ? 'with a password' : 'without a password'} is online, and a revocation ends it`;
    void t.test(title, { skip, timeout: 120_000 }, async t => {
      const site = await openSite(t);
      const folder = join(site.folder, 'proxy');
      await mkdir(folder);
      await chmod(site.folder, 0o755);
      const credentials = join(folder, 'credentials');
      await writeFile(credentials, `bob:${password}\n`, { mode: 0o600 });
      const closed = String(await freePort());
      const { node, control } = site.link;
      const helper = withPassword ? await writeHelper(folder) : undefined;
      const url = await startProgram(t, program, folder, port =>
        program.configure(port, [portOf(node), portOf(control), closed], helper),
      );
      const proxy = ['--proxy', url];
      const flags = withPassword ? [...proxy, '--proxy-credentials-file', credentials] : proxy;

      const key = newKey();
      const id = await site.register(key);
      const agent = await site.startNode('behind', key, flags);
      await agent.says('enrolled');
      await agent.says('online');
      const listed = await listNodes(site, flags);
      t.equal(await listed.exited, 0);

      const lost = await site.startNode('lost', newKey(), [...flags, '--link', `127.0.0.1:${closed}`]);
      const forbidden = await site.startNode('forbidden', newKey(), [...flags, '--link', '127.0.0.1:1']);
      const refusal = async (from: Running) =>
        (await from.line(each => each['code'] === 'LINK_UNREACHABLE'))['msg'] as string;
      t.match(await refusal(lost), program.cannotReach);
      t.match(await refusal(forbidden), program.forbids);
      if (withPassword) {
        const stranger = await site.startNode('stranger', newKey(), proxy);
        t.match(await refusal(stranger), / refuses \S+: 407 Proxy Authentication Required$/);
        t.match(await stranger.line(each => each['hint'] !== undefined), { hint: /give user:password by/ });
      }

      await site.control.revokeNode({ node: id, comment: '' });
      t.equal(await agent.exited, 4);
      const said = [agent, lost, forbidden, listed].map(({ lines }) => JSON.stringify(lines)).join('');
      t.notMatch(said, new RegExp(`${password}|${Buffer.from(`bob:${password}`).toString('base64')}`));
    });
  }
}
