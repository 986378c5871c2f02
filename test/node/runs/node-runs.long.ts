// The runs of a node: real runners, a real journal, and a link that a test plays. What is answered once stays answered.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { writeFile } from 'node:fs/promises';
import t from 'tap';
import { createHosting } from '../../../src/app-host/hosting/create-hosting.js';
import { defaultRunnerPrograms } from '../../../src/app-host/hosting/runner-programs.js';
import { NumberArray, encodeContent } from '../../../src/app/content.js';
import { systemClock, type Clock } from '../../../src/base/clock.js';
import { formatOpensshPublic } from '../../../src/identity/openssh.js';
import { generatePrivateKey } from '../../../src/identity/private-key.js';
import { RollcallError } from '../../../src/base/errors.js';
import { manifestOf, readChunkOf, type Manifest } from '../../../src/objects/manifest.js';
import type { ObjectBucket } from '../../../src/objects/object-store.js';
import { runnerLimits } from '../../../src/node/runs/runner-state.js';
import { nodeRunLimits } from '../../../src/node/runs/node-runs.js';
import { turnLimits } from '../../../src/node/runs/runner-lease.js';
import { objectStoreIn } from '../../harness/objects.js';
import { makeFolder } from '../../harness/folder.js';
import { startNodePort } from '../../harness/node-port.js';
import { numbered } from '../../harness/numbered-bytes.js';
import { assignOf, attach, inline, makeApp, said, startBench } from './fixtures/run-bench.js';

/** Counts in its state, and acts as its message says. */
const counting = `
export default nodeApp({
  async query({ content, attempt, group, message }, context) {
    const { state, nodeConfig, runConfig, log } = context;
    state.count = (state.count ?? 0) + 1;
    if (content.log) log.info(content.log);
    if (content.throws) throw new Error(content.throws);
    if (content.exits) process.exit(content.exits);
    if (content.progress) context.progress(0.5, 'half');
    if (content.waits) {
      log.info('entered ' + message + ' attempt ' + attempt);
      await new Promise(resolve => context.signal.addEventListener('abort', resolve));
      log.info('aborted ' + message);
      if (content.waits === 'deaf') await new Promise(() => setInterval(() => {}, 1000));
    }
    const { place, big } = nodeConfig;
    return { count: state.count, attempt, group, place, big: String(big), rounds: runConfig.rounds ?? 0, nodeId: context.nodeId };
  },
});
`;

/** Time as ever, but what would be waited for longer than a second is over at once. */
function hastyClock(...waits: readonly number[]): Clock {
  return {
    ...systemClock,
    after: (delayMs, call) => systemClock.after(waits.includes(delayMs) ? 20 : delayMs, call),
  };
}

void t.test('a node handles a message, and keeps the answer until the link acknowledges it', async t => {
  const app = await makeApp(t, counting);
  const { runs, folder, lines, started } = await startBench(t, { apps: { folder: app.folder } });
  const link = attach(runs);
  link.assign(assignOf(7n, app, { config: { rounds: 3 } }));
  link.deliver(7n, 1, { group: 'round 1', content: { log: 'hello', progress: true } });
  link.deliver(7n, 1);
  link.deliver(7n, 2);
  t.same(said(await link.reply(7n, 1)), {
    count: 1,
    attempt: 1,
    group: 'round 1',
    place: 'here',
    big: '1152921504606846976',
    rounds: 3,
    nodeId: '42',
  });
  t.match(said(await link.reply(7n, 2)), { count: 2, attempt: 1 });
  t.equal(started(), 1, 'one runner for both');
  const order = link.frames.map(frame => frame.$case);
  t.ok(order.indexOf('log') < order.indexOf('reply'), 'lines of a handler come before its answer');
  t.match(link.frames.find(({ $case }) => $case === 'progress')?.value, {
    run: 7n,
    message: 1n,
    fraction: 0.5,
    note: 'half',
  });
  t.equal((await link.line(7n, 'hello')).level, 'info');
  t.same(runs.knownRuns(), [7n]);

  // It comes again, and is answered again without its handler.
  link.deliver(7n, 1);
  t.match(said(await link.reply(7n, 1, 2)), { count: 1 });
  link.acknowledge(7n, 1);
  link.deliver(7n, 1);
  link.deliver(7n, 3);
  t.match(said(await link.reply(7n, 3)), { count: 3 }, 'what was acknowledged is not handled again');
  t.equal(link.replies(7n, 1).length, 2);

  link.cancel(7n);
  await runs.close();
  t.same(readdirSync(folder), ['runs', 'runs-entered'], 'no objects are left');
  t.same(
    lines.filter(({ level }) => level === 'warn' || level === 'error'),
    [],
  );
});

