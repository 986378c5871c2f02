/**
 * Floods and soaks on the connection, and the faults of machines and networks that look like them: a peer that is
 * stopped, a link that is stopped, packets that vanish. The attacks of one blow are in connection.test.ts.
 */
import t, { type Test } from 'tap';
import { writeFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { startRollcall, type Running } from '../../scripts/running.js';
import { formatOpensshPrivate } from '../../src/identity/openssh.js';
import { encodeLength } from '../../src/protocol/frames.js';
import { attacksOn, eventually, pause, startAttackedLink } from '../harness/attacked-link.js';
import {
  clientPreface,
  dataFrames,
  frame,
  frameType,
  grpcHeaders,
  headerBlock,
  headers,
  resetStream,
  settings,
  windowUpdate,
} from '../harness/http2-frames.js';
import { framed, helloBytes, readyBytes } from '../harness/raw-frames.js';
import { gone, openTcp, pour } from '../harness/stranger.js';
import { startSwallowingProxy } from '../harness/swallowing-proxy.js';
import { newKey, statusName } from '../harness/test-link.js';

/** A call of the control port that a stranger may try. */
const list = '/rollcall.v1.Control/ListNodes';
const start = Buffer.concat([clientPreface, settings()]);
const open = Buffer.concat([start, headers(1, grpcHeaders(list))]);
const floodMs = 15_000;
/** Memory that a flood may use while it lasts, MB. */
const floodMb = 256;

const link = await startAttackedLink(t);
const attack = attacksOn(t, link, 40);

/** Attackers who come back at once, each from an address of its own, while honest nodes go on enrolling. */
async function besiege(t: Test, attackers: number, assault: (from: string) => Promise<void>): Promise<void> {
  const end = performance.now() + floodMs;
  const before = link.memoryMb();
  let assaults = 0;
  let max = 0;
  const all = Array.from({ length: attackers }, async (_, position) => {
    while (performance.now() < end && link.alive()) {
      await assault(`127.0.2.${position + 1}`);
      assaults += 1;
      // Nothing of what came back is kept for later.
      link.told.splice(50);
    }
  });
  while (performance.now() < end) {
    await link.honest(t);
    max = Math.max(max, link.memoryMb());
    await pause(500);
  }
  await Promise.all(all);
  t.ok(max - before < floodMb, `${assaults} assaults; memory ${Math.round(before)} → ${Math.round(max)} MB`);
}

/** Sends the opening and then the part, again and again, until it is cut off. */
function flood(port: 'nodePort' | 'controlPort', opening: Buffer, part: Buffer, isRead = true) {
  return async (from: string): Promise<void> => {
    const { socket } = await link.stranger(from, {}, link[port]);
    if (!isRead) socket.pause();
    socket.write(opening);
    await pour(socket, part);
  };
}

const repeat = (count: number, make: (position: number) => Buffer): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, position) => make(position)));
const pings = repeat(1_000, () => frame(frameType.ping, 0, 0, Buffer.alloc(8)));
const manySettings = repeat(1_000, position => settings([[3, position]]));
const resets = repeat(20_000, position =>
  Buffer.concat([headers(2 * position + 1, grpcHeaders(list)), resetStream(2 * position + 1)]),
);
const started = Buffer.concat([start, frame(frameType.headers, 0, 1, headerBlock(grpcHeaders(list)))]);
const entries = frame(frameType.continuation, 0, 1, Buffer.alloc(16_384, 0x84));
const floods: readonly (readonly [string, Buffer, Buffer])[] = [
  ['PING', open, pings],
  ['SETTINGS', open, manySettings],
  ['WINDOW_UPDATE', open, repeat(1_000, () => windowUpdate(1, 1))],
  ['empty DATA', open, repeat(1_000, () => frame(frameType.data, 0, 1))],
  ['600,000 empty messages and more', open, dataFrames(1, Buffer.alloc(65_535))],
  ['calls reset at once', start, resets],
  ['CONTINUATION', started, frame(frameType.continuation, 0, 1, Buffer.from('00016101', 'hex'))],
  ['header entries', started, entries],
  ['unknown frames', open, repeat(1_000, () => frame(0xbe, 0, 0, Buffer.alloc(8)))],
];

const many = (count: number, part: Buffer): Buffer => Buffer.concat(Array<Buffer>(count).fill(part));
const hello = framed(helloBytes(newKey()));
const frameFloods: readonly (readonly [string, Buffer, Buffer])[] = [
  ['empty frames', Buffer.alloc(0), Buffer.alloc(64_000)],
  ['empty frames after a Hello', hello, Buffer.alloc(64_000)],
  ['Hellos', hello, many(100, hello)],
  ['a frame that never ends', encodeLength(16 * 1024), Buffer.alloc(16_384, 1)],
  ['a length that lies', encodeLength(0xffffffff), Buffer.alloc(65_536)],
  ['frames of a session', Buffer.alloc(0), many(1_000, framed(readyBytes()))],
];

