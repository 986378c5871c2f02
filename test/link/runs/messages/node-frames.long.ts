/** Rights of a node in runs: it answers its own messages, once each, and nothing else. */
import t, { type Test } from 'tap';
import { createMemoryStore } from '../../../../src/store/memory.js';
import { newKey } from '../../../harness/test-link.js';
import {
  startHandSite,
  type HandHalf,
  type HandNode,
  type HandSite,
  type HandSupervisor,
} from '../fixtures/hand-site.js';
import type { Run } from '../../../../src/protocol/generated/rollcall/v1/runs.js';

interface Bench {
  readonly site: HandSite;
  readonly supervisor: HandSupervisor;
  readonly berlin: HandNode;
  readonly tokyo: HandNode;
}

async function openBench(t: Test): Promise<Bench> {
  const site = await startHandSite(t);
  const supervisor = await site.supervise();
  return { site, supervisor, berlin: await site.node(), tokyo: await site.node() };
}

/** Sends messages to a node and waits until they are accepted; gives the last one as the node gets it. */
async function deliver(half: HandHalf, node: HandNode, ...numbers: number[]) {
  for (const number of numbers) half.say('send', { number, node: `${node.id}`, type: 'train' }, content);
  let last;
  for (const number of numbers) {
    await half.hear('accepted');
    last = await node.hear('deliver');
    if (last.message !== BigInt(number)) throw new Error(`${last.message} came in the place of ${number}`);
  }
  return last;
}

const content = Buffer.from('question');

async function refusals(site: HandSite): Promise<object> {
  await site.link.close();
  const [entry, ...more] = await site.audit('request.refused');
  return more.length > 0 ? more : { by: entry?.by, ...entry?.detail };
}

void t.test('frames of a node with a message', async t => {
  const { site, supervisor, berlin, tokyo } = await openBench(t);
  const { run, half } = await site.running(supervisor);

  await t.test('a node receives the run once, before its first message', async t => {
    await deliver(half, berlin, 1, 2);
    const assign = await berlin.hear('assign');
    t.equal(assign.run, run.id);
    t.same(JSON.parse(assign.configJson), { rounds: 3, name: '' });
    t.same(berlin.heard, []);
  });

  await t.test('a node answers, and the server half receives the answer', async t => {
    berlin.reply(run.id, 1, 'answer');
    t.same(await berlin.hear('acknowledge'), { run: run.id, message: 1n });
    const { value, body } = await half.hear('answer');
    t.same([value, body.toString()], [{ number: 1, node: `${berlin.id}` }, 'answer']);
  });

  await t.test('a repeated answer of a node is acknowledged and has no other effect', async t => {
    berlin.reply(run.id, 1, 'another');
    t.same(await berlin.hear('acknowledge'), { run: run.id, message: 1n });
    half.say('taken', { number: 1 });
    berlin.reply(run.id, 1, 'a third');
    t.same(await berlin.hear('acknowledge'), { run: run.id, message: 1n });
    berlin.reply(run.id, 2, { error: 'HANDLER_THREW' });
    t.match((await half.hear('answer')).value, {
      number: 2,
      error: { code: 'HANDLER_THREW', message: 'as told' },
    });
    t.same(
      half.heard.filter(({ name }) => name === 'answer'),
      [],
    );
  });

  await t.test('a node cannot send an unknown error code', async t => {
    await deliver(half, berlin, 3, 4);
    berlin.reply(run.id, 3, { error: 'QUEUE_EMPTY' });
    t.match((await half.hear('answer')).value, { number: 3, error: { code: 'HANDLER_THREW' } });
    berlin.say({ $case: 'reply', value: { run: run.id, message: 4n, outcome: undefined } });
    t.match(
      (await half.hear('answer')).value,
      { number: 4, error: { code: 'OBJECT_LOST' } },
      'nor answer nothing',
    );
  });

  await t.test('a node cannot answer with an object that was never written', async t => {
    await deliver(half, berlin, 5, 6);
    for (const [message, digest] of [
      [5n, Buffer.alloc(32, 7)],
      [6n, Buffer.from('../../../authority')],
    ] as const) {
      const body = { $case: 'object' as const, value: { digest, sizeBytes: 70_000n } };
      berlin.say({
        $case: 'reply',
        value: { run: run.id, message, outcome: { $case: 'body', value: { body } } },
      });
      const { value } = await half.hear('answer');
      t.match(value, { number: Number(message), error: { code: 'OBJECT_LOST' } });
    }
  });

  await t.test('a node reports progress of its own messages only', async t => {
    await deliver(half, berlin, 7);
    const say = (node: HandNode, fraction: number, note = '', message = 7n, of = run.id): void =>
      node.say({ $case: 'progress', value: { run: of, message, fraction, note } });
    say(tokyo, 0.1, 'not mine');
    await tokyo.flush();
    for (const fraction of [NaN, Infinity, -Infinity]) say(berlin, fraction);
    say(berlin, 0.1, '', 8n);
    say(berlin, 0.1, '', 1n);
    say(berlin, 0.1, '', 7n, 5n);
    say(berlin, -3, '\u001b[2Jred');
    say(berlin, 7, 'x'.repeat(1_000));
    const first = await half.hear('progress');
    t.same(first.value, { number: 7, node: `${berlin.id}`, fraction: 0, note: '\ufffd[2Jred' });
    const second = await half.hear('progress');
    t.equal(second.value['fraction'], 1);
    t.equal(String(second.value['note']).length, 200);
    t.same(
      half.heard.filter(({ name }) => name === 'progress'),
      [],
    );
  });

  await t.test('a node gets a cancellation when the run is over, and for every later frame', async t => {
    half.say('finished', { result: 'done' });
    await half.hear('over');
    const { resultJson, messagesAnswered } = await site.finished(run);
    t.equal(resultJson, '"done"');
    t.same(await berlin.hear('cancel'), { run: run.id, message: 0n });
    berlin.reply(run.id, 7, 'late');
    t.same(await berlin.hear('cancel'), { run: run.id, message: 0n });
    const lines = [{ atMs: 1n, level: 'info', text: 'late' }];
    berlin.say({ $case: 'log', value: { run: run.id, sequence: 1n, lines } });
    t.same(await berlin.hear('cancel'), { run: run.id, message: 0n });
    t.equal((await site.runs.get(run.id)).messagesAnswered, messagesAnswered);
    t.same(
      (await site.log(run)).filter(({ text }) => text === 'late'),
      [],
    );
  });

  await t.test('valid frames of a node cause no refusals', async t => {
    await site.link.close();
    t.same(await site.audit('request.refused'), [], 'nothing of it was an attack');
  });
});

