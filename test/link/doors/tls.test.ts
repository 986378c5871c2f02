import t from 'tap';
import { createHook } from 'node:async_hooks';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { connect as connectHttp2 } from 'node:http2';
import {
  connect as connectTcp,
  createServer as createTcpServer,
  type AddressInfo,
  type Socket,
} from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { request } from 'node:https';
import { Server as GrpcServer, ServerCredentials } from '@grpc/grpc-js';
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { systemClock } from '../../../src/base/clock.js';
import { systemRandom } from '../../../src/base/random.js';
import { wireProtocol } from '../../../src/protocol/limits.js';
import { makeDevelopmentCertificates } from '../../../src/link/authority/development.js';
import { readFile } from 'node:fs/promises';
import { watchSessions, gateStreams } from '../../../src/link/doors/grpc/stream-gate.js';
import { openSession, type Session } from '../../../src/node/session.js';
import { RawFrames, readyBytes } from '../../harness/raw-frames.js';
import { createManualClock } from '../../harness/manual-clock.js';
import {
  newKey,
  sessionOn,
  startTestLink,
  statusName,
  type TestLink,
  noObjects,
} from '../../harness/test-link.js';

type Enrollment = Awaited<ReturnType<TestLink['enroll']>>;

function tlsTo(
  test: TestLink,
  options: ConnectionOptions = {},
  port = test.link.addresses.node.port,
): TLSSocket {
  const socket = connectTls({
    host: '127.0.0.1',
    port,
    ca: test.ca,
    ALPNProtocols: [wireProtocol],
    ...options,
  });
  socket.on('error', () => undefined);
  return socket;
}

/** Resolves with 'connected' or with the code of what went wrong. */
async function outcome(socket: TLSSocket): Promise<string> {
  const failed = once(socket, 'close').then(() => 'closed');
  const error = new Promise<string>(resolve =>
    socket.once('error', (e: NodeJS.ErrnoException) => resolve(e.code ?? '')),
  );
  const result = await Promise.race([once(socket, 'secureConnect').then(() => 'connected'), error, failed]);
  return result;
}

function closed(socket: Socket): Promise<unknown> {
  // A socket that is not read from never notices its end.
  socket.resume();
  return socket.closed ? Promise.resolve() : once(socket, 'close');
}

/** The answer to a peer with this certificate when it opens a session. */
function withCertificate({ certificateChain, sessionKey }: Enrollment): ConnectionOptions {
  return { cert: certificateChain[0], key: sessionKey };
}

void t.test(
  'the node port without a host listens on every address, also of IPv6 where it is available',
  async t => {
    const test = await startTestLink(t, { settings: { 'node-address': ':0' } });
    const hasSix = Object.values(networkInterfaces()).some(each =>
      each?.some(({ address }) => address === '::1'),
    );
    for (const host of hasSix ? ['127.0.0.1', '::1'] : ['127.0.0.1']) {
      const socket = tlsTo(test, { host });
      t.equal(await outcome(socket), 'connected', host);
      socket.destroy();
    }
  },
);

