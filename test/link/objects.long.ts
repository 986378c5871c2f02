import t, { type Test } from 'tap';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { RollcallError } from '../../src/base/errors.js';
import type { NodeObjects } from '../../src/link/runs/messages/node-objects.js';
import { toCallFailure } from '../../src/node/connection-error.js';
import { fetchObject, sendObject } from '../../src/node/runs/object-transfer.js';
import {
  chunkBytes,
  digestOfChunk,
  makeManifest,
  manifestOf,
  readChunkOf,
  type Manifest,
} from '../../src/objects/manifest.js';
import type {
  ObjectPiece,
  ObjectsClient,
  ReadObjectRequest,
  WriteObjectRequest,
  WriteObjectResponse,
} from '../../src/protocol/generated/rollcall/v1/link.js';
import { limits } from '../../src/protocol/limits.js';
import type { ObjectBucket, ObjectStore } from '../../src/objects/object-store.js';
import { objectStoreIn } from '../harness/objects.js';
import { makeFolder } from '../harness/folder.js';
import { createManualClock } from '../harness/manual-clock.js';
import { startNodePort, type TestNodePort } from '../harness/node-port.js';
import { numbered } from '../harness/numbered-bytes.js';
import { codeOf } from '../harness/outcome.js';
import { startTestLink, newKey } from '../harness/test-link.js';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

const run = 7n;
const none = Buffer.alloc(0);

interface Site {
  readonly port: TestNodePort;
  /** Of the link, which every node may read and write in run 7. */
  readonly bucket: ObjectBucket;
  readonly folder: string;
  /** Of a node. */
  readonly nodeBucket: () => Promise<ObjectBucket>;
}

async function startSite(
  t: Test,
  options: {
    clock?: Parameters<typeof startNodePort>[2];
    wrap?: (bucket: ObjectBucket) => ObjectBucket;
  } = {},
): Promise<Site> {
  const folder = await makeFolder(t);
  const store: ObjectStore = objectStoreIn(folder);
  const bucket = (options.wrap ?? (each => each))(store.bucket('7', 'server'));
  const notFound = (): RollcallError => new RollcallError('NOT_FOUND', 'there is no such object');
  const objects: NodeObjects = {
    async read(_node, asked, digest) {
      const manifest = asked === run ? await bucket.find(digest) : undefined;
      if (!manifest) throw notFound();
      return { manifest, bucket };
    },
    write: (_node, asked) => (asked === run ? Promise.resolve(bucket) : Promise.reject(notFound())),
  };
  return {
    port: await startNodePort(t, objects, options.clock),
    bucket,
    folder: join(folder, '7/server'),
    nodeBucket: async () => objectStoreIn(await makeFolder(t)).bucket('7', 'node'),
  };
}

async function store(bucket: ObjectBucket, bytes: Buffer): Promise<Manifest> {
  const manifest = manifestOf([bytes]);
  for (const index of await bucket.begin(manifest))
    await bucket.writeChunk(manifest, index, readChunkOf([bytes], index));
  await bucket.finish(manifest);
  return manifest;
}

async function read(bucket: ObjectBucket, manifest: Manifest): Promise<Buffer> {
  const chunks = [];
  for (const index of manifest.chunks.keys()) chunks.push(await bucket.readChunk(manifest, index));
  return Buffer.concat(chunks);
}

/** Writes messages as they are, and gives the answers and the code that ended the call. */
async function writeByHand(
  client: ObjectsClient,
  requests: readonly WriteObjectRequest[],
): Promise<{ answers: WriteObjectResponse[]; code: string }> {
  const call = client.write();
  const answers: WriteObjectResponse[] = [];
  call.on('data', (answer: WriteObjectResponse) => answers.push(answer));
  const code = new Promise<string>(resolve => {
    call.on('error', (error: unknown) => resolve(toCallFailure(error).code));
    call.on('end', () => resolve('nothing'));
  });
  for (const request of requests) call.write(request);
  call.end();
  return { answers, code: await code };
}

const first = ({ bytes }: Pick<Manifest, 'bytes'>, of = run): WriteObjectRequest => ({
  run: of,
  manifest: bytes,
});
const piece = (chunk: number, bytes: Buffer): WriteObjectRequest => ({
  run: 0n,
  manifest: none,
  piece: { manifest: none, chunk, bytes },
});
const piecesOf = (chunk: number, bytes: Buffer): WriteObjectRequest[] =>
  Array.from({ length: Math.ceil(bytes.length / limits.pieceBytes) }, (_, at) =>
    piece(chunk, bytes.subarray(at * limits.pieceBytes, (at + 1) * limits.pieceBytes)),
  );

