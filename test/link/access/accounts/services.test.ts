import { generateKeyPairSync } from 'node:crypto';
import t from 'tap';
import { systemRandom } from '../../../../src/base/random.js';
import { isAddressIn, parseAddresses } from '../../../../src/link/access/accounts/address-list.js';
import { Roles } from '../../../../src/link/access/accounts/roles.js';
import type { ServiceSettings } from '../../../../src/link/access/accounts/service-settings.js';
import { Services, isSecretOf } from '../../../../src/link/access/accounts/services.js';
import { createAudit } from '../../../../src/link/audit/audit.js';
import { listEvents } from '../../../../src/link/audit/query.js';
import { createMemoryStore } from '../../../../src/store/memory.js';
import { createManualClock } from '../../../harness/manual-clock.js';
import { userParty } from '../../../harness/parties.js';

function start() {
  const store = createMemoryStore();
  const clock = createManualClock(1_700_000_000_000);
  const audit = createAudit({ clock });
  const roles = new Roles({ store, audit });
  const services = new Services({ store, audit, clock, random: systemRandom, roles });
  const create = (name: string, settings: ServiceSettings = {}) =>
    services.create('default', name, settings, userParty('user:0'));
  const everything = async () => {
    const entries = await store.list({ prefix: '' });
    return entries.map(({ key, value }) => `${key} ${Buffer.from(value).toString()}`).join('\n');
  };
  return { store, clock, services, create, everything };
}

void t.test('a service can do and request only what it was registered with', async test => {
  const { services, create } = start();
  const plain = await create('plain');
  test.match(plain, { id: /^service:[0-9a-f]{32}$/, enabled: true, tokenLifetimeMs: 900_000, validAfter: 0 });
  for (const none of [plain.roles, plain.audiences, plain.scopes, plain.secrets, plain.publicKeys])
    test.same(none, []);
  const settings = { roles: ['viewer'], audiences: ['logging-service'], scopes: ['logs:write', 'logs:read'] };
  const shipper = await create('Log-Shipper', settings);
  test.match(shipper, settings);
  test.same(await services.get('default', 'LOG-shipper'), shipper);
  test.same(await services.get('default', shipper.id), shipper);
  test.equal((await services.list('default')).length, 2);
  await test.rejects(create('log-shipper'), { code: 'NAME_TAKEN' });
});

void t.test('invalid settings of a service are refused when it is created and changed', async test => {
  const { services, create } = start();
  const { id } = await create('plain');
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const privatePem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  const unfit: readonly ServiceSettings[] = [
    { roles: ['ghost'] },
    { roles: ['__proto__'] },
    { addresses: ['10.0.0.0/33'] },
    { addresses: Array<string>(65).fill('10.0.0.1') },
    ...[0, 59_999, 3_600_001, -1, 90_000.5, NaN, Infinity].map(tokenLifetimeMs => ({ tokenLifetimeMs })),
    ...['', 'a b', 'a"b', 'a\\b', 'a\nb', 'ä', 'x'.repeat(201)].map(scope => ({ scopes: [scope] })),
    { audiences: ['one two'] },
    { publicKeys: [privatePem] },
    { publicKeys: ['ssh-ed25519 AAAA'] },
    { certificates: ['sha256:00'] },
    { certificates: Array<string>(6).fill('a'.repeat(43)) },
    { publicKeys: Array.from({ length: 6 }, publicPem) },
    { publicKeys: [publicPem().replace('KEY-----\n', `KEY-----\n${'A'.repeat(2_000)}`)] },
    { roles: Array<string>(101).fill('viewer') },
  ];
  for (const settings of unfit) {
    const text = JSON.stringify(settings).slice(0, 60);
    await test.rejects(create('unfit', settings), { code: 'REQUEST_INVALID' }, text);
    await test.rejects(
      services.change('default', id, settings, userParty('x')),
      { code: 'REQUEST_INVALID' },
      text,
    );
  }
  const told = await create('unfit', { publicKeys: [privatePem] }).catch((error: unknown) => error);
  test.match(told, { message: 'that is no public key in PEM' }, 'which shows nothing of a private key');
  const fit = { tokenLifetimeMs: 60_000, certificates: ['a'.repeat(43)], publicKeys: [publicPem()] };
  test.match(await services.change('default', id, fit, userParty('x')), fit);
  test.match(await services.change('default', id, { tokenLifetimeMs: 3_600_000 }, userParty('x')), {
    ...fit,
    tokenLifetimeMs: 3_600_000,
  });
  test.equal((await services.list('default')).length, 1);
});

