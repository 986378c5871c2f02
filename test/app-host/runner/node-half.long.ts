/**
 * Node halves in their real runners, in JavaScript and in Python, with the same frames and the same expected answers.
 */
import t, { type Test } from 'tap';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { open, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { decodeContent, encodeContent, NumberArray, type Content } from '../../../src/app/content.js';
import type { Frame } from '../../../src/app-host/wire/frames.js';
import type { Language } from '../../../src/app-host/hosting/hosting.js';
import { makeFolder } from '../../harness/folder.js';
import { startRunner, type DriverOptions, type RunnerDriver } from '../fixtures/runner-driver.js';

const javascript = `
import { writeFileSync, readFileSync } from 'node:fs';
import { nodeApp, NumberArray } from 'rollcall/app';
import { twice } from './lib/twice.js';

export default nodeApp({
  query: ({ content, message, type, group, attempt, createdAt }, { nodeConfig, nodeId, runId, runConfig }) => ({
    ...content, message, type, group, attempt, createdAt, nodeId, runId,
    part: twice(nodeConfig.part), large: String(nodeConfig.large ?? ''), rounds: runConfig.rounds,
  }),
  nothing() {},
  async train({ content }, { state }) {
    for (let i = 0; i < content.weights.data.length; i++) content.weights.data[i] *= 2;
    state.calls = (state.calls ?? 0) + 1;
    state.last = content.weights;
    return { weights: content.weights, calls: state.calls };
  },
  count(message, { state }) {
    state.counts ??= new NumberArray(Int32Array.of(0));
    state.counts.data[0] += 1;
    if (message.content.fails) throw new TypeError('no more');
    return { count: state.counts.data[0] };
  },
  unfit: () => ({ list: [1, 2] }),
  number: () => 5,
  state(message, { state }) {
    state.list = [1, 2];
    return {};
  },
  vast(message, { state }) {
    state.all = new Uint8Array(17 * 1024 * 1024);
    return {};
  },
  binary() {
    process.stdout.write(Buffer.from([0, 255, 27, 10]));
    console.log('printed');
    return {};
  },
  wait: (message, { signal, progress, log }) => new Promise(resolve => {
    for (let i = 0; i < 50; i++) progress(i / 50, 'step ' + i);
    log.info('waiting');
    log.warn('x'.repeat(10_000));
    signal.addEventListener('abort', () => resolve({ cancelled: signal.aborted }));
  }),
  spin() {
    process.stdout.write('spinning');
    for (;;);
  },
  leave: () => process.exit(3),
});
`;

const python = `
import sys, os, array
import rollcall_app
from rollcall_app import NumberArray
from lib.twice import twice

@rollcall_app.query
def query(message, context):
    return {
        **message.content, "message": message.message, "type": message.type, "group": message.group,
        "attempt": message.attempt, "createdAt": message.created_at, "nodeId": context.node_id, "runId": context.run_id,
        "part": twice(context.node_config["part"]), "large": str(context.node_config.get("large", "")),
        "rounds": context.run_config["rounds"],
    }

@rollcall_app.handler("nothing")
def nothing(message, context):
    pass

@rollcall_app.train
def train(message, context):
    weights = message.content["weights"]
    for index, each in enumerate(weights.data):
        weights.data[index] = each * 2
    context.state["calls"] = context.state.get("calls", 0) + 1
    context.state["last"] = weights
    return {"weights": weights, "calls": context.state["calls"]}

@rollcall_app.handler("count")
def count(message, context):
    counts = context.state.setdefault("counts", NumberArray(array.array("i", [0])))
    counts.data[0] += 1
    if message.content.get("fails"):
        raise TypeError("no more")
    return {"count": counts.data[0]}

@rollcall_app.handler("unfit")
def unfit(message, context):
    return {"list": [1, 2]}

@rollcall_app.handler("number")
def number(message, context):
    return 5

@rollcall_app.handler("state")
def state(message, context):
    context.state["list"] = [1, 2]
    return {}

@rollcall_app.handler("vast")
def vast(message, context):
    context.state["all"] = bytes(17 * 1024 * 1024)

@rollcall_app.handler("binary")
def binary(message, context):
    sys.stdout.buffer.write(bytes([0, 255, 27, 10]))
    print("printed")

@rollcall_app.handler("wait")
def wait(message, context):
    import time
    for i in range(50):
        context.progress(i / 50, f"step {i}")
    context.log.info("waiting")
    context.log.warn("x" * 10_000)
    while not context.cancelled():
        time.sleep(0.005)
    return {"cancelled": context.cancelled()}

@rollcall_app.handler("spin")
def spin(message, context):
    sys.stdout.write("spinning")
    sys.stdout.flush()
    while True:
        pass

@rollcall_app.handler("leave")
def leave(message, context):
    sys.exit(3)
`;

const apps: Readonly<Record<Language, Readonly<Record<string, string>>>> = {
  javascript: { 'node.js': javascript, 'lib/twice.js': 'export const twice = value => value * 2;\n' },
  python: { 'node.py': python, 'lib/twice.py': 'def twice(value):\n    return value * 2\n' },
};
const entries: Readonly<Record<Language, string>> = { javascript: 'node.js', python: 'node.py' };
const hasPython = spawnSync('python3', ['--version']).status === 0;

const head = (number: number, type: string): object => ({
  number,
  type,
  group: 'g',
  attempt: 1,
  createdAt: 5,
});

/** The answer, of any type. */
function answer(driver: RunnerDriver): Promise<Frame> {
  return driver.next('reply', 'error');
}

function errorOf({ name, value }: Frame): string {
  return name === 'error' ? `${String(value['code'])}: ${String(value['message'])}` : name;
}

for (const language of ['javascript', 'python'] as const) {
  const skip = language === 'python' && !hasPython && 'there is no python3 here';
  const start = (test: Test, options: Partial<DriverOptions> = {}): Promise<RunnerDriver> =>
    startRunner(test, { half: 'node', language, files: apps[language], ...options });
  const ask = (driver: RunnerDriver, number: number, type: string, content: Content = {}): Promise<Frame> => {
    driver.sendContent('message', head(number, type), content);
    return answer(driver);
  };

  void t.test(
    `${language}: a handler receives its message with every field of its context`,
    { skip },
    async test => {
      const welcome = { node: { id: '12', config: { part: 3, large: { integer: '9007199254740993' } } } };
      const driver = await start(test, { welcome });
      await driver.next('ready');
      const reply = await ask(driver, 4, 'query', { greeting: 'grüße 🐎', raw: Uint8Array.of(1, 2) });
      test.same(driver.contentOf(reply), {
        ...{
          greeting: 'grüße 🐎',
          raw: Uint8Array.of(1, 2),
          message: 4,
          type: 'query',
          group: 'g',
          attempt: 1,
        },
        ...{ createdAt: 5, nodeId: '12', runId: '99', part: 6, large: '9007199254740993', rounds: 2 },
      });
      test.same(reply.value, { number: 4 }, 'no state, no object');
      test.same(driver.contentOf(await ask(driver, 5, 'nothing')), {}, 'nothing is an empty record');
      test.match(errorOf(await ask(driver, 6, 'valuate')), /^NO_HANDLER: .*"valuate"/);
      for (const type of ['toString', '__proto__', 'constructor', ''])
        test.match(errorOf(await ask(driver, 7, type)), /^NO_HANDLER/, type);
      const [folder = ''] = await readdir(driver.folder);
      test.equal(
        (await stat(join(driver.folder, folder))).mode & 0o777,
        0o700,
        'nobody else can look at the app',
      );
      driver.drop();
      test.equal((await driver.exited).code, 0, 'it ends with its connection');
      test.same(await readdir(driver.folder), [], 'and leaves nothing');
    },
  );

  void t.test(
    `${language}: state persists between messages, and a failed message rolls its changes back`,
    { skip },
    async test => {
      const state = Buffer.concat(
        encodeContent({ counts: new NumberArray(Int32Array.of(40)), other: 'kept' }),
      );
      const driver = await start(test, { state });
      await driver.next('ready');
      const first = await ask(driver, 1, 'count');
      test.same(driver.contentOf(first), { count: 41 });
      const kept = (await driver.next('state')).body;
      test.equal(first.value['stateBytes'], kept.length);
      test.same(decodeContent(kept), { counts: new NumberArray(Int32Array.of(41)), other: 'kept' });
      test.match(
        errorOf(await ask(driver, 2, 'count', { fails: true })),
        language === 'python'
          ? /^HANDLER_THREW: TypeError: no more \(node.py:\d+\)$/
          : /^HANDLER_THREW: TypeError: no more \(node.js:\d+:\d+\)$/,
      );
      test.notOk(driver.has('state'));
      test.same(
        driver.contentOf(await ask(driver, 3, 'count')),
        { count: 42 },
        'what the second one did is undone',
      );
      await driver.next('state');
      test.same(
        (await ask(driver, 4, 'nothing')).value,
        { number: 4 },
        'a state that did not change is not sent',
      );
      test.match(
        errorOf(await ask(driver, 5, 'state')),
        /^APP_INVALID: what is left in context.state: .*array/,
      );
      test.match(errorOf(await ask(driver, 6, 'vast')), /^APP_INVALID: context.state holds more than/);
      test.same(driver.contentOf(await ask(driver, 7, 'count')), { count: 43 });
    },
  );

  void t.test(`${language}: large contents travel in chunks, in both directions`, { skip }, async test => {
    const driver = await start(test);
    await driver.next('ready');
    const weights = new NumberArray(
      Float32Array.from({ length: 1_310_720 }, (_, n) => n),
      [1024, 1280],
    );
    const reply = await ask(driver, 1, 'train', { weights, small: 1 });
    test.equal(errorOf(reply), 'reply');
    const object = reply.value['object'] as { digest: string; sizeBytes: number };
    test.ok(object.sizeBytes > 5 * 1024 * 1024);
    const content = driver.contentOf(reply) as { weights: NumberArray; calls: number };
    test.same(content.weights.shape, [1024, 1280]);
    test.ok(content.weights.data.every((each, n) => each === 2 * n));
    let stateBytes = 0;
    while (stateBytes < Number(reply.value['stateBytes']))
      stateBytes += (await driver.next('state')).body.length;
    test.equal(stateBytes, reply.value['stateBytes'], 'the state travels in pieces');

    driver.sendContent('message', head(2, 'train'), {
      weights: new NumberArray(Float32Array.from({ length: 20_000 }, () => 1)),
    });
    test.equal((await answer(driver)).name, 'reply');
    driver.refuseNext('the disk is full');
    const refused = await ask(driver, 3, 'train', { weights });
    test.match(errorOf(refused), /^APP_INVALID: the content was refused: the disk is full/);
  });

  void t.test(`${language}: a lost object and an altered object are refused`, { skip }, async test => {
    const driver = await start(test);
    await driver.next('ready');
    driver.send('message', { ...head(1, 'query'), object: { digest: 'ab'.repeat(32), sizeBytes: 100_000 } });
    test.match(errorOf(await answer(driver)), /^OBJECT_LOST/);
    const content = { raw: new Uint8Array(2_500_000).fill(7) };
    driver.sendContent('message', head(2, 'nothing'), content);
    test.equal((await answer(driver)).name, 'reply');
    const [stored] = driver.objects.values();
    stored?.chunks.set(1, Buffer.alloc(1024 * 1024));
    const { digest = '', sizeBytes } = stored?.manifest ?? {};
    driver.send('message', { ...head(3, 'nothing'), object: { digest, sizeBytes } });
    test.match(errorOf(await answer(driver)), /^OBJECT_LOST/, 'a chunk is another');
    driver.send('message', { ...head(4, 'nothing'), object: { digest, sizeBytes: 9 } });
    test.match(errorOf(await answer(driver)), /^OBJECT_LOST/, 'the size is another');
    driver.send('message', head(5, 'nothing'), Buffer.from('garbage'));
    test.match(errorOf(await answer(driver)), /^APP_INVALID: this is no content/);
  });

  void t.test(`${language}: content of an unsupported type is refused by name`, { skip }, async test => {
    const driver = await start(test);
    await driver.next('ready');
    test.match(errorOf(await ask(driver, 1, 'unfit')), /^APP_INVALID: this content cannot be sent: .*array/);
    test.match(
      errorOf(await ask(driver, 2, 'number')),
      /^APP_INVALID: this content cannot be sent: it is no/,
    );
    test.equal((await ask(driver, 3, 'binary')).name, 'reply');
    driver.drop();
    await driver.exited;
    test.equal(driver.output().stdout, '\0\xff\x1b\nprinted\n', 'what it prints goes where it is printed to');
  });

  void t.test(
    `${language}: progress and log lines are sent at once, and a cancel reaches its handler`,
    { skip },
    async test => {
      const driver = await start(test);
      await driver.next('ready');
      driver.send('message', head(8, 'wait'), Buffer.concat(encodeContent({})));
      test.same((await driver.next('progress')).value, { number: 8, fraction: 0, note: 'step 0' });
      const line = (await driver.next('log')).value;
      test.same({ ...line, at: 0 }, { at: 0, level: 'info', text: 'waiting' });
      test.ok(Math.abs(Date.now() - Number(line['at'])) < 600_000);
      const long = String((await driver.next('log')).value['text']);
      test.equal(long.length, 4_096, 'a line has an end');
      test.ok(long.endsWith('x…'));
      driver.send('cancel', { number: 7 });
      driver.send('cancel', { number: 8 });
      test.same(driver.contentOf(await answer(driver)), { cancelled: true });
    },
  );

  void t.test(
    `${language}: a handler that never returns does not outlive its parent process`,
    { skip },
    async test => {
      const driver = await start(test);
      await driver.next('ready');
      driver.send('message', head(1, 'spin'), Buffer.concat(encodeContent({})));
      while (!driver.output().stdout.includes('spinning'))
        await new Promise(resolve => setTimeout(resolve, 10));
      driver.endInput();
      const { code, signal } = await driver.exited;
      test.ok(code === 0 || signal === 'SIGKILL', `${code} ${signal}`);
    },
  );

  void t.test(`${language}: a node half exits when its standard input ends`, { skip }, async test => {
    const driver = await start(test);
    await driver.next('ready');
    driver.endInput();
    test.same(await driver.exited, { code: 0, signal: null });
    test.same(await readdir(driver.folder), []);
  });

  void t.test(`${language}: an app that exits by itself leaves no files behind`, { skip }, async test => {
    const driver = await start(test);
    await driver.next('ready');
    driver.send('message', head(1, 'leave'), Buffer.concat(encodeContent({})));
    test.same(await driver.exited, { code: 3, signal: null });
    test.same(await readdir(driver.folder), []);
  });

  void t.test(
    `${language}: an app that fails to load is reported with its file, line and reason`,
    { skip },
    async test => {
      const entry = entries[language];
      const isPython = language === 'python';
      const failure = async (
        files: Readonly<Record<string, string>>,
        welcome: object = {},
      ): Promise<string> => {
        const driver = await startRunner(test, { half: 'node', language, files, welcome });
        const { value } = await driver.next('failed');
        driver.drop();
        test.equal((await driver.exited).code, 1);
        test.same(await readdir(driver.folder), [], 'nothing is left');
        return String(value['message']);
      };
      const syntax = isPython ? 'import rollcall_app\n\ndef broken(:\n' : 'const a = 1;\n\nconst = 3;\n';
      test.match(
        await failure({ [entry]: syntax }),
        isPython
          ? /^node.py cannot be loaded: SyntaxError: .* \(node.py:3\)$/
          : /^node.js cannot be loaded: SyntaxError: .* \(node.js:3\)$/,
      );
      const other = isPython
        ? { [entry]: 'import lib.bad\n', 'lib/bad.py': '\nx = = 1\n' }
        : { [entry]: "import './lib/bad.js';\n", 'lib/bad.js': '\nlet let = 1;\n' };
      test.match(await failure(other), /SyntaxError: .* \(lib\/bad\.(py|js):2\)$/);
      const missing = isPython ? 'import nowhere_at_all\n' : "import './gone.js';\n";
      test.match(
        await failure({ [entry]: missing }),
        isPython
          ? /No module named 'nowhere_at_all' \(node.py:1\)$/
          : /Cannot find module 'gone.js' imported from node.js$/,
      );
      const throws = isPython ? '\nraise ValueError("no data")\n' : "\nthrow new RangeError('no data');\n";
      test.match(
        await failure({ [entry]: throws }),
        isPython ? /ValueError: no data \(node.py:2\)$/ : /RangeError: no data \(node.js:2:7\)$/,
      );
      test.match(
        await failure({ [entry]: '' }),
        isPython ? /node.py has no handler/ : /node.js has no node half for its default export/,
      );
      if (!isPython)
        test.match(
          await failure({
            [entry]: "import { serverApp } from 'rollcall/app';\nexport default serverApp(() => 1);\n",
          }),
          /no node half/,
        );
      const app = { name: 'tested', version: '1.0.0', entry: `gone/${entry}` };
      test.match(await failure(apps[language], { app }), /gone\/node\.(js|py) is not in the app/);
    },
  );

  void t.test(`${language}: a runner that is refused prints the reason and exits`, { skip }, async test => {
    const driver = await start(test, { welcome: { protocol: 2 } });
    test.equal((await driver.exited).code, 1);
    test.match(driver.output().stderr, /^error: .+\n$/);
    test.same(await readdir(driver.folder), []);
  });

  void t.test(`${language}: a second message during another is refused`, { skip }, async test => {
    const driver = await start(test);
    await driver.next('ready');
    driver.send('message', head(1, 'wait'), Buffer.concat(encodeContent({})));
    driver.send('message', head(2, 'wait'), Buffer.concat(encodeContent({})));
    test.match((await driver.next('bye')).value['message'], /a message came while another was handled/);
    await driver.exited;
  });
}

const listFiles: Readonly<Record<Language, string>> = {
  javascript: `
import { readdirSync, readlinkSync } from 'node:fs';
import { nodeApp } from 'rollcall/app';
const nameOf = number => { try { return readlinkSync('/proc/self/fd/' + number); } catch { return ''; } };
export default nodeApp({ query: () => ({ names: readdirSync('/proc/self/fd').map(nameOf).join(' ') }) });
`,
  python: `
import os, rollcall_app
def name_of(number):
    try:
        return os.readlink("/proc/self/fd/" + number)
    except OSError:
        return ""
@rollcall_app.query
def query(message, context):
    return {"names": " ".join(map(name_of, os.listdir("/proc/self/fd")))}
`,
};

for (const language of ['javascript', 'python'] as const) {
  const reason = language === 'python' && !hasPython ? 'there is no python3 here' : 'there is no /proc here';
  const skip = (!existsSync('/proc/self/fd') || (language === 'python' && !hasPython)) && reason;
  void t.test(
    `${language}: an app does not inherit the open files of its parent process`,
    { skip },
    async test => {
      const secret = join(await makeFolder(test), 'secret');
      await writeFile(secret, 'key');
      const opened = await open(secret);
      const files = { [entries[language]]: listFiles[language] };
      const driver = await startRunner(test, { half: 'node', language, files, inherited: [opened.fd] });
      await opened.close();
      await driver.next('ready');
      driver.send('message', head(1, 'query'), Buffer.concat(encodeContent({})));
      const { names } = driver.contentOf(await answer(driver)) as { names: string };
      test.match(names, /socket:/);
      test.notMatch(names, /secret/);
    },
  );
}

void t.test('python: memory is limited', { skip: !hasPython && 'there is no python3 here' }, async test => {
  const files = {
    'node.py': `
import rollcall_app
@rollcall_app.handler("eat")
def eat(message, context):
    bytearray(2 * 1024 ** 3)
@rollcall_app.query
def query(message, context):
    return {"alive": True}
`,
  };
  const environment = { ROLLCALL_APP_MEMORY_BYTES: String(512 * 1024 * 1024) };
  const driver = await startRunner(test, { half: 'node', language: 'python', files, environment });
  await driver.next('ready');
  const empty = Buffer.concat(encodeContent({}));
  driver.send('message', head(1, 'eat'), empty);
  test.match(errorOf(await answer(driver)), /^HANDLER_THREW: MemoryError/);
  driver.send('message', head(2, 'query'), empty);
  test.same(driver.contentOf(await answer(driver)), { alive: true });
});

void t.test('an unhandled rejection ends a node half, with the error on standard error', async test => {
  const files = {
    'node.js': `
import { nodeApp } from 'rollcall/app';
export default nodeApp({ query: () => new Promise(() => void Promise.reject(new Error('nobody cared'))) });
`,
  };
  const driver = await startRunner(test, { half: 'node', files });
  await driver.next('ready');
  driver.send('message', head(1, 'query'), Buffer.concat(encodeContent({})));
  test.equal((await driver.exited).code, 1);
  test.match(driver.output().stderr, /nobody cared/);
  test.same(await readdir(driver.folder), []);
});
