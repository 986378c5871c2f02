// The agent through an HTTP proxy: a tunnel by CONNECT, with TLS and its channel binding from end to end.
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { join } from 'node:path';
import { isRollcallError, type RollcallError } from '../../src/base/errors.js';
import t, { type Test } from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { createLog } from '../../src/base/log.js';
import { chooseRoute, parseProxy, proxyFlagNames as names, type Route } from '../../src/base/proxy.js';
import { systemRandom } from '../../src/base/random.js';
import type { Address } from '../../src/base/settings.js';
import { exporterLabel } from '../../src/identity/binding.js';
import { toPkcs8Pem, type PrivateKey } from '../../src/identity/private-key.js';
import { Agent } from '../../src/node/agent.js';
import { openConnection, type ConnectionRequest } from '../../src/node/connection.js';
import { runNode } from '../../src/node/main.js';
import { startConnectProxy } from '../harness/connect-proxy.js';
import { makeFolder } from '../harness/folder.js';
import { createManualClock } from '../harness/manual-clock.js';
import { newKey, startTestLink, type TestLink } from '../harness/test-link.js';
import { makeCertificates, startMiniLink } from './fixtures/mini-link.js';

const secret = 'open sesame';

interface Line {
  readonly msg: string;
  readonly [field: string]: unknown;
}

/** An agent that begins again at once; `logged` resolves with the n-th line that has this message. */
function runAgent(t: Test, { link, ca }: TestLink, privateKey: PrivateKey, route: Route) {
  const lines: Line[] = [];
  let wake: () => void = () => undefined;
  const destination = {
    write(text: string) {
      lines.push(JSON.parse(text) as Line);
      wake();
    },
  };
  const config = { link: link.addresses.node, route, serverRoots: [ca], tenant: 'default' };
  const log = createLog({ level: 'debug', name: 'node', destination });
  const noPause = (size: number) => (size === 4 ? Buffer.alloc(4) : systemRandom(size));
  const agent = new Agent({ config, privateKey, clock: systemClock, random: noPause, log });
  const outcome = agent.start();
  t.teardown(() => agent.close());
  async function logged(message: string, count = 1): Promise<Line> {
    for (;;) {
      const line = lines.filter(({ msg }) => msg.startsWith(message))[count - 1];
      if (line) return line;
      await new Promise<void>(resolve => (wake = resolve));
    }
  }
  return { outcome, lines, logged };
}

function routeTo(url: string, link: Address, more: { credentials?: string; roots?: string } = {}): Route {
  return chooseRoute({ setting: parseProxy(url), environment: {}, link, names, ...more });
}

const testLink = await startTestLink(t);
const { node: address } = testLink.link.addresses;
const target = `127.0.0.1:${address.port}`;

void t.test('an agent enrolls, is online, reconnects and is revoked through a proxy only', async t => {
  const proxy = await startConnectProxy(t);
  const key = newKey();
  const { id } = await testLink.register(key);
  const { outcome, logged } = runAgent(t, testLink, key, routeTo(proxy.url, address));
  await logged('online');
  t.same(proxy.asked, [target, target], 'one tunnel to enroll, one for the session');
  t.equal((await testLink.until(`${id}`, 'online')).reason, 'connected');

  proxy.cut();
  await logged('offline');
  await logged('online', 2);
  t.equal(proxy.asked.length, 3, 'it comes back through the proxy');

  await testLink.control.revokeNode({ node: `${id}`, comment: '' });
  t.match(await outcome, { reason: 'revoked' });
  t.ok(proxy.asked.every(each => each === target));
});