void t.test('objects go to the link and to other nodes as they are', async t => {
  const { port, bucket, nodeBucket } = await startSite(t);
  const [writer, reader] = [await port.online(), await port.online()];
  const [from, to] = [await nodeBucket(), await nodeBucket()];
  for (const size of [1, limits.pieceBytes + 1, chunkBytes, 2 * chunkBytes + 1]) {
    const bytes = numbered(size, size);
    const manifest = await store(from, bytes);
    await sendObject({ client: writer.connection.objects, run, manifest, bucket: from });
    t.ok((await read(bucket, manifest)).equals(bytes), 'it is on the disk of the link');
    await sendObject({ client: writer.connection.objects, run, manifest, bucket: from });
    const { digest } = manifest;
    t.same(await fetchObject({ client: reader.connection.objects, run, digest, bucket: to }), manifest);
    t.ok((await read(to, manifest)).equals(bytes));
    t.same(await fetchObject({ client: reader.connection.objects, run, digest, bucket: to }), manifest);
  }
});

void t.test('without a session no object is read or written', async t => {
  const { port, bucket, nodeBucket } = await startSite(t);
  const { digest } = await store(bucket, numbered(1000));
  const own = await nodeBucket();
  const manifest = await store(own, numbered(1000, 1));
  const both = async ({ objects: client }: { objects: ObjectsClient }) => [
    await codeOf(fetchObject({ client, run, digest, bucket: await nodeBucket() })),
    await codeOf(sendObject({ client, run, manifest, bucket: own })),
  ];
  const refused = ['CERTIFICATE_REFUSED', 'CERTIFICATE_REFUSED'];
  t.same(await both(await port.connect()), refused, 'a stranger');
  const enrollment = await port.register();
  const connection = await port.connect(enrollment);
  t.same(await both(connection), refused, 'a certificate alone');
  const live = await port.online(enrollment);
  t.same(await both(live.connection), ['nothing', 'nothing'], 'with a session');
  await live.session.close();
  t.same(await both(live.connection), refused, 'a session that is over');
  t.equal(await bucket.find(manifest.digest).then(found => found?.digest), manifest.digest);
});

void t.test('what is not there for a node is not found, whatever it is', async t => {
  const { port, bucket, nodeBucket } = await startSite(t);
  const { digest } = await store(bucket, numbered(1000));
  const { connection } = await port.online();
  const client = connection.objects;
  const own = await nodeBucket();
  t.equal(await codeOf(fetchObject({ client, run: 8n, digest, bucket: own })), 'NOT_FOUND');
  const other = manifestOf([numbered(5)]).digest;
  t.equal(await codeOf(fetchObject({ client, run, digest: other, bucket: own })), 'NOT_FOUND');
  t.equal(await codeOf(fetchObject({ client, run, digest: 'ab', bucket: own })), 'PROTOCOL_INVALID');
  const manifest = await store(own, numbered(5));
  t.equal(await codeOf(sendObject({ client, run: 8n, manifest, bucket: own })), 'NOT_FOUND');
});

