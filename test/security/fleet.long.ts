/**
 * Faults that take their time: floods, crashes at every step, processes that stand still, disks that are really full.
 * Everything here waits for a state to be reached, never for a time to have passed.
 */
import { toRollcallError } from '../../src/base/errors.js';
import t from 'tap';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Running } from '../../scripts/running.js';
import { systemRandom } from '../../src/base/random.js';
import type { PrivateKey } from '../../src/identity/private-key.js';
import { pauseAfter } from '../../src/node/backoff.js';
import { decodeState } from '../../src/node/state.js';
import type { Session } from '../../src/node/session.js';
import { verifyChain } from '../harness/audit-chain.js';
import { floodWithChallenges } from '../harness/challenge-flood.js';
import { listAll, statusName, untilStatus } from '../harness/control-calls.js';
import { codeOf } from '../harness/outcome.js';
import { openRaw, openSiege, portOf, tokenOf, type Faults, type Siege } from '../harness/siege.js';
import { startSwallowingProxy } from '../harness/swallowing-proxy.js';
import { newKey, sessionOn } from '../harness/test-link.js';
import { mountSmallDisk } from '../harness/tmpfs.js';

const year = 365 * 24 * 3_600_000;
// Tests that mostly wait run together. The options are made anew for each: tap keeps the state of a test in them,
// and two tests with one object would both show the results of one.
const waiting = (): { buffered: true } => ({ buffered: true });
/** The others need the machine for themselves. */
const alone = (): { buffered: false } => ({ buffered: false });
t.jobs = 5;

const pause = (): Promise<unknown> => new Promise(resolve => setTimeout(resolve, 50));

async function metric(site: Siege, name: string): Promise<number> {
  const { body } = await site.http('/metrics', { authorization: `Bearer ${await tokenOf(site)}` });
  return Number(
    body
      .split('\n')
      .find(line => line.startsWith(`${name} `))
      ?.slice(name.length + 1),
  );
}

/** The next line of this kind after so many lines. */
function saysAfter(running: Running, message: string, seen: number): Promise<unknown> {
  return running.line(line => line['msg'] === message && running.lines.indexOf(line) >= seen);
}

async function reasonsOf(site: Siege, node: string): Promise<string[]> {
  const { transitions } = await site.control.listNodeHistory({ node, pageSize: 0, pageToken: '' });
  return transitions.map(({ reason }) => reason);
}

/** Ends the link and looks at what it has written down. */
async function clonesSuspected(site: Siege): Promise<unknown[]> {
  await site.link.running.stop('SIGTERM');
  return (await site.audit()).filter(({ type }) => type === 'node.clone-suspected');
}

void t.test(
  'a node stopped by SIGSTOP is offline within the bound, and can reconnect elsewhere',
  waiting(),
  async t => {
    const site = await openSiege(t);
    const [alone, twice] = [newKey(), newKey()];
    const [aloneId, twiceId] = [await site.register(alone), await site.register(twice)];
    const frozen = await site.startNode('frozen', alone);
    const ghost = await site.startNode('ghost', twice);
    await Promise.all([frozen.says('online'), ghost.says('online')]);
    for (const each of [frozen, ghost]) each.process.kill('SIGSTOP');
    // The same node, started again elsewhere: the link still takes the ghost for alive.
    const returned = await site.startNode('returned', twice);
    await returned.says('online');
    t.equal((await reasonsOf(site, twiceId))[0], 'replaced');
    t.equal((await untilStatus(site.control, aloneId, 'offline')).reason, 'no answer');
    const seen = frozen.lines.length;
    frozen.process.kill('SIGCONT');
    await saysAfter(frozen, 'online', seen);
    await untilStatus(site.control, aloneId, 'online');
    ghost.process.kill('SIGCONT');
    const end = await saysAfter(ghost, 'offline', 0);
    t.match((end as { code: string }).code, /^(SESSION_REPLACED|LINK_UNREACHABLE)$/);
    await untilStatus(site.control, twiceId, 'online');
    await site.honest(t);
  },
);

