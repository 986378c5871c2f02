import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { firstPrevious, hashEntry, type AuditEntry } from '../../../src/audit-log/entry.js';
import { partyKinds } from '../../../src/audit-log/party.js';
import type { Log } from '../../../src/base/log.js';
import { createAudit, type AuditEvent } from '../../../src/link/audit/audit.js';
import { auditEventTypes } from '../../../src/link/audit/event-types.js';
import { listEvents } from '../../../src/link/audit/query.js';
import { Refusals } from '../../../src/link/audit/refusals.js';
import { createMemoryStore } from '../../../src/store/memory.js';
import { createPowerCutStore } from '../../../src/store/power-cut.js';
import { verifyChain } from '../../harness/audit-chain.js';
import { createManualClock } from '../registry/manual-clock.js';
import { serviceParty, userParty } from '../../harness/parties.js';
import { cleanText } from '../../../src/base/text.js';

const silent: Log = {
  trace: () => undefined,
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => silent,
};

/** As the store of version 0.1.0 holds them, byte for byte. */
const storedBefore = [
  '{"seq":1,"previous":"0000000000000000000000000000000000000000000000000000000000000000","at":1700000000000,"type":"node.registered","subject":"16019329408659850374","by":"admin-token","detail":{"name":"press-3","again":false,"labels":2},"hash":"933961c71fef99713c0b17d4788074584043fdd7dcdacd67f6d9ff3dd5dda196"}',
  '{"seq":2,"previous":"933961c71fef99713c0b17d4788074584043fdd7dcdacd67f6d9ff3dd5dda196","at":1700000000000,"type":"peer.refused","subject":"10.0.0.1","by":"link","detail":{"PROOF_REFUSED":3},"hash":"0b1244913c66bda40b235943a1296fcad49f4aff578e4392468802de0ed9a35e"}',
];

async function chainOf(events: readonly AuditEvent[]): Promise<AuditEntry[]> {
  const store = createMemoryStore();
  const audit = createAudit({ clock: createManualClock() });
  await Promise.all(events.map(event => store.commit([audit.auditChange('default', event)])));
  return listEvents(store, 'default', { limit: 1000 });
}

void t.test('events of each tenant form a chain of their own', async test => {
  const store = createMemoryStore();
  const clock = createManualClock(1000);
  const audit = createAudit({ clock });
  const change = (tenant: string, subject: string) =>
    audit.auditChange(tenant, { type: 'user.changed', subject, by: userParty('me') });
  await store.commit([change('a', 'one'), change('b', 'uno'), change('a', 'two')]);
  clock.advance(5);
  await store.commit([change('a', 'three')]);
  const entries = await listEvents(store, 'a', { limit: 10 });
  test.match(entries, [
    {
      seq: 1,
      at: 1000,
      type: 'user.changed',
      subject: 'one',
      by: { name: 'me' },
      detail: {},
      previous: firstPrevious,
    },
    { seq: 2, subject: 'two', previous: entries[0]?.hash },
    { seq: 3, at: 1005, subject: 'three', previous: entries[1]?.hash },
  ]);
  test.equal(verifyChain(entries), undefined);
  test.match(await listEvents(store, 'b', { limit: 10 }), [
    { seq: 1, subject: 'uno', previous: firstPrevious },
  ]);
  test.match(await listEvents(store, 'a', { limit: 1, after: 1 }), [{ seq: 2 }]);
  test.same(await listEvents(store, 'a', { limit: 5, after: 3 }), []);
});

void t.test('every type of event is named by a test', test => {
  const folder = join(import.meta.dirname, '../..');
  const tests = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter(path => path.endsWith('.test.ts'))
    .map(path => readFileSync(join(folder, path), 'utf8'));
  for (const type of auditEventTypes)
    test.ok(
      tests.some(text => new RegExp(`(?<![\\w.-])${type}(?![\\w.-])`).test(text)),
      `${type} is named by a test`,
    );
  test.end();
});

void t.test('the hash of an entry covers the documented text', test => {
  const detail = { b: 1, a: 'x', c: true };
  const entry = { seq: 2, at: 3, type: 't', subject: 's', by: 'me', detail, previous: 'ab' };
  const text = '["rollcall audit v1",2,3,"t","s","me",[["a","x"],["b",1],["c",true]],"ab"]';
  test.equal(hashEntry(entry), createHash('sha256').update(text).digest('hex'));
  test.end();
});

