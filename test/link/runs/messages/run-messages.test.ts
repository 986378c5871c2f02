/** The messages of one run on a disk that fails: no accepted message is lost, and none is answered twice. */
import t from 'tap';
import type { DiskFloor } from '../../../../src/base/disk-floor.js';
import { RollcallError } from '../../../../src/base/errors.js';
import { NodeQueues } from '../../../../src/link/runs/messages/node-queues.js';
import type { Answer, Content, Question } from '../../../../src/link/runs/messages/message-record.js';
import { RunMessages } from '../../../../src/link/runs/messages/run-messages.js';
import { removeMessages } from '../../../../src/link/runs/messages/stored-messages.js';
import { serverParty } from '../../../../src/link/runs/run-buckets.js';
import { createPowerCutStore } from '../../../../src/store/power-cut.js';
import type { Store } from '../../../../src/store/store.js';
import { createManualClock, type ManualClock } from '../../../harness/manual-clock.js';
import { roomyDisk } from '../../../harness/objects.js';
import { codeOf } from '../../../harness/outcome.js';

const berlin = 7n;
const tokyo = 8n;
const start = 1_000_000;
const full = Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
const broken = new Error('input/output error');
const hello: Content = { bytes: Buffer.from('hello') };
const yes: Answer = { bytes: Buffer.from('yes') };

interface Bench {
  readonly messages: RunMessages;
  readonly queues: NodeQueues;
  readonly clock: ManualClock;
  /** Numbers of answers that the server half received, in order. */
  readonly told: number[];
  /** The number of references, by party and digest: never below zero. */
  readonly kept: Map<string, number>;
  /** Frames that a node was sent, by kind and number. */
  online(node?: bigint): string[];
}

async function openBench(
  store: Store,
  {
    maxWaiting = 1_000,
    clock = createManualClock(start),
    floor = roomyDisk,
  }: { maxWaiting?: number; clock?: ManualClock; floor?: Pick<DiskFloor, 'require'> } = {},
): Promise<Bench> {
  const queues = new NodeQueues();
  const told: number[] = [];
  const kept = new Map<string, number>();
  const keep = (party: string, digest: string, by: number): void => {
    const key = `${party} ${digest}`;
    const next = (kept.get(key) ?? 0) + by;
    if (next < 0) throw new Error(`${key} was released more often than retained`);
    if (next === 0) kept.delete(key);
    else kept.set(key, next);
  };
  const none = Buffer.alloc(0);
  const messages = new RunMessages({
    ...{ store, clock, tenant: 'default', queues, maxWaiting, floor },
    assign: {
      ...{ run: 1n, appName: '', appVersion: '', appDigest: none, signer: none, signature: none },
      ...{ archive: undefined, configJson: '{}' },
    },
    objects: {
      retain: (party, digest) => keep(party, digest, 1),
      release: (party, digest) => keep(party, digest, -1),
    },
    onAnswer: number => void told.push(number),
    onChange: () => undefined,
  });
  await messages.load();
  return {
    ...{ messages, queues, clock, told, kept },
    online(nodeId = berlin) {
      const sent: string[] = [];
      queues.attach({
        nodeId,
        peer: {
          send: ({ frame }) => {
            if (frame?.$case === 'deliver')
              sent.push(`deliver ${frame.value.message} attempt ${frame.value.attempt}`);
            if (frame?.$case === 'cancel') sent.push(`cancel ${frame.value.message}`);
          },
        },
      });
      return sent;
    },
  };
}

function question(number: number, more: Partial<Question> = {}): Question {
  return {
    ...{ number, node: berlin, type: 'train', group: '' },
    ...{ createdAt: start, expiresAt: start + 60_000, ...more },
  };
}

/** Everything that can go on without time has gone on. */
async function settle(): Promise<void> {
  for (let count = 0; count < 5; count++) await new Promise(resolve => setImmediate(resolve));
}

