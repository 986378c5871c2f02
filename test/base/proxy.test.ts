// The choice of the proxy, and the tunnel through it: the request to the proxy, and the result of each answer.
import { once } from 'node:events';
import { chmod, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { inspect } from 'node:util';
import t, { type Test } from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { isRollcallError, RollcallError } from '../../src/base/errors.js';
import { isExempt } from '../../src/base/no-proxy.js';
import {
  chooseRoute,
  HttpProxy,
  loadRoute,
  parseProxy,
  parseProxyCredentials,
  proxyFlagNames as names,
  withRouteHint,
  type ProxyAddress,
} from '../../src/base/proxy.js';
import { openTunnel } from '../../src/base/tunnel.js';
import { makeCertificates } from '../node/fixtures/mini-link.js';
import { startConnectProxy } from '../harness/connect-proxy.js';
import { makeFolder } from '../harness/folder.js';
import { createManualClock } from '../harness/manual-clock.js';

const link = { host: 'link.example.org', port: 9092 };
const secret = 'open sesame';

void t.test('a proxy is a URL or host:port, with default port 80 or 443', t => {
  const cases: [string, string, number, boolean][] = [
    ['http://proxy.example.org:3128', 'proxy.example.org', 3128, false],
    ['http://proxy.example.org/', 'proxy.example.org', 80, false],
    ['https://proxy.example.org', 'proxy.example.org', 443, true],
    ['HTTPS://Proxy.example.org:8443', 'proxy.example.org', 8443, true],
    ['proxy.example.org:3128', 'proxy.example.org', 3128, false],
    ['http://[::1]:3128', '::1', 3128, false],
  ];
  for (const [text, host, port, isSecure] of cases)
    t.same(parseProxy(text), { address: { host, port }, isSecure }, text);
  t.equal(parseProxy('none'), 'none');
  t.equal(parseProxy('environment'), 'environment');
  for (const text of ['', 'socks5://p:1', 'http://p/path', 'http://p:1?q', 'http://p:0', 'http://p:x', 7])
    t.throws(() => parseProxy(text), { message: /^expected http:.*, environment or none$/ });
  t.end();
});

void t.test('a proxy URL with a password is refused without quoting it, naming the option for it', t => {
  for (const url of [`http://bob:${secret}@p:1`, 'bob@p:1', `http://bob:p#${secret}@p`]) {
    t.throws(() => parseProxy(url), { message: /without user and password; .* --proxy-credentials-file$/ });
    const environment = { HTTPS_PROXY: url };
    try {
      chooseRoute({ setting: 'environment', environment, link, names });
      t.fail('taken');
    } catch (error) {
      t.match(error, { code: 'CONFIG_INVALID', message: /^HTTPS_PROXY: expected a URL without user/ });
      t.notMatch(inspect(error), 'sesame');
    }
  }
  t.end();
});

void t.test('proxy credentials come from a secret file of one line, and are never printed', async t => {
  t.equal(parseProxyCredentials('bob:a:b\r\n', 'x'), 'bob:a:b');
  t.equal(parseProxyCredentials('bob:', 'x'), 'bob:');
  for (const text of ['', 'bob', ':x', 'bob:x\ny', 'bob:\u0000'])
    t.throws(() => parseProxyCredentials(text, 'x'), { message: 'x: expected user:password on one line' });
  const folder = await makeFolder(t);
  const credentialsFile = join(folder, 'proxy-password');
  await writeFile(credentialsFile, `bob:${secret} ü\n`, { mode: 0o600 });
  const setting = parseProxy('http://p:3128');
  const load = (rootsFile?: string) =>
    loadRoute({ credentialsFile, rootsFile }, { setting, environment: {}, link });
  const { proxy } = await load();
  t.equal(proxy?.authorization, `Basic ${Buffer.from(`bob:${secret} ü`).toString('base64')}`, 'UTF-8');
  t.notMatch(inspect(proxy, { depth: 9 }) + JSON.stringify(proxy), /sesame|authorization|Basic/);
  t.equal(proxy?.url, 'http://p:3128');
  await t.rejects(load(credentialsFile), {
    code: 'CONFIG_INVALID',
    message: /root certificates of the proxy/,
  });
  await chmod(credentialsFile, 0o666);
  await t.rejects(load(), { code: 'FILE_PERMISSIONS', message: /file of proxy credentials/ });
});

void t.test('HTTPS_PROXY is used only when the setting is "environment", as curl reads it', t => {
  const choose = (environment: Record<string, string>, setting?: Parameters<typeof parseProxy>[0]) =>
    chooseRoute({
      setting: setting === undefined ? undefined : parseProxy(setting),
      environment,
      link,
      names,
    });
  const variables = { HTTPS_PROXY: 'http://upper:1', https_proxy: 'lower:2' };
  t.equal(choose(variables, 'environment').proxy?.url, 'http://lower:2', 'lower case first');
  t.equal(choose({ ...variables, https_proxy: '' }, 'environment').proxy?.url, 'http://upper:1');
  t.same(choose({ NO_PROXY: 'example.org', ...variables }, 'environment'), {});
  t.equal(
    choose({ NO_PROXY: '*', no_proxy: 'else', ...variables }, 'environment').proxy?.url,
    'http://lower:2',
  );
  t.same(choose({ http_proxy: 'p:1', ALL_PROXY: 'p:1', grpc_proxy: 'p:1' }, 'environment'), {});
  t.throws(() => choose({ HTTPS_PROXY: 'none' }, 'environment'), { code: 'CONFIG_INVALID' });
  t.equal(choose({ ...variables, NO_PROXY: '*' }, 'http://own:3').proxy?.url, 'http://own:3');
  t.same(choose(variables, 'none'), {});
  t.same(choose({}), {});
  t.same(choose({ ...variables, NO_PROXY: '*' }), {});
  t.same(choose({ HTTPS_PROXY: `http://bob:${secret}@p` }), {
    hint: 'HTTPS_PROXY is set but not used; to go through that proxy: --proxy environment',
  });
  t.end();
});

void t.test('NO_PROXY takes hosts, names below them, addresses, networks, ports and *', t => {
  const cases: [string, string, boolean][] = [
    ['*', 'any.example', true],
    ['', 'any.example', false],
    ['a.example, b.example', 'b.example', true],
    ['a.example b.example', 'b.example', true],
    ['example.org', 'LINK.Example.org.', true],
    ['.example.org', 'link.example.org', true],
    ['.example.org', 'example.org', true],
    ['*.example.org', 'link.example.org', true],
    ['example.org', 'notexample.org', false],
    ['link.example.org', 'example.org', false],
    ['example.org:9092', 'link.example.org', true],
    ['example.org:443', 'link.example.org', false],
    ['.', 'link.example.org', false],
    ['10.1.2.3', '10.1.2.3', true],
    ['10.1.2.3:443', '10.1.2.3', false],
    ['10.0.0.0/8', '10.1.2.3', true],
    ['10.0.0.0/33', '10.1.2.3', false],
    ['10.0.0.0/8', '11.1.2.3', false],
    ['0.0.1', '10.0.0.1', false],
    ['::1', '0:0::1', true],
    ['[::1]', '::1', true],
    ['[::1]:9092', '::1', true],
    ['[::1]:9093', '::1', false],
    ['fd00::/8', 'fd12::1', true],
    ['10.0.0.0/8', 'fd12::1', false],
  ];
  for (const [list, host, expected] of cases)
    t.equal(isExempt(list, { host, port: 9092 }), expected, `${host} by "${list}"`);
  t.end();
});

void t.test('an error of an unreachable or unverified link gets a hint about the proxy', t => {
  const error = new RollcallError('LINK_UNREACHABLE', 'gone', { hint: 'look' });
  t.equal(withRouteHint(error, { hint: 'variable' }).hint, 'look; variable');
  t.equal(withRouteHint(error, {}), error);
  const refused = new RollcallError('NODE_REVOKED', 'out');
  t.equal(withRouteHint(refused, { hint: 'variable' }), refused);
  t.match(withRouteHint(new RollcallError('LINK_UNVERIFIED', 'who'), { proxy: proxyTo(1) }), {
    hint: /^a proxy that inspects TLS must let/,
  });
  t.end();
});

function proxyTo(port: number, more: Partial<ProxyAddress> & { credentials?: string; roots?: string } = {}) {
  const { isSecure = false, address = { host: '127.0.0.1', port }, ...options } = more;
  return new HttpProxy({ address, isSecure }, { ...options, environment: {}, link, names });
}

interface Wire {
  readonly port: number;
  /** Bytes that the client has written so far. */
  readonly heard: () => string;
  readonly accepted: () => number;
}

/** Listens in the place of a proxy, and sends the given answer to a request. */
async function startWire(t: Test, act: (socket: Socket) => void): Promise<Wire> {
  let heard = '';
  const sockets: Socket[] = [];
  const server = createServer(socket => {
    sockets.push(socket.on('error', () => undefined));
    socket.on('data', chunk => {
      heard += chunk.toString('latin1');
      if (heard.endsWith('\r\n\r\n')) act(socket);
    });
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    sockets.forEach(socket => socket.destroy());
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { port, heard: () => heard, accepted: () => sockets.length };
}

const tunnel = (proxy: HttpProxy, target = link, clock = systemClock) =>
  openTunnel({ proxy, link: target, timeoutMs: 5_000, clock });

async function refusal(opening: Promise<Socket>): Promise<RollcallError> {
  try {
    (await opening).destroy();
  } catch (error) {
    if (isRollcallError(error)) return error;
    throw error;
  }
  throw new Error('there is a tunnel');
}

void t.test('CONNECT names the link as configured, and sends credentials in one header only', async t => {
  const cases: [typeof link, string | undefined, string][] = [
    [link, undefined, 'CONNECT link.example.org:9092 HTTP/1.1\r\nHost: link.example.org:9092\r\n\r\n'],
    [{ host: '::1', port: 9092 }, undefined, 'CONNECT [::1]:9092 HTTP/1.1\r\nHost: [::1]:9092\r\n\r\n'],
    [
      link,
      'bob:x',
      'CONNECT link.example.org:9092 HTTP/1.1\r\nHost: link.example.org:9092\r\nProxy-Authorization: Basic Ym9iOng=\r\n\r\n',
    ],
  ];
  for (const [target, credentials, expected] of cases) {
    const wire = await startWire(t, socket => socket.write('HTTP/1.1 200 OK\r\n\r\n'));
    const socket = await tunnel(proxyTo(wire.port, credentials === undefined ? {} : { credentials }), target);
    t.equal(wire.heard(), expected);
    socket.destroy();
  }
});

void t.test('any 2xx opens the tunnel, and the bytes after its header are kept', async t => {
  const answers = [
    'HTTP/1.0 200 Connection established\r\nProxy-agent: x\r\n\r\n',
    'HTTP/1.1 200\r\n\r\n',
    'HTTP/1.1 204 Fine\nVia: x\n\n',
    'HTTP/1.1 200 OK\r\nContent-Length: 4096\r\nTransfer-Encoding: chunked\r\n\r\n',
    'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n',
    `HTTP/1.1 200 OK\r\nX-Long: ${'x'.repeat(16_000)}\r\n\r\n`,
  ];
  for (const answer of answers) {
    const whole = await startWire(t, socket => socket.end(`${answer}first bytes`));
    const socket = await tunnel(proxyTo(whole.port));
    t.equal(await text(socket), 'first bytes', JSON.stringify(answer.slice(0, 60)));
  }
  const slow = await startWire(t, socket => {
    const bytes = Array.from('HTTP/1.1 200 OK\r\nVia: x\r\n\r\nrest');
    const next = () => {
      const byte = bytes.shift();
      if (byte === undefined) socket.end();
      else socket.write(byte, () => setImmediate(next));
    };
    next();
  });
  const socket = await tunnel(proxyTo(slow.port));
  t.equal(await text(socket), 'rest');
});

void t.test('a refusal by the proxy is reported with its status, its text and a hint', async t => {
  const cases: [string, RegExp, RegExp][] = [
    [
      '407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="x"',
      /^the proxy http:\/\/127\.0\.0\.1:\d+ refuses link\.example\.org:9092: 407 Proxy Authentication Required$/,
      /^it asks for a user and a password: give user:password by --proxy-credentials-file$/,
    ],
    [
      '407 No\r\nProxy-Authenticate: Negotiate\r\nproxy-authenticate: NTLM',
      /407 No$/,
      /^it asks for Negotiate, NTLM, and only Basic is supported$/,
    ],
    [
      '403 Filtered',
      /refuses link\.example\.org:9092: 403 Filtered$/,
      /^ask for CONNECT to link.*443 alone$/,
    ],
    ['405', /: 405$/, /^ask for CONNECT/],
    ['501 Not Implemented', /refuses .*: 501 Not Implemented$/, /^ask for CONNECT/],
    ['302 Found', /: 302 Found$/, /^ask for CONNECT/],
    [
      '502 Bad Gateway',
      /^the proxy .* cannot reach link\.example\.org:9092: 502 Bad Gateway$/,
      /can the proxy reach it/,
    ],
    ['503 Service Unavailable', /cannot reach link\.example\.org:9092: 503 /, /is the link running/],
    ['500 Unable to connect', /cannot reach .*: 500 Unable to connect$/, /is the link running/],
    [`403 \u001b[31m${'y'.repeat(300)}`, /: 403 \?\[31my{91}$/, /^ask/],
  ];
  for (const [answer, message, hint] of cases) {
    const wire = await startWire(t, socket => socket.end(`HTTP/1.1 ${answer}\r\n\r\n<html>`));
    t.match(await refusal(tunnel(proxyTo(wire.port))), { code: 'LINK_UNREACHABLE', message, hint });
  }
  const asking = await startWire(t, socket => socket.end('HTTP/1.1 407 No\r\n\r\n'));
  const error = await refusal(tunnel(proxyTo(asking.port, { credentials: `bob:${secret}` })));
  t.equal(error.hint, 'it does not take the user and the password of --proxy-credentials-file');
  // As tinyproxy 1.11.1 answers a wrong password.
  const unauthorized = '401 Unauthorized\r\nWWW-Authenticate: Basic realm="x"';
  const wrong = await startWire(t, socket => socket.end(`HTTP/1.0 ${unauthorized}\r\n\r\n`));
  t.match(await refusal(tunnel(proxyTo(wrong.port, { credentials: `bob:${secret}` }))), {
    message: / refuses link\.example\.org:9092: 401 Unauthorized$/,
    hint: 'it does not take the user and the password of --proxy-credentials-file',
  });
  t.match(await refusal(tunnel(proxyTo(wrong.port))), {
    hint: 'it asks for a user and a password: give user:password by --proxy-credentials-file',
  });
  const digest = await startWire(t, socket =>
    socket.end('HTTP/1.1 401 No\r\nWWW-Authenticate: Digest realm="x"\r\n\r\n'),
  );
  t.match(await refusal(tunnel(proxyTo(digest.port))), {
    hint: 'it asks for Digest, and only Basic is supported',
  });
  t.notMatch(inspect(error, { depth: 9 }), /sesame|Basic/);
});

void t.test('a peer that is not an HTTP proxy is reported after at most 16 KiB', async t => {
  const cases = [
    'SSH-2.0-OpenSSH_9.2\r\n\r\n',
    `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(17_000)}`,
    'HTTP/2 200\r\n\r\n',
  ];
  for (const answer of cases) {
    const wire = await startWire(t, socket => socket.write(answer));
    t.match(await refusal(tunnel(proxyTo(wire.port))), {
      code: 'LINK_UNREACHABLE',
      message: /^what answers at http:\/\/127\.0\.0\.1:\d+ is not an HTTP proxy$/,
    });
  }
});

void t.test('errors of an unreachable, closing or silent proxy name the proxy, not the link', async t => {
  const wire = await startWire(t, socket => socket.destroy());
  t.match(
    (await refusal(tunnel(proxyTo(wire.port)))).message,
    /^cannot reach the proxy .*: it closed the conn/,
  );
  const cut = await startWire(t, socket => socket.end('HTTP/1.1 200'));
  t.match((await refusal(tunnel(proxyTo(cut.port)))).message, /is not an HTTP proxy$/);
  t.match(await refusal(tunnel(proxyTo(1))), {
    code: 'LINK_UNREACHABLE',
    message: 'cannot reach the proxy http://127.0.0.1:1: nothing listens there',
  });

  const clock = createManualClock();
  let asked: () => void = () => undefined;
  const isAsked = new Promise<void>(resolve => (asked = resolve));
  const silent = await startWire(t, () => asked());
  const waiting = refusal(tunnel(proxyTo(silent.port), link, clock));
  await isAsked;
  clock.advance(5_000);
  t.match(await waiting, { code: 'LINK_UNREACHABLE', message: /^the proxy .* has not answered in time$/ });
});

void t.test('an https:// proxy receives nothing before its certificate is verified', async t => {
  const { ca, server } = makeCertificates();
  const tls = { cert: server.certificate, key: server.key };
  const far = await startWire(t, socket => socket.write('from the far end'));
  const proxy = await startConnectProxy(t, { tls, credentials: `bob:${secret}` });
  const target = { host: '127.0.0.1', port: far.port };
  const secure = { isSecure: true, credentials: `bob:${secret}` };

  const socket = await tunnel(proxyTo(proxy.port, { ...secure, roots: ca.certificate }), target);
  socket.write('hello\r\n\r\n');
  t.equal(String(await once(socket, 'data')), 'from the far end');
  t.equal(far.heard(), 'hello\r\n\r\n');
  socket.destroy();

  const unknown = await refusal(tunnel(proxyTo(proxy.port, secure), target));
  t.match(unknown, {
    code: 'LINK_UNREACHABLE',
    message: /^cannot verify the proxy https:\/\/127.*its certificate is refused \((SELF_SIGNED|UNABLE)/,
    hint: 'give its roots by --proxy-root-certificates',
  });
  t.same(proxy.asked, [`127.0.0.1:${far.port}`], 'nothing was asked of a proxy that is not verified');
  t.match(await refusal(tunnel(proxyTo(1, secure), target)), {
    message: 'cannot reach the proxy https://127.0.0.1:1: nothing listens there',
  });
  const http = await startConnectProxy(t);
  t.match((await refusal(tunnel(proxyTo(http.port, secure), target))).message, /does not speak TLS$/);
});