void t.test(
  'a link stopped by SIGSTOP is left by its nodes, which return when it continues',
  waiting(),
  async t => {
    const site = await openSiege(t);
    const keys = [newKey(), newKey(), newKey()];
    const ids = await Promise.all(keys.map(key => site.register(key)));
    const nodes = await Promise.all(keys.map((key, index) => site.startNode(`node-${index}`, key)));
    await Promise.all(nodes.map(node => node.says('online')));
    site.link.running.process.kill('SIGSTOP');
    const asked = site.control.getNode({ node: ids[0] ?? '' });
    const ends = await Promise.all(nodes.map(node => node.says('offline')));
    for (const end of ends) t.match(end, { code: 'LINK_UNREACHABLE', reason: 'the link fell silent' });
    const seen = nodes.map(({ lines }) => lines.length);
    site.link.running.process.kill('SIGCONT');
    t.ok(await asked, 'the question of an operator that came meanwhile is answered');
    await Promise.all(nodes.map((node, index) => saysAfter(node, 'online', seen[index] ?? 0)));
    for (const id of ids) await untilStatus(site.control, id, 'online');
    t.equal(await metric(site, 'rollcall_sessions'), keys.length);
    await site.honest(t);
    t.same(await clonesSuspected(site), []);
  },
);

void t.test(
  'a node whose cable is cut is offline, and comes back on another connection',
  waiting(),
  async t => {
    const site = await openSiege(t);
    const proxy = await startSwallowingProxy(t, portOf(site.link.node));
    const key = newKey();
    const id = await site.register(key);
    const node = await site.startNode('behind', key, { link: proxy.address });
    await node.says('online');
    proxy.swallow();
    t.equal((await untilStatus(site.control, id, 'offline')).reason, 'no answer');
    const end = (await saysAfter(node, 'offline', 0)) as { code: string; reason: string };
    t.match(end, { code: 'LINK_UNREACHABLE', reason: 'the link fell silent' });
    await untilStatus(site.control, id, 'online');
    t.same((await reasonsOf(site, id)).slice(0, 3), ['connected', 'no answer', 'connected']);
    await site.honest(t);
  },
);

void t.test('a node that was off beyond the end of its certificate enrolls again', waiting(), async t => {
  const site = await openSiege(t, { more: ['--certificate-lifetime', '10s'] });
  const names = { off: undefined, 'off, its clock in the past': -10 * year, stays: undefined };
  const nodes = await Promise.all(
    Object.entries(names).map(async ([name, clockShiftMs]) => {
      const key = newKey();
      const faults: Faults = clockShiftMs === undefined ? {} : { clockShiftMs };
      const id = await site.register(key);
      const start = (): Promise<Running> => site.startNode(name, key, { faults });
      const running = await start();
      await running.says('online');
      return { name, id, start, running };
    }),
  );
  const expired = async (id: string): Promise<void> => {
    while (Number((await site.control.getNode({ node: id })).certificateExpiresAtMs) > Date.now())
      await pause();
  };
  const gone = nodes.filter(({ name }) => name !== 'stays');
  await Promise.all(gone.map(({ running }) => running.stop('SIGKILL')));
  await Promise.all(gone.map(({ id }) => expired(id)));
  for (const node of gone) {
    node.running = await node.start();
    await node.running.says('online');
    t.ok(
      node.running.lines.some(({ msg }) => msg === 'enrolled'),
      `${node.name}: it enrolled anew`,
    );
    await untilStatus(site.control, node.id, 'online');
  }
  const stays = nodes.find(({ name }) => name === 'stays');
  t.ok(
    stays?.running.lines.some(({ msg }) => msg === 'renewed'),
    'one that stayed has renewed meanwhile',
  );
  t.notOk(
    stays?.running.lines.some(({ msg }) => msg === 'offline'),
    'and was never away',
  );

  await site.link.running.stop('SIGKILL');
  const seen = nodes.map(({ running }) => running.lines.length);
  const until = Date.now() + 10_000;
  while (Date.now() < until) await pause();
  await site.restart();
  await Promise.all(nodes.map(({ running }, index) => saysAfter(running, 'online', seen[index] ?? 0)));
  t.pass('when it was the link that was off, all are back by themselves');
  await Promise.all(nodes.map(({ running }) => running.stop('SIGTERM')));
  t.same(await clonesSuspected(site), []);
});

