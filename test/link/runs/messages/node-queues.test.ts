/** Delivery to nodes: the order of messages, and how many are sent at once. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import type { QueuedRun, QueueSession } from '../../../../src/link/runs/messages/node-queue.js';
import { NodeQueues } from '../../../../src/link/runs/messages/node-queues.js';
import type { LinkFrame } from '../../../../src/protocol/generated/rollcall/v1/link.js';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

const berlin = 7n;
const tokyo = 8n;

interface HeardSession extends QueueSession {
  /** Sent frames, such as `assign 1`, `1:3` for message 3 of run 1, and `cancel 1:3`; they are then forgotten. */
  take(): string[];
}

function session(nodeId = berlin): HeardSession {
  const sent: string[] = [];
  return {
    nodeId,
    peer: { send: ({ frame }: LinkFrame) => void sent.push(describe(frame)) },
    take: () => sent.splice(0),
  };
}

function describe(frame: LinkFrame['frame']): string {
  if (frame?.$case === 'assign') return `assign ${frame.value.run}`;
  if (frame?.$case === 'deliver') return `${frame.value.run}:${frame.value.message}`;
  if (frame?.$case === 'cancel') return `cancel ${frame.value.run}:${frame.value.message}`;
  return 'something else';
}

const none = Buffer.alloc(0);

function delivery(run: bigint, number: number): ReturnType<QueuedRun['deliver']> {
  return {
    ...{ run, message: BigInt(number), type: '', group: '', attempt: 1, ttlMs: 1n, createdAtMs: 0n },
    body: { body: { $case: 'content', value: none } },
  };
}

function queuedRun(id: bigint, deliver: QueuedRun['deliver'] = number => delivery(id, number)): QueuedRun {
  return {
    id,
    assign: () => ({
      ...{ run: id, appName: '', appVersion: '', appDigest: none, signer: none, signature: none },
      ...{ archive: undefined, configJson: '{}' },
    }),
    deliver,
  };
}

const numbers = (from: number, to: number): number[] =>
  Array.from({ length: to - from + 1 }, (_, index) => from + index);

void t.test('at most eight messages of a run are sent at once, in the order of their numbers', t => {
  const queues = new NodeQueues();
  const live = session();
  const run = queuedRun(1n);
  // Commits end in any order.
  for (const number of [3, 1, 2, ...numbers(4, 12).reverse()]) queues.put(berlin, run, number);
  t.equal(queues.count(berlin), 12);
  queues.attach(live);
  t.same(live.take(), ['assign 1', ...numbers(1, 8).map(number => `1:${number}`)]);
  queues.remove(berlin, 1n, 5, 'answered');
  t.same(live.take(), ['1:9'], 'an answer makes room for the next');
  queues.remove(berlin, 1n, 11, 'answered');
  t.same(live.take(), [], 'not one that was only waiting');
  for (const number of [1, 2, 3]) queues.remove(berlin, 1n, number, 'answered');
  t.same(live.take(), ['1:10', '1:12'], 'the run was told of once');
  t.equal(queues.count(berlin), 7);
  t.end();
});

void t.test('runs take turns, and at most 64 messages are sent to a node at once', t => {
  const queues = new NodeQueues();
  const live = session();
  const runs = numbers(1, 10).map(id => queuedRun(BigInt(id)));
  for (const run of runs) for (const number of numbers(1, 20)) queues.put(berlin, run, number);
  queues.attach(live);
  const sent = live.take().filter(text => !text.startsWith('assign'));
  t.equal(sent.length, 64);
  for (const round of numbers(0, 5))
    t.same(
      sent.slice(round * 10, round * 10 + 10),
      numbers(1, 10).map(id => `${id}:${round + 1}`),
    );
  t.same(
    sent.slice(60),
    numbers(1, 4).map(id => `${id}:7`),
  );
  t.end();
});

void t.test('a run with unanswered messages does not delay other runs of the node', t => {
  const queues = new NodeQueues();
  const live = session();
  queues.attach(live);
  const [busy, other] = [queuedRun(1n), queuedRun(2n)];
  for (const number of numbers(1, 1000)) queues.put(berlin, busy, number);
  live.take();
  queues.put(berlin, other, 1);
  t.same(live.take(), ['assign 2', '2:1']);
  t.end();
});

void t.test('unanswered messages are sent again on the next session, before waiting ones', t => {
  const queues = new NodeQueues();
  const first = session();
  queues.attach(first);
  const run = queuedRun(1n);
  for (const number of numbers(1, 10)) queues.put(berlin, run, number);
  queues.remove(berlin, 1n, 2, 'answered');
  first.take();
  queues.detach(first);
  t.notOk(queues.isOnline(berlin));
  queues.remove(berlin, 1n, 4, 'given up');
  t.same(first.take(), [], 'a session that is over is told nothing');
  const second = session();
  queues.attach(second);
  t.ok(queues.isOnline(berlin));
  t.same(second.take(), ['assign 1', ...[1, 3, 5, 6, 7, 8, 9, 10].map(number => `1:${number}`)]);
  t.end();
});