function publicPem(): string {
  const { publicKey } = generateKeyPairSync('ed25519');
  return publicKey.export({ type: 'spki', format: 'pem' }).toString();
}

void t.test(
  'read-only fields of a service stay unchanged when a change from outside contains them',
  async test => {
    const { services, create } = start();
    const evil = JSON.parse(
      '{"id":"service:1","tenant":"x","name":"y","secrets":[{"hash":"00"}],"validAfter":-1,"createdAt":1,"__proto__":{"enabled":false}}',
    ) as ServiceSettings;
    const made = await create('plain', evil);
    test.match(made, { tenant: 'default', name: 'plain', secrets: [], validAfter: 0, enabled: true });
    test.equal(made.createdAt, 1_700_000_000_000);
    test.same(await services.change('default', made.id, evil, userParty('x')), made);
    const undefinedRoles = { roles: undefined } as unknown as ServiceSettings;
    test.same((await services.change('default', made.id, undefinedRoles, userParty('x'))).roles, []);
  },
);

void t.test('a service secret is shown once, stored as a hash, and the two newest are valid', async test => {
  const { services, create, everything } = start();
  const { id } = await create('plain');
  const secrets: string[] = [];
  for (let n = 0; n < 3; n++)
    secrets.push((await services.addSecret('default', id, userParty('user:0'))).secret);
  const service = await services.get('default', 'plain');
  test.same(
    secrets.map(secret => isSecretOf(service, secret)),
    [false, true, true],
  );
  test.equal(service.secrets.length, 2);
  for (const secret of secrets) {
    test.match(secret, /^rcs_[A-Za-z0-9_-]{43}$/);
    test.notOk((await everything()).includes(secret.slice(4)));
  }
  const [, , last = ''] = secrets;
  for (const wrong of [
    '',
    'rcs_',
    last.slice(0, -1),
    `${last}A`,
    service.secrets[0]?.hash ?? '',
    '0'.repeat(64),
  ]) {
    test.notOk(isSecretOf(service, wrong));
    test.notOk(isSecretOf(undefined, wrong));
  }
  test.notOk(isSecretOf(undefined, last));
  await test.rejects(services.addSecret('ward', id, userParty('user:0')), { code: 'NOT_FOUND' });
});

void t.test('service secrets that are created at the same moment are all kept', async test => {
  const { services, create } = start();
  const { id } = await create('plain');
  const made = await Promise.all([
    services.addSecret('default', id, userParty('x')),
    services.addSecret('default', id, userParty('x')),
  ]);
  const service = await services.find('default', id);
  for (const { secret } of made) test.ok(isSecretOf(service, secret));
});

void t.test('a service is found by its id, or by its name in its tenant, and by nothing else', async test => {
  const { services } = start();
  const made = await services.create('ward', 'plain', {}, userParty('x'));
  test.same(await services.findClient(made.id, 'default'), made, 'whatever its tenant');
  test.same(await services.findClient('PLAIN', 'ward'), made, 'by its name in its tenant');
  test.equal(await services.findClient('plain', 'default'), undefined, 'by its name in another');
  const digits = made.id.slice('service:'.length);
  const wrong = [
    '',
    digits,
    made.id.toUpperCase(),
    `${made.id}/`,
    `../service/${made.id}`,
    'service:__proto__',
    '\u0000',
    'x'.repeat(1_000_000),
  ];
  for (const id of wrong) test.equal(await services.findClient(id, 'ward'), undefined, id.slice(0, 50));
});