void t.test('a link with a disk that is really full', waiting(), async t => {
  const disk = await mountSmallDisk(t, 6 * 1024 * 1024);
  if (!disk) {
    t.comment('skipped: mounting is not possible here');
    return;
  }
  const site = await openSiege(t, { dataDir: join(disk.folder, 'data') });
  const keys = { stays: newKey(), leaves: newKey(), out: newKey() };
  const start = (name: string, key: PrivateKey): Promise<Running> => site.startNode(name, key);
  const ids: Record<string, string> = {};
  const nodes: Record<string, Running> = {};
  for (const [name, key] of Object.entries(keys)) {
    ids[name] = await site.register(key);
    nodes[name] = await start(name, key);
    await nodes[name].says('online');
  }
  const idOf = (name: string): string => ids[name] ?? '';
  const acknowledged = [...Object.values(ids)];

  disk.fill();
  // The room that the store still has in its own files is soon used up.
  let code = '';
  for (const until = 10_000; acknowledged.length < until && code === '';) {
    const key = newKey();
    await site.register(key).then(
      id => acknowledged.push(id),
      (error: unknown) => (code = toRollcallError(error).code),
    );
  }
  t.equal(code, 'STORE_FULL', `after ${acknowledged.length} registrations`);
  t.equal(await codeOf(site.enroll(keys.leaves)), 'STORE_FULL');
  t.equal((await listAll(site.control)).length, acknowledged.length, 'reads go on');
  await nodes['leaves']?.stop('SIGKILL');
  t.equal((await untilStatus(site.control, idOf('leaves'), 'offline')).reason, 'connection lost');
  nodes['leaves'] = await start('leaves', keys.leaves);
  await nodes['leaves'].says('online');
  await untilStatus(site.control, idOf('leaves'), 'online');
  const revoking = site.control.revokeNode({ node: idOf('out'), comment: 'stolen' });
  await t.rejects(revoking, { code: 'STORE_FULL', message: /cut off, but that could not be stored/ });
  t.equal(await nodes['out']?.exited, 4, 'its agent heard that it is revoked');
  t.equal(await codeOf(site.enroll(keys.out)), 'NODE_REVOKED');
  while ((await site.http('/readyz')).status === 200) await pause();
  t.equal((await site.http('/readyz')).status, 507);
  t.equal((await site.http('/healthz')).status, 200);
  t.notOk(nodes['stays']?.lines.some(({ msg }) => msg === 'offline'));

  disk.free();
  await site.link.running.says('the store takes presence again; everything is written');
  while ((await site.http('/readyz')).status !== 200) await pause();
  await site.honest(t);
  await site.link.running.stop('SIGKILL');

  await t.test('a link does not start on a full disk, and reports it', async t => {
    disk.fill();
    const refused = site.spawn();
    t.ok(((await refused.exited) ?? 0) > 0);
    t.match(
      refused.lines.map(({ msg }) => String(msg)).join('\n'),
      /^error: cannot open the database .*: the disk is full/m,
    );
    disk.free();
  });

  await site.restart();
  const known = new Set((await listAll(site.control)).map(({ id }) => `${id}`));
  t.same(
    acknowledged.filter(id => !known.has(id)),
    [],
    'nothing acknowledged is lost',
  );
  t.equal(statusName(await site.control.getNode({ node: idOf('out') })), 'revoked');
  t.equal(await codeOf(site.enroll(keys.out)), 'NODE_REVOKED');
  for (const name of ['stays', 'leaves']) await untilStatus(site.control, idOf(name), 'online');
  t.ok((await reasonsOf(site, idOf('leaves'))).includes('connection lost'), 'what waited was written');
  t.same(await clonesSuspected(site), []);
});

