/**
 * Server halves in their real runners, in JavaScript and in Python: what they ask of the grid comes to the link in the same frames,
 * is sent again, and is answered.
 */
import t, { type Test } from 'tap';
import { spawnSync } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { NumberArray, type Content } from '../../../src/app/content.js';
import { FrameConnection, type Frame } from '../../../src/app-host/wire/frames.js';
import type { Language } from '../../../src/app-host/hosting/hosting.js';
import { RunnerLink } from '../../../src/app-host/runner/link.js';
import { createLogBook } from '../../../src/app-host/runner/log-book.js';
import { isRollcallError, RollcallError } from '../../../src/base/errors.js';
import { createManualClock } from '../../harness/manual-clock.js';
import { pythonServerHalf, skipWithoutPython } from '../../harness/python-half.js';
import { startRunner, type DriverOptions, type RunnerDriver } from '../fixtures/runner-driver.js';

/** A server half, as its author writes it in each language. */
type Body = Readonly<Record<Language, string>>;

const entries: Readonly<Record<Language, string>> = { javascript: 'server.js', python: 'server.py' };

/** The body begins in line 3 in JavaScript, and in line 5 in Python. */
function sourceOf(language: Language, body: string): string {
  if (language === 'javascript')
    return `import { serverApp, NumberArray } from 'rollcall/app';
export default serverApp(async ({ grid, config, log, signal, runId }) => {
${body}
});
`;
  return pythonServerHalf(body);
}

const skip = skipWithoutPython;

/** One test for each language. */
function testBoth(title: string, run: (test: Test, language: Language) => Promise<void>): void {
  void t.test(`javascript: ${title}`, test => run(test, 'javascript'));
  void t.test(`python: ${title}`, { skip }, test => run(test, 'python'));
}

function start(
  test: Test,
  language: Language,
  body: Body,
  options: Partial<DriverOptions> = {},
): Promise<RunnerDriver> {
  const files = { [entries[language]]: sourceOf(language, body[language]) };
  return startRunner(test, { half: 'server', language, files, ...options });
}

/** Accepts the next message, and gives it. */
async function accept(driver: RunnerDriver): Promise<Frame> {
  const sent = await driver.next('send');
  driver.send('accepted', { number: sent.value['number'] });
  return sent;
}

function reply(driver: RunnerDriver, number: unknown, content: Content, node: unknown = '5'): void {
  driver.sendContent('answer', { number, node }, content);
}

/** Answers until the end; returns the outcome. */
async function outcome(driver: RunnerDriver): Promise<Frame> {
  const ended = await driver.next('finished', 'failed');
  driver.send('over', {});
  const { code } = await driver.exited;
  if (code !== 0) throw new Error(`it ended with ${code}`);
  return ended;
}

testBoth(
  'a server half finds nodes, exchanges messages, logs, and returns a result',
  async (test, language) => {
    const driver = await start(test, language, {
      javascript: `const nodes = await grid.nodes({ min: 2, labels: { zone: 'a' }, timeoutMs: 60_000 });
     log.info('found ' + nodes.map(({ name }) => name).join());
     const replies = grid.sendAndReceive(
       nodes.map(({ id }) => ({ node: id, type: 'query', group: 'round 1', content: { greeting: 'hello', raw: new Uint8Array(3) } })),
       { timeoutMs: 5_000, onProgress: ({ node, fraction, note }) => log.debug([node, fraction, note].join(' ')) },
     );
     const answers = [];
     for await (const { message, node, content, error } of replies) answers.push([message, node, content?.answer ?? '', error?.code ?? '']);
     log.error({ odd: 1 });
     return { answers, progress: replies.progress, rounds: config.rounds, runId };`,
      python: `
        nodes = grid.nodes(min_count=2, labels={"zone": "a"}, timeout=60)
        context.log.info("found " + ",".join(node.name for node in nodes))
        replies = grid.send_and_receive(
            [OutgoingMessage(node.id, "query", {"greeting": "hello", "raw": bytes(3)}, group="round 1") for node in nodes],
            timeout=5,
            on_progress=lambda told: context.log.debug(f"{told.node} {told.fraction} {told.note}"),
        )
        answers = []
        for message, node, content, error in replies:
            answers.append([message, node, content["answer"] if content else "", error.code if error else ""])
        context.log.error({"odd": 1})
        progress = replies.progress._asdict()
        return {"answers": answers, "progress": progress, "rounds": context.config["rounds"], "runId": context.run_id}`,
    });
    await driver.next('ready');
    const asked = (await driver.next('nodes')).value;
    test.same(
      { ...asked, timeoutMs: Math.ceil(Number(asked['timeoutMs']) / 60_000) },
      { request: 1, min: 2, labels: { zone: 'a' }, timeoutMs: 1 },
    );
    const nodes = ['5', '6'].map(id => ({ id, name: `n${id}`, labels: { zone: 'a' } }));
    driver.send('nodes', { request: 1, nodes });
    const first = await accept(driver);
    test.same(first.value, { number: 1, node: '5', type: 'query', group: 'round 1', ttlMs: 5_000 });
    test.same(driver.contentOf(first), { greeting: 'hello', raw: new Uint8Array(3) });
    const second = await accept(driver);
    driver.send('progress', { number: 2, node: '6', fraction: 0.5, note: 'half' });
    driver.send('answer', { number: 2, node: '6', error: { code: 'NO_HANDLER', message: 'none' } });
    test.same((await driver.next('taken')).value, { number: 2 });
    reply(driver, 1, { answer: 'well' });
    test.same((await driver.next('taken')).value, { number: 1 });
    test.equal(second.value['number'], 2);
    const lines = [await driver.next('log'), await driver.next('log'), await driver.next('log')];
    test.same(
      lines.map(({ value }) => [value['sequence'], value['level'], value['text']]),
      [
        [1, 'info', 'found n5,n6'],
        [2, 'debug', '6 0.5 half'],
        [3, 'error', language === 'python' ? "{'odd': 1}" : '{ odd: 1 }'],
      ],
    );
    test.same((await outcome(driver)).value['result'], {
      answers: [
        [2, '6', '', 'NO_HANDLER'],
        [1, '5', 'well', ''],
      ],
      progress: { sent: 2, answered: 2, failed: 1 },
      rounds: 2,
      runId: '99',
    });
    test.same(await readdir(driver.folder), [], 'nothing is left');
  },
);

