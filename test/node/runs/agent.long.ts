// The whole agent with runs: trusted apps, runs in its session, and answers after it was killed.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { command } from '../../../scripts/running.js';
import { systemClock } from '../../../src/base/clock.js';
import { createLog } from '../../../src/base/log.js';
import { systemRandom } from '../../../src/base/random.js';
import { readSettings } from '../../../src/base/settings.js';
import { encodeContent, type Content } from '../../../src/app/content.js';
import { formatOpensshPublic } from '../../../src/identity/openssh.js';
import { generatePrivateKey, toPkcs8Pem } from '../../../src/identity/private-key.js';
import { Agent } from '../../../src/node/agent.js';
import { environmentPrefix, nodeSettings } from '../../../src/node/config.js';
import { nodeExitCodes, runNode } from '../../../src/node/main.js';
import type { LinkFrame, Reply } from '../../../src/protocol/generated/rollcall/v1/link.js';
import { makeFolder } from '../../harness/folder.js';
import { createWaiting } from '../../harness/waiting.js';
import { makeCertificates, startMiniLink, type MiniPeer, type MiniLink } from '../fixtures/mini-link.js';
import { assignOf, inline, makeApp, said, startBench, type TestApp } from './fixtures/run-bench.js';

const read = (flags: object) =>
  readSettings(nodeSettings, { flags: { ...flags }, environment: {}, environmentPrefix });

void t.test('a node without settings for runs trusts no app', t => {
  t.match(read({}), {
    'trust-app-signer': [],
    app: undefined,
    'trust-any-app': false,
    isolation: 'process',
    'max-runs': 8,
    'handler-timeout': 1_800_000,
    'app-memory': 1024 ** 3,
  });
  t.same(read({ 'trust-app-signer': 'a.pub,keys@home/b.pub@1.2.0-rc.1,c@d.pub' })['trust-app-signer'], [
    { file: 'a.pub' },
    { file: 'keys@home/b.pub', lowestVersion: '1.2.0-rc.1' },
    { file: 'c@d.pub' },
  ]);
  for (const wrong of [
    { 'trust-app-signer': 'a.pub@1.0' },
    { 'trust-app-signer': '' },
    { isolation: 'none' },
    { 'max-runs': '0' },
    { 'handler-timeout': '5' },
    { 'app-memory': '1MiB' },
  ])
    t.throws(() => read(wrong), { code: 'CONFIG_INVALID' }, JSON.stringify(wrong));
  t.end();
});

void t.test('an invalid app, key or socket is reported at the start', async t => {
  const folder = await makeFolder(t);
  const write = (name: string, text: string, mode = 0o600): string => {
    const path = join(folder, name);
    writeFileSync(path, text, { mode });
    return path;
  };
  const key = generatePrivateKey('P-384');
  const flags = {
    link: '127.0.0.1:1',
    'root-certificates': write('ca.crt', makeCertificates().ca.certificate),
    'auth-private-key': write('key', toPkcs8Pem(generatePrivateKey('P-256'))),
    'log-level': 'silent',
  };
  const inChild = { isolation: 'subprocess' };
  const cases: readonly (readonly [Record<string, unknown>, RegExp])[] = [
    [{ 'trust-any-app': true }, /--app-host-socket is needed to run apps/],
    [{ app: folder }, /--app-host-socket is needed/],
    [{ ...inChild, app: folder }, /this folder is no app/],
    [{ ...inChild, 'trust-app-signer': join(folder, 'none.pub') }, /cannot read the public key/],
    [{ ...inChild, 'trust-app-signer': flags['auth-private-key'] }, /expected an ECDSA public key/],
    [
      { ...inChild, 'trust-app-signer': write('p384.pub', formatOpensshPublic(key.publicKey, 'a')) },
      /expected an app key.*\nhint: /,
    ],
  ];
  for (const [changes, expected] of cases) {
    let printed = '';
    const stderr = { write: (text: string) => (printed += text) };
    t.equal(await runNode({ flags: { ...flags, ...changes }, environment: {}, stderr }), nodeExitCodes.local);
    t.match(printed, expected);
  }
});

interface RunLink {
  readonly link: MiniLink;
  readonly replies: readonly Reply[];
  /** The runs of each Ready, oldest first. */
  readonly known: readonly (readonly bigint[])[];
  readonly send: (frame: NonNullable<LinkFrame['frame']>) => void;
  readonly deliver: (message: number, content: Content) => void;
  readonly session: (count: number) => Promise<unknown>;
  readonly reply: (message: number, count?: number) => Promise<Reply>;
}

/** A link that welcomes every session, and sends the given frames on the newest. */
async function startRunLink(t: Test): Promise<RunLink> {
  const link = await startMiniLink(t);
  const waiting = createWaiting();
  const replies: Reply[] = [];
  const known: (readonly bigint[])[] = [];
  let current: MiniPeer | undefined;
  link.behaviour.frame = (peer, frame) => {
    if (frame.$case === 'ready') {
      known.push(frame.value.runs);
      current = peer;
    } else if (frame.$case === 'reply') replies.push(frame.value);
    waiting.look();
  };
  const send: RunLink['send'] = frame => current?.send(frame);
  return {
    link,
    replies,
    known,
    send,
    deliver: (message, content) =>
      send({
        $case: 'deliver',
        value: {
          run: 7n,
          message: BigInt(message),
          type: 'query',
          group: '',
          attempt: 1,
          ttlMs: 3_600_000n,
          createdAtMs: 1n,
          body: inline(Buffer.concat(encodeContent(content))),
        },
      }),
    session: count => waiting.until(() => known[count - 1]),
    reply: (message, count = 1) =>
      waiting.until(() => replies.filter(reply => reply.message === BigInt(message))[count - 1]),
  };
}

