import { generateKeyPairSync } from 'node:crypto';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { isRollcallError } from '../../../src/base/errors.js';
import type { Log } from '../../../src/base/log.js';
import { systemRandom } from '../../../src/base/random.js';
import { parseSpki, type PublicKey } from '../../../src/identity/public-key.js';
import { createAudit } from '../../../src/link/audit/audit.js';
import { listEvents } from '../../../src/link/audit/query.js';
import { statusKey } from '../../../src/link/registry/node-keys.js';
import type { CertificateReference, NodeRecord } from '../../../src/link/registry/node-record.js';
import { Registry, type NodeQuery } from '../../../src/link/registry/registry.js';
import { cutoffKey } from '../../../src/link/tenant-mark.js';
import { createMemoryStore } from '../../../src/store/memory.js';
import { createPowerCutStore } from '../../../src/store/power-cut.js';
import type { Store } from '../../../src/store/store.js';
import { findInconsistencies } from './consistency.js';
import { pausingStore } from '../../harness/stores.js';
import { createManualClock, type ManualClock } from './manual-clock.js';
import { userParty } from '../../harness/parties.js';

const silent: Log = {
  trace: () => undefined,
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => silent,
};
const tenant = 'default';
const failure = new Error('the cable is out');
const startAt = 1_700_000_000_000;

function newKey(): PublicKey {
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return parseSpki(publicKey.export({ format: 'der', type: 'spki' }));
}

interface Rig {
  readonly store: Store;
  readonly clock: ManualClock;
  readonly registry: Registry;
}

function createRig(store: Store, clock = createManualClock(startAt), bounds = {}): Rig {
  const audit = createAudit({ clock });
  const registry = new Registry({ store, audit, clock, random: systemRandom, log: silent, ...bounds });
  return { store, clock, registry };
}

async function refuseInconsistencies(store: Store): Promise<void> {
  const found = await findInconsistencies(store);
  if (found.length > 0) throw new Error(found.join('; '));
}

/** A rig on a store in memory whose consistency is checked at the end. */
function open(test: Test, bounds = {}): Rig {
  const rig = createRig(createMemoryStore(), undefined, bounds);
  test.teardown(async () => {
    await rig.registry.close();
    await refuseInconsistencies(rig.store);
  });
  return rig;
}

function openOnPower(test: Test) {
  const power = createPowerCutStore();
  const rig = createRig(power.store);
  test.teardown(async () => {
    power.failWrites(undefined);
    power.failReads(undefined);
    await rig.registry.close();
    await refuseInconsistencies(power.store);
  });
  return { ...rig, power };
}

let certificates = 0;
function certificate(generation: bigint): CertificateReference {
  const number = ++certificates;
  return {
    fingerprint: `certificate ${number}`,
    serial: `${number}`,
    notBefore: startAt,
    notAfter: startAt + 3_600_000,
    generation,
    authority: 'a'.repeat(32),
  };
}

const said = { rememberedGeneration: 0n, address: '10.0.0.1:1', agentVersion: '0.1.0' };

async function enroll(registry: Registry, id: bigint, remembered = 0n): Promise<CertificateReference> {
  const record = await registry.issueCertificate(
    tenant,
    id,
    { ...said, rememberedGeneration: remembered },
    (_, generation) => certificate(generation),
  );
  if (!record.next) throw new Error('no certificate');
  return record.next;
}

function claimOf(session: bigint, { fingerprint }: CertificateReference) {
  return {
    session,
    certificateFingerprint: fingerprint,
    address: `10.0.0.1:${session}`,
    agentVersion: '0.1.0',
  };
}

const register = (registry: Registry, name = '', extra = {}): Promise<NodeRecord> =>
  registry.registerNode({ tenant, publicKey: newKey(), name, by: userParty('operator'), ...extra });

async function online(
  registry: Registry,
  session = 1n,
): Promise<{ node: NodeRecord; held: CertificateReference }> {
  const { id } = await register(registry);
  const held = await enroll(registry, id);
  return { node: await registry.openSession(tenant, id, claimOf(session, held)), held };
}

const eventTypes = async (store: Store): Promise<string[]> =>
  (await listEvents(store, tenant, { limit: 10_000 })).map(({ type }) => type);
const reasonsOf = async (registry: Registry, id: bigint): Promise<string[]> =>
  (await registry.listHistory(tenant, id)).transitions.map(({ status, reason }) => `${status}: ${reason}`);
const settle = () => new Promise(setImmediate);

/** Waits until every pending task has run. */
async function settleAll(): Promise<void> {
  for (let round = 0; round < 20; round++) await settle();
}

async function codesOf(promises: readonly Promise<unknown>[]): Promise<string[]> {
  const results = await Promise.allSettled(promises);
  return results.map(result =>
    result.status === 'fulfilled'
      ? 'ok'
      : isRollcallError(result.reason)
        ? result.reason.code
        : String(result.reason),
  );
}

void t.test('a registered node is found by id, key, name and text', async test => {
  const { registry, store } = open(test);
  const publicKey = newKey();
  const labels = { site: 'north' };
  const node = await registry.registerNode({
    tenant,
    publicKey,
    name: 'one',
    labels,
    by: userParty('operator'),
  });
  test.match(node, {
    status: 'created',
    reason: 'registered',
    name: 'one',
    labels,
    owner: '',
    registeredAt: startAt,
  });
  test.same(node.spki, publicKey.spki);
  test.same(await registry.findNode(tenant, node.id), node);
  test.same(await registry.findNodeByFingerprint(tenant, publicKey.fingerprint), node);
  for (const text of [`${node.id}`, 'one', publicKey.fingerprint]) {
    test.same(await registry.resolveNode(tenant, text), node);
  }
  for (const text of ['two', '0', '1', `${node.id}0`, 'SHA256:x', '', 'ä\n', '__proto__', 'x'.repeat(9999)]) {
    await test.rejects(registry.resolveNode(tenant, text), { code: 'NODE_NOT_FOUND' });
  }
  test.equal(await registry.findNode('other', node.id), undefined, 'another tenant sees nothing of it');
  test.equal(await registry.findNodeByFingerprint('other', publicKey.fingerprint), undefined);
  test.same(await eventTypes(store), ['node.registered']);
  test.same(await reasonsOf(registry, node.id), ['created: registered']);
});

void t.test('a key is registered once, and the refusal names the node that has it', async test => {
  const { registry } = open(test);
  const publicKey = newKey();
  const request = { tenant, publicKey, name: 'one', by: userParty('operator') };
  const racers = await codesOf(
    Array.from({ length: 20 }, () => registry.registerNode({ ...request, name: '' })),
  );
  test.equal(racers.filter(code => code === 'ok').length, 1);
  test.equal(racers.filter(code => code === 'NODE_ALREADY_REGISTERED').length, 19);
  const first = await registry.resolveNode(tenant, publicKey.fingerprint);
  await test.rejects(registry.registerNode(request), {
    code: 'NODE_ALREADY_REGISTERED',
    message: new RegExp(`${first.id}`),
  });
  await test.rejects(registry.registerNode({ ...request, again: true }), { code: 'NODE_ALREADY_REGISTERED' });
  await registry.registerNode({ ...request, tenant: 'other' });
});

