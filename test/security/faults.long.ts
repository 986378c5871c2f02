/**
 * A fleet under faults: clones of a node, wrong clocks, disks that are full, slow, read-only or unreadable. No
 * unauthorised node connects, nothing acknowledged is lost, and honest nodes are back when the fault is gone.
 */
import t from 'tap';
import { cp, rm } from 'node:fs/promises';
import { get } from 'node:https';
import { join } from 'node:path';
import { createMemoryStore } from '../../src/store/memory.js';
import { createPowerCutStore } from '../../src/store/power-cut.js';
import type { Store } from '../../src/store/store.js';
import { statusName, untilStatus } from '../harness/control-calls.js';
import { createManualClock } from '../harness/manual-clock.js';
import { codeOf } from '../harness/outcome.js';
import { openSiege, tokenOf } from '../harness/siege.js';
import { damagedStore, slowStore } from '../harness/stores.js';
import { enrollOn, newKey, sessionOn, startTestLink, type TestLink } from '../harness/test-link.js';

const minute = 60_000;
const year = 365 * 24 * 60 * minute;

void t.test('clones of one node', async t => {
  const site = await openSiege(t);
  const other = newKey();
  const otherId = await site.register(other);
  const bystander = await site.startNode('bystander', other);
  await bystander.says('online');

  await t.test('a clone that alternates with its node is detected, without effect on others', async t => {
    const key = newKey();
    const id = await site.register(key);
    const original = await site.startNode('original', key);
    await original.says('online');
    // A thief copies the disk while it runs.
    await cp(site.stateDir('original'), site.stateDir('clone'), { recursive: true });
    // On a machine of his own no process holds the lock.
    await rm(join(site.stateDir('clone'), 'lock'));
    // He renews; by the hour that takes, he is the one who is up to date.
    const clone = await site.startNode('clone', key, { faults: { timersDueMs: '2000000-2400000' } });
    await clone.says('renewed');
    t.equal((await original.line(line => line['code'] === 'SESSION_REPLACED'))['msg'], 'offline');
    await clone.stop('SIGKILL');
    await original.stop('SIGKILL');
    await untilStatus(site.control, id, 'offline');
    const back = await site.startNode('original', key);
    await back.says('online');
    const { transitions } = await site.control.listNodeHistory({ node: id, pageSize: 0, pageToken: '' });
    t.ok(
      transitions.some(({ reason }) => reason === 'replaced'),
      'the takeover is in the history',
    );
    await back.stop('SIGTERM');
    await untilStatus(site.control, id, 'offline');
  });

  await t.test('of two simultaneous clones one is online, and the other waits', async t => {
    const key = newKey();
    const id = await site.register(key);
    const agents = await Promise.all(['left', 'right'].map(name => site.startNode(name, key)));
    await Promise.race(agents.map(each => each.line(line => line['code'] === 'SESSION_REPLACED')));
    await untilStatus(site.control, id, 'online');
    const authorization = `Bearer ${await tokenOf(site)}`;
    const { body } = await site.http('/metrics', { authorization });
    t.match(body, /^rollcall_sessions 2$/m, 'the bystander and one of the two');
    await Promise.all(agents.map(each => each.stop('SIGKILL')));
  });

  await t.test('clones of one node do not affect another node, and are in the audit log', async t => {
    await untilStatus(site.control, otherId, 'online');
    t.equal(bystander.lines.filter(({ msg }) => msg === 'online').length, 1);
    t.notOk(bystander.lines.some(({ msg }) => msg === 'offline'));
    await site.honest(t);
    await site.link.running.stop('SIGTERM');
    const suspected = (await site.audit()).filter(({ type }) => type === 'node.clone-suspected');
    t.ok(suspected.length > 0);
    t.notOk(suspected.some(({ subject }) => subject === otherId));
    t.match(suspected[0]?.detail, { remembered: '1' });
  });
});

