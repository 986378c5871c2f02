/** Objects over the connection of a runner, on a real socket and the real store: read, written, resumed, refused. */
import t, { type Test } from 'tap';
import { once } from 'node:events';
import { createConnection, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { FrameConnection, type Frame } from '../../../src/app-host/wire/frames.js';
import { handleObjectFrame, type ObjectsOfRunner } from '../../../src/app-host/wire/object-frames.js';
import { RollcallError } from '../../../src/base/errors.js';
import { chunkBytes } from '../../../src/objects/limits.js';
import { manifestOf, type Manifest } from '../../../src/objects/manifest.js';
import { objectStoreIn } from '../../harness/objects.js';
import { makeFolder } from '../../harness/folder.js';
import { createQueue } from '../fixtures/watched-runner.js';

async function talk(t: Test, more: Partial<ObjectsOfRunner> = {}) {
  const folder = await makeFolder(t);
  const bucket = objectStoreIn(join(folder, 'objects')).bucket('7', 'server');
  const readable = async (digest: string) => {
    const manifest = await bucket.find(digest);
    return manifest && { manifest, bucket };
  };
  const stored: string[] = [];
  const objects: ObjectsOfRunner = {
    readable,
    writable: bucket,
    onStored: ({ digest }) => void stored.push(digest),
    ...more,
  };
  const others: string[] = [];
  const server = createServer(socket => {
    const connection = new FrameConnection(socket);
    connection.onFrame(frame => {
      if (!handleObjectFrame(connection, frame, objects)) others.push(frame.name);
    });
  }).listen(join(folder, 's'));
  await once(server, 'listening');
  const socket: Socket = createConnection(join(folder, 's'));
  const runner = new FrameConnection(socket);
  const frames = createQueue<Frame>();
  runner.onFrame(frame => frames.put(frame));
  t.teardown(() => {
    socket.destroy();
    server.close();
  });
  return { bucket, runner, stored, others, frame: frames.take };
}

function someBytes(size: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(size);
  for (let at = 0; at + 4 <= size; at += 1024) bytes.writeUInt32LE(seed * 1_000_003 + at, at);
  return bytes;
}

const chunkOf = (bytes: Buffer, index: number): Buffer =>
  bytes.subarray(index * chunkBytes, (index + 1) * chunkBytes);

void t.test('an object is written chunk by chunk and read back', async t => {
  const { runner, frame, stored } = await talk(t);
  const bytes = someBytes(2.5 * chunkBytes);
  const manifest = manifestOf([bytes]);
  const { digest } = manifest;
  runner.send('get', { digest });
  t.match(await frame(), { name: 'lost', value: { digest } }, 'it is not there yet');

  runner.send('put', { digest }, manifest.bytes);
  t.match(await frame(), { name: 'wants', value: { digest, chunks: [0, 1, 2] } });
  for (const chunk of [2, 0, 1]) runner.send('chunk', { digest, chunk }, chunkOf(bytes, chunk));
  t.match(await frame(), { name: 'stored', value: { digest } });
  t.strictSame(stored, [digest]);

  runner.send('get', { digest });
  const told = await frame();
  t.equal(told.name, 'manifest');
  t.ok(told.body.equals(manifest.bytes));
  for (const chunk of [0, 1, 2]) runner.send('get', { digest, chunk });
  for (const chunk of [0, 1, 2]) {
    const got = await frame();
    t.match(got, { name: 'chunk', value: { digest, chunk } });
    t.ok(got.body.equals(chunkOf(bytes, chunk)));
  }
  runner.send('get', { digest, chunk: 3 });
  t.match(await frame(), { name: 'lost', value: { digest } });

  runner.send('put', { digest }, manifest.bytes);
  t.match(await frame(), { name: 'wants', value: { digest, chunks: [] } });
  t.match(await frame(), { name: 'stored', value: { digest } }, 'a second time nothing travels');
});

void t.test('after a lost connection only the missing chunks are sent', async t => {
  const { runner, frame } = await talk(t);
  const bytes = someBytes(2 * chunkBytes);
  const manifest = manifestOf([bytes]);
  const { digest } = manifest;
  runner.send('put', { digest }, manifest.bytes);
  await frame();
  runner.send('chunk', { digest, chunk: 0 }, chunkOf(bytes, 0));
  const other = manifestOf([someBytes(100, 9)]);
  runner.send('put', { digest: other.digest }, other.bytes);
  t.match(await frame(), { name: 'refused', value: { digest, message: /another object/ } });
  t.match(await frame(), { name: 'wants', value: { digest: other.digest, chunks: [0] } });
  runner.send('chunk', { digest, chunk: 1 }, chunkOf(bytes, 1));
  runner.send('put', { digest }, manifest.bytes);
  t.match(await frame(), { name: 'refused', value: { digest: other.digest } });
  t.match(
    await frame(),
    { name: 'wants', value: { digest, chunks: [1] } },
    'what came for one given up is passed over',
  );
  runner.send('chunk', { digest, chunk: 1 }, chunkOf(bytes, 1));
  t.match(await frame(), { name: 'stored', value: { digest } });
});

void t.test('an invalid object is refused, and the next object is accepted', async t => {
  const { runner, frame, stored, bucket } = await talk(t);
  const bytes = someBytes(chunkBytes + 10);
  const manifest = manifestOf([bytes]);
  const { digest } = manifest;
  const refused = async (message: RegExp): Promise<void> => {
    t.match(await frame(), { name: 'refused', value: { digest, message } });
  };
  runner.send('put', { digest }, Buffer.from('no manifest'));
  await refused(/invalid manifest/);
  runner.send('put', { digest }, manifestOf([Buffer.from('x')]).bytes);
  await refused(/another digest/);
  const begin = async (): Promise<void> => {
    runner.send('put', { digest }, manifest.bytes);
    t.match(await frame(), { name: 'wants' });
  };
  await begin();
  runner.send('chunk', { digest, chunk: 0 }, Buffer.alloc(chunkBytes, 1));
  await refused(/./);
  await begin();
  runner.send('chunk', { digest, chunk: 2 }, Buffer.from('x'));
  await refused(/not asked for/);
  await begin();
  runner.send('chunk', { digest, chunk: 0 }, chunkOf(bytes, 0));
  runner.send('chunk', { digest, chunk: 0 }, chunkOf(bytes, 0));
  await refused(/not asked for/);
  t.equal(await bucket.find(digest), undefined);
  t.strictSame(stored, []);
  await begin();
  runner.send('chunk', { digest, chunk: 1 }, chunkOf(bytes, 1));
  t.match(await frame(), { name: 'stored', value: { digest } });
});

void t.test('a full disk is reported to the runner without the path of a file', async t => {
  const secret = new Error('/secret/path');
  const full = () => Promise.reject(new RollcallError('STORE_FULL', 'the disk is full', { cause: secret }));
  const broken = () => Promise.reject(secret);
  const manifest = manifestOf([Buffer.from('hello')]);
  const { digest } = manifest;
  const writable = { begin: () => Promise.resolve([0]), writeChunk: full, finish: () => Promise.resolve() };
  const first = await talk(t, { writable, readable: broken });
  first.runner.send('put', { digest }, manifest.bytes);
  t.match(await first.frame(), { name: 'wants' });
  first.runner.send('chunk', { digest, chunk: 0 }, Buffer.from('hello'));
  t.match(await first.frame(), { name: 'refused', value: { digest, message: 'the disk is full' } });
  first.runner.send('get', { digest });
  t.match(await first.frame(), { name: 'lost' });

  const second = await talk(t, { writable: { ...writable, begin: broken } });
  second.runner.send('put', { digest }, manifest.bytes);
  const { name, value } = await second.frame();
  t.equal(name, 'refused');
  t.notMatch(value['message'], /secret/);
});

void t.test(
  'object frames ignore frames of other kinds, and an invalid object frame ends the connection',
  async t => {
    const digest = 'ab'.repeat(32);
    for (const [name, value] of [
      ['get', {}],
      ['get', { digest: digest.toUpperCase() }],
      ['get', { digest, chunk: -1 }],
      ['get', { digest, chunk: '0' }],
      ['get', { digest, chunk: 1.5 }],
      ['put', { digest, chunk: 0 }],
      ['chunk', { digest }],
    ] as const) {
      const { runner, frame, others } = await talk(t);
      runner.send('log', {});
      runner.send(name, value);
      t.match(
        await frame(),
        { name: 'bye', value: { message: /invalid frame/ } },
        `${name} ${JSON.stringify(value)}`,
      );
      await new Promise<void>(resolve => runner.onClose(resolve));
      t.strictSame(others, ['log']);
    }
  },
);

void t.test('at most one read is buffered while a chunk is written', async t => {
  let isWriting = 0;
  let max = 0;
  const gates = createQueue<() => void>();
  const missing = Array.from({ length: 40 }, (_, index) => index);
  const writable = {
    begin: () => Promise.resolve(missing),
    async writeChunk(): Promise<void> {
      max = Math.max(max, (isWriting += 1));
      await new Promise<void>(resolve => gates.put(resolve));
      isWriting -= 1;
    },
    finish: () => Promise.resolve(),
  };
  const bytes = someBytes(missing.length * chunkBytes);
  const manifest: Manifest = manifestOf([bytes]);
  const { digest } = manifest;
  const { runner, frame, others } = await talk(t, { writable });
  runner.send('put', { digest }, manifest.bytes);
  await frame();
  for (const chunk of missing) runner.send('chunk', { digest, chunk }, chunkOf(bytes, chunk));
  runner.send('log', {});
  const firstWritten = await gates.take();
  // Nothing is read: what the sender has sent stays on its side.
  let isDrained = false;
  const drained = runner.drained().then(() => {
    isDrained = true;
  });
  // Enough rounds for all of it to be read, if it were.
  for (let round = 0; round < 3_000; round += 1) await new Promise(resolve => setImmediate(resolve));
  t.notOk(isDrained);
  t.strictSame(others, []);
  firstWritten();
  for (let written = 1; written < missing.length; written += 1) (await gates.take())();
  t.match(await frame(), { name: 'stored', value: { digest } });
  await drained;
  t.equal(max, 1);
});