void t.test('a write that does not hold to the protocol is refused and leaves nothing', async t => {
  const { port, bucket } = await startSite(t);
  const { connection } = await port.online();
  const bytes = numbered(2 * chunkBytes + 10);
  const manifest = manifestOf([bytes]);
  const chunk = (index: number): Buffer => readChunkOf([bytes], index);
  const wrong = numbered(chunkBytes, 1);
  const cases: Readonly<Record<string, readonly WriteObjectRequest[]>> = {
    'no message': [],
    'no manifest': [first({ bytes: none })],
    'an invalid manifest': [first({ bytes: manifest.bytes.subarray(0, 60) })],
    'a piece first': [piece(0, chunk(0).subarray(0, 10))],
    'a manifest with a piece': [{ ...piece(0, none), ...first(manifest) }],
    'the manifest twice': [first(manifest), first(manifest)],
    'a piece with a manifest': [
      first(manifest),
      { ...piece(0, chunk(0).subarray(0, 9)), manifest: manifest.bytes },
    ],
    'an empty piece': [first(manifest), piece(0, none)],
    'another chunk': [first(manifest), piece(1, chunk(1).subarray(0, 10))],
    'a chunk with a wrong digest': [first(manifest), ...piecesOf(0, wrong)],
    'a piece that goes on into the next chunk': [
      first(manifest),
      ...piecesOf(0, chunk(0)).slice(0, -1),
      piece(0, chunk(0).subarray(0, limits.pieceBytes)),
    ],
    'too large a piece': [first(manifest), piece(0, chunk(0).subarray(0, limits.pieceBytes + 1))],
    'an end before all is there': [first(manifest), ...piecesOf(0, chunk(0)), ...piecesOf(1, chunk(1))],
  };
  for (const [what, requests] of Object.entries(cases)) {
    const { code, answers } = await writeByHand(connection.objects, requests);
    t.equal(code, 'PROTOCOL_INVALID', what);
    t.notOk(
      answers.some(({ isStored }) => isStored),
      what,
    );
  }
  t.equal(await bucket.find(manifest.digest), undefined);
  t.same(await bucket.begin(manifest), [2], 'whole chunks stayed');
  const { code, answers } = await writeByHand(connection.objects, [
    first(manifest),
    ...piecesOf(2, chunk(2)),
  ]);
  t.equal(code, 'nothing');
  t.same(answers, [
    { missingChunks: [2], isStored: false },
    { missingChunks: [], isStored: true },
  ]);
});

/** Calls `cut` when so many chunks are there, and `eachTime` for every one. */
function breakAfter(
  bucket: ObjectBucket,
  chunks: number,
  cut: () => void,
  eachTime = (): void => undefined,
): ObjectBucket {
  let count = 0;
  return {
    ...bucket,
    async beginChunk(manifest, index) {
      const writer = await bucket.beginChunk(manifest, index);
      return {
        ...writer,
        async finish() {
          await writer.finish();
          count += 1;
          eachTime();
          if (count === chunks) cut();
        },
      };
    },
  };
}

void t.test('a read goes on where the connection broke', async t => {
  const { port, bucket, nodeBucket } = await startSite(t);
  const bytes = numbered(6 * chunkBytes + 1);
  const { digest, ...manifest } = await store(bucket, bytes);
  const own = await nodeBucket();
  const broken = await port.online();
  const breaking = breakAfter(own, 3, () => void port.cut(broken.enrollment.nodeId));
  t.equal(
    await codeOf(fetchObject({ client: broken.connection.objects, run, digest, bucket: breaking })),
    'LINK_UNREACHABLE',
  );
  t.same(await own.begin({ digest, ...manifest }), [3, 4, 5, 6]);

  const { connection } = await port.online(broken.enrollment);
  const asked: number[] = [];
  const { objects } = connection;
  const client = Object.assign(Object.create(objects) as ObjectsClient, {
    read(request: ReadObjectRequest) {
      asked.push(request.fromChunk);
      return objects.read(request);
    },
  });
  await fetchObject({ client, run, digest, bucket: own });
  t.same(asked, [0, 3], 'what is here is not sent again');
  t.ok((await read(own, { digest, ...manifest })).equals(bytes));
});

void t.test('a write goes on where the connection broke', async t => {
  let cut = (): void => undefined;
  const { port, bucket, nodeBucket } = await startSite(t, { wrap: each => breakAfter(each, 3, () => cut()) });
  const bytes = numbered(6 * chunkBytes + 1);
  const own = await nodeBucket();
  const manifest = await store(own, bytes);
  const broken = await port.online();
  cut = () => void port.cut(broken.enrollment.nodeId);
  t.equal(
    await codeOf(sendObject({ client: broken.connection.objects, run, manifest, bucket: own })),
    'LINK_UNREACHABLE',
  );
  const { connection } = await port.online(broken.enrollment);
  const { answers } = await writeByHand(connection.objects, [first(manifest)]);
  t.same(answers[0]?.missingChunks, [3, 4, 5, 6]);
  await sendObject({ client: connection.objects, run, manifest, bucket: own });
  t.ok((await read(bucket, manifest)).equals(bytes));
});