void t.test('nodes whose clocks are ten minutes or ten years off enroll and stay online', async t => {
  const site = await openSiege(t);
  const shifts = { slow: -10 * minute, fast: 10 * minute, past: -10 * year, future: 10 * year };
  await Promise.all(
    Object.entries(shifts).map(async ([name, clockShiftMs]) => {
      const key = newKey();
      const id = await site.register(key);
      let node = await site.startNode(name, key, { faults: { clockShiftMs } });
      await node.says('online');
      await untilStatus(site.control, id, 'online');
      const warned = node.lines.filter(({ msg }) => String(msg).includes('clock says'));
      t.equal(warned.length, 1, `${name}: it says so once, with both clocks`);
      if (Math.abs(clockShiftMs) >= year) {
        await node.stop('SIGTERM');
        // With what it stored, which looks ten years too old or too new to it.
        node = await site.startNode(name, key, { faults: { clockShiftMs } });
        await node.says('online');
      }
      const { sinceMs } = await untilStatus(site.control, id, 'online');
      t.ok(Math.abs(Number(sinceMs) - Date.now()) < minute, `${name}: the history goes by the link's clock`);
      t.notOk(node.lines.some(({ code }) => code === 'CERTIFICATE_REFUSED'));
      await node.stop('SIGTERM');
    }),
  );
  await site.honest(t);
  await site.link.running.stop('SIGTERM');
  t.notOk((await site.audit()).some(({ type }) => type === 'node.clone-suspected'));
});

void t.test('steps of the clock of the link', async t => {
  const clock = createManualClock();
  const test = await startTestLink(t, { clock, settings: { 'certificate-lifetime': '1h' } });
  const key = newKey();
  const { id } = await test.register(key);
  const sweep = (): void => clock.advance(500);
  const status = async (): Promise<string> => statusName(await test.control.getNode({ node: `${id}` }));

  await t.test(
    'a clock stepped by ten minutes keeps live sessions, and future certificates are replaced',
    async t => {
      const live = await test.online(key);
      clock.step(10 * minute);
      sweep();
      t.equal(await status(), 'online');
      const ahead = await enrollOn(live.connection, key, live.enrollment.generation);
      clock.step(-10 * minute);
      sweep();
      t.equal(await status(), 'online');
      t.equal(await codeOf(sessionOn(await test.connect(ahead))), 'CERTIFICATE_REFUSED', 'not valid yet');
      t.equal(await status(), 'online', 'and that ended nobody');
      const again = await test.online(key);
      t.equal(again.session.welcome.nodeId, id);
      await again.session.close();
      await test.until(`${id}`, 'offline');
    },
  );

  await t.test('a clock ten years ahead ends every session, and set back accepts them again', async t => {
    const live = await test.online(key);
    clock.step(10 * year);
    sweep();
    const end = await live.session.ended;
    t.equal(end.reason === 'ended' && end.error.code, 'SESSION_EXPIRED');
    t.equal(await codeOf(sessionOn(await test.connect(live.enrollment))), 'CERTIFICATE_REFUSED');
    clock.step(-10 * year);
    const back = await sessionOn(await test.connect(live.enrollment));
    t.equal(back.welcome.nodeId, id, 'its certificate is good again');
    await back.close();
    await test.until(`${id}`, 'offline');
  });

  await t.test('a clock stepped ten years back keeps live sessions, and dates new certificates', async t => {
    const live = await test.online(key);
    clock.step(-10 * year);
    sweep();
    t.equal(await codeOf(status()), 'TOKEN_REFUSED', 'a token of the future counts as none');
    clock.step(10 * year);
    sweep();
    t.equal(await status(), 'online');
    await live.session.close();
    await test.until(`${id}`, 'offline');
    t.equal((await test.online(key)).session.welcome.nodeId, id);
  });
});

void t.test('a link that was killed while its clock was ahead records no time in the future', async t => {
  const power = createPowerCutStore();
  const clock = createManualClock();
  const settings = { 'certificate-lifetime': '720h' };
  const test = await startTestLink(t, { clock, store: power.store, settings });
  const key = newKey();
  const { id } = await test.register(key);
  await test.online(key);
  clock.step(20 * 24 * 60 * minute);
  const before = power.syncs();
  // The stamp of the last time that the link was alive.
  clock.advance(5_000);
  while (power.syncs() === before) await new Promise(resolve => setImmediate(resolve));
  const right = createManualClock();
  const next = await startTestLink(t, { clock: right, store: power.cut() });
  const node = await next.control.getNode({ node: `${id}` });
  t.equal(statusName(node), 'offline');
  t.equal(node.reason, 'link restarted');
  t.ok(Number(node.sinceMs) <= right.now(), `since ${new Date(Number(node.sinceMs)).toISOString()}`);
});