void t.test(
  'an agent is online through an https:// proxy with credentials, and logs no password',
  async t => {
    const { ca, server } = makeCertificates();
    const credentials = `bob:${secret}`;
    const proxy = await startConnectProxy(t, {
      credentials,
      tls: { cert: server.certificate, key: server.key },
    });
    const key = newKey();
    const { id } = await testLink.register(key);
    const route = routeTo(proxy.url, address, { credentials, roots: ca.certificate });
    const { logged, lines } = runAgent(t, testLink, key, route);
    await logged('online');
    t.equal((await testLink.until(`${id}`, 'online')).reason, 'connected');
    const shown = JSON.stringify(lines) + testLink.logged.join('');
    t.notMatch(shown, new RegExp(`sesame|${Buffer.from(credentials).toString('base64')}`));
  },
);

void t.test(
  'a proxy that refuses is logged with a hint on what to do, and the agent tries again',
  async t => {
    const proxy = await startConnectProxy(t, { credentials: `bob:${secret}` });
    const { logged } = runAgent(t, testLink, newKey(), routeTo(proxy.url, address));
    t.match(await logged('the proxy'), {
      level: 'warn',
      code: 'LINK_UNREACHABLE',
      msg: `the proxy ${proxy.url} refuses ${target}: 407 Proxy Authentication Required`,
      hint: /^it asks for a user and a password: give user:password by --proxy-credentials-file$/,
    });
    await logged('the proxy', 2);
  },
);

async function refusal(changes: Partial<ConnectionRequest>): Promise<RollcallError> {
  const request = { address, serverRoots: [testLink.ca], timeoutMs: 5_000, clock: systemClock, ...changes };
  try {
    await (await openConnection(request)).close();
  } catch (error) {
    if (isRollcallError(error)) return error;
    throw error;
  }
  throw new Error('connected');
}

void t.test('the proxy resolves the name of the link, and both ends have the same exporter', async t => {
  const certificates = makeCertificates(['link.invalid']);
  const link = await startMiniLink(t, { certificates });
  const proxy = await startConnectProxy(t, { hosts: { 'link.invalid': '127.0.0.1' } });
  const address = { host: 'link.invalid', port: link.port };
  const connection = await openConnection({
    address,
    route: routeTo(proxy.url, address),
    serverRoots: [link.ca],
    timeoutMs: 5_000,
    clock: systemClock,
  });
  const socket = await link.socket(1);
  t.equal(socket.servername, 'link.invalid');
  t.ok(connection.exporter.equals(socket.exportKeyingMaterial(32, exporterLabel, Buffer.alloc(0))));
  t.same(proxy.asked, [`link.invalid:${link.port}`]);
  await connection.close();

  const impostor = await startMiniLink(t, { certificates: makeCertificates(['link.invalid']) });
  const elsewhere = { host: 'link.invalid', port: impostor.port };
  const error = await refusal({
    address: elsewhere,
    route: routeTo(proxy.url, elsewhere),
    serverRoots: [link.ca],
  });
  t.match(error, {
    code: 'LINK_UNVERIFIED',
    message: `cannot verify the link at link.invalid:${impostor.port} through the proxy ${proxy.url}: its certificate is by an issuer that is not among the root certificates`,
    hint: /; a proxy that inspects TLS must let connections to the link pass as they are$/,
  });
});

void t.test('an unreachable proxy is distinguished from a link that the proxy cannot reach', async t => {
  const proxy = await startConnectProxy(t);
  const gone = { host: '127.0.0.1', port: 1 };
  t.match(await refusal({ address: gone, route: routeTo(proxy.url, gone) }), {
    code: 'LINK_UNREACHABLE',
    message: `the proxy ${proxy.url} cannot reach 127.0.0.1:1: 503 Service Unavailable`,
  });
  t.match(await refusal({ route: routeTo('http://127.0.0.1:1', address) }), {
    message: 'cannot reach the proxy http://127.0.0.1:1: nothing listens there',
  });
  t.match(await refusal({ route: routeTo('http://localhost:1', address) }), {
    message: 'cannot reach the proxy http://localhost:1: nothing listens there',
  });
});