void t.test('a read-only folder of link or node', waiting(), async t => {
  const disks = [await mountSmallDisk(t, 8 * 1024 * 1024), await mountSmallDisk(t, 1024 * 1024)];
  const [ofLink, ofNode] = disks;
  if (!ofLink || !ofNode) {
    t.comment('skipped: mounting is not possible here');
    return;
  }
  const site = await openSiege(t, { dataDir: join(ofLink.folder, 'data') });
  const key = newKey();
  const id = await site.register(key);
  const stateDir = join(ofNode.folder, 'state');

  await t.test('a running node with a read-only folder stays online, and renews later', async t => {
    // It renews at once and again and again, until that cannot be written any more.
    const node = await site.startNode('ro', key, { stateDir, faults: { timersDueMs: '2000000-2400000' } });
    await node.says('renewed');
    await ofNode.makeReadOnly();
    const told = await node.line(({ code }) => code === 'STORE_UNAVAILABLE');
    t.match(told, { level: 'error', msg: 'cannot write the state folder' });
    t.match(JSON.stringify(told), /EROFS/);
    t.equal(statusName(await site.control.getNode({ node: id })), 'online');
    const seen = node.lines.length;
    await ofNode.makeWritable();
    await node.line(line => line['msg'] === 'renewed' && node.lines.indexOf(line) >= seen);
    t.notOk(
      node.lines.some(({ msg }) => msg === 'offline'),
      'the session stayed all the time',
    );
    t.equal(await node.stop('SIGTERM'), 0);
  });

  await t.test('a node that starts with a read-only folder exits with 2 and names the folder', async t => {
    await ofNode.makeReadOnly();
    const refused = await site.startNode('ro', key, { stateDir });
    t.equal(await refused.exited, 2);
    const text = refused.lines.map(({ msg }) => String(msg)).join('\n');
    t.match(text, /^error: cannot use the state folder .*: the file system is read-only[^]*^hint: /m);
  });

  await t.test('a link that starts with a read-only folder reports it, and loses nothing', async t => {
    await site.link.running.stop('SIGTERM');
    await ofLink.makeReadOnly();
    const refused = site.spawn();
    t.ok(((await refused.exited) ?? 0) > 0);
    const text = refused.lines.map(({ msg }) => String(msg)).join('\n');
    t.match(text, /^error: /m);
    t.notMatch(text, /\n\s+at /, 'no stack');
    await ofLink.makeWritable();
    await site.restart();
    await site.honest(t);
    await site.link.running.stop('SIGTERM');
    t.notOk((await site.audit()).some(({ type }) => type === 'node.clone-suspected'));
  });
});