void t.test('a reply to an unknown message is refused and counted', async t => {
  const { site, supervisor, berlin } = await openBench(t);
  const { run, half } = await site.running(supervisor);
  await deliver(half, berlin, 1);
  for (const message of [0n, 2n, 2n ** 53n, 2n ** 64n - 1n]) berlin.reply(run.id, message);
  for (let count = 0; count < 4; count++) await berlin.hear('acknowledge');
  t.equal((await site.runs.get(run.id)).messagesAnswered, 0n);
  t.match(await refusals(site), { by: { id: `node:${berlin.id}` }, NOT_FOUND: 4 });
});

void t.test('a reply to a message of another node is refused and counted', async t => {
  const { site, supervisor, berlin, tokyo } = await openBench(t);
  const { run, half } = await site.running(supervisor);
  await deliver(half, berlin, 1);
  tokyo.reply(run.id, 1, 'forged');
  t.same(await tokyo.hear('acknowledge'), { run: run.id, message: 1n }, 'told as if it were taken');
  berlin.reply(run.id, 1, 'true');
  const { value, body } = await half.hear('answer');
  t.same([value['node'], body.toString()], [`${berlin.id}`, 'true']);
  tokyo.reply(run.id, 1, 'forged');
  await tokyo.hear('acknowledge');
  t.match(await refusals(site), { by: { id: `node:${tokyo.id}` }, NOT_ALLOWED: 2 });
});

