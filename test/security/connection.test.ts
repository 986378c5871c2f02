/**
 * Attacks on the connection itself, on a link in a process of its own. Attackers come from other loopback addresses than
 * the honest, of whom one enrolls and goes online while each attack is on. Floods and soaks are in connection.long.ts.
 */
import t from 'tap';
import { createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import type { ConnectionOptions } from 'node:tls';
import { gzipSync } from 'node:zlib';
import { toPem } from '../../src/base/pem.js';
import { encodeLength } from '../../src/protocol/frames.js';
import { LinkFrame, NodeFrame } from '../../src/protocol/generated/rollcall/v1/link.js';
import { wireProtocol } from '../../src/protocol/limits.js';
import { formatSpiffeId } from '../../src/identity/spiffe.js';
import { attacksOn, eventually, pause, startAttackedLink } from '../harness/attacked-link.js';
import {
  clientPreface,
  dataFrames,
  flag,
  frame,
  frameType,
  grpcHeaders,
  headerBlock,
  headers,
  resetStream,
  settings,
  windowUpdate,
} from '../harness/http2-frames.js';
import {
  fillerExtension,
  giantRsaKey,
  longChain,
  oddCertificate,
  p256,
  pemOf,
  type ClientCertificate,
} from '../harness/odd-certificates.js';
import { framed, helloBytes, RawFrames, readyBytes } from '../harness/raw-frames.js';
import { framed as grpcMessage } from '../harness/raw-link.js';
import {
  ask,
  clientHello,
  drip,
  gone,
  openTcp,
  pour,
  protocolNames,
  serverName,
  withExtensions,
} from '../harness/stranger.js';
import { newKey, statusName } from '../harness/test-link.js';

/** A call of the control port that a stranger may try. */
const list = '/rollcall.v1.Control/ListNodes';
const start = Buffer.concat([clientPreface, settings()]);

const link = await startAttackedLink(t);
const attack = attacksOn(t, link);

/** Connections that the link must end by itself; seen at the end, so that no test waits for a deadline. */
const held: Socket[] = [];

/** The answer to a peer with this certificate when it opens a session; 'no connection' without one. */
async function sessionWith(certificate: ConnectionOptions, from = '127.0.0.6'): Promise<string> {
  const { socket } = await link.stranger(from, certificate);
  if (socket.destroyed) return 'no connection';
  const peer = new RawFrames(socket);
  peer.send(readyBytes());
  const welcomed = peer.next().then(
    frame => (frame.$case === 'welcome' ? 'welcome' : undefined),
    () => undefined,
  );
  const said = (await welcomed) ?? (await peer.ended).code;
  peer.destroy();
  return said === '' ? 'no connection' : said;
}

function chainOf({
  certificateChain,
  sessionKey,
}: {
  certificateChain: readonly string[];
  sessionKey: string;
}) {
  return { cert: certificateChain[0], key: sessionKey };
}

attack('500 sockets that stop after ServerHello do not keep honest nodes out', async t => {
  const hello = await clientHello();
  const sockets = await Promise.all(
    Array.from({ length: 500 }, () => openTcp({ port: link.nodePort, from: '127.0.0.2' })),
  );
  const answered = sockets.map(socket => once(socket, 'data'));
  for (const socket of sockets) socket.write(hello);
  await Promise.all(answered);
  await link.honest(t);
  t.ok(
    sockets.some(socket => !socket.destroyed),
    'they are still there',
  );
  held.push(...sockets);
});

attack('slow peers in every state of a connection do not keep honest nodes out', async t => {
  const from = '127.0.0.3';
  const hello = await clientHello();
  const slowHello = await openTcp({ port: link.nodePort, from });
  slowHello.write(hello.subarray(0, 20));
  void drip(slowHello, hello.subarray(20, 21));
  const h1 = { ALPNProtocols: ['http/1.1'] };
  const openings: readonly (readonly [opening: string | Buffer, then: string | Buffer, port: number])[] = [
    ['', '', link.nodePort],
    [encodeLength(50).subarray(0, 2), '', link.nodePort],
    [encodeLength(50), '', link.nodePort],
    [encodeLength(50), Buffer.of(0), link.nodePort],
    [framed(helloBytes(newKey())), '', link.nodePort],
    [framed(helloBytes(newKey())), encodeLength(50).subarray(0, 1), link.nodePort],
    [clientPreface.subarray(0, 10), '', link.controlPort],
    [Buffer.concat([start, headers(1, grpcHeaders(list))]), '', link.controlPort],
    // Headers that never end.
    [Buffer.concat([start, headers(1, grpcHeaders(list), 0)]), '', link.controlPort],
    [start, '', link.controlPort],
    ['', '', link.controlPort],
    ['GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: ', 'a', link.controlPort],
    ['POST /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 9999\r\n\r\n', 'a', link.controlPort],
    ['GET /readyz HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n', '1\r\na\r\n', link.controlPort],
    ['GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n', '', link.controlPort],
  ];
  for (const [opening, then, port] of openings) {
    const isHttp1 = port === link.controlPort && typeof opening === 'string';
    const { socket } = await link.stranger(from, isHttp1 ? h1 : {}, port);
    socket.write(opening);
    if (then.length > 0) void drip(socket, Buffer.from(then));
    held.push(socket);
  }
  held.push(slowHello);
  await link.honest(t);
});

attack('a resumed TLS session without a certificate or of a revoked node is refused', async t => {
  const key = newKey();
  const id = await link.register(key);
  const certificate = chainOf(await link.enroll(key));
  const { socket } = await link.stranger('127.0.0.6', certificate);
  const tickets: Buffer[] = [];
  socket.on('session', (ticket: Buffer) => tickets.push(ticket));
  const peer = new RawFrames(socket);
  peer.send(readyBytes());
  t.equal((await peer.next()).$case, 'welcome');
  peer.destroy();
  t.ok(tickets.length > 0, `${tickets.length} tickets to try`);
  for (const session of tickets) {
    const again = await link.stranger('127.0.0.6', { session });
    t.notOk(again.socket.isSessionReused(), 'not resumed');
    again.socket.destroy();
    t.equal(await sessionWith({ session }), 'CERTIFICATE_REFUSED');
  }
  t.equal(await sessionWith(certificate), 'welcome', 'by its certificate it is somebody');
  await link.honest(t);
  await link.control.revokeNode({ node: `${id}`, comment: '' });
  for (const session of tickets) t.equal(await sessionWith({ ...certificate, session }), 'NODE_REVOKED');
});

attack('TLS 1.2 and below are refused, and no early data is accepted', async t => {
  for (const version of ['TLSv1', 'TLSv1.1', 'TLSv1.2'] as const) {
    const old = { minVersion: version, maxVersion: version, ciphers: 'DEFAULT:@SECLEVEL=0' };
    for (const port of [link.nodePort, link.controlPort]) {
      const { socket } = await link.stranger('127.0.0.6', old, port);
      t.ok(socket.destroyed, `${version} on port ${port === link.nodePort ? 'node' : 'control'}`);
    }
  }
  // early_data in the first flight, followed by what would be early data (RFC 8446 §4.2.10).
  const socket = await openTcp({ port: link.nodePort, from: '127.0.0.6' });
  const first = once(socket, 'data');
  socket.write(withExtensions(await clientHello(), { 42: Buffer.alloc(0) }));
  socket.write(Buffer.concat([Buffer.from('1703030040', 'hex'), Buffer.alloc(64, 1)]));
  const ended = gone(socket);
  await Promise.race([first, ended]);
  await link.honest(t);
  held.push(socket);
});

attack('a chain with the certificate of another node opens a session for neither', async t => {
  const [mine, victims] = [newKey(), newKey()];
  const [id, victim] = [await link.register(mine), await link.register(victims)];
  const own = await link.enroll(mine);
  const [theirs = ''] = (await link.enroll(victims)).certificateChain;
  const [leaf = '', ...issuers] = own.certificateChain;
  const fillings = [
    [leaf, theirs],
    [leaf, theirs, ...issuers],
    [leaf, ...issuers, theirs, theirs],
  ];
  for (const filling of fillings) {
    t.equal(await sessionWith({ cert: filling.join(''), key: own.sessionKey }), 'CERTIFICATE_REFUSED');
  }
  for (const node of [id, victim]) {
    const page = { node: `${node}`, pageSize: 0, pageToken: '' };
    t.equal((await link.control.listNodeHistory(page)).transitions.length, 1, 'nothing happened to the node');
  }
  t.equal(await sessionWith({ cert: leaf, key: own.sessionKey }), 'welcome');
  await link.honest(t);
});

attack(
  'certificates of the right issuer for the wrong purpose, and of forged issuers, are refused',
  async t => {
    const id = await link.register(newKey());
    const uris = [formatSpiffeId(link.trustDomain, id)];
    const other = await startAttackedLink(t, { more: ['--trust-domain', link.trustDomain] });
    const key = newKey();
    await other.register(key);
    const foreign = await other.enroll(key);
    const lookalike = { certificate: link.authority.certificate, key: p256().privateKey };
    const own = { cert: link.authority.certificate.toString(), key: pemOf(link.authority.key) };
    const server = await Promise.all(
      ['server.pem', 'server.key'].map(name => readFile(join(link.folder, name))),
    );
    const cases: readonly (readonly [string, ConnectionOptions])[] = [
      [
        'a server certificate of the authority',
        oddCertificate({ issuer: link.authority, uris, purpose: 'serverAuth' }),
      ],
      ['a leaf that may be an authority', oddCertificate({ issuer: link.authority, uris, ca: true })],
      ['below such a leaf', belowLeaf(uris)],
      ['the authority’s own certificate', own],
      ['the link’s server certificate', { cert: server[0], key: server[1] }],
      ['of another deployment with the same names', chainOf(foreign)],
      ['the authority’s name, signed by another key', oddCertificate({ issuer: lookalike, uris })],
    ];
    for (const [what, certificate] of cases)
      t.match(await sessionWith(certificate), /CERTIFICATE_REFUSED|no connection/, what);
    await link.honest(t);
  },
);

/** Issued by a certificate that the authority signed for a node. */
function belowLeaf(uris: readonly string[]): ClientCertificate {
  const pair = p256();
  const middle = oddCertificate({ issuer: link.authority, uris, pair, ca: true, subject: 'middle' });
  const issuer = { certificate: new X509Certificate(middle.der), key: pair.privateKey };
  const leaf = oddCertificate({ issuer, uris });
  return { cert: leaf.cert + middle.cert, key: leaf.key };
}

attack('malformed subjects and names under the right issuer are refused', async t => {
  const id = await link.register(newKey());
  const uri = formatSpiffeId(link.trustDomain, id);
  const subjects = ['a\0b', '\u202egnp.exe', 'line\nbreak', '\u001b[31m', '', 'x'.repeat(2_000)];
  const names = [
    [],
    [uri, uri],
    [uri, formatSpiffeId(link.trustDomain, 1n)],
    [`${uri}\0.example.org`],
    [uri.toUpperCase()],
    [uri.replace('spiffe', 'SPIFFE')],
    [uri.replace('/node/', '/Node/')],
    [uri.replace('/node/', '/node/0')],
    [uri.replace('/node/', '//node/')],
    [`${uri}/`],
    [`${uri}?a`],
    [`${uri}%00`],
    [formatSpiffeId('other.example.org', id)],
    [`${uri}${'0'.repeat(60_000)}`],
  ];
  for (const uris of names) {
    const what = JSON.stringify(uris).slice(0, 60);
    t.equal(await sessionWith(oddCertificate({ issuer: link.authority, uris })), 'CERTIFICATE_REFUSED', what);
  }
  // The name is right and the authority signed it, but it never issued this certificate.
  for (const subject of subjects) {
    const certificate = oddCertificate({ issuer: link.authority, uris: [uri], subject });
    t.equal(await sessionWith(certificate), 'CERTIFICATE_REFUSED', JSON.stringify(subject).slice(0, 30));
  }
  const huge = oddCertificate({ issuer: link.authority, uris: [uri], subject: 'x'.repeat(65_536) });
  t.match(await sessionWith(huge), /CERTIFICATE_REFUSED|no connection/, 'a common name of 64 kB');
  await link.honest(t);
});

attack(
  'serials that the authority did not issue, old serials, serials of deleted nodes and wrong dates are refused',
  async t => {
    const key = newKey();
    const id = await link.register(key);
    const older = chainOf(await link.enroll(key));
    t.equal(await sessionWith(older), 'welcome');
    const newer = chainOf(await link.enroll(key));
    t.equal(await sessionWith(newer), 'welcome', 'a newer one takes its place once it is used');
    t.equal(await sessionWith(older), 'CERTIFICATE_REFUSED', 'an older one');
    const uris = [formatSpiffeId(link.trustDomain, id)];
    const now = Date.now();
    const issuer = link.authority;
    t.equal(await sessionWith(oddCertificate({ issuer, uris })), 'CERTIFICATE_REFUSED', 'an unknown serial');
    const dates = [
      { notBefore: now - 60_000, notAfter: now - 1_000 },
      { notBefore: now + 60_000, notAfter: now + 120_000 },
    ];
    for (const date of dates)
      t.equal(await sessionWith(oddCertificate({ issuer, uris, ...date })), 'CERTIFICATE_REFUSED');
    await link.control.revokeNode({ node: `${id}`, comment: '' });
    const publicKey = key.publicKey.spki;
    const again = await link.control.registerNode({ publicKey, name: '', labels: {}, again: true });
    t.not(again.id, id, 'registered again it is another node');
    t.equal(await sessionWith(newer), 'NODE_REVOKED', 'the certificate of the one before is of no use');
    await link.honest(t);
  },
);

attack('keys and chains that are expensive to verify are refused without the work', async t => {
  const id = await link.register(newKey());
  const uris = [formatSpiffeId(link.trustDomain, id)];
  const privateKey = giantRsaKey();
  const rsa = { privateKey, publicKey: createPublicKey(privateKey) };
  const explicit = generateKeyPairSync('ec', { namedCurve: 'P-256', paramEncoding: 'explicit' });
  const { certificates, last } = longChain(100);
  const long = oddCertificate({
    issuer: { certificate: new X509Certificate(certificates[99] ?? ''), key: last },
    uris,
  });
  const odd = (parts: object): ClientCertificate =>
    oddCertificate({ issuer: link.authority, uris, ...parts });
  const cases: readonly (readonly [string, ClientCertificate])[] = [
    ['RSA of 14,364 bits', odd({ pair: rsa })],
    [
      '100 intermediates',
      {
        ...long,
        cert:
          long.cert +
          certificates
            .reverse()
            .map(each => toPem(each))
            .join(''),
      },
    ],
    ['an extension of 60 kB', odd({ moreExtensions: [fillerExtension(60_000)] })],
    ['an extension of 1 MB', odd({ moreExtensions: [fillerExtension(1_000_000)] })],
    ['P-521', odd({ pair: generateKeyPairSync('ec', { namedCurve: 'P-521' }) })],
    ['explicit parameters', odd({ pair: explicit })],
    ['Ed25519', odd({ pair: generateKeyPairSync('ed25519') })],
  ];
  for (const [what, certificate] of cases) {
    const before = link.cpuSeconds();
    t.match(await sessionWith(certificate), /CERTIFICATE_REFUSED|no connection/, what);
    t.ok(link.cpuSeconds() - before < 2, `${what}: the cost is bounded`);
  }
  await link.honest(t);
});

attack('malformed SNI and ALPN are refused or ignored', async t => {
  const hello = await clientHello();
  const [sni, alpn] = [0, 16];
  const ours = Buffer.from(wireProtocol);
  const many = Array.from({ length: 1_000 }, (_, position) => Buffer.from(`p${position}`));
  const hellos: readonly (readonly [string, Record<number, Buffer>])[] = [
    ['an empty name', { [sni]: serverName(Buffer.alloc(0)) }],
    ['a name of 300 bytes', { [sni]: serverName(Buffer.alloc(300, 'a')) }],
    ['a name of 10,000 bytes', { [sni]: serverName(Buffer.alloc(10_000, 'a')) }],
    ['a name with a zero byte', { [sni]: serverName(Buffer.from('local\0host')) }],
    ['a name that is no UTF-8', { [sni]: serverName(Buffer.from('fffec0af', 'hex')) }],
    ['a list of names that lies about its length', { [sni]: Buffer.from('ffff00ffff61', 'hex') }],
    ['no list of names', { [sni]: Buffer.alloc(0) }],
    ['no protocols', { [alpn]: protocolNames([]) }],
    ['an empty protocol', { [alpn]: protocolNames([Buffer.alloc(0), ours]) }],
    ['a protocol of 255 bytes', { [alpn]: protocolNames([Buffer.alloc(255, 'a'), ours]) }],
    ['a protocol that is no UTF-8', { [alpn]: protocolNames([Buffer.from('ff00', 'hex'), ours]) }],
    ['1,000 protocols, the last is ours', { [alpn]: protocolNames([...many, ours]) }],
    ['1,000 protocols, none is ours', { [alpn]: protocolNames(many) }],
    ['protocols that lie about their length', { [alpn]: Buffer.from('0004ff683200', 'hex') }],
  ];
  const answers = new Map<string, string>();
  for (const [what, changes] of hellos) {
    const socket = await openTcp({ port: link.nodePort, from: '127.0.0.7' });
    const first = once(socket, 'data') as Promise<[Buffer]>;
    socket.write(withExtensions(hello, changes));
    const record = await Promise.race([first, gone(socket)]);
    // 22 is a handshake: ServerHello; 21 an alert.
    answers.set(what, record?.[0][0] === 22 ? 'goes on' : 'refused');
    socket.destroy();
  }
  // The result of the others depends on OpenSSL, and may change.
  t.equal(answers.get('1,000 protocols, the last is ours'), 'goes on');
  t.equal(answers.get('1,000 protocols, none is ours'), 'refused');
  t.equal(answers.get('protocols that lie about their length'), 'refused');
  for (let position = 0; position < 100; position += 1) {
    const { socket } = await link.stranger('127.0.0.7', { servername: `n${position}.example.org` });
    socket.destroy();
  }
  await link.honest(t);
});

attack('HTTP/2 that violates the rules or abuses them ends the connection', async t => {
  const open = Buffer.concat([start, headers(1, grpcHeaders(list))]);
  const repeat = (count: number, make: (position: number) => Buffer): Buffer =>
    Buffer.concat(Array.from({ length: count }, (_, position) => make(position)));
  const call = (position: number, path: string): Buffer =>
    Buffer.concat([headers(2 * position + 1, grpcHeaders(path)), resetStream(2 * position + 1)]);
  const block = headerBlock(grpcHeaders(list));
  const started = frame(frameType.headers, 0, 1, block);
  const continued = (count: number, payload: Buffer): Buffer =>
    Buffer.concat([start, started, repeat(count, () => frame(frameType.continuation, 0, 1, payload))]);
  /** 0x82 is one indexed header field: a byte on the wire, dozens in memory. */
  const indexed = frame(frameType.continuation, 0, 1, Buffer.alloc(16_384, 0x84));
  const ping = frame(frameType.ping, 0, 0, Buffer.alloc(8));
  const cases: readonly (readonly [string, Buffer])[] = [
    ['no preface', Buffer.from('GET / HTTP/1.1\r\nhost: x\r\n\r\n')],
    ['3,000 calls reset at once', Buffer.concat([start, repeat(3_000, n => call(n, list))])],
    ['3,000 calls of nothing, reset at once', Buffer.concat([start, repeat(3_000, n => call(n, '/a/B'))])],
    ['3,000 calls of the wrong type, reset at once', Buffer.concat([start, repeat(3_000, wrongType)])],
    ['2,000 CONTINUATION frames', continued(2_000, Buffer.from('00016101', 'hex'))],
    ['10,000 empty CONTINUATION frames', continued(10_000, Buffer.alloc(0))],
    ['a million header entries', Buffer.concat([start, started, repeat(61, () => indexed)])],
    [
      'an index into no table',
      Buffer.concat([start, frame(frameType.headers, 5, 1, Buffer.of(0xff, 0xff, 0x7f))]),
    ],
    [
      'a table of 4 GB',
      Buffer.concat([start, frame(frameType.headers, 5, 1, Buffer.from('3fe1ffffff0f', 'hex'))]),
    ],
    ['Huffman code that ends in the middle', Buffer.concat([start, frame(frameType.headers, 5, 1, huffman)])],
    [
      'a window over 2^31 − 1',
      Buffer.concat([open, windowUpdate(0, 0x7fffffff), windowUpdate(0, 0x7fffffff)]),
    ],
    ['a window grown by nothing', Buffer.concat([start, windowUpdate(0, 0)])],
    ['2,000 SETTINGS frames', Buffer.concat([start, repeat(2_000, n => settings([[3, n]]))])],
    [
      'a SETTINGS frame of 2,700 entries',
      Buffer.concat([start, settings(Array(2_700).fill([9, 1]) as [number, number][])]),
    ],
    ['a SETTINGS frame out of range', Buffer.concat([start, settings([[4, 0xffffffff]])])],
    ['20,000 PING frames', Buffer.concat([start, repeat(20_000, () => ping)])],
    ['a PING of 7 bytes', Buffer.concat([start, frame(frameType.ping, 0, 0, Buffer.alloc(7))])],
    ['DATA on no stream', Buffer.concat([start, frame(frameType.data, 0, 1, Buffer.alloc(10))])],
    ['a stream of the server’s', Buffer.concat([start, headers(2, grpcHeaders(list))])],
    [
      'a stream that is older than the last',
      Buffer.concat([start, headers(5, grpcHeaders(list)), headers(3, grpcHeaders(list))]),
    ],
    [
      'a frame of 16 MB',
      Buffer.concat([start, Buffer.from('ffffff000000000001', 'hex'), Buffer.alloc(20_000)]),
    ],
    ['100 streams at once', Buffer.concat([start, repeat(100, n => headers(2 * n + 1, grpcHeaders(list)))])],
    ['10,000 empty DATA frames', Buffer.concat([open, repeat(10_000, () => frame(frameType.data, 0, 1))])],
    [
      '10,000 unknown frames',
      Buffer.concat([start, repeat(10_000, () => frame(0xbe, 0, 0, Buffer.alloc(8)))]),
    ],
    [
      'GOAWAY and on',
      Buffer.concat([start, frame(frameType.goaway, 0, 0, Buffer.alloc(8)), headers(1, grpcHeaders(list))]),
    ],
  ];
  for (const [what, bytes] of cases) {
    const { socket } = await link.stranger('127.0.0.8', {}, link.controlPort);
    socket.write(bytes);
    held.push(socket);
    t.ok(link.alive(), what);
  }
  await link.honest(t);
});

attack('frames that violate the rules or abuse them end the connection', async t => {
  const key = newKey();
  await link.register(key);
  const certificate = chainOf(await link.enroll(key));
  const hello = framed(helloBytes(newKey()));
  const ready = framed(readyBytes());
  const none = Buffer.alloc(4);
  const many = (count: number, part: Buffer): Buffer => Buffer.concat(Array<Buffer>(count).fill(part));
  const ofLink = framed(
    LinkFrame.encode({
      frame: { $case: 'manifest', value: { transfer: 1, manifest: Buffer.alloc(40) } },
    }).finish(),
  );
  const ofRun = framed(
    NodeFrame.encode({ frame: { $case: 'endTransfer', value: { transfer: 1 } } }).finish(),
  );
  const pong = framed(NodeFrame.encode({ frame: { $case: 'pong', value: { sequence: 9n } } }).finish());
  const cases: readonly (readonly [string, Buffer, string])[] = [
    ['HTTP/1.1', Buffer.from('GET / HTTP/1.1\r\nhost: x\r\n\r\n'), 'PROTOCOL_INVALID'],
    ['HTTP/2', start, 'PROTOCOL_INVALID'],
    ['a length of 4 GB', encodeLength(0xffffffff), 'PROTOCOL_INVALID'],
    ['a length of 16 KiB and one', encodeLength(16 * 1024 + 1), 'PROTOCOL_INVALID'],
    ['16 KiB of nothing that means something', framed(Buffer.alloc(16 * 1024, 0xff)), 'PROTOCOL_INVALID'],
    ['a million empty frames', many(1_000_000, none), 'PROTOCOL_INVALID'],
    ['a Hello and a million empty frames', Buffer.concat([hello, many(1_000_000, none)]), 'PROTOCOL_INVALID'],
    ['a thousand Hellos', many(1_000, hello), 'PROTOCOL_INVALID'],
    ['a frame of the link', ofLink, 'PROTOCOL_INVALID'],
    ['a frame of an object', ofRun, 'PROTOCOL_INVALID'],
    ['a session without a certificate', many(1_000, ready), 'CERTIFICATE_REFUSED'],
  ];
  for (const [what, bytes, code] of cases) {
    const { socket } = await link.stranger('127.0.0.8');
    const peer = new RawFrames(socket);
    peer.write(bytes);
    t.equal((await peer.ended).code, code, what);
    held.push(socket);
  }
  const known: readonly (readonly [string, Buffer])[] = [
    ['a second Ready', ready],
    ['a frame of the link', ofLink],
    ['a million empty frames', many(1_000_000, none)],
    ['a frame of an object', ofRun],
    ['a length of 80 KiB and one', encodeLength(80 * 1024 + 1)],
  ];
  for (const [what, bytes] of known) {
    const { socket } = await link.stranger('127.0.0.8', certificate);
    const peer = new RawFrames(socket);
    peer.write(ready);
    t.equal((await peer.next()).$case, 'welcome');
    peer.write(bytes);
    t.equal((await peer.ended).code, 'PROTOCOL_INVALID', `${what}, on a session`);
    held.push(socket);
  }
  // An unrequested pong is allowed, and does not prove that the node is alive.
  const { socket: busy } = await link.stranger('127.0.0.8', certificate);
  busy.write(Buffer.concat([ready, many(100_000, pong)]));
  held.push(busy);
  // A byte at a time it is the same Hello.
  const { socket: slow } = await link.stranger('127.0.0.8');
  const peer = new RawFrames(slow);
  for (const byte of hello) {
    slow.write(Buffer.of(byte));
    await new Promise(resolve => setImmediate(resolve));
  }
  t.equal((await peer.next()).$case, 'challenge');
  held.push(slow);
  await link.honest(t);
});

const huffman = Buffer.from('00ff80ffffff', 'hex');

function wrongType(position: number): Buffer {
  const pairs = grpcHeaders(list, { 'content-type': 'text/html' });
  return Buffer.concat([headers(2 * position + 1, pairs), resetStream(2 * position + 1)]);
}

attack('a request that is not a gRPC call to a known method runs no handler', async t => {
  const where = { port: link.controlPort, from: '127.0.0.10' };
  const status = async (path: string, changes: Record<string, string> = {}) => {
    const answer = await ask(where, { ':path': path, ...changes });
    return answer['grpc-status'] === undefined ? answer[':status'] : `grpc ${answer['grpc-status']}`;
  };
  for (const method of ['PUT', 'DELETE', 'OPTIONS', 'POSTS', 'post'])
    t.match(await status(list, { ':method': method }), /^40[45]$/, method);
  for (const type of [
    '',
    'application/grpcfoo',
    'application/grpc-web',
    'application/grpc+json',
    'text/html',
  ])
    t.match(await status(list, { 'content-type': type }), /^4/, type);
  const paths = ['/a/B', `${list}/`, list.toLowerCase(), `/${list}`, '/__proto__', '/constructor'];
  for (const path of paths) t.match(await status(path), /^(grpc 12|4\d\d)$/, path);
  t.equal(await status('/rollcall.v1.Enrollment/Enroll'), 'grpc 12', 'nodes have a port of their own');
  t.equal(await status(list), 'grpc 16', 'no token');
  t.equal(await status(list, { 'grpc-encoding': 'gzip' }), 'grpc 12', 'nothing is compressed here');
  const answer = await ask(where, { ':path': '/hello-from-a-stranger/%1b[31m' });
  t.notMatch(JSON.stringify(answer), /hello-from-a-stranger/, 'nothing of a stranger’s is repeated');
  for (const timeout of ['soon', '-1S', '', '1n'])
    t.match(
      await status(list, { 'grpc-timeout': timeout }),
      /^grpc (4|13|3|16)$/,
      `a timeout of "${timeout}"`,
    );
  // Compressed and announced: refused by its headers, and not unpacked.
  const small = grpcMessage(gzipSync(Buffer.alloc(0)));
  small.writeUInt8(1);
  const before = link.memoryMb();
  const announced = headers(1, grpcHeaders(list, { 'grpc-encoding': 'gzip' }));
  const messages = dataFrames(1, Buffer.concat(Array<Buffer>(2_500).fill(small)));
  for (let position = 0; position < 20; position += 1) {
    const { socket } = await link.stranger(where.from, {}, link.controlPort);
    socket.write(Buffer.concat([start, announced, messages]));
    held.push(socket);
  }
  await link.honest(t);
  t.ok(link.memoryMb() < before + 64, 'unpacking them would have taken 170 MB');
});

attack('a peer that continues after a refusal is disconnected', async t => {
  const from = '127.0.0.12';
  const call = (stream: number): Buffer => headers(stream, grpcHeaders(list));
  const calls = ['pours', 'calls again'].map(async how => {
    const { socket } = await link.stranger(from, {}, link.controlPort);
    socket.write(Buffer.concat([start, call(1)]));
    await (how === 'pours' ? pour(socket, dataFrames(1, Buffer.alloc(16_384))) : callAgain(socket, call));
  });
  const refused = [
    framed(readyBytes()),
    framed(Buffer.alloc(0)),
    framed(Buffer.alloc(9, 0xff)),
    framed(helloBytes(newKey(), { protocolVersions: [] })),
    encodeLength(0xffffffff),
  ];
  const frames = refused.map(async bytes => {
    const { socket } = await link.stranger(from);
    socket.write(bytes);
    await pour(socket, Buffer.alloc(16_384));
  });
  await link.honest(t);
  await Promise.all([...calls, ...frames]);
  t.pass('they are cut off');
});

/** Calls again and again, so that the connection is never idle: what ends it is the deadline after a refusal. */
async function callAgain(socket: Socket, call: (stream: number) => Buffer): Promise<void> {
  let stream = 1;
  const calls = setInterval(() => {
    // There is room for two calls at once.
    socket.write(resetStream(stream));
    stream += 2;
    socket.write(call(stream));
  }, 200);
  await gone(socket);
  clearInterval(calls);
}

attack('endless bodies to every route without a token are refused', async t => {
  const before = link.cpuSeconds();
  const chunk = Buffer.concat([Buffer.from('10000\r\n'), Buffer.alloc(65_536, 'a'), Buffer.from('\r\n')]);
  const requests = [
    'POST /healthz',
    'GET /healthz',
    'PUT /readyz',
    'GET /metrics',
    'POST /v1/nodes',
    'POST /auth/setup',
    'POST /auth/setup/code',
    'POST /auth/token',
    'POST /auth/revoke',
    'GET /v1/link',
    'GET /.well-known/jwks.json',
    'POST /',
  ];
  const bodies = requests.flatMap(request =>
    Array.from({ length: 4 }, async () => {
      const { socket } = await link.stranger('127.0.0.13', { ALPNProtocols: ['http/1.1'] }, link.controlPort);
      socket.write(`${request} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n`);
      await pour(socket, chunk);
      return socket.bytesWritten;
    }),
  );
  await link.honest(t);
  const written = (await Promise.all(bodies)).reduce((sum, each) => sum + each, 0);
  t.ok(written < 1e9, `cut off after ${Math.round(written / 1e6)} MB of ${bodies.length} bodies`);
  t.ok(link.cpuSeconds() - before < 10, 'nobody listens to them');
  const { socket, received } = await link.stranger(
    '127.0.0.13',
    { ALPNProtocols: ['http/1.1'] },
    link.controlPort,
  );
  socket.write('POST /healthz HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n');
  await gone(socket);
  t.match(received().toString(), /^HTTP\/1\.1 405/, 'nor is anybody asked for a body');
});

attack('ambiguous HTTP/1.1 requests are refused', async t => {
  const tell = async (text: string): Promise<string> => {
    const { socket, received } = await link.stranger(
      '127.0.0.14',
      { ALPNProtocols: ['http/1.1'] },
      link.controlPort,
    );
    socket.end(text);
    await gone(socket);
    return received().toString('latin1').split('\r\n', 1)[0] ?? '';
  };
  const smuggled =
    'GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n';
  t.equal(await tell(smuggled), 'HTTP/1.1 400 Bad Request', 'two lengths');
  t.equal(await tell('GET /healthz HTTP/1.1\r\n\r\n'), 'HTTP/1.1 400 Bad Request', 'no host');
  const large = `GET /healthz HTTP/1.1\r\nhost: x\r\nx: ${'a'.repeat(20_000)}\r\n\r\n`;
  t.equal(await tell(large), 'HTTP/1.1 431 Request Header Fields Too Large');
  t.equal(await tell('CONNECT example.org:443 HTTP/1.1\r\nhost: x\r\n\r\n'), '', 'no proxy');
  for (const path of [
    '/healthz/../metrics',
    '//metrics',
    '/%6detrics',
    'https://x/metrics',
    '/metrics/',
    '*',
  ]) {
    t.match(
      await tell(`GET ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`),
      /^HTTP\/1\.1 4/,
      path,
    );
  }
  const odd =
    'GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer caf\xe9\r\n\r\n';
  t.equal(await tell(odd), 'HTTP/1.1 401 Unauthorized');
  await link.honest(t);
});

attack(
  'addresses that a stranger claims are not believed, and its request headers are not logged',
  async t => {
    for (const line of ['PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n', '\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c']) {
      const socket = await openTcp({ port: link.nodePort, from: '127.0.0.15' });
      socket.write(Buffer.concat([Buffer.from(line, 'latin1'), await clientHello()]));
      await gone(socket);
      t.pass('a PROXY header is no TLS');
    }
    const key = newKey();
    const id = await link.register(key);
    const { socket } = await link.stranger('127.0.0.15', chainOf(await link.enroll(key)));
    const peer = new RawFrames(socket);
    peer.send(readyBytes());
    await peer.next();
    const { address } = await link.control.getNode({ node: `${id}` });
    t.equal(address, '127.0.0.15');
    peer.destroy();
    // grpc-js would write each of them to standard error.
    const shouting = grpcHeaders(list, { 'x-shout': 'caf\xe9 {"level":"error"}' });
    const { socket: loud } = await link.stranger('127.0.0.15', {}, link.controlPort);
    loud.write(Buffer.concat([start, headers(1, shouting)]));
    loud.write(
      Buffer.concat([
        headers(3, grpcHeaders(`/caf\xe9/\xff`)),
        headers(5, grpcHeaders(list), flag.endStream),
      ]),
    );
    held.push(loud);
    await link.honest(t);
  },
);

attack(
  'at the descriptor limit health, the store and live sessions survive, and honest nodes connect',
  async t => {
    const small = await startAttackedLink(t, { openFiles: 256 });
    const key = newKey();
    const id = await small.register(key);
    const live = await small.online(key);
    const besieged = new AbortController();
    const besiegers = Array.from({ length: 300 }, async (_, position) => {
      while (!besieged.signal.aborted) {
        await gone(await openTcp({ port: small.nodePort, from: `127.0.1.${position % 40}` }));
        await pause(200);
      }
    });
    t.ok(await eventually(() => small.descriptors() > 80), 'they are there');
    for (let round = 0; round < 10; round += 1) {
      await pause(100);
      t.ok(small.descriptors() < 256 - 64, `${small.descriptors()} of 256 descriptors in use`);
      t.equal((await small.fetch('/readyz')).status, 200, 'operators get in at once');
    }
    t.equal(statusName(await small.control.getNode({ node: `${id}` })), 'online', 'the session lives');
    const node = newKey();
    await small.register(node);
    besieged.abort();
    const enters = (): Promise<boolean> =>
      small.enroll(node).then(
        () => true,
        () => false,
      );
    t.ok(await eventually(enters), 'an honest node gets in once those who hold on are stale');
    await live.session.close();
    await live.connection.close();
    t.ok(small.alive());
    await Promise.all(besiegers);
  },
);

attack('after all attacks the link has disconnected every attacker that held a connection', async t => {
  const open = (): number => held.filter(socket => !socket.closed).length;
  t.ok(await eventually(() => open() === 0, 40_000), `${open()} of ${held.length} still there`);
  t.ok(await eventually(() => link.descriptors() < 40), `${link.descriptors()} descriptors in use`);
  await link.honest(t);
});