void t.test('accepted messages survive a power cut, others do not', async t => {
  const disk = createPowerCutStore();
  const { messages } = await openBench(disk.store);
  await messages.send(question(1), hello);
  await messages.send(question(2), hello);
  await messages.answer(1, yes);
  disk.hold();
  const lost = messages.send(question(3), hello);
  lost.catch(() => undefined);
  await settle();
  const next = await openBench(disk.cut());
  t.equal(next.messages.find(3), undefined);
  t.same(next.messages.answered(), [1], 'the answer is owed still');
  t.same(await next.messages.readAnswer(1), yes);
  t.same(next.told, []);
  t.same(next.online(), []);
  await settle();
  const sent = next.online();
  await settle();
  t.same(sent, ['deliver 2 attempt 2'], 'the question goes to its node again');
  t.ok(next.messages.wasSent(2));
  t.notOk(next.messages.wasSent(3));
  t.notOk(next.messages.wasSent(0));
});

void t.test(
  'messages whose answers the server half has are removed together, or when the run ends',
  async t => {
    const disk = createPowerCutStore();
    const commits: number[] = [];
    const store: Store = {
      ...disk.store,
      commit(changes, expectations) {
        commits.push(changes.length);
        return disk.store.commit(changes, expectations);
      },
    };
    const { messages, clock } = await openBench(store);
    for (const number of [1, 2, 3, 4]) {
      await messages.send(question(number), hello);
      await messages.answer(number, yes);
    }
    commits.length = 0;
    for (const number of [1, 2, 3]) messages.take(number);
    t.equal(messages.find(1), undefined);
    await settle();
    t.same(commits, []);
    t.same(
      (await openBench(disk.cut())).messages.answered(),
      [1, 2, 3, 4],
      'after a crash they are owed again',
    );
    clock.advance(50);
    await settle();
    t.same(commits, [3]);
    const next = await openBench(disk.cut());
    t.same(next.messages.answered(), [4]);
    t.same(next.messages.nodes, new Set([berlin]), 'the node remains a party of the run');
    messages.take(4);
    await messages.close();
    t.same((await openBench(disk.cut())).messages.answered(), []);
    clock.advance(50);
    await settle();
    t.same(commits, [3, 1], 'nothing is written after the run has ended');
    await removeMessages(disk.store, 'default', 1n);
    t.same(await disk.store.list({ prefix: '' }), [], 'and nothing is left when the run is over');
  },
);

void t.test('a message is answered once, by the first answer', async t => {
  const disk = createPowerCutStore();
  const { messages, told } = await openBench(disk.store);
  await messages.send(question(1), hello);
  const release = disk.hold();
  const answers = [messages.answer(1, yes), messages.answer(1, { bytes: Buffer.from('no') })];
  messages.failNode(berlin, 'NODE_REVOKED');
  messages.expire(start + 100_000);
  release();
  await Promise.all(answers);
  await messages.answer(1, { bytes: Buffer.from('never') });
  t.same(await messages.readAnswer(1), yes);
  t.same(told, [1]);
  t.same(messages.counts, { sent: 1, answered: 1, failed: 0 });
  await messages.answer(5, yes);
  t.equal(messages.find(5), undefined, 'what was never sent has no answer');
});

void t.test('two sends of the same number are one message', async t => {
  const disk = createPowerCutStore();
  const bench = await openBench(disk.store);
  const { messages, kept } = bench;
  const sent = bench.online();
  const object: Content = { object: { digest: 'ab'.repeat(32), sizeBytes: 70_000 } };
  await Promise.all([messages.send(question(1), object), messages.send(question(1), object)]);
  await messages.send(question(1), object);
  await settle();
  t.same(sent, ['deliver 1 attempt 1']);
  t.equal(messages.counts.sent, 1);
  t.same([...kept.values()], [1]);
});

void t.test('no message is accepted while the disk is full', async t => {
  const disk = createPowerCutStore();
  const bench = await openBench(disk.store);
  const { messages, told, kept } = bench;
  const object: Content = { object: { digest: 'ab'.repeat(32), sizeBytes: 70_000 } };
  for (const [error, code] of [
    [full, 'STORE_FULL'],
    [broken, 'STORE_UNAVAILABLE'],
  ] as const) {
    disk.failWrites(error);
    const both = [messages.send(question(1), object), messages.send(question(1), object)];
    t.same(await Promise.all(both.map(codeOf)), [code, code]);
    t.equal(messages.find(1), undefined);
    t.same([messages.counts.sent, bench.queues.count(berlin), kept.size], [0, 0, 0]);
    t.same(messages.nodes, new Set());
  }
  disk.failWrites(undefined);
  await messages.send(question(1), object);
  t.equal(messages.find(1)?.status, 'waiting');
  t.same(told, []);
});

