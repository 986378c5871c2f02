import t from 'tap';
import { systemRandom } from '../../../../src/base/random.js';
import { permissionNames } from '../../../../src/link/access/permissions.js';
import { Roles } from '../../../../src/link/access/accounts/roles.js';
import { Users, type User, type UserChange } from '../../../../src/link/access/accounts/users.js';
import { createAudit } from '../../../../src/link/audit/audit.js';
import { listEvents } from '../../../../src/link/audit/query.js';
import { createMemoryStore } from '../../../../src/store/memory.js';
import { createPowerCutStore } from '../../../../src/store/power-cut.js';
import type { Store } from '../../../../src/store/store.js';
import { openAccessRig, password } from '../../../harness/access-rig.js';
import { createManualClock } from '../../../harness/manual-clock.js';
import { userParty } from '../../../harness/parties.js';

const reason = { type: 'user.changed', by: userParty('ops') } as const;
const hash = 'scrypt$1$1$1$the-salt$the-hash';
/** Names that are something else in JavaScript. */
const oddNames = ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty'];

function start(store: Store = createMemoryStore()) {
  const clock = createManualClock(1_700_000_000_000);
  const audit = createAudit({ clock });
  const roles = new Roles({ store, audit });
  const users = new Users({ store, audit, clock, random: systemRandom, roles });
  const create = (name: string, ...names: string[]): Promise<User> =>
    users.create('default', { name, roles: names, passwordHash: hash }, { ...reason, type: 'user.created' });
  const change = (user: User, wanted: UserChange): Promise<User> =>
    users.change('default', user.id, wanted, reason);
  return { store, clock, roles, users, create, change };
}

void t.test('a user name is one account, whatever the case of its letters', async test => {
  const { users, create } = start();
  const ann = await create('Ann', 'viewer', 'viewer');
  test.match(ann, {
    id: /^user:[0-9a-f]{32}$/,
    name: 'Ann',
    roles: ['viewer'],
    enabled: true,
    validAfter: 0,
  });
  for (const name of ['Ann', 'ann', 'ANN']) {
    test.equal((await users.findByName('default', name))?.id, ann.id, name);
    await test.rejects(create(name), { code: 'NAME_TAKEN' }, name);
  }
  test.same(await users.get('default', 'aNN'), ann);
  test.same(await users.get('default', ann.id), ann);
  const both = await Promise.allSettled([create('bob'), create('BOB')]);
  test.equal(both.filter(({ status }) => status === 'fulfilled').length, 1, 'also at the same moment');
  test.equal((await users.list('default')).length, 2);
});

void t.test('invalid user names are refused, and no account is found by them', async test => {
  const { users, create } = start();
  await create('kelvin');
  const unfit = [
    '',
    ' ',
    '-rf',
    '../../../etc',
    'a/b',
    'a b',
    'a\n',
    '\u001b[31m',
    'x'.repeat(300),
    '__proto__',
  ];
  for (const name of [...unfit, '\u212aelvin', 'user:0', '\ud800'])
    await test.rejects(create(name), { code: 'REQUEST_INVALID' }, JSON.stringify(name));
  for (const name of [...unfit, '\u212aelvin', 'nobody', 'x'.repeat(1_000_000)]) {
    test.equal(await users.findByName('default', name), undefined);
    await test.rejects(users.get('default', name), { code: 'NOT_FOUND' });
  }
  for (const id of ['user:0', 'user:../kelvin', 'user:__proto__', 'user:'])
    await test.rejects(users.get('default', id), { code: 'NOT_FOUND' }, id);
});

void t.test('names such as __proto__ are ordinary names of users, roles and permissions', async test => {
  const { roles, users, create, change } = start();
  const ann = await create('ann', 'admin');
  for (const name of oddNames) {
    await test.rejects(roles.requireAll('default', [name]), { code: 'REQUEST_INVALID' }, name);
    await test.rejects(create('eve', name), { code: 'REQUEST_INVALID' });
    await test.rejects(change(ann, { roles: ['admin', name] }), { code: 'REQUEST_INVALID' });
    test.equal((await roles.permissionsOf('default', [name])).size, 0);
    const define = roles.define('default', { name: 'odd', permissions: [name] }, userParty('ann'));
    await test.rejects(define, { code: 'REQUEST_INVALID' });
    test.equal(await users.findByName('default', name), undefined);
  }
  const made = await create('constructor');
  test.equal((await users.findByName('default', 'constructor'))?.id, made.id);
  await roles.define('default', { name: 'constructor', permissions: ['runs:read'] }, userParty('ann'));
  test.same([...(await roles.permissionsOf('default', ['constructor']))], ['runs:read']);
  const injected = JSON.parse('{"__proto__":{"enabled":false},"tenant":"x","id":"y"}') as UserChange;
  test.same(await change(ann, injected), ann, 'and fields that are not for changing change nothing');
});

