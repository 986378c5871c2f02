/** Runs as users have them: a link, agents and app hosts as processes, apps written to disk, logs read over the control port. */
import t from 'tap';
import { RunOutcome } from '../../src/protocol/generated/rollcall/v1/runs.js';
import { nodeHalf, openRunSite, serverHalf } from '../harness/run-site.js';
import { newKey } from '../harness/test-link.js';

/** Sends one query to every node and gives what came back. */
const askAll = serverHalf(`
  const nodes = await grid.nodes({ min: config['min'] });
  const answers = [];
  const messages = nodes.map(({ id }) => ({ node: id, type: config['type'], content: { text: 'hello', id } }));
  for await (const { node, content, error } of grid.sendAndReceive(messages, { timeoutMs: config['ttl'] }))
    answers.push(error ? { node, code: error.code, message: error.message } : { node, content });
  return answers;`);
const config = { min: 1, type: 'query', ttl: 60_000 };

void t.test('two nodes and an app', async t => {
  const site = await openRunSite(t);
  const berlin = await site.startTrusting('berlin', ['--node-config', 'site="charité" big=9007199254740993']);
  await site.startTrusting('tokyo');

  await t.test(
    'state stays with a node through a run, and what a handler that threw left is undone',
    async t => {
      const node = nodeHalf(`
      query: (message, { state }) => {
        state.count = (state.count ?? 0) + 1;
        if (message.content.fail) throw new Error('as told');
        return { count: state.count };
      },`);
      const server = serverHalf(`
      const [{ id }] = await grid.nodes();
      const answers = [];
      for (const fail of [false, false, true, false])
        for await (const { content, error } of grid.sendAndReceive([{ node: id, type: 'query', content: { fail } }]))
          answers.push(error ? error.message : content.count);
      return answers;`);
      t.same(await site.complete({ server, node }), [1, 2, 'Error: as told (node.js:6:41)', 3]);
    },
  );

  await t.test('a content of megabytes goes both ways, shared between messages', async t => {
    const server = serverHalf(`
      const nodes = await grid.nodes({ min: 2 });
      const numbers = new NumberArray(Float32Array.from({ length: 1_000_003 }, (_, index) => index % 1000));
      const content = { numbers };
      const sums = [];
      for await (const { content: { doubled }, error } of grid.sendAndReceive(nodes.map(({ id }) => ({ node: id, type: 'query', content }))))
        sums.push(doubled.data.length, doubled.data[999], doubled.data[1_000_002]);
      return sums;`).replace('{ serverApp }', '{ NumberArray, serverApp }');
    const node = nodeHalf(
      '  query: ({ content }) => ({ doubled: new NumberArray(content.numbers.data.map(each => each * 2)) }),',
    ).replace('{ nodeApp }', '{ NumberArray, nodeApp }');
    t.same(await site.complete({ server, node }), [1_000_003, 1998, 4, 1_000_003, 1998, 4]);
  });

  await t.test('what a node half does wrong is its answer, and the next message works', async t => {
    const node = nodeHalf(`
      throws: () => { throw new TypeError('no such dataset'); },
      exits: () => process.exit(7),
      odd: () => ({ half: [1, 2] }),
      binary: () => { process.stdout.write(Buffer.from([0, 27, 91, 50, 74, 255, 254, 10])); return {}; },
      query: () => ({ fine: true }),`);
    const server = serverHalf(`
      const answers = {};
      for (const type of ['nothing', 'throws', 'exits', 'odd', 'binary', 'query'])
        for await (const { content, error } of grid.sendAndReceive([{ node: config['node'], type, content: {} }]))
          answers[type] = error ?? content;
      return answers;`);
    const run = await site.start({ server, node, config: { node: '' } }, { node: berlin.id });
    const answers = JSON.parse((await site.finished(run)).resultJson) as Record<string, object>;
    t.match(answers['nothing'], { code: 'NO_HANDLER' });
    t.match(answers['throws'], { code: 'HANDLER_THREW', message: /^TypeError: no such dataset/ });
    t.match(answers['exits'], { code: 'APP_CRASHED', message: /7/ });
    t.match(answers['odd'], { code: 'APP_INVALID' });
    t.same(answers['binary'], {});
    t.same(answers['query'], { fine: true });
    const texts = (await site.log(run)).map(({ text }) => text);
    t.notOk(
      texts.some(text => text.includes('\u001b')),
      'nothing in the log moves a cursor',
    );
  });

  await t.test('what a server half does wrong is why its run failed', async t => {
    const reasonOf = async (server: string): Promise<string> => {
      const run = await site.finished(await site.start({ server }));
      t.equal(run.outcome, RunOutcome.RUN_OUTCOME_FAILED);
      return run.reason;
    };
    t.match(await reasonOf(serverHalf(`throw new RangeError('too few');`)), /RangeError: too few/);
    t.match(await reasonOf('export default {{;'), /server\.js:1/);
    t.match(await reasonOf('export default 5;'), /serverApp/);
    t.match(await reasonOf(serverHalf('process.exit(3);')), /exit code 3/);
    t.match(await reasonOf(serverHalf(`return { big: 'x'.repeat(70_000) };`)), /65536|64 KiB/);
    t.match(
      await reasonOf(serverHalf('await grid.nodes({ min: 50, timeoutMs: 50 });')),
      /of 50 nodes were online/,
    );
  });

  await t.test('a run that would not end is stopped, and says by whom', async t => {
    const server = serverHalf(
      `log.info('begun'); await new Promise(resolve => signal.addEventListener('abort', resolve));`,
    );
    const run = await site.start({ server });
    for await (const { entry } of site.runs().log(run.id, { follow: true }))
      if (entry?.text === 'begun') break;
    const stopped = await site.runs().stop(run.id);
    t.equal(stopped.outcome, RunOutcome.RUN_OUTCOME_STOPPED);
    t.match(stopped.reason, /stopped by/);
    t.equal((await site.runs().stop(run.id)).outcome, RunOutcome.RUN_OUTCOME_STOPPED);
  });

  await t.test('an app that is not what was signed is refused', async t => {
    await t.rejects(site.start({ server: askAll, config }, {}, newKey()), { code: 'REQUEST_INVALID' });
  });

  await t.test('10,000 messages to a node that is away: a thousand wait, the others are told', async t => {
    const away = await site.register(newKey());
    const server = serverHalf(`
      const messages = Array.from({ length: 10_000 }, () => ({ node: config['node'], type: 'query', content: {} }));
      const codes = new Set();
      let told = 0;
      for await (const { error } of grid.sendAndReceive(messages)) {
        codes.add(error.code);
        told += 1;
        if (told === 9_000) return [...codes];
      }`);
    const run = await site.finished(await site.start({ server, config: { node: '' } }, { node: away }));
    t.equal(run.resultJson, '["QUEUE_FULL"]', run.reason);
    t.same([run.messagesSent, run.messagesAnswered, run.messagesFailed], [10_000n, 9_000n, 9_000n]);
  });
});