/** The failure of the disk: the error of the system, and the error for callers. */
const diskFaults = [
  ['full', Object.assign(new Error('write'), { code: 'ENOSPC' }), 'STORE_FULL', 507],
  ['read-only', Object.assign(new Error('write'), { code: 'EROFS' }), 'STORE_UNAVAILABLE', 503],
] as const;

for (const [what, failure, code, http] of diskFaults) {
  void t.test(`a disk that is ${what}: reads continue, and writes are refused`, async t => {
    const power = createPowerCutStore();
    const clock = createManualClock();
    const test = await startTestLink(t, { clock, store: power.store });
    const keys = { stays: newKey(), leaves: newKey(), returns: newKey(), out: newKey() };
    const ids: Record<string, string> = {};
    for (const [name, key] of Object.entries(keys)) ids[name] = `${(await test.register(key, { name })).id}`;
    const live = {
      stays: await test.online(keys.stays),
      leaves: await test.online(keys.leaves),
      out: await test.online(keys.out),
    };
    const ready = await test.enroll(keys.returns);
    const nodeOf = (name: string) => test.control.getNode({ node: name });
    t.equal((await readiness(test)).status, 200);

    power.failWrites(failure);
    await t.test('with a failing disk reads continue', async t => {
      t.equal(statusName(await nodeOf('stays')), 'online');
      const page = { statuses: [], labels: {}, text: '', pageSize: 0, pageToken: '' };
      t.equal((await test.control.listNodes(page)).nodes.length, 4);
      const history = await test.control.listNodeHistory({ node: 'stays', pageSize: 0, pageToken: '' });
      t.equal(history.transitions.length, 2);
    });

    await t.test('with a failing disk registration, enrollment and renewal are refused', async t => {
      t.equal(await codeOf(test.register(newKey())), code);
      t.equal(await codeOf(test.enroll(keys.returns)), code);
      t.equal(await codeOf(enrollOn(live.stays.connection, keys.stays, 1n)), code);
      t.equal(statusName(await nodeOf('stays')), 'online', 'and the session on which it was tried stays');
    });

    await t.test('with a failing disk nodes go offline, and certificates open sessions', async t => {
      await live.leaves.session.close();
      t.equal((await test.until(ids['leaves'] ?? '', 'offline')).reason, 'closed by node');
      const session = await sessionOn(await test.connect(ready));
      t.equal(`${session.welcome.nodeId}`, ids['returns']);
      t.equal(statusName(await nodeOf('returns')), 'online');
      t.equal(await codeOf(sessionOn(await test.connect())), 'CERTIFICATE_REFUSED');
    });

    await t.test('with a failing disk a revocation ends the session, and says it is not durable', async t => {
      const revoking = test.control.revokeNode({ node: 'out', comment: 'stolen' });
      await t.rejects(revoking, { code, message: /cut off, but that could not be stored/ });
      const end = await live.out.session.ended;
      t.equal(end.reason === 'ended' && end.error.code, 'NODE_REVOKED');
      t.match(await nodeOf('out'), { reason: 'revoked, not stored yet' });
      t.equal(statusName(await nodeOf('out')), 'revoked');
      t.equal(await codeOf(sessionOn(await test.connect(live.out.enrollment))), 'NODE_REVOKED');
      t.equal(await codeOf(test.enroll(keys.out)), 'NODE_REVOKED');
      t.equal(
        await codeOf(test.control.revokeNode({ node: 'out', comment: '' })),
        code,
        'nor is a second one',
      );
    });

    await t.test('with a failing disk /readyz states only the error code', async t => {
      clock.advance(5_000);
      let answer = await readiness(test);
      while (answer.status === 200) answer = await readiness(test);
      t.equal(answer.status, http);
      t.match(JSON.parse(answer.body), { code, status: http });
      t.notMatch(answer.body, /ENOSPC|EROFS|\/tmp|level|stack/i);
    });

    power.failWrites(undefined);
    await t.test('once the disk works again everything pending is written, and nothing is lost', async t => {
      clock.advance(5_000);
      while ((await readiness(test)).status !== 200) await new Promise(resolve => setImmediate(resolve));
      await said(test, 'the store takes presence again; everything is written');
      t.equal(await codeOf(test.register(newKey())), 'nothing');
      const next = await startTestLink(t, { store: power.cut() });
      const of = (name: string) => next.control.getNode({ node: ids[name] ?? '' });
      t.equal(statusName(await of('out')), 'revoked');
      t.match(await of('leaves'), { reason: 'closed by node' });
      t.match(await of('returns'), { reason: 'link restarted' }, 'it was stored as online');
      const { transitions } = await next.control.listNodeHistory({
        node: ids['returns'] ?? '',
        pageSize: 0,
        pageToken: '',
      });
      t.same(
        transitions.map(({ reason }) => reason),
        ['link restarted', 'connected', 'registered'],
      );
    });
  });
}