void t.test('every change, removal, insertion and move of entries is found at its place', async test => {
  const entries = await chainOf(
    Array.from({ length: 6 }, (_, index) => ({
      type: 'user.changed',
      by: userParty('me'),
      subject: '1',
      detail: { index },
    })),
  );
  const changed = (place: number, change: Partial<AuditEntry>): AuditEntry[] =>
    entries.map((entry, index) => (index === place ? { ...entry, ...change } : entry));
  const changes: Partial<AuditEntry>[] = [
    { at: 1 },
    { type: 'other' },
    { subject: '2' },
    { by: userParty('you') },
    { by: { ...userParty('me'), kind: 'service' } },
    { by: { ...userParty('me'), id: 'user:0' } },
    { detail: { index: 9 } },
    { detail: {} },
    { seq: 9 },
    { hash: firstPrevious },
    { previous: firstPrevious },
  ];
  for (const change of changes) test.equal(verifyChain(changed(3, change)), 3, JSON.stringify(change));
  const third = entries[3];
  if (!third) throw new Error('no entry');
  const you = userParty('you');
  const rehashed = { ...third, by: you, hash: hashEntry({ ...third, by: you }) };
  test.equal(verifyChain(changed(3, rehashed)), 4, 'a new hash shows in the next entry');
  test.equal(verifyChain(entries.toSpliced(2, 1)), 2);
  test.equal(verifyChain(entries.toSpliced(2, 0, third)), 2);
  test.equal(verifyChain(entries.slice(1)), undefined, 'a part is checked from its first on');
  test.equal(verifyChain([{ ...third, seq: 1 }]), 0, 'but a first entry follows nothing');
  test.equal(verifyChain([]), undefined);
});

void t.test('no text of an event can forge a line of the log, and every chain verifies', async test => {
  const nasty = 'x\nseq: 9\r\u001b[2J\u2028\u202e\u0000\u0085\ud800';
  test.equal(cleanText(nasty), 'x\ufffdseq: 9\ufffd\ufffd[2J\ufffd\ufffd\ufffd\ufffd\ufffd');
  test.equal(cleanText('x'.repeat(5000)).length, 1024);
  const [entry] = await chainOf([
    {
      type: 'login',
      by: { kind: 'user', id: nasty, name: nasty },
      subject: nasty,
      detail: { [nasty]: nasty, b: Number.NaN },
    },
  ]);
  test.notMatch(JSON.stringify(entry), /\\n|\\r|\\u0|\u202e/);
  test.equal(entry?.detail['b'], 'NaN');
  const value = fc.oneof(fc.string({ unit: 'binary' }), fc.double(), fc.boolean());
  const event = fc.record({
    type: fc.constantFrom(...auditEventTypes),
    by: fc.record({
      kind: fc.constantFrom(...partyKinds),
      id: fc.string({ unit: 'binary' }),
      name: fc.string({ unit: 'binary' }),
    }),
    detail: fc.dictionary(fc.oneof(fc.string(), fc.constant('__proto__')), value),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(event, { maxLength: 5 }), async events => {
      test.equal(verifyChain(await chainOf(events)), undefined);
    }),
  );
});

void t.test(
  'an entry states address, request and outcome when given, and omits them otherwise',
  async test => {
    const [full, done, bare] = await chainOf([
      {
        type: 'login',
        by: { ...userParty('anna'), address: '10.0.0.1', requestId: 'r1' },
        outcome: 'refused',
      },
      { type: 'login', by: userParty('anna'), outcome: 'done' },
      { type: 'login', by: userParty('anna') },
    ]);
    test.match(full, { address: '10.0.0.1', requestId: 'r1', outcome: 'refused' });
    for (const entry of [done, bare]) {
      test.strictSame(Object.keys(entry ?? {}).sort(), [
        'at',
        'by',
        'detail',
        'hash',
        'previous',
        'seq',
        'subject',
        'type',
      ]);
    }
    const nasty = 'a\n{"seq":1}\u001b]0;x\u0007\u202e\ud800\u2028';
    const entries = await chainOf([
      { type: 'login', by: { ...userParty('b'), address: nasty, requestId: nasty }, outcome: 'failed' },
    ]);
    test.notMatch(JSON.stringify(entries), /\\n|\\u00|\u202e|\\ud8|\u2028/);
    test.equal(verifyChain(entries), undefined);
  },
);