void t.test('a revoked key is registered again only with the flag for it, as a new node', async test => {
  const { registry } = open(test);
  const request = { tenant, publicKey: newKey(), name: 'one', by: userParty('operator') };
  const first = await registry.registerNode(request);
  await registry.revokeNode(tenant, first.id, { by: userParty('operator'), comment: '' });
  await test.rejects(registry.registerNode(request), {
    code: 'NODE_ALREADY_REGISTERED',
    message: /node \d+ \(one\), which was revoked/,
    hint: /--again/,
  });
  const again = Array.from({ length: 5 }, () => registry.registerNode({ ...request, again: true }));
  test.equal((await codesOf(again)).filter(code => code === 'ok').length, 1);
  const second = await registry.resolveNode(tenant, request.publicKey.fingerprint);
  test.not(second.id, first.id);
  test.equal((await registry.resolveNode(tenant, 'one')).id, second.id);
  test.match(await registry.findNode(tenant, first.id), { status: 'revoked' });
});

void t.test(
  'a revoked key that is registered again keeps its name, unless another node has it',
  async test => {
    const { registry } = open(test);
    const by = userParty('operator');
    const keys = { one: newKey(), two: newKey() };
    const again = { tenant, publicKey: keys.one, by, again: true };
    const first = await registry.registerNode({ ...again, name: 'one' });
    await registry.revokeNode(tenant, first.id, { by, comment: '' });
    const second = await registry.registerNode(again);
    test.equal(second.name, 'one');
    test.equal((await registry.resolveNode(tenant, 'one')).id, second.id);
    await registry.revokeNode(tenant, second.id, { by, comment: '' });
    const third = await registry.registerNode({ ...again, name: 'other' });
    test.equal(third.name, 'other');
    await registry.revokeNode(tenant, third.id, { by, comment: '' });
    await registry.registerNode({ tenant, publicKey: keys.two, name: 'other', by });
    test.equal((await registry.registerNode(again)).name, '', 'another node has the name by now');
  },
);

void t.test('the beginning of an id, a name or a fingerprint finds a node when it is unique', async test => {
  const { registry } = open(test);
  const one = await register(registry, 'press-31');
  const two = await register(registry, 'press-32');
  const three = await register(registry, 'mill');
  const find = (text: string) => registry.resolveNodeByPrefix(tenant, text);
  for (const node of [one, two, three]) {
    test.same(await find(`${node.id}`), node);
    test.same(await find(`${node.id}`.slice(0, -1)), node);
    test.same(await find(node.fingerprint.slice(0, 30)), node);
  }
  test.same(await find('m'), three);
  test.same(await find('press-31'), one);
  await test.rejects(find('press-'), {
    code: 'REQUEST_INVALID',
    message: 'several nodes begin with "press-"',
    hint: new RegExp(`^type more of the one you mean: .*${one.id} \\(press-31\\)`),
  });
  const named = await register(registry, 'press');
  test.same(await find('press'), named, 'a whole name counts before a beginning');
  for (const text of ['', 'ress', 'SHA256:xxxxxxxxxxxxxxx', 'ä', '0', '00', `${one.id}0`, 'x'.repeat(9999)])
    await test.rejects(find(text), { code: 'NODE_NOT_FOUND' }, text);
  await test.rejects(registry.resolveNodeByPrefix('other', 'm'), { code: 'NODE_NOT_FOUND' });
});

void t.test('a revoked node can be deleted, and remains in the audit log only', async test => {
  const { registry, store } = open(test);
  const by = userParty('operator');
  const request = { tenant: 'ward', publicKey: newKey(), name: 'one', by };
  const { id } = await registry.registerNode(request);
  await registry.countNodes('ward');
  await test.rejects(registry.deleteNode('ward', id, by), {
    code: 'REQUEST_INVALID',
    message: /is not revoked/,
  });
  await registry.revokeNode('ward', id, { by, comment: '' });
  test.match(await registry.deleteNode('ward', id, by), { id, name: 'one', status: 'revoked' });
  test.equal(await registry.findNode('ward', id), undefined);
  for (const text of [`${id}`, 'one', request.publicKey.fingerprint])
    await test.rejects(registry.resolveNode('ward', text), { code: 'NODE_NOT_FOUND' }, text);
  test.same((await registry.listNodes('ward')).nodes, []);
  test.match(await registry.countNodes('ward'), { created: 0, revoked: 0 });
  const left = (await store.list({ prefix: '' })).map(({ key }) => key);
  test.same(
    left.filter(key => !key.includes('/audit')),
    [],
    'the store holds nothing else of it',
  );
  const events = (await listEvents(store, 'ward', { limit: 10 })).slice(-1);
  const { fingerprint } = request.publicKey;
  test.match(events, [{ type: 'node.deleted', subject: `${id}`, detail: { name: 'one', fingerprint } }]);
  for (const deed of [
    () => registry.deleteNode('ward', id, by),
    () => registry.revokeNode('ward', id, { by, comment: '' }),
  ])
    await test.rejects(deed(), { code: 'NODE_NOT_FOUND' });
  const held = certificate(1n);
  await test.rejects(registry.openSession('ward', id, claimOf(1n, held)), { code: 'CERTIFICATE_REFUSED' });
  const again = await registry.registerNode(request);
  test.not(again.id, id, 'its key is registered again as a new node, without a word');
});

void t.test('deleting a node keeps the name or key that another node has taken over', async test => {
  const { registry } = open(test);
  const by = userParty('operator');
  const request = { tenant, publicKey: newKey(), name: 'one', by };
  const first = await registry.registerNode(request);
  await registry.revokeNode(tenant, first.id, { by, comment: '' });
  const heir = await registry.registerNode({ ...request, again: true });
  await registry.deleteNode(tenant, first.id, by);
  for (const text of ['one', request.publicKey.fingerprint])
    test.equal((await registry.resolveNode(tenant, text)).id, heir.id, text);
});

void t.test('a key that is taken over while its node is deleted stays with the new node', async test => {
  for (const first of ['deleted', 'registered again'] as const) {
    const pausing = pausingStore(createMemoryStore());
    const { registry } = createRig(pausing.store);
    test.teardown(() => registry.close());
    const by = userParty('operator');
    const request = { tenant, publicKey: newKey(), name: 'one', by };
    const { id } = await registry.registerNode(request);
    await registry.revokeNode(tenant, id, { by, comment: '' });
    const remove = () => registry.deleteNode(tenant, id, by);
    const register = () => registry.registerNode({ ...request, again: true });
    const paused = pausing.pause();
    const held = first === 'deleted' ? register() : remove();
    await paused.held;
    await (first === 'deleted' ? remove() : register());
    paused.resume();
    await held;
    const heir = await registry.resolveNode(tenant, request.publicKey.fingerprint);
    test.not(heir.id, id, `${first} first`);
    test.equal((await registry.resolveNode(tenant, 'one')).id, heir.id);
    test.equal(await registry.findNode(tenant, id), undefined);
    test.same(await findInconsistencies(pausing.store), []);
  }
});