void t.test('an unreadable store refuses new sessions, and does not end live ones', async t => {
  const power = createPowerCutStore();
  const test = await startTestLink(t, { store: power.store });
  const [inside, outside] = [newKey(), newKey()];
  const { id } = await test.register(inside);
  await test.register(outside);
  const live = await test.online(inside);
  const ready = await test.enroll(outside);
  power.failReads(new Error('Corruption: /data/000005.ldb: block checksum mismatch'));
  t.equal(await codeOf(test.enroll(outside)), 'STORE_UNAVAILABLE');
  t.equal(await codeOf(sessionOn(await test.connect(ready))), 'STORE_UNAVAILABLE');
  t.equal(await codeOf(test.register(newKey())), 'STORE_UNAVAILABLE');
  const answer = await readiness(test);
  t.equal(answer.status, 503);
  t.notMatch(answer.body, /Corruption|ldb/, 'what the disk said is for the log');
  t.match(test.logged.join(''), /block checksum mismatch/);
  const revoking = test.control.revokeNode({ node: `${id}`, comment: '' });
  t.equal(await codeOf(revoking), 'STORE_UNAVAILABLE', 'nobody is told that it was done');
  power.failReads(undefined);
  t.equal(statusName(await test.control.getNode({ node: `${id}` })), 'online');
  t.equal(await codeOf(sessionOn(await test.connect(ready))), 'nothing');
  await test.control.revokeNode({ node: `${id}`, comment: '' });
  const end = await live.session.ended;
  t.equal(end.reason === 'ended' && end.error.code, 'NODE_REVOKED');
});

void t.test('a node with an unreadable record is disconnected, and refused afterwards', async t => {
  const power = createPowerCutStore();
  let isBad = false;
  const store = damagedStore(power.store, key => isBad && key.includes('/node/'));
  const test = await startTestLink(t, { store });
  const [key, bystander] = [newKey(), newKey()];
  const { id } = await test.register(key, { name: 'lathe' });
  await test.register(bystander);
  const live = await test.online(key);
  const other = await test.online(bystander);
  isBad = true;
  for (const node of ['lathe', `${id}`, key.publicKey.fingerprint]) {
    const revoking = test.control.revokeNode({ node, comment: '' });
    await t.rejects(revoking, {
      code: 'STORE_UNAVAILABLE',
      message: /cut off, but that could not be stored/,
    });
  }
  const end = await live.session.ended;
  t.equal(end.reason === 'ended' && end.error.code, 'NODE_REVOKED');
  t.equal(await codeOf(test.control.revokeNode({ node: 'nobody', comment: '' })), 'NODE_NOT_FOUND');
  power.failWrites(new Error('the disk is bad'));
  isBad = false;
  t.equal(await codeOf(sessionOn(await test.connect(live.enrollment))), 'NODE_REVOKED');
  t.equal(await codeOf(test.enroll(key)), 'NODE_REVOKED');
  t.equal(statusName(await test.control.getNode({ node: `${other.session.welcome.nodeId}` })), 'online');
  power.failWrites(undefined);
  await test.control.revokeNode({ node: 'lathe', comment: '' });
  const next = await startTestLink(t, { store: power.cut() });
  t.equal(statusName(await next.control.getNode({ node: `${id}` })), 'revoked');
});