void t.test(
  'entries that were stored before the present fields verify, and newer ones can follow them',
  async test => {
    const store = createMemoryStore();
    for (const stored of storedBefore) {
      await store.commit([{ type: 'append', log: 't/a/audit/', value: () => Buffer.from(stored) }]);
    }
    const audit = createAudit({ clock: createManualClock() });
    await store.commit([
      audit.auditChange('a', {
        type: 'login',
        by: { ...userParty('y'), address: '::1' },
        outcome: 'refused',
      }),
    ]);
    const entries = await listEvents(store, 'a', { limit: 9 });
    test.strictSame(
      entries.map(({ seq, type }) => [seq, type]),
      [
        [1, 'node.registered'],
        [2, 'peer.refused'],
        [3, 'login'],
      ],
    );
    test.equal(verifyChain(entries), undefined);
  },
);

void t.test('events are still written after a damaged last entry, and the break is detected', async test => {
  const store = createMemoryStore();
  const audit = createAudit({ clock: createManualClock() });
  await store.commit([{ type: 'append', log: 't/a/audit/', value: () => Buffer.from('{"seq":"1"}') }]);
  await store.commit([audit.auditChange('a', { type: 'login', by: userParty('y') })]);
  await store.commit([audit.auditChange('a', { type: 'session.ended', by: userParty('y') })]);
  const later = await listEvents(store, 'a', { limit: 9, after: 1 });
  test.same(
    later.map(({ type }) => type),
    ['login', 'session.ended'],
  );
  test.equal(verifyChain(later), 0, 'what follows the damaged entry is tied to nothing that fits');
});

function createCounter() {
  const clock = createManualClock();
  const power = createPowerCutStore();
  const audit = createAudit({ clock });
  const counter = new Refusals({ clock, store: power.store, audit, log: silent });
  const events = () => listEvents(power.store, 'default', { limit: 5000 });
  return { clock, power, counter, events };
}

void t.test('refusals are counted per network and written once a minute', async test => {
  const { clock, counter, events } = createCounter();
  counter.count('10.0.0.1', 'PROOF_REFUSED');
  counter.count('::ffff:10.0.0.1', 'PROOF_REFUSED');
  counter.count('10.0.0.1', 'NODE_NOT_REGISTERED');
  counter.count('10.0.0.2\n', 'PROOF_REFUSED');
  test.same(await events(), []);
  clock.advance(60_000);
  await counter.flush();
  const stranger = { kind: 'anonymous', id: '', name: 'anonymous' };
  test.match(await events(), [
    {
      ...{ type: 'peer.refused', by: stranger, address: '10.0.0.1', subject: '10.0.0.1', outcome: 'refused' },
      detail: { PROOF_REFUSED: 2, NODE_NOT_REGISTERED: 1 },
    },
    { subject: '10.0.0.2\ufffd', by: stranger, outcome: 'refused', detail: { PROOF_REFUSED: 1 } },
  ]);
  clock.advance(60_000);
  await counter.flush();
  test.equal((await events()).length, 2, 'a quiet minute writes nothing');
  counter.count('10.0.0.3', 'PROOF_REFUSED');
  await counter.close();
  await counter.close();
  const entries = await events();
  test.equal(entries.length, 3, 'close writes the rest');
  test.equal(verifyChain(entries), undefined);
});

void t.test('refusals of many addresses in one IPv6 network are one event', async test => {
  const { counter, events } = createCounter();
  for (let index = 0; index < 5000; index++)
    counter.count(`2001:db8:0:7:${index.toString(16)}::1`, 'PROOF_REFUSED');
  await counter.close();
  test.match(await events(), [{ subject: '2001:db8:0:7::/64', detail: { PROOF_REFUSED: 5000 } }]);
  test.equal((await events()).length, 1);
});

void t.test('refusals of many networks write a bounded number of events a minute', async test => {
  const { counter, events } = createCounter();
  for (let index = 0; index < 5000; index++) {
    counter.count(`10.0.${index >> 8}.${index & 255}`, 'PROOF_REFUSED');
    counter.countLogin(`10.1.${index >> 8}.${index & 255}`, 'LOGIN_REFUSED', undefined);
  }
  for (let times = 0; times < 50; times++) counter.count('10.0.0.9', 'TOKEN_REFUSED');
  for (let index = 0; index < 100; index++) counter.count('10.0.0.8', `reason ${index}`);
  await counter.close();
  const entries = await events();
  test.equal(entries.length, 34, '16 networks and the others, of either kind');
  const find = (subject: string) => entries.filter(entry => entry.subject === subject);
  test.match(find('10.0.0.9'), [{ detail: { PROOF_REFUSED: 1, TOKEN_REFUSED: 50 } }], 'the busiest by name');
  test.same(find('others')[0]?.detail, { PROOF_REFUSED: 5000 - 16 });
  const reasons = find('10.0.0.8')[0]?.detail ?? {};
  test.ok(Object.keys(reasons).length <= 33);
  test.equal(reasons['others'], 100 - 31);
  const total = find('unknown account').reduce((sum, { detail }) => sum + Number(detail['LOGIN_REFUSED']), 0);
  test.equal(total, 5000, 'none is lost');
});