void t.test(
  'answers without an acknowledgement are sent again on the next session, and by the next process',
  async t => {
    const app = await makeApp(t, counting);
    const apps = { folder: app.folder };
    const first = await startBench(t, { apps });
    const lost = attach(first.runs);
    lost.assign(assignOf(7n, app));
    lost.deliver(7n, 1);
    lost.deliver(7n, 2, { content: { log: 'two' } });
    await lost.reply(7n, 2);
    const sequence = (await lost.line(7n, 'two')).sequence;
    lost.acknowledge(7n, 1);
    lost.detach();

    const again = attach(first.runs);
    t.match(said(await again.reply(7n, 2)), { count: 2 });
    t.equal(again.replies(7n, 1).length, 0);
    t.equal((await again.line(7n, 'two')).sequence, sequence, 'the lines too, by the same numbers');
    again.logTaken(7n, sequence);
    again.assign(assignOf(7n, app));
    again.deliver(7n, 2, { attempt: 2 });
    again.deliver(7n, 3, { content: { waits: 'ever' } });
    await again.line(7n, 'entered 3 attempt 1');
    t.equal(again.replies(7n, 2).length, 1, 'not once more because it was delivered once more');
    await first.runs.close();
    t.equal(again.replies(7n, 3).length, 0, 'an agent that ends is not the fault of the app');

    const second = await startBench(t, { apps, folder: first.folder });
    t.same(second.runs.knownRuns(), [7n]);
    const next = attach(second.runs);
    t.match(said(await next.reply(7n, 2)), { count: 2 });
    next.acknowledge(7n, 2);
    next.assign(assignOf(7n, app));
    next.deliver(7n, 3, { content: { log: 'three' } });
    t.match(
      said(await next.reply(7n, 3)),
      { count: 3, attempt: 2 },
      'the state goes on, and the handler is told',
    );
    t.ok((await next.line(7n, 'three')).sequence > sequence, 'numbers of lines go on');
    next.cancel(7n);
    await second.runs.close();
    const third = await startBench(t, { apps, folder: first.folder });
    t.same(third.runs.knownRuns(), [], 'nothing is kept of a run that is over');
  },
);

void t.test('a node without settings for runs opens no journal, folder or socket', async t => {
  const app = await makeApp(t, counting);
  const { runs, folder, lines, started } = await startBench(t);
  const link = attach(runs);
  link.assign(assignOf(7n, app));
  link.deliver(7n, 1);
  link.deliver(7n, 2);
  t.match(said(await link.reply(7n, 1)), /^REFUSED_BY_NODE: this node runs no apps/);
  t.match(said(await link.reply(7n, 2)), /^REFUSED_BY_NODE/);
  link.deliver(7n, 1);
  await link.reply(7n, 1, 2);
  t.equal(started(), 0);
  t.same(readdirSync(folder), []);
  t.equal(lines.filter(({ level }) => level === 'warn').length, 1, 'told once for the run');
});

void t.test('an app in the folder of the node runs only with the same files', async t => {
  const app = await makeApp(t, counting);
  const { runs } = await startBench(t, { apps: { folder: app.folder } });
  await writeFile(join(app.folder, 'lib/node.js'), 'changed since it was signed');
  const link = attach(runs);
  link.assign(assignOf(7n, app));
  link.deliver(7n, 1);
  t.match(said(await link.reply(7n, 1)), /^REFUSED_BY_NODE: this node runs only the app of its own folder/);
});