testBoth(
  'send resolves when the messages are stored, and receive yields earlier and later replies',
  async (test, language) => {
    const driver = await start(test, language, {
      javascript: `const send = count => grid.send(Array.from({ length: count }, () => ({ node: '5', type: 'query', content: {} })));
     const numbers = await send(3);
     log.info('accepted ' + numbers.join());
     const seen = [];
     for await (const { message } of grid.receive(numbers.slice(0, 2))) seen.push(message);
     const errors = [];
     for (const wrong of [[1], [9], [3, 3]]) try { grid.receive(wrong) } catch (error) { errors.push(error.code) }
     for await (const { message } of grid.receive([3])) seen.push(message);
     for await (const _ of grid.sendAndReceive([])) seen.push('none');
     return { seen, errors };`,
      python: `
        numbers = grid.send([OutgoingMessage("5", "query", {}) for _ in range(3)])
        context.log.info("accepted " + ",".join(map(str, numbers)))
        seen = [reply.message for reply in grid.receive(numbers[:2])]
        errors = []
        for wrong in [[1], [9], [3, 3]]:
            try:
                grid.receive(wrong)
            except GridError as error:
                errors.append(error.code)
        seen += [reply.message for reply in grid.receive([3])]
        seen += ["none" for _ in grid.send_and_receive([])]
        return {"seen": seen, "errors": errors}`,
    });
    for (const number of [1, 2, 3]) {
      test.notOk(driver.has('log'));
      const { value } = await driver.next('send');
      test.equal(value['number'], number);
      test.equal(value['ttlMs'], 3_600_000);
      if (number === 2) reply(driver, 2, { early: true });
      else driver.send('accepted', { number });
    }
    test.equal((await driver.next('log')).value['text'], 'accepted 1,2,3', 'an answer is an acceptance');
    test.same(
      (await driver.next('taken')).value,
      { number: 2 },
      'a small one is taken before anybody asks for it',
    );
    reply(driver, 2, { early: true });
    reply(driver, 1, {});
    reply(driver, 3, {});
    test.same((await outcome(driver)).value['result'], {
      seen: [2, 1, 3],
      errors: Array(3).fill('REQUEST_INVALID'),
    });
  },
);

testBoth('large contents travel once, in chunks, in both directions', async (test, language) => {
  const driver = await start(test, language, {
    javascript: `const weights = new NumberArray(Float32Array.from({ length: 1_310_720 }, (_, n) => n), [1024, 1280]);
     const content = { weights };
     let sum = 0;
     for await (const { content: answer, error } of grid.sendAndReceive(['5', '6', '7'].map(node => ({ node, type: 'train', content }))))
       sum += error ? 0 : answer.weights.data[1] + answer.weights.data.at(-1);
     return sum;`,
    python: `
        content = {"weights": NumberArray(array.array("f", range(1_310_720)), [1024, 1280])}
        total = 0
        for reply in grid.send_and_receive([OutgoingMessage(node, "train", content) for node in ["5", "6", "7"]]):
            if reply.error is None:
                total += reply.content["weights"].data[1] + reply.content["weights"].data[-1]
        return total`,
  });
  const sent = [await accept(driver), await accept(driver), await accept(driver)];
  const names = sent.map(({ value }) => JSON.stringify(value['object']));
  test.equal(new Set(names).size, 1);
  test.ok(sent.every(({ body }) => body.length === 0));
  test.equal(driver.chunksCame.length, 6, '5 MiB and a head are six chunks');
  const content = driver.contentOf(sent[0] as Frame) as { weights: NumberArray };
  test.same(content.weights.shape, [1024, 1280]);
  test.ok(content.weights.data.every((each, n) => each === n));
  for (const number of [1, 2])
    reply(driver, number, {
      weights: new NumberArray(Float32Array.from({ length: 1_310_720 }, () => number)),
    });
  driver.send('answer', { number: 3, node: '7', object: { digest: 'ab'.repeat(32), sizeBytes: 70_000 } });
  test.equal((await outcome(driver)).value['result'], 6);
});

