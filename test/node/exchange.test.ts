// Enrollment and session against a link over real TLS that misbehaves in every way it can.
import { X509Certificate } from 'node:crypto';
import t from 'tap';
import { systemClock, type Clock } from '../../src/base/clock.js';
import { RollcallError } from '../../src/base/errors.js';
import { systemRandom } from '../../src/base/random.js';
import { generatePrivateKey } from '../../src/identity/private-key.js';
import type { Challenge, Enrolled } from '../../src/protocol/generated/rollcall/v1/enrollment.js';
import type { LinkError } from '../../src/protocol/generated/rollcall/v1/link.js';
import { openConnection, type LinkConnection } from '../../src/node/connection.js';
import { enroll, type EnrollOptions } from '../../src/node/enroll.js';
import { openSession, type SessionOptions } from '../../src/node/session.js';
import { noObjects } from '../harness/test-link.js';
import { createManualClock } from '../harness/manual-clock.js';
import { nodeId, startMiniLink, trustDomain, type MiniLink, type MiniPeer } from './fixtures/mini-link.js';

interface Teardown {
  teardown(call: () => unknown): void;
}

async function connect(t: Teardown, link: MiniLink): Promise<LinkConnection> {
  const connection = await openConnection({
    address: { host: '127.0.0.1', port: link.port },
    serverRoots: [link.ca],
    timeoutMs: 5_000,
    clock: systemClock,
  });
  t.teardown(() => connection.close());
  return connection;
}

const privateKey = generatePrivateKey('P-256');

function enrollOn(connection: EnrollOptions['connection'], changes: Partial<EnrollOptions> = {}) {
  return enroll({
    connection,
    privateKey,
    tenant: 'default',
    generation: 0n,
    clock: systemClock,
    random: systemRandom,
    ...changes,
  });
}

function partsOf(connection: LinkConnection): EnrollOptions['connection'] {
  return {
    exporter: connection.exporter,
    over: connection.over,
    send: frame => connection.send(frame),
    listen: listener => connection.listen(listener),
  };
}

function sessionOn(connection: SessionOptions['connection'], changes: Partial<SessionOptions> = {}) {
  return openSession({
    connection,
    objects: noObjects,
    clock: systemClock,
    onServerRoots: () => undefined,
    ...changes,
  });
}

void t.test('a node with a P-256 or a P-384 key gets a certificate for a fresh session key', async t => {
  const link = await startMiniLink(t);
  const connection = await connect(t, link);
  const keys: string[] = [];
  for (const key of [privateKey, generatePrivateKey('P-384')]) {
    const enrollment = await enrollOn(connection, { privateKey: key });
    t.match(enrollment, { nodeId, trustDomain, serverRoots: undefined });
    const [leaf = '', issuer = ''] = enrollment.certificateChain;
    const certificate = new X509Certificate(leaf);
    t.equal(certificate.subjectAltName, `URI:spiffe://${trustDomain}/node/${nodeId}`);
    t.ok(certificate.verify(new X509Certificate(issuer).publicKey));
    keys.push(enrollment.sessionKey);
    t.ok(Math.abs(enrollment.lifeMs - 3_600_000) < 5_000, 'by the clock of the link');
    t.ok(Math.abs(enrollment.renewalMarginMs - 1_200_000) < 5_000, 'a third of it');
  }
  t.equal(new Set(keys).size, 2);
  t.notSame(link.proofs[0]?.sessionPublicKey, link.proofs[1]?.sessionPublicKey);
});

void t.test('a proof for one connection is refused on another', async t => {
  const link = await startMiniLink(t);
  const [mine, other] = [await connect(t, link), await connect(t, link)];
  await t.rejects(enrollOn({ ...partsOf(mine), exporter: other.exporter }), {
    code: 'PROOF_REFUSED',
  });
  t.match(await enrollOn(other), { nodeId }, 'the other connection is good');
});

void t.test('refusals by the link keep their code, message and hint', async t => {
  const link = await startMiniLink(t);
  const codes = [
    ...([
      'PROOF_REFUSED',
      'NODE_NOT_REGISTERED',
      'NODE_PENDING',
      'NODE_REVOKED',
      'NODE_QUARANTINED',
    ] as const),
    ...(['LINK_BUSY', 'LINK_DRAINING', 'PROTOCOL_VERSION', 'BINDING_REFUSED', 'STORE_FULL'] as const),
  ];
  for (const code of codes) {
    const stated = new RollcallError(code, `stated ${code}`, { hint: 'do this' });
    link.behaviour.enroll = peer => peer.refuse(stated);
    await t.rejects(enrollOn(await connect(t, link)), { code, message: `stated ${code}`, hint: 'do this' });
    link.behaviour.connect = peer => peer.refuse(stated);
    await t.rejects(sessionOn(await connect(t, link)), { code, message: `stated ${code}`, hint: 'do this' });
  }
});