/** Objects of the link's end, by run. */
async function openLinkObjects(test: Parameters<typeof makeFolder>[0]) {
  const store = objectStoreIn(await makeFolder(test));
  const port = await startNodePort(test, {
    async read(_, run, digest) {
      const bucket = store.bucket(run.toString(), 'link');
      const manifest = await bucket.find(digest);
      if (!manifest) throw new RollcallError('NOT_FOUND', 'there is no such object');
      return { manifest, bucket };
    },
    write: (_, run) => Promise.resolve(store.bucket(run.toString(), 'node')),
  });
  const { enrollment } = await port.online();
  return { store, objects: port.objects(enrollment) };
}

async function put(bucket: ObjectBucket, bytes: Buffer): Promise<Manifest> {
  const manifest = manifestOf([bytes]);
  for (const index of await bucket.begin(manifest))
    await bucket.writeChunk(manifest, index, readChunkOf([bytes], index));
  await bucket.finish(manifest);
  return manifest;
}

const referenceOf = ({ digest, sizeBytes }: Manifest) => ({
  digest: Buffer.from(digest, 'hex'),
  sizeBytes: BigInt(sizeBytes),
});

void t.test('a node fetches an app of a trusted signer, and contents too large for a frame', async t => {
  const author = generatePrivateKey('P-256');
  const key = join(await makeFolder(t), 'author.pub');
  await writeFile(key, formatOpensshPublic(author.publicKey, 'author'));
  const app = await makeApp(
    t,
    `export default nodeApp({
      train({ content }, { state }) {
        state.weights = content.weights;
        return { weights: content.weights, more: content.weights };
      },
      query: (_, { state }) => ({ length: state.weights.data.length }),
    });`,
  );
  const { store, objects } = await openLinkObjects(t);
  const bucket = store.bucket('7', 'link');
  const archive = referenceOf(await put(bucket, app.packed.archive));
  const weights = new NumberArray(new Uint8Array(numbered(3_000_000)));
  const given = Buffer.concat(encodeContent({ weights }));
  const object = referenceOf(await put(bucket, given));
  const body = { body: { $case: 'object', value: object } } as const;

  const { runs, folder } = await startBench(t, {
    apps: { signers: [{ file: key, lowestVersion: '1.0.0' }] },
  });
  const link = attach(runs, objects);
  link.assign(assignOf(7n, app, { signer: author, archive }));
  link.deliver(7n, 1, { type: 'train', body });
  const reply = await link.reply(7n, 1);
  const answered = said(reply) as { $case: string; value: { digest: Buffer; sizeBytes: bigint } };
  t.equal(answered.$case, 'object');
  const stored = await store.bucket('7', 'node').find(answered.value.digest.toString('hex'));
  t.equal(
    BigInt(stored?.sizeBytes ?? 0),
    answered.value.sizeBytes,
    'it is on the disk of the link before it is told',
  );
  link.deliver(7n, 2, { type: 'query' });
  t.same(said(await link.reply(7n, 2)), { length: 3_000_000 }, 'and the state took it');
  link.acknowledge(7n, 1);
  link.deliver(7n, 3, { type: 'query' });
  await link.reply(7n, 3);
  const namesOf = (party: string) => readdirSync(join(folder, 'objects/7', party), { recursive: true });
  while (namesOf('in').length + namesOf('out').length > 2) await new Promise(setImmediate);
  t.pass('neither is kept once it is settled');

  link.deliver(7n, 4, {
    type: 'train',
    body: { body: { $case: 'object', value: { digest: Buffer.alloc(32, 1), sizeBytes: 70_000n } } },
  });
  t.match(said(await link.reply(7n, 4)), /^OBJECT_LOST/);
  link.deliver(7n, 5, {
    type: 'train',
    body: { body: { $case: 'object', value: { digest: Buffer.from('../..'), sizeBytes: 70_000n } } },
  });
  t.match(said(await link.reply(7n, 5)), /^OBJECT_LOST/);

  const stranger = generatePrivateKey('P-256');
  link.assign(assignOf(8n, app, { signer: stranger, archive }));
  link.deliver(8n, 1);
  t.match(said(await link.reply(8n, 1)), /^REFUSED_BY_NODE: this node does not trust its signer/);

  const other = await makeApp(t, 'export default nodeApp({});');
  link.assign({
    ...assignOf(9n, app, { signer: author }),
    archive: referenceOf(await put(store.bucket('9', 'link'), other.packed.archive)),
  });
  link.deliver(9n, 1);
  t.match(said(await link.reply(9n, 1)), /^REFUSED_BY_NODE: its files are not those that were signed/);
  link.assign({
    ...assignOf(10n, app, { signer: author }),
    archive: referenceOf(await put(store.bucket('10', 'link'), Buffer.from('no archive'))),
  });
  link.deliver(10n, 1);
  t.match(said(await link.reply(10n, 1)), /^REFUSED_BY_NODE/);
  link.assign(assignOf(11n, app, { signer: author, archive }));
  link.deliver(11n, 1);
  t.match(said(await link.reply(11n, 1)), /^OBJECT_LOST/, 'the link does not have what it spoke of');
});