testBoth('a reply whose content is lost or invalid is received as an error', async (test, language) => {
  const driver = await start(test, language, {
    javascript: `const codes = [];
     const messages = [1, 2, 3].map(() => ({ node: '5', type: 'query', content: {} }));
     for await (const { error } of grid.sendAndReceive(messages)) codes.push(error.code);
     const content = { raw: new Uint8Array(100_000) };
     for await (const { error } of grid.sendAndReceive([{ node: '5', type: 'query', content }])) codes.push(error.code, error.message);
     return codes;`,
    python: `
        codes = [reply.error.code for reply in grid.send_and_receive([OutgoingMessage("5", "query", {}) for _ in range(3)])]
        for reply in grid.send_and_receive([OutgoingMessage("5", "query", {"raw": bytes(100_000)})]):
            codes += reply.error
        return codes`,
  });
  for (let number = 1; number <= 3; number++) await accept(driver);
  driver.refuseNext('the disk is full');
  driver.send('answer', { number: 1, node: '5', object: { digest: 'ab'.repeat(32), sizeBytes: 70_000 } });
  driver.send('answer', { number: 2, node: '5' }, Buffer.from('garbage'));
  driver.send('answer', { number: 3, node: '5', error: { code: 'MADE_UP', message: 'x' } });
  const result = (await outcome(driver)).value['result'] as string[];
  test.same(result.slice(0, 4), ['OBJECT_LOST', 'APP_INVALID', 'APP_INVALID', 'APP_INVALID']);
  test.match(result[4], /refused: the disk is full/);
});

testBoth('at most 256 messages wait to be accepted', async (test, language) => {
  const driver = await start(test, language, {
    javascript: `await grid.send(Array.from({ length: 300 }, () => ({ node: '5', type: 'query', content: {} })));
     await grid.nodes();`,
    python: `
        grid.send([OutgoingMessage("5", "query", {}) for _ in range(300)])
        grid.nodes()`,
  });
  const numbers: unknown[] = [];
  for (let count = 0; count < 256; count++) numbers.push((await driver.next('send')).value['number']);
  // The next frame was sent later than all it sends by itself.
  driver.send('accepted', { number: 200 });
  test.equal((await driver.next('send')).value['number'], 257, 'one goes for one that is accepted');
  test.notOk(driver.has('send'));
  test.same(
    numbers,
    Array.from({ length: 256 }, (_, index) => index + 1),
    'in order',
  );
  for (let number = 1; number <= 257; number++) driver.send('accepted', { number });
  for (let number = 258; number <= 300; number++) test.equal((await accept(driver)).value['number'], number);
  await driver.next('nodes');
});

testBoth(
  'a slow receive loop buffers at most 64 replies, unless another loop waits behind it',
  async (test, language) => {
    const driver = await start(test, language, {
      javascript: `const messages = count => Array.from({ length: count }, () => ({ node: '5', type: 'query', content: {} }));
     const slow = grid.sendAndReceive(messages(100));
     await grid.nodes();
     let answered = slow.progress.answered;
     for await (const _ of grid.sendAndReceive(messages(1))) log.info('the other came');
     let count = 0;
     for await (const _ of slow) count++;
     return [answered, count, slow.progress];`,
      python: `
        def messages(count):
            return [OutgoingMessage("5", "query", {}) for _ in range(count)]
        slow = grid.send_and_receive(messages(100))
        grid.nodes()
        answered = slow.progress.answered
        for _ in grid.send_and_receive(messages(1)):
            context.log.info("the other came")
        return [answered, sum(1 for _ in slow), slow.progress._asdict()]`,
    });
    for (let number = 1; number <= 100; number++) await accept(driver);
    for (let number = 1; number <= 100; number++) reply(driver, number, {});
    await driver.next('nodes');
    for (let count = 0; count < 64; count++) await driver.next('taken');
    driver.send('nodes', { request: 1, nodes: [] });
    await accept(driver);
    for (let count = 0; count < 36; count++) await driver.next('taken');
    reply(driver, 101, {});
    test.same((await outcome(driver)).value['result'], [64, 100, { sent: 100, answered: 100, failed: 0 }]);
  },
);