/** One attacker for each kind, who keeps to it. */
function byKind(kinds: readonly ((from: string) => Promise<void>)[]): (from: string) => Promise<void> {
  let next = 0;
  const byAddress = new Map<string, (from: string) => Promise<void>>();
  return from => {
    const kind = byAddress.get(from) ?? kinds[next++ % kinds.length];
    if (!kind) throw new Error('no flood');
    byAddress.set(from, kind);
    return kind(from);
  };
}

attack('the link survives floods of frames from attackers that reconnect at once', async t => {
  const kinds = [
    ...frameFloods.map(([, opening, part]) => flood('nodePort', opening, part)),
    ...floods.map(([, opening, part]) => flood('controlPort', opening, part)),
  ];
  await besiege(t, kinds.length, byKind(kinds));
});

attack('the link survives floods of frames that request replies and never read them', async t => {
  const kinds = [
    flood('controlPort', open, pings, false),
    flood('controlPort', start, manySettings, false),
    flood('nodePort', hello, many(100, hello), false),
  ];
  await besiege(t, 6, byKind(kinds));
});

const tokenRoutes = ['POST /auth/setup', 'POST /auth/token', 'POST /auth/revoke', 'GET /v1/link'];

attack('64 endless bodies to every route without a token are refused', async t => {
  const chunk = Buffer.concat([Buffer.from('10000\r\n'), Buffer.alloc(65_536, 'a'), Buffer.from('\r\n')]);
  const bodies: Promise<number>[] = [];
  for (const request of ['POST /healthz', 'GET /readyz', 'POST /metrics', 'PUT /v1/nodes', ...tokenRoutes]) {
    for (let count = 0; count < 64; count += 1) {
      bodies.push(
        link
          .stranger('127.0.3.1', { ALPNProtocols: ['http/1.1'] }, link.controlPort)
          .then(async ({ socket }) => {
            socket.write(`${request} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n`);
            await pour(socket, chunk);
            return socket.bytesWritten;
          }),
      );
    }
  }
  for (const path of [list, '/rollcall.v1.Control/RegisterNode', '/a/B']) {
    for (let count = 0; count < 64; count += 1) {
      bodies.push(
        link.stranger('127.0.3.2', {}, link.controlPort).then(async ({ socket }) => {
          socket.write(Buffer.concat([start, headers(1, grpcHeaders(path))]));
          await pour(socket, dataFrames(1, Buffer.alloc(65_536)));
          return socket.bytesWritten;
        }),
      );
    }
  }
  for (const opening of [encodeLength(16 * 1024), framed(helloBytes(newKey())), framed(readyBytes())]) {
    for (let count = 0; count < 64; count += 1) {
      bodies.push(
        link.stranger('127.0.3.2').then(async ({ socket }) => {
          socket.write(opening);
          await pour(socket, Buffer.alloc(65_536, 1));
          return socket.bytesWritten;
        }),
      );
    }
  }
  await link.honest(t);
  const written = (await Promise.all(bodies)).reduce((sum, each) => sum + each, 0);
  t.ok(written < 64e9, `${bodies.length} bodies were cut off after ${Math.round(written / 1e6)} MB together`);
});

attack('3,000 idle sockets, before and after the handshake, are closed in time', async t => {
  const plain = await Promise.all(
    Array.from({ length: 2_000 }, (_, position) =>
      openTcp({ port: link.nodePort, from: `127.0.4.${position % 4}` }),
    ),
  );
  await link.honest(t);
  const secured: Socket[] = [];
  for (let position = 0; position < 1_000; position += 50) {
    const some = Array.from({ length: 50 }, (_, n) => link.stranger(`127.0.5.${n % 4}`));
    secured.push(...(await Promise.all(some)).map(({ socket }) => socket));
  }
  await link.honest(t);
  const left = (): number => [...plain, ...secured].filter(socket => !socket.closed).length;
  t.ok(await eventually(() => left() === 0), `${left()} of 3,000 are still there`);
});

attack('more sockets than the limit from one address do not lock out honest nodes behind it', async t => {
  const from = '127.0.0.1';
  const sockets = await Promise.all(
    Array.from({ length: 3_000 }, () => openTcp({ port: link.nodePort, from })),
  );
  const key = newKey();
  await link.register(key);
  const entered = await eventually(() =>
    link.enroll(key).then(
      () => true,
      () => false,
    ),
  );
  t.ok(entered, 'from the very same address an honest node gets in once the others are stale');
  await Promise.all(sockets.map(gone));
});