void t.test('a service of another tenant is not found', async test => {
  const { services, create } = start();
  const { id } = await create('plain');
  for (const tenant of ['ward', '', 'default/', '../../default']) {
    test.equal(await services.find(tenant, id), undefined);
    for (const reference of [id, 'plain'])
      await test.rejects(services.get(tenant, reference), {
        code: 'NOT_FOUND',
        message: 'there is no such service',
      });
    await test.rejects(services.change(tenant, id, { enabled: false }, userParty('x')), {
      code: 'NOT_FOUND',
    });
    test.same(await services.list(tenant), []);
  }
  for (const name of ['__proto__', 'constructor', '../../plain', 'service:', '\u212a'])
    await test.rejects(services.get('default', name), { code: 'NOT_FOUND' }, name);
});

void t.test('tokens of a service can be ended, and every change is audited without secrets', async test => {
  const { store, clock, services, create } = start();
  const { id } = await create('plain', { audiences: ['logs'] });
  const { secret, service } = await services.addSecret('default', id, userParty('ann'));
  test.equal((await services.change('default', id, { enabled: false }, userParty('ann'))).validAfter, 0);
  const ended = await services.change('default', id, { endTokens: true }, userParty('ann'));
  test.match(ended, { enabled: false, validAfter: clock.now() + 1 });
  const again = await services.change('default', id, { enabled: true, endTokens: true }, userParty('ann'));
  test.equal(again.validAfter, ended.validAfter + 1);
  test.notOk('endTokens' in again);
  const events = await listEvents(store, 'default', { limit: 10 });
  test.match(events, [
    { type: 'service.created', subject: id, detail: { name: 'plain', audiences: 'logs' } },
    { type: 'service.secret-made', subject: id, by: { name: 'ann' } },
    { type: 'service.changed', detail: { changed: 'enabled' } },
    { type: 'service.changed', detail: { changed: 'tokens ended' } },
    { type: 'service.changed', detail: { changed: 'enabled tokens ended' } },
  ]);
  const text = JSON.stringify(events);
  test.notOk(text.includes(secret.slice(4)) || text.includes(service.secrets[0]?.hash ?? 'none'));
});

void t.test('a list of networks contains its IPv4 and IPv6 addresses', test => {
  const list = ['10.1.0.0/16', '192.0.2.7', '2001:db8::/32', '::1'];
  const inside = ['10.1.0.0', '10.1.255.255', '192.0.2.7', '2001:db8:ffff::1', '::1', '::ffff:10.1.2.3'];
  for (const address of inside) test.ok(isAddressIn(list, address), address);
  const outside = [
    '10.2.0.0',
    '192.0.2.8',
    '2001:db9::1',
    '::2',
    '::ffff:10.2.0.1',
    '',
    'localhost',
    '10.1.0.0/16',
  ];
  for (const address of outside) test.notOk(isAddressIn(list, address), address);
  test.ok(isAddressIn([], 'anywhere'), 'no list means anywhere');
  test.ok(isAddressIn(['fe80::/10'], 'fe80::1%eth0'), 'whatever the interface');
  test.ok(isAddressIn(['0.0.0.0/0'], '203.0.113.9'));
  test.notOk(isAddressIn(['0.0.0.0/0'], '2001:db8::1'), 'one family is not the other');
  test.end();
});

void t.test('an invalid address or network is refused', test => {
  const wrong = [
    '',
    '10.0.0',
    '10.0.0.0/',
    '10.0.0.0/33',
    '10.0.0.0/-1',
    '10.0.0.0/8/8',
    '10.0.0.0/1e1',
    '::/129',
  ];
  for (const text of [
    ...wrong,
    'localhost',
    '0x0a.0.0.1',
    '010.0.0.1',
    'fe80::1%eth0',
    '10.0.0.0/ 8',
    '*',
    '\n',
  ])
    test.throws(() => parseAddresses([text]), { code: 'REQUEST_INVALID' }, JSON.stringify(text));
  test.throws(() => parseAddresses(['\u001b[31m']), { message: '"?[31m" is no address or network' });
  test.end();
});