testBoth('a receive loop that is left early gives up the remaining replies', async (test, language) => {
  const driver = await start(test, language, {
    javascript: `const messages = Array.from({ length: 3 }, () => ({ node: '5', type: 'query', content: {} }));
     const replies = grid.sendAndReceive(messages);
     for await (const _ of replies) break;
     await grid.nodes();
     for await (const _ of replies) throw new Error('there should be none');`,
    python: `
        replies = grid.send_and_receive([OutgoingMessage("5", "query", {}) for _ in range(3)])
        for _ in replies:
            break
        grid.nodes()
        for _ in replies:
            raise Exception("there should be none")`,
  });
  for (let number = 1; number <= 3; number++) await accept(driver);
  reply(driver, 1, {});
  test.same((await driver.next('taken')).value, { number: 1 });
  await driver.next('nodes');
  reply(driver, 2, {});
  driver.send('answer', { number: 3, node: '5', object: { digest: 'ab'.repeat(32), sizeBytes: 70_000 } });
  for (const number of [2, 3]) test.same((await driver.next('taken')).value, { number });
  driver.send('nodes', { request: 1, nodes: [] });
  test.same((await outcome(driver)).value, {}, 'no result is no result');
});

testBoth(
  'a server half reconnects after a lost connection, and repeats frames without acknowledgement',
  async (test, language) => {
    const driver = await start(test, language, {
      javascript: `log.info('first'); log.info('second');
     const content = { raw: new Uint8Array(100_000) };
     const waits = grid.nodes({ min: 3 });
     const seen = [];
     const messages = [{ node: '5', type: 'a', content: {} }, { node: '6', type: 'b', content }, { node: '7', type: 'c', content: {} }];
     for await (const { message } of grid.sendAndReceive(messages)) seen.push(message);
     return { seen, nodes: (await waits).length };`,
      python: `
        context.log.info("first")
        context.log.info("second")
        content = {"raw": bytes(100_000)}
        found = []
        waits = threading.Thread(target=lambda: found.extend(grid.nodes(min_count=3)))
        waits.start()
        messages = [OutgoingMessage("5", "a", {}), OutgoingMessage("6", "b", content), OutgoingMessage("7", "c", {})]
        seen = [reply.message for reply in grid.send_and_receive(messages)]
        waits.join()
        return {"seen": seen, "nodes": len(found)}`,
    });
    test.same((await driver.next('connected')).value, { resumed: false });
    await driver.next('ready');
    for (let count = 0; count < 3; count++) await driver.next('send');
    test.same(
      [(await driver.next('log')).value['sequence'], (await driver.next('log')).value['sequence']],
      [1, 2],
    );
    await driver.next('nodes');
    driver.send('accepted', { number: 1 });
    driver.send('logged', { sequence: 1 });
    reply(driver, 1, {});
    await driver.next('taken');
    driver.setOpen(false);
    driver.drop();
    await driver.next('closed');
    driver.setOpen(true);
    driver.objects.clear();
    test.same((await driver.next('connected')).value, { resumed: true });
    await driver.next('ready');
    test.same((await driver.next('log')).value['sequence'], 2, 'lines that were not logged');
    test.same((await driver.next('nodes')).value['request'], 1, 'what was asked');
    reply(driver, 1, {});
    const again = [await accept(driver), await accept(driver)];
    test.same(
      again.map(({ value }) => [value['number'], value['type']]),
      [
        [2, 'b'],
        [3, 'c'],
      ],
      'messages that were not accepted, in order',
    );
    test.equal(driver.objects.size, 1, 'and the object they speak of');
    test.same((await driver.next('taken')).value, { number: 1 }, 'an answer that comes twice is only taken');
    for (const number of [2, 3]) reply(driver, number, {});
    driver.send('nodes', { request: 1, nodes: [1, 2, 3].map(id => ({ id: `${id}`, name: '', labels: {} })) });
    const finished = await driver.next('finished');
    test.same(finished.value['result'], { seen: [1, 2, 3], nodes: 3 });
    driver.drop();
    test.same((await outcome(driver)).value, finished.value, 'how it ended');
  },
);