void t.test('a refused message that was stored all the same is not delivered later', async t => {
  const disk = createPowerCutStore();
  const { messages } = await openBench(disk.store);
  disk.failWrites(full, { kept: true });
  t.equal(await codeOf(messages.send(question(1), hello)), 'STORE_FULL');
  messages.turnAway(question(1), 'STORE_FULL', 'full');
  disk.failWrites(undefined);
  t.match(await messages.readAnswer(1), { error: { code: 'STORE_FULL' } });
  messages.take(1);
  await messages.close();
  const next = await openBench(disk.cut());
  t.equal(next.messages.find(1), undefined);
});

void t.test('storing an answer is retried until it is on the disk', async t => {
  const disk = createPowerCutStore();
  const { messages, clock, told, kept } = await openBench(disk.store);
  const object = { digest: 'ab'.repeat(32), sizeBytes: 70_000 };
  await messages.send(question(1), { object });
  disk.failWrites(full);
  let isDone = false;
  const answered = messages.answer(1, { object }).then(() => (isDone = true));
  for (const error of [full, broken, full]) {
    disk.failWrites(error);
    await settle();
    clock.advance(1_000);
  }
  await settle();
  t.notOk(isDone);
  t.same(told, []);
  t.same(await messages.readAnswer(1), undefined);
  t.same([...kept.keys()].sort(), [`${berlin} ${object.digest}`, `${serverParty} ${object.digest}`]);
  disk.failWrites(undefined);
  clock.advance(1_000);
  await answered;
  t.same(told, [1]);
  t.same([...kept.keys()], [`${berlin} ${object.digest}`]);
  disk.failWrites(full);
  messages.take(1);
  t.same([...kept.keys()], [], 'that it was taken is no reason to fail');
});

void t.test('a message whose content cannot be read now is delivered when it can be', async t => {
  const disk = createPowerCutStore();
  const bench = await openBench(disk.store);
  await bench.messages.send(question(1), hello);
  disk.failReads(broken);
  const sent = bench.online();
  await settle();
  t.same(sent, []);
  disk.failReads(undefined);
  bench.clock.advance(1_000);
  await settle();
  t.same(sent, ['deliver 1 attempt 1']);
});

void t.test('the error of an expired message says whether its node was online', async t => {
  const disk = createPowerCutStore();
  const bench = await openBench(disk.store);
  const { messages } = bench;
  const sent = bench.online(tokyo);
  await messages.send(question(1), hello);
  await messages.send(question(2, { node: tokyo }), hello);
  await messages.send(question(3, { expiresAt: start + 90_000 }), hello);
  messages.expire(start + 59_999);
  t.equal(messages.find(1)?.status, 'waiting');
  messages.expire(start + 60_000);
  await settle();
  t.match(await messages.readAnswer(1), { error: { code: 'NODE_OFFLINE' } });
  t.match(await messages.readAnswer(2), { error: { code: 'EXPIRED' } });
  t.same(sent, ['deliver 2 attempt 1', 'cancel 2']);
  t.equal(messages.find(3)?.status, 'waiting');
  t.same(messages.counts, { sent: 3, answered: 2, failed: 2 });
  const next = await openBench(disk.cut());
  t.same(next.messages.answered(), [1, 2], 'on the disk as any answer');
  next.messages.expire(start + 90_000);
  await settle();
  t.match(await next.messages.readAnswer(3), { error: { code: 'NODE_OFFLINE' } });
});