void t.test('an invalid challenge gets no proof', async t => {
  const link = await startMiniLink(t);
  const cases: readonly [Partial<Challenge>, string][] = [
    [{ nonce: Buffer.alloc(0) }, 'PROTOCOL_INVALID'],
    [{ nonce: Buffer.alloc(31) }, 'PROTOCOL_INVALID'],
    [{ nonce: Buffer.alloc(33) }, 'PROTOCOL_INVALID'],
    [{ trustDomain: '' }, 'PROTOCOL_INVALID'],
    [{ trustDomain: 'Test.Example' }, 'PROTOCOL_INVALID'],
    [{ trustDomain: 'a/node/1' }, 'PROTOCOL_INVALID'],
    [{ protocolVersion: 0 }, 'PROTOCOL_VERSION'],
    [{ protocolVersion: 2 }, 'PROTOCOL_VERSION'],
  ];
  for (const [change, code] of cases) {
    link.behaviour.challenge = challenge => ({ ...challenge, ...change });
    await t.rejects(enrollOn(await connect(t, link)), { code }, JSON.stringify(change));
  }
  link.behaviour.challenge = challenge => challenge;
  await t.rejects(enrollOn(await connect(t, link), { trustDomain: 'elsewhere.example' }), {
    code: 'LINK_UNVERIFIED',
    message: /test\.example; this node belongs to elsewhere\.example/,
  });
  t.equal(link.proofs.length, 0, 'nothing was signed');
  t.match(await enrollOn(await connect(t, link), { trustDomain }), { trustDomain });
});

void t.test('a certificate that differs from the request is refused', async t => {
  const link = await startMiniLink(t);
  const connection = await connect(t, link);
  const [foreign] = link.authority.issue({
    nodeId,
    publicKey: generatePrivateKey('P-256').publicKey.spki,
  }).chain;
  const other = await startMiniLink(t);
  const sessionKey = () => link.proofs.at(-1)?.sessionPublicKey ?? Buffer.alloc(0);
  const cases: readonly [string, (enrolled: Enrolled) => Partial<Enrolled>][] = [
    ['no chain', () => ({ certificateChain: [] })],
    ['no issuer', ({ certificateChain }) => ({ certificateChain: certificateChain.slice(0, 1) })],
    ['the issuer alone', ({ certificateChain }) => ({ certificateChain: certificateChain.slice(1) })],
    ['garbage', () => ({ certificateChain: [Buffer.from('garbage'), Buffer.from('garbage')] })],
    [
      'an endless chain',
      ({ certificateChain: [leaf, issuer] }) => ({
        certificateChain: [
          leaf ?? Buffer.alloc(0),
          ...Array.from({ length: 20 }, () => issuer ?? Buffer.alloc(0)),
        ],
      }),
    ],
    [
      'for another key',
      ({ certificateChain }) => ({
        certificateChain: [foreign ?? Buffer.alloc(0), ...certificateChain.slice(1)],
      }),
    ],
    [
      'by another issuer',
      ({ certificateChain }) => ({
        certificateChain: [...certificateChain.slice(0, 1), ...other.authority.chain],
      }),
    ],
    [
      'for another node',
      () => ({
        certificateChain: link.authority.issue({ nodeId: 43n, publicKey: sessionKey() }).chain,
      }),
    ],
    ['another id said', () => ({ nodeId: 43n })],
    ['no id', () => ({ nodeId: 0n })],
    ['no generation', () => ({ generation: 0n })],
  ];
  for (const [what, change] of cases) {
    link.behaviour.enrolled = enrolled => ({ ...enrolled, ...change(enrolled) });
    await t.rejects(enrollOn(connection), { code: 'PROTOCOL_INVALID' }, what);
  }
});

void t.test('validity is judged by the clock of the link, whatever the local clock says', async t => {
  const link = await startMiniLink(t);
  const connection = await connect(t, link);
  for (const years of [-10, 10]) {
    const clock: Clock = { ...systemClock, now: () => Date.now() + years * 365 * 86_400_000 };
    t.match(await enrollOn(connection, { clock }), { nodeId });
  }
  link.behaviour.challenge = challenge => ({
    ...challenge,
    linkClockMs: challenge.linkClockMs + 86_400_000n,
  });
  await t.rejects(
    enrollOn(connection),
    { code: 'PROTOCOL_INVALID' },
    'expired by the clock it stated itself',
  );
});