testBoth(
  'an object transfer that a lost connection interrupted resumes where it was',
  async (test, language) => {
    const driver = await start(test, language, {
      javascript: `const content = { raw: new Uint8Array(3_000_000).map((_, n) => n >> 12) };
     let bytes = 0;
     for await (const each of grid.sendAndReceive([{ node: '5', type: 'a', content }])) bytes += each.content.raw.length;
     return bytes;`,
      python: `
        content = {"raw": bytes(n >> 12 & 255 for n in range(3_000_000))}
        return sum(len(reply.content["raw"]) for reply in grid.send_and_receive([OutgoingMessage("5", "a", content)]))`,
    });
    const sent = await driver.next('send');
    const [object] = driver.objects.values();
    object?.chunks.delete(1);
    driver.drop();
    await accept(driver);
    test.equal(driver.chunksCame.length, 4, 'three chunks, and the one that was missing');
    test.same(driver.contentOf(sent), { raw: new Uint8Array(3_000_000).map((_, n) => n >> 12) });
    // The first chunk is given on one connection, the rest on the next.
    const chunks = [...(object?.chunks ?? [])];
    object?.chunks.clear();
    driver.send('answer', { number: 1, node: '5', object: sent.value['object'] });
    driver.drop();
    await driver.next('closed', 'closed');
    for (const [index, chunk] of chunks) object?.chunks.set(index, chunk);
    await driver.next('connected');
    driver.send('answer', { number: 1, node: '5', object: sent.value['object'] });
    test.equal((await outcome(driver)).value['result'], 3_000_000);
  },
);

testBoth('a stopped run aborts its signal, and pending calls throw', async (test, language) => {
  const driver = await start(test, language, {
    javascript: `signal.addEventListener('abort', () => log.warn('stopping'));
     const replies = grid.sendAndReceive([{ node: '5', type: 'query', content: {} }]);
     const waits = [grid.nodes(), grid.send([{ node: '5', type: 'query', content: {} }]), replies[Symbol.asyncIterator]().next()];
     const ended = await Promise.allSettled(waits);
     ended.push(...(await Promise.allSettled([grid.nodes()])));
     try { grid.sendAndReceive([]) } catch (error) { log.info(error.message) }
     throw new Error(signal.aborted + ' ' + ended.map(({ reason }) => reason.message).join());`,
    python: `
        replies = grid.send_and_receive([OutgoingMessage("5", "query", {})])
        reasons = []
        def fails(wait):
            try:
                wait()
            except GridError as error:
                reasons.append(str(error))
        waits = [grid.nodes, lambda: grid.send([OutgoingMessage("5", "query", {})]), lambda: next(iter(replies))]
        threads = [threading.Thread(target=fails, args=[each]) for each in waits]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        context.log.warn("stopping")
        fails(grid.nodes)
        try:
            grid.send_and_receive([])
        except GridError as error:
            context.log.info(error)
        raise Exception(f"{context.stopped()} " + ",".join(reasons))`,
  });
  await driver.next('nodes');
  driver.send('stop', {});
  test.equal((await driver.next('log')).value['text'], 'stopping');
  const stopped = 'the run is being stopped';
  test.equal((await driver.next('log')).value['text'], stopped);
  const { name, value } = await outcome(driver);
  test.equal(name, 'failed');
  const said = [stopped, stopped, stopped, stopped].join();
  const expected = {
    javascript: `Error: true ${said} (server.js:`,
    python: `Exception: True ${said} (server.py:`,
  };
  test.match(value['message'], expected[language]);
});