void t.test('exactly the maximum number of messages may wait for a node', async t => {
  const disk = createPowerCutStore();
  const bench = await openBench(disk.store, { maxWaiting: 10 });
  const { messages, told, kept } = bench;
  const object: Content = { object: { digest: 'ab'.repeat(32), sizeBytes: 70_000 } };
  // All at once: none is on the disk when the last is asked for.
  await Promise.all(Array.from({ length: 15 }, (_, index) => messages.send(question(index + 1), object)));
  t.same(told, [11, 12, 13, 14, 15]);
  for (const number of told) t.match(await messages.readAnswer(number), { error: { code: 'QUEUE_FULL' } });
  await messages.send(question(16, { node: tokyo }), hello);
  t.equal(messages.find(16)?.status, 'waiting', 'another node has a queue of its own');
  await messages.answer(3, yes);
  await messages.send(question(17), hello);
  await messages.send(question(18), hello);
  t.same([messages.find(17)?.status, messages.find(18)?.status], ['waiting', 'answered']);
  t.same([...kept.values()], [9], 'what was refused keeps nothing');
  for (const number of [11, 12, 13, 14, 15, 18]) messages.take(number);
  t.same([...kept.values()], [9], 'and gives nothing back');
  t.same(messages.counts, { sent: 18, answered: 7, failed: 6 });
});

void t.test(
  'messages of all runs count towards the maximum of a node, also while they are stored',
  async t => {
    const disk = createPowerCutStore();
    const { messages, queues } = await openBench(disk.store, { maxWaiting: 10 });
    for (let count = 0; count < 4; count++) queues.reserve(berlin);
    await Promise.all(Array.from({ length: 8 }, (_, index) => messages.send(question(index + 1), hello)));
    t.same(messages.answered(), [7, 8]);
  },
);

void t.test('all messages to a revoked node are answered: waiting, being stored, and later ones', async t => {
  const disk = createPowerCutStore();
  const bench = await openBench(disk.store);
  const { messages, told, kept } = bench;
  const object: Content = { object: { digest: 'ab'.repeat(32), sizeBytes: 70_000 } };
  const sent = bench.online();
  await messages.send(question(1), object);
  await messages.send(question(2, { node: tokyo }), object);
  await settle();
  const release = disk.hold();
  const storing = messages.send(question(3), object);
  messages.failNode(berlin, 'NODE_REVOKED');
  release();
  await storing;
  await settle();
  await messages.send(question(4), object);
  t.same(told.sort(), [1, 3, 4]);
  for (const number of told) t.match(await messages.readAnswer(number), { error: { code: 'NODE_REVOKED' } });
  t.same(sent, ['deliver 1 attempt 1', 'cancel 1'], 'what was being stored is not sent');
  t.equal(messages.find(2)?.status, 'waiting');
  t.same([...kept.values()], [1]);
});

void t.test('a message that the disk refuses while its node is revoked gets one answer', async t => {
  const disk = createPowerCutStore();
  const { messages, clock, told, kept } = await openBench(disk.store);
  const object: Content = { object: { digest: 'ab'.repeat(32), sizeBytes: 70_000 } };
  const release = disk.hold();
  const storing = messages.send(question(1), object);
  messages.failNode(berlin, 'NODE_REVOKED');
  disk.failWrites(full);
  release();
  t.equal(await codeOf(storing), 'nothing', 'accepted: its answer is on the way');
  disk.failWrites(undefined);
  await settle();
  clock.advance(1_000);
  await settle();
  t.same(told, [1]);
  t.match(await messages.readAnswer(1), { error: { code: 'NODE_REVOKED' } });
  t.same(messages.counts, { sent: 1, answered: 1, failed: 1 });
  t.same([...kept.values()], []);
});

void t.test('objects are released as often as retained, however messages end', async t => {
  const disk = createPowerCutStore();
  const { messages, kept } = await openBench(disk.store, { maxWaiting: 30 });
  const digest = (number: number): string => `${number % 5}`.padStart(64, '0');
  const object = (number: number) => ({ object: { digest: digest(number), sizeBytes: 70_000 } });
  const send = (number: number) => messages.send(question(number), object(number));
  await Promise.all(Array.from({ length: 40 }, (_, index) => send(index + 1)));
  t.equal(
    [...kept.values()].reduce((sum, each) => sum + each, 0),
    30,
  );
  for (let number = 1; number <= 10; number++) await messages.answer(number, object(number));
  for (let number = 11; number <= 20; number++) await messages.answer(number, yes);
  messages.expire(start + 60_000);
  await settle();
  t.equal(messages.answered().length, 40);

  const next = await openBench(disk.cut());
  t.equal(next.messages.answered().length, 40, 'refusals are answers too');
  t.same(
    [...next.kept].sort(),
    [0, 1, 2, 3, 4].map(number => [`${berlin} ${digest(number)}`, 2]),
    'what answers speak of is kept after a restart',
  );
  t.equal(next.messages.speaksOf(digest(1), 'answers'), berlin);
  t.equal(next.messages.speaksOf(digest(1), { questionsTo: berlin }), undefined);
  for (const number of next.messages.answered()) next.messages.take(number);
  t.same([...next.kept], []);
  t.equal(next.messages.speaksOf(digest(1), 'answers'), undefined);
});

