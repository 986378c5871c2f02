/** Objects of runs: only a party of a run reads and writes its objects, or learns whether one exists. */
import t, { type Test } from 'tap';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fetchObject, sendObject } from '../../../src/node/runs/object-transfer.js';
import { chunkBytes } from '../../../src/objects/limits.js';
import { manifestOf, readChunkOf, type Manifest } from '../../../src/objects/manifest.js';
import type { ObjectBucket } from '../../../src/objects/object-store.js';
import type { Run } from '../../../src/protocol/generated/rollcall/v1/runs.js';
import { objectStoreIn } from '../../harness/objects.js';
import { makeFolder } from '../../harness/folder.js';
import { numbered } from '../../harness/numbered-bytes.js';
import { codeOf } from '../../harness/outcome.js';
import { startHandSite, type HandHalf, type HandNode } from './fixtures/hand-site.js';

/** Of a node, on its own disk. */
async function ownBucket(t: Test): Promise<ObjectBucket> {
  return objectStoreIn(await makeFolder(t)).bucket('1', 'node');
}

async function store(bucket: ObjectBucket, bytes: Buffer): Promise<Manifest> {
  const manifest = manifestOf([bytes]);
  for (const index of await bucket.begin(manifest))
    await bucket.writeChunk(manifest, index, readChunkOf([bytes], index));
  await bucket.finish(manifest);
  return manifest;
}

/** Writes an object as a runner does; returns the last answer. */
async function put(half: HandHalf, bytes: Buffer): Promise<Manifest> {
  const manifest = manifestOf([bytes]);
  const { digest } = manifest;
  half.say('put', { digest }, manifest.bytes);
  const { value } = await half.hear('wants');
  for (const chunk of value['chunks'] as number[])
    half.say('chunk', { digest, chunk }, readChunkOf([bytes], chunk));
  await half.hear('stored');
  return manifest;
}

async function get(half: HandHalf, digest: string): Promise<string> {
  half.say('get', { digest });
  for (;;) {
    const found = half.heard.find(({ name }) => name === 'lost' || name === 'manifest');
    if (found) return (await half.hear(found.name)).name;
    await new Promise(resolve => setImmediate(resolve));
  }
}

const named = ({ digest, sizeBytes }: Manifest) => ({ digest, sizeBytes });

function replyWith(node: HandNode, run: bigint, message: bigint, digest: string): void {
  const value = { digest: Buffer.from(digest, 'hex'), sizeBytes: 5n };
  const body = { body: { $case: 'object' as const, value } };
  node.say({ $case: 'reply', value: { run, message, outcome: { $case: 'body', value: body } } });
}