void t.test('refusals that could not be stored are kept for the next minute', async test => {
  const { clock, power, counter, events } = createCounter();
  power.failWrites(new Error('no'));
  counter.count('a', 'X');
  await counter.flush();
  power.failWrites(undefined);
  counter.count('a', 'X');
  clock.advance(60_000);
  await counter.flush();
  test.match(await events(), [{ subject: 'a', detail: { X: 2 } }]);
  await counter.close();
});

void t.test(
  'many refusals of strangers do not displace those of named accounts or of other tenants',
  async test => {
    const { counter, power } = createCounter();
    const eve = { tenant: 'acme', ...userParty('eve') };
    for (let index = 0; index < 5000; index++)
      counter.count(`10.0.${index >> 8}.${index & 255}`, 'TOKEN_REFUSED');
    counter.count('10.0.0.9', 'nodes:revoke', eve);
    for (let index = 0; index < 5000; index++)
      counter.count(`10.0.${index >> 8}.${index & 255}`, 'NOT_ALLOWED', {
        tenant: 'umbrella',
        ...serviceParty('mal'),
      });
    counter.count('10.0.0.8', 'NOT_ALLOWED', { ...eve, ...userParty('late') });
    await counter.close();
    test.match(await listEvents(power.store, 'acme', { limit: 10 }), [
      {
        ...{ type: 'request.refused', by: userParty('eve'), address: '10.0.0.9', outcome: 'refused' },
        detail: { 'nodes:revoke': 1 },
      },
      { type: 'request.refused', by: userParty('late'), address: 'others', detail: { NOT_ALLOWED: 1 } },
    ]);
    const umbrella = await listEvents(power.store, 'umbrella', { limit: 100 });
    test.equal(umbrella.length, 17, 'one principal at many networks is told of at 16, and at the others');
    test.match(umbrella.at(-1), { by: serviceParty('mal'), address: 'others' });
  },
);

void t.test(
  'an attacked account is named in the log of its tenant, whichever others are attacked',
  async test => {
    const { counter, power } = createCounter();
    const account = (name: string, tenant = 'acme') => ({ tenant, ...userParty(name) });
    for (let index = 0; index < 3000; index++) {
      counter.countLogin(`10.0.${index >> 8}.${index & 255}`, 'LOGIN_REFUSED', undefined);
      counter.countLogin(`10.0.${index >> 8}.${index & 255}`, 'LOGIN_REFUSED', account('admin'));
    }
    counter.countLogin('10.0.0.9', 'LOGIN_REFUSED', account('bob'));
    for (let index = 0; index < 40; index++)
      counter.countLogin('10.0.0.9', 'LOGIN_REFUSED', account(`u${index}`, 'big'));
    counter.countLogin('10.0.0.7', 'LOGIN_REFUSED', 'setup code');
    await counter.close();
    const acme = await listEvents(power.store, 'acme', { limit: 100 });
    const ofAdmin = acme.filter(({ detail }) => detail['name'] === 'admin');
    const stranger = { kind: 'anonymous' };
    test.match(ofAdmin[0], {
      type: 'login.refused',
      by: stranger,
      subject: userParty('admin').id,
      outcome: 'refused',
    });
    test.equal(
      ofAdmin.reduce((sum, { detail }) => sum + Number(detail['LOGIN_REFUSED']), 0),
      3000,
    );
    test.match(
      acme.find(({ detail }) => detail['name'] === 'bob'),
      { address: 'others', detail: { LOGIN_REFUSED: 1 } },
    );
    const big = await listEvents(power.store, 'big', { limit: 100 });
    test.ok(big.length < 40, `${big.length} events for 40 accounts`);
    test.equal(
      big.reduce((sum, { detail }) => sum + Number(detail['LOGIN_REFUSED']), 0),
      40,
    );
    const own = await listEvents(power.store, 'default', { limit: 100 });
    test.match(own.at(0), { type: 'login.refused', subject: 'unknown account', by: stranger });
    test.ok(own.some(({ subject, detail }) => subject === 'setup code' && detail['LOGIN_REFUSED'] === 1));
  },
);
