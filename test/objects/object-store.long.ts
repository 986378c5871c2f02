import t from 'tap';
import { readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { chunkBytes, manifestOf, readChunkOf, type Manifest } from '../../src/objects/manifest.js';
import type { ObjectRoom } from '../../src/objects/object-store.js';
import { objectStoreIn } from '../harness/objects.js';
import { makeFolder } from '../harness/folder.js';
import { numbered } from '../harness/numbered-bytes.js';
import { codeOf } from '../harness/outcome.js';
import { mountSmallDisk } from '../harness/tmpfs.js';

async function write(room: ObjectRoom, bytes: Buffer): Promise<Manifest> {
  const manifest = manifestOf([bytes]);
  for (const index of await room.begin(manifest))
    await room.writeChunk(manifest, index, readChunkOf([bytes], index));
  await room.finish(manifest);
  return manifest;
}

async function read(room: ObjectRoom, manifest: Manifest): Promise<Buffer> {
  const chunks = [];
  for (const index of manifest.chunks.keys()) chunks.push(await room.readChunk(manifest, index));
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

void t.test('an object is there once it is finished, and is what was written', async t => {
  const folder = join(await makeFolder(t), 'objects');
  const room = objectStoreIn(folder).room('7', 'server');
  for (const size of [1, chunkBytes - 1, chunkBytes, chunkBytes + 1, 3 * chunkBytes + 5]) {
    const bytes = numbered(size, size);
    const manifest = manifestOf([bytes]);
    const missing = await room.begin(manifest);
    t.same(missing, [...manifest.chunks.keys()]);
    for (const index of missing) {
      t.equal(await room.find(manifest.digest), undefined, 'not before');
      await room.writeChunk(manifest, index, readChunkOf([bytes], index));
    }
    t.equal(await room.find(manifest.digest), undefined, 'nor when all chunks are there');
    await room.finish(manifest);
    t.same(await room.find(manifest.digest), manifest);
    t.ok((await read(room, manifest)).equals(bytes));
    t.same(await room.begin(manifest), [], 'nothing is missing now');
    await room.finish(manifest);
  }
});

void t.test('nobody else on the machine may read objects', async t => {
  const folder = join(await makeFolder(t), 'objects');
  await write(objectStoreIn(folder).room('7', 'server'), numbered(chunkBytes + 1));
  const modes = await Promise.all(
    ['', '7', '7/server', '7/server/chunks', ...(await filesBelow(folder))].map(
      async path => (await stat(join(folder, path))).mode & 0o777,
    ),
  );
  t.same(modes, [0o700, 0o700, 0o700, 0o700, 0o600, 0o600, 0o600]);
});

void t.test('a chunk is read piece by piece, and a damaged one never whole', async t => {
  const folder = await makeFolder(t);
  const room = objectStoreIn(folder).room('7', 'server');
  const bytes = numbered(chunkBytes + 100);
  const manifest = await write(room, bytes);
  const pieces: Buffer[] = [];
  for await (const piece of room.readPieces(manifest, 0, 60 * 1024)) pieces.push(piece);
  t.ok(Buffer.concat(pieces).equals(bytes.subarray(0, chunkBytes)));
  t.ok(pieces.every(piece => piece.length <= 60 * 1024));

  const path = join(folder, '7/server/chunks', manifest.chunks[0] ?? '');
  const content = await readFile(path);
  content.writeUInt8(content.readUInt8(5) ^ 1, 5);
  await writeFile(path, content);
  t.equal(await codeOf(room.readChunk(manifest, 0)), 'INTERNAL');
  let length = 0;
  const readAll = async (): Promise<void> => {
    for await (const piece of room.readPieces(manifest, 0, 60 * 1024)) length += piece.length;
  };
  t.equal(await codeOf(readAll()), 'INTERNAL');
  t.ok(length < chunkBytes, 'the last piece was held back');

  await truncate(path, 10);
  t.equal(await codeOf(room.readChunk(manifest, 0)), 'INTERNAL', 'cut short');
  await rm(path);
  t.equal(await codeOf(room.readChunk(manifest, 0)), 'NOT_FOUND', 'gone');
  t.equal(await codeOf(room.readChunk(manifest, 2)), 'PROTOCOL_INVALID', 'there never was one');

  t.same(await room.begin(manifest), [0], 'whoever has it may bring it again');
  await room.writeChunk(manifest, 0, bytes.subarray(0, chunkBytes));
  await room.finish(manifest);
  t.ok((await read(room, manifest)).equals(bytes));
});

void t.test('bytes that are not the chunk are refused and leave nothing behind', async t => {
  const folder = await makeFolder(t);
  const room = objectStoreIn(folder).room('7', 'server');
  const bytes = numbered(chunkBytes + 100);
  const manifest = manifestOf([bytes]);
  await room.begin(manifest);
  const wrong: Readonly<Record<string, Buffer>> = {
    'another chunk': numbered(chunkBytes, 1),
    'a byte less': bytes.subarray(0, chunkBytes - 1),
    'a byte more': bytes,
    nothing: Buffer.alloc(0),
  };
  for (const [what, content] of Object.entries(wrong))
    t.equal(await codeOf(room.writeChunk(manifest, 0, content)), 'PROTOCOL_INVALID', what);
  t.equal(await codeOf(room.writeChunk(manifest, 2, bytes)), 'PROTOCOL_INVALID', 'no such chunk');
  t.same(await filesBelow(folder), []);
  await room.writeChunk(manifest, 1, bytes.subarray(chunkBytes));
  t.equal(await codeOf(room.finish(manifest)), 'PROTOCOL_INVALID', 'a chunk is missing');
  t.equal(await room.find(manifest.digest), undefined);
});

void t.test('a chunk may come in pieces of any size, and be given up at any time', async t => {
  const folder = await makeFolder(t);
  const room = objectStoreIn(folder).room('7', 'server');
  const bytes = numbered(200_000);
  const manifest = manifestOf([bytes]);
  await room.begin(manifest);
  const givenUp = await room.beginChunk(manifest, 0);
  const writing = givenUp.write(bytes.subarray(0, 150_000));
  await Promise.all([writing, givenUp.discard(), givenUp.discard()]);
  t.same(await filesBelow(folder), []);
  t.equal(await codeOf(givenUp.finish()), 'PROTOCOL_INVALID');

  const [one, other] = [await room.beginChunk(manifest, 0), await room.beginChunk(manifest, 0)];
  for (const size of [1, 2, 99_997, 100_000]) await one.write(bytes.subarray(0, size));
  t.equal(await codeOf(one.write(Buffer.alloc(1))), 'PROTOCOL_INVALID', 'more than there is');
  await one.discard();
  const again = await room.beginChunk(manifest, 0);
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
  await room.finish(manifest);
  t.ok((await read(room, manifest)).equals(bytes));
  t.equal((await filesBelow(folder)).length, 2);
});

void t.test('a store that is opened again goes on with what was whole', async t => {
  const folder = await makeFolder(t);
  const bytes = numbered(4 * chunkBytes);
  const manifest = manifestOf([bytes]);
  const first = objectStoreIn(folder).room('7', '12');
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
  const second = store.room('7', '12');
  t.same(await second.find(stored.digest), stored);
  t.equal(await second.find(manifest.digest), undefined);
  t.same(await second.begin(manifest), [0, 2, 3], 'only what is what it says is there');
  t.notOk((await filesBelow(folder)).some(name => name.includes('draft') || name.includes('.')));
  for (const index of [0, 2, 3]) await second.writeChunk(manifest, index, readChunkOf([bytes], index));
  await second.finish(manifest);
  t.ok((await read(second, manifest)).equals(bytes));
  t.same(await store.listRuns(), ['7']);
});

void t.test('a manifest that is damaged on the disk is none', async t => {
  const folder = await makeFolder(t);
  const bytes = numbered(1000);
  const { digest } = await write(objectStoreIn(folder).room('7', 'server'), bytes);
  await writeFile(join(folder, '7/server', digest), manifestOf([numbered(1000, 1)]).bytes);
  const room = objectStoreIn(folder).room('7', 'server');
  t.equal(await room.find(digest), undefined);
  t.same(await room.begin(manifestOf([bytes])), []);
  await room.finish(manifestOf([bytes]));
  t.equal((await room.find(digest))?.sizeBytes, 1000);
});

void t.test('chunks are stored once, and go with the last object that has them', async t => {
  const folder = await makeFolder(t);
  const [a, b, c] = [numbered(chunkBytes, 1), numbered(chunkBytes, 2), numbered(chunkBytes, 3)];
  let room = objectStoreIn(folder).room('7', 'server');
  const ab = await write(room, Buffer.concat([a, b]));
  const bc = manifestOf([b, c, b, c]);
  t.same(await room.begin(bc), [1], 'one that is there, or comes again, is not asked for');
  await write(room, Buffer.concat([b, c, b, c]));
  t.equal((await filesBelow(folder)).length, 3 + 2);

  // Also when it was another process that wrote them.
  room = objectStoreIn(folder).room('7', 'server');
  room.retain(ab.digest);
  room.retain(ab.digest);
  room.retain(bc.digest);
  await room.release(ab.digest);
  t.ok(await room.find(ab.digest), 'somebody has it still');
  await room.release(ab.digest);
  t.equal(await room.find(ab.digest), undefined);
  t.same((await filesBelow(folder)).length, 2 + 1, 'only the chunk that the other one has not is gone');
  t.ok((await read(room, bc)).equals(Buffer.concat([b, c, b, c])));
  await room.release(bc.digest);
  t.same(await filesBelow(folder), []);
  await room.release(bc.digest);
});

void t.test('a release takes nothing from an object that has been begun', async t => {
  const folder = await makeFolder(t);
  const room = objectStoreIn(folder).room('7', 'server');
  const [a, b] = [numbered(chunkBytes, 1), numbered(chunkBytes, 2)];
  const first = await write(room, a);
  room.retain(first.digest);
  const both = manifestOf([a, b]);
  t.same(await room.begin(both), [1]);
  await room.release(first.digest);
  await room.writeChunk(both, 1, b);
  await room.finish(both);
  t.ok((await read(room, both)).equals(Buffer.concat([a, b])));

  room.retain(both.digest);
  // A second message is about to be sent with it when the first one is answered.
  t.same(await room.begin(both), []);
  await room.finish(both);
  await room.release(both.digest);
  t.ok(await room.find(both.digest), 'it waits to be retained');
  room.retain(both.digest);
  await room.release(both.digest);
  t.same(await filesBelow(folder), []);

  // Given up in the middle.
  t.same(await room.begin(both), [0, 1]);
  await room.writeChunk(both, 0, a);
  room.retain(both.digest);
  await room.release(both.digest);
  t.same(await filesBelow(folder), []);
});

void t.test('rooms know nothing of one another', async t => {
  const store = objectStoreIn(await makeFolder(t));
  const manifest = await write(store.room('7', 'server'), numbered(1000));
  for (const [run, party] of [
    ['7', '12'],
    ['8', 'server'],
  ] as const) {
    const other = store.room(run, party);
    t.equal(await other.find(manifest.digest), undefined);
    t.equal(await codeOf(other.readChunk(manifest, 0)), 'NOT_FOUND');
    t.same(await other.begin(manifest), [0]);
  }
  t.equal(
    (await store.room('7', 'server').find(manifest.digest))?.digest,
    manifest.digest,
    'names are enough',
  );
});

void t.test('a run that is removed is gone, and stays gone', async t => {
  const folder = await makeFolder(t);
  const store = objectStoreIn(folder);
  const room = store.room('7', 'server');
  const bytes = numbered(2 * chunkBytes);
  const manifest = manifestOf([bytes]);
  await room.begin(manifest);
  const writer = await room.beginChunk(manifest, 0);
  const writes = [
    writer.write(bytes.subarray(0, 500_000)),
    room.writeChunk(manifest, 1, bytes.subarray(chunkBytes)),
  ];
  const removed = Promise.all([store.removeRun('7'), store.removeRun('7')]);
  t.equal(await codeOf(room.begin(manifest)), 'NOT_FOUND');
  await Promise.allSettled(writes);
  await removed;
  t.equal(await codeOf(writer.write(bytes.subarray(500_000, 600_000))), 'NOT_FOUND');
  t.equal(await codeOf(room.writeChunk(manifest, 1, bytes.subarray(chunkBytes))), 'NOT_FOUND');
  t.equal(await codeOf(room.find(manifest.digest)), 'NOT_FOUND');
  await writer.discard();
  room.retain(manifest.digest);
  t.same(await store.listRuns(), []);
  await store.removeRun('8');
  t.same(await objectStoreIn(join(folder, 'none')).listRuns(), []);

  await write(store.room('7', 'server'), bytes);
  t.same(await store.listRuns(), ['7'], 'one of the same name is another one');
});

void t.test('no name leads out of the folder', async t => {
  const store = objectStoreIn(await makeFolder(t));
  for (const name of ['', '.', '..', '../x', 'a/b', 'A', 'a b', 'a\0', 'a'.repeat(33), '7\n'])
    for (const work of [() => store.room(name, 'server'), () => store.room('7', name)])
      t.throws(work, { code: 'CONFIG_INVALID' }, JSON.stringify(name));
  t.equal(await codeOf(store.removeRun('..')), 'CONFIG_INVALID');
  const room = store.room('7', 'server');
  for (const digest of ['', '..', '../../x', 'chunks', 'A'.repeat(64)])
    t.equal(await room.find(digest), undefined, digest);
});

void t.test('what a run may take is bounded, and small files count for more than they hold', async t => {
  const folder = await makeFolder(t);
  const mostRunBytes = 3 * chunkBytes;
  const store = objectStoreIn(folder, mostRunBytes);
  const [server, node] = [store.room('7', 'server'), store.room('7', '12')];
  const one = await write(server, numbered(2 * chunkBytes, 1));
  t.equal(await codeOf(node.begin(manifestOf([numbered(chunkBytes, 2)]))), 'STORE_FULL', 'before it is sent');
  const large = manifestOf([numbered(chunkBytes, 2)]);
  t.equal(await codeOf(node.writeChunk(large, 0, numbered(chunkBytes, 2))), 'STORE_FULL');
  let fitted = 0;
  while ((await codeOf(write(node, numbered(10, 100 + fitted)))) === 'nothing') fitted += 1;
  t.equal(fitted, 7, '64 KiB for the chunk and for the manifest');

  const again = objectStoreIn(folder, mostRunBytes);
  t.equal(await codeOf(again.room('7', '12').begin(large)), 'STORE_FULL', 'what lies there counts');
  t.same(await again.room('8', '12').begin(large), [0], 'other runs have a bound of their own');
  const room = again.room('7', 'server');
  room.retain(one.digest);
  await room.release(one.digest);
  t.equal(await codeOf(write(room, numbered(chunkBytes, 2))), 'nothing', 'room was made');
});

void t.test('a full disk is told as such, and what was whole stays', async t => {
  const disk = await mountSmallDisk(t, 8 * chunkBytes);
  if (!disk) {
    t.comment('a disk cannot be mounted here');
    return;
  }
  const folder = join(disk.folder, 'objects');
  const room = objectStoreIn(folder).room('7', 'server');
  const kept = await write(room, numbered(1000));
  const bytes = numbered(2 * chunkBytes, 1);
  const manifest = manifestOf([bytes]);
  await room.begin(manifest);
  await room.writeChunk(manifest, 0, bytes.subarray(0, chunkBytes));
  disk.fill();
  t.equal(await codeOf(room.writeChunk(manifest, 1, bytes.subarray(chunkBytes))), 'STORE_FULL');
  t.notOk((await filesBelow(folder)).some(name => name.includes('draft')));
  t.equal(await codeOf(room.finish(manifest)), 'PROTOCOL_INVALID');
  t.equal((await read(room, kept)).length, 1000, 'reading goes on');
  disk.free();
  t.same(await room.begin(manifest), [1]);
  await room.writeChunk(manifest, 1, bytes.subarray(chunkBytes));
  disk.fill();
  t.equal(await codeOf(room.finish(manifest)), 'STORE_FULL', 'no room for the manifest');
  t.equal(await room.find(manifest.digest), undefined);
  disk.free();
  await room.finish(manifest);
  t.ok((await read(room, manifest)).equals(bytes));
  await disk.makeReadOnly();
  t.equal(await codeOf(write(room, numbered(5, 5))), 'STORE_UNAVAILABLE');
});

void t.test('a store that could not be read is read again', async t => {
  const folder = await makeFolder(t);
  const manifest = await write(objectStoreIn(folder).room('7', 'server'), numbered(10));
  const room = objectStoreIn(folder).room('7', 'server');
  const chunks = join(folder, '7/server/chunks');
  // Root reads everything: a file in the place of the folder is what nobody can list.
  await rm(chunks, { recursive: true });
  await writeFile(chunks, '');
  t.equal(await codeOf(room.find(manifest.digest)), 'STORE_UNAVAILABLE');
  await rm(chunks);
  t.equal(await codeOf(room.find(manifest.digest)), 'nothing');
});
