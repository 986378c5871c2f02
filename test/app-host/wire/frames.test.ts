/** Frames: however the bytes are cut, the same frames come out; an invalid one ends the connection. */
import t, { type Test } from 'tap';
import fc from 'fast-check';
import { once } from 'node:events';
import { createConnection, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { isRollcallError } from '../../../src/base/errors.js';
import {
  createFrameReader,
  encodeFrame,
  frameLimits,
  type Frame,
  FrameConnection,
} from '../../../src/app-host/wire/frames.js';
import { createHosting } from '../../../src/app-host/hosting/create-hosting.js';
import type { Hosting } from '../../../src/app-host/hosting/hosting.js';
import { peerLimits } from '../../../src/app-host/hosting/accept-peers.js';
import { createLog } from '../../../src/base/log.js';
import { makeFolder } from '../../harness/folder.js';
import { createManualClock } from '../../harness/manual-clock.js';
import { createQueue } from '../fixtures/watched-runner.js';

const someFrame = fc.record({
  name: fc.string({ minLength: 1 }).filter(name => name !== '__proto__'),
  value: fc.dictionary(
    fc.string().filter(name => name !== '__proto__'),
    fc.jsonValue({ noUnicodeString: false }),
  ),
  body: fc.uint8Array({ maxLength: 300 }),
});

void t.test('frames are read the same, however their bytes are split', t => {
  fc.assert(
    fc.property(
      fc.array(someFrame, { maxLength: 6 }),
      fc.array(fc.nat(200), { maxLength: 60 }),
      (frames, cuts) => {
        const whole = Buffer.concat(
          frames.flatMap(({ name, value, body }) => [encodeFrame(name, value, body.length), body]),
        );
        const read = createFrameReader();
        const found: Frame[] = [];
        let at = 0;
        for (const cut of [...cuts, whole.length]) {
          found.push(...read(whole.subarray(at, at + cut)));
          at += cut;
        }
        t.strictSame(
          found.map(({ name, value, body }) => ({ name, value: JSON.stringify(value), body: [...body] })),
          frames.map(({ name, value, body }) => ({ name, value: JSON.stringify(value), body: [...body] })),
        );
      },
    ),
  );
  t.end();
});

void t.test('an invalid frame is refused before it is buffered', t => {
  const prefix = (head: number, body: number): Buffer => {
    const bytes = Buffer.alloc(8);
    bytes.writeUInt32LE(head, 0);
    bytes.writeUInt32LE(body, 4);
    return bytes;
  };
  const withHead = (head: string): Buffer =>
    Buffer.concat([prefix(Buffer.byteLength(head), 0), Buffer.from(head)]);
  const odd: Readonly<Record<string, Buffer>> = {
    'a head that is too long': prefix(frameLimits.headBytes + 1, 0),
    'a body that is too long': prefix(2, frameLimits.bodyBytes + 1),
    'another protocol': Buffer.from('GET / HTTP/1.1\r\n\r\n'),
    'no JSON': withHead('{"run":'),
    'no object': withHead('[1]'),
    nothing: withHead('null'),
    'no member': withHead('{}'),
    'two members': withHead('{"run":{},"stop":{}}'),
    'a member that is no object': withHead('{"run":1}'),
    'a member that is a list': withHead('{"run":[]}'),
    'a name that is empty': withHead('{"":{}}'),
    'an empty head': prefix(0, 0),
  };
  for (const [what, bytes] of Object.entries(odd)) {
    let thrown: unknown;
    try {
      Array.from(createFrameReader()(bytes));
    } catch (error) {
      thrown = error;
    }
    t.ok(isRollcallError(thrown, 'PROTOCOL_INVALID'), what);
  }
  t.throws(() => encodeFrame('log', { text: 'x'.repeat(frameLimits.headBytes) }), {
    code: 'REQUEST_INVALID',
  });
  t.end();
});

void t.test('the body of a frame is aligned to 8 bytes, at any offset of its chunk', t => {
  const read = createFrameReader();
  const bytes = Buffer.concat([Buffer.alloc(3), encodeFrame('a', {}, 16), Buffer.alloc(16, 7)]).subarray(3);
  const [frame] = read(bytes);
  t.equal((frame?.body.byteOffset ?? 1) % 8, 0);
  t.equal(frame?.body.length, 16);
  t.end();
});

async function connectedPair(t: Test): Promise<{ near: FrameConnection; far: Socket }> {
  const path = join(await makeFolder(t), 's');
  const server = createServer().listen(path);
  await once(server, 'listening');
  const far = createConnection(path);
  far.on('error', () => undefined);
  const [accepted] = (await once(server, 'connection')) as [Socket];
  t.teardown(() => {
    far.destroy();
    server.close();
  });
  return { near: new FrameConnection(accepted), far };
}

void t.test('invalid bytes are answered with bye, and the connection ends', async t => {
  const { near, far } = await connectedPair(t);
  const closed = new Promise<void>(resolve => near.onClose(resolve));
  near.onFrame(() => t.fail('no frame came'));
  far.write('GET / HTTP/1.1\r\n\r\n');
  const chunks: Buffer[] = [];
  far.on('data', (chunk: Buffer) => chunks.push(chunk));
  await Promise.all([once(far, 'end'), closed]);
  t.match(Array.from(createFrameReader()(Buffer.concat(chunks))), [
    { name: 'bye', value: { message: /invalid frame/ } },
  ]);
  t.ok(near.closed);
  t.ok(near.send('late', {}), 'what is sent afterwards goes nowhere');
});

void t.test('a frame connection reports when its send buffer is full and when it has drained', async t => {
  const { near, far } = await connectedPair(t);
  far.pause();
  const body = Buffer.alloc(1024 * 1024);
  let sent = 0;
  while (near.send('chunk', {}, body)) t.ok((sent += 1) < 20, 'it ends');
  let isDrained = false;
  const drained = near.drained().then(() => {
    isDrained = true;
  });
  await new Promise(resolve => setImmediate(resolve));
  t.notOk(isDrained, 'nobody reads');
  far.resume();
  await drained;

  far.pause();
  while (near.send('chunk', {}, body));
  far.destroy();
  await near.drained();
});

void t.test('sending an oversized frame throws, and later frames are sent', async t => {
  const { near, far } = await connectedPair(t);
  t.throws(() => near.send('nodes', { text: 'x'.repeat(frameLimits.headBytes) }), {
    code: 'REQUEST_INVALID',
  });
  t.throws(() => near.send('chunk', {}, Buffer.alloc(frameLimits.bodyBytes + 1)), {
    code: 'REQUEST_INVALID',
  });
  near.send('accepted', { number: 1 });
  const [bytes] = (await once(far, 'data')) as [Buffer];
  t.strictSame([...createFrameReader()(bytes)][0]?.value, { number: 1 });
});

void t.test('a frame connection reads again only after every pauser has resumed', async t => {
  const { near, far } = await connectedPair(t);
  const names = createQueue<string>();
  const [one, other] = [{}, {}];
  near.onFrame(({ name }) => names.put(name));
  near.pause(one);
  near.pause(other);
  near.pause(other);
  await new Promise(resolve => void far.write(encodeFrame('first', {}), resolve));
  near.resume(one);
  let came = false;
  const first = names.take().then(name => {
    came = true;
    return name;
  });
  // Enough rounds for the frame to be read, if reading were not paused.
  for (let round = 0; round < 100; round += 1) await new Promise(resolve => setImmediate(resolve));
  t.notOk(came);
  near.resume(other);
  t.equal(await first, 'first');
});

/** Sends one frame and returns the answer; undefined when the connection ends without one. */
async function ask(path: string, bytes: Uint8Array): Promise<{ answer: Frame | undefined; socket: Socket }> {
  const socket = createConnection(path);
  socket.on('error', () => undefined);
  socket.write(bytes);
  const connection = new FrameConnection(socket);
  const answer = await new Promise<Frame | undefined>(resolve => {
    connection.onFrame(resolve);
    connection.onClose(() => resolve(undefined));
  });
  return { answer, socket };
}

async function openHosting(t: Test): Promise<Hosting> {
  const folder = await makeFolder(t);
  const hosting = await createHosting({
    ...{ isolation: 'process', socketPath: join(folder, 's'), hostKey, clock: createManualClock(), log },
    programs: { node: '', python: '' },
  });
  t.teardown(() => hosting.close());
  return hosting;
}

const hostKey = '5a'.repeat(32);
const log = createLog({ level: 'silent', name: 'test' });

void t.test('a supervisor needs the key of the socket, whether or not it connects first', async t => {
  const hosting = await openHosting(t);
  const { socketPath } = hosting;
  const supervise = (more: object): ReturnType<typeof ask> =>
    ask(socketPath, encodeFrame('supervise', { protocol: 1, ...more }));
  for (const key of [undefined, '', 7, 'a5'.repeat(32), hostKey.toUpperCase(), hostKey.slice(1)])
    t.match((await supervise({ key })).answer, { name: 'bye', value: { message: /not the key/ } });
  t.notOk(hosting.isReady());
  const first = await supervise({ key: hostKey });
  t.equal(first.answer?.name, 'welcome');
  first.socket.destroy();
  while (hosting.isReady()) await new Promise(resolve => setImmediate(resolve));
  t.match((await supervise({})).answer, { name: 'bye' }, 'nor when there is none any more');
  t.notOk(hosting.isReady());
  t.equal((await supervise({ key: hostKey, runs: ['7'] })).answer?.name, 'welcome', 'who has it comes back');
});

void t.test('a connection before authentication buffers only short frames', async t => {
  const hosting = await openHosting(t);
  const { headBytes } = peerLimits.firstFrame;
  t.ok(peerLimits.unnamed * headBytes <= 16 * 1024 * 1024, 'of all visitors together');
  const prefix = (head: number, body: number): Buffer => {
    const bytes = Buffer.alloc(8);
    bytes.writeUInt32LE(head, 0);
    bytes.writeUInt32LE(body, 4);
    return bytes;
  };
  for (const [head, body] of [
    [headBytes + 1, 0],
    [20, 1],
    [frameLimits.headBytes, frameLimits.bodyBytes],
  ] as const)
    t.match((await ask(hosting.socketPath, prefix(head, body))).answer, { value: { message: /too long/ } });
  const runs = Array.from({ length: peerLimits.runs }, (_, index) => `${2n ** 64n - 1n - BigInt(index)}`);
  const long = encodeFrame('supervise', { protocol: 1, key: hostKey, runs });
  t.equal((await ask(hosting.socketPath, long)).answer?.name, 'welcome', 'a supervisor with all it can have');

  const token = 'ab'.repeat(32);
  const frames: Frame[] = [];
  const came = new Promise<void>(resolve => {
    const order = { run: '7', half: 'server', language: 'javascript', token, memoryBytes: 2 ** 20 } as const;
    hosting.start(order, {
      onConnection: connection =>
        connection.onFrame(frame => {
          frames.push(frame);
          resolve();
        }),
      onOutput: () => undefined,
      onExit: () => undefined,
    });
  });
  const runner = createConnection(hosting.socketPath);
  t.teardown(() => runner.destroy());
  const body = Buffer.alloc(frameLimits.bodyBytes, 1);
  runner.write(
    Buffer.concat([encodeFrame('run', { protocol: 1, token }), encodeFrame('chunk', {}, body.length), body]),
  );
  await came;
  t.same(
    frames.map(({ name, body: { length } }) => [name, length]),
    [['chunk', frameLimits.bodyBytes]],
    'a runner that is known may say all that it may',
  );
});
