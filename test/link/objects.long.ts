import t, { type Test } from 'tap';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { RollcallError } from '../../src/base/errors.js';
import type { NodeObjects } from '../../src/link/runs/messages/node-objects.js';
import { fetchObject, sendObject } from '../../src/node/runs/object-transfer.js';
import { chunkBytes } from '../../src/objects/limits.js';
import {
  digestOfChunk,
  makeManifest,
  manifestOf,
  readChunkOf,
  type Manifest,
} from '../../src/objects/manifest.js';
import type { LinkConnection, SentFrame } from '../../src/node/connection.js';
import {
  ObjectConnections,
  Transfer,
  type ObjectsLink,
  type TransferFrame,
} from '../../src/node/object-connection.js';
import type { Piece, WriteObject } from '../../src/protocol/generated/rollcall/v1/link.js';
import { fromLinkError } from '../../src/protocol/link-error.js';
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

/** The frames of a writer: the manifest first, then pieces. */
type Request =
  | { readonly $case: 'writeObject'; readonly value: WriteObject }
  | { readonly $case: 'piece'; readonly value: Piece };

interface Written {
  readonly missing: readonly number[];
  readonly isStored: boolean;
  readonly code: string;
}

/** Writes frames as they are, and gives what came of it and the code that ended the transfer or the connection. */
async function writeByHand(connection: LinkConnection, requests: readonly Request[]): Promise<Written> {
  let missing: readonly number[] = [];
  let isStored = false;
  const code = new Promise<string>(resolve => {
    connection.listen(frame => {
      if (frame.$case === 'missingChunks') missing = frame.value.chunks;
      if (frame.$case === 'stored') {
        isStored = true;
        resolve('nothing');
      }
      if (frame.$case === 'transferError' && frame.value.error)
        resolve(fromLinkError(frame.value.error).code);
    });
    void connection.over.then(error => resolve(error.code));
  });
  connection.send({ $case: 'openObjects', value: { protocolVersion: 1 } });
  let allowed = 0;
  connection.listen(frame => {
    if (frame.$case === 'missingChunks' || frame.$case === 'takePieces') allowed += frame.value.pieces;
  });
  for (const request of requests) {
    if (request.$case === 'piece' && allowed > 0) allowed -= 1;
    connection.send(request);
    // In the order and as fast as the link asks for it, as far as it does.
    for (let turns = 0; allowed === 0 && turns < 20; turns += 1) await pause(1);
  }
  const ended = await Promise.race([code, pause(300).then(() => 'given up')]);
  connection.send({ $case: 'endTransfer', value: { transfer: 1 } });
  await connection.close();
  return { missing, isStored, code: ended };
}

const first = ({ bytes }: Pick<Manifest, 'bytes'>, of = run): Request => ({
  $case: 'writeObject',
  value: { transfer: 1, run: of, manifest: bytes },
});
const piece = (chunk: number, bytes: Buffer): Request => ({
  $case: 'piece',
  value: { transfer: 1, chunk, bytes },
});
const piecesOf = (chunk: number, bytes: Buffer): Request[] =>
  Array.from({ length: Math.ceil(bytes.length / limits.pieceBytes) }, (_, at) =>
    piece(chunk, bytes.subarray(at * limits.pieceBytes, (at + 1) * limits.pieceBytes)),
  );

void t.test('objects are sent to the link and to other nodes unchanged', async t => {
  const { port, bucket, nodeBucket } = await startSite(t);
  const [writer, reader] = [await port.online(), await port.online()];
  const [from, to] = [await nodeBucket(), await nodeBucket()];
  for (const size of [1, limits.pieceBytes + 1, chunkBytes, 2 * chunkBytes + 1]) {
    const bytes = numbered(size, size);
    const manifest = await store(from, bytes);
    await sendObject({ objects: port.objects(writer.enrollment), run, manifest, bucket: from });
    t.ok((await read(bucket, manifest)).equals(bytes), 'it is on the disk of the link');
    await sendObject({ objects: port.objects(writer.enrollment), run, manifest, bucket: from });
    const { digest } = manifest;
    t.same(
      await fetchObject({ objects: port.objects(reader.enrollment), run, digest, bucket: to }),
      manifest,
    );
    t.ok((await read(to, manifest)).equals(bytes));
    t.same(
      await fetchObject({ objects: port.objects(reader.enrollment), run, digest, bucket: to }),
      manifest,
    );
  }
});