void t.test('a name belongs to one node, and is free once that node is revoked', async test => {
  const { registry } = open(test);
  const first = await register(registry, 'one');
  await test.rejects(register(registry, 'one'), {
    code: 'NODE_NAME_TAKEN',
    message: new RegExp(`${first.id}`),
  });
  const racers = await codesOf(Array.from({ length: 10 }, () => register(registry, 'two')));
  test.equal(racers.filter(code => code === 'ok').length, 1);
  test.equal(racers.filter(code => code === 'NODE_NAME_TAKEN').length, 9);
  await registry.revokeNode(tenant, first.id, { by: userParty('operator'), comment: '' });
  test.equal(
    (await registry.resolveNode(tenant, 'one')).id,
    first.id,
    'the revoked one can still be asked for',
  );
  const heir = await register(registry, 'one');
  test.equal((await registry.resolveNode(tenant, 'one')).id, heir.id);
  await test.rejects(register(registry, 'one'), { code: 'NODE_NAME_TAKEN' });
  await test.rejects(register(registry, '123'), { code: 'REQUEST_INVALID' });
  await test.rejects(register(registry, '', { labels: { 'a b': '' } }), { code: 'REQUEST_INVALID' });
});

void t.test(
  'created, online, offline, online, revoked: each has its since, reason, history and event',
  async test => {
    const { registry, store, clock } = open(test);
    const { id } = await register(registry);
    const held = await enroll(registry, id);
    test.match(await registry.findNode(tenant, id), {
      status: 'created',
      issuedGeneration: 1n,
      confirmedGeneration: 0n,
    });
    clock.advance(1000);
    const first = await registry.openSession(tenant, id, claimOf(1n, held));
    test.match(first, {
      status: 'online',
      sinceAt: startAt + 1000,
      reason: 'connected',
      session: 1n,
      address: '10.0.0.1:1',
    });
    test.match(first, { confirmedGeneration: 1n, current: held });
    clock.advance(1000);
    test.equal(
      await registry.closeSession(tenant, id, 2n, { reason: 'no answer' }),
      false,
      'not its session',
    );
    test.equal(await registry.closeSession(tenant, id, 1n, { reason: 'no answer', detail: '4 s' }), true);
    test.equal(await registry.closeSession(tenant, id, 1n, { reason: 'no answer' }), false, 'only once');
    test.match(await registry.findNode(tenant, id), {
      status: 'offline',
      sinceAt: startAt + 2000,
      reason: 'no answer',
    });
    await registry.openSession(tenant, id, claimOf(3n, held));
    const revoked = await registry.revokeNode(tenant, id, { by: userParty('admin'), comment: 'sold' });
    test.match(revoked, { status: 'revoked', reason: 'revoked' });
    test.same(
      await registry.revokeNode(tenant, id, { by: userParty('admin'), comment: 'again' }),
      revoked,
      'twice is once',
    );
    await test.rejects(registry.openSession(tenant, id, claimOf(4n, held)), { code: 'NODE_REVOKED' });
    await test.rejects(enroll(registry, id), { code: 'NODE_REVOKED' });
    test.equal(await registry.closeSession(tenant, id, 3n, { reason: 'connection lost' }), false);
    const { transitions } = await registry.listHistory(tenant, id);
    test.same(
      transitions.map(({ at, status, reason, detail }) => [at - startAt, status, reason, detail]),
      [
        [2000, 'revoked', 'revoked', 'sold'],
        [2000, 'online', 'connected', ''],
        [2000, 'offline', 'no answer', '4 s'],
        [1000, 'online', 'connected', ''],
        [0, 'created', 'registered', ''],
      ],
    );
    const types = ['registered', 'enrolled', 'connected', 'closed', 'connected', 'revoked'];
    test.same(
      await eventTypes(store),
      types.map(type => `node.${type}`),
    );
    const calls: Promise<unknown>[] = [
      registry.revokeNode(tenant, 1n, { by: userParty('x'), comment: '' }),
      registry.closeSession(tenant, 1n, 1n, { reason: 'no answer' }),
      registry.listHistory(tenant, 1n),
      enroll(registry, 1n),
    ];
    for (const call of calls) {
      await test.rejects(call, { code: 'NODE_NOT_FOUND' });
    }
    const session = registry.openSession(tenant, 1n, claimOf(1n, held));
    await test.rejects(session, { code: 'CERTIFICATE_REFUSED' }, 'it is to come with its key');
  },
);

void t.test(
  'the next certificate becomes current when it is first used, and a superseded one is refused',
  async test => {
    const { registry } = open(test);
    const { id } = await register(registry);
    const first = await enroll(registry, id);
    const second = await enroll(registry, id);
    await test.rejects(registry.openSession(tenant, id, claimOf(1n, first)), { code: 'CERTIFICATE_REFUSED' });
    await registry.openSession(tenant, id, claimOf(1n, second));
    const third = await enroll(registry, id, 2n);
    await registry.openSession(tenant, id, claimOf(2n, second));
    test.match(await registry.findNode(tenant, id), {
      session: 2n,
      reason: 'replaced',
      next: third,
      current: second,
    });
    await registry.openSession(tenant, id, { ...claimOf(3n, third), takeover: 'handover' });
    const node = await registry.findNode(tenant, id);
    test.match(node, {
      session: 3n,
      current: third,
      confirmedGeneration: 3n,
      status: 'online',
      sinceAt: startAt,
    });
    test.notOk(node?.next);
    await test.rejects(registry.openSession(tenant, id, claimOf(4n, second)), {
      code: 'CERTIFICATE_REFUSED',
    });
    test.equal(
      await registry.closeSession(tenant, id, 2n, { reason: 'connection lost' }),
      false,
      'a ghost does not close it',
    );
    test.same(await reasonsOf(registry, id), [
      'online: replaced',
      'online: connected',
      'created: registered',
    ]);
  },
);

void t.test('a clone is detected by the generation it remembers', async test => {
  const { registry, store } = open(test);
  const { node, held } = await online(registry);
  await enroll(registry, node.id, held.generation);
  test.notOk((await eventTypes(store)).includes('node.clone-suspected'));
  const next = await enroll(registry, node.id, 2n);
  await registry.openSession(tenant, node.id, claimOf(2n, next));
  await enroll(registry, node.id, 1n);
  const events = await listEvents(store, tenant, { limit: 100 });
  test.match(
    events.filter(({ type }) => type === 'node.clone-suspected'),
    [
      {
        subject: `${node.id}`,
        detail: { remembered: '1', confirmed: '3', issued: '3', address: '10.0.0.1:1' },
      },
    ],
  );
});

void t.test('a revocation wins every race, also against another process', async test => {
  const store = createMemoryStore();
  const clock = createManualClock(startAt);
  const here = createRig(store, clock).registry;
  const there = createRig(store, clock).registry;
  for (let round = 0; round < 30; round++) {
    const { id } = await register(here);
    const held = await enroll(here, id);
    const racing = [
      () => there.openSession(tenant, id, claimOf(1n, held)),
      () => here.openSession(tenant, id, claimOf(2n, held)),
      () => enroll(there, id),
      () => here.closeSession(tenant, id, 1n, { reason: 'connection lost' }),
      () => there.closeSession(tenant, id, 2n, { reason: 'connection lost' }),
    ].map(each => each());
    const revoking = here.revokeNode(tenant, id, { by: userParty('admin'), comment: '' });
    const codes = await codesOf([...racing, revoking]);
    test.equal(codes.at(-1), 'ok');
    test.same(
      codes.filter(code => !['ok', 'NODE_REVOKED', 'CERTIFICATE_REFUSED'].includes(code)),
      [],
    );
    const node = await there.findNode(tenant, id);
    test.equal(node?.status, 'revoked');
    test.notOk(node?.session ?? node?.next ?? node?.current);
  }
  test.same(await findInconsistencies(store), []);
});