void t.test('objects of two runs on three nodes', async t => {
  const site = await startHandSite(t);
  const supervisor = await site.supervise();
  const [berlin, tokyo, lima] = [await site.node(), await site.node(), await site.node()];
  const one = await site.running(supervisor);
  const two = await site.running(supervisor);
  const first = await put(one.half, numbered(chunkBytes + 5, 1));
  const second = await put(one.half, numbered(70_000, 2));
  const foreign = await put(two.half, numbered(70_000, 3));
  const send = async (half: HandHalf, number: number, node: HandNode, manifest: Manifest): Promise<void> => {
    half.say('send', { number, node: `${node.id}`, type: 'train', object: named(manifest) });
    await half.hear('accepted');
  };
  await send(one.half, 1, berlin, first);
  await send(one.half, 2, tokyo, second);
  await send(two.half, 1, tokyo, foreign);
  await Promise.all([berlin.hear('deliver'), tokyo.hear('deliver'), tokyo.hear('deliver')]);
  const { archive } = await berlin.hear('assign');
  const app = archive?.digest.toString('hex') ?? '';
  const read = async (node: HandNode, run: Run, digest: string): Promise<string> =>
    codeOf(fetchObject({ objects: node.objects, run: run.id, digest, bucket: await ownBucket(t) }));

  await t.test('a node can read the app and the objects of its own messages', async t => {
    t.equal(await read(berlin, one.run, first.digest), 'nothing');
    t.equal(await read(tokyo, one.run, second.digest), 'nothing');
    t.equal(await read(tokyo, two.run, foreign.digest), 'nothing');
    t.equal(await read(berlin, one.run, app), 'nothing');
  });

  await t.test('a node cannot read any other object, whether it exists or not', async t => {
    const nowhere = manifestOf([Buffer.from('nowhere')]).digest;
    const run = (id: bigint): Run => ({ ...one.run, id });
    const answers = {
      'of another node': await read(berlin, one.run, second.digest),
      'of another run': await read(tokyo, one.run, foreign.digest),
      'of a run it is no party of': await read(berlin, two.run, foreign.digest),
      'the app of such a run': await read(berlin, two.run, app),
      'of a node without any message': await read(lima, one.run, first.digest),
      'the app, for such a node': await read(lima, one.run, app),
      'of no run there is': await read(berlin, run(5n), first.digest),
      'what is nowhere': await read(berlin, one.run, nowhere),
    };
    for (const [what, answer] of Object.entries(answers)) t.equal(answer, 'NOT_FOUND', what);
  });

  await t.test('a node can write only in runs that it is a party of', async t => {
    const bucket = await ownBucket(t);
    const manifest = await store(bucket, numbered(80_000, 9));
    const write = (node: HandNode, run: bigint): Promise<string> =>
      codeOf(sendObject({ objects: node.objects, run, manifest, bucket }));
    t.equal(await write(lima, one.run.id), 'NOT_FOUND');
    t.equal(await write(berlin, two.run.id), 'NOT_FOUND');
    t.equal(await write(berlin, 5n), 'NOT_FOUND');
    t.equal(await write(berlin, one.run.id), 'nothing');

    t.equal(await get(one.half, manifest.digest), 'lost', 'no answer speaks of it');
    t.equal(await read(tokyo, one.run, manifest.digest), 'NOT_FOUND');
    replyWith(tokyo, one.run.id, 2n, manifest.digest);
    t.match((await one.half.hear('answer')).value, { number: 2, error: { code: 'OBJECT_LOST' } });
    replyWith(berlin, one.run.id, 1n, manifest.digest);
    t.same((await one.half.hear('answer')).value, {
      ...{ number: 1, node: `${berlin.id}`, object: named(manifest) },
    });
    t.equal(await get(one.half, manifest.digest), 'manifest');
    t.equal(await get(two.half, manifest.digest), 'lost', 'not for another run');
    t.equal(await get(one.half, first.digest), 'lost', 'nor what it wrote itself');
    t.equal(await read(berlin, one.run, first.digest), 'NOT_FOUND', 'the message has its answer');
    one.half.say('taken', { number: 1 });
    one.half.say('get', { digest: manifest.digest });
    await one.half.hear('lost');
  });

  await t.test('a message that refers to an object that was never written is refused', async t => {
    for (const [number, object] of [
      [10, { digest: app, sizeBytes: 5 }],
      [11, named(foreign)],
      [12, { ...named(first), sizeBytes: 5 }],
    ] as const) {
      one.half.say('send', { number, node: `${berlin.id}`, type: 'train', object });
      await one.half.hear('accepted');
      t.match((await one.half.hear('answer')).value, { number, error: { code: 'OBJECT_LOST' } });
    }
  });

  await t.test('the objects of a finished run are removed, those of other runs stay', async t => {
    const folder = join(site.folder, 'data', 'objects');
    t.same((await readdir(folder)).sort(), [`${one.run.id}`, `${two.run.id}`].sort());
    one.half.say('finished', {});
    await one.half.hear('over');
    await site.finished(one.run);
    while ((await readdir(folder)).length > 1) await new Promise(resolve => setImmediate(resolve));
    t.same(await readdir(folder), [`${two.run.id}`]);
    t.equal(await read(berlin, one.run, app), 'NOT_FOUND');
    t.equal(await read(tokyo, two.run, foreign.digest), 'nothing');
    two.half.say('finished', {});
    await two.half.hear('over');
  });
});