void t.test('without a session no object is read or written', async t => {
  const { port, bucket, nodeBucket } = await startSite(t);
  const { digest } = await store(bucket, numbered(1000));
  const own = await nodeBucket();
  const manifest = await store(own, numbered(1000, 1));
  const both = async (objects: ObjectsLink) => [
    await codeOf(fetchObject({ objects, run, digest, bucket: await nodeBucket() })),
    await codeOf(sendObject({ objects, run, manifest, bucket: own })),
  ];
  const refused = ['CERTIFICATE_REFUSED', 'CERTIFICATE_REFUSED'];
  t.same(await both(port.objects()), refused, 'a stranger');
  const enrollment = await port.register();
  t.same(await both(port.objects(enrollment)), refused, 'a certificate alone');
  const live = await port.online(enrollment);
  const objects = port.objects(enrollment);
  t.same(await both(objects), ['nothing', 'nothing'], 'with a session');
  await live.session.close();
  t.same(await both(objects), refused, 'a session that is over');
  t.equal(await bucket.find(manifest.digest).then(found => found?.digest), manifest.digest);
});

void t.test('a missing, foreign or unreadable object is NOT_FOUND', async t => {
  const { port, bucket, nodeBucket } = await startSite(t);
  const { digest } = await store(bucket, numbered(1000));
  const { enrollment } = await port.online();
  const objects = port.objects(enrollment);
  const own = await nodeBucket();
  t.equal(await codeOf(fetchObject({ objects, run: 8n, digest, bucket: own })), 'NOT_FOUND');
  const other = manifestOf([numbered(5)]).digest;
  t.equal(await codeOf(fetchObject({ objects, run, digest: other, bucket: own })), 'NOT_FOUND');
  t.equal(await codeOf(fetchObject({ objects, run, digest: 'ab', bucket: own })), 'PROTOCOL_INVALID');
  const manifest = await store(own, numbered(5));
  t.equal(await codeOf(sendObject({ objects, run: 8n, manifest, bucket: own })), 'NOT_FOUND');
});

void t.test('a write that violates the protocol is refused and leaves nothing', async t => {
  const { port, bucket } = await startSite(t);
  const { enrollment } = await port.online();
  const bytes = numbered(2 * chunkBytes + 10);
  const manifest = manifestOf([bytes]);
  const chunk = (index: number): Buffer => readChunkOf([bytes], index);
  const wrong = numbered(chunkBytes, 1);
  const cases: Readonly<Record<string, readonly Request[]>> = {
    'no manifest': [first({ bytes: none })],
    'an invalid manifest': [first({ bytes: manifest.bytes.subarray(0, 60) })],
    'the manifest twice': [first(manifest), first(manifest)],
    'an empty piece': [first(manifest), piece(0, none)],
    'another chunk': [first(manifest), piece(1, chunk(1).subarray(0, 10))],
    'a chunk with a wrong digest': [first(manifest), ...piecesOf(0, wrong)],
    'a piece that goes on into the next chunk': [
      first(manifest),
      ...piecesOf(0, chunk(0)).slice(0, -1),
      piece(0, chunk(0).subarray(0, limits.pieceBytes)),
    ],
    'too large a piece': [first(manifest), piece(0, chunk(0).subarray(0, limits.pieceBytes + 1))],
  };
  for (const [what, requests] of Object.entries(cases)) {
    const { code, isStored } = await writeByHand(await port.connect(enrollment), requests);
    t.equal(code, 'PROTOCOL_INVALID', what);
    t.notOk(isStored, what);
  }
  const early = [first(manifest), ...piecesOf(0, chunk(0)), ...piecesOf(1, chunk(1))];
  t.match(await writeByHand(await port.connect(enrollment), early), { isStored: false, code: 'given up' });
  t.equal(await bucket.find(manifest.digest), undefined);
  t.same(await bucket.begin(manifest), [2], 'whole chunks stayed');
  const rest = [first(manifest), ...piecesOf(2, chunk(2))];
  t.same(await writeByHand(await port.connect(enrollment), rest), {
    missing: [2],
    isStored: true,
    code: 'nothing',
  });
});