interface Race {
  /** A node that is online by session 1 and has another certificate issued. */
  readonly node: NodeRecord;
  readonly held: CertificateReference;
  readonly next: CertificateReference;
  readonly publicKey: PublicKey;
  readonly deleteTenant: () => Promise<void>;
}

/** A decision, the change of its input before the commit, and the expected outcome. */
const races: readonly {
  readonly title: string;
  readonly first: (registry: Registry, race: Race) => Promise<unknown>;
  readonly meanwhile: (registry: Registry, race: Race) => Promise<unknown>;
  readonly comesOf: string;
  readonly history: readonly string[];
}[] = [
  {
    title: 'a certificate is issued, and the node is revoked',
    first: (registry, { node }) => enroll(registry, node.id),
    meanwhile: (registry, { node }) => revoked(registry, node),
    comesOf: 'NODE_REVOKED',
    history: ['revoked: revoked', 'online: connected'],
  },
  {
    title: 'a session opens, and the node is revoked',
    first: (registry, { node, next }) => registry.openSession(tenant, node.id, claimOf(2n, next)),
    meanwhile: (registry, { node }) => revoked(registry, node),
    comesOf: 'NODE_REVOKED',
    history: ['revoked: revoked', 'online: connected'],
  },
  {
    title: 'a session opens, and its certificate is superseded',
    first: (registry, { node, held }) => registry.openSession(tenant, node.id, claimOf(2n, held)),
    meanwhile: (registry, { node, next }) => registry.openSession(tenant, node.id, claimOf(3n, next)),
    comesOf: 'CERTIFICATE_REFUSED',
    history: ['online: replaced', 'online: connected'],
  },
  {
    title: 'a session opens, and another certificate is issued',
    first: (registry, { node, held }) => registry.openSession(tenant, node.id, claimOf(2n, held)),
    meanwhile: (registry, { node }) => enroll(registry, node.id),
    comesOf: 'ok',
    history: ['online: replaced', 'online: connected'],
  },
  {
    title: 'a session closes, and a newer one has taken over',
    first: (registry, { node }) => registry.closeSession(tenant, node.id, 1n, { reason: 'connection lost' }),
    meanwhile: (registry, { node, next }) => registry.openSession(tenant, node.id, claimOf(2n, next)),
    comesOf: 'ok',
    history: ['online: replaced', 'online: connected'],
  },
  {
    title: 'a node is revoked, and its session closes',
    first: (registry, { node }) => revoked(registry, node),
    meanwhile: (registry, { node }) =>
      registry.closeSession(tenant, node.id, 1n, { reason: 'closed by node' }),
    comesOf: 'ok',
    history: ['revoked: revoked', 'offline: closed by node'],
  },
  {
    title: 'a node is revoked, and somebody else has revoked it',
    first: (registry, { node }) => revoked(registry, node),
    meanwhile: (registry, { node }) => revoked(registry, node),
    comesOf: 'ok',
    history: ['revoked: revoked', 'online: connected'],
  },
  {
    title: 'a restart marks nodes as offline, and the session has closed',
    first: registry => registry.recover(startAt),
    meanwhile: (registry, { node }) =>
      registry.closeSession(tenant, node.id, 1n, { reason: 'closed by node' }),
    comesOf: 'ok',
    history: ['offline: closed by node', 'online: connected'],
  },
  {
    title: 'a key is registered, and somebody else has registered it',
    first: (registry, { publicKey }) => register(registry, '', { publicKey }),
    meanwhile: (registry, { publicKey }) => register(registry, '', { publicKey }),
    comesOf: 'NODE_ALREADY_REGISTERED',
    history: ['online: connected'],
  },
  {
    title: 'a name is given, and somebody else has it',
    first: registry => register(registry, 'lathe'),
    meanwhile: registry => register(registry, 'lathe'),
    comesOf: 'NODE_NAME_TAKEN',
    history: ['online: connected'],
  },
  ...(
    [
      ['a certificate is issued', 'NODE_REVOKED', (registry, { node }) => enroll(registry, node.id)],
      [
        'a session opens',
        'NODE_REVOKED',
        (registry, { node, next }) => registry.openSession(tenant, node.id, claimOf(2n, next)),
      ],
      ['a key is registered', 'NOT_FOUND', registry => register(registry)],
    ] as const satisfies readonly (readonly [string, string, (registry: Registry, race: Race) => unknown])[]
  ).map(([title, comesOf, first]) => ({
    ...{ title: `${title}, and the tenant is deleted`, comesOf, first },
    meanwhile: (_: Registry, { deleteTenant }: Race) => deleteTenant(),
    history: ['online: connected'],
  })),
];

/** As in the record of a tenant; an older record has the time alone. */
const cutoffIs = (store: Store, record: { before: number; deletedAt?: number }): Promise<void> =>
  store.commit([{ type: 'put', key: cutoffKey(tenant), value: Buffer.from(JSON.stringify(record)) }]);

const revoked = (registry: Registry, { id }: NodeRecord): Promise<unknown> =>
  registry.revokeNode(tenant, id, { by: userParty('x'), comment: '' });

for (const { title, first, meanwhile, comesOf, history } of races) {
  void t.test(`race between a read and its commit: ${title}`, async test => {
    const memory = createMemoryStore();
    const pausing = pausingStore(memory);
    const { registry } = createRig(pausing.store);
    const { registry: other } = createRig(memory);
    const { node, held } = await online(registry);
    await cutoffIs(memory, { before: startAt });
    const race: Race = {
      ...{ node, held, next: await enroll(registry, node.id), publicKey: newKey() },
      deleteTenant: () => cutoffIs(memory, { before: startAt, deletedAt: startAt }),
    };
    const paused = pausing.pause();
    const outcome = codesOf([first(registry, race)]);
    await paused.held;
    await meanwhile(other, race);
    paused.resume();
    test.same(await outcome, [comesOf]);
    test.same((await reasonsOf(other, node.id)).slice(0, history.length), history);
    await refuseInconsistencies(memory);
  });
}

