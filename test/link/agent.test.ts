/** The real agent and the real link, in one process, on one clock that the test moves. */
import t, { type Test } from 'tap';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createLog } from '../../src/base/log.js';
import { systemRandom } from '../../src/base/random.js';
import { generatePrivateKey, type PrivateKey } from '../../src/identity/private-key.js';
import { Agent } from '../../src/node/agent.js';
import { createManualClock, type ManualClock } from '../harness/manual-clock.js';
import { startTestLink, statusName, type TestLink, type TestLinkOptions } from '../harness/test-link.js';

interface RunningAgent {
  readonly lines: Record<string, unknown>[];
  readonly ended: Promise<unknown>;
  close(): Promise<void>;
}

function startAgent(
  t: Test,
  test: TestLink,
  clock: ManualClock,
  privateKey: PrivateKey,
  stateDir = join(test.folder, 'state'),
): RunningAgent {
  const lines: Record<string, unknown>[] = [];
  const agent = new Agent({
    config: {
      link: { host: '127.0.0.1', port: test.link.addresses.node.port },
      serverRoots: [test.ca],
      tenant: 'default',
      stateDir,
    },
    privateKey,
    clock,
    random: systemRandom,
    log: createLog({
      level: 'debug',
      name: 'node',
      destination: { write: (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>) },
    }),
  });
  const ended = agent.start();
  t.teardown(() => agent.close());
  return { lines, ended, close: () => agent.close() };
}

/** Lets time pass in steps small enough for pings to be answered, until it holds. */
async function passTime(
  clock: ManualClock,
  holds: () => boolean | Promise<boolean>,
  stepMs = 1_000,
): Promise<void> {
  while (!(await holds())) {
    clock.advance(stepMs);
    await new Promise(resolve => setTimeout(resolve, 4));
  }
}

function lineOf(test: TestLink, message: RegExp): Record<string, unknown> | undefined {
  const lines = test.logged.map(line => JSON.parse(line) as Record<string, unknown>);
  return lines.find(({ msg }) => message.test(String(msg)));
}

const says = (agent: RunningAgent, message: string) => agent.lines.some(line => line['msg'] === message);

void t.test('an agent renews on the live link: another certificate, no change of status', async t => {
  const clock = createManualClock();
  const test = await startTestLink(t, { clock, settings: { 'certificate-lifetime': '10m' } });
  const key = generatePrivateKey('P-256');
  const { id } = await test.register(key);
  const agent = startAgent(t, test, clock, key);
  await passTime(clock, () => says(agent, 'online'), 0);
  const before = await test.control.getNode({ node: `${id}` });
  t.equal(statusName(before), 'online');
  const startedAt = clock.now();

  await passTime(clock, () => says(agent, 'renewed'));
  const tookMs = clock.now() - startedAt;
  t.ok(tookMs > 330_000 && tookMs <= 410_000, `renewed after ${Math.round(tookMs / 1000)} s of 600 s`);
  const after = await test.control.getNode({ node: `${id}` });
  t.equal(statusName(after), 'online');
  t.equal(after.sinceMs, before.sinceMs);
  t.ok(after.certificateExpiresAtMs > before.certificateExpiresAtMs);
  const { transitions } = await test.control.listNodeHistory({ node: `${id}`, pageSize: 0, pageToken: '' });
  t.same(
    transitions.map(each => each.reason),
    ['connected', 'registered'],
  );

  // Past the end of the first certificate.
  const pastEnd = clock.now() + 300_000;
  await passTime(clock, () => clock.now() > pastEnd);
  t.equal(
    statusName(await test.control.getNode({ node: `${id}` })),
    'online',
    'the old certificate was not missed',
  );
  await agent.close();
  await test.until(`${id}`, 'offline');
});

void t.test('an agent that was away beyond its certificate returns with its key', async t => {
  const clock = createManualClock();
  const test = await startTestLink(t, { clock });
  const key = generatePrivateKey('P-384');
  const { id } = await test.register(key);
  const first = startAgent(t, test, clock, key);
  await passTime(clock, () => says(first, 'online'), 0);
  await first.close();
  await test.until(`${id}`, 'offline');
  clock.advance(3 * 3_600_000);

  const again = startAgent(t, test, clock, key);
  await passTime(clock, () => says(again, 'online'), 0);
  t.ok(says(again, 'enrolled'), 'by enrolling anew');
  const node = await test.until(`${id}`, 'online');
  t.equal(node.id, id);
  await again.close();
});

