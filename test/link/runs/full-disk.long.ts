/** A real disk that fills up during an upload: the error is reported, nothing is left behind, and the link continues. */
import t from 'tap';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { sendObject } from '../../../src/node/runs/object-transfer.js';
import { chunkBytes } from '../../../src/objects/limits.js';
import { manifestOf, readChunkOf } from '../../../src/objects/manifest.js';
import { objectStoreIn } from '../../harness/objects.js';
import { makeFolder } from '../../harness/folder.js';
import { numbered } from '../../harness/numbered-bytes.js';
import { codeOf } from '../../harness/outcome.js';
import { mountSmallDisk } from '../../harness/tmpfs.js';
import { startHandSite } from './fixtures/hand-site.js';

/** Room for two chunks and a half, beside what the link itself keeps. */
const diskBytes = 2.5 * chunkBytes + 256 * 1024;

void t.test('uploads on a disk with room for half of them', async t => {
  const disk = await mountSmallDisk(t, diskBytes);
  if (!disk) {
    t.comment('mounting is not allowed here');
    return;
  }
  const site = await startHandSite(t, { folder: disk.folder });
  const supervisor = await site.supervise();
  const node = await site.node();
  const objects = join(disk.folder, 'data', 'objects');

  await t.test('an app that exceeds the disk is refused', async t => {
    t.equal(await codeOf(site.start({}, { bytes: 4 * chunkBytes })), 'STORE_FULL');
    t.same(await readdir(objects), [], 'nothing of it is left');
    t.same((await site.runs.listPage()).runs, []);
  });

  const { run, half } = await site.running(supervisor);
  half.say('send', { number: 1, node: `${node.id}`, type: 'train' }, Buffer.from('x'));
  await half.hear('accepted');
  await node.hear('deliver');
  const bytes = numbered(4 * chunkBytes);
  const manifest = manifestOf([bytes]);

  await t.test('an object of the server half that exceeds the disk is refused', async t => {
    const { digest } = manifest;
    half.say('put', { digest }, manifest.bytes);
    const { value } = await half.hear('wants');
    for (const chunk of value['chunks'] as number[])
      half.say('chunk', { digest, chunk }, readChunkOf([bytes], chunk));
    const refused = await half.hear('refused');
    t.match(refused.value, { digest, message: /disk .*full/ });
    const chunks = await readdir(join(objects, `${run.id}`, 'server', 'chunks'));
    t.same(
      chunks.filter(name => name.startsWith('draft')),
      [],
      'no half of a chunk stays',
    );
    t.notOk((await readdir(join(objects, `${run.id}`, 'server'))).includes(digest));
  });

  await t.test('an object of a node that exceeds the disk is refused', async t => {
    const bucket = objectStoreIn(await makeFolder(t)).bucket('1', 'node');
    for (const index of await bucket.begin(manifest))
      await bucket.writeChunk(manifest, index, readChunkOf([bytes], index));
    await bucket.finish(manifest);
    t.equal(await codeOf(sendObject({ objects: node.objects, run: run.id, manifest, bucket })), 'STORE_FULL');
    const chunks = join(objects, `${run.id}`, `${node.id}`, 'chunks');
    while ((await readdir(chunks)).some(name => name.startsWith('draft')))
      await new Promise(resolve => setImmediate(resolve));
  });

  await t.test('the link continues after its disk was full', async t => {
    node.reply(run.id, 1, 'answer');
    t.equal((await half.hear('answer')).body.toString(), 'answer');
    half.say('finished', {});
    await half.hear('over');
    await site.finished(run);
    while ((await readdir(objects)).length > 0) await new Promise(resolve => setImmediate(resolve));
    const later = await site.running(supervisor);
    later.half.say('finished', {});
    await later.half.hear('over');
  });
});