void t.test('runs travel in the session, and outlive it', async t => {
  const { link, known, send, deliver, session, reply } = await startRunLink(t);
  const app = await makeApp(t, 'export default nodeApp({ query: () => ({ fine: true }) });');
  const { runs } = await startBench(t, { apps: { folder: app.folder } });
  const log = createLog({ level: 'silent', name: 'node' });
  const agent = new Agent({
    config: { link: { host: '127.0.0.1', port: link.port }, serverRoots: [link.ca], tenant: 'default' },
    privateKey: generatePrivateKey('P-256'),
    runs,
    clock: systemClock,
    // Short pauses.
    random: size => (size === 4 ? Buffer.from([0, 1, 0, 0]) : systemRandom(size)),
    log,
  });
  const outcome = agent.start();
  t.teardown(() => agent.close());
  await session(1);
  send({ $case: 'assign', value: assignOf(7n, app) });
  deliver(1, {});
  t.same(said(await reply(1)), { fine: true });
  link.sockets.at(-1)?.destroy();
  await session(2);
  t.same(known, [[], [7n]]);
  await reply(1, 2);
  send({ $case: 'acknowledge', value: { run: 7n, message: 1n } });
  send({ $case: 'assign', value: assignOf(7n, app) });
  deliver(2, {});
  t.same(said(await reply(2)), { fine: true });
  await agent.close();
  t.same(await outcome, { reason: 'closed' });
});

/** Records each entry of a handler, and waits on request until it is killed. */
const writing = `
import { appendFileSync } from 'node:fs';
export default nodeApp({
  async query({ content, message, attempt }, { state, nodeConfig }) {
    appendFileSync(nodeConfig.entries, message + ' ' + attempt + '\\n');
    state.count = (state.count ?? 0) + 1;
    if (content.waits && attempt === 1) {
      await new Promise(() => setInterval(() => {}, 1000));
    }
    return { count: state.count, attempt };
  },
});
`;

async function prepareAgent(t: Test, { link }: RunLink, app: TestApp) {
  const folder = await makeFolder(t);
  const entries = join(folder, 'entries');
  const [ca, key] = [join(folder, 'ca.crt'), join(folder, 'key')];
  writeFileSync(entries, '');
  writeFileSync(ca, link.ca);
  writeFileSync(key, toPkcs8Pem(generatePrivateKey('P-256')), { mode: 0o600 });
  const flags = {
    link: `127.0.0.1:${link.port}`,
    'root-certificates': ca,
    'auth-private-key': key,
    'state-dir': join(folder, 'state'),
    'node-config': `entries=${JSON.stringify(entries)}`,
    app: app.folder,
    isolation: 'subprocess',
  };
  const parts = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]);
  return {
    entries: () => readFileSync(entries, 'utf8').trim().split('\n'),
    start(): ChildProcess {
      const child = spawn(process.execPath, [command, 'node', ...parts], { stdio: 'ignore' });
      t.teardown(() => child.kill('SIGKILL'));
      return child;
    },
  };
}

async function kill(child: ChildProcess): Promise<void> {
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

void t.test('a killed agent answers each message once after its restart, handled before or not', async t => {
  const around = await startRunLink(t);
  const { known, replies, send, deliver, session, reply } = around;
  const app = await makeApp(t, writing);
  const agent = await prepareAgent(t, around, app);
  const assign = (): void => send({ $case: 'assign', value: assignOf(7n, app) });

  // Killed after it has answered, before it knows that the answer has come.
  let child = agent.start();
  await session(1);
  assign();
  deliver(1, {});
  t.same(said(await reply(1)), { count: 1, attempt: 1 });
  await kill(child);

  child = agent.start();
  await session(2);
  t.same(known[1], [7n]);
  t.same(said(await reply(1, 2)), { count: 1, attempt: 1 }, 'from the journal');
  send({ $case: 'acknowledge', value: { run: 7n, message: 1n } });
  assign();

  // Killed while it handles.
  deliver(2, { waits: true });
  while (!agent.entries().includes('2 1')) await new Promise(setImmediate);
  await kill(child);

  child = agent.start();
  await session(3);
  assign();
  deliver(2, { waits: true });
  t.same(
    said(await reply(2)),
    { count: 2, attempt: 2 },
    'entered again, with the state of the message before',
  );

  // Killed before it handles, or nearly so.
  deliver(3, {});
  await kill(child);
  child = agent.start();
  await session(4);
  assign();
  deliver(3, {});
  t.match(said(await reply(3)), { count: 3 });
  t.equal(replies.filter(({ message }) => message === 1n).length, 2);
  t.same(
    agent.entries().filter(line => line.startsWith('1 ')),
    ['1 1'],
    'what was answered is not handled again',
  );
  t.same(
    agent.entries().filter(line => line.startsWith('2 ')),
    ['2 1', '2 2'],
  );
  await kill(child);
});