void t.test(
  'all nodes of a tenant are revoked in batches, whatever their status at the beginning',
  async test => {
    const { registry, store } = open(test);
    const { node } = await online(registry);
    const gone = await register(registry, 'gone');
    await revoked(registry, gone);
    const left = await online(registry);
    await registry.closeSession(tenant, left.node.id, 1n, { reason: 'connection lost' });
    for (let count = 0; count < 3; count++) await register(registry);
    const by = { by: userParty('boss'), comment: 'the tenant was deleted' };
    await registry.revokeAll(tenant, by, () => false);
    test.match(await registry.countNodes(tenant), { revoked: 1, created: 3, online: 1, offline: 1 });
    let asked = 0;
    await registry.revokeAll(tenant, by, () => ++asked <= 2);
    test.match(await registry.countNodes(tenant), { revoked: 4, created: 0, online: 1, offline: 1 });
    await registry.revokeAll(tenant, by, () => true);
    test.match(await registry.countNodes(tenant), { revoked: 6, created: 0, online: 0, offline: 0 });
    const events = await listEvents(store, tenant, { limit: 100 });
    const told = events.filter(({ type }) => type === 'node.revoked');
    test.match(told[told.length - 1], {
      by: { name: 'boss' },
      detail: { comment: 'the tenant was deleted' },
    });
    test.equal(told.filter(({ subject }) => subject === `${node.id}`).length, 1);
    await registry.revokeAll(tenant, by, () => true);
    test.equal(
      (await listEvents(store, tenant, { limit: 100 })).length,
      events.length,
      'again changes nothing',
    );
  },
);

void t.test('a revocation prevents the commit of a certificate that is being signed', async test => {
  const store = createMemoryStore();
  const clock = createManualClock(startAt);
  const here = createRig(store, clock).registry;
  const there = createRig(store, clock).registry;
  const { id } = await register(here);
  const issuing = here.issueCertificate(tenant, id, said, async (_, generation) => {
    await there.revokeNode(tenant, id, { by: userParty('admin'), comment: '' });
    return certificate(generation);
  });
  await test.rejects(issuing, { code: 'NODE_REVOKED' });
  test.match(await here.findNode(tenant, id), { status: 'revoked', issuedGeneration: 0n });
  const other = await register(here);
  let calls = 0n;
  const record = await here.issueCertificate(tenant, other.id, said, async (_, generation) => {
    if (++calls === 1n) await enroll(there, other.id);
    return certificate(generation);
  });
  test.equal(record.next?.generation, 2n, 'made anew after a conflict');
  test.same(await findInconsistencies(store), []);
});

void t.test('paging lists every node once, in the order of ids, with every filter', async test => {
  const { registry } = open(test);
  const nodes: NodeRecord[] = [];
  for (let index = 0; index < 60; index++) {
    const labels = { site: index % 2 ? 'North' : 'south', constructor: 'x' };
    nodes.push(await register(registry, index % 5 ? '' : `name-${index}`, { labels }));
  }
  for (const { id } of nodes.slice(0, 20))
    await registry.revokeNode(tenant, id, { by: userParty('x'), comment: '' });
  for (const [index, { id }] of nodes.slice(20, 30).entries()) {
    await registry.openSession(tenant, id, claimOf(BigInt(index + 1), await enroll(registry, id)));
  }
  async function all(query: NodeQuery): Promise<bigint[]> {
    const found: bigint[] = [];
    for (let pageToken = ''; ;) {
      const page = await registry.listNodes(tenant, { ...query, pageToken });
      found.push(...page.nodes.map(({ id }) => id));
      pageToken = page.nextPageToken;
      if (pageToken === '') return found;
      test.ok(page.nodes.length === query.pageSize, 'only the last page is short');
    }
  }
  const ids = (part: readonly NodeRecord[]) =>
    part.map(({ id }) => id).sort((one, other) => (one < other ? -1 : 1));
  for (const pageSize of [1, 7, 10, 60, 1000]) {
    test.same(await all({ pageSize }), ids(nodes));
    test.same(await all({ pageSize, statuses: ['revoked'] }), ids(nodes.slice(0, 20)));
    test.same(await all({ pageSize, statuses: ['online', 'revoked', 'online'] }), ids(nodes.slice(0, 30)));
    test.same(await all({ pageSize, statuses: ['pending'] }), []);
    const north = nodes.filter((_, index) => index % 2);
    test.same(await all({ pageSize, labels: { site: 'North' } }), ids(north));
    test.same(await all({ pageSize, text: 'NORTH', statuses: ['created'] }), ids(north.slice(15)));
    test.same(await all({ pageSize, text: 'name-' }), ids(nodes.filter((_, index) => index % 5 === 0)));
    test.same(await all({ pageSize, labels: { toString: 'x' } }), []);
  }
  const one = nodes[33];
  test.same(await all({ text: one?.fingerprint.toLowerCase() }), [one?.id]);
  test.same(await all({ text: `${one?.id}`.slice(2) }), [one?.id]);
  const { nextPageToken } = await registry.listNodes(tenant, { pageSize: 10 });
  const refused = { code: 'REQUEST_INVALID' };
  await test.rejects(registry.listNodes(tenant, { pageToken: nextPageToken, text: 'x' }), refused);
  await test.rejects(registry.listNodes('other', { pageToken: nextPageToken }), refused);
  await test.rejects(registry.listNodes(tenant, { pageToken: `${nextPageToken}A` }), refused);
  await test.rejects(registry.listNodes(tenant, { pageSize: 1001 }), refused);
});

void t.test('paging continues while nodes are added and changed', async test => {
  const { registry } = open(test);
  const nodes = await Promise.all(Array.from({ length: 40 }, () => register(registry)));
  const seen = new Set<bigint>();
  for (let pageToken = ''; ;) {
    const page = await registry.listNodes(tenant, { pageSize: 7, pageToken });
    for (const { id } of page.nodes) {
      test.notOk(seen.has(id));
      seen.add(id);
    }
    await register(registry);
    await registry.revokeNode(tenant, nodes[seen.size % 40]?.id ?? 0n, { by: userParty('x'), comment: '' });
    pageToken = page.nextPageToken;
    if (pageToken === '') break;
  }
  test.ok(nodes.every(({ id }) => seen.has(id)));
});

void t.test('one page of nodes reads a bounded number of records and returns a token', async test => {
  const { registry, store } = open(test);
  const first = await register(registry, '', { labels: { find: 'me' } });
  const [entry] = await store.list({ prefix: 't/default/node/' });
  const text = Buffer.from(entry?.value ?? [])
    .toString()
    .replaceAll('"find"', '"lost"');
  const other = createMemoryStore();
  const changes = Array.from({ length: 21_000 }, (_, index) => {
    const id = BigInt(index + 1);
    const value = Buffer.from(text.replaceAll(`"${first.id}"`, `"${id}"`));
    return { type: 'put', key: `t/default/node/${`${id}`.padStart(20, '0')}`, value } as const;
  });
  await other.commit(changes);
  const page = await createRig(other).registry.listNodes(tenant, { labels: { find: 'me' } });
  test.same(page.nodes, []);
  test.not(page.nextPageToken, '');
  const query = { labels: { find: 'me' }, pageToken: page.nextPageToken };
  test.same(await createRig(other).registry.listNodes(tenant, query), { nodes: [], nextPageToken: '' });
});