void t.test('a handler that throws gives an error, and its change of the state is undone', async t => {
  const app = await makeApp(t, counting);
  const { runs, started } = await startBench(t, { apps: { folder: app.folder } });
  const link = attach(runs);
  link.assign(assignOf(7n, app));
  link.deliver(7n, 1);
  link.deliver(7n, 2, { content: { throws: 'too bad' } });
  link.deliver(7n, 3, { type: 'unheard-of' });
  link.deliver(7n, 4, { content: { exits: 3 } });
  link.deliver(7n, 5);
  link.deliver(7n, 6, { body: inline(Buffer.from('no content')) });
  t.match(said(await link.reply(7n, 2)), /^HANDLER_THREW: .*too bad/);
  t.match(said(await link.reply(7n, 3)), /^NO_HANDLER/);
  t.equal(said(await link.reply(7n, 4)), 'APP_CRASHED: the process of the node half ended with code 3');
  t.match(said(await link.reply(7n, 5)), { count: 2 });
  t.match(said(await link.reply(7n, 6)), /^APP_INVALID/);
  t.equal(started(), 2);
});

void t.test('an app that does not load is started once', async t => {
  const app = await makeApp(t, 'export default nodeApp({ query() { return }; ;;; })(');
  const { runs, started } = await startBench(t, { apps: { folder: app.folder } });
  const link = attach(runs);
  link.assign(assignOf(7n, app));
  link.deliver(7n, 1);
  link.deliver(7n, 2);
  t.match(said(await link.reply(7n, 1)), /^APP_INVALID: .*lib\/node\.js/s);
  t.match(said(await link.reply(7n, 2)), /^APP_INVALID/);
  t.equal(started(), 1);
});

void t.test('a handler that exceeds its time is killed, and the next message gets a new runner', async t => {
  const app = await makeApp(
    t,
    'export default nodeApp({ train() { for (;;); }, query: () => ({ fine: true }) });',
  );
  const { runs, started } = await startBench(t, { apps: { folder: app.folder }, handlerTimeoutMs: 300 });
  const link = attach(runs);
  link.assign(assignOf(7n, app));
  link.deliver(7n, 1, { type: 'train' });
  link.deliver(7n, 2);
  t.match(said(await link.reply(7n, 1)), /^HANDLER_TIMEOUT/);
  t.same(said(await link.reply(7n, 2)), { fine: true });
  t.equal(started(), 2);
});

void t.test('a cancelled message is not answered', async t => {
  const app = await makeApp(t, counting);
  const { runs, started } = await startBench(t, {
    apps: { folder: app.folder },
    clock: hastyClock(runnerLimits.cancelledMs),
  });
  const link = attach(runs);
  link.assign(assignOf(7n, app));
  link.deliver(7n, 1, { content: { waits: 'politely' } });
  link.deliver(7n, 2);
  link.deliver(7n, 3);
  await link.line(7n, 'entered 1 attempt 1');
  link.cancel(7n, 2);
  link.cancel(7n, 1);
  await link.line(7n, 'aborted 1');
  t.match(said(await link.reply(7n, 3)), { count: 2 }, 'the state that it left goes on');
  link.deliver(7n, 4, { content: { waits: 'deaf' } });
  link.deliver(7n, 5);
  await link.line(7n, 'entered 4 attempt 1');
  link.cancel(7n, 4);
  t.match(said(await link.reply(7n, 5)), { count: 3 }, 'one that does not listen is ended');
  t.equal(started(), 2);
  for (const message of [1, 2, 4]) t.equal(link.replies(7n, message).length, 0);
  link.cancel(7n, 5);
  link.deliver(7n, 6, { ttlMs: 1n, content: { waits: 'politely' } });
  link.detach();
  t.same(attach(runs).replies(7n, 5), [], 'nor is what was answered and not taken');
});