void t.test('anyone who fetches checks what comes', async t => {
  const { nodeBucket } = await startSite(t);
  const bytes = numbered(chunkBytes + 10);
  const manifest = manifestOf([bytes]);
  const head: ObjectPiece = { manifest: manifest.bytes, chunk: 0, bytes: none };
  const part = (chunk: number, content: Buffer): ObjectPiece => ({ manifest: none, chunk, bytes: content });
  const cases: Readonly<Record<string, readonly ObjectPiece[]>> = {
    nothing: [],
    'no manifest': [part(0, bytes.subarray(0, 10))],
    'another manifest': [{ ...head, manifest: manifestOf([numbered(10)]).bytes }],
    'the manifest alone': [head],
    'an empty piece': [head, part(0, none)],
    'another chunk first': [head, part(1, bytes.subarray(chunkBytes))],
    'too long a chunk': [head, part(0, bytes)],
    'a wrong chunk': [head, part(0, numbered(chunkBytes, 1))],
    'a chunk too few': [head, part(0, bytes.subarray(0, chunkBytes))],
  };
  for (const [what, pieces] of Object.entries(cases)) {
    const call = Object.assign(new PassThrough({ objectMode: true }), { cancel: () => undefined });
    for (const each of pieces) call.write(each);
    call.end();
    const client = { read: () => call } as unknown as ObjectsClient;
    const bucket = await nodeBucket();
    t.equal(
      await codeOf(fetchObject({ client, run, digest: manifest.digest, bucket })),
      'PROTOCOL_INVALID',
      what,
    );
    t.equal(await bucket.find(manifest.digest), undefined, what);
  }
});

void t.test('a transfer ends at once when it is told to', async t => {
  const { port, bucket, nodeBucket } = await startSite(t);
  const { digest } = await store(bucket, numbered(3 * chunkBytes));
  const { connection } = await port.online();
  const client = connection.objects;
  const own = await nodeBucket();
  const stop = new AbortController();
  const stopping = breakAfter(own, 1, () => stop.abort());
  const { signal } = stop;
  t.equal(await codeOf(fetchObject({ client, run, digest, bucket: stopping, signal })), 'LINK_UNREACHABLE');
  t.equal(
    await codeOf(fetchObject({ client, run, digest, bucket: own, signal })),
    'LINK_UNREACHABLE',
    'told before',
  );
  t.equal(
    await codeOf(fetchObject({ client, run, digest, bucket: own })),
    'nothing',
    'the session is still there',
  );
});

void t.test('a chunk that is damaged on the disk of the link is told as its fault', async t => {
  const { port, bucket, folder, nodeBucket } = await startSite(t);
  const manifest = await store(bucket, numbered(2 * chunkBytes));
  await writeFile(join(folder, 'chunks', manifest.chunks[1] ?? ''), numbered(chunkBytes, 5));
  const { connection } = await port.online();
  const own = await nodeBucket();
  t.equal(
    await codeOf(fetchObject({ client: connection.objects, run, digest: manifest.digest, bucket: own })),
    'INTERNAL',
  );
  t.same(await own.begin(manifest), [1]);
  t.ok(
    port.logged.some(
      line => line.includes('reading an object failed') && line.includes('not what was written'),
    ),
  );
});

void t.test('a revoked node reads no further', async t => {
  const { port, bucket, nodeBucket } = await startSite(t);
  const { digest } = await store(bucket, numbered(4 * chunkBytes));
  const { connection, enrollment } = await port.online();
  const own = await nodeBucket();
  let revoked: Promise<void> | undefined;
  const revoking = breakAfter(own, 1, () => void (revoked = port.revoke(enrollment.nodeId)));
  const code = await codeOf(fetchObject({ client: connection.objects, run, digest, bucket: revoking }));
  t.ok(['LINK_UNREACHABLE', 'NODE_REVOKED', 'CERTIFICATE_REFUSED'].includes(code), code);
  await revoked;
  await connection.closed;
  t.equal(await own.find(digest), undefined);
});

void t.test(
  'a node that closes its session has no objects any more, though its connection stays',
  async t => {
    const { port, bucket, nodeBucket } = await startSite(t);
    const { digest } = await store(bucket, numbered(8 * chunkBytes));
    const { connection, session } = await port.online();
    const own = await nodeBucket();
    const closing = breakAfter(own, 1, () => void session.close());
    t.equal(
      await codeOf(fetchObject({ client: connection.objects, run, digest, bucket: closing })),
      'CERTIFICATE_REFUSED',
    );
  },
);

