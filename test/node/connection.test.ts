// One connection to a link over real TLS: verification, refusals and their causes.
import { createPrivateKey, createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { createServer as createTcpServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';
import t from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { isRollcallError, type RollcallError } from '../../src/base/errors.js';
import { systemRandom } from '../../src/base/random.js';
import { exporterLabel } from '../../src/identity/binding.js';
import { createSerial } from '../../src/link/authority/issuer.js';
import { writeCertificate } from '../../src/link/authority/x509.js';
import { describeTlsFailure } from '../../src/node/connection-error.js';
import { openConnection, type ConnectionRequest } from '../../src/node/connection.js';
import { sessionOn } from '../harness/test-link.js';
import { makeCertificates, startMiniLink } from './fixtures/mini-link.js';

type Changes = Partial<ConnectionRequest> & { host?: string; port?: number; ca?: string };

const certificates = makeCertificates();
const { ca, server } = certificates;

function open({ host = '127.0.0.1', port = 1, ca: root = ca.certificate, ...rest }: Changes) {
  return openConnection({
    address: { host, port },
    serverRoots: [root],
    timeoutMs: 5_000,
    clock: systemClock,
    ...rest,
  });
}

async function refusal(changes: Changes): Promise<RollcallError> {
  try {
    const connection = await open(changes);
    await connection.close();
  } catch (error) {
    if (isRollcallError(error)) return error;
    throw error;
  }
  throw new Error('connected');
}

async function listen(t: { teardown(call: () => unknown): void }, server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket.on('error', () => undefined));
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** A TLS server that is no link. */
function listenTls(t: { teardown(call: () => unknown): void }, options: TlsOptions): Promise<number> {
  const server = createTlsServer({
    cert: certificates.server.certificate,
    key: certificates.server.key,
    ALPNProtocols: ['rollcall/1'],
    ...options,
  });
  server.on('tlsClientError', () => undefined);
  server.on('secureConnection', socket => socket.on('error', () => undefined));
  return listen(t, server);
}

void t.test('a verified connection has the exporter of both ends, over TLS 1.3', async t => {
  const link = await startMiniLink(t, { certificates });
  for (const host of ['127.0.0.1', 'localhost']) {
    const connection = await open({ host, port: link.port });
    const socket = await link.socket(host === '127.0.0.1' ? 1 : 2);
    t.equal(socket.getProtocol(), 'TLSv1.3');
    t.equal(socket.alpnProtocol, 'rollcall/1');
    t.equal(socket.servername, host === 'localhost' ? host : false, 'an address is not sent as a name');
    t.ok(connection.exporter.equals(socket.exportKeyingMaterial(32, exporterLabel, Buffer.alloc(0))));
    t.ok(connection.peerCertificate.raw.equals(new X509Certificate(server.certificate).raw));
    await connection.close();
    await connection.closed;
  }
});

void t.test('a connection presents the certificate of the node when it has one', async t => {
  const link = await startMiniLink(t, { certificates });
  const own = makeCertificates();
  const certificate = { leaf: own.server.certificate, key: own.server.key };
  const connection = await open({ port: link.port, certificate });
  t.ok(
    (await link.socket(1))
      .getPeerX509Certificate()
      ?.raw.equals(new X509Certificate(own.server.certificate).raw),
  );
  await connection.close();
  const anonymous = await open({ port: link.port });
  t.equal((await link.socket(2)).getPeerX509Certificate(), undefined);
  await anonymous.close();
});

void t.test('a connection is one TCP connection, and never reconnects', async t => {
  const link = await startMiniLink(t, { certificates });
  const connection = await open({ port: link.port });
  (await link.socket(1)).destroy();
  await connection.closed;
  t.match(await connection.over, { code: 'LINK_UNREACHABLE' });
  t.ok(connection.send({ $case: 'leave', value: {} }), 'what is sent then goes nowhere');
  await t.rejects(sessionOn(connection), { code: 'LINK_UNREACHABLE' });
  t.equal(link.accepted(), 1);
});

void t.test('two connections share nothing', async t => {
  const link = await startMiniLink(t, { certificates });
  const [first, second] = await Promise.all([open({ port: link.port }), open({ port: link.port })]);
  t.equal(link.accepted(), 2);
  t.notOk(first.exporter.equals(second.exporter));
  await first.close();
  t.equal(link.sockets.filter(socket => !socket.destroyed).length, 1);
  await second.close();
});

void t.test('a link that closes ends the connection', async t => {
  const link = await startMiniLink(t, { certificates });
  const connection = await open({ port: link.port });
  await link.close();
  await connection.closed;
  await connection.close();
});

void t.test('a certificate of an unknown issuer, name or address is refused with the cause', async t => {
  const link = await startMiniLink(t, { certificates: makeCertificates() });
  t.match(await refusal({ port: link.port }), {
    code: 'LINK_UNVERIFIED',
    message: /127\.0\.0\.1:\d+: its certificate is by an issuer that is not among the root certificates/,
    hint: /--root-certificates/,
  });
  const port = await listenTls(t, makeNamed([{ dns: 'other.example' }]));
  t.match(await refusal({ port }), { code: 'LINK_UNVERIFIED', message: /not for this host name or address/ });
  t.match(await refusal({ port, host: 'localhost' }), {
    code: 'LINK_UNVERIFIED',
    message: /not for this host/,
  });
  t.equal(link.sockets.length, 0, 'no handshake was finished');
});

void t.test(
  'an address that is in no name of the certificate is refused, no matter who signed it',
  async t => {
    const link = await startMiniLink(t, { certificates, host: '127.0.0.3' });
    t.match(await refusal({ port: link.port, host: '127.0.0.3' }), {
      code: 'LINK_UNVERIFIED',
      message: /not for this host name or address/,
    });
  },
);

function makeNamed(
  alternativeNames: readonly ({ dns: string } | { ip: string })[],
  changes = {},
): TlsOptions {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const issuerKey = createPrivateKey(ca.key);
  const der = writeCertificate({
    subject: 'named',
    issuer: issuerName(ca.certificate),
    publicKey: publicKey.export({ type: 'spki', format: 'der' }),
    issuerPublicKey: createPublicKey(issuerKey).export({ type: 'spki', format: 'der' }),
    signWith: issuerKey,
    serial: createSerial(systemRandom),
    notBefore: Date.now() - 60_000,
    notAfter: Date.now() + 3_600_000,
    keyUsage: ['digitalSignature'],
    extendedKeyUsage: ['serverAuth'],
    alternativeNames,
    ...changes,
  });
  return {
    cert: new X509Certificate(der).toString(),
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}

function issuerName(pem: string): string {
  return /CN=(.*)/.exec(new X509Certificate(pem).subject)?.[1] ?? '';
}

void t.test('an expired, early or client certificate is refused, with both clocks stated', async t => {
  const here = [{ ip: '127.0.0.1' }];
  const expired = makeNamed(here, { notBefore: Date.now() - 7_200_000, notAfter: Date.now() - 1_000 });
  t.match(await refusal({ port: await listenTls(t, expired) }), {
    code: 'LINK_UNVERIFIED',
    message: /has expired by this machine's clock/,
    hint: /this machine's clock says \d{4}-.*, the certificate is valid from .* to .*GMT/,
  });
  const early = makeNamed(here, { notBefore: Date.now() + 60_000 });
  t.match(await refusal({ port: await listenTls(t, early) }), {
    code: 'LINK_UNVERIFIED',
    message: /not valid yet/,
    hint: /check this clock/,
  });
  const purpose = makeNamed(here, { extendedKeyUsage: ['clientAuth'] });
  t.match(await refusal({ port: await listenTls(t, purpose) }), {
    code: 'LINK_UNVERIFIED',
    message: /not for servers/,
  });
});

void t.test('a root that another root has signed verifies without the other', async t => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const issuerKey = createPrivateKey(ca.key);
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  const next = writeCertificate({
    subject: 'next root',
    issuer: issuerName(ca.certificate),
    publicKey: spki,
    issuerPublicKey: createPublicKey(issuerKey).export({ type: 'spki', format: 'der' }),
    signWith: issuerKey,
    serial: createSerial(systemRandom),
    notBefore: Date.now() - 60_000,
    notAfter: Date.now() + 3_600_000,
    ca: {},
    keyUsage: ['keyCertSign'],
  });
  const pem = new X509Certificate(next).toString();
  const named = makeNamed([{ ip: '127.0.0.1' }], {
    issuer: 'next root',
    issuerPublicKey: spki,
    signWith: privateKey,
  });
  const link = await startMiniLink(t, { certificates, tls: named });
  for (const serverRoots of [[pem], [ca.certificate, pem], [pem, ca.certificate]]) {
    const connection = await open({ port: link.port, serverRoots });
    await connection.close();
  }
  t.match(await refusal({ port: link.port }), { code: 'LINK_UNVERIFIED' }, 'the next root is not sent along');
});

void t.test('a peer with older TLS, without TLS or with another protocol is not a link', async t => {
  const old = await listenTls(t, { maxVersion: 'TLSv1.2' });
  t.match(await refusal({ port: old }), { code: 'LINK_UNVERIFIED', message: /no TLS 1\.3 handshake/ });
  const plain = await listen(
    t,
    createTcpServer(socket => void socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')),
  );
  t.match(await refusal({ port: plain }), { code: 'LINK_UNVERIFIED', message: /no TLS 1\.3 handshake/ });
  for (const other of ['http/1.1', 'h2', 'rollcall/2']) {
    const port = await listenTls(t, { ALPNProtocols: [other] });
    t.match(await refusal({ port }), {
      code: 'LINK_UNVERIFIED',
      message: /does not speak rollcall\/1/,
      hint: /9092 by default.*the same release/,
    });
  }
  const silentAboutIt = createTlsServer({ cert: server.certificate, key: server.key });
  silentAboutIt.on('secureConnection', socket => socket.on('error', () => undefined));
  t.match(await refusal({ port: await listen(t, silentAboutIt) }), {
    code: 'PROTOCOL_INVALID',
    message: /does not speak rollcall\/1/,
  });
});

void t.test('a refused, closed or silent connection and an unknown host are reported by cause', async t => {
  const closed = createTcpServer();
  const port = await listen(t, closed);
  await new Promise(resolve => closed.close(resolve));
  t.match(await refusal({ port }), { code: 'LINK_UNREACHABLE', message: /nothing listens there/ });

  const rude = await listen(
    t,
    createTcpServer(socket => void socket.destroy()),
  );
  t.match(await refusal({ port: rude }), { code: 'LINK_UNREACHABLE' });

  const silent = await listen(t, createTcpServer());
  t.match(await refusal({ port: silent, timeoutMs: 100 }), {
    code: 'LINK_UNREACHABLE',
    message: /no answer in time/,
  });

  t.match(await refusal({ host: 'no-such-host.invalid' }), { code: 'LINK_UNREACHABLE' });
});

void t.test('a peer that is verified but sends no frames is distinguished from a link', async t => {
  const server = createTlsServer({
    cert: certificates.server.certificate,
    key: certificates.server.key,
    ALPNProtocols: ['rollcall/1'],
  });
  server.on('secureConnection', socket => {
    socket.on('error', () => undefined);
    socket.write(Buffer.alloc(4096, 0x41));
  });
  const connection = await open({ port: await listen(t, server) });
  t.match(await connection.over, { code: 'PROTOCOL_INVALID', message: /not the protocol of a link/ });
  await connection.closed;
});

void t.test('aborting a connection attempt ends it, and leaves no socket', async t => {
  let socket: Socket | undefined;
  const silent = createTcpServer(each => {
    socket = each.on('error', () => undefined);
    socket.resume();
  });
  const port = await listen(t, silent);
  const stopping = new AbortController();
  const attempt = refusal({ port, signal: stopping.signal });
  await once(silent, 'connection');
  stopping.abort();
  t.match(await attempt, { code: 'LINK_UNREACHABLE', message: /told to stop/ });
  if (socket?.closed === false) await once(socket, 'close');
  t.match(
    await refusal({ port, signal: stopping.signal }),
    { message: /told to stop/ },
    'also before it began',
  );
});

void t.test('a connection attempt tries every address of a name', async t => {
  // localhost is ::1 and 127.0.0.1 on most machines, and nothing listens on ::1 here.
  const link = await startMiniLink(t, { certificates, host: '127.0.0.1' });
  const connection = await open({ host: 'localhost', port: link.port });
  await link.socket(1);
  await connection.close();
});

void t.test('the message of a failed connection does not contain the text of its cause', t => {
  const secret = Object.assign(new Error('secret-detail'), { code: 'ERR_TLS_CERT_ALTNAME_INVALID' });
  const told = describeTlsFailure({ error: secret }, 'link:1', 0);
  t.notMatch(`${told.message} ${told.hint ?? ''}`, /secret-detail/);
  t.equal(told.cause, secret);
  t.match(describeTlsFailure({ error: new Error('odd') }, 'link:1', 0), { code: 'LINK_UNREACHABLE' });
  t.end();
});