void t.test('a run that has ended leaves no files, records or processes on its node', async t => {
  const app = await makeApp(t, counting);
  const bench = await startBench(t, { apps: { folder: app.folder } });
  const link = attach(bench.runs);
  link.assign(assignOf(7n, app));
  link.deliver(7n, 1, { content: { log: `pid` } });
  await link.reply(7n, 1);
  link.deliver(7n, 2, { content: { waits: 'deaf', log: 'last words' } });
  await link.line(7n, 'entered 2 attempt 1');
  link.cancel(7n);
  link.deliver(7n, 3);
  t.same(bench.runs.knownRuns(), []);
  await bench.runs.close();
  const next = await startBench(t, { apps: { folder: app.folder }, folder: bench.folder });
  t.same(next.runs.knownRuns(), []);
  t.equal(link.replies(7n, 2).length, 0);
});

void t.test('runs wait for a slot, and an idle run gives up its slot', async t => {
  const app = await makeApp(t, counting);
  const { runs, started } = await startBench(t, {
    apps: { folder: app.folder },
    maxRuns: 1,
    clock: hastyClock(turnLimits.idleMs),
  });
  const link = attach(runs);
  for (const run of [1n, 2n, 3n]) {
    link.assign(assignOf(run, app));
    link.deliver(run, 1);
    // The first has the place before the others ask for it.
    if (run === 1n) await link.reply(1n, 1);
  }
  for (const run of [1n, 2n, 3n]) t.match(said(await link.reply(run, 1)), { count: 1 });
  link.deliver(1n, 2);
  t.match(said(await link.reply(1n, 2)), { count: 2 }, 'its state was kept while others ran');
  t.equal(started(), 4);
});

void t.test('answers owed under another node id are forgotten', async t => {
  const app = await makeApp(t, counting);
  const bench = await startBench(t, { apps: { folder: app.folder } });
  const link = attach(bench.runs);
  link.assign(assignOf(7n, app));
  link.deliver(7n, 1);
  await link.reply(7n, 1);
  link.detach();
  await bench.runs.close();
  const next = await startBench(t, { apps: { folder: app.folder }, folder: bench.folder });
  t.same(next.runs.knownRuns(), [7n]);
  const other = attach(next.runs, undefined, 43n);
  await next.logged('what was owed as another node is forgotten');
  other.assign(assignOf(8n, app));
  other.deliver(8n, 1);
  t.match(said(await other.reply(8n, 1)), { nodeId: '43' });
  t.equal(other.replies(7n, 1).length, 0);
  const third = attach(next.runs, undefined, 44n);
  third.assign(assignOf(8n, app));
  third.deliver(8n, 2);
  t.match(said(await third.reply(8n, 2)), { nodeId: '44', count: 1 });
  t.equal(third.replies(8n, 1).length, 0);
});

void t.test('frames of a replaced session are ignored', async t => {
  const app = await makeApp(t, counting);
  const { runs } = await startBench(t, { apps: { folder: app.folder } });
  const old = attach(runs);
  const link = attach(runs);
  old.assign(assignOf(7n, app));
  old.deliver(7n, 1);
  old.detach();
  link.assign(assignOf(7n, app));
  link.deliver(7n, 2);
  t.match(said(await link.reply(7n, 2)), { count: 1 });
  t.equal(old.frames.length, 0);
  t.equal(link.replies(7n, 1).length, 0);
});