void t.test('unknown roles are refused by name, with control characters escaped', async test => {
  const { create } = start();
  const refused = await create('ann', 'viewer', 'ghost', 'evil\u001b[31m\n').catch((error: unknown) => error);
  test.match(refused, { code: 'REQUEST_INVALID', message: 'there is no role ghost, evil?[31m?' });
});

void t.test('a custom role takes effect at once, as do its change and its removal', async test => {
  const { store, roles } = start();
  const permissionsOf = async () => [...(await roles.permissionsOf('default', ['auditor', 'gone']))];
  await roles.define(
    'default',
    { name: 'auditor', permissions: ['runs:read', 'audit:read', 'audit:read'] },
    userParty('ann'),
  );
  test.same(await permissionsOf(), ['audit:read', 'runs:read']);
  await roles.define('default', { name: 'auditor', permissions: ['audit:read'] }, userParty('ann'));
  test.same(await permissionsOf(), ['audit:read']);
  test.match(
    (await roles.list('default')).map(({ name, builtIn }) => [name, builtIn]),
    [
      ['admin', true],
      ['operator', true],
      ['viewer', true],
      ['auditor', false],
    ],
  );
  await roles.remove('default', 'auditor', userParty('ann'));
  test.same(await permissionsOf(), []);
  await test.rejects(roles.remove('default', 'auditor', userParty('ann')), { code: 'NOT_FOUND' });
  const events = await listEvents(store, 'default', { limit: 10 });
  test.same(
    events.map(({ type }) => type),
    ['role.defined', 'role.changed', 'role.removed'],
  );
});

void t.test('built-in roles cannot be changed', async test => {
  const { roles } = start();
  for (const name of ['admin', 'viewer', 'operator', 'Admin'])
    await test.rejects(roles.define('default', { name, permissions: [] }, userParty('ann')), {
      code: 'REQUEST_INVALID',
    });
  await test.rejects(roles.remove('default', 'viewer', userParty('ann')), { code: 'NOT_FOUND' });
  test.same([...(await roles.permissionsOf('default', ['admin']))].sort(), [...permissionNames].sort());
});

void t.test(
  'permissions on the whole link have no effect in another tenant, even for its admin',
  async test => {
    const { roles } = start();
    const held = await roles.permissionsOf('ward', ['admin', 'viewer']);
    for (const permission of ['metrics:read', 'keys:rotate', 'tenants:manage'] as const) {
      test.notOk(held.has(permission), permission);
      const role = { name: 'more', permissions: ['runs:read', permission] };
      await test.rejects(roles.define('ward', role, userParty('eve')), { code: 'REQUEST_INVALID' });
      await roles.define('default', role, userParty('ann'));
    }
    test.ok(held.has('users:manage'));
    test.equal((await roles.permissionsOf('ward', ['more'])).size, 0, 'nor are the roles of another tenant');
  },
);

void t.test('a user of another tenant is not found', async test => {
  const { users, create } = start();
  const ann = await create('ann', 'admin');
  const elsewhere = ['ward', '', 'default/', '../../default', 'default/user', 'Default'];
  for (const tenant of elsewhere) {
    test.equal(await users.find(tenant, ann.id), undefined, tenant);
    test.equal(await users.findByName(tenant, 'ann'), undefined);
    await test.rejects(users.get(tenant, ann.id), { code: 'NOT_FOUND', message: 'there is no such user' });
    await test.rejects(users.change(tenant, ann.id, { enabled: false }, reason), { code: 'NOT_FOUND' });
    test.same(await users.list(tenant), []);
    test.ok(await users.isEmpty(tenant));
  }
  await users.create('ward', { name: 'ann', roles: [], passwordHash: hash }, reason);
  test.equal((await users.list('default')).length, 1, 'and a name is free in each');
  test.notOk(await users.isEmpty('ward'));
});

void t.test('the last admin cannot be disabled or lose the role', async test => {
  const { users, create, change } = start();
  const ann = await create('ann', 'admin');
  const bob = await create('bob', 'admin', 'viewer');
  await create('eve', 'viewer');
  await change(bob, { enabled: false });
  for (const wanted of [{ enabled: false }, { roles: ['viewer'] }, { roles: [] }]) {
    const refused = { code: 'REQUEST_INVALID', message: 'ann is the last admin' };
    await test.rejects(change(ann, wanted), refused, 'a disabled admin does not count');
  }
  test.same(await users.get('default', 'ann'), ann);
  await change(bob, { enabled: true });
  await change(ann, { roles: ['operator'] });
  await test.rejects(change(bob, { enabled: false }), { code: 'REQUEST_INVALID' });
  const other = await users.create('ward', { name: 'ann', roles: ['admin'], passwordHash: hash }, reason);
  await test.rejects(users.change('ward', other.id, { enabled: false }, reason), { code: 'REQUEST_INVALID' });
});