void t.test('history is paged, newest first, and bounded in number and age', async test => {
  const { registry, clock, store } = open(test, { historyLimit: 10, historyDays: 2 });
  const { node, held } = await online(registry);
  for (let session = 1n; session < 20n; session++) {
    clock.advance(1000);
    await registry.closeSession(tenant, node.id, session, { reason: 'no answer', detail: `of ${session}` });
    await registry.openSession(tenant, node.id, claimOf(session + 1n, held));
  }
  const reasons: string[] = [];
  for (let pageToken = ''; ;) {
    const page = await registry.listHistory(tenant, node.id, { pageSize: 3, pageToken });
    reasons.push(...page.transitions.map(({ reason, detail }) => `${reason} ${detail}`));
    pageToken = page.nextPageToken;
    if (pageToken === '') break;
  }
  test.equal(reasons.length, 10);
  test.same(reasons.slice(0, 4), ['connected ', 'no answer of 19', 'connected ', 'no answer of 18']);
  clock.advance(3 * 86_400_000);
  await registry.closeSession(tenant, node.id, 20n, { reason: 'no answer' });
  await registry.openSession(tenant, node.id, claimOf(21n, held));
  await registry.closeSession(tenant, node.id, 21n, { reason: 'connection lost' });
  test.same(await reasonsOf(registry, node.id), [
    'offline: connection lost',
    'online: connected',
    'offline: no answer',
  ]);
  test.equal((await store.list({ prefix: 't/default/history/' })).length, 3);
  const other = await register(registry);
  const { nextPageToken } = await registry.listHistory(tenant, node.id, { pageSize: 1 });
  await test.rejects(registry.listHistory(tenant, other.id, { pageToken: nextPageToken }), {
    code: 'REQUEST_INVALID',
  });
});

void t.test(
  'after a restart every node that was online is offline since the link was last alive',
  async test => {
    const { registry, store, clock } = open(test);
    const nodes = [await online(registry), await online(registry)];
    const resting = await register(registry);
    await registry.registerNode({ tenant: 'other', publicKey: newKey(), by: userParty('x') });
    const aliveAt = clock.now() + 7000;
    clock.advance(3_600_000);
    const { registry: again } = createRig(store, clock);
    test.equal(await again.recover(aliveAt), 2);
    for (const { node } of nodes) {
      test.match(await again.findNode(tenant, node.id), {
        status: 'offline',
        sinceAt: aliveAt,
        reason: 'link restarted',
      });
      test.equal((await reasonsOf(again, node.id))[0], 'offline: link restarted');
    }
    test.match(await again.findNode(tenant, resting.id), { status: 'created' });
    test.equal(await again.recover(aliveAt), 0);
  },
);

void t.test('watchers get every transition, and counts are updated', async test => {
  const { registry } = open(test);
  const early = await register(registry);
  const heard: string[] = [];
  const stop = registry.watchNodes(tenant, ({ status, reason }) => heard.push(`${status}: ${reason}`));
  const [counts] = await Promise.all([registry.countNodes(tenant), register(registry), register(registry)]);
  test.ok(counts.created >= 1);
  test.match(await registry.countNodes(tenant), { created: 3, online: 0 });
  const { node } = await online(registry);
  await registry.closeSession(tenant, node.id, 1n, { reason: 'closed by node' });
  await registry.revokeNode(tenant, early.id, { by: userParty('x'), comment: '' });
  await registry.registerNode({ tenant: 'other', publicKey: newKey(), by: userParty('x') });
  const wanted = ['created: registered', 'created: registered', 'created: registered'];
  wanted.push('online: connected', 'offline: closed by node', 'revoked: revoked');
  test.same(heard, wanted);
  test.match(await registry.countNodes(tenant), {
    created: 2,
    online: 0,
    offline: 1,
    revoked: 1,
    pending: 0,
  });
  test.match(await registry.countNodes('other'), { created: 1 });
  test.match(await registry.countNodes('none'), { created: 0 });
  stop();
  await register(registry);
  test.same(heard, wanted);
});

void t.test('counts of nodes are right although nodes change during the count', async test => {
  const store = createMemoryStore();
  const { registry } = createRig(store);
  // More than a page of index entries, between which the real nodes lie.
  const step = 2n ** 64n / 5600n;
  const keys = Array.from({ length: 5500 }, (_, index) =>
    statusKey(tenant, 'created', BigInt(index + 1) * step),
  );
  await store.commit(keys.map(key => ({ type: 'put', key, value: Buffer.alloc(0) })));
  const nodes = await Promise.all(Array.from({ length: 50 }, () => register(registry)));
  nodes.sort((one, other) => (one.id < other.id ? -1 : 1));
  const slow: Store = {
    ...store,
    async list(range) {
      const entries = await store.list(range);
      if (range.prefix.endsWith('status/')) {
        // Between the reading of a page and its arrival.
        await registry.revokeNode(tenant, nodes.pop()?.id ?? 0n, { by: userParty('x'), comment: '' });
        await registry.revokeNode(tenant, nodes.shift()?.id ?? 0n, { by: userParty('x'), comment: '' });
        await register(registry);
      }
      return entries;
    },
  };
  const counted = await createRig(slow).registry.countNodes(tenant);
  const total = async (status: 'created' | 'revoked') =>
    (await store.list({ prefix: `t/default/status/${status}/` })).length;
  test.equal(counted.created, await total('created'));
  test.equal(counted.revoked, await total('revoked'));
  test.ok(counted.revoked > 2);
});

void t.test('a thousand sessions that end at once share their syncs', async test => {
  const { registry, power } = openOnPower(test);
  const nodes = await Promise.all(Array.from({ length: 1000 }, () => online(registry)));
  const before = power.syncs();
  await Promise.all(
    nodes.map(({ node }) => registry.closeSession(tenant, node.id, 1n, { reason: 'link stopped' })),
  );
  test.ok(power.syncs() - before <= 10, `${power.syncs() - before} syncs`);
  test.match(await registry.countNodes(tenant), { offline: 1000, online: 0 });
});