void t.test('unexpected frames on an object connection end it', async t => {
  const { port } = await startSite(t);
  const { enrollment } = await port.online();
  const manifest = manifestOf([numbered(chunkBytes)]);
  const many = Array.from({ length: limits.transfersPerConnection + 1 }, (_, number): SentFrame => ({
    $case: 'writeObject',
    value: { transfer: number, run, manifest: manifest.bytes },
  }));
  const flood = [first(manifest), ...Array.from({ length: 20 }, () => piece(0, numbered(10)))];
  const cases: Readonly<Record<string, readonly SentFrame[]>> = {
    'a pong': [{ $case: 'pong', value: { sequence: 1n } }],
    'a session': [
      { $case: 'ready', value: { protocolVersion: 1, agentVersion: '', nodeClockMs: 0n, runs: [] } },
    ],
    'the same number twice': [first(manifest), first(manifest)],
    'more transfers than may be': many,
    'more pieces than were asked for': flood,
    'pieces of an object that is written are asked for': [
      first(manifest),
      { $case: 'takePieces', value: { transfer: 1, pieces: 1 } },
    ],
  };
  for (const [what, frames] of Object.entries(cases)) {
    const connection = await port.connect(enrollment);
    connection.send({ $case: 'openObjects', value: { protocolVersion: 1 } });
    for (const frame of frames) connection.send(frame);
    t.equal((await connection.over).code, 'PROTOCOL_INVALID', what);
    await connection.closed;
  }
  const late = await port.connect(enrollment);
  late.send({ $case: 'openObjects', value: { protocolVersion: 2 } });
  t.equal((await late.over).code, 'PROTOCOL_VERSION');
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

void t.test('an interrupted read of an object resumes where it was', async t => {
  const { port, bucket, nodeBucket } = await startSite(t);
  const bytes = numbered(6 * chunkBytes + 1);
  const { digest, ...manifest } = await store(bucket, bytes);
  const own = await nodeBucket();
  const broken = await port.online();
  const breaking = breakAfter(own, 3, () => void port.cut(broken.enrollment.nodeId));
  t.equal(
    await codeOf(fetchObject({ objects: port.objects(broken.enrollment), run, digest, bucket: breaking })),
    'LINK_UNREACHABLE',
  );
  t.same(await own.begin({ digest, ...manifest }), [3, 4, 5, 6]);

  await port.online(broken.enrollment);
  const asked: number[] = [];
  const inner = port.objects(broken.enrollment);
  const objects: ObjectsLink = {
    async begin(signal) {
      const transfer = await inner.begin(signal);
      const send = transfer.send.bind(transfer);
      transfer.send = frame => {
        if (frame.$case === 'readObject') asked.push(frame.value.fromChunk);
        return send(frame);
      };
      return transfer;
    },
  };
  await fetchObject({ objects, run, digest, bucket: own });
  t.same(asked, [0, 3], 'what is here is not sent again');
  t.ok((await read(own, { digest, ...manifest })).equals(bytes));
});

void t.test('an interrupted write of an object resumes where it was', async t => {
  let cut = (): void => undefined;
  const { port, bucket, nodeBucket } = await startSite(t, { wrap: each => breakAfter(each, 3, () => cut()) });
  const bytes = numbered(6 * chunkBytes + 1);
  const own = await nodeBucket();
  const manifest = await store(own, bytes);
  const broken = await port.online();
  cut = () => void port.cut(broken.enrollment.nodeId);
  t.equal(
    await codeOf(sendObject({ objects: port.objects(broken.enrollment), run, manifest, bucket: own })),
    'LINK_UNREACHABLE',
  );
  await port.online(broken.enrollment);
  const { missing } = await writeByHand(await port.connect(broken.enrollment), [first(manifest)]);
  t.same(missing, [3, 4, 5, 6]);
  await sendObject({ objects: port.objects(broken.enrollment), run, manifest, bucket: own });
  t.ok((await read(bucket, manifest)).equals(bytes));
});

void t.test('the reader of an object verifies every piece', async t => {
  const { nodeBucket } = await startSite(t);
  const bytes = numbered(chunkBytes + 10);
  const manifest = manifestOf([bytes]);
  const transfer = 1;
  const head: TransferFrame = { $case: 'manifest', value: { transfer, manifest: manifest.bytes } };
  const part = (chunk: number, content: Buffer): TransferFrame => ({
    $case: 'piece',
    value: { transfer, chunk, bytes: content },
  });
  const small = manifestOf([numbered(10)]).bytes;
  const cases: Readonly<Record<string, readonly TransferFrame[]>> = {
    'no manifest': [part(0, bytes.subarray(0, 10))],
    'another manifest': [{ $case: 'manifest', value: { transfer, manifest: small } }],
    'no pieces': [head, { $case: 'stored', value: { transfer } }],
    'an empty piece': [head, part(0, none)],
    'another chunk first': [head, part(1, bytes.subarray(chunkBytes))],
    'too long a chunk': [head, part(0, bytes)],
    'a wrong chunk': [head, part(0, numbered(chunkBytes, 1))],
  };
  for (const [what, frames] of Object.entries(cases)) {
    const nowhere = { send: () => true, drained: () => Promise.resolve() };
    const objects: ObjectsLink = {
      begin(signal) {
        const made = new Transfer(transfer, nowhere, signal, () => undefined);
        for (const frame of frames) made.receive(frame);
        return Promise.resolve(made);
      },
    };
    const bucket = await nodeBucket();
    t.equal(
      await codeOf(fetchObject({ objects, run, digest: manifest.digest, bucket })),
      'PROTOCOL_INVALID',
      what,
    );
    t.equal(await bucket.find(manifest.digest), undefined, what);
  }
});

void t.test('aborting a transfer ends it at once', async t => {
  const { port, bucket, nodeBucket } = await startSite(t);
  const { digest } = await store(bucket, numbered(3 * chunkBytes));
  const { enrollment } = await port.online();
  const objects = port.objects(enrollment);
  const own = await nodeBucket();
  const stop = new AbortController();
  const stopping = breakAfter(own, 1, () => stop.abort());
  const { signal } = stop;
  t.equal(await codeOf(fetchObject({ objects, run, digest, bucket: stopping, signal })), 'LINK_UNREACHABLE');
  t.equal(
    await codeOf(fetchObject({ objects, run, digest, bucket: own, signal })),
    'LINK_UNREACHABLE',
    'told before',
  );
  t.equal(
    await codeOf(fetchObject({ objects, run, digest, bucket: own })),
    'nothing',
    'the session is still there',
  );
});

void t.test('a damaged chunk on the disk of the link is reported as an error of the link', async t => {
  const { port, bucket, folder, nodeBucket } = await startSite(t);
  const manifest = await store(bucket, numbered(2 * chunkBytes));
  await writeFile(join(folder, 'chunks', manifest.chunks[1] ?? ''), numbered(chunkBytes, 5));
  const { enrollment } = await port.online();
  const own = await nodeBucket();
  t.equal(
    await codeOf(
      fetchObject({ objects: port.objects(enrollment), run, digest: manifest.digest, bucket: own }),
    ),
    'INTERNAL',
  );
  t.same(await own.begin(manifest), [1]);
  t.ok(
    port.logged.some(
      line => line.includes('reading an object failed') && line.includes('not what was written'),
    ),
  );
});

void t.test('a revoked node cannot continue reading an object', async t => {
  const { port, bucket, nodeBucket } = await startSite(t);
  const { digest } = await store(bucket, numbered(4 * chunkBytes));
  const { connection, enrollment } = await port.online();
  const own = await nodeBucket();
  let revoked: Promise<void> | undefined;
  const revoking = breakAfter(own, 1, () => void (revoked = port.revoke(enrollment.nodeId)));
  const code = await codeOf(
    fetchObject({ objects: port.objects(enrollment), run, digest, bucket: revoking }),
  );
  t.ok(['LINK_UNREACHABLE', 'NODE_REVOKED', 'CERTIFICATE_REFUSED'].includes(code), code);
  await revoked;
  await connection.closed;
  t.equal(await own.find(digest), undefined);
});

void t.test('a node that closes its session cannot continue a transfer', async t => {
  const { port, bucket, nodeBucket } = await startSite(t);
  const { digest } = await store(bucket, numbered(8 * chunkBytes));
  const { enrollment, session } = await port.online();
  const own = await nodeBucket();
  const closing = breakAfter(own, 1, () => void session.close());
  t.equal(
    await codeOf(fetchObject({ objects: port.objects(enrollment), run, digest, bucket: closing })),
    'CERTIFICATE_REFUSED',
  );
});

void t.test('a transfer whose writer is silent ends', async t => {
  const clock = createManualClock();
  const { port, bucket } = await startSite(t, { clock });
  const { enrollment } = await port.online();
  const manifest = manifestOf([numbered(chunkBytes)]);
  const transfer = await port.objects(enrollment).begin();
  transfer.send({
    $case: 'writeObject',
    value: { transfer: transfer.number, run, manifest: manifest.bytes },
  });
  t.equal((await transfer.next()).$case, 'missingChunks');
  const code = codeOf(transfer.next());
  clock.advance(31_000);
  t.equal(await code, 'DEADLINE_EXCEEDED');
  t.equal(await bucket.find(manifest.digest), undefined);
});

void t.test('a transfer whose reader requests no more ends', async t => {
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
  const { enrollment } = await port.online();
  const transfer = await port.objects(enrollment).begin();
  const digest = Buffer.from(manifest.digest, 'hex');
  const pieces = limits.piecesAhead;
  const value = { transfer: transfer.number, run, digest, fromChunk: 0, pieces };
  transfer.send({ $case: 'readObject', value });
  t.equal((await transfer.next()).$case, 'manifest');
  for (let heard = 0; heard < pieces; heard += 1) t.equal((await transfer.next()).$case, 'piece');
  const code = codeOf(transfer.next());
  // The link stops when all that was asked for is on its way.
  for (let before = -1; before < taken;) {
    before = taken;
    for (let count = 0; count < 10; count++) await pause();
  }
  t.ok(taken <= pieces + 1, `${taken} pieces were read`);
  clock.advance(31_000);
  t.equal(await code, 'DEADLINE_EXCEEDED');
});

function pause(ms = 20): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms));
}