void t.test('when admins disable each other at the same moment, one remains', async test => {
  for (const count of [2, 3, 8]) {
    const { users, create, change } = start();
    const admins = await Promise.all(Array.from({ length: count }, (_, n) => create(`admin-${n}`, 'admin')));
    const wanted = (n: number): UserChange => (n % 2 === 0 ? { enabled: false } : { roles: [] });
    const outcomes = await Promise.allSettled(admins.map((user, n) => change(user, wanted(n))));
    test.equal(outcomes.filter(({ status }) => status === 'rejected').length, 1, `${count} admins`);
    const left = (await users.list('default')).filter(
      ({ enabled, roles }) => enabled && roles.includes('admin'),
    );
    test.equal(left.length, 1);
  }
});

void t.test('disabling an admin fails when the only other admin was disabled meanwhile', async test => {
  const { store, create, change, users } = start();
  const [ann, bob] = [await create('ann', 'admin'), await create('bob', 'admin')];
  await change(ann, { enabled: false });
  await change(ann, { enabled: true });
  // While bob's change waits: ann goes. The clock stands still all the time.
  const changing = users.change('default', bob.id, () => ({ enabled: false }), reason);
  await change(ann, { enabled: false }).catch(() => undefined);
  await changing.catch(() => undefined);
  const left = (await users.list('default')).filter(({ enabled }) => enabled);
  test.equal(left.length, 1);
  const turns = await store.get('t/default/admins');
  test.same(JSON.parse(Buffer.from(turns ?? []).toString()), { turn: 5 });
});

void t.test('a change that ends sessions always raises the time from which sessions count', async test => {
  const { clock, create, change } = start();
  const ann = await create('ann', 'viewer');
  const first = await change(ann, { endSessions: true, passwordHash: 'new' });
  test.match(first, { validAfter: clock.now() + 1, passwordHash: 'new' });
  const again = await change(ann, { endSessions: true });
  test.equal(again.validAfter, first.validAfter + 1, 'even in the same millisecond');
  clock.step(-3_600_000);
  test.equal(
    (await change(ann, { endSessions: true })).validAfter,
    again.validAfter + 1,
    'or when time goes back',
  );
  clock.step(7_200_000);
  test.equal((await change(ann, { roles: [] })).validAfter, again.validAfter + 1, 'other changes do not');
});

void t.test('concurrent changes of an account apply to its current state, and none is lost', async test => {
  const { users, create } = start();
  const ann = await create('ann', 'viewer');
  const factor = { secret: 'SECRET', lastStep: 0, recovery: ['a', 'b', 'c', 'd'] };
  await users.change('default', ann.id, { secondFactor: factor }, reason);
  const use = () =>
    users.change(
      'default',
      ann.id,
      ({ secondFactor = factor }) => ({
        secondFactor: { ...secondFactor, recovery: secondFactor.recovery.slice(1) },
      }),
      reason,
    );
  await Promise.all([use(), use(), use()]);
  test.same((await users.get('default', 'ann')).secondFactor, { ...factor, recovery: ['d'] });
  const without = await users.change('default', ann.id, { secondFactor: null }, reason);
  test.equal(without.secondFactor, undefined);
  test.equal((await users.get('default', 'ann')).secondFactor, undefined);
});

void t.test('every change of an account is in the audit log, without secrets', async test => {
  const { store, users, create, change } = start();
  const ann = await create('ann', 'admin');
  const secondFactor = { secret: 'THESECRET', lastStep: 0, recovery: ['the-recovery'] };
  await change(ann, { passwordHash: 'scrypt$the-next', secondFactor });
  await users.change(
    'default',
    ann.id,
    {},
    { type: 'user.password-changed', by: userParty('x\ny'), detail: { why: '\u001b[2J' } },
  );
  const events = await listEvents(store, 'default', { limit: 10 });
  test.match(events, [
    { type: 'user.created', subject: ann.id, by: { name: 'ops' }, detail: { name: 'ann', roles: 'admin' } },
    { type: 'user.changed', subject: ann.id, detail: { name: 'ann' } },
    { type: 'user.password-changed', by: { name: 'x\ufffdy' }, detail: { why: '\ufffd[2J' } },
  ]);
  test.notMatch(JSON.stringify(events), /scrypt|the-salt|the-hash|the-next|THESECRET|the-recovery/);
});