void t.test('a runner that violates the protocol is ended, and the agent continues', async t => {
  const app = await makeApp(t, counting);
  const rude = fileURLToPath(new URL('fixtures/rude-runner.js', import.meta.url));
  const { runs } = await startBench(t, {
    apps: { folder: app.folder },
    programs: { ...defaultRunnerPrograms(), node: rude },
  });
  const link = attach(runs);
  link.assign(assignOf(7n, app));
  const expected: Readonly<Record<string, RegExp | string>> = {
    'other number': /^APP_INVALID: .*a message that is not in work/,
    'too long inline': /^APP_INVALID: .*invalid content of its answer/,
    'unknown object': /^APP_INVALID/,
    'no object': /^APP_INVALID/,
    'odd digest': /^APP_INVALID/,
    'state too short': /^APP_INVALID: .*state is not as long/,
    'state too large': /^APP_INVALID: .*context\.state holds more/,
    'state without saying so': /^APP_INVALID/,
    'no frame': /^APP_CRASHED|^APP_INVALID/,
    closes: /^APP_CRASHED/,
    'failed when ready': /^APP_INVALID/,
    'odd code': /^HANDLER_THREW: $/,
  };
  let message = 0;
  for (const [way, answer] of Object.entries(expected)) {
    link.deliver(7n, ++message, { body: inline(Buffer.from(way)) });
    t.match(said(await link.reply(7n, message)), answer, way);
  }
  for (const way of ['never asked', 'odd but fine']) {
    link.deliver(7n, ++message, { body: inline(Buffer.from(way)) });
    t.match(await link.reply(7n, message), { outcome: { value: inline(Buffer.from('fine')) } }, way);
  }
  t.equal((await link.line(7n, 'odd line')).level, 'info');
  const progress = link.frames.flatMap(frame => (frame.$case === 'progress' ? [frame.value] : []));
  t.match(progress, [{ fraction: 1, note: '' }]);
  t.equal(progress.length, 1);
});

void t.test('a message waits for an app host, and a warning is logged', async t => {
  const app = await makeApp(t, counting);
  const socketPath = join(await makeFolder(t), 'apps.sock');
  const { runs, logged } = await startBench(t, {
    apps: { folder: app.folder },
    hostingAtStart: true,
    openHosting: async () => {
      const log = { trace() {}, debug() {}, info() {}, warn() {}, error() {}, child: () => log };
      return createHosting({
        isolation: 'process',
        socketPath,
        hostKey: '5a'.repeat(32),
        programs: defaultRunnerPrograms(),
        clock: systemClock,
        log,
      });
    },
  });
  t.ok(existsSync(socketPath), 'it listens from the start on');
  const link = attach(runs);
  link.assign(assignOf(7n, app));
  link.deliver(7n, 1);
  t.match(await logged('an app waits for an app host to connect'), { level: 'warn' });
  t.equal(link.frames.length, 0);
  const max = nodeRunLimits.messages;
  for (let message = 2; message <= max + 1; message++) link.deliver(7n, message);
  t.match(said(await link.reply(7n, max + 1)), /^QUEUE_FULL/);
  t.equal(link.frames.length, 1, 'the others wait');
  await runs.close();
});

void t.test('a damaged journal is set aside, and the node continues', async t => {
  const app = await makeApp(t, counting);
  const apps = { folder: app.folder };
  const first = await startBench(t, { apps });
  const link = attach(first.runs);
  link.assign(assignOf(7n, app));
  link.deliver(7n, 1);
  await link.reply(7n, 1);
  await first.runs.close();
  const runs = join(first.folder, 'runs');
  for (const name of readdirSync(runs).filter(each => each.startsWith('MANIFEST')))
    await writeFile(join(runs, name), 'what a bad disk makes of it');
  const second = await startBench(t, { apps, folder: first.folder });
  t.match(await second.logged('the journal of runs is damaged and was set aside'), { level: 'warn' });
  t.ok(existsSync(`${runs}.damaged`));
  const next = attach(second.runs);
  next.assign(assignOf(7n, app));
  next.deliver(7n, 1);
  t.match(
    said(await next.reply(7n, 1)),
    { count: 1 },
    'it is handled again, as by a node that knows nothing',
  );
});

void t.test('a node without a data folder keeps runs in memory and in a temporary folder', async t => {
  const app = await makeApp(t, counting);
  const { runs } = await startBench(t, { apps: { folder: app.folder }, folder: undefined });
  const link = attach(runs);
  link.assign(assignOf(7n, app));
  link.deliver(7n, 1);
  t.match(said(await link.reply(7n, 1)), { count: 1 });
  await runs.close();
});
