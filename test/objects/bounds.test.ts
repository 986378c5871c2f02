/**
 * Disk space of runs: bounded for each run and each node of it, above a minimum of free space, alike on link and
 * node.
 */
import t from 'tap';
import { DiskFloor } from '../../src/base/disk-floor.js';
import { linkSettings } from '../../src/link/settings.js';
import { nodeSettings } from '../../src/node/config.js';
import { chunkBytes } from '../../src/objects/limits.js';
import { manifestOf, readChunkOf } from '../../src/objects/manifest.js';
import type { ObjectBucket } from '../../src/objects/object-store.js';
import { makeFolder } from '../harness/folder.js';
import { createManualClock } from '../harness/manual-clock.js';
import { numbered } from '../harness/numbered-bytes.js';
import { objectStoreIn } from '../harness/objects.js';
import { codeOf } from '../harness/outcome.js';

const mebibyte = 1024 ** 2;

void t.test('a link and a node have the same object bounds by the same flags', t => {
  t.equal(linkSettings['object-space'], nodeSettings['object-space']);
  t.equal(`${linkSettings['min-free-disk'].default}`, `${nodeSettings['min-free-disk'].default}`);
  t.equal(nodeSettings['object-space'].default, 16 * 1024 ** 3);
  t.end();
});

void t.test('objects leave a minimum of free disk, by default in proportion to the disk', async t => {
  const clock = createManualClock();
  let freeBytes = 0;
  let looks = 0;
  const floorOf = (totalBytes: number, minFreeBytes?: number): DiskFloor =>
    new DiskFloor({
      ...{ folder: '/nowhere', minFreeBytes, clock },
      readSpace: () => ((looks += 1), Promise.resolve({ freeBytes, totalBytes })),
    });
  for (const [totalBytes, given, min] of [
    [1024 ** 4, undefined, 256 * mebibyte],
    [100 * mebibyte, undefined, 5 * mebibyte],
    [100 * mebibyte, 50 * mebibyte, 50 * mebibyte],
    [1024 ** 4, 0, 0],
  ] as const) {
    freeBytes = min;
    t.equal(await codeOf(floorOf(totalBytes, given).require(1)), 'nothing', `${min}`);
    freeBytes = min - 1;
    t.equal(await codeOf(floorOf(totalBytes, given).require(1)), 'STORE_FULL', `${min}`);
  }
  freeBytes = 1024 ** 3;
  const floor = floorOf(1024 ** 4);
  looks = 0;
  for (let count = 0; count < 100; count++) await floor.require(1000);
  t.equal(looks, 1, 'one look holds for a moment');
  freeBytes = 0;
  await floor.require(1000);
  t.equal(await codeOf(floor.require(5 * mebibyte)), 'STORE_FULL', 'but not for a large content');
  freeBytes = 1024 ** 3;
  clock.advance(100);
  t.equal(await codeOf(floor.require(1)), 'nothing');
  const blind = new DiskFloor({
    ...{ folder: '/nowhere', clock },
    readSpace: () => Promise.reject(new Error('input/output error')),
  });
  t.equal(await codeOf(blind.require(1)), 'STORE_UNAVAILABLE');
});

async function write(bucket: ObjectBucket, bytes: Buffer): Promise<void> {
  const manifest = manifestOf([bytes]);
  for (const index of await bucket.begin(manifest))
    await bucket.writeChunk(manifest, index, readChunkOf([bytes], index));
  await bucket.finish(manifest);
}

void t.test('one node cannot fill the space of other nodes and of the server half', async t => {
  const store = objectStoreIn(await makeFolder(t), 16 * chunkBytes);
  let seed = 0;
  const fill = async (party: string): Promise<number> => {
    for (let count = 0; ; count++)
      if ((await codeOf(write(store.bucket('7', party), numbered(chunkBytes, ++seed)))) !== 'nothing')
        return count;
  };
  t.equal(await fill('1'), 5);
  t.equal(await fill('2'), 3);
  t.equal(await fill('3'), 1);
  t.equal(
    await codeOf(write(store.bucket('7', '4'), numbered(1000, ++seed))),
    'nothing',
    'a small one still',
  );
  t.equal(await fill('server'), 5);
});