void t.test('a message refers to the object of its question, then to that of its answer', async t => {
  const { messages } = await openBench(createPowerCutStore().store, { maxWaiting: 1 });
  const [asked, answered] = ['ab'.repeat(32), 'cd'.repeat(32)];
  await messages.send(question(1), { object: { digest: asked, sizeBytes: 1 } });
  await messages.send(question(2), { object: { digest: answered, sizeBytes: 1 } });
  const seenBy = (digest: string) => [
    messages.speaksOf(digest, { questionsTo: berlin }),
    messages.speaksOf(digest, { questionsTo: tokyo }),
    messages.speaksOf(digest, 'answers'),
  ];
  t.same(seenBy(asked), [berlin, undefined, undefined]);
  t.same(seenBy(answered), [undefined, undefined, undefined], 'a message that was refused speaks of nothing');
  await messages.answer(1, { object: { digest: answered, sizeBytes: 1 } });
  t.same(seenBy(asked), [undefined, undefined, undefined]);
  t.same(seenBy(answered), [undefined, undefined, berlin]);
});

void t.test('after the end of the run no message is accepted, sent or stored', async t => {
  const disk = createPowerCutStore();
  const bench = await openBench(disk.store);
  const { messages, clock } = bench;
  const sent = bench.online();
  await messages.send(question(1), hello);
  await settle();
  const release = disk.hold();
  const storing = messages.send(question(2), hello);
  let isClosed = false;
  const closed = messages.close().then(() => (isClosed = true));
  await settle();
  t.notOk(isClosed, 'what is being stored is waited for, to be removed with the rest');
  disk.failWrites(undefined);
  release();
  await Promise.all([storing, closed]);
  await messages.send(question(3), hello);
  t.match(await messages.readAnswer(3), { error: { code: 'RUN_OVER' } });
  await messages.answer(1, yes);
  await settle();
  t.same(sent, ['deliver 1 attempt 1']);
  await removeMessages(disk.store, 'default', 1n);
  clock.advance(10_000);
  await settle();
  t.same(await disk.store.list({ prefix: '' }), []);
});

void t.test('closing the messages does not wait for a disk that stays full', async t => {
  const disk = createPowerCutStore();
  const { messages, clock } = await openBench(disk.store);
  await messages.send(question(1), hello);
  disk.failWrites(full);
  const answered = codeOf(messages.answer(1, yes));
  await settle();
  const closed = messages.close();
  clock.advance(1_000);
  await closed;
  t.equal(await answered, 'STORE_FULL');
});

void t.test('a nearly full disk accepts no new messages, and contents of answers wait for room', async t => {
  let isFull = false;
  const floor = {
    require: () =>
      isFull ? Promise.reject(new RollcallError('STORE_FULL', 'nearly full')) : Promise.resolve(),
  };
  const { store } = createPowerCutStore();
  const { messages, clock } = await openBench(store, { floor });
  await messages.send(question(1), hello);
  isFull = true;
  t.equal(await codeOf(messages.send(question(2), hello)), 'STORE_FULL');
  let isAnswered = false;
  const answering = messages.answer(1, yes).then(() => (isAnswered = true));
  clock.advance(5_000);
  await settle();
  t.notOk(isAnswered, 'a content waits: its node keeps it meanwhile');
  isFull = false;
  clock.advance(1_000);
  await answering;
  t.same(await messages.readAnswer(1), yes);
  isFull = true;
  await messages.send(question(3), hello).catch(() => undefined);
  t.equal(messages.size, 1);
  messages.take(1);
  t.equal(messages.size, 0, 'and what is taken goes');
});