void t.test(
  'presence stays right while the store cannot be written, and is written afterwards',
  async test => {
    const { registry, power, clock, store } = openOnPower(test);
    const { node, held } = await online(registry);
    const other = await online(registry);
    const { id } = node;
    const fresh = await enroll(registry, id, 1n);
    await registry.countNodes(tenant);
    const heard: string[] = [];
    registry.watchNodes(tenant, record => heard.push(`${record.status}: ${record.reason}`));

    power.failWrites(failure);
    clock.advance(100);
    test.equal(await registry.closeSession(tenant, id, 1n, { reason: 'connection lost' }), true);
    test.match(await registry.findNode(tenant, id), {
      status: 'offline',
      reason: 'connection lost',
      sinceAt: startAt + 100,
    });
    test.notOk((await registry.findNode(tenant, id))?.session);
    const list = async (query: NodeQuery) =>
      (await registry.listNodes(tenant, query)).nodes.map(each => each.id);
    test.same(await list({ statuses: ['online'] }), [other.node.id]);
    test.same(await list({ statuses: ['offline'] }), [id]);
    test.same(await list({ statuses: ['created'] }), []);
    test.match(
      (await registry.listNodes(tenant, {})).nodes.find(each => each.id === id),
      { status: 'offline' },
    );
    test.match(await registry.countNodes(tenant), { online: 1, offline: 1 });
    test.same((await reasonsOf(registry, id)).slice(0, 2), ['offline: connection lost', 'online: connected']);

    await test.rejects(registry.openSession(tenant, id, claimOf(9n, certificate(9n))), {
      code: 'CERTIFICATE_REFUSED',
    });
    const back = await registry.openSession(tenant, id, claimOf(2n, fresh));
    test.match(back, { status: 'online', session: 2n, current: fresh, confirmedGeneration: 2n });
    await test.rejects(registry.openSession(tenant, id, claimOf(3n, held)), { code: 'CERTIFICATE_REFUSED' });
    test.match(await registry.findNode(tenant, id), { status: 'online', session: 2n });
    const attempts: Promise<unknown>[] = [enroll(registry, id), register(registry)];
    for (const refused of attempts) {
      await test.rejects(refused, { code: 'STORE_UNAVAILABLE' });
    }
    clock.advance(5000);
    await settleAll();
    const stored = await store.list({ prefix: 't/default/history/' });
    power.failWrites(undefined);
    clock.advance(1000);
    await settleAll();
    test.equal(
      (await store.list({ prefix: 't/default/history/' })).length,
      stored.length + 2,
      'each written once',
    );
    const { registry: witness } = createRig(store);
    test.match(await witness.findNode(tenant, id), { status: 'online', session: 2n, current: fresh });
    const wanted = ['offline: connection lost', 'online: connected'];
    test.same(heard, [...wanted, 'online: connected'], 'told at once, and once more when written');
    test.same((await reasonsOf(witness, id)).slice(0, 2), wanted.toReversed());
    test.match(await registry.countNodes(tenant), { online: 2, offline: 0 });
    clock.advance(10_000);
    await settleAll();
    test.equal(
      (await store.list({ prefix: 't/default/history/' })).length,
      stored.length + 2,
      'and never again',
    );
  },
);

void t.test('a revocation takes effect at once although the store cannot be written', async test => {
  const { registry, power, clock, store } = openOnPower(test);
  const { node, held } = await online(registry);
  const { id } = node;
  power.failWrites(failure);
  const revoking = registry.revokeNode(tenant, id, { by: userParty('x'), comment: 'lost' });
  await test.rejects(revoking, { code: 'STORE_UNAVAILABLE' }, 'the caller is told that it is not durable');
  test.match(await registry.findNode(tenant, id), { status: 'revoked', reason: 'revoked' });
  await test.rejects(registry.openSession(tenant, id, claimOf(9n, held)), { code: 'NODE_REVOKED' });
  await test.rejects(enroll(registry, id), { code: 'NODE_REVOKED' });
  power.failWrites(undefined);
  clock.advance(1000);
  await settleAll();
  const { registry: witness } = createRig(store);
  test.match(await witness.findNode(tenant, id), { status: 'revoked' });
  test.same((await reasonsOf(witness, id))[0], 'revoked: revoked');
  test.same(await findInconsistencies(store), []);
});

void t.test(
  'a revocation that is not stored yet is retried by each later one, which reports it',
  async test => {
    const { registry, power } = openOnPower(test);
    const { node } = await online(registry);
    const { id } = node;
    power.failWrites(failure);
    const revoke = (comment: string) => registry.revokeNode(tenant, id, { by: userParty('x'), comment });
    await test.rejects(revoke('lost'), { code: 'STORE_UNAVAILABLE' });
    await test.rejects(revoke('again'), { code: 'STORE_UNAVAILABLE' }, 'nothing is stored yet');
    test.match(await registry.findNode(tenant, id), { status: 'revoked', reason: 'revoked, not stored yet' });
    power.failWrites(undefined);
    test.match(await revoke('once more'), { status: 'revoked' });
    const { registry: witness } = createRig(power.cut());
    test.match(await witness.findNode(tenant, id), { status: 'revoked', reason: 'revoked' });
    test.same((await witness.listHistory(tenant, id)).transitions[0]?.detail, 'lost', 'as it was first said');
  },
);

void t.test(
  'a pending revocation is written before its key or its name is given to another node',
  async test => {
    const { registry, power } = openOnPower(test);
    const publicKey = newKey();
    const { id } = await register(registry, 'lathe', { publicKey });
    power.failWrites(failure);
    await test.rejects(registry.revokeNode(tenant, id, { by: userParty('x'), comment: '' }));
    const again = () => register(registry, 'lathe', { publicKey, again: true });
    await test.rejects(again(), { code: 'STORE_UNAVAILABLE' });
    power.failWrites(undefined);
    test.not((await again()).id, id);
    const { registry: witness } = createRig(power.cut());
    test.match(await witness.findNode(tenant, id), { status: 'revoked' });
  },
);

void t.test('a revocation takes effect although the record of its node cannot be read', async test => {
  const { registry, power, clock } = openOnPower(test);
  const { node, held } = await online(registry);
  const { id } = node;
  power.failReads(failure);
  const revoke = () => registry.revokeNode(tenant, id, { by: userParty('x'), comment: 'lost' });
  await test.rejects(revoke(), { code: 'STORE_UNAVAILABLE' }, 'the caller is told that it is not durable');
  await test.rejects(revoke(), { code: 'STORE_UNAVAILABLE' });
  await registry.closeSession(tenant, id, 1n, { reason: 'connection lost' });
  power.failWrites(failure);
  power.failReads(undefined);
  test.match(await registry.findNode(tenant, id), { status: 'revoked' });
  await test.rejects(registry.openSession(tenant, id, claimOf(2n, held)), { code: 'NODE_REVOKED' });
  await test.rejects(enroll(registry, id), { code: 'NODE_REVOKED' });
  power.failWrites(undefined);
  clock.advance(1000);
  await settleAll();
  const { registry: witness } = createRig(power.cut());
  test.match(await witness.findNode(tenant, id), { status: 'revoked' });
  test.same(await reasonsOf(witness, id), ['revoked: revoked', 'online: connected', 'created: registered']);
});

void t.test('pending revocations of unreadable nodes are bounded in number', async test => {
  const { registry, power } = openOnPower(test);
  power.failReads(failure);
  const revoke = (id: number) => registry.revokeNode(tenant, BigInt(id), { by: userParty('x'), comment: '' });
  const codes = await codesOf(Array.from({ length: 1001 }, (_, index) => revoke(index + 1)));
  test.same([new Set(codes.slice(0, 1000)), codes[1000]], [new Set(['STORE_UNAVAILABLE']), 'LINK_BUSY']);
  power.failReads(undefined);
});

void t.test('pending changes of a node are written with its next change, in order', async test => {
  const { registry, power } = openOnPower(test);
  const { node } = await online(registry);
  power.failWrites(failure);
  await registry.closeSession(tenant, node.id, 1n, { reason: 'connection lost' });
  power.failWrites(undefined);
  await Promise.all([
    registry.revokeNode(tenant, node.id, { by: userParty('x'), comment: '' }),
    registry.closeSession(tenant, node.id, 1n, { reason: 'no answer' }),
  ]);
  const wanted = ['revoked: revoked', 'offline: connection lost', 'online: connected', 'created: registered'];
  test.same(await reasonsOf(registry, node.id), wanted);
  await registry.close();
  test.same(await reasonsOf(registry, node.id), wanted);
});