void t.test('a silent proxy is distinguished from a silent link behind a proxy', async t => {
  const sockets: Socket[] = [];
  const silent = createServer(socket => void sockets.push(socket.on('error', () => undefined)));
  await new Promise<void>(resolve => silent.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    sockets.forEach(socket => socket.destroy());
    silent.close();
  });
  const { port } = silent.address() as AddressInfo;
  const nextWord = async () => {
    const [socket] = (await once(silent, 'connection')) as [Socket];
    await once(socket, 'data');
  };
  const clock = createManualClock();
  const asked = nextWord();
  const waiting = refusal({ clock, route: routeTo(`http://127.0.0.1:${port}`, address) });
  await asked;
  clock.advance(5_000);
  t.match(await waiting, { message: `the proxy http://127.0.0.1:${port} has not answered in time` });

  const proxy = await startConnectProxy(t);
  const hello = nextWord();
  const behind = { host: '127.0.0.1', port };
  const shaking = refusal({ clock, address: behind, route: routeTo(proxy.url, behind) });
  await hello;
  clock.advance(5_000);
  t.match(await shaking, {
    message: `cannot reach the link at 127.0.0.1:${port} through the proxy ${proxy.url}: no answer in time`,
  });
});

void t.test('proxy variables of the environment are used only with the setting for it', async t => {
  const before = { ...process.env };
  t.teardown(() => (process.env = before));
  for (const name of ['grpc_proxy', 'https_proxy', 'http_proxy', 'HTTPS_PROXY', 'ALL_PROXY'])
    process.env[name] = 'http://127.0.0.1:1';
  const connection = await testLink.connect();
  t.ok(connection.exporter.length, 'a connection that goes straight');
  await connection.close();
  const gone = { host: '127.0.0.1', port: 1 };
  const route = chooseRoute({ setting: undefined, environment: process.env, link: gone, names });
  t.match(await refusal({ address: gone, route }), {
    message: 'cannot reach the link at 127.0.0.1:1: nothing listens there',
    hint: 'https_proxy is set but not used; to go through that proxy: --proxy environment',
  });
});

void t.test(
  'proxy settings that are invalid end the agent with exit code 2, and never show a password',
  async t => {
    const folder = await makeFolder(t);
    const write = async (name: string, text: string) => {
      await writeFile(join(folder, name), text, { mode: 0o600 });
      return join(folder, name);
    };
    const flags = {
      link: target,
      'root-certificates': await write('ca.crt', testLink.ca),
      'auth-private-key': await write('key', toPkcs8Pem(newKey())),
      'log-level': 'silent',
    };
    const credentials = await write('credentials', 'nobody');
    const cases: [Record<string, string>, Record<string, string>, RegExp][] = [
      [
        { proxy: `http://bob:${secret}@p:1` },
        {},
        /^error: --proxy: expected a URL without user and password/,
      ],
      [{}, { ROLLCALL_NODE_PROXY: `bob:${secret}@p` }, /^error: ROLLCALL_NODE_PROXY: expected a URL without/],
      [
        { proxy: 'environment' },
        { HTTPS_PROXY: `http://bob:${secret}@p` },
        /^error: HTTPS_PROXY: expected a URL/,
      ],
      [{ proxy: 'socks5://p:1' }, {}, /^error: --proxy: expected http:\/\/HOST:PORT, https:/],
      [
        { 'proxy-credentials-file': credentials },
        {},
        /^error: --proxy is needed with --proxy-credentials-file/,
      ],
      [
        { proxy: 'p:1', 'proxy-credentials-file': credentials },
        {},
        /^error: file of proxy credentials .*: expected user:password on one line/,
      ],
      [{ proxy: 'p:1', 'proxy-root-certificates': credentials }, {}, /root certificates of the proxy/],
    ];
    for (const [more, environment, expected] of cases) {
      let printed = '';
      const stderr = { write: (text: string) => (printed += text) };
      t.equal(await runNode({ flags: { ...flags, ...more }, environment, stderr }), 2);
      t.match(printed, expected);
      t.notMatch(printed, 'sesame');
    }
  },
);