/** Bodies, and how the run has failed then. */
const failures: Readonly<Record<Language, readonly (readonly [string, RegExp])[]>> = {
  javascript: [
    [`throw new RangeError('no');`, /^RangeError: no \(server.js:3:7\)$/],
    [
      `void Promise.reject(new Error('nobody looks')); await grid.nodes();`,
      /^Error: nobody looks \(server.js:3:\d+\)$/,
    ],
    [
      `setTimeout(() => { throw new Error('later'); }, 1); await grid.nodes();`,
      /^Error: later \(server.js:3:\d+\)$/,
    ],
    [`throw 'a text';`, /^a text$/],
    [
      `throw Object.defineProperty(new Error(), 'message', { get() { throw 1; } });`,
      /^an error that cannot be shown/,
    ],
    [`throw new Error('x'.repeat(10_000));`, /^Error: x{4000}/],
    [`return 'x'.repeat(65_535);`, /^the result of the server half cannot be kept: it has 65537 bytes/],
    [`return () => 1;`, /^the result .* cannot be kept: it is nothing that JSON holds/],
    [`const a = {}; a.a = a; return a;`, /^TypeError: Converting circular structure/],
    [`return 1n;`, /^TypeError: Do not know how to serialize a BigInt/],
    [
      `await grid.send([{ node: 'five', type: 'a', content: {} }]);`,
      /its node is no id.* \(server.js:3:\d+\)$/,
    ],
    [`await grid.send([{ node: '5', type: '', content: {} }]);`, /its type is no text/],
    [`await grid.send([{ node: '5', type: 'a', content: [1] }]);`, /this content cannot be sent: .*array/],
    [
      `await grid.send([{ node: '5', type: 'a', content: { a: undefined } }]);`,
      /this content cannot be sent/,
    ],
    [
      `await grid.send([{ node: '5', type: 'a', content: {}, ttlMs: -1 }]);`,
      /ttlMs must be between 1 ms and 7 days/,
    ],
    [
      `for await (const _ of grid.sendAndReceive([], { timeoutMs: NaN }));`,
      /ttlMs must be between 1 ms and 7 days/,
    ],
    [`await grid.nodes({ min: 'two' });`, /"min" of grid.nodes\(\)/],
  ],
  python: [
    [`raise IndexError("no")`, /^IndexError: no \(server.py:5\)$/],
    [
      `threading.Thread(target=lambda: 1 / 0).start(); grid.nodes()`,
      /^ZeroDivisionError: division by zero \(server.py:5\)$/,
    ],
    [`raise KeyboardInterrupt`, /^KeyboardInterrupt \(server.py:5\)$/],
    [
      `
      class Odd(Exception):
          def __str__(self):
              raise self
      raise Odd`,
      /^an error that cannot be shown/,
    ],
    [`raise ValueError("x" * 10_000)`, /^ValueError: x{4000}/],
    [`return "x" * 65_535`, /^the result of the server half cannot be kept: it has 65537 bytes/],
    [
      `return lambda: 1`,
      /^the result .* cannot be kept: JSON holds no function \(server.py:5\)$|^the result .* JSON holds no function$/,
    ],
    [`a = {}; a["a"] = a; return a`, /^ValueError: Circular reference detected/],
    [`return {(1, 2): 3}`, /^TypeError: keys must be str/],
    [`grid.send([OutgoingMessage("five", "a", {})])`, /invalid node id.* \(server.py:5\)$/],
    [`grid.send([OutgoingMessage("5", "", {})])`, /invalid type, expected a text/],
    [`grid.send([OutgoingMessage("5", "a", {}, group="x" * 201)])`, /invalid group, expected a text/],
    [`grid.send([OutgoingMessage("5", "a", [1])])`, /this content cannot be sent: it is no dict/],
    [`grid.send([OutgoingMessage("5", "a", {"a": [1]})])`, /this content cannot be sent: .*array/],
    [`grid.send([OutgoingMessage("5", "a", {}, ttl=-1)])`, /its time must be between/],
    [`grid.send_and_receive([], timeout=float("nan"))`, /its time must be between/],
    [`grid.send([{"node": "5"}])`, /expected an OutgoingMessage, found dict/],
    [`grid.nodes(min_count="two")`, /min_count of grid.nodes\(\) must be/],
    [`grid.nodes(labels={"zone": 1})`, /labels of grid.nodes\(\) must be/],
    [`grid.nodes(timeout="long")`, /timeout of grid.nodes\(\) must be/],
  ],
};

testBoth('a failure is reported with the line of the app', async (test, language) => {
  for (const [body, reason] of failures[language]) {
    const driver = await start(test, language, { javascript: body, python: body });
    const { name, value } = await outcome(driver);
    test.equal(name, 'failed');
    test.match(value['message'], reason, body);
    test.ok(Buffer.byteLength(String(value['message'])) <= 4_096);
  }
  const late = await start(test, language, {
    javascript: `await grid.nodes({ min: 9, timeoutMs: 1 });`,
    python: `grid.nodes(min_count=9, timeout=0.001)`,
  });
  const { request } = (await late.next('nodes')).value;
  late.send('nodes', { request, error: '1 of 9 nodes is online' });
  test.match((await outcome(late)).value['message'], /^1 of 9 nodes is online/);
});