void t.test(
  'a change that was written is no longer pending, even before its writer has been notified',
  async test => {
    const { power, clock } = openOnPower(test);
    // Written and seen, but the answer takes its time.
    const slow: Store = {
      ...power.store,
      async commit(...commit) {
        await power.store.commit(...commit);
        await settleAll();
      },
    };
    const { registry } = createRig(slow, clock);
    const { node, held } = await online(registry);
    power.failWrites(failure);
    await registry.closeSession(tenant, node.id, 1n, { reason: 'connection lost' });
    await registry.openSession(tenant, node.id, claimOf(2n, held));
    power.failWrites(undefined);
    const heard: string[] = [];
    registry.watchNodes(tenant, ({ status, reason }) => heard.push(`${status}: ${reason}`));
    const closing = registry.closeSession(tenant, node.id, 2n, { reason: 'closed by node' });
    for (let round = 0; round < 3; round++) await settle();
    const second = registry.closeSession(tenant, node.id, 2n, { reason: 'connection lost' });
    test.same(await Promise.all([closing, second]), [true, false]);
    test.same(heard, ['offline: closed by node']);
    test.match(await registry.findNode(tenant, node.id), { status: 'offline', reason: 'closed by node' });
    test.same(await reasonsOf(registry, node.id), [
      'offline: closed by node',
      'online: connected',
      'offline: connection lost',
      'online: connected',
      'created: registered',
    ]);
  },
);

void t.test('an unreadable store refuses sessions, and keeps the ends of sessions pending', async test => {
  const { registry, power, clock } = openOnPower(test);
  const { node, held } = await online(registry);
  power.failReads(failure);
  power.failWrites(failure);
  await test.rejects(registry.openSession(tenant, node.id, claimOf(2n, held)), { code: 'STORE_UNAVAILABLE' });
  await registry.closeSession(tenant, node.id, 1n, { reason: 'connection lost' });
  await registry.closeSession(tenant, 12345n, 1n, { reason: 'no answer' });
  power.failReads(undefined);
  test.match(await registry.findNode(tenant, node.id), { status: 'offline', reason: 'connection lost' });
  test.same((await registry.listNodes(tenant, { statuses: ['online'] })).nodes, []);
  test.equal((await registry.listNodes(tenant, { statuses: ['offline'], pageSize: 1 })).nodes.length, 1);
  power.failWrites(undefined);
  clock.advance(1000);
  await settleAll();
  const { registry: witness } = createRig(power.store);
  test.match(await witness.findNode(tenant, node.id), { status: 'offline', reason: 'connection lost' });
});

void t.test(
  'a revocation that was stored by a commit with an error remains, and is counted once',
  async test => {
    const { registry, power, clock } = openOnPower(test);
    const { node, held } = await online(registry);
    await registry.countNodes(tenant);
    power.failWrites(failure, { kept: true });
    await registry.closeSession(tenant, node.id, 1n, { reason: 'connection lost' });
    const revoking = registry.revokeNode(tenant, node.id, { by: userParty('x'), comment: '' });
    await test.rejects(revoking, { code: 'STORE_UNAVAILABLE' });
    power.failWrites(undefined);
    await test.rejects(registry.openSession(tenant, node.id, claimOf(2n, held)), { code: 'NODE_REVOKED' });
    clock.advance(1000);
    await settleAll();
    await register(registry);
    test.match(await registry.countNodes(tenant), { revoked: 1, created: 1, online: 0, offline: 0 });
    test.same((await reasonsOf(registry, node.id)).slice(0, 2), [
      'revoked: revoked',
      'offline: connection lost',
    ]);
  },
);

type Command = { readonly kind: string; readonly node: number; readonly fault: string };

const command = fc.record({
  kind: fc.constantFrom(
    'register',
    'register',
    'again',
    'enroll',
    'enroll',
    'open',
    'open',
    'close',
    'revoke',
  ),
  node: fc.nat(5),
  fault: fc.constantFrom(
    '',
    '',
    '',
    '',
    '',
    'hold',
    'release',
    'fail',
    'fail kept',
    'fail later',
    'heal',
    'settle',
    'tick',
  ),
});

void t.test(
  'a power cut at any moment leaves complete records, and every acknowledged change',
  async test => {
    const keys = Array.from({ length: 6 }, newKey);

    async function run(commands: readonly Command[], keepHeld: boolean): Promise<string[]> {
      const power = createPowerCutStore();
      const { registry, clock } = createRig(power.store);
      const registered = new Set<bigint>();
      const revoked = new Set<bigint>();
      const ids: (bigint | undefined)[] = [];
      const certified: (CertificateReference | undefined)[] = [];
      let sessions = 0n;
      let isCut = false;

      function fault(kind: string): void {
        if (kind === 'hold') power.hold();
        if (kind === 'release') power.hold()();
        if (kind === 'fail' || kind === 'fail kept') power.failWrites(failure, { kept: kind !== 'fail' });
        if (kind === 'fail later') power.failWrites(failure, { kept: 'later' });
        if (kind === 'heal') power.failWrites(undefined);
        if (kind === 'tick') clock.advance(1000);
      }

      async function act({ kind, node }: Command): Promise<void> {
        const id = ids[node];
        const publicKey = keys[node];
        if ((kind === 'register' || kind === 'again') && publicKey) {
          const request = {
            tenant,
            publicKey,
            name: `node-${node}`,
            again: kind === 'again',
            by: userParty('x'),
          };
          const record = await registry.registerNode(request);
          if (isCut) return;
          ids[node] = record.id;
          registered.add(record.id);
        } else if (id === undefined) return;
        else if (kind === 'enroll') certified[node] = await enroll(registry, id);
        else if (kind === 'close')
          await registry.closeSession(tenant, id, sessions, { reason: 'connection lost' });
        else if (kind === 'open') {
          const held = certified[node];
          if (held) await registry.openSession(tenant, id, claimOf(++sessions, held));
        } else {
          await registry.revokeNode(tenant, id, { by: userParty('x'), comment: '' });
          if (!isCut) revoked.add(id);
        }
      }

      const running: Promise<unknown>[] = [];
      for (const each of commands) {
        fault(each.fault);
        running.push(act(each).catch((error: unknown) => test.ok(isRollcallError(error), String(error))));
        if (each.fault === 'settle') await settle();
        await Promise.resolve();
      }
      power.failWrites(undefined);
      isCut = true;
      const store = power.cut({ keepHeld });
      const found = await findInconsistencies(store);
      const { registry: next } = createRig(store, clock);
      await next.recover(clock.now());
      found.push(...(await findInconsistencies(store)));
      for (const id of registered)
        if (!(await next.findNode(tenant, id))) found.push(`${id} was acknowledged and is lost`);
      for (const id of revoked)
        if ((await next.findNode(tenant, id))?.status !== 'revoked') found.push(`${id} lives again`);
      if ((await next.listNodes(tenant, { statuses: ['online'] })).nodes.length > 0)
        found.push('somebody is online');
      await Promise.all(running);
      return found;
    }

    const commands = fc.array(command, { minLength: 5, maxLength: 60 });
    await fc.assert(
      fc.asyncProperty(commands, fc.boolean(), async (list, keepHeld) => {
        const found = await run(list, keepHeld);
        if (found.length > 0) throw new Error(found.join('; '));
      }),
      { numRuns: 150 },
    );
  },
);
