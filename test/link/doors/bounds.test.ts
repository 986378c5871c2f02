/** Everything that a party can make the link hold is bounded for that party; an unauthenticated party is a network. */
import { once } from 'node:events';
import type { ClientHttp2Stream, IncomingHttpHeaders } from 'node:http2';
import type { Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import t, { type Test } from 'tap';
import { credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import type { Clock } from '../../../src/base/clock.js';
import { isRollcallError, RollcallError } from '../../../src/base/errors.js';
import { networkOf } from '../../../src/base/network.js';
import type { User } from '../../../src/link/access/accounts/users.js';
import { rates } from '../../../src/link/doors/access-table.js';
import { Doorkeeper } from '../../../src/link/doors/doorkeeper.js';
import { encodeEvent, toNodeEvent } from '../../../src/link/doors/grpc/control-codec.js';
import { maxBehind, NodeWatch } from '../../../src/link/doors/grpc/node-watch.js';
import { uploadBounds } from '../../../src/link/doors/grpc/run-upload.js';
import { HeldRights } from '../../../src/link/doors/held-rights.js';
import { knownBounds, KnownConnections } from '../../../src/link/doors/known-connections.js';
import { requestBounds } from '../../../src/link/doors/open-requests.js';
import { Connection } from '../../../src/link/doors/tls/connection.js';
import { PendingConnections } from '../../../src/link/doors/tls/pending-connections.js';
import { EnrollmentSlots, type Slot } from '../../../src/link/enrollment/slots.js';
import { NodeFeed } from '../../../src/link/registry/node-feed.js';
import type { NodeRecord } from '../../../src/link/registry/node-record.js';
import { NodeEvent, NodeStatus, type Node } from '../../../src/protocol/generated/rollcall/v1/control.js';
import {
  RunsClient,
  type NewRun,
  type StartRunRequest,
} from '../../../src/protocol/generated/rollcall/v1/runs.js';
import { fromGrpcStatus } from '../../../src/protocol/status.js';
import { pause } from '../../harness/attacked-link.js';
import { createManualClock } from '../../harness/manual-clock.js';
import { ignoredRefusals, asLoggedIn, connectOperator } from '../../harness/operator.js';
import { connectHttp2, framed } from '../../harness/raw-link.js';
import { openRunPort, type RunPort } from '../../harness/run-port.js';
import { newKey } from '../../harness/test-link.js';

/** The n-th address of one customer, who has 2^64 of them. */
const neighbour = (n: number): string => `2001:db8:1:2:${(n >> 8).toString(16)}::${(n & 255).toString(16)}`;
const elsewhere = '2001:db8:1:3::1';

const principal = asLoggedIn({ id: 'user:1', name: 'ada', tenant: 'default', roles: [] } as unknown as User);

function codeOf(act: () => unknown): string {
  try {
    act();
    return 'ok';
  } catch (error) {
    return isRollcallError(error) ? error.code : String(error);
  }
}

void t.test('an IPv6 /64 that holds all slots for enrollments yields one to another network', t => {
  const clock = createManualClock();
  const evicted: Slot[] = [];
  const slots = new EnrollmentSlots<Slot>({ max: 600, clock, onEvicted: slot => void evicted.push(slot) });
  const slotOf = (remoteAddress: string): Slot => ({ remoteAddress, isProving: false, isEvicted: false });
  const taken = Array.from({ length: 600 }, (_, n) => slots.take(slotOf(neighbour(n))));
  t.ok(taken.every(each => each));
  t.notOk(slots.take(slotOf(neighbour(600))), 'the same network gets no more');
  t.ok(slots.take(slotOf(elsewhere)), 'another one gets a slot');
  t.same(evicted, [{ remoteAddress: neighbour(0), isProving: false, isEvicted: true }]);
  t.end();
});

void t.test('the addresses of an IPv6 /64 share one limit of unauthenticated connections', t => {
  const pending = new PendingConnections({ total: 100, perAddress: 10 });
  const connectionOf = (remoteAddress: string): Connection =>
    new Connection({ remoteAddress } as unknown as Socket, createManualClock(), () => undefined);
  const held = Array.from({ length: 10 }, (_, n) => connectionOf(neighbour(n)));
  for (const connection of held) pending.add(connection);
  t.equal(pending.evictFor(networkOf(neighbour(77))), held[0]);
  t.equal(pending.evictFor(networkOf(elsewhere)), undefined);
  t.end();
});

function makeDoorkeeper(clock: Clock = createManualClock()) {
  return new Doorkeeper({
    authenticate: ({ authorization }) =>
      authorization ? Promise.resolve(principal) : Promise.reject(new RollcallError('TOKEN_REFUSED', 'no')),
    refusals: ignoredRefusals,
    clock,
    requireAuth: false,
  });
}

const originOf = (address: string) => ({ address, requestId: 'test', userAgent: '' });

void t.test('the addresses of an IPv6 /64 share one rate of unauthenticated requests', async t => {
  const doorkeeper = makeDoorkeeper();
  const ask = (address: string) =>
    doorkeeper.admit(
      { access: 'open', rate: 'login' },
      { authorization: undefined, origin: originOf(address) },
    );
  for (let n = 0; n < rates.login; n += 1) await ask(neighbour(n));
  await t.rejects(ask(neighbour(999)), { code: 'RATE_LIMITED' });
  await ask(elsewhere);
});

void t.test('a flood of networks does not evict one that is over its rate', async t => {
  const doorkeeper = makeDoorkeeper();
  const asked = { access: 'anyone', rate: 'login' } as const;
  const ask = () => doorkeeper.admit(asked, { authorization: 'Bearer x', origin: originOf('192.0.2.1') });
  for (let n = 0; n < rates.login; n += 1) await ask();
  await t.rejects(ask(), { code: 'RATE_LIMITED' });
  for (let n = 0; n < 20_001; n += 1) {
    const origin = originOf(`10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`);
    await doorkeeper.admit({ access: 'open', rate: 'login' }, { authorization: undefined, origin });
  }
  await t.rejects(ask(), { code: 'RATE_LIMITED' });
});

void t.test('concurrent requests and unread responses are bounded for each caller', t => {
  const doorkeeper = makeDoorkeeper();
  const enter = (unread = 0, who = { principal, address: '192.0.2.1' }) =>
    doorkeeper.enter(who, { unreadBytes: () => unread });
  const entered = Array.from({ length: requestBounds.requests }, () => enter());
  t.equal(
    codeOf(() => enter()),
    'LINK_BUSY',
  );
  const stranger = (address: string) => ({ principal: undefined, address }) as never;
  t.equal(
    codeOf(() => enter(0, stranger(neighbour(0)))),
    'ok',
    'a stranger is another party',
  );
  entered[0]?.leave();
  const reading = enter(requestBounds.unreadBytes - 1);
  reading.requireReader();
  entered[1]?.leave();
  enter(1);
  t.equal(
    codeOf(() => reading.requireReader()),
    'LINK_BUSY',
  );
  reading.leave();
  t.equal(
    codeOf(() => entered[2]?.requireReader()),
    'ok',
    'what was read or given up does not count',
  );
  t.end();
});

void t.test('connections with a valid token are bounded for each principal and each network', t => {
  const clock = createManualClock();
  const rights = new HeldRights({ watchRights: () => () => undefined, clock });
  const known = new KnownConnections({ rights, clock });
  t.teardown(() => {
    known.close();
    rights.close();
  });
  const connectionOf = (remoteAddress: string) => {
    let close = (): void => undefined;
    const connection = {
      ...{ remoteAddress, network: networkOf(remoteAddress), authenticated: false, destroyed: false },
      ...{ bytesRead: 0, calls: 0, quietMs: () => 0, retire: () => undefined },
      onClosed: (listener: () => void) => void (close = listener),
    };
    return { connection: connection as unknown as Connection, close: () => close() };
  };
  const recognise = (connection: Connection, id: string) =>
    codeOf(() => known.recognise(connection, { ...principal, id }));
  const mine = Array.from({ length: knownBounds.perPrincipal }, (_, n) => connectionOf(neighbour(n)));
  t.ok(mine.every(({ connection }) => recognise(connection, 'user:1') === 'ok'));
  t.equal(recognise(connectionOf(elsewhere).connection, 'user:1'), 'LINK_BUSY', 'wherever it comes from');
  for (const { connection } of mine)
    t.equal(recognise(connection, 'user:1'), 'ok', 'one that counts goes on');
  mine[0]?.close();
  t.equal(recognise(connectionOf(elsewhere).connection, 'user:1'), 'ok', 'one that is closed makes room');
  for (let n = mine.length - 1; n < knownBounds.perNetwork; n += 1)
    recognise(connectionOf(neighbour(n)).connection, `user:${n}`);
  t.equal(recognise(connectionOf(neighbour(0)).connection, 'user:new'), 'LINK_BUSY', 'of one network');
  t.end();
});

void t.test('a change of a node is read and encoded once for all watchers', t => {
  let heard = 0;
  let tell: (node: NodeRecord) => void = () => undefined;
  const feed = new NodeFeed({
    watchNodes(_, listener) {
      heard += 1;
      tell = listener;
      return () => void (heard -= 1);
    },
  });
  const seen: NodeRecord[] = [];
  const stops = Array.from({ length: 6_400 }, () => feed.listen('default', node => void seen.push(node)));
  const stopOther = feed.listen('other', () => t.fail('of another tenant'));
  t.equal(heard, 1);
  tell(nodeRecord(1n));
  t.equal(new Set(seen).size, 1);
  const events = seen.map(node => toNodeEvent(node));
  t.equal(new Set(events.map(event => encodeEvent(event))).size, 1);
  for (const stop of [...stops, stopOther]) stop();
  t.equal(heard, 0);
  t.end();
});

/** Labels of some 6 kB. */
const largeLabels = Object.fromEntries(Array.from({ length: 32 }, (_, n) => [`label-${n}`, 'x'.repeat(120)]));

interface Reader {
  call(path: string, request: Uint8Array): ClientHttp2Stream;
  /** Lets so many bytes of each call come; at first one, or its end. */
  read(windowBytes: number): Promise<void>;
}

/** A caller that reads as much as the test directs. */
async function openReader(
  t: Test,
  { port, ca, token }: Pick<RunPort, 'port' | 'ca' | 'token'>,
): Promise<Reader> {
  const socket = connectTls({ host: '127.0.0.1', port, ca, ALPNProtocols: ['h2'] });
  const peer = connectHttp2(socket);
  const { session } = peer;
  t.teardown(() => peer.destroy());
  await once(session, 'remoteSettings');
  const read = async (initialWindowSize: number): Promise<void> => {
    session.settings({ initialWindowSize });
    await once(session, 'localSettings');
  };
  await read(1);
  // Of all calls together; each has its own besides.
  session.setLocalWindowSize(2 ** 24);
  return {
    read,
    call(path, request) {
      const headers = {
        ...{ ':method': 'POST', ':path': path, te: 'trailers' },
        ...{ 'content-type': 'application/grpc', authorization: `Bearer ${token}` },
      };
      return session
        .request(headers)
        .on('error', () => undefined)
        .end(framed(request));
    },
  };
}

void t.test(
  'a watch that is not read queues nothing, and resumes with the present state of the nodes',
  async t => {
    const site = await openRunPort(t);
    const operator = connectOperator(site.address(), site.token, site.ca);
    t.teardown(() => operator.close());
    const reader = await openReader(t, site);
    const watch = reader.call('/rollcall.v1.Control/WatchNodes', Buffer.alloc(0));
    await once(watch, 'response');
    const count = 150;
    const ids: bigint[] = [];
    for (let n = 0; n < count; n += 1) {
      const publicKey = newKey().publicKey.spki;
      ids.push((await operator.registerNode({ publicKey, name: '', labels: largeLabels, again: false })).id);
    }
    for (const id of ids) await operator.revokeNode({ node: `${id}`, comment: '' });
    let bytes = Buffer.alloc(0);
    const seen: Node[] = [];
    const latest = new Map<bigint, NodeStatus>();
    const isRevoked = (id: bigint): boolean => latest.get(id) === NodeStatus.NODE_STATUS_REVOKED;
    watch.on('data', (part: Buffer) => {
      bytes = Buffer.concat([bytes, part]);
      while (bytes.length >= 5 && bytes.length >= 5 + bytes.readUInt32BE(1)) {
        const end = 5 + bytes.readUInt32BE(1);
        const { node } = NodeEvent.decode(bytes.subarray(5, end));
        bytes = bytes.subarray(end);
        if (!node) continue;
        seen.push(node);
        latest.set(node.id, node.status);
      }
    });
    await reader.read(2 ** 24);
    while (!ids.every(isRevoked)) await once(watch, 'data');
    t.ok(seen.length < 1.5 * count, `${seen.length} events of ${2 * count} changes`);
    const before = seen.length;
    const publicKey = newKey().publicKey.spki;
    const { id } = await operator.registerNode({ publicKey, name: '', labels: {}, again: false });
    await operator.revokeNode({ node: `${id}`, comment: '' });
    while (!isRevoked(id)) await once(watch, 'data');
    const { NODE_STATUS_CREATED: created, NODE_STATUS_REVOKED: revoked } = NodeStatus;
    const news = seen.slice(before).map(({ status }) => status);
    t.same(news, [created, revoked], 'one that has caught up is told each change again');
  },
);

void t.test(
  'a watcher that is behind on too many nodes gets the present state of every node once',
  async t => {
    const nodes = Array.from({ length: 3 * maxBehind }, (_, n) => nodeRecord(BigInt(n + 1)));
    const told: bigint[] = [];
    const full = createGate();
    const reader = {
      hasRoom: false,
      isOver: () => false,
      write: ({ node }: NodeEvent) => void told.push(node?.id ?? 0n),
      room: () => full.opened,
    };
    const control = {
      listNodes: (_: unknown, { pageToken = '0', pageSize = 100 }) => {
        const from = Number(pageToken);
        const next = from + pageSize < nodes.length ? `${from + pageSize}` : '';
        return Promise.resolve({ nodes: nodes.slice(from, from + pageSize), nextPageToken: next });
      },
      getNode: (_: unknown, id: string) => Promise.resolve(nodeRecord(BigInt(id))),
    };
    const onFailure = (error: unknown): void => void t.fail(String(error));
    const watch = new NodeWatch({ control, reader, principal, onFailure });
    for (const node of nodes.slice(0, maxBehind)) watch.changed(node);
    full.open();
    while (told.length < maxBehind) await pause(1);
    t.equal(new Set(told.splice(0)).size, maxBehind, 'so many are told one by one');
    full.close();
    for (const node of nodes) watch.changed(node);
    full.open();
    while (told.length < nodes.length) await pause(1);
    await pause(5);
    t.equal(told.length, nodes.length);
    t.equal(new Set(told).size, nodes.length, 'all, and none twice');
  },
);

function nodeRecord(id: bigint): NodeRecord {
  const record = { tenant: 'default', id, labels: {}, status: 'online', spki: Buffer.of(), sinceAt: 1 };
  return { ...record, registeredAt: 1 } as unknown as NodeRecord;
}

/** Something to wait at while it is closed. */
function createGate() {
  let open = (): void => undefined;
  const gate = {
    opened: Promise.resolve(),
    close: () => void (gate.opened = new Promise(resolve => (open = resolve))),
    open: () => open(),
  };
  gate.close();
  return gate;
}

void t.test('responses that are requested and not read do not accumulate', async t => {
  const site = await openRunPort(t);
  const operator = connectOperator(site.address(), site.token, site.ca);
  t.teardown(() => operator.close());
  for (let n = 0; n < 100; n += 1) {
    const publicKey = newKey().publicKey.spki;
    await operator.registerNode({ publicKey, name: '', labels: largeLabels, again: false });
  }
  const reader = await openReader(t, site);
  let refused = 0;
  const calls = Array.from({ length: 40 }, () =>
    reader
      .call('/rollcall.v1.Control/ListNodes', Buffer.alloc(0))
      .on(
        'trailers',
        (fields: IncomingHttpHeaders) => void (refused += fields['rollcall-code'] === 'LINK_BUSY' ? 1 : 0),
      ),
  );
  await Promise.all(calls.map(call => once(call, 'response')));
  // Some 450 kB each: so many fit, and one more that was begun when there was still room.
  const fits = Math.ceil(requestBounds.unreadBytes / 450_000) + 1;
  for (let looks = 0; looks < 1_000 && refused < 40 - fits; looks += 1) await pause(5);
  t.ok(refused >= 40 - fits, `${refused} of 40 are refused`);
  t.ok(refused < 30, 'some are answered');
});

const newRun: NewRun = {
  appName: 'hello',
  appVersion: '1.0.0',
  appDigest: Buffer.alloc(32, 1),
  signer: newKey().publicKey.spki,
  signature: Buffer.from('signature'),
  configJson: '',
  archiveBytes: 64n * 1024n * 1024n,
  idempotencyKey: '',
};

function upload(
  t: Test,
  site: RunPort,
  token: string,
  parts: readonly StartRunRequest['part'][],
  isWhole = false,
) {
  const client = new RunsClient(`localhost:${site.port}`, credentials.createSsl(Buffer.from(site.ca)));
  t.teardown(() => client.close());
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${token}`);
  let end: (code: string) => void = () => undefined;
  const outcome = new Promise<string>(resolve => (end = resolve));
  const call = client.startRun(metadata, (error: ServiceError | null) =>
    end(error ? fromGrpcStatus(error).code : 'started'),
  );
  call.on('error', () => undefined);
  for (const part of parts) call.write({ part });
  if (isWhole) call.end();
  return { call, outcome };
}

const piece = (bytes: number): StartRunRequest['part'] => ({
  $case: 'archive',
  value: Buffer.alloc(bytes, 1),
});
const small: readonly StartRunRequest['part'][] = [
  { $case: 'run', value: { ...newRun, archiveBytes: 4n } },
  piece(4),
];

void t.test(
  'uploads of apps that are announced or slow do not block the uploads of others, and are ended',
  async t => {
    const clock = createManualClock();
    const site = await openRunPort(t, { clock });
    const others = await site.person('olga', ['admin']);
    const slow = Array.from({ length: uploadBounds.places.perPrincipal }, () =>
      upload(t, site, site.token, [{ $case: 'run', value: newRun }, piece(1)]),
    );
    // All four are there once the same caller gets no fifth.
    for (let code = ''; code !== 'LINK_BUSY';) code = await upload(t, site, site.token, small, true).outcome;
    t.equal(await upload(t, site, others.token, small, true).outcome, 'started', 'another one uploads');
    for (const { call } of slow) call.write({ part: piece(1) });
    clock.advance(uploadBounds.slowStartMs + 2_000);
    t.same(
      await Promise.all(slow.map(each => each.outcome)),
      slow.map(() => 'DEADLINE_EXCEEDED'),
    );
    t.equal(await upload(t, site, site.token, small, true).outcome, 'started');
  },
);

void t.test('uploaded apps are bounded for each principal and each tenant', async t => {
  const { perPrincipal, perTenant, inAll } = uploadBounds.bytes;
  t.ok(
    perPrincipal <= perTenant / 2 && perTenant <= inAll / 2,
    'one tenant, or one principal, has half at most',
  );
  const { places } = uploadBounds;
  t.ok(places.perPrincipal <= places.perTenant / 2 && places.perTenant <= places.inAll / 2);
  const site = await openRunPort(t);
  const halfMebibytes = 8;
  const pieces = Array.from({ length: halfMebibytes * 9 }, () => piece(60 * 1024));
  const held = Array.from({ length: 4 }, () =>
    upload(t, site, site.token, [{ $case: 'run', value: newRun }, ...pieces]),
  );
  for (const { call } of held) call.cancel();
  await Promise.all(held.map(each => each.outcome));
  // Given back, or sixteen times as much would not fit.
  for (let round = 0; round < 4; round += 1) {
    const whole = { ...newRun, archiveBytes: BigInt(pieces.length * 60 * 1024) };
    const { outcome } = upload(t, site, site.token, [{ $case: 'run', value: whole }, ...pieces], true);
    t.equal(await outcome, 'started');
  }
});
