/** Frames of a node about a run: stored before they are acknowledged, limited to its own messages, and bounded in their cost. */
import t, { type Test } from 'tap';
import { createMemoryStore } from '../../../../src/store/memory.js';
import type { LinkFrame } from '../../../../src/protocol/generated/rollcall/v1/link.js';
import { limits } from '../../../../src/protocol/limits.js';
import { pausingStore, type PausingStore } from '../../../harness/stores.js';
import { createManualClock } from '../../../harness/manual-clock.js';
import { startHandSite, type HandHalf, type HandNode, type HandSite } from '../fixtures/hand-site.js';
import { RunStatus, type Run } from '../../../../src/protocol/generated/rollcall/v1/runs.js';

interface Bench {
  readonly site: HandSite;
  readonly pausing: PausingStore;
  readonly run: Run;
  readonly half: HandHalf;
  readonly berlin: HandNode;
  readonly tokyo: HandNode;
}

/** A run with a message under way to each of two nodes: 1 to berlin, 2 to tokyo. */
async function openBench(t: Test): Promise<Bench> {
  const pausing = pausingStore(createMemoryStore());
  const site = await startHandSite(t, { store: pausing.store, clock: createManualClock() });
  const supervisor = await site.supervise();
  const [berlin, tokyo] = [await site.node(), await site.node()];
  const { run, half } = await site.running(supervisor);
  for (const [number, node] of [berlin, tokyo].entries()) {
    half.say('send', { number: number + 1, node: `${node.id}`, type: 'train' }, Buffer.from('x'));
    await half.hear('accepted');
    await node.hear('deliver');
  }
  return { site, pausing, run, half, berlin, tokyo };
}

const kindsOf = (heard: readonly NonNullable<LinkFrame['frame']>[]): string[] =>
  heard.map(({ $case }) => $case).filter(kind => kind !== 'assign');

void t.test('a reply is stored before it is acknowledged and before the server half receives it', async t => {
  const { pausing, run, half, berlin } = await openBench(t);
  const paused = pausing.pause();
  berlin.reply(run.id, 1, 'answer');
  await paused.held;
  await berlin.flush();
  t.same(kindsOf(berlin.heard), [], 'its node must keep it still');
  t.same(
    half.heard.filter(({ name }) => name === 'answer'),
    [],
  );
  paused.resume();
  t.same(await berlin.hear('acknowledge'), { run: run.id, message: 1n });
  t.equal((await half.hear('answer')).body.toString(), 'answer');
});

void t.test(
  'lines of a log are stored before they are acknowledged, also when they are sent twice',
  async t => {
    const { pausing, run, berlin } = await openBench(t);
    const paused = pausing.pause();
    const lines = { run: run.id, sequence: 1n, lines: linesOf(1) };
    berlin.say({ $case: 'log', value: lines });
    await paused.held;
    berlin.say({ $case: 'log', value: lines });
    await berlin.flush();
    t.same(kindsOf(berlin.heard), []);
    paused.resume();
    for (let count = 0; count < 2; count++)
      t.same(await berlin.hear('logTaken'), { run: run.id, sequence: 1n });
  },
);

void t.test('log lines that could not be stored are accepted again on the next session', async t => {
  const { site, pausing, run, berlin } = await openBench(t);
  const say = (node: HandNode, sequence: bigint, text: string): void =>
    node.say({ $case: 'log', value: { run: run.id, sequence, lines: linesOf(1, text) } });
  pausing.onCommit = () => {
    throw new Error('a failure that does not pass');
  };
  say(berlin, 1n, 'one');
  await berlin.flush();
  pausing.onCommit = undefined;
  say(berlin, 2n, 'two');
  await berlin.flush();
  t.same(kindsOf(berlin.heard), [], 'an acknowledgement of 2 would include 1');
  const back = await site.node(berlin.key, [run.id]);
  say(back, 1n, 'one');
  say(back, 2n, 'two');
  for (const sequence of [1n, 2n]) t.same(await back.hear('logTaken'), { run: run.id, sequence });
  t.same(
    (await site.log(run)).map(({ text }) => text).filter(text => text === 'one' || text === 'two'),
    ['one', 'two'],
  );
});

function linesOf(count: number, text = '') {
  return Array.from({ length: count }, () => ({ atMs: 1n, level: 'info', text }));
}

void t.test('a frame with too many log lines ends the session and none is stored', async t => {
  const { site, run, berlin, tokyo } = await openBench(t);
  const max = linesOf(limits.logLinesPerFrame);
  tokyo.say({ $case: 'log', value: { run: run.id, sequence: 1n, lines: max } });
  t.equal((await tokyo.hear('logTaken')).sequence, BigInt(max.length));
  const before = (await site.runs.get(run.id)).logLines;
  berlin.say({ $case: 'log', value: { run: run.id, sequence: 1n, lines: [...max, ...linesOf(1)] } });
  t.equal(await berlin.ended, 'PROTOCOL_INVALID');
  t.equal((await site.runs.get(run.id)).logLines, before);
});

void t.test(
  'a node that fills its share of a log does not displace others and causes no more writes',
  async t => {
    const { site, pausing, run, half, berlin, tokyo } = await openBench(t);
    const lines = linesOf(limits.logLinesPerFrame);
    let sequence = 1n;
    const say = async (): Promise<void> => {
      berlin.say({ $case: 'log', value: { run: run.id, sequence, lines } });
      sequence += BigInt(lines.length);
      await berlin.hear('logTaken');
    };
    for (let count = 0; count < 16; count++) await say();
    const before = (await site.runs.get(run.id)).logLines;
    t.ok(before < 20_000n, `${before} lines`);
    let commits = 0;
    pausing.onCommit = () => void (commits += 1);
    for (let count = 0; count < 4; count++) await say();
    pausing.onCommit = undefined;
    t.equal(commits, 0, 'what is not kept is not written');
    tokyo.say({ $case: 'log', value: { run: run.id, sequence: 1n, lines: linesOf(1, 'an honest line') } });
    await tokyo.hear('logTaken');
    half.say('log', { sequence: 1, at: 5, level: 'info', text: 'a line of the server half' });
    await half.hear('logged');
    half.say('finished', {});
    while ((await site.runs.get(run.id)).status !== RunStatus.RUN_STATUS_FINISHED)
      await new Promise(resolve => setImmediate(resolve));
    t.same(
      (await site.log(run)).filter(({ text }) => text !== '').map(({ text }) => text),
      [
        `the share of node ${berlin.id} in this log is full: its later lines are dropped`,
        'an honest line',
        'a line of the server half',
        'run completed',
      ],
    );
  },
);

void t.test('refused replies of one node are logged at most ten times a minute', async t => {
  const { site, run, half, berlin, tokyo } = await openBench(t);
  for (let count = 0; count < 100; count++) tokyo.reply(run.id, 1, 'forged');
  for (let count = 0; count < 100; count++) tokyo.reply(run.id, 9, 'to nothing');
  for (let count = 0; count < 200; count++) await tokyo.hear('acknowledge');
  const lines = site.logged.filter(line => line.includes('security.reply-refused'));
  t.equal(lines.length, 10, 'ten in a minute');
  t.match(lines[0], `"nodeId":"${tokyo.id}"`);
  berlin.reply(run.id, 1, 'true');
  const { value, body } = await half.hear('answer');
  t.same([value['node'], body.toString()], [`${berlin.id}`, 'true']);
});