void t.test('an agent that slept beyond its certificate reconnects to a link that kept running', async t => {
  const clock = createManualClock();
  const test = await startTestLink(t, { clock });
  const key = generatePrivateKey('P-256');
  const { id } = await test.register(key);
  const agent = startAgent(t, test, clock, key);
  await passTime(clock, () => says(agent, 'online'), 0);
  // Both sleep: one jump past everything.
  clock.advance(3 * 3_600_000);
  await test.until(`${id}`, 'offline');
  const onlineAgain = () => agent.lines.filter(line => line['msg'] === 'online').length > 1;
  await passTime(clock, onlineAgain);
  await test.until(`${id}`, 'online');
  t.pass('it came back by itself');
  await agent.close();
});

void t.test(
  'an agent whose key was revoked and then registered again comes back as the new node',
  async t => {
    const clock = createManualClock();
    const test = await startTestLink(t, { clock });
    const key = generatePrivateKey('P-256');
    const old = await test.register(key);
    const first = startAgent(t, test, clock, key);
    await passTime(clock, () => says(first, 'online'), 0);
    await test.control.revokeNode({ node: `${old.id}`, comment: '' });
    t.match(await first.ended, { reason: 'revoked' });
    const again = startAgent(t, test, clock, key);
    t.match(await again.ended, { reason: 'revoked' }, 'the key itself is revoked');

    const { id } = await test.register(key, { again: true });
    const back = startAgent(t, test, clock, key);
    await passTime(clock, () => says(back, 'online'), 0);
    t.equal((await test.until(`${id}`, 'online')).id, id);
    await back.close();
  },
);

void t.test(
  'an agent with --trust-domain returns to a link that has lost its data and is given the same domain',
  async t => {
    const clock = createManualClock();
    const first = await startTestLink(t, { clock });
    const { folder } = first;
    const key = generatePrivateKey('P-256');
    await first.register(key);
    const before = startAgent(t, first, clock, key);
    await passTime(clock, () => says(before, 'online'), 0);
    await before.close();
    await first.link.close();

    const [certificate, serverKey] = await Promise.all(
      ['server.pem', 'server.key'].map(name => readFile(join(folder, name), 'utf8')),
    );
    if (certificate === undefined || serverKey === undefined) throw new Error('no server files');
    const server = { certificate, key: serverKey, roots: first.ca };
    /** The same link but for its data; the agent keeps its state. */
    const anew = async (data: string, trustDomain?: string): Promise<TestLink> => {
      const settings: TestLinkOptions['settings'] = {
        'data-dir': join(folder, data),
        'trust-domain': trustDomain,
      };
      const test = await startTestLink(t, { clock, folder, server, settings });
      await test.register(key);
      return test;
    };

    const second = await anew('data of another name');
    const { trustDomain } = second.link;
    const refused = startAgent(t, second, clock, key);
    const unverified = () => refused.lines.find(line => line['code'] === 'LINK_UNVERIFIED');
    await passTime(clock, () => unverified() !== undefined, 0);
    t.match(unverified(), {
      level: 'warn',
      msg: `this is the link of trust domain ${trustDomain}; this node belongs to test.example`,
      hint:
        'if its data was lost, start that link on an empty --data-dir with --trust-domain test.example and ' +
        'register its keys again; to move this node there, give it an empty --state-dir',
    });
    t.notOk(says(refused, 'enrolled'));
    await refused.close();
    t.match(lineOf(second, /an agent says/), {
      level: 'warn',
      msg: `an agent says that it belongs to trust domain test.example; this link is of ${trustDomain}`,
      remoteAddress: '127.0.0.1',
      hint:
        'if this link replaces one whose data was lost, start it on an empty --data-dir with ' +
        '--trust-domain test.example and register its keys again',
    });
    const moved = startAgent(t, second, clock, key, join(folder, 'empty state'));
    await passTime(clock, () => says(moved, 'online'), 0);
    t.pass('an empty --state-dir moves the node');
    await moved.close();
    await second.link.close();

    const third = await anew('data of the old name', 'test.example');
    const back = startAgent(t, third, clock, key);
    await passTime(clock, () => says(back, 'online'), 0);
    t.ok(says(back, 'enrolled'), 'with the state it had');
    t.equal(lineOf(third, /an agent says/), undefined, 'this link is the one it belongs to');
    await back.close();
  },
);