/** Sources that do not load, and how the run has failed then. */
const unloadable: Readonly<Record<Language, readonly (readonly [string, RegExp])[]>> = {
  javascript: [
    [`const a = ;\n`, /^server.js cannot be loaded: SyntaxError: .* \(server.js:1\)$/],
    [
      `import { nodeApp } from 'rollcall/app';\nexport default nodeApp({});\n`,
      /^server.js has no server half/,
    ],
    [
      `import { nothing } from 'rollcall/app';\n`,
      /does not provide an export named 'nothing' \(server.js:1\)$/,
    ],
    [
      `process.exit;\nvoid Promise.reject(new Error('at once'));\nawait new Promise(() => {});\n`,
      /^Error: at once \(server.js:2/,
    ],
  ],
  python: [
    [`a = = 1\n`, /^server.py cannot be loaded: SyntaxError: .* \(server.py:1\)$/],
    [
      `import rollcall_app\n@rollcall_app.query\ndef query(message, context): pass\n`,
      /^server.py has no server half/,
    ],
    [`\nfrom rollcall_app import nothing\n`, /cannot import name 'nothing' .*\(server.py:2\)$/],
    [
      `import threading\nthreading.Thread(target=lambda: 1 / 0).start()\nthreading.Event().wait()\n`,
      /^ZeroDivisionError: .* \(server.py:2\)$/,
    ],
    [
      `import rollcall_app\n@rollcall_app.server\ndef one(grid, context): pass\nrollcall_app.server(one)\n`,
      /there are two server halves \(server.py:4\)$/,
    ],
  ],
};

testBoth('an app that fails to load fails its run with the reason', async (test, language) => {
  for (const [source, reason] of unloadable[language]) {
    const files = { [entries[language]]: source };
    const driver = await startRunner(test, { half: 'server', language, files });
    test.match((await outcome(driver)).value['message'], reason);
    test.notOk(driver.has('ready'));
  }
});

testBoth('an app that exits its process ends the run without a result', async (test, language) => {
  const driver = await start(test, language, { javascript: `process.exit(0);`, python: `sys.exit(0)` });
  await driver.exited;
  test.notOk(driver.has('finished') || driver.has('failed'));
  test.same(await readdir(driver.folder), []);
});

testBoth('a server half ends when the link no longer knows its run', async (test, language) => {
  const driver = await start(test, language, { javascript: `await grid.nodes();`, python: `grid.nodes()` });
  await driver.next('nodes');
  for (let byes = 0; byes < 3; byes++) {
    driver.send('bye', { message: 'what was that?' });
    driver.drop();
    await driver.next('closed');
    if (byes < 2) await driver.next('nodes');
  }
  test.equal((await driver.exited).code, 1);
  test.match(driver.output().stderr, /^error: refused: what was that\?\n$/);
});

testBoth('a server half that never returns does not outlive its parent process', async (test, language) => {
  const driver = await start(test, language, {
    javascript: `process.stdout.write('spinning'); for (;;);`,
    python: `
      print("spinning")
      while True:
          pass`,
  });
  while (!driver.output().stdout.includes('spinning')) await new Promise(resolve => setTimeout(resolve, 10));
  driver.endInput();
  const { code, signal } = await driver.exited;
  test.ok(code === 0 || signal === 'SIGKILL', `${code} ${signal}`);
});

testBoth('the acceptance of a message that was not sent ends the connection', async (test, language) => {
  const driver = await start(test, language, { javascript: `await grid.nodes();`, python: `grid.nodes()` });
  await driver.next('nodes');
  driver.send('accepted', { number: 1 });
  test.match((await driver.next('bye')).value['message'], /message 1 was never sent/);
  await driver.next('closed');
  test.same((await driver.next('nodes')).value['request'], 1, 'what was asked is asked again');
  driver.send('nodes', { request: 1, nodes: [] });
  test.equal((await outcome(driver)).name, 'finished');
});

void t.test('python: arrays and special numbers of a result become values of JSON', { skip }, async test => {
  const driver = await start(test, 'python', {
    javascript: '',
    python: `
      numbers = array.array("f", [1, 2, 3, 4])
      return {
          "loss": float("nan"), "pair": (1, None), 7: True, "row": numbers, "rows": NumberArray(numbers, [2, 2]),
          "one": NumberArray(numbers[:1], []), "none": NumberArray(numbers[:0], [2, 0]),
      }`,
  });
  const result = (await outcome(driver)).value['result'];
  const lists = {
    row: [1, 2, 3, 4],
    rows: [
      [1, 2],
      [3, 4],
    ],
    one: 1,
    none: [[], []],
  };
  test.same(result, { loss: null, pair: [1, null], 7: true, ...lists });
});

void t.test('python: a stopped run exits at once although a thread never returns', { skip }, async test => {
  const driver = await start(test, 'python', {
    javascript: '',
    python: `
      def spin():
          while True:
              pass
      threading.Thread(target=spin).start()
      grid.nodes()`,
  });
  await driver.next('nodes');
  driver.send('stop', {});
  test.match((await outcome(driver)).value['message'], /^the run is being stopped \(server.py:9\)$/);
});

void t.test('python: a server half that exceeds its memory limit fails', { skip }, async test => {
  const driver = await start(
    test,
    'python',
    {
      javascript: '',
      python: `
        content = {"raw": bytes(1_000_000)}
        replies = list(grid.send_and_receive([OutgoingMessage("5", "query", content)]))
        context.log.info(len(replies[0].content["raw"]))
        bytes(2 * 1024 ** 3)`,
    },
    { environment: { ROLLCALL_APP_MEMORY_BYTES: String(512 * 1024 * 1024) } },
  );
  const sent = await accept(driver);
  reply(driver, 1, driver.contentOf(sent));
  test.equal((await driver.next('log')).value['text'], '1000000');
  test.match((await outcome(driver)).value['message'], /^MemoryError \(server.py:8\)$/);
});

void t.test('javascript: a server half gives up after five minutes without the link', async test => {
  const clock = createManualClock();
  let tries = 0;
  const connection = silentConnection();
  const link = new RunnerLink({
    first: connection,
    open: () => {
      tries += 1;
      return Promise.reject(new RollcallError('LINK_UNREACHABLE', 'nobody is there'));
    },
    clock,
  });
  const ended = link
    .run({ onFrame: () => undefined, onConnected: () => undefined })
    .catch((error: unknown) => error);
  connection.destroy();
  let failure: unknown;
  void ended.then(error => (failure = error));
  let waitedMs = 0;
  while (failure === undefined && waitedMs < 400_000) {
    await new Promise<void>(resolve => setImmediate(resolve));
    clock.advance(50);
    waitedMs += 50;
  }
  test.ok(isRollcallError(failure, 'LINK_UNREACHABLE'));
  test.ok(waitedMs >= 300_000 && waitedMs < 310_000, `${waitedMs} ms`);
  test.ok(tries > 140 && tries < 170, `${tries} tries, two seconds apart in the end`);
});

/** On a socket that never connects. */
function silentConnection(): FrameConnection {
  return new FrameConnection(new Socket());
}

void t.test(
  'javascript: log lines beyond the buffer are dropped, the least important first, and the dropped are counted',
  async test => {
    const sent: { sequence: number; level: string; text: string }[] = [];
    let letGo: () => void = () => undefined;
    let isSlow = true;
    const link = {
      send(_: string, value: object) {
        sent.push(value as (typeof sent)[number]);
        return !isSlow;
      },
      ready: () => new Promise<void>(resolve => (letGo = resolve)),
    };
    const book = createLogBook(link, createManualClock());
    book.write('error', 'first');
    for (let line = 0; line < 15_000; line++) book.write(line % 2 === 0 ? 'info' : 'warn', `${line}`);
    await new Promise<void>(resolve => setImmediate(resolve));
    isSlow = false;
    letGo();
    await book.sent();
    test.ok(sent.length <= 10_001, `${sent.length} lines`);
    test.equal(sent[0]?.text, 'first');
    test.equal(sent.filter(({ level }) => level === 'warn').length, 7_501, 'no warning was lost');
    const lost = 15_001 - (sent.length - 1);
    test.equal(sent.at(-1)?.text, `${lost} lines of the log were lost: too many came at once`);
    test.ok(
      sent.every(({ sequence }, index) => index === 0 || sequence > (sent[index - 1]?.sequence ?? 0)),
      'in order',
    );
    book.onLogged(sent[100]?.sequence ?? 0);
    const [before] = [sent.length];
    book.onConnected();
    await book.sent();
    test.equal(sent.length - before, before - 101, 'what was not logged goes again');
  },
);

/** Gives what the script prints, line by line; it has rollcall_app. */
function runPython(script: string): string[] {
  const folder = join(import.meta.dirname, '../../../python');
  const begin = `import sys\nsys.dont_write_bytecode = True\nsys.path.insert(0, ${JSON.stringify(folder)})\nimport rollcall_app, threading\n`;
  const { status, stdout, stderr } = spawnSync('python3', ['-c', begin + script], { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  return stdout.trimEnd().split('\n');
}

void t.test('python: a server half gives up after five minutes without the link', { skip }, test => {
  const [waited = '', tries = ''] = runPython(`
class Clock:
    now = 0.0
    def monotonic(self):
        return self.now
    def sleep(self, seconds):
        self.now += seconds

class Silent:
    def send(self, name, value, parts=()): pass
    def read(self): return None
    def close(self): pass

tries = 0
def open_again():
    global tries
    tries += 1
    raise rollcall_app._Unreachable("nobody is there")

clock = Clock()
link = rollcall_app._Link(Silent(), open_again, threading.Condition(), clock)
try:
    link.run(lambda frame: False, lambda: None)
except rollcall_app._Unreachable:
    print(clock.now)
    print(tries)
`);
  test.ok(Number(waited) >= 300 && Number(waited) < 310, `${waited} s`);
  test.ok(Number(tries) > 140 && Number(tries) < 170, `${tries} tries, two seconds apart in the end`);
  test.end();
});

void t.test(
  'python: log lines beyond the buffer are dropped, the least important first, and the dropped are counted',
  { skip },
  test => {
    const [count, first, warnings, lost, last, order, again] = runPython(`
book = rollcall_app._LogBook(threading.Condition())
def send_all():
    lines = []
    while True:
        line = book.next_line()
        if line is None:
            return lines
        lines.append(line)
book.write("error", "first")
for line in range(15_000):
    book.write("warn" if line % 2 else "info", str(line))
sent = send_all()
print(len(sent))
print(sent[0]["text"])
print(sum(line["level"] == "warn" for line in sent))
print(15_001 - (len(sent) - 1))
print(sent[-1]["text"])
print([line["sequence"] for line in sent] == sorted(line["sequence"] for line in sent))
book.on_logged(sent[100]["sequence"])
book.on_connected()
print(len(sent) - len(send_all()))
`);
    test.ok(Number(count) <= 10_001, `${count} lines`);
    test.equal(first, 'first');
    test.equal(warnings, '7501', 'no warning was lost');
    test.equal(last, `${lost} lines of the log were lost: too many came at once`);
    test.equal(order, 'True', 'in order');
    test.equal(again, '101', 'what was not logged goes again');
    test.end();
  },
);
