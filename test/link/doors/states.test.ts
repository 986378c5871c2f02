/**
 * A connection has a deadline in every state: whatever its peer stops doing, it ends. The table has a row for each state of
 * a connection and each thing that a peer there can leave undone.
 */
import { once } from 'node:events';
import { connect as connectHttp2, constants } from 'node:http2';
import type { Socket } from 'node:net';
import t from 'tap';
import { linkParty } from '../../../src/audit-log/party.js';
import { formatAddress } from '../../../src/base/settings.js';
import { ControlClient } from '../../../src/control-client/control-client.js';
import { createAudit } from '../../../src/link/audit/audit.js';
import { encodeLength } from '../../../src/protocol/frames.js';
import { NodeFrame } from '../../../src/protocol/generated/rollcall/v1/link.js';
import { wireProtocol } from '../../../src/protocol/limits.js';
import { createMemoryStore } from '../../../src/store/memory.js';
import { pause } from '../../harness/attacked-link.js';
import {
  clientPreface,
  dataFrames,
  flag,
  frame,
  frameType,
  grpcHeaders,
  headerBlock,
  headers,
  settings,
} from '../../harness/http2-frames.js';
import { createManualClock } from '../../harness/manual-clock.js';
import { connectOperator } from '../../harness/operator.js';
import { framed, helloBytes, proofBytes, readyBytes } from '../../harness/raw-frames.js';
import { framed as grpcMessage } from '../../harness/raw-link.js';
import { clientHello, openStranger, openTcp } from '../../harness/stranger.js';
import { newKey, startTestLink } from '../../harness/test-link.js';

const clock = createManualClock();
const store = createMemoryStore();
const test = await startTestLink(t, { clock, store });
const { token } = test;
const ports = { node: test.link.addresses.node.port, control: test.link.addresses.control.port };

const start = Buffer.concat([clientPreface, settings()]);
/** Reads as good as nothing of any call. */
const startUnread = Buffer.concat([clientPreface, settings([[4, 1]])]);
const bearer = { authorization: `Bearer ${token}` };
const open = (path: string, more: Record<string, string> = {}): Buffer => headers(1, grpcHeaders(path, more));
const end = frame(frameType.data, flag.endStream, 1);
const empty = dataFrames(1, grpcMessage(Buffer.alloc(0)));
/** Five bytes that announce a message of twenty. */
const begun = dataFrames(1, grpcMessage(Buffer.alloc(20)).subarray(0, 8));
const openObjectsBytes = (): Uint8Array =>
  NodeFrame.encode({ frame: { $case: 'openObjects', value: { protocolVersion: 1 } } }).finish();
const nothing = Buffer.alloc(0);
const noProof = { signature: nothing, sessionPublicKey: nothing, sessionSignature: nothing, generation: 0n };

interface Row {
  readonly port: keyof typeof ports;
  readonly protocol?: 'h2' | 'http/1.1' | typeof wireProtocol;
  /** After the handshake; undefined for a peer that does not get there. */
  readonly sent: Buffer | string;
  /** True when it reads what it receives. */
  readonly reads?: boolean;
}

const node = (sent: Buffer, reads = true): Row => ({ port: 'node', protocol: wireProtocol, sent, reads });
const control = (sent: Buffer): Row => ({ port: 'control', sent });
const http = (sent: string, reads = true): Row => ({ port: 'control', protocol: 'http/1.1', sent, reads });

const getNode = '/rollcall.v1.Control/GetNode';
const listNodes = '/rollcall.v1.Control/ListNodes';
const watchNodes = '/rollcall.v1.Control/WatchNodes';
const startRun = '/rollcall.v1.Runs/StartRun';
const exportAudit = '/rollcall.v1.Administration/ExportAudit';

/** By how long after its last word the peer is gone, at the latest. */
const table: readonly (readonly [withinMs: number, rows: Readonly<Record<string, Row>>])[] = [
  [
    7_000,
    {
      'node port: nothing is asked': node(Buffer.alloc(0)),
      'node port: part of a length': node(encodeLength(50).subarray(0, 2)),
      'node port: a length alone': node(encodeLength(50)),
      'node port: part of a frame': node(framed(helloBytes(newKey())).subarray(0, 30)),
      'node port: a session without a certificate': node(framed(readyBytes())),
      'node port: objects without a certificate': node(framed(openObjectsBytes())),
      'node port: a frame that has no place': node(framed(proofBytes(noProof))),
      'node port: a refusal is not read': node(framed(readyBytes()), false),
      'control port: nothing is asked': control(Buffer.alloc(0)),
      'control port: HTTP/2 begins and nothing is asked': control(start),
      'control port: headers do not end': control(
        Buffer.concat([start, frame(frameType.headers, 0, 1, headerBlock(grpcHeaders(getNode)))]),
      ),
      'control port: a call without a token, left open': control(Buffer.concat([start, open(getNode)])),
      'control port: a call of nothing, left open': control(Buffer.concat([start, open('/a/B')])),
      'HTTP: nothing is asked': http(''),
      'HTTP: headers do not end': http('GET /healthz HTTP/1.1\r\nhost: x\r\n'),
      'HTTP: nothing more is asked': http('GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n'),
      'HTTP: nothing more is asked by one who is known': http(
        `GET /auth/me HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\n\r\n`,
      ),
    },
  ],
  [
    17_000,
    {
      'node port: a challenge is not read': node(framed(helloBytes(newKey())), false),
      'node port: a challenge is not answered': node(framed(helloBytes(newKey()))),
      'node port: half of the proof': node(
        Buffer.concat([framed(helloBytes(newKey())), encodeLength(300), Buffer.alloc(100)]),
      ),
      'HTTP: a body does not end': http(
        'POST /auth/token HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n{',
      ),
      'HTTP: a body of one who is known does not end': http(
        `POST /v1/nodes HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n{`,
      ),
    },
  ],
  [
    // By one who is known: the call ends first, and then the connection when it was idle for minutes.
    11 * 60_000,
    {
      'control port: nothing more is asked': control(
        Buffer.concat([start, open(getNode, bearer), empty, end]),
      ),
      'control port: a call without a message': control(Buffer.concat([start, open(getNode, bearer)])),
      'control port: a call with part of one': control(Buffer.concat([start, open(getNode, bearer), begun])),
      'control port: a call that is not ended': control(Buffer.concat([start, open(getNode, bearer), empty])),
      'control port: a watch without a message': control(Buffer.concat([start, open(watchNodes, bearer)])),
      'control port: an upload without a message': control(Buffer.concat([start, open(startRun, bearer)])),
      'control port: an export is not read': control(
        Buffer.concat([startUnread, open(exportAudit, bearer), empty, end]),
      ),
      'control port: a watch whose peer is not there': control(
        Buffer.concat([start, open(watchNodes, bearer), empty, end]),
      ),
      'HTTP: an export is not read': http(
        `GET /v1/audit/export HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\n\r\n`,
        false,
      ),
    },
  ],
];