void t.test('a writer that falls silent is not waited for', async t => {
  const clock = createManualClock();
  const { port, bucket } = await startSite(t, { clock });
  const { connection } = await port.online();
  const manifest = manifestOf([numbered(chunkBytes)]);
  const call = connection.objects.write();
  const code = new Promise<string>(resolve => call.on('error', error => resolve(toCallFailure(error).code)));
  const answered = new Promise<void>(resolve => call.once('data', () => resolve()));
  call.write(first(manifest));
  await answered;
  clock.advance(31_000);
  t.equal(await code, 'DEADLINE_EXCEEDED');
  t.equal(await bucket.find(manifest.digest), undefined);
});

void t.test('a reader that takes nothing loses its connection', async t => {
  const clock = createManualClock();
  let taken = 0;
  const { port, bucket } = await startSite(t, {
    clock,
    wrap: each => ({
      ...each,
      async *readPieces(...of) {
        for await (const bytes of each.readPieces(...of)) {
          taken += 1;
          yield bytes;
        }
      },
    }),
  });
  const manifest = await store(bucket, numbered(40 * chunkBytes));
  const { connection } = await port.online();
  const digest = Buffer.from(manifest.digest, 'hex');
  const call = connection.objects.read({ run, digest, fromChunk: 0 });
  call.on('error', () => undefined);
  await new Promise<void>(resolve => call.once('data', () => resolve()));
  call.pause();
  // Nobody reads on: the link stops when what is on the way is full.
  for (let before = -1; before < taken;) {
    before = taken;
    for (let count = 0; count < 10; count++) await pause();
  }
  t.ok(taken * limits.pieceBytes < 20 * chunkBytes, `${taken} pieces were read ahead`);
  clock.advance(31_000);
  await connection.closed;
  t.pass('it was closed');
});

function pause(): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, 20));
}

/** Calls at the end of each chunk. */
function onChunk(bucket: ObjectBucket, call: () => void): ObjectBucket {
  return breakAfter(bucket, Infinity, () => undefined, call);
}

void t.test('64 MiB pass through with flat memory', async t => {
  // Everything of this process: both ends of the connection and their disks.
  const held: number[] = [];
  let chunks = 0;
  const measure = (): void => {
    chunks += 1;
    if (chunks % 16 !== 0) return;
    collectGarbage();
    held.push(process.memoryUsage().arrayBuffers);
  };
  const { port, bucket, nodeBucket } = await startSite(t, { wrap: each => onChunk(each, measure) });
  const [writer, reader] = [await port.online(), await port.online()];
  const [from, to] = [await nodeBucket(), onChunk(await nodeBucket(), measure)];
  const count = 64;
  const chunk = (index: number): Buffer => numbered(chunkBytes, index);
  const digests = Array.from({ length: count }, (_, index) => digestOfChunk(chunk(index)));
  const manifest = makeManifest(count * chunkBytes, digests);
  for (const index of await from.begin(manifest)) await from.writeChunk(manifest, index, chunk(index));
  await from.finish(manifest);

  await sendObject({ client: writer.connection.objects, run, manifest, bucket: from });
  await fetchObject({ client: reader.connection.objects, run, digest: manifest.digest, bucket: to });
  t.equal(chunks, 2 * count);
  const growth = Math.max(...held) - Math.min(...held);
  // Buffers are freed beside the program, a busy machine is late with it; what grew with the object would be twice its size.
  t.ok(growth < (count / 2) * chunkBytes, `${Math.round(growth / 1024)} KiB between the least and the most`);
  t.same(await to.find(manifest.digest), manifest);
  t.same(await bucket.find(manifest.digest), manifest);
});

void t.test('a link as a whole has no objects for a node without a run', async t => {
  const link = await startTestLink(t);
  const key = newKey();
  await link.register(key);
  const { connection } = await link.online(key);
  const own = objectStoreIn(await makeFolder(t)).bucket('7', 'node');
  const manifest = await store(own, numbered(5));
  const client = connection.objects;
  t.equal(
    await codeOf(fetchObject({ client, run, digest: manifestOf([numbered(6)]).digest, bucket: own })),
    'NOT_FOUND',
  );
  t.equal(await codeOf(sendObject({ client, run, manifest, bucket: own })), 'NOT_FOUND');
});
