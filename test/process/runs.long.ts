/** Runs as in production: a link, agents and app hosts as processes, apps on the disk, logs read over the control port. */
import t from 'tap';
import { RunOutcome } from '../../src/protocol/generated/rollcall/v1/runs.js';
import { pythonServerHalf, skipWithoutPython } from '../harness/python-half.js';
import { nodeHalf, openRunSite, serverHalf, serverHalves } from '../harness/run-site.js';
import { newKey } from '../harness/test-link.js';

/** Sends one query to every node and returns the answers. */
const askAll = serverHalf(`
  const nodes = await grid.nodes({ min: config['min'] });
  const answers = [];
  const messages = nodes.map(({ id }) => ({ node: id, type: config['type'], content: { text: 'hello', id } }));
  for await (const { node, content, error } of grid.sendAndReceive(messages, { timeoutMs: config['ttl'] }))
    answers.push(error ? { node, code: error.code, message: error.message } : { node, content });
  return answers;`);
const config = { min: 1, type: 'query', ttl: 60_000 };
/** Languages of server halves. */
const languages =
  skipWithoutPython === false ? (['javascript', 'python'] as const) : (['javascript'] as const);

void t.test('two nodes run apps as processes, from the first message to the end of the run', async t => {
  const site = await openRunSite(t);
  const berlin = await site.startTrusting('berlin', ['--node-config', 'site="charité" big=9007199254740993']);
  await site.startTrusting('tokyo');

  await t.test('a node keeps its state during a run, without the changes of handlers that threw', async t => {
    const node = nodeHalf(`
      query: (message, { state }) => {
        state.count = (state.count ?? 0) + 1;
        if (message.content.fail) throw new Error('as told');
        return { count: state.count };
      },`);
    const servers = serverHalves(
      `
      const [{ id }] = await grid.nodes();
      const answers = [];
      for (const fail of [false, false, true, false])
        for await (const { content, error } of grid.sendAndReceive([{ node: id, type: 'query', content: { fail } }]))
          answers.push(error ? error.message : content.count);
      return answers;`,
      `
      [node, *_] = grid.nodes()
      answers = []
      for fail in [False, False, True, False]:
          for reply in grid.send_and_receive([OutgoingMessage(node.id, "query", {"fail": fail})]):
              answers.append(reply.error.message if reply.error else reply.content["count"])
      return answers`,
    );
    for (const language of languages)
      t.same(
        await site.complete({ ...servers[language], node }),
        [1, 2, 'Error: as told (node.js:6:41)', 3],
        language,
      );
  });

  await t.test('a server half that is a child of the link finds programs on the same path', async t => {
    const servers = serverHalves('return process.env.PATH;', 'import os; return os.environ["PATH"]');
    for (const language of languages) {
      const path = await site.complete<string>(servers[language]);
      // A wrapper around python3 may put its own folders before.
      t.ok(path.endsWith(process.env['PATH'] ?? 'no PATH'), `${language}: ${path}`);
    }
  });

  await t.test('contents of megabytes travel both ways and are shared between messages', async t => {
    const servers = serverHalves(
      `
      const nodes = await grid.nodes({ min: 2 });
      const { NumberArray } = await import('rollcall/app');
      const numbers = new NumberArray(Float32Array.from({ length: 1_000_003 }, (_, index) => index % 1000));
      const content = { numbers };
      const sums = [];
      for await (const { content: { doubled }, error } of grid.sendAndReceive(nodes.map(({ id }) => ({ node: id, type: 'query', content }))))
        sums.push(doubled.data.length, doubled.data[999], doubled.data[1_000_002]);
      return sums;`,
      `
      content = {"numbers": NumberArray(array.array("f", (index % 1000 for index in range(1_000_003))))}
      sums = []
      for reply in grid.send_and_receive([OutgoingMessage(node.id, "query", content) for node in grid.nodes(min_count=2)]):
          doubled = reply.content["doubled"].data
          sums += [len(doubled), doubled[999], doubled[1_000_002]]
      return sums`,
    );
    const node = nodeHalf(
      '  query: ({ content }) => ({ doubled: new NumberArray(content.numbers.data.map(each => each * 2)) }),',
    ).replace('{ nodeApp }', '{ NumberArray, nodeApp }');
    for (const language of languages) {
      const sums = await site.complete({ ...servers[language], node });
      t.same(sums, [1_000_003, 1998, 4, 1_000_003, 1998, 4], language);
    }
  });

  await t.test('a failed node half is the answer to its message, and the next message works', async t => {
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

  await t.test('a failure of a server half is the failure reason of its run', async t => {
    const reasonOf = async (server: string, serverFile = 'server.js'): Promise<string> => {
      const run = await site.finished(await site.start({ server, serverFile }));
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
      /expected 50 matching nodes online, found 2/,
    );
    if (skipWithoutPython !== false) return;
    const inPython = (server: string): Promise<string> => reasonOf(server, 'server.py');
    t.match(await inPython(pythonServerHalf('raise IndexError("too few")')), /IndexError: too few/);
    t.match(await inPython('def main(:'), /server\.py:1/);
    t.match(await inPython('main = 5'), /@rollcall_app.server/);
    t.match(await inPython(pythonServerHalf('sys.exit(3)')), /exit code 3/);
    t.match(await inPython(pythonServerHalf('return {"big": "x" * 70_000}')), /65536|64 KiB/);
    t.match(
      await inPython(pythonServerHalf('grid.nodes(min_count=50, timeout=0.05)')),
      /expected 50 matching nodes online, found 2/,
    );
    t.match(
      await inPython(pythonServerHalf('return len(bytes(2 * 1024 ** 3))')),
      /MemoryError \(server.py:5\)/,
    );
  });

  await t.test('a stopped run ends, whether its server half obeys or ignores the stop', async t => {
    const listening = serverHalves(
      `log.info('begun'); await new Promise(resolve => signal.addEventListener('abort', resolve));`,
      `
      context.log.info("begun")
      while not context.stopped():
          time.sleep(0.01)`,
    );
    const deaf = serverHalves(
      `log.info('begun'); await new Promise(resolve => setImmediate(resolve)); for (;;);`,
      `
      context.log.info("begun")
      while True:
          pass`,
    );
    for (const [language, server] of languages.flatMap(each =>
      [listening[each], deaf[each]].map(server => [each, server] as const),
    )) {
      const run = await site.start(server);
      for await (const { entry } of site.runs().log(run.id, { follow: true }))
        if (entry?.text === 'begun') break;
      const stopped = await site.runs().stop(run.id);
      t.equal(stopped.outcome, RunOutcome.RUN_OUTCOME_STOPPED, language);
      t.match(stopped.reason, /stopped by/);
      t.equal((await site.runs().stop(run.id)).outcome, RunOutcome.RUN_OUTCOME_STOPPED);
    }
  });

  await t.test('a node refuses an app that an untrusted key has signed', async t => {
    await t.rejects(site.start({ server: askAll, config }, {}, newKey()), { code: 'REQUEST_INVALID' });
  });

  await t.test(
    'of 10,000 messages to an absent node, 1,000 wait and the others fail with QUEUE_FULL',
    async t => {
      const away = await site.register(newKey());
      const servers = serverHalves(
        `
      const messages = Array.from({ length: 10_000 }, () => ({ node: config['node'], type: 'query', content: {} }));
      const codes = new Set();
      let told = 0;
      for await (const { error } of grid.sendAndReceive(messages)) {
        codes.add(error.code);
        told += 1;
        if (told === 9_000) return [...codes];
      }`,
        `
      messages = [OutgoingMessage(context.config["node"], "query", {}) for _ in range(10_000)]
      codes = set()
      for told, reply in enumerate(grid.send_and_receive(messages), 1):
          codes.add(reply.error.code)
          if told == 9_000:
              return list(codes)`,
      );
      for (const language of languages) {
        const started = await site.start({ ...servers[language], config: { node: '' } }, { node: away });
        const run = await site.finished(started);
        t.equal(run.resultJson, '["QUEUE_FULL"]', run.reason);
        t.same(
          [run.messagesSent, run.messagesAnswered, run.messagesFailed],
          [10_000n, 9_000n, 9_000n],
          language,
        );
      }
    },
  );
});
