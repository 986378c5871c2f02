// The whole agent against a link over real TLS: how it comes online, stays so, comes back, and what ends it.
import { rmSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { X509Certificate } from 'node:crypto';
import t from 'tap';
import { systemClock, type Clock } from '../../src/base/clock.js';
import { RollcallError, type ErrorCode } from '../../src/base/errors.js';
import { createLog } from '../../src/base/log.js';
import { systemRandom, type Random } from '../../src/base/random.js';
import { generatePrivateKey } from '../../src/identity/private-key.js';
import { Agent, type AgentConfig } from '../../src/node/agent.js';
import { decodeState } from '../../src/node/state.js';
import {
  makeCertificates,
  nodeId,
  startMiniLink,
  type MiniLink,
  type MiniPeer,
} from './fixtures/mini-link.js';

interface Teardown {
  teardown(call: () => unknown): void;
}

interface Line {
  readonly level: string;
  readonly msg: string;
  readonly [field: string]: unknown;
}

const privateKey = generatePrivateKey('P-256');

/** Little chance, so that pauses are short; keys are as random as ever. */
const hardlyEver: Random = size => (size === 4 ? Buffer.from([0, 1, 0, 0]) : systemRandom(size));

/**
 * The time of the system, except that long pauses end at once; `pauses` holds their real lengths. Random pauses have
 * fractions of a millisecond, which distinguishes them from time limits.
 */
function hastyClock(skewMs = 0): Clock & { readonly pauses: number[] } {
  const pauses: number[] = [];
  return {
    ...systemClock,
    pauses,
    now: () => Date.now() + skewMs,
    after(delayMs, call) {
      const isLongPause = delayMs > 2_000 && delayMs < 100_000 && !Number.isInteger(delayMs);
      if (isLongPause) pauses.push(Math.floor(delayMs));
      const isRetry = delayMs === 1_000;
      return systemClock.after(isLongPause ? 5 : isRetry ? 100 : delayMs, call);
    },
  };
}

async function makeFolder(t: Teardown): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'rollcall-agent-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

function runAgent(
  t: Teardown,
  link: Pick<MiniLink, 'port' | 'ca'>,
  changes: Partial<AgentConfig> = {},
  clock = hastyClock(),
) {
  const lines: Line[] = [];
  let wake: () => void = () => undefined;
  const destination = {
    write(text: string) {
      lines.push(JSON.parse(text) as Line);
      wake();
    },
  };
  const config = {
    link: { host: '127.0.0.1', port: link.port },
    serverRoots: [link.ca],
    tenant: 'default',
    ...changes,
  };
  const log = createLog({ level: 'debug', name: 'node', destination });
  const agent = new Agent({ config, privateKey, clock, random: hardlyEver, log });
  const outcome = agent.start();
  outcome.catch(() => undefined);
  t.teardown(() => agent.close());
  /** Resolves with the n-th line that has this message. */
  async function logged(message: string | RegExp, count = 1): Promise<Line> {
    for (;;) {
      const found = lines.filter(({ msg }) =>
        typeof message === 'string' ? msg === message : message.test(msg),
      );
      const line = found[count - 1];
      if (line) return line;
      await new Promise<void>(resolve => (wake = resolve));
    }
  }
  return { agent, outcome, lines, logged, clock };
}

const stated = (code: ErrorCode) => new RollcallError(code, `stated ${code}`);
const leafOf = (link: MiniLink, position: number) =>
  link.sockets[position]?.getPeerX509Certificate()?.serialNumber;

void t.test('an agent enrolls, is online, and says goodbye when closed', async t => {
  const link = await startMiniLink(t);
  const { agent, outcome, logged, lines } = runAgent(t, link);
  t.match(await logged('enrolled'), { nodeId: `${nodeId}`, trustDomain: 'test.example', generation: '1' });
  t.match(await logged('online'), {
    level: 'info',
    nodeId: `${nodeId}`,
    trustDomain: 'test.example',
    link: `127.0.0.1:${link.port}`,
  });
  t.match(agent.status, { phase: 'online', nodeId, trustDomain: 'test.example' });
  const [session] = link.sessions;
  const goodBye = new Promise(resolve => void session?.gone.then(resolve));
  const closing = agent.close();
  t.same(await outcome, { reason: 'closed' });
  await Promise.all([goodBye, closing, agent.close()]);
  t.equal(agent.status.phase, 'ended');
  t.equal(link.sessions.size, 0);
  t.notMatch(JSON.stringify(lines), /PRIVATE KEY/);
  t.same(
    lines.filter(({ level }) => level === 'warn' || level === 'error'),
    [],
  );
});

void t.test('an agent with a state folder starts again without enrollment', async t => {
  const link = await startMiniLink(t);
  const stateDir = join(await makeFolder(t), 'state');
  const first = runAgent(t, link, { stateDir });
  await first.logged('online');
  const kept = decodeState(await readFile(join(stateDir, 'session.json'), 'utf8'));
  t.match(kept, { nodeId, generation: 1n, nodeKey: privateKey.publicKey.fingerprint });
  await t.rejects(runAgent(t, link, { stateDir }).outcome, { code: 'CONFIG_INVALID', message: /in use/ });
  await first.agent.close();
  t.same(await readdir(stateDir), ['session.json']);

  const second = runAgent(t, link, { stateDir });
  await second.logged('online');
  t.equal(link.proofs.length, 1);
  t.equal(second.lines.filter(({ msg }) => msg === 'enrolled').length, 0);
  t.equal(leafOf(link, 2), new X509Certificate(kept?.certificateChain[0] ?? '').serialNumber);
  await second.agent.close();

  const third = runAgent(t, link);
  await third.logged('online');
  t.equal(link.proofs[1]?.generation, 0n, 'without the folder nothing is remembered');
  await third.agent.close();
});

void t.test(
  'an agent replaces a certificate that expired during sleep, and remembers the generation',
  async t => {
    const link = await startMiniLink(t);
    const stateDir = await makeFolder(t);
    const first = runAgent(t, link, { stateDir });
    await first.logged('online');
    await first.agent.close();
    const later = runAgent(t, link, { stateDir }, hastyClock(2 * 3_600_000));
    await later.logged('online');
    t.equal(link.proofs[1]?.generation, 1n);
    t.match(await later.logged(/this machine's clock says/), { level: 'warn' });
    await later.agent.close();
  },
);

void t.test('an agent drops a certificate that the link refuses, and enrolls again at once', async t => {
  const link = await startMiniLink(t);
  const stateDir = await makeFolder(t);
  const first = runAgent(t, link, { stateDir });
  await first.logged('online');
  await first.agent.close();
  link.behaviour.connect = peer => {
    link.behaviour.connect = undefined;
    peer.refuse(stated('CERTIFICATE_REFUSED'));
  };
  const second = runAgent(t, link, { stateDir });
  await second.logged('online');
  t.match(await second.logged('stated CERTIFICATE_REFUSED'), { retryInMs: 0 });
  t.equal(link.proofs[1]?.generation, 1n, 'what it remembers is still true');
  const [session] = link.sessions;
  session?.refuse(stated('SESSION_EXPIRED'));
  await second.logged('online', 2);
  t.equal(link.proofs.length, 3);
  await second.agent.close();
});

void t.test(
  'an agent logs each state of its registration only once, and retries until it is online',
  async t => {
    const link = await startMiniLink(t);
    const answers: ErrorCode[] = [
      'NODE_NOT_REGISTERED',
      'NODE_NOT_REGISTERED',
      'NODE_PENDING',
      'NODE_QUARANTINED',
      'PROOF_REFUSED',
      'LINK_BUSY',
    ];
    link.behaviour.enroll = peer => {
      const code = answers.shift();
      if (answers.length === 0) link.behaviour.enroll = undefined;
      peer.refuse(stated(code ?? 'INTERNAL'));
    };
    const { agent, logged, lines, clock } = runAgent(t, link);
    await logged('online');
    t.same(
      lines.filter(({ code }) => code !== undefined).map(({ level, msg }) => `${level} ${msg}`),
      [
        'warn stated NODE_NOT_REGISTERED',
        'debug stated NODE_NOT_REGISTERED',
        'warn stated NODE_PENDING',
        'warn stated NODE_QUARANTINED',
        'warn stated PROOF_REFUSED',
        'warn stated LINK_BUSY',
      ],
    );
    t.same(clock.pauses, [2_500, 5_000, 10_000, 15_000], 'calmly, what is up to the operator');
    await agent.close();
  },
);

void t.test('an agent ends when revoked: at enrollment, at connect, and in a live session', async t => {
  for (const when of ['enroll', 'connect'] as const) {
    const link = await startMiniLink(t);
    link.behaviour[when] = (peer: MiniPeer) => peer.refuse(stated('NODE_REVOKED'));
    const { agent, outcome } = runAgent(t, link);
    t.match(await outcome, { reason: 'revoked', error: { code: 'NODE_REVOKED' } }, when);
    t.equal(agent.status.phase, 'ended');
  }
  const link = await startMiniLink(t);
  const { outcome, logged } = runAgent(t, link);
  await logged('online');
  const [session] = link.sessions;
  session?.refuse(stated('NODE_REVOKED'));
  t.match(await outcome, { reason: 'revoked' });
});

void t.test(
  'an agent does not end when an unverified link sends NODE_REVOKED, and waits for the real link',
  async t => {
    const certificates = makeCertificates();
    const impostor = await startMiniLink(t);
    const sayRevoked = (peer: MiniPeer) => peer.refuse(stated('NODE_REVOKED'));
    impostor.behaviour.enroll = sayRevoked;
    impostor.behaviour.connect = sayRevoked;
    const place = { port: impostor.port, ca: certificates.ca.certificate };
    const { agent, logged, lines } = runAgent(t, place);
    t.match(await logged(/cannot verify the link/), { level: 'warn', code: 'LINK_UNVERIFIED' });
    await logged(/cannot verify the link/, 3);
    t.equal(impostor.sockets.length, 0, 'it learned nothing of the node');
    await impostor.close();
    t.match(await logged(/cannot reach the link/), { level: 'warn', code: 'LINK_UNREACHABLE' });

    const link = await startMiniLink(t, { certificates, port: place.port });
    await logged('online');
    t.equal(lines.filter(({ level, msg }) => level === 'warn' && /cannot/.test(msg)).length, 2, 'once each');
    t.equal(link.sessions.size, 1);
    await agent.close();
  },
);

void t.test('an agent reconnects after every end of a session except a final one', async t => {
  const link = await startMiniLink(t);
  const { agent, logged, clock } = runAgent(t, link);
  await logged('online');
  const session = () => [...link.sessions].at(-1);
  link.sockets.at(-1)?.destroy();
  await logged('online', 2);
  session()?.end();
  await logged('online', 3);
  const draining = session();
  draining?.send({ $case: 'drain', value: { reason: 'update', reconnectAfterMs: 1 } });
  draining?.refuse(stated('LINK_DRAINING'));
  t.match(await logged('offline', 3), { code: 'LINK_DRAINING' });
  await logged('online', 4);
  const replaced = session();
  replaced?.refuse(stated('SESSION_REPLACED'));
  t.match(await logged('offline', 4), { code: 'SESSION_REPLACED', reason: 'stated SESSION_REPLACED' });
  await logged('online', 5);
  t.same(clock.pauses, [30_000], 'only the replaced one stays away for long');
  t.equal(link.proofs.length, 1, 'one certificate did for all');
  await agent.close();
});

void t.test(
  'an agent renews on its session and is welcomed on the next before it leaves the old one',
  async t => {
    const link = await startMiniLink(t);
    const stateDir = await makeFolder(t);
    link.behaviour.certificateLifetimeMs = 900;
    let max = 0;
    let renewedOn: unknown;
    link.behaviour.welcome = welcome => {
      max = Math.max(max, link.sessions.size);
      return welcome;
    };
    const { agent, logged, lines } = runAgent(t, link, { stateDir });
    await logged('online');
    link.behaviour.enrolled = enrolled => {
      renewedOn = link.sockets.length;
      link.behaviour.certificateLifetimeMs = 3_600_000;
      return enrolled;
    };
    t.match(await logged('renewed'), { level: 'info', generation: '2' });
    t.equal(renewedOn, 2, 'no third connection for the enrollment itself');
    t.equal(max, 2, 'both sessions at once');
    t.equal(link.proofs[1]?.generation, 1n);
    t.not(leafOf(link, 1), leafOf(link, 2));
    while (link.sessions.size > 1) await new Promise(resolve => setTimeout(resolve, 5));
    t.match(decodeState(await readFile(join(stateDir, 'session.json'), 'utf8')), { generation: 2n });
    t.equal(lines.filter(({ msg }) => msg === 'offline').length, 0);
    t.equal(agent.status.phase, 'online');
    await agent.close();
  },
);

void t.test('an agent keeps its session while a renewal fails at each step', async t => {
  const link = await startMiniLink(t);
  link.behaviour.certificateLifetimeMs = 900;
  const { agent, logged, lines } = runAgent(t, link);
  await logged('online');
  link.behaviour.certificateLifetimeMs = 3_600_000;
  link.behaviour.enroll = peer => {
    link.behaviour.enroll = undefined;
    const answers: ErrorCode[] = ['STORE_UNAVAILABLE', 'CERTIFICATE_REFUSED'];
    link.behaviour.connect = next => {
      next.refuse(stated(answers.shift() ?? 'INTERNAL'));
      if (answers.length === 0) link.behaviour.connect = undefined;
    };
    peer.refuseEnrollment(stated('LINK_BUSY'));
  };
  await logged('renewed');
  t.same(
    lines.filter(({ code }) => code !== undefined).map(({ code }) => code),
    ['LINK_BUSY', 'STORE_UNAVAILABLE', 'CERTIFICATE_REFUSED'],
  );
  t.equal(link.proofs.length, 3, 'another certificate is asked for only when the new one was refused');
  t.equal(lines.filter(({ msg }) => msg === 'offline').length, 0);
  await agent.close();
});

void t.test('an agent that is revoked during a renewal ends', async t => {
  const link = await startMiniLink(t);
  link.behaviour.certificateLifetimeMs = 900;
  const { outcome, logged } = runAgent(t, link);
  await logged('online');
  link.behaviour.enroll = peer => peer.refuseEnrollment(stated('NODE_REVOKED'));
  t.match(await outcome, { reason: 'revoked' });
});

void t.test('an agent does not use a certificate that it cannot store', async t => {
  const link = await startMiniLink(t);
  const stateDir = await makeFolder(t);
  const { agent, logged } = runAgent(t, link, { stateDir });
  link.behaviour.challenge = challenge => {
    // As good as a full disk.
    rmSync(stateDir, { recursive: true, force: true });
    return challenge;
  };
  t.match(await logged('cannot write the state folder'), { level: 'error', code: 'STORE_UNAVAILABLE' });
  await logged('cannot write the state folder', 3);
  t.equal(link.frames.length, 0, 'no session was opened');
  t.ok(agent.status.phase !== 'online');
  await agent.close();
});

void t.test('an agent whose clock is years off logs both clocks, and is online', async t => {
  const link = await startMiniLink(t);
  for (const years of [-10, 10]) {
    const { agent, logged } = runAgent(t, link, {}, hastyClock(years * 365 * 86_400_000));
    t.match(await logged(/this machine's clock says 20\d\d-.*, the link's says 20\d\d-/), { level: 'warn' });
    await logged('online');
    await agent.close();
  }
});

void t.test('an agent keeps server roots that a known root has signed, and refuses others', async t => {
  const link = await startMiniLink(t);
  const stateDir = await makeFolder(t);
  const stranger = new X509Certificate(makeCertificates().ca.certificate);
  link.behaviour.enrolled = enrolled => ({
    ...enrolled,
    trustBundle: { serverRoots: [new X509Certificate(link.ca).raw, stranger.raw] },
  });
  const { agent, logged } = runAgent(t, link, { stateDir });
  t.match(await logged(/the link sent CA certificates that no root of this node has signed/), {
    level: 'warn',
    refused: 1,
    hint: /^they are not used; the link is still verified .* give the new CA certificate by --root-certificates$/,
  });
  await logged('online');
  t.match(decodeState(await readFile(join(stateDir, 'session.json'), 'utf8')), { serverRoots: [] });
  await agent.close();
});

void t.test(
  'an agent that has the server certificate as its root logs a hint to get the CA certificate',
  async t => {
    const certificates = makeCertificates();
    const { ca, server } = certificates;
    const link = await startMiniLink(t, { certificates });
    link.behaviour.enrolled = enrolled => ({
      ...enrolled,
      trustBundle: { serverRoots: [new X509Certificate(ca.certificate).raw] },
    });
    const { agent, logged } = runAgent(t, link, { serverRoots: [server.certificate] });
    t.match(await logged(/the link sent CA certificates that no root of this node has signed/), {
      level: 'warn',
      hint: /^--root-certificates holds no CA certificate\b.* give the CA certificate of the link instead$/,
    });
    await logged('online');
    await agent.close();
  },
);

void t.test('an agent can be closed at every moment', async t => {
  const link = await startMiniLink(t);
  const idle = new Agent({
    config: { link: { host: '127.0.0.1', port: link.port }, serverRoots: [link.ca], tenant: 'default' },
    privateKey,
    clock: systemClock,
    random: systemRandom,
    log: createLog({ level: 'silent', name: 'node' }),
  });
  await idle.close();
  t.same(await idle.start(), { reason: 'closed' }, 'before it began');

  const early = runAgent(t, link);
  await early.agent.close();
  t.same(await early.outcome, { reason: 'closed' });

  for (const when of ['enroll', 'connect'] as const) {
    const held = await startMiniLink(t);
    const reached = new Promise<void>(resolve => (held.behaviour[when] = () => resolve()));
    const { agent, outcome } = runAgent(t, held);
    await reached;
    await agent.close();
    t.same(await outcome, { reason: 'closed' }, when);
  }

  const waiting = runAgent(t, { port: link.port, ca: makeCertificates().ca.certificate });
  await waiting.logged(/cannot verify/);
  await waiting.agent.close();
  t.same(await waiting.outcome, { reason: 'closed' });
});
