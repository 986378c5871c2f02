/** Frames on a stream of bytes, however they come in. */
import { Duplex, PassThrough } from 'node:stream';
import fc from 'fast-check';
import t from 'tap';
import { encodeLength, FrameReader } from '../../src/protocol/frames.js';
import { FrameStream, type FrameCodec } from '../../src/protocol/frame-stream.js';
import { codeOf } from '../harness/outcome.js';

const bytes: FrameCodec<Uint8Array> = {
  encode: frame => ({ finish: () => frame }),
  decode: frame => Uint8Array.from(frame),
};

function framed(...messages: readonly Uint8Array[]): Buffer {
  return Buffer.concat(messages.flatMap(each => [encodeLength(each.length), each]));
}

function readAll(reader: FrameReader, chunks: readonly Buffer[]): Buffer[] {
  const found: Buffer[] = [];
  for (const chunk of chunks) {
    reader.add(chunk);
    for (let next = reader.next(); next !== undefined; next = reader.next()) found.push(Buffer.from(next));
  }
  return found;
}

/** The bytes in chunks that end at these places. */
function cut(all: Buffer, places: readonly number[]): Buffer[] {
  const ends = [...new Set(places.map(place => place % (all.length + 1)))].sort((one, other) => one - other);
  return [...ends, all.length].map((end, at) => all.subarray(at === 0 ? 0 : ends[at - 1], end));
}

void t.test('frames are read as they were written, wherever the stream is cut', t => {
  const messages = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 12 });
  fc.assert(
    fc.property(messages, fc.array(fc.nat(), { maxLength: 40 }), (sent, places) => {
      const reader = new FrameReader(300);
      const found = readAll(reader, cut(framed(...sent), places));
      t.same(
        found,
        sent.map(each => Buffer.from(each)),
      );
      t.ok(reader.isBetweenFrames);
    }),
    { numRuns: 300 },
  );
  t.end();
});

void t.test('frames of one byte, of no byte and of the largest length are read', t => {
  const one = Buffer.alloc(1_000, 7);
  const slow = new FrameReader(1_000);
  t.same(
    readAll(
      slow,
      [...framed(one, one)].map(byte => Buffer.of(byte)),
    ),
    [one, one],
  );
  const many = new FrameReader(10);
  many.add(Buffer.alloc(4_000_000));
  let count = 0;
  while (many.next() !== undefined) count += 1;
  t.equal(count, 1_000_000);
  t.equal(readAll(new FrameReader(80 * 1024), [framed(Buffer.alloc(80 * 1024))])[0]?.length, 80 * 1024);
  t.end();
});

void t.test(
  'a frame over the limit is refused by its length alone, and another limit may follow',
  async t => {
    for (const length of [101, 2 ** 31, 2 ** 32 - 1]) {
      const reader = new FrameReader(100);
      reader.add(encodeLength(length));
      t.equal(await codeOf(Promise.resolve().then(() => reader.next())), 'PROTOCOL_INVALID', `${length}`);
    }
    const reader = new FrameReader(100);
    reader.add(framed(Buffer.alloc(100), Buffer.alloc(101)));
    t.equal(reader.next()?.length, 100);
    reader.maxBytes = 200;
    t.equal(reader.next()?.length, 101);
  },
);

interface Pair {
  readonly stream: FrameStream<Uint8Array, Uint8Array>;
  /** Frames from the other side, and frames to it. */
  readonly peer: PassThrough;
  readonly sent: Buffer[];
}

function pair(maxQueuedBytes = 1_000_000): Pair {
  const peer = new PassThrough();
  const sent: Buffer[] = [];
  const sink = new PassThrough({ highWaterMark: 100 });
  sink.on('data', (chunk: Buffer) => sent.push(chunk));
  const socket = Duplex.from({ readable: peer, writable: sink });
  const stream = new FrameStream({
    socket,
    incoming: bytes,
    outgoing: bytes,
    maxFrameBytes: 100,
    maxQueuedBytes,
  });
  return { stream, peer, sent };
}

const turn = (): Promise<void> => new Promise(resolve => setImmediate(resolve));

void t.test('a frame is handled only after the promise of the previous frame has settled', async t => {
  const { stream, peer } = pair();
  const order: string[] = [];
  const waiting: (() => void)[] = [];
  stream.serve({
    frame(frame) {
      order.push(`begin ${frame[0]}`);
      if (frame[0] === 2) return undefined;
      return new Promise(resolve =>
        waiting.push(() => {
          order.push(`end ${frame[0]}`);
          resolve();
        }),
      );
    },
    ended: () => order.push('ended'),
    failed: () => order.push('failed'),
  });
  peer.write(framed(Buffer.of(1), Buffer.of(2), Buffer.of(3)));
  peer.end(framed(Buffer.of(4)));
  for (let round = 0; round < 6; round += 1) {
    await turn();
    waiting.shift()?.();
  }
  await turn();
  t.same(order, ['begin 1', 'end 1', 'begin 2', 'begin 3', 'end 3', 'begin 4', 'end 4', 'ended']);
});

void t.test('after a failed frame no other is handled, and the failure is reported once', async t => {
  for (const cause of ['throws', 'rejects', 'is too long', 'breaks off'] as const) {
    const { stream, peer } = pair();
    const failures: unknown[] = [];
    let handled = 0;
    stream.serve({
      frame() {
        handled += 1;
        if (cause === 'throws') throw new Error('thrown');
        return cause === 'rejects' ? Promise.reject(new Error('rejected')) : undefined;
      },
      ended: () => t.fail('it did not end well'),
      failed: error => failures.push(error),
    });
    peer.write(framed(Buffer.of(1)));
    if (cause === 'is too long') peer.write(encodeLength(101));
    if (cause === 'breaks off') peer.end(Buffer.of(0, 0));
    await turn();
    await turn();
    if (!peer.writableEnded) peer.end(framed(Buffer.of(2), Buffer.of(3)));
    await turn();
    t.equal(failures.length, 1, cause);
    t.equal(handled, 1, cause);
  }
});

void t.test('frames of one turn leave in one write, and no frame is sent after the end', async t => {
  const { stream, sent } = pair();
  for (const each of [1, 2, 3]) t.ok(stream.send(Buffer.of(each)));
  await turn();
  t.same(sent, [framed(Buffer.of(1), Buffer.of(2), Buffer.of(3))]);
  stream.send(Buffer.of(4));
  stream.end();
  stream.send(Buffer.of(5));
  await turn();
  t.same(Buffer.concat(sent.slice(1)), framed(Buffer.of(4)));
});

void t.test('a peer that does not read is disconnected when its send buffer exceeds the limit', async t => {
  const sink = new PassThrough({ highWaterMark: 100 });
  const socket = Duplex.from({ readable: new PassThrough(), writable: sink });
  const options = { socket, incoming: bytes, outgoing: bytes, maxFrameBytes: 100, maxQueuedBytes: 500_000 };
  socket.on('error', () => undefined);
  const stream = new FrameStream(options);
  stream.serve({ frame: () => undefined, ended: () => undefined, failed: () => undefined });
  // More than a stream of any release of Node.js takes before it asks to wait.
  t.notOk(stream.send(Buffer.alloc(70_000)), 'the caller is told to wait');
  for (let count = 0; count < 6; count += 1) stream.send(Buffer.alloc(70_000));
  await turn();
  t.notOk(socket.destroyed);
  stream.send(Buffer.alloc(70_000));
  t.ok(socket.destroyed);
});
