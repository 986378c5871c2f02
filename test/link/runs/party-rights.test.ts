/** Rights in a run: of the holder of its token and of the nodes of its tenant, and none before the run is recorded. */
import t, { type Test } from 'tap';
import { hashToken } from '../../../src/app-host/wire/token-hash.js';
import { connectOperator, issueToken, makeUser } from '../../harness/operator.js';
import { formatAddress } from '../../../src/base/settings.js';
import { runKey } from '../../../src/link/runs/run-keys.js';
import { decodeRunRecord } from '../../../src/link/runs/run-record.js';
import { fetchObject, sendObject } from '../../../src/node/runs/object-transfer.js';
import { manifestOf, readChunkOf, type Manifest } from '../../../src/objects/manifest.js';
import type { ObjectBucket } from '../../../src/objects/object-store.js';
import { createMemoryStore } from '../../../src/store/memory.js';
import { makeFolder } from '../../harness/folder.js';
import { createManualClock } from '../../harness/manual-clock.js';
import { numbered } from '../../harness/numbered-bytes.js';
import { objectStoreIn } from '../../harness/objects.js';
import { codeOf } from '../../harness/outcome.js';
import { userParty } from '../../harness/parties.js';
import { pausingStore } from '../../harness/stores.js';
import { newKey } from '../../harness/test-link.js';
import { startHandSite, type HandHalf, type HandNode, type HandSite } from './fixtures/hand-site.js';

async function openSite(t: Test) {
  const pausing = pausingStore(createMemoryStore());
  const site = await startHandSite(t, { store: pausing.store, clock: createManualClock() });
  return { site, pausing, supervisor: await site.supervise() };
}

async function send(half: HandHalf, number: number, node: HandNode, object?: Manifest): Promise<void> {
  const about = object && { object: { digest: object.digest, sizeBytes: object.sizeBytes } };
  half.say(
    'send',
    { number, node: `${node.id}`, type: 'train', ...about },
    object ? undefined : Buffer.from('x'),
  );
  await half.hear('accepted');
  await node.hear('deliver');
}

async function recordOf(site: HandSite, id: bigint) {
  const value = await site.store.get(runKey('default', id));
  if (!value) throw new Error('the run is not there');
  return decodeRunRecord(value);
}

void t.test('a runner needs the token of its run, of which the link stores only the hash', async t => {
  const { site, supervisor } = await openSite(t);
  const run = await site.start();
  const token = await supervisor.started(run);
  for (const other of ['', '00'.repeat(32), token.slice(1), token.toUpperCase(), hashToken(token)])
    t.match((await site.half(other)).welcome, { name: 'bye', value: { message: /unknown token of a run/ } });
  t.equal((await recordOf(site, run.id)).tokenHash, hashToken(token));
  for (const { value } of await site.store.list({ prefix: '' }))
    t.notOk(Buffer.from(value).includes(token), 'the token itself is nowhere');
  t.equal((await site.half(token)).welcome.name, 'welcome');
});

void t.test('frames of a server half have no effect before its run is recorded as running', async t => {
  const { site, pausing, supervisor } = await openSite(t);
  const node = await site.node();
  const run = await site.start();
  const half = await site.half(await supervisor.started(run));
  const paused = pausing.pause();
  half.say('ready', {});
  half.say('send', { number: 1, node: `${node.id}`, type: 'train' }, Buffer.from('x'));
  half.say('log', { sequence: 1, at: 5, level: 'info', text: 'early' });
  await paused.held;
  await node.flush();
  const early = half.heard.filter(({ name }) => name === 'accepted' || name === 'logged');
  t.same(early, [], 'a link that dies now begins the run anew, and has promised nothing');
  t.same(await site.log(run), []);
  paused.resume();
  await half.hear('accepted');
  await half.hear('logged');
  t.equal((await recordOf(site, run.id)).status, 'running');
});