void t.test('a restored link may lower the generation, and renewAfterMs 0 renews at once', async t => {
  const link = await startMiniLink(t);
  const connection = await connect(t, link);
  t.match(await enrollOn(connection, { generation: 7n }), { generation: 1n });
  t.equal(link.proofs[0]?.generation, 7n);
  link.behaviour.enrolled = enrolled => ({ ...enrolled, renewAfterMs: 2n ** 64n - 1n });
  t.match(await enrollOn(connection), { renewalMarginMs: 0 });
  link.behaviour.enrolled = enrolled => ({ ...enrolled, renewAfterMs: 0n });
  const { lifeMs, renewalMarginMs } = await enrollOn(connection);
  t.equal(renewalMarginMs, lifeMs);
});

const noError: LinkError = { code: '', message: '', hint: '', isFinal: false, retryAfterMs: 0 };

void t.test('invalid frames, silence and a closed connection end an enrollment', async t => {
  const link = await startMiniLink(t);
  const { behaviour } = link;

  behaviour.enroll = peer => peer.end();
  await t.rejects(enrollOn(await connect(t, link)), { code: 'LINK_UNREACHABLE', message: /was lost/ });
  behaviour.enroll = peer => peer.send({ $case: 'enrollmentRefused', value: noError });
  await t.rejects(enrollOn(await connect(t, link)), { code: 'INTERNAL' }, 'a refusal without a code');
  behaviour.enroll = peer =>
    peer.send({
      $case: 'enrolled',
      value: {
        nodeId,
        certificateChain: [],
        trustBundle: undefined,
        renewAfterMs: 1n,
        generation: 1n,
        linkAddresses: [],
      },
    });
  await t.rejects(enrollOn(await connect(t, link)), { code: 'PROTOCOL_INVALID' }, 'the last answer first');
  behaviour.enroll = ({ socket }) => void socket.write(Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'));
  await t.rejects(enrollOn(await connect(t, link)), { code: 'PROTOCOL_INVALID' }, 'an answer in HTTP');

  const clock = createManualClock();
  behaviour.enroll = () => clock.advance(60_000);
  await t.rejects(
    enrollOn(await connect(t, link), { clock }),
    { code: 'DEADLINE_EXCEEDED' },
    'an answer that never comes',
  );
  const stopping = new AbortController();
  behaviour.enroll = () => stopping.abort();
  await t.rejects(
    enrollOn(await connect(t, link), { signal: stopping.signal }),
    { code: 'LINK_UNREACHABLE' },
    'told to stop',
  );

  behaviour.enroll = undefined;
  const connection = await connect(t, link);
  behaviour.enrolled = () => {
    link.sockets.at(-1)?.destroy();
    throw new Error('gone');
  };
  await t.rejects(
    enrollOn(connection),
    { code: 'LINK_UNREACHABLE' },
    'the connection breaks after the proof',
  );
  await connection.closed;
  await t.rejects(enrollOn(connection), { code: 'LINK_UNREACHABLE' }, 'a connection that is closed already');
});

void t.test('an invalid frame is distinguished from a broken connection', async t => {
  const link = await startMiniLink(t);
  link.behaviour.enroll = ({ socket }) => void socket.write(Buffer.from([0, 0, 0, 2, 0xff, 0xff]));
  await t.rejects(enrollOn(await connect(t, link)), { code: 'PROTOCOL_INVALID' });
});

void t.test('an answer that exceeds a frame is distinguished from a busy link', async t => {
  const link = await startMiniLink(t);
  const connection = await connect(t, link);
  link.behaviour.challenge = challenge => ({ ...challenge, nonce: Buffer.alloc(100_000) });
  await t.rejects(enrollOn(connection), {
    code: 'PROTOCOL_INVALID',
    message: 'the server answered with something that is not the protocol of a link',
    cause: { message: /^a frame of 1000\d\d bytes; at most 81920 are allowed here$/ },
  });
});

void t.test('a session is welcomed, answers pings at once, and says goodbye', async t => {
  const link = await startMiniLink(t);
  const connection = await connect(t, link);
  const session = await sessionOn(connection);
  t.match(session.welcome, { nodeId, silenceMs: 30_000 });
  t.match(link.frames[0]?.frame, { $case: 'ready', value: { protocolVersion: 1 } });
  const [peer] = link.sessions;
  for (const sequence of [1n, 2n ** 64n - 1n]) {
    const pong = peer?.next();
    peer?.send({ $case: 'ping', value: { sequence } });
    t.match(await pong, { $case: 'pong', value: { sequence } });
  }
  await session.close();
  t.same(await session.ended, { reason: 'closed' });
  await session.close();
});

void t.test('the roots of a bundle are passed on, and unknown fields are ignored', async t => {
  const link = await startMiniLink(t);
  const connection = await connect(t, link);
  const bundles: (readonly Buffer[])[] = [];
  let arrived: () => void = () => undefined;
  const second = new Promise<void>(resolve => (arrived = resolve));
  const session = await sessionOn(connection, {
    onServerRoots: roots => {
      bundles.push(roots);
      if (bundles.length === 2) arrived();
    },
  });
  const [peer] = link.sessions;
  peer?.send({ $case: 'trustBundle', value: { serverRoots: [Buffer.from('a')] } });
  peer?.send(undefined);
  peer?.send({ $case: 'welcome', value: { ...session.welcome, nodeId: 99n } });
  peer?.send({ $case: 'trustBundle', value: { serverRoots: [] } });
  await second;
  t.same(bundles, [[Buffer.from('a')], []]);
  t.equal(session.welcome.nodeId, nodeId, 'a second Welcome changes nothing');
  await session.close();
});

void t.test('a session ends once, with its reason', async t => {
  const link = await startMiniLink(t);
  const cases: readonly [string, (peer: MiniPeer) => void, object][] = [
    [
      'revoked',
      peer => peer.refuse(new RollcallError('NODE_REVOKED', 'no more')),
      { reason: 'ended', error: { code: 'NODE_REVOKED', message: 'no more' } },
    ],
    [
      'replaced',
      peer => peer.refuse(new RollcallError('SESSION_REPLACED', 'by another')),
      { reason: 'ended', error: { code: 'SESSION_REPLACED' } },
    ],
    ['ended without a word', peer => peer.end(), { reason: 'ended', error: { code: 'LINK_UNREACHABLE' } }],
    ['cut', () => link.sockets.at(-1)?.destroy(), { reason: 'ended', error: { code: 'LINK_UNREACHABLE' } }],
    [
      'drained and told so',
      peer => {
        peer.send({ $case: 'drain', value: { reason: 'update', reconnectAfterMs: 1234 } });
        peer.refuse(new RollcallError('LINK_DRAINING', 'bye'));
      },
      { reason: 'drained', pauseMs: 1234, error: { code: 'LINK_DRAINING' } },
    ],
    [
      'drained and ended',
      peer => {
        peer.send({ $case: 'drain', value: { reason: 'update', reconnectAfterMs: 0 } });
        peer.end();
      },
      { reason: 'drained', pauseMs: 0, error: { code: 'LINK_DRAINING' } },
    ],
    [
      'revoked while draining',
      peer => {
        peer.send({ $case: 'drain', value: { reason: 'update', reconnectAfterMs: 5 } });
        peer.refuse(new RollcallError('NODE_REVOKED', 'no more'));
      },
      { reason: 'ended', error: { code: 'NODE_REVOKED' } },
    ],
  ];
  for (const [what, end, expected] of cases) {
    const connection = await connect(t, link);
    const session = await sessionOn(connection);
    const [peer] = link.sessions;
    if (peer) end(peer);
    t.match(await session.ended, expected, what);
    await session.close();
    await connection.close();
  }
});

void t.test('a session fails without Welcome in time, and ends after a silence', async t => {
  const link = await startMiniLink(t);
  const clock = createManualClock();
  link.behaviour.connect = () => clock.advance(60_000);
  await t.rejects(sessionOn(await connect(t, link), { clock }), {
    code: 'LINK_UNREACHABLE',
    message: /no Welcome/,
  });
  link.behaviour.connect = undefined;

  for (const [silenceMs, patienceMs] of [
    [30_000, 30_000],
    [0, 30_000],
    [1, 1_000],
    [2 ** 32 - 1, 600_000],
  ] as const) {
    link.behaviour.welcome = welcome => ({ ...welcome, silenceMs });
    const session = await sessionOn(await connect(t, link), { clock });
    let over = false;
    void session.ended.then(() => (over = true));
    clock.advance(patienceMs - 1);
    await new Promise(resolve => setImmediate(resolve));
    t.notOk(over, `${silenceMs}: not yet`);
    clock.advance(2);
    t.match(await session.ended, { reason: 'ended', error: { code: 'LINK_UNREACHABLE', message: /silent/ } });
  }
});

void t.test('any frame resets the silence timer of a session', async t => {
  const link = await startMiniLink(t);
  const connection = await connect(t, link);
  const clock = createManualClock();
  const session = await sessionOn(connection, { clock });
  const [peer] = link.sessions;
  let over = false;
  void session.ended.then(() => (over = true));
  for (let round = 1n; round <= 4n; round += 1n) {
    clock.advance(29_000);
    const pong = peer?.next();
    peer?.send({ $case: 'ping', value: { sequence: round } });
    await pong;
  }
  t.notOk(over);
  await session.close();
});

void t.test('aborting ends the opening of a session', async t => {
  const link = await startMiniLink(t);
  const connection = await connect(t, link);
  const stopping = new AbortController();
  link.behaviour.connect = () => stopping.abort();
  await t.rejects(sessionOn(connection, { signal: stopping.signal }), { code: 'LINK_UNREACHABLE' });
  await t.rejects(sessionOn(connection, { signal: stopping.signal }), { code: 'LINK_UNREACHABLE' });
});