async function connect({ port, protocol = 'h2', sent, reads = true }: Row): Promise<Socket> {
  const { socket } = await openStranger({
    port: ports[port],
    from: '127.0.0.1',
    tls: { ALPNProtocols: [protocol] },
  });
  if (!reads) socket.pause();
  if (sent.length > 0) socket.write(sent);
  return socket;
}

/** The link has received everything that was sent before. */
async function settle(): Promise<void> {
  await (await test.connect()).close();
  await pause(20);
}

/** Some 10 MB: more than the buffers on the way hold. */
async function fillLog(): Promise<void> {
  const audit = createAudit({ clock });
  const event = { type: 'user.changed', subject: 'x'.repeat(1_000), by: linkParty } as const;
  for (let count = 0; count < 8; count += 1)
    await store.commit(Array.from({ length: 1_000 }, () => audit.auditChange('default', event)));
}

/** Lets time pass, with a turn of everything in between. */
async function advance(ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 500) {
    clock.advance(500);
    await pause(0);
  }
}

async function isGone(socket: Socket): Promise<boolean> {
  // A socket that is not read from never notices its end.
  socket.resume();
  for (let looks = 0; looks < 400 && !socket.closed; looks += 1) await pause(5);
  return socket.closed;
}

void t.test('a connection has a deadline in every state', async t => {
  await fillLog();
  const silent = await openTcp({ port: ports.node, from: '127.0.0.1' });
  const half = await openTcp({ port: ports.control, from: '127.0.0.1' });
  half.write((await clientHello()).subarray(0, 20));
  const sockets = new Map<string, Socket>();
  for (const [, rows] of table)
    for (const [state, row] of Object.entries(rows)) sockets.set(state, await connect(row));
  await settle();
  let passedMs = 0;
  for (const [withinMs, rows] of table) {
    await advance(withinMs - passedMs);
    passedMs = withinMs;
    for (const state of Object.keys(rows)) {
      const socket = sockets.get(state);
      if (socket) t.ok(await isGone(socket), `${state} (${withinMs / 1000} s)`);
    }
    if (silent.closed) continue;
    t.ok(await isGone(silent), 'nothing is sent');
    t.ok(await isGone(half), 'the handshake does not end');
  }
});

void t.test('a response that its peer does not read is ended, although the peer is alive', async t => {
  await test.register(newKey());
  const { socket } = await openStranger({ port: ports.control, from: '127.0.0.1' });
  const session = connectHttp2('https://localhost', {
    createConnection: () => socket,
    settings: { initialWindowSize: 1 },
  });
  t.teardown(() => session.destroy());
  const call = session.request({ ...Object.fromEntries(grpcHeaders(listNodes)), ...bearer });
  call.on('error', () => undefined).end(grpcMessage(Buffer.alloc(0)));
  await once(call, 'response');
  const closed = once(call, 'close');
  await advance(12_000);
  await closed;
  t.equal(call.rstCode, constants.NGHTTP2_CANCEL);
  t.notOk(session.destroyed, 'the connection stays');
});

void t.test('a client repeats a call when the link closes its idle or refused connection', async t => {
  const clock = createManualClock();
  const { link, ca, token, control } = await startTestLink(t, { clock });
  const address = formatAddress(link.addresses.control);
  const ours = (each: string) => new ControlClient({ address, rootCertificates: ca, token: each });
  const clients = { good: ours(token), bad: ours('nonsense') };
  t.teardown(() => Object.values(clients).forEach(each => each.close()));
  const theirs = connectOperator(address, 'nonsense', ca);
  t.teardown(() => theirs.close());
  const ask: Record<string, () => Promise<unknown>> = {
    'ours, refused': () => clients.bad.nodes.get('1'),
    'ours, known': () => clients.good.nodes.get('1'),
    'bare, refused': () => theirs.getNode({ node: '1' }),
    'bare, known': () => control.getNode({ node: '1' }),
  };
  const codesNow = () =>
    Promise.all(
      Object.values(ask).map(each => each().catch((error: unknown) => (error as { code: string }).code)),
    );
  const expected = ['TOKEN_REFUSED', 'NODE_NOT_FOUND', 'TOKEN_REFUSED', 'NODE_NOT_FOUND'];
  t.same(await codesNow(), expected);
  for (const ms of [1_600, 400_000, 1_600, 400_000]) {
    // The link announces that it closes, and the next call leaves before the announcement arrives.
    clock.advance(ms);
    t.same(await codesNow(), expected, `after ${ms} ms`);
  }
});