void t.test('a message is delivered only to a node of the tenant of its run', async t => {
  const { site, supervisor } = await openSite(t);
  const { access } = site.link;
  await access.tenants.create('other', userParty('test'));
  const stranger = await makeUser(access, 'stranger', ['admin'], 'other');
  const control = connectOperator(
    formatAddress(site.link.addresses.control),
    await issueToken(access, stranger),
    site.ca,
  );
  t.teardown(() => control.close());
  const { id } = await control.registerNode({
    ...{ publicKey: newKey().publicKey.spki, name: '', labels: {}, again: false },
  });
  const { half } = await site.running(supervisor);
  half.say('send', { number: 1, node: `${id}`, type: 'train' }, Buffer.from('x'));
  t.match((await half.hear('answer')).value, { number: 1, error: { code: 'NODE_NOT_FOUND' } });
});

void t.test('a node that is revoked while a message to it is being stored does not receive it', async t => {
  const { site, pausing, supervisor } = await openSite(t);
  const node = await site.node();
  const { run, half } = await site.running(supervisor);
  const paused = pausing.pause();
  half.say('send', { number: 1, node: `${node.id}`, type: 'train' }, Buffer.from('x'));
  await paused.held;
  await site.control.revokeNode({ node: `${node.id}`, comment: '' });
  t.equal(await node.ended, 'NODE_REVOKED');
  paused.resume();
  t.match((await half.hear('answer')).value, { number: 1, error: { code: 'NODE_REVOKED' } });
  t.same(
    node.heard.filter(({ $case }) => $case === 'deliver'),
    [],
  );
  half.say('send', { number: 2, node: `${node.id}`, type: 'train' }, Buffer.from('x'));
  t.match((await half.hear('answer')).value, { number: 2, error: { code: 'NODE_REVOKED' } });
  t.equal((await site.runs.get(run.id)).messagesFailed, 2n);
});

/** Of a node, on its own disk. */
async function ownBucket(t: Test): Promise<ObjectBucket> {
  return objectStoreIn(await makeFolder(t)).bucket('1', 'node');
}

void t.test('a node reads contents of its own messages only, and writes under its own id only', async t => {
  const { site, supervisor } = await openSite(t);
  const [berlin, tokyo] = [await site.node(), await site.node()];
  const { run, half } = await site.running(supervisor);
  const bytes = numbered(70_000);
  const question = manifestOf([bytes]);
  half.say('put', { digest: question.digest }, question.bytes);
  await half.hear('wants');
  half.say('chunk', { digest: question.digest, chunk: 0 }, readChunkOf([bytes], 0));
  await half.hear('stored');
  await send(half, 1, berlin, question);
  await send(half, 2, tokyo);
  const fetching = async (node: HandNode, { digest }: Manifest): Promise<string> =>
    codeOf(fetchObject({ objects: node.objects, run: run.id, digest, bucket: await ownBucket(t) }));
  t.equal(await fetching(tokyo, question), 'NOT_FOUND', 'of a message to another node');
  t.equal(await fetching(berlin, question), 'nothing');

  const bucket = await ownBucket(t);
  const answer = manifestOf([numbered(80_000, 1)]);
  await bucket.begin(answer);
  await bucket.writeChunk(answer, 0, readChunkOf([numbered(80_000, 1)], 0));
  await bucket.finish(answer);
  await sendObject({ objects: berlin.objects, run: run.id, manifest: answer, bucket });
  const value = { digest: Buffer.from(answer.digest, 'hex'), sizeBytes: 80_000n };
  const body = { body: { $case: 'object' as const, value } };
  const reply = (node: HandNode, message: bigint): void =>
    node.say({ $case: 'reply', value: { run: run.id, message, outcome: { $case: 'body', value: body } } });
  reply(tokyo, 2n);
  t.match(
    (await half.hear('answer')).value,
    { number: 2, error: { code: 'OBJECT_LOST' } },
    'what another node wrote is not there for it',
  );
  t.equal(await fetching(tokyo, answer), 'NOT_FOUND');
  reply(berlin, 1n);
  t.match((await half.hear('answer')).value, { number: 1, object: { digest: answer.digest } });
  t.equal(await fetching(berlin, question), 'NOT_FOUND', 'nor its own once it is answered');
});