/** As many crashes as it takes to be past the renewal; `stride` steps apart, some at a time. */
async function walk(
  stride: number,
  lanes: number,
  crashAt: (step: number) => Promise<'crashed' | 'past the end'>,
): Promise<number> {
  let next = 1;
  let end = Infinity;
  let crashes = 0;
  const lane = async (): Promise<void> => {
    for (let step = next; step < end; step = next) {
      next += stride;
      if ((await crashAt(step)) === 'crashed') crashes += 1;
      else end = Math.min(end, step);
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  return crashes;
}

/** Certificates live for ten minutes, and agents with this fault renew at once. */
const renewsAtOnce = '300000-420000';

async function storedState(site: Siege, name: string) {
  const text = await readFile(join(site.stateDir(name), 'session.json'), 'utf8').catch(() => undefined);
  return text === undefined ? undefined : { state: decodeState(text) };
}

/** Whichever came first: its end, or this line. */
function endOr(running: Running, message: string): Promise<'crashed' | 'past the end'> {
  return Promise.race([
    running.exited.then(() => 'crashed' as const),
    running.says(message).then(
      () => 'past the end' as const,
      () => 'crashed' as const,
    ),
  ]);
}

void t.test(
  'a node killed at every step of its renewal always has one usable credential',
  alone(),
  async t => {
    const site = await openSiege(t, { more: ['--certificate-lifetime', '10m'] });
    const withState = { before: 0, after: 0 };
    const crashes = await walk(8, 3, async step => {
      const key = newKey();
      const name = `step-${step}`;
      const id = await site.register(key);
      const faults = { crashAt: step, timersDueMs: renewsAtOnce };
      const doomed = await site.startNode(name, key, { faults });
      const outcome = await endOr(doomed, 'renewed');
      await doomed.stop('SIGKILL');
      const stored = await storedState(site, name);
      if (stored && !stored.state) t.fail(`step ${step}: what is stored is half a state`);
      const node = await site.startNode(name, key);
      await node.says('online');
      await untilStatus(site.control, id, 'online');
      const enrolled = node.lines.some(({ msg }) => msg === 'enrolled');
      // The stored certificate is valid, so that the node key was not needed.
      if (enrolled !== (stored === undefined)) t.fail(`step ${step}: the stored certificate was of no use`);
      withState[stored ? 'after' : 'before'] += 1;
      await node.stop('SIGKILL');
      return outcome;
    });
    t.ok(crashes > 5, `${crashes} crashes`);
    t.ok(withState.before > 0 && withState.after > 0, JSON.stringify(withState));
    await site.honest(t);
    t.same(await clonesSuspected(site), []);
  },
);

void t.test(
  'a node has one usable credential when the link is killed at every step of its renewal',
  alone(),
  async t => {
    const site = await openSiege(t, { more: ['--certificate-lifetime', '10m'] });
    const crashes = await walk(10, 1, async step => {
      const key = newKey();
      const name = `step-${step}`;
      const id = await site.register(key);
      await site.link.running.stop('SIGKILL');
      // No operator asks this one anything: its first step may be its last.
      const doomed = site.spawn({ crashAt: step });
      const node = await site.startNode(name, key, { faults: { timersDueMs: renewsAtOnce } });
      const renewed = node.says('renewed').then(() => 'past the end' as const);
      const outcome = await Promise.race([doomed.exited.then(() => 'crashed' as const), renewed]);
      await doomed.stop('SIGKILL');
      await site.restart();
      await renewed;
      await untilStatus(site.control, id, 'online');
      if (node.lines.some(({ code }) => code === 'NODE_REVOKED' || code === 'PROOF_REFUSED')) {
        t.fail(`step ${step}: an honest node was sent away`);
      }
      await node.stop('SIGKILL');
      return outcome;
    });
    t.ok(crashes > 5, `${crashes} crashes`);
    await site.honest(t);
    t.same(await clonesSuspected(site), []);
  },
);

void t.test(
  'a link killed during writes of every kind has lost nothing that was acknowledged',
  alone(),
  async t => {
    const site = await openSiege(t);
    const enrolled = new Map<string, { readonly key: PrivateKey; readonly generation: bigint }>();
    const revoked = new Set<string>();
    for (let round = 0; round < 15; round += 1) {
      let killed = false;
      const isKilled = (): boolean => killed;
      let writes = 0;
      const last = 5 + ((round * 7) % 40);
      const acknowledge = (): void => {
        writes += 1;
        if (writes !== last) return;
        killed = true;
        site.link.running.process.kill('SIGKILL');
      };
      const worker = async (): Promise<void> => {
        while (!isKilled()) {
          const key = newKey();
          const id = await site.register(key);
          acknowledge();
          const { generation } = await site.enroll(key);
          enrolled.set(id, { key, generation });
          acknowledge();
          if (writes % 2 === 0) continue;
          await site.control.revokeNode({ node: id, comment: '' });
          revoked.add(id);
          acknowledge();
        }
      };
      await Promise.all(Array.from({ length: 6 }, () => worker().catch(() => undefined)));
      await site.link.running.stop('SIGKILL');
      await site.restart();
    }
    t.ok(enrolled.size > 20 && revoked.size > 10, `${enrolled.size} enrolled, ${revoked.size} revoked`);
    const all = [...enrolled];
    const wrong = await inLanes(all.length, 16, async index => {
      const [id, { key, generation }] = all[index] as (typeof all)[number];
      const status = statusName(await site.control.getNode({ node: id }));
      // A revocation that was asked for and not acknowledged may have been done.
      if (status === 'revoked') return (await codeOf(site.enroll(key))) === 'NODE_REVOKED' ? [] : [id];
      // Every generation is given once.
      const isNext = (await site.enroll(key, generation)).generation > generation;
      return isNext && !revoked.has(id) ? [] : [id];
    });
    t.same(wrong.flat(), [], 'the enrolled have their generation, the revoked are revoked');
    await site.honest(t);
    await site.link.running.stop('SIGTERM');
    t.equal(verifyChain(await site.audit()), undefined, 'the audit chain is whole');
  },
);

void t.test(
  'every enrollment slot held by unanswered challenges is taken again at once',
  alone(),
  async t => {
    const max = 2_048;
    const site = await openSiege(t, { more: ['--max-enrollments', `${max}`] });
    const flood = floodWithChallenges({
      // A few more than there are places.
      connections: max + 32,
      held: max,
      addresses: ['127.0.0.66', '127.0.0.67', '127.0.0.68', '127.0.0.69'],
      open: from => openRaw(portOf(site.link.node), site.ca, { from }),
    });
    await flood.full;
    await site.honest(t);
    const { challenges } = flood.counts();
    // The memory that the allocator keeps grows now and then; a leak grows in each round.
    const grown: number[] = [];
    const bound = 24;
    for (let round = 1; round <= 4 && !grown.some(mebibytes => mebibytes < bound); round += 1) {
      const before = await metric(site, 'process_resident_memory_bytes');
      for (let more = 2_000; more <= 6_000; more += 2_000) {
        await flood.reach(challenges + (round - 1) * 6_000 + more);
        await site.honest(t);
      }
      grown.push(Math.round(((await metric(site, 'process_resident_memory_bytes')) - before) / 2 ** 20));
    }
    t.comment(JSON.stringify(flood.counts()));
    t.ok(
      grown.some(mebibytes => mebibytes < bound),
      `${grown.join(', ')} MiB more in rounds of six thousand challenges`,
    );
    await flood.stop();
    await site.honest(t);
  },
);

void t.test('a thousand nodes reconnect at once to a link that was killed', alone(), async t => {
  const site = await openSiege(t);
  const count = 1_000;
  const credentials = await inLanes(count, 16, async () => {
    const key = newKey();
    await site.register(key);
    return site.enroll(key);
  });
  const sessions: Session[] = [];
  const comeBack = async (credential: (typeof credentials)[number]): Promise<void> => {
    for (let failures = 1; ; failures += 1) {
      const connection = await site.connect(credential).catch(() => undefined);
      const session = connection && (await sessionOn(connection).catch(() => undefined));
      if (session) {
        sessions.push(session);
        return;
      }
      await connection?.close();
      // As the agent does it: what times out together must not come back together.
      const delayMs = pauseAfter({ code: 'LINK_UNREACHABLE', failures, refusals: 0 }, systemRandom);
      await new Promise(resolve => setTimeout(resolve, delayMs));
    }
  };
  await inLanes(count, 16, index => comeBack(credentials[index] as (typeof credentials)[number]));
  t.equal(await metric(site, 'rollcall_sessions'), count);
  await site.link.running.stop('SIGKILL');
  await Promise.all(sessions.splice(0).map(({ ended }) => ended));
  await site.restart();
  const returning = Promise.all(credentials.map(comeBack));
  await site.honest(t);
  await returning;
  t.equal(await metric(site, 'rollcall_sessions'), count, 'every one of them is in');
  t.equal(await metric(site, 'rollcall_nodes{status="online"}'), count);
  await site.link.running.stop('SIGTERM');
});

async function inLanes<T>(count: number, lanes: number, work: (index: number) => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let index = next; index < count; index = next) {
      next += 1;
      results[index] = await work(index);
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  return results;
}