void t.test('a newer session replaces an older one that is still attached', t => {
  const queues = new NodeQueues();
  const [first, second] = [session(), session()];
  queues.attach(first);
  queues.put(berlin, queuedRun(1n), 1);
  queues.attach(second);
  t.same(second.take(), ['assign 1', '1:1']);
  queues.detach(first);
  t.ok(queues.isOnline(berlin), 'the end of the first one is not the end of the second');
  t.end();
});

void t.test('giving up a message cancels it on the node if it was sent', t => {
  const queues = new NodeQueues();
  const live = session();
  queues.attach(live);
  const run = queuedRun(1n);
  for (const number of numbers(1, 10)) queues.put(berlin, run, number);
  live.take();
  queues.remove(berlin, 1n, 10, 'given up');
  t.same(live.take(), [], 'this one it never had');
  queues.remove(berlin, 1n, 3, 'given up');
  t.same(live.take(), ['cancel 1:3', '1:9']);
  queues.remove(berlin, 1n, 99, 'given up');
  queues.remove(berlin, 5n, 1, 'given up');
  queues.remove(tokyo, 1n, 1, 'given up');
  t.same(live.take(), [], 'nor what there is not');
  t.end();
});

void t.test('the end of a run is sent once, and no message of it follows', async t => {
  const queues = new NodeQueues();
  const live = session();
  queues.attach(live);
  let read = (): void => undefined;
  const slow = queuedRun(1n, number => new Promise(resolve => (read = () => resolve(delivery(1n, number)))));
  queues.put(berlin, slow, 1);
  queues.put(berlin, slow, 2);
  t.same(live.take(), [], 'it is being read');
  queues.removeRun(1n, [berlin, tokyo]);
  read();
  await new Promise(resolve => setImmediate(resolve));
  t.same(live.take(), ['cancel 1:0']);
  t.equal(queues.count(berlin), 0);
});

void t.test('messages read from the disk are sent in order, and a missing one is skipped', async t => {
  const queues = new NodeQueues();
  const live = session();
  queues.attach(live);
  const run = queuedRun(1n, async number => {
    await new Promise(resolve => setImmediate(resolve));
    if (number === 3) throw new Error('the disk');
    return number === 2 ? undefined : delivery(1n, number);
  });
  for (const number of numbers(1, 5)) queues.put(berlin, run, number);
  while (queues.count(berlin) > 3) await new Promise(resolve => setImmediate(resolve));
  for (let count = 0; count < 20; count++) await new Promise(resolve => setImmediate(resolve));
  t.same(live.take(), ['assign 1', '1:1', '1:4', '1:5']);
});

void t.test('a session that attaches while a message is read receives it once', async t => {
  const queues = new NodeQueues();
  const [first, second] = [session(), session()];
  queues.attach(first);
  const run = queuedRun(1n, async number => {
    await new Promise(resolve => setImmediate(resolve));
    return delivery(1n, number);
  });
  queues.put(berlin, run, 1);
  queues.detach(first);
  queues.attach(second);
  for (let count = 0; count < 20; count++) await new Promise(resolve => setImmediate(resolve));
  t.same([first.take(), second.take()], [[], ['assign 1', '1:1']]);
});

void t.test('messages that are being stored count', t => {
  const queues = new NodeQueues();
  queues.reserve(berlin);
  queues.reserve(berlin);
  t.equal(queues.count(berlin), 2);
  t.equal(queues.count(tokyo), 0);
  queues.unreserve(berlin);
  queues.put(berlin, queuedRun(1n), 1);
  t.equal(queues.count(berlin), 2);
  queues.unreserve(berlin);
  t.equal(queues.count(berlin), 1);
  t.end();
});

void t.test('queues of nodes without messages are dropped', t => {
  const queues = new NodeQueues();
  const passBy = (node: bigint): void => {
    const run = queuedRun(node);
    const live = session(node);
    if (node % 2n === 0n) queues.put(node, run, 1);
    queues.attach(live);
    queues.put(node, run, 2);
    if (node % 3n === 0n) queues.detach(live);
    queues.remove(node, node, 1, 'answered');
    queues.remove(node, node, 2, 'given up');
    queues.reserve(node);
    queues.unreserve(node);
    queues.detach(live);
  };
  const pass = (from: number): number => {
    for (const node of numbers(from, from + 20_000)) passBy(BigInt(node));
    collectGarbage();
    return process.memoryUsage().heapUsed;
  };
  const before = pass(1);
  const after = pass(100_000);
  t.ok(after - before < 1_000_000, `${after - before} bytes after 20,000 more`);
  t.end();
});