void t.test('a store that takes two seconds for every commit', async t => {
  const clock = createManualClock();
  const commits = { delayMs: 0, waiting: 0, done: 0 };
  const slow = slowStore(createMemoryStore(), clock, () => commits.delayMs);
  const counting: Store = {
    ...slow,
    async commit(changes, expectations) {
      // The stamps of the link itself come by the clock, not by what is done here.
      const isStamp = changes.every(change => 'key' in change && change.key.startsWith('meta/'));
      if (isStamp) return slow.commit(changes, expectations);
      commits.waiting += 1;
      await slow.commit(changes, expectations).finally(() => (commits.waiting -= 1));
      commits.done += 1;
    },
  };
  const test = await startTestLink(t, { clock, store: counting });
  const keys = Array.from({ length: 20 }, () => newKey());
  for (const key of keys) await test.register(key);
  const [one, two] = [await test.online(keys[0] ?? newKey()), await test.online(keys[1] ?? newKey())];
  const [first, second] = [one, two].map(({ session }) => `${session.welcome.nodeId}`);
  commits.delayMs = 2_000;
  /** Two seconds pass once so many commits wait for them. */
  const pass = async (waiting: number): Promise<void> => {
    while (commits.waiting < waiting) await new Promise(resolve => setImmediate(resolve));
    clock.advance(2_000);
  };

  await t.test('twenty enrollments on a slow store take two seconds together, not each', async t => {
    const before = commits.done;
    const enrolling = Promise.all(keys.map(key => test.enroll(key)));
    await pass(20);
    t.equal((await enrolling).length, 20);
    t.equal(commits.done - before, 20, 'no certificate left before its commit was done');
  });

  await t.test('reads and pings continue during slow commits', async t => {
    const registering = test.register(newKey());
    while (commits.waiting < 1) await new Promise(resolve => setImmediate(resolve));
    t.equal(statusName(await test.control.getNode({ node: first ?? '' })), 'online');
    t.equal((await readiness(test)).status, 200);
    clock.advance(2_000);
    await registering;
    t.equal(statusName(await test.control.getNode({ node: second ?? '' })), 'online');
  });

  await t.test(
    'a revocation on a slow store is acknowledged when durable, and new sessions are refused meanwhile',
    async t => {
      const revoking = test.control.revokeNode({ node: first ?? '', comment: '' });
      while (commits.waiting < 1) await new Promise(resolve => setImmediate(resolve));
      const connection = await test.connect(one.enrollment);
      const opening = codeOf(sessionOn(connection));
      await pass(1);
      t.equal((await revoking).node?.status, 4);
      const end = await one.session.ended;
      t.equal(end.reason === 'ended' && end.error.code, 'NODE_REVOKED');
      t.match(await opening, /^(NODE_REVOKED|CERTIFICATE_REFUSED|LINK_UNREACHABLE)$/);
      await connection.close();
      t.equal(statusName(await test.control.getNode({ node: first ?? '' })), 'revoked');
    },
  );

  await t.test(
    'a node that leaves during slow commits is offline, and a new session opens once they are fast',
    async t => {
      const leaving = two.session.close();
      await pass(1);
      await leaving;
      t.equal((await test.until(second ?? '', 'offline')).reason, 'closed by node');
      commits.delayMs = 0;
      t.equal((await test.online(keys[2] ?? newKey())).session.welcome.nodeId > 0n, true);
    },
  );
});

/** The answer of /readyz. */
function readiness(test: TestLink): Promise<{ status: number; body: string }> {
  const { port } = test.link.addresses.control;
  return new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port, ca: test.ca, path: '/readyz', agent: false }, response => {
      let body = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (body += chunk));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
    }).on('error', reject);
  });
}

/** Resolves when the link has logged it. */
async function said(test: TestLink, message: string): Promise<void> {
  while (!test.logged.some(line => line.includes(message)))
    await new Promise(resolve => setImmediate(resolve));
}
