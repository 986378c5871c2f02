import t from 'tap';
import { readdir, readFile, readlink, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { chunkBytes } from '../../src/objects/limits.js';
import { manifestOf, readChunkOf, type Manifest } from '../../src/objects/manifest.js';
import type { ObjectBucket } from '../../src/objects/object-store.js';
import { objectStoreIn } from '../harness/objects.js';
import { makeFolder } from '../harness/folder.js';
import { numbered } from '../harness/numbered-bytes.js';
import { codeOf } from '../harness/outcome.js';
import { mountSmallDisk } from '../harness/tmpfs.js';

async function write(bucket: ObjectBucket, bytes: Buffer): Promise<Manifest> {
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

/** Every file below, with its size. */
async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();
}

void t.test('an object can be read back once it is finished', async t => {
  const folder = join(await makeFolder(t), 'objects');
  const bucket = objectStoreIn(folder).bucket('7', 'server');
  for (const size of [1, chunkBytes - 1, chunkBytes, chunkBytes + 1, 3 * chunkBytes + 5]) {
    const bytes = numbered(size, size);
    const manifest = manifestOf([bytes]);
    const missing = await bucket.begin(manifest);
    t.same(missing, [...manifest.chunks.keys()]);
    for (const index of missing) {
      t.equal(await bucket.find(manifest.digest), undefined, 'not before');
      await bucket.writeChunk(manifest, index, readChunkOf([bytes], index));
    }
    t.equal(await bucket.find(manifest.digest), undefined, 'nor when all chunks are there');
    await bucket.finish(manifest);
    t.same(await bucket.find(manifest.digest), manifest);
    t.ok((await read(bucket, manifest)).equals(bytes));
    t.same(await bucket.begin(manifest), [], 'nothing is missing now');
    await bucket.finish(manifest);
  }
});

void t.test('object files are private to their user', async t => {
  const folder = join(await makeFolder(t), 'objects');
  await write(objectStoreIn(folder).bucket('7', 'server'), numbered(chunkBytes + 1));
  const modes = await Promise.all(
    ['', '7', '7/server', '7/server/chunks', ...(await filesBelow(folder))].map(
      async path => (await stat(join(folder, path))).mode & 0o777,
    ),
  );
  t.same(modes, [0o700, 0o700, 0o700, 0o700, 0o600, 0o600, 0o600]);
});

void t.test('a hundred readers that stop within a chunk keep at most 64 files open', async t => {
  const folder = await makeFolder(t);
  const bucket = objectStoreIn(folder).bucket('7', 'server');
  const manifest = await write(bucket, numbered(chunkBytes));
  const countOpen = async (): Promise<number> => {
    const targets = (await readdir('/proc/self/fd')).map(fd =>
      readlink(`/proc/self/fd/${fd}`).catch(() => ''),
    );
    return (await Promise.all(targets)).filter(target => target.startsWith(folder)).length;
  };
  const readers = Array.from({ length: 100 }, () => bucket.readPieces(manifest, 0, 60 * 1024));
  for (const reader of readers) t.equal((await reader.next()).value?.length, 60 * 1024);
  t.equal(await countOpen(), 64);
  for (const [index, reader] of readers.entries()) {
    if (index % 2 === 0) {
      await reader.return();
      continue;
    }
    let length = 60 * 1024;
    for await (const piece of reader) length += piece.length;
    t.equal(length, chunkBytes);
  }
  t.equal(await countOpen(), 0);
});

void t.test('a chunk is read in pieces, and a damaged chunk never completely', async t => {
  const folder = await makeFolder(t);
  const bucket = objectStoreIn(folder).bucket('7', 'server');
  const bytes = numbered(chunkBytes + 100);
  const manifest = await write(bucket, bytes);
  const pieces: Buffer[] = [];
  for await (const piece of bucket.readPieces(manifest, 0, 60 * 1024)) pieces.push(piece);
  t.ok(Buffer.concat(pieces).equals(bytes.subarray(0, chunkBytes)));
  t.ok(pieces.every(piece => piece.length <= 60 * 1024));

  const path = join(folder, '7/server/chunks', manifest.chunks[0] ?? '');
  const content = await readFile(path);
  content.writeUInt8(content.readUInt8(5) ^ 1, 5);
  await writeFile(path, content);
  t.equal(await codeOf(bucket.readChunk(manifest, 0)), 'INTERNAL');
  let length = 0;
  const readAll = async (): Promise<void> => {
    for await (const piece of bucket.readPieces(manifest, 0, 60 * 1024)) length += piece.length;
  };
  t.equal(await codeOf(readAll()), 'INTERNAL');
  t.ok(length < chunkBytes, 'the last piece was held back');

  await truncate(path, 10);
  t.equal(await codeOf(bucket.readChunk(manifest, 0)), 'INTERNAL', 'cut short');
  await rm(path);
  t.equal(await codeOf(bucket.readChunk(manifest, 0)), 'NOT_FOUND', 'gone');
  t.equal(await codeOf(bucket.readChunk(manifest, 2)), 'PROTOCOL_INVALID', 'there never was one');

  t.same(await bucket.begin(manifest), [0], 'anyone who has it may bring it again');
  await bucket.writeChunk(manifest, 0, bytes.subarray(0, chunkBytes));
  await bucket.finish(manifest);
  t.ok((await read(bucket, manifest)).equals(bytes));
});

void t.test('bytes that do not match the chunk are refused and leave no file', async t => {
  const folder = await makeFolder(t);
  const bucket = objectStoreIn(folder).bucket('7', 'server');
  const bytes = numbered(chunkBytes + 100);
  const manifest = manifestOf([bytes]);
  await bucket.begin(manifest);
  const wrong: Readonly<Record<string, Buffer>> = {
    'another chunk': numbered(chunkBytes, 1),
    'a byte less': bytes.subarray(0, chunkBytes - 1),
    'a byte more': bytes,
    nothing: Buffer.alloc(0),
  };
  for (const [what, content] of Object.entries(wrong))
    t.equal(await codeOf(bucket.writeChunk(manifest, 0, content)), 'PROTOCOL_INVALID', what);
  t.equal(await codeOf(bucket.writeChunk(manifest, 2, bytes)), 'PROTOCOL_INVALID', 'no such chunk');
  t.same(await filesBelow(folder), []);
  await bucket.writeChunk(manifest, 1, bytes.subarray(chunkBytes));
  t.equal(await codeOf(bucket.finish(manifest)), 'PROTOCOL_INVALID', 'a chunk is missing');
  t.equal(await bucket.find(manifest.digest), undefined);
});

void t.test('a chunk may come in pieces of any size, and be discarded at any time', async t => {
  const folder = await makeFolder(t);
  const bucket = objectStoreIn(folder).bucket('7', 'server');
  const bytes = numbered(200_000);
  const manifest = manifestOf([bytes]);
  await bucket.begin(manifest);
  const givenUp = await bucket.beginChunk(manifest, 0);
  const writing = givenUp.write(bytes.subarray(0, 150_000));
  await Promise.all([writing, givenUp.discard(), givenUp.discard()]);
  t.same(await filesBelow(folder), []);
  t.equal(await codeOf(givenUp.finish()), 'PROTOCOL_INVALID');

  const [one, other] = [await bucket.beginChunk(manifest, 0), await bucket.beginChunk(manifest, 0)];
  for (const size of [1, 2, 99_997, 100_000]) await one.write(bytes.subarray(0, size));
  t.equal(await codeOf(one.write(Buffer.alloc(1))), 'PROTOCOL_INVALID', 'more than there is');
  await one.discard();
  const again = await bucket.beginChunk(manifest, 0);
  for (const at of [0, 1, 70_000, 199_999])
    await again.write(
      bytes.subarray(
        at,
        [0, 1, 70_000, 199_999, 200_000].find(end => end > at),
      ),
    );
  await other.write(bytes);
  await Promise.all([again.finish(), other.finish()]);
  await Promise.all([again.discard(), other.discard()]);
  await bucket.finish(manifest);
  t.ok((await read(bucket, manifest)).equals(bytes));
  t.equal((await filesBelow(folder)).length, 2);
});

void t.test('a reopened object store resumes with its complete chunks', async t => {
  const folder = await makeFolder(t);
  const bytes = numbered(4 * chunkBytes);
  const manifest = manifestOf([bytes]);
  const first = objectStoreIn(folder).bucket('7', '12');
  const stored = await write(first, numbered(chunkBytes, 1));
  await first.begin(manifest);
  for (const index of [0, 1, 2]) await first.writeChunk(manifest, index, readChunkOf([bytes], index));
  const unfinished = await first.beginChunk(manifest, 3);
  await unfinished.write(bytes.subarray(3 * chunkBytes, 3 * chunkBytes + 300_000));
  // As a crash of the machine leaves them: one cut short, one of zeros.
  await truncate(join(folder, '7/12/chunks', manifest.chunks[0] ?? ''), 0);
  await writeFile(join(folder, '7/12/chunks', manifest.chunks[2] ?? ''), Buffer.alloc(chunkBytes));
  await writeFile(join(folder, '7/12', `.${manifest.digest}.0a0b0c`), manifest.bytes.subarray(0, 20));
  t.ok((await filesBelow(folder)).some(name => name.includes('draft')));

  const store = objectStoreIn(folder);
  const second = store.bucket('7', '12');
  t.same(await second.find(stored.digest), stored);
  t.equal(await second.find(manifest.digest), undefined);
  t.same(await second.begin(manifest), [0, 2, 3], 'only what is what it says is there');
  t.notOk((await filesBelow(folder)).some(name => name.includes('draft') || name.includes('.')));
  for (const index of [0, 2, 3]) await second.writeChunk(manifest, index, readChunkOf([bytes], index));
  await second.finish(manifest);
  t.ok((await read(second, manifest)).equals(bytes));
  t.same(await store.listRuns(), ['7']);
});

void t.test('an object with a damaged manifest is not found', async t => {
  const folder = await makeFolder(t);
  const bytes = numbered(1000);
  const { digest } = await write(objectStoreIn(folder).bucket('7', 'server'), bytes);
  await writeFile(join(folder, '7/server', digest), manifestOf([numbered(1000, 1)]).bytes);
  const bucket = objectStoreIn(folder).bucket('7', 'server');
  t.equal(await bucket.find(digest), undefined);
  t.same(await bucket.begin(manifestOf([bytes])), []);
  await bucket.finish(manifestOf([bytes]));
  t.equal((await bucket.find(digest))?.sizeBytes, 1000);
});

void t.test('chunks are stored once, and removed with the last object that has them', async t => {
  const folder = await makeFolder(t);
  const [a, b, c] = [numbered(chunkBytes, 1), numbered(chunkBytes, 2), numbered(chunkBytes, 3)];
  let bucket = objectStoreIn(folder).bucket('7', 'server');
  const ab = await write(bucket, Buffer.concat([a, b]));
  const bc = manifestOf([b, c, b, c]);
  t.same(await bucket.begin(bc), [1], 'one that is there, or comes again, is not asked for');
  await write(bucket, Buffer.concat([b, c, b, c]));
  t.equal((await filesBelow(folder)).length, 3 + 2);

  // Also when it was another process that wrote them.
  bucket = objectStoreIn(folder).bucket('7', 'server');
  bucket.retain(ab.digest);
  bucket.retain(ab.digest);
  bucket.retain(bc.digest);
  await bucket.release(ab.digest);
  t.ok(await bucket.find(ab.digest), 'somebody has it still');
  await bucket.release(ab.digest);
  t.equal(await bucket.find(ab.digest), undefined);
  t.same((await filesBelow(folder)).length, 2 + 1, 'only the chunk that the other one has not is gone');
  t.ok((await read(bucket, bc)).equals(Buffer.concat([b, c, b, c])));
  await bucket.release(bc.digest);
  t.same(await filesBelow(folder), []);
  await bucket.release(bc.digest);
});

void t.test('releasing an object keeps chunks of another that has begun', async t => {
  const folder = await makeFolder(t);
  const bucket = objectStoreIn(folder).bucket('7', 'server');
  const [a, b] = [numbered(chunkBytes, 1), numbered(chunkBytes, 2)];
  const first = await write(bucket, a);
  bucket.retain(first.digest);
  const both = manifestOf([a, b]);
  t.same(await bucket.begin(both), [1]);
  await bucket.release(first.digest);
  await bucket.writeChunk(both, 1, b);
  await bucket.finish(both);
  t.ok((await read(bucket, both)).equals(Buffer.concat([a, b])));

  bucket.retain(both.digest);
  // A second message is about to be sent with it when the first one is answered.
  t.same(await bucket.begin(both), []);
  await bucket.finish(both);
  await bucket.release(both.digest);
  t.ok(await bucket.find(both.digest), 'it waits to be retained');
  bucket.retain(both.digest);
  await bucket.release(both.digest);
  t.same(await filesBelow(folder), []);

  // Given up in the middle.
  t.same(await bucket.begin(both), [0, 1]);
  await bucket.writeChunk(both, 0, a);
  bucket.retain(both.digest);
  await bucket.release(both.digest);
  t.same(await filesBelow(folder), []);
});

void t.test('a bucket shows no object of another bucket', async t => {
  const store = objectStoreIn(await makeFolder(t));
  const manifest = await write(store.bucket('7', 'server'), numbered(1000));
  for (const [run, party] of [
    ['7', '12'],
    ['8', 'server'],
  ] as const) {
    const other = store.bucket(run, party);
    t.equal(await other.find(manifest.digest), undefined);
    t.equal(await codeOf(other.readChunk(manifest, 0)), 'NOT_FOUND');
    t.same(await other.begin(manifest), [0]);
  }
  t.equal(
    (await store.bucket('7', 'server').find(manifest.digest))?.digest,
    manifest.digest,
    'names are enough',
  );
});

void t.test('a run that is removed during writes stays removed', async t => {
  const folder = await makeFolder(t);
  const store = objectStoreIn(folder);
  const bucket = store.bucket('7', 'server');
  const bytes = numbered(2 * chunkBytes);
  const manifest = manifestOf([bytes]);
  await bucket.begin(manifest);
  const writer = await bucket.beginChunk(manifest, 0);
  const writes = [
    writer.write(bytes.subarray(0, 500_000)),
    bucket.writeChunk(manifest, 1, bytes.subarray(chunkBytes)),
  ];
  const removed = Promise.all([store.removeRun('7'), store.removeRun('7')]);
  t.equal(await codeOf(bucket.begin(manifest)), 'NOT_FOUND');
  await Promise.allSettled(writes);
  await removed;
  t.equal(await codeOf(writer.write(bytes.subarray(500_000, 600_000))), 'NOT_FOUND');
  t.equal(await codeOf(bucket.writeChunk(manifest, 1, bytes.subarray(chunkBytes))), 'NOT_FOUND');
  t.equal(await codeOf(bucket.find(manifest.digest)), 'NOT_FOUND');
  await writer.discard();
  bucket.retain(manifest.digest);
  t.same(await store.listRuns(), []);
  await store.removeRun('8');
  t.same(await objectStoreIn(join(folder, 'none')).listRuns(), []);

  await write(store.bucket('7', 'server'), bytes);
  t.same(await store.listRuns(), ['7'], 'one of the same name is another one');
});

void t.test('no digest or bucket name leads out of the object folder', async t => {
  const store = objectStoreIn(await makeFolder(t));
  for (const name of ['', '.', '..', '../x', 'a/b', 'A', 'a b', 'a\0', 'a'.repeat(33), '7\n'])
    for (const work of [() => store.bucket(name, 'server'), () => store.bucket('7', name)])
      t.throws(work, { code: 'CONFIG_INVALID' }, JSON.stringify(name));
  t.equal(await codeOf(store.removeRun('..')), 'CONFIG_INVALID');
  const bucket = store.bucket('7', 'server');
  for (const digest of ['', '..', '../../x', 'chunks', 'A'.repeat(64)])
    t.equal(await bucket.find(digest), undefined, digest);
});

void t.test('the space of a run is bounded, and small files count as 64 KiB', async t => {
  const folder = await makeFolder(t);
  const maxRunBytes = 3 * chunkBytes;
  const store = objectStoreIn(folder, maxRunBytes);
  const [server, node] = [store.bucket('7', 'server'), store.bucket('7', '12')];
  const one = await write(server, numbered(2 * chunkBytes, 1));
  t.equal(await codeOf(node.begin(manifestOf([numbered(chunkBytes, 2)]))), 'STORE_FULL', 'before it is sent');
  const large = manifestOf([numbered(chunkBytes, 2)]);
  t.equal(await codeOf(node.writeChunk(large, 0, numbered(chunkBytes, 2))), 'STORE_FULL');
  let fitted = 0;
  while ((await codeOf(write(node, numbered(10, 100 + fitted)))) === 'nothing') fitted += 1;
  t.equal(fitted, 7, '64 KiB for the chunk and for the manifest');

  const again = objectStoreIn(folder, maxRunBytes);
  t.equal(await codeOf(again.bucket('7', '12').begin(large)), 'STORE_FULL', 'what lies there counts');
  t.same(await again.bucket('8', '12').begin(large), [0], 'other runs have a bound of their own');
  const bucket = again.bucket('7', 'server');
  bucket.retain(one.digest);
  await bucket.release(one.digest);
  t.equal(await codeOf(write(bucket, numbered(chunkBytes, 2))), 'nothing', 'bucket was made');
});

void t.test('a full disk gives STORE_FULL, and complete objects remain', async t => {
  const disk = await mountSmallDisk(t, 8 * chunkBytes);
  if (!disk) {
    t.comment('a disk cannot be mounted here');
    return;
  }
  const folder = join(disk.folder, 'objects');
  const bucket = objectStoreIn(folder).bucket('7', 'server');
  const kept = await write(bucket, numbered(1000));
  const bytes = numbered(2 * chunkBytes, 1);
  const manifest = manifestOf([bytes]);
  await bucket.begin(manifest);
  await bucket.writeChunk(manifest, 0, bytes.subarray(0, chunkBytes));
  disk.fill();
  t.equal(await codeOf(bucket.writeChunk(manifest, 1, bytes.subarray(chunkBytes))), 'STORE_FULL');
  t.notOk((await filesBelow(folder)).some(name => name.includes('draft')));
  t.equal(await codeOf(bucket.finish(manifest)), 'PROTOCOL_INVALID');
  t.equal((await read(bucket, kept)).length, 1000, 'reading goes on');
  disk.free();
  t.same(await bucket.begin(manifest), [1]);
  await bucket.writeChunk(manifest, 1, bytes.subarray(chunkBytes));
  disk.fill();
  t.equal(await codeOf(bucket.finish(manifest)), 'STORE_FULL', 'no room for the manifest');
  t.equal(await bucket.find(manifest.digest), undefined);
  disk.free();
  await bucket.finish(manifest);
  t.ok((await read(bucket, manifest)).equals(bytes));
  await disk.makeReadOnly();
  t.equal(await codeOf(write(bucket, numbered(5, 5))), 'STORE_UNAVAILABLE');
});

void t.test('an object store that could not be read is read again', async t => {
  const folder = await makeFolder(t);
  const manifest = await write(objectStoreIn(folder).bucket('7', 'server'), numbered(10));
  const bucket = objectStoreIn(folder).bucket('7', 'server');
  const chunks = join(folder, '7/server/chunks');
  // Root can read every folder: a file in the place of the folder cannot be listed.
  await rm(chunks, { recursive: true });
  await writeFile(chunks, '');
  t.equal(await codeOf(bucket.find(manifest.digest)), 'STORE_UNAVAILABLE');
  await rm(chunks);
  t.equal(await codeOf(bucket.find(manifest.digest)), 'nothing');
});