void t.test('log lines of nodes', async t => {
  const { site, supervisor, berlin, tokyo } = await openBench(t);
  const { run, half } = await site.running(supervisor);
  await deliver(half, berlin, 1);
  const line = (text: string) => ({ atMs: 1_000n, level: 'info', text });
  const say = (node: HandNode, sequence: bigint, texts: readonly string[], of = run.id): void =>
    node.say({ $case: 'log', value: { run: of, sequence, lines: texts.map(line) } });
  const ofNodes = async (): Promise<string[]> =>
    (await site.log(run)).filter(({ node }) => node !== 0n).map(({ node, text }) => `${node} ${text}`);

  await t.test('log lines are stored once each, under the node that sent them', async t => {
    say(berlin, 1n, ['a', 'b']);
    say(berlin, 1n, ['a', 'b', 'c']);
    say(berlin, 3n, ['c']);
    for (const sequence of [2n, 3n, 3n]) t.same(await berlin.hear('logTaken'), { run: run.id, sequence });
    t.same(
      await ofNodes(),
      ['a', 'b', 'c'].map(text => `${berlin.id} ${text}`),
    );
  });

  await t.test('log lines are refused from a node that is not a party of the run', async t => {
    say(tokyo, 1n, ['forged']);
    t.same(await tokyo.hear('cancel'), { run: run.id, message: 0n }, 'the same as for a run there is not');
    say(tokyo, 1n, ['forged'], 5n);
    t.same(await tokyo.hear('cancel'), { run: 5n, message: 0n });
    t.equal((await ofNodes()).length, 3);
  });

  await t.test('log lines with an invalid sequence end the session', async t => {
    for (const sequence of [0n, 2n ** 64n - 1n]) {
      const node = await site.node(berlin.key);
      say(node, sequence, ['x']);
      t.equal(await node.ended, 'PROTOCOL_INVALID');
    }
    t.equal((await ofNodes()).length, 3);
  });
});

void t.test('a node gets a cancellation for each finished run it knows, also for hundreds', async t => {
  const site = await startHandSite(t);
  const supervisor = await site.supervise();
  const key = newKey();
  const first = await site.node(key);
  const { run, half } = await site.running(supervisor);
  await deliver(half, first, 1);
  const over = Array.from({ length: 998 }, (_, index) => BigInt(index + 1));
  const node = await site.node(key, [...over.slice(0, 500), run.id, ...over.slice(500)]);
  await node.hear('deliver');
  const told: bigint[] = [];
  while (told.length < over.length) told.push((await node.hear('cancel')).run);
  t.same(told, over);
  t.equal(await first.ended, 'SESSION_REPLACED');
  node.reply(run.id, 1, 'still here');
  t.equal((await half.hear('answer')).body.toString(), 'still here');
});

void t.test('a node is still a party of its runs after a restart of the link', async t => {
  const site = await startHandSite(t, { store: createMemoryStore() });
  const supervisor = await site.supervise();
  const [one, other] = [newKey(), newKey()];
  const berlin = await site.node(one);
  const tokyo = await site.node(other);
  const { run, half, token } = await site.running(supervisor);
  await deliver(half, berlin, 1);
  await deliver(half, tokyo, 2);
  berlin.reply(run.id, 1, 'answer');
  await half.hear('answer');
  half.say('taken', { number: 1 });
  half.say('log', { sequence: 1, at: 5, level: 'info', text: 'one' });
  await half.hear('logged');

  const next = await site.restart();
  await next.supervise([run]);
  const again = await next.half(token);
  t.match(again.welcome.value, { resumed: true, archiveBytes: 0 });
  const back = await next.node(one, [run.id]);
  const lines = [{ atMs: 1n, level: 'info', text: 'said meanwhile' }];
  back.say({ $case: 'log', value: { run: run.id, sequence: 1n, lines } });
  t.same(
    await back.hear('logTaken'),
    { run: run.id, sequence: 1n },
    'it has no message, and is a party still',
  );
  t.same(back.heard, []);
  t.equal((await next.runs.get(run.id)).nodes, 2);

  const late = await next.node(other, [run.id]);
  const { message, attempt } = await late.hear('deliver');
  t.same([message, attempt], [2n, 1]);
  await late.hear('assign');
  late.reply(run.id, 2, 'late');
  t.equal((await again.hear('answer')).body.toString(), 'late');
  again.say('log', { sequence: 1, at: 5, level: 'info', text: 'one' });
  t.same((await again.hear('logged')).value, { sequence: 1 });
  again.say('finished', { result: 1 });
  await again.hear('over');
  const done: Run = await next.finished(run);
  t.same([done.nodes, done.resultJson], [2, '1']);
  t.equal((await next.log(run)).filter(({ text }) => text === 'one').length, 1);
});