void t.test('TLS handshakes of both ports', async t => {
  const test = await startTestLink(t);

  await t.test('both ports accept TLS 1.3 only', async t => {
    const old = tlsTo(test, { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' });
    t.equal(await outcome(old), 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION');
    const now = tlsTo(test);
    t.equal(await outcome(now), 'connected');
    t.equal(now.getProtocol(), 'TLSv1.3');
    now.destroy();
  });

  await t.test('the node port serves frames only, and no port serves without ALPN', async t => {
    for (const other of ['http/1.1', 'h2', 'rollcall/2'])
      t.match(
        await outcome(tlsTo(test, { ALPNProtocols: [other] })),
        /NO_APPLICATION_PROTOCOL|closed/,
        other,
      );
    const none = connectTls({ host: '127.0.0.1', port: test.link.addresses.node.port, ca: test.ca });
    none.on('error', () => undefined);
    await closed(none);
    t.pass('closed');
    const warned = () => test.logged.filter(line => line.includes('does not speak rollcall/1'));
    t.match(
      warned()[0],
      /"level":"warn".*"remoteAddress":"127.0.0.1".*an agent of an older release, update it/,
    );
    for (let count = 0; count < 10; count += 1) await outcome(tlsTo(test, { ALPNProtocols: ['h2'] }));
    t.equal(warned().length, 8, 'strangers have a bounded share of the log');
  });

  await t.test('no TLS session can be resumed, with or without a certificate', async t => {
    const key = newKey();
    await test.register(key);
    const enrollment = await test.enroll(key);
    const first = tlsTo(test, withCertificate(enrollment));
    const tickets: Buffer[] = [];
    first.on('session', (ticket: Buffer) => tickets.push(ticket));
    await once(first, 'secureConnect');
    // Tickets, if any, come before the first frame of the link.
    const peer = new RawFrames(first);
    peer.send(readyBytes());
    await peer.next();
    peer.destroy();
    for (const session of tickets) {
      const second = tlsTo(test, { session });
      await once(second, 'secureConnect');
      t.equal(second.isSessionReused(), false);
      second.destroy();
    }
    t.pass(`${tickets.length} tickets tried`);
  });

  await t.test(
    'a client certificate with the name of the authority and another signer is refused',
    async t => {
      const other = await startTestLink(t);
      const key = newKey();
      await other.register(key);
      const enrollment = await other.enroll(key);
      for (let i = 0; i < 5; i += 1) {
        const socket = tlsTo(test, withCertificate(enrollment));
        await once(socket, 'secureConnect').catch(() => undefined);
        socket.destroy();
      }
      await test.register(key);
      t.equal((await test.enroll(key)).generation, 1n, 'the link is alive');
    },
  );
});

void t.test('TLS starts with the first byte, and a silent socket allocates no TLS state', async t => {
  const test = await startTestLink(t);
  let begun = 0;
  const hook = createHook({ init: (_, type) => void (begun += type === 'TLSWRAP' ? 1 : 0) }).enable();
  const { port } = test.link.addresses.node;
  const silent = Array.from({ length: 10 }, () => connectTcp({ host: '127.0.0.1', port }));
  await Promise.all(silent.map(socket => once(socket, 'connect')));
  // The link has accepted them when it serves one that came later.
  await (await test.connect()).close();
  hook.disable();
  t.equal(begun, 2, 'one on either side of the one that spoke');
  for (const socket of silent) socket.destroy();
});

void t.test('one remote address and port on two local addresses are two peers', async t => {
  // Both go to the same port of the link, from the same source address and port, to 127.0.0.1 and to 127.0.0.2.
  const test = await startTestLink(t, { settings: { 'node-address': '0.0.0.0:0' } });
  const key = newKey();
  const { id } = await test.register(key);
  const enrollment = await test.enroll(key);
  const { port } = test.link.addresses.node;
  const live = connectTcp({ host: '127.0.0.1', port, localAddress: '127.0.0.1' });
  await once(live, 'connect');
  const { localPort } = live;
  const twin = connectTcp({ host: '127.0.0.2', port, localAddress: '127.0.0.1', localPort });
  await once(twin, 'connect');
  t.equal(twin.localPort, localPort);

  const overTls = (socket: Socket, host: string, more: ConnectionOptions): RawFrames =>
    new RawFrames(connectTls({ socket, ca: test.ca, ALPNProtocols: [wireProtocol], host, ...more }));
  const withIt = overTls(live, '127.0.0.1', withCertificate(enrollment));
  const without = overTls(twin, '127.0.0.2', { checkServerIdentity: () => undefined });
  withIt.send(readyBytes());
  t.equal((await withIt.next()).$case, 'welcome');
  t.equal(statusName(await test.control.getNode({ node: `${id}` })), 'online');
  without.send(readyBytes());
  t.equal((await without.ended).code, 'CERTIFICATE_REFUSED', 'the twin without a certificate is nobody');
  t.equal(statusName(await test.control.getNode({ node: `${id}` })), 'online');
  withIt.destroy();
  without.destroy();
});

void t.test('an HTTP/2 session is never ended within a read', async t => {
  const server = new GrpcServer();
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  watchSessions(server);
  const states: (boolean | undefined)[] = [];
  gateStreams(server, {
    isMethod: () => false,
    onRefused({ session }) {
      session?.destroy();
      states.push(session?.destroyed);
    },
  });
  const tcp = createTcpServer(socket => injector.injectConnection(socket));
  await once(tcp.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => {
    server.forceShutdown();
    tcp.close();
  });
  const { port } = tcp.address() as AddressInfo;
  const peer = connectHttp2(`http://127.0.0.1:${port}`).on('error', () => undefined);
  peer.request({ ':method': 'POST', ':path': '/a/B' }).on('error', () => undefined);
  await once(peer, 'close');
  t.same(states, [false], 'it is still there when the handler has asked for its end, and gone later');
});

void t.test('a port in use is reported in one sentence', async t => {
  const test = await startTestLink(t);
  const { port } = test.link.addresses.node;
  await t.rejects(startTestLink(t, { settings: { 'node-address': `127.0.0.1:${port}` } }), {
    code: 'CONFIG_INVALID',
    message: /cannot listen at 127.0.0.1:\d+: another process listens there/,
  });
});

void t.test('deadlines of connections without a session', async t => {
  const clock = createManualClock();
  const test = await startTestLink(t, { clock });
  /** Every connection the link has accepted so far has been seen by it once this has. */
  const settle = async (): Promise<void> => {
    await (await test.connect()).close();
  };

  await t.test('a peer that stops in the handshake is disconnected', async t => {
    const silent = connectTcp({ host: '127.0.0.1', port: test.link.addresses.node.port });
    silent.on('error', () => undefined);
    await once(silent, 'connect');
    silent.write(Buffer.from('1603', 'hex'));
    await settle();
    clock.advance(6_000);
    await closed(silent);
    t.pass('closed');
  });

  await t.test('a peer that sends no HTTP/2 preface is disconnected', async t => {
    const socket = tlsTo(test);
    await once(socket, 'secureConnect');
    await settle();
    clock.advance(6_000);
    await closed(socket);
    t.pass('closed');
  });

  await t.test('an idle peer without a session is disconnected', async t => {
    const connection = await test.connect();
    await settle();
    clock.advance(6_000);
    await connection.closed;
    t.pass('closed');
  });

  await t.test('a peer that continues after a refusal is disconnected', async t => {
    const connection = await test.connect();
    await sessionOn(connection).catch(() => undefined);
    clock.advance(1_600);
    await connection.closed;
    t.pass('closed');
  });

  await t.test('a peer with a session stays connected, however long it is idle', async t => {
    const key = newKey();
    const { id } = await test.register(key);
    const live = await test.online(key);
    clock.advance(8_000);
    t.equal(statusName(await test.control.getNode({ node: `${id}` })), 'online');
    await live.connection.close();
  });
});

void t.test('connection limits count only connections without a session', async t => {
  const clock = createManualClock();
  const test = await startTestLink(t, {
    clock,
    settings: { 'max-connections': '6', 'max-connections-per-address': '3' },
  });
  const keys = Array.from({ length: 5 }, () => newKey());
  for (const key of keys) await test.register(key);
  const live = [];
  for (const key of keys) live.push(await test.online(key));
  t.equal(live.length, 5, 'more sessions from one address than the cap');
  // The connections of the enrollments must be gone before places are counted.
  const hold = async (localAddress: string): Promise<Socket> => {
    const socket = connectTcp({ host: '127.0.0.1', port: test.link.addresses.node.port, localAddress });
    socket.on('error', () => undefined);
    await once(socket, 'connect');
    return socket;
  };
  clock.advance(1);
  const held = [await hold('127.0.0.3'), await hold('127.0.0.3'), await hold('127.0.0.3')];
  const tooMany = await hold('127.0.0.3');
  await closed(tooMany);
  t.notOk(
    held.some(each => each.destroyed),
    'the newcomer is refused, not those who are there',
  );
  const elsewhere = await hold('127.0.0.4');
  const still = await test.connect();
  t.ok(still.exporter, 'another address has room');
  await still.close();
  clock.advance(2_100);
  const late = await hold('127.0.0.3');
  await closed(held[0] as Socket);
  t.notOk(late.destroyed, 'once they are stale the oldest makes room');
  for (const each of [...held, late, elsewhere]) each.destroy();
});

void t.test('reload of the server certificate', async t => {
  const test = await startTestLink(t);
  const key = newKey();
  const { id } = await test.register(key);
  const connection = await test.connect(await test.enroll(key));
  let session: Session | undefined;
  const bundle = new Promise<number>((resolve, reject) => {
    openSession({
      connection,
      objects: noObjects,
      clock: systemClock,
      onServerRoots: roots => resolve(roots.length),
    }).then(opened => (session = opened), reject);
  });
  await test.until(`${id}`, 'online');
  const before = connection.peerCertificate.fingerprint256;

  const fresh = makeDevelopmentCertificates({
    hosts: ['localhost', '127.0.0.1'],
    days: 30,
    now: Date.now(),
    random: systemRandom,
  });
  await t.test('a broken file keeps the old certificate and is logged', async t => {
    const good = await readFile(join(test.folder, 'server.pem'));
    for (const broken of ['', 'not a certificate', fresh.server.certificate]) {
      await writeFile(join(test.folder, 'server.pem'), broken);
      await t.rejects(test.link.reload(), { code: 'CONFIG_INVALID' });
    }
    await writeFile(join(test.folder, 'server.pem'), good);
    const again = await test.connect();
    t.equal(again.peerCertificate.fingerprint256, before);
    await again.close();
  });

  await t.test('new connections get the new certificate, and the live session stays', async t => {
    await writeFile(join(test.folder, 'server.pem'), fresh.server.certificate);
    await writeFile(join(test.folder, 'server.key'), fresh.server.key);
    await writeFile(join(test.folder, 'ca.crt'), `${test.ca}${fresh.ca.certificate}`);
    await test.link.reload();
    const socket = connectTls({
      host: '127.0.0.1',
      port: test.link.addresses.node.port,
      ca: fresh.ca.certificate,
      ALPNProtocols: [wireProtocol],
    });
    await once(socket, 'secureConnect');
    t.not(socket.getPeerX509Certificate()?.fingerprint256, before);
    socket.destroy();
    t.equal(await bundle, 1, 'the live session was sent the root of the new certificate');
    t.equal(statusName(await test.control.getNode({ node: `${id}` })), 'online');
  });
  await session?.close();
});

void t.test('HTTP/1.1 and HTTP/2 work on the control port', async t => {
  const test = await startTestLink(t);
  const { token } = test;
  const get = (path: string, headers: Record<string, string> = {}, method = 'GET') =>
    new Promise<{ status: number; type: string; body: string }>((resolve, reject) => {
      const { port } = test.link.addresses.control;
      request({ host: '127.0.0.1', port, ca: test.ca, path, method, headers, agent: false }, response => {
        let body = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (body += chunk));
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, type: response.headers['content-type'] ?? '', body }),
        );
      })
        .on('error', reject)
        .end();
    });

  t.match(await get('/healthz'), { status: 200, body: 'ok\n' });
  t.match(await get('/readyz'), { status: 200, body: 'ready\n' });
  t.equal((await get('/readyz', {}, 'HEAD')).body, '');
  t.equal((await get('/healthz', {}, 'POST')).status, 405);
  t.equal((await get('/')).status, 404);
  t.equal((await get('/%2e%2e/etc/passwd')).status, 404);
  const refused = await get('/metrics');
  t.match(refused, { status: 401, type: 'application/problem+json' });
  t.match(JSON.parse(refused.body), { status: 401, code: 'TOKEN_REFUSED' });
  t.equal((await get('/metrics', { authorization: 'Bearer nonsense' })).status, 401);
  const key = newKey();
  await test.register(key);
  await (await test.online(key)).connection.close();
  const { status, body } = await get('/metrics', { authorization: `Bearer ${token}` });
  t.equal(status, 200);
  for (const name of [
    /^rollcall_tls_handshakes_total\{door="node",outcome="done"\} [1-9]/m,
    /^rollcall_enrollments_total\{outcome="enrolled"\} 1$/m,
    /^rollcall_sessions [01]$/m,
    /^rollcall_nodes\{status="created"\} 0$/m,
    /^rollcall_presence_changes_total\{status="online",reason="connected"\} 1$/m,
    /^rollcall_store_commit_seconds_count [1-9]/m,
    /^nodejs_eventloop_lag_p99_seconds /m,
    /^rollcall_server_certificate_expiry_timestamp_seconds \d{10}$/m,
  ]) {
    t.match(body, name);
  }
  t.notOk(body.includes(token));
  t.notOk(test.logged.join('').includes(token), 'the token is in no log line');
});