void t.test('a failing store leaves an account as it was or fully changed', async test => {
  const disk = createPowerCutStore();
  const { users, create, change } = start(disk.store);
  const ann = await create('ann', 'admin');
  disk.failWrites(new Error('gone'));
  await test.rejects(create('bob'), { code: 'STORE_UNAVAILABLE' });
  await test.rejects(change(ann, { passwordHash: 'new' }), { code: 'STORE_UNAVAILABLE' });
  disk.failWrites(undefined);
  test.equal(await users.findByName('default', 'bob'), undefined);
  test.same(await users.get('default', 'ann'), ann);
  test.equal((await create('bob')).name, 'bob');
  test.equal(
    (await listEvents(disk.store, 'default', { limit: 10 })).length,
    2,
    'nor is there an event of it',
  );
});

void t.test('an account with a removed role can still be changed', async test => {
  const { access, administration, chief } = await openAccessRig(test);
  const { tenant } = chief;
  await administration.defineRole(chief, { name: 'lab', permissions: ['nodes:read'] });
  await administration.createUser(chief, { name: 'ann', roles: ['lab', 'viewer'], password });
  const { id } = await administration.createService(chief, 'nightly', { roles: ['lab', 'viewer'] });
  await administration.removeRole(chief, 'lab');
  const none = { code: 'REQUEST_INVALID', message: 'there is no role lab' };

  test.match(await administration.changeUser(chief, 'ann', { enabled: false }), { enabled: false });
  const { passwordHash } = await access.users.get(tenant, 'ann');
  await administration.changeUser(chief, 'ann', { password: 'another horse battery' });
  test.not((await access.users.get(tenant, 'ann')).passwordHash, passwordHash);
  test.match(await administration.changeUser(chief, 'ann', { roles: ['lab'] }), { roles: ['lab'] });
  test.match(await administration.changeUser(chief, 'ann', { roles: [] }), { roles: [] });
  await test.rejects(administration.changeUser(chief, 'ann', { roles: ['lab'] }), none, 'but nobody gets it');

  test.match(await administration.changeService(chief, id, { enabled: false }), { enabled: false });
  test.match((await administration.makeServiceSecret(chief, id)).service, { secrets: 1 });
  test.match(await administration.changeService(chief, id, { roles: ['lab'] }), { roles: ['lab'] });
  test.match(await administration.changeService(chief, id, { roles: [] }), { roles: [] });
  await test.rejects(administration.changeService(chief, id, { roles: ['lab'] }), none);
  await test.rejects(administration.createService(chief, 'new', { roles: ['lab'] }), none);
});

void t.test('a tenant and its admin are created in one commit, or not at all', async test => {
  const disk = createPowerCutStore();
  const { access, administration, chief, pausing } = await openAccessRig(test, { store: disk.store });
  const create = (name: string) => administration.createTenant(chief, { name, admin: 'wanda', password });
  const adminOf = (tenant: string) => access.users.findByName(tenant, 'wanda');
  let commits = 0;
  // The power goes after the first commit.
  pausing.onCommit = () => {
    commits += 1;
    if (commits > 1) disk.failWrites(new Error('gone'));
  };
  await create('ward').catch(() => undefined);
  pausing.onCommit = undefined;
  disk.failWrites(undefined);
  test.match(await adminOf('ward'), { roles: ['admin'] }, 'the admin is there');

  disk.failWrites(new Error('gone'));
  await test.rejects(create('north'), { code: 'STORE_UNAVAILABLE' });
  disk.failWrites(undefined);
  test.notOk(await access.tenants.exists('north'));
  test.match(await create('north'), { name: 'north' });
  await test.rejects(create('North'), { code: 'NAME_TAKEN' });
});

void t.test('creating a tenant again completes one that was left without an admin', async test => {
  const { access, administration, chief } = await openAccessRig(test);
  const create = (name: string, admin = 'wanda') =>
    administration.createTenant(chief, { name, admin, password });
  const { createdAt } = await access.tenants.create('ward', userParty('an older link'));
  await test.rejects(create('WARD'), { code: 'NAME_TAKEN' }, 'a name is one tenant, whatever its case');
  test.match(await create('ward'), { name: 'ward', createdAt });
  test.match(await access.users.list('ward'), [{ name: 'wanda', roles: ['admin'] }]);
  await test.rejects(create('ward', 'eve'), { code: 'NAME_TAKEN' });
  test.equal((await access.users.list('ward')).length, 1);
});