/** Calls at the end of each chunk. */
function onChunk(bucket: ObjectBucket, call: () => void): ObjectBucket {
  return breakAfter(bucket, Infinity, () => undefined, call);
}

void t.test('64 MiB are transferred with constant memory', async t => {
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

  await sendObject({ objects: port.objects(writer.enrollment), run, manifest, bucket: from });
  await fetchObject({ objects: port.objects(reader.enrollment), run, digest: manifest.digest, bucket: to });
  t.equal(chunks, 2 * count);
  // Four values each while it is sent and while it is received. Buffers are freed beside the program, a busy machine is late
  // with it: so the lower one of two is taken. What grew with the object would be 32 MiB more at the end than at the beginning.
  for (const [one = 0, two = 0, three = 0, four = 0] of [held.slice(0, 4), held.slice(4)]) {
    const growth = Math.min(three, four) - Math.min(one, two);
    t.ok(
      growth < (count / 3) * chunkBytes,
      `${Math.round(growth / 1024)} KiB more at the end than at the beginning`,
    );
  }
  t.same(await to.find(manifest.digest), manifest);
  t.same(await bucket.find(manifest.digest), manifest);
});

void t.test('a node without a run gets no objects from a complete link', async t => {
  const link = await startTestLink(t);
  const key = newKey();
  await link.register(key);
  const { enrollment } = await link.online(key);
  const own = objectStoreIn(await makeFolder(t)).bucket('7', 'node');
  const manifest = await store(own, numbered(5));
  const objects = new ObjectConnections(() => link.connect(enrollment), link.clock);
  t.teardown(() => objects.close());
  t.equal(
    await codeOf(fetchObject({ objects, run, digest: manifestOf([numbered(6)]).digest, bucket: own })),
    'NOT_FOUND',
  );
  t.equal(await codeOf(sendObject({ objects, run, manifest, bucket: own })), 'NOT_FOUND');
});