attack('the link survives 30 s of calls with random contents and of invalid frames', async t => {
  // A seed, so that what it finds can be found again.
  let state = 0x5eed;
  const chance = (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return (state >> 8) % below;
  };
  const noise = (length: number): Buffer => Buffer.from(Array.from({ length }, () => chance(256)));
  const call = (): Buffer => {
    const id = 2 * chance(4) + 1;
    return Buffer.concat([headers(id, grpcHeaders(list)), dataFrames(id, noise(chance(300) + 1))]);
  };
  const frameOf = (): Buffer => (chance(3) ? framed(noise(chance(300))) : hello);
  const end = performance.now() + 30_000;
  let connections = 0;
  const one = async (from: string): Promise<void> => {
    while (performance.now() < end && link.alive()) {
      const isNode = chance(4) > 0;
      const { socket } = await link.stranger(from, {}, isNode ? link.nodePort : link.controlPort);
      if (!isNode) socket.write(start);
      for (let count = chance(6); count >= 0; count -= 1) socket.write(isNode ? frameOf() : call());
      if (chance(2)) socket.write(noise(chance(200) + 1));
      socket.end();
      await gone(socket);
      connections += 1;
      link.told.splice(50);
    }
  };
  const all = ['127.0.6.1', '127.0.6.2', '127.0.6.3', '127.0.6.4'].map(one);
  while (performance.now() < end) {
    await link.honest(t);
    await pause(2_000);
  }
  await Promise.all(all);
  t.ok(link.alive(), `${connections} connections`);
});

// Faults without an attacker.

interface Agent {
  readonly id: string;
  running: Running;
  /** Ends nothing: starts another one of the same node. */
  again(address?: string): Promise<void>;
}

async function startAgent(t: Test, name: string, address = link.node): Promise<Agent> {
  const key = newKey();
  const id = `${await link.register(key)}`;
  const keyFile = join(link.folder, `${name}.key`);
  await writeFile(keyFile, formatOpensshPrivate(key, name), { mode: 0o600 });
  const run = async (to: string): Promise<Running> => {
    const running = startRollcall([
      ...['node', '--link', to, '--root-certificates', join(link.folder, 'ca.crt')],
      ...['--auth-private-key', keyFile, '--state-dir', join(link.folder, `state-${name}`)],
    ]);
    t.teardown(() => running.stop('SIGKILL'));
    await running.says('online');
    return running;
  };
  const agent: Agent = {
    id,
    running: await run(address),
    async again(to = link.node) {
      agent.running = await run(to);
    },
  };
  return agent;
}

async function becomes(t: Test, id: string, status: string): Promise<void> {
  const became = await eventually(
    async () => statusName(await link.control.getNode({ node: id })) === status,
    90_000,
  );
  t.ok(became, `it is ${status}`);
}

async function history(id: string): Promise<string[]> {
  const { transitions } = await link.control.listNodeHistory({ node: id, pageSize: 0, pageToken: '' });
  return transitions.map(({ reason }) => reason);
}

void t.test('a node stopped by SIGSTOP is offline (no answer), and reconnects by itself', async t => {
  const agent = await startAgent(t, 'stopped');
  agent.running.process.kill('SIGSTOP');
  await becomes(t, agent.id, 'offline');
  t.equal((await history(agent.id))[0], 'no answer');
  agent.running.process.kill('SIGCONT');
  await becomes(t, agent.id, 'online');
  await agent.running.stop();
});

void t.test(
  'a node behind a network that drops everything is offline, and back on a new connection',
  async t => {
    const proxy = await startSwallowingProxy(t, link.nodePort);
    const agent = await startAgent(t, 'swallowed', proxy.address);
    proxy.swallow();
    await becomes(t, agent.id, 'offline');
    t.equal((await history(agent.id))[0], 'no answer');
    await becomes(t, agent.id, 'online');
    await agent.running.stop();
  },
);

void t.test('a node killed behind a dead network can reconnect before its old session ends', async t => {
  const proxy = await startSwallowingProxy(t, link.nodePort);
  const agent = await startAgent(t, 'ghost', proxy.address);
  proxy.swallow();
  await agent.running.stop('SIGKILL');
  t.equal(statusName(await link.control.getNode({ node: agent.id })), 'online', 'the ghost is still there');
  await agent.again();
  t.ok(
    (await history(agent.id)).every(reason => reason !== 'no answer'),
    'it did not have to wait',
  );
  await becomes(t, agent.id, 'online');
  await agent.running.stop();
});

void t.test('a link that is stopped for a few seconds keeps its sessions', async t => {
  const agent = await startAgent(t, 'patient');
  const before = (await history(agent.id)).length;
  process.kill(link.pid, 'SIGSTOP');
  await pause(8_000);
  process.kill(link.pid, 'SIGCONT');
  await link.honest(t);
  // Longer than a ping and its answer take.
  await pause(15_000);
  await becomes(t, agent.id, 'online');
  t.equal((await history(agent.id)).length, before, 'the node was online all the time');
  await agent.running.stop();
});

void t.test('a link that is stopped for longer than the patience of nodes gets them all back', async t => {
  const agents = await Promise.all(['one', 'two', 'three'].map(name => startAgent(t, name)));
  process.kill(link.pid, 'SIGSTOP');
  // Nodes give up on it, and those who connect meanwhile are kept waiting in the queue of the kernel.
  const sockets = await Promise.all(
    Array.from({ length: 200 }, () => openTcp({ port: link.nodePort, from: '127.0.7.1' })),
  );
  await pause(40_000);
  process.kill(link.pid, 'SIGCONT');
  for (const { id } of agents) await becomes(t, id, 'online');
  await link.honest(t);
  for (const socket of sockets) socket.destroy();
  for (const { running } of agents) await running.stop();
});
