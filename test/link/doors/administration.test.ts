/**
 * `rollcall.v1.Administration` compared with its routes: each method does the same as its route, and refuses the same
 * with the same code and the same message.
 */
import t from 'tap';
import type { ServiceError } from '@grpc/grpc-js';
import { isRollcallError } from '../../../src/base/errors.js';
import { createAudit } from '../../../src/link/audit/audit.js';
import type { RouteName } from '../../../src/link/doors/access-table.js';
import { createMemoryStore } from '../../../src/store/memory.js';
import type { Store } from '../../../src/store/store.js';
import {
  AdministrationService,
  type ServiceSettings,
} from '../../../src/protocol/generated/rollcall/v1/administration.js';
import {
  connectAdministration,
  type AdministrationCalls,
  type AdministrationMethod,
  type RequestOf,
  type UnaryMethod,
} from '../../harness/administration-calls.js';
import { connectOperator, issueToken, makeUser } from '../../harness/operator.js';
import { restCalls, type RestAnswer } from '../../harness/rest-calls.js';
import { newKey, startTestLink, type TestLink } from '../../harness/test-link.js';
import { userParty } from '../../harness/parties.js';

const password = 'correct horse battery';
const settings = { 'token-algorithms': 'ES256,studio=HS256' };
const link = await startTestLink(t, { settings });
const { access } = link.link;
const { port } = link.link.addresses.control;
const ask = restCalls(t, port, link.ca);
const asOperator = { token: link.token };

function connect(token: string | undefined, to: TestLink = link): AdministrationCalls {
  const calls = connectAdministration(to.link.addresses.control.port, token, to.ca);
  t.teardown(() => calls.close());
  return calls;
}
const operator = connect(link.token);

async function login(username: string): Promise<string> {
  const form = { grant_type: 'password', client_id: 'rollcall-cli', username, password };
  return (await ask('POST /auth/token', { form })).fields['access_token'] ?? '';
}

void t.test('every method of Administration works for a caller with its permission', async t => {
  const called = new Set<AdministrationMethod>(['exportAudit']);
  const by =
    (calls: AdministrationCalls) =>
    <M extends UnaryMethod>(method: M, request: RequestOf<M>) => {
      called.add(method);
      return calls.call(method, request);
    };
  const call = by(operator);

  t.match(await call('whoAmI', {}), { kind: 'user', name: 'operator', tenant: 'default', roles: ['admin'] });
  t.match(await call('getAssignment', {}), {
    tenant: 'default',
    trustDomain: 'test.example',
    linkAddresses: [/:\d+$/],
    serverRoots: /^-----BEGIN CERTIFICATE-----/,
  });

  const bob = await call('createUser', { name: 'bob', roles: ['operator'], password });
  t.match(bob, { id: /^user:/, name: 'bob', roles: ['operator'], enabled: true, secondFactor: false });
  t.ok(Math.abs(Number(bob.createdAtMs) - Date.now()) < 3_600_000);
  const nothing = { user: 'bob', endSessions: false, removeSecondFactor: false };
  t.same(await call('changeUser', nothing), bob, 'what is left out stays');
  t.match(await call('changeUser', { ...nothing, enabled: false }), { roles: ['operator'], enabled: false });
  const none = await call('changeUser', { ...nothing, user: bob.id, roles: { texts: [] }, enabled: true });
  t.match(none, { roles: [], enabled: true }, 'and an empty list is one');
  await call('changeUser', { ...nothing, roles: { texts: ['operator'] } });
  const { users } = await call('listUsers', {});
  t.same(users.map(({ name }) => name).sort(), ['bob', 'operator']);
  const changes = await call('listAuditEvents', eventsOf({ subject: bob.id, typePrefix: 'user.changed' }));
  t.same(
    changes.entries.map(({ detail }) => detail['changed']?.value?.value),
    ['', 'enabled', 'roles enabled', 'roles'],
    'the log tells what was asked for',
  );

  const role = { name: 'reader', permissions: ['nodes:read', 'audit:read'] };
  t.same(await call('defineRole', role), {
    ...role,
    permissions: [...role.permissions].sort(),
    builtIn: false,
  });
  const { roles, permissions } = await call('listRoles', {});
  t.same(
    roles.map(({ name }) => name),
    ['admin', 'operator', 'viewer', 'reader'],
  );
  t.same({ permissions }, { permissions: (await rest('GET /v1/roles'))['permissions'] });
  await call('removeRole', { name: 'reader' });
  t.equal((await call('listRoles', {})).roles.length, 3);

  const wanted: ServiceSettings = {
    ...{ roles: { texts: ['viewer'] }, audiences: { texts: ['studio'] }, scopes: { texts: ['a', 'b'] } },
    ...{ addresses: { texts: ['10.0.0.0/8'] }, tokenLifetimeMs: 60_000n },
  };
  const trainer = await call('createService', { name: 'trainer', settings: wanted });
  t.match(trainer, { audiences: ['studio'], scopes: ['a', 'b'], tokenLifetimeMs: 60_000n, enabled: true });
  t.match(await call('createService', { name: 'plain' }), { tokenLifetimeMs: 900_000n, roles: [] });
  const change = (settings: ServiceSettings, endTokens = false) =>
    call('changeService', { service: 'trainer', settings, endTokens });
  t.same(await change({}), trainer, 'what is left out stays');
  const less = await change({ scopes: { texts: [] }, enabled: false });
  t.same(less, { ...trainer, scopes: [], enabled: false });
  t.ok((await change({}, true)).validAfterMs > 0n);
  t.match(await call('makeServiceSecret', { service: trainer.id }), {
    service: { secrets: 1 },
    secret: /^rcs_/,
  });
  const { services } = await call('listServices', {});
  t.same(services.map(({ name, secrets }) => [name, secrets]).sort(), [
    ['plain', 0],
    ['trainer', 1],
  ]);

  const asBob = by(connect(await login('bob')));
  const issued = await asBob('issueToken', {
    ...{ name: 'nightly', roles: ['viewer'], lifetimeMs: 60_000n, user: '' },
  });
  t.match(issued.record, { name: 'nightly', holder: bob.id, holderName: 'bob', roles: ['viewer'] });
  t.match((await ask('GET /auth/me', { token: issued.token })).fields, { name: 'bob' });
  t.match(await asBob('listTokens', {}), { tokens: [{ name: 'nightly' }] }, 'one’s own');
  t.equal((await call('listTokens', {})).tokens.length, 2, 'or all');
  await asBob('revokeToken', { id: issued.record?.id ?? '' });
  t.same(await call('endTokens', { sinceMs: 0n, beforeMs: 1n }), {
    sinceMs: 0n,
    beforeMs: 1n,
    ownEnded: false,
  });
  t.equal((await ask('GET /auth/me', { token: issued.token })).status, 401);

  const { createdAtMs } = await call('createTenant', { name: 'ward', admin: 'wanda', password });
  t.ok(createdAtMs > 0n);
  t.match(await call('listTenants', {}), {
    tenants: [{ name: 'default', createdAtMs: 0n }, { name: 'ward' }],
  });

  const { secrets } = await call('getAudienceSecret', { audience: 'studio' });
  const secret = /^[\w-]{43}$/;
  t.match(secrets, [
    { kid: /./, secret, use: 'signs' },
    { kid: /./, secret, use: 'next' },
  ]);
  const rotation = await call('rotateKeys', { audience: 'studio', dropOld: false, now: true });
  t.match(rotation, {
    made: [{ audience: 'studio', use: 'next', signsAtMs: 0n, retiredAtMs: 0n }],
    signing: [{ kid: secrets[1]?.kid, use: 'signs' }],
    retired: [{ kid: secrets[0]?.kid, use: 'verifies' }],
  });
  t.equal(rotation.dropped.length, 0);
  const { keys } = await call('listKeys', {});
  t.same(keys.map(({ algorithm, audience, use }) => [algorithm, audience, use].join(' ')).sort(), [
    'ES256  next',
    'ES256  signs',
    'HS256 studio next',
    'HS256 studio signs',
    'HS256 studio verifies',
  ]);

  const first = await call('listAuditEvents', eventsOf({ limit: 3 }));
  t.match(first.entries, [{ seq: 1n }, { seq: 2n }, { seq: 3n }]);
  t.equal(first.next, 3n);
  const second = await call('listAuditEvents', eventsOf({ limit: 1, from: first.next }));
  t.match(second, { entries: [{ seq: 4n }], damaged: [] });
  const [newest] = (await call('listAuditEvents', eventsOf({ limit: 1, newestFirst: true }))).entries;
  t.match(newest, {
    type: 'keys.rotated',
    detail: { audience: { value: { $case: 'text', value: 'studio' } } },
  });
  t.match(newest?.detail['dropOld'], { value: { $case: 'flag', value: false } });
  const atMs = newest?.atMs ?? 0n;
  t.equal((await call('listAuditEvents', eventsOf({ untilMs: 1n }))).entries.length, 0);
  t.ok((await call('listAuditEvents', eventsOf({ sinceMs: atMs }))).entries.every(each => each.atMs >= atMs));
  const checkpoint = await call('writeAuditCheckpoint', {});
  t.match(checkpoint, { version: 1, seq: newest?.seq, hash: newest?.hash, tenant: 'default' });
  const { seq, at, ...signed } = await rest('POST /v1/audit/checkpoint');
  t.same(checkpoint, { ...signed, seq: BigInt(Number(seq)), atMs: BigInt(Number(at)) });
  t.same(await call('deleteUser', { user: 'bob' }), {});
  t.same(await call('deleteService', { service: 'plain' }), {});
  t.same(await call('deleteTenant', { tenant: 'ward' }), { sessionsEnded: 0 });
  t.same(called, new Set(Object.keys(AdministrationService)));
});

async function rest(line: string): Promise<Record<string, unknown>> {
  return (await ask(line, asOperator)).json as Record<string, unknown>;
}

function eventsOf(query: Partial<RequestOf<'listAuditEvents'>>): RequestOf<'listAuditEvents'> {
  return { limit: 0, newestFirst: false, typePrefix: '', subject: '', by: '', ...query };
}

interface Twin {
  readonly route: RouteName;
  readonly json?: object;
  /** Nothing for the one that is no unary method. */
  readonly request?: object;
}

let made = 0;
/** Requests for each method and its route, by the id of an object; a new name is never used twice. */
function twinsOf(id: string): Record<AdministrationMethod, Twin> {
  const name = `name-${(made += 1)}`;
  const user = { name, roles: ['viewer'], password };
  const tenant = { name, admin: name, password };
  const settings = { endSessions: false, removeSecondFactor: false };
  return {
    whoAmI: { route: 'GET /auth/me', request: {} },
    getAssignment: { route: 'GET /v1/assignment', request: {} },
    listUsers: { route: 'GET /v1/users', request: {} },
    createUser: { route: 'POST /v1/users', json: user, request: user },
    changeUser: {
      route: 'PATCH /v1/users/:user',
      json: { enabled: true },
      request: { user: id, enabled: true, ...settings },
    },
    deleteUser: { route: 'DELETE /v1/users/:user', request: { user: id } },
    listRoles: { route: 'GET /v1/roles', request: {} },
    defineRole: {
      route: 'PUT /v1/roles/:role',
      json: { permissions: ['audit:read'] },
      request: { name: id, permissions: ['audit:read'] },
    },
    removeRole: { route: 'DELETE /v1/roles/:role', request: { name: id } },
    listServices: { route: 'GET /v1/services', request: {} },
    createService: { route: 'POST /v1/services', json: { name }, request: { name } },
    changeService: {
      route: 'PATCH /v1/services/:service',
      json: { enabled: true },
      request: { service: id, settings: { enabled: true }, endTokens: false },
    },
    deleteService: { route: 'DELETE /v1/services/:service', request: { service: id } },
    makeServiceSecret: { route: 'POST /v1/services/:service/secret', request: { service: id } },
    listTokens: { route: 'GET /v1/tokens', request: {} },
    issueToken: {
      route: 'POST /v1/tokens',
      json: { name, roles: ['viewer'], lifetimeMs: 60_000 },
      request: { name, roles: ['viewer'], lifetimeMs: 60_000n, user: '' },
    },
    revokeToken: { route: 'DELETE /v1/tokens/:token', request: { id } },
    endTokens: {
      route: 'POST /v1/tokens/end',
      request: { sinceMs: 1n, beforeMs: 2n },
      json: { since: 1, before: 2 },
    },
    listTenants: { route: 'GET /v1/tenants', request: {} },
    createTenant: { route: 'POST /v1/tenants', json: tenant, request: tenant },
    deleteTenant: { route: 'DELETE /v1/tenants/:tenant', request: { tenant: id } },
    listKeys: { route: 'GET /v1/keys', request: {} },
    rotateKeys: { route: 'POST /v1/keys/rotate', json: {}, request: { dropOld: false } },
    getAudienceSecret: { route: 'GET /v1/keys/:audience/secret', request: { audience: id } },
    listAuditEvents: { route: 'GET /v1/audit/events', request: eventsOf({}) },
    writeAuditCheckpoint: { route: 'POST /v1/audit/checkpoint', request: {} },
    exportAudit: { route: 'GET /v1/audit/export' },
  };
}

const methods = Object.keys(AdministrationService) as AdministrationMethod[];
const withId = methods.filter(method => twinsOf('x')[method].route.includes(':'));

/** A refusal over both protocols. */
interface Said {
  readonly code: string;
  readonly message: string;
}
const done: Said = { code: 'done', message: '' };

function heard(asked: Promise<unknown>): Promise<Said> {
  return asked.then(
    () => done,
    (error: unknown) => {
      if (!isRollcallError(error)) throw error;
      return { code: error.code, message: error.message };
    },
  );
}

function read({ status, fields }: RestAnswer): Said {
  return status === 200 ? done : { code: fields['code'] ?? '', message: fields['title'] ?? '' };
}

const saidByMethod = (calls: AdministrationCalls, method: AdministrationMethod, { request }: Twin) =>
  heard(method === 'exportAudit' ? calls.exportAudit() : calls.call(method, request as never));
const saidByRoute = async (token: string | undefined, id: string, { route, json }: Twin): Promise<Said> =>
  read(await ask(route.replace(/:\w+/, encodeURIComponent(id)), { token, json }));

async function personWith(name: string, roles: readonly string[], tenant = 'default') {
  const { id } = await makeUser(access, name, roles, tenant);
  return { id, token: await issueToken(access, await access.users.get(tenant, id)) };
}

void t.test('an admin creates a token for another user, who sees the creator', async t => {
  for (const [name, roles] of [
    ['boss', ['admin']],
    ['ines', ['operator']],
    ['mona', ['manager']],
  ] as const) {
    if (name === 'mona')
      await ask('PUT /v1/roles/manager', {
        ...asOperator,
        json: { permissions: ['users:manage', 'tokens:issue', 'nodes:read'] },
      });
    await ask('POST /v1/users', { ...asOperator, json: { name, roles, password } });
  }
  const { id: boss } = await access.users.get('default', 'boss');
  const { id: ines } = await access.users.get('default', 'ines');
  const [asBoss, asInes, asMona] = [await login('boss'), await login('ines'), await login('mona')];
  const wanted = { name: 'nightly', roles: ['viewer'], lifetimeMs: 60_000 };
  const make = (token: string, more: object) =>
    ask('POST /v1/tokens', { token, json: { ...wanted, ...more } });

  const made = await make(asBoss, { user: 'ines' });
  const theirs = { holder: ines, holderName: 'ines', madeBy: boss, madeByName: 'boss' };
  t.match(made.json, { record: theirs });
  const { token, record } = made.json as { token: string; record: { id: string } };
  t.match((await ask('GET /auth/me', { token })).json, { id: ines, name: 'ines', roles: ['viewer'] });
  const listed = (await ask('GET /v1/tokens', { token: asInes })).json;
  t.match(listed, { tokens: [{ name: 'nightly', ...theirs }] }, 'in their own list');
  const byGrpc = await connect(asInes).call('listTokens', {});
  t.match(byGrpc, { tokens: [{ madeBy: boss, madeByName: 'boss' }] });
  const { entries } = (await ask('GET /v1/audit/events?limit=1&newestFirst=true', asOperator)).json as {
    entries: unknown[];
  };
  t.match(entries[0], {
    ...{ type: 'token.issued', subject: record.id, by: { id: boss, name: 'boss' } },
    detail: { name: 'nightly', roles: 'viewer', holder: ines, holderName: 'ines' },
  });
  t.match((await make(asInes, {})).json, { record: { holder: ines, madeBy: undefined } }, 'their own');
  t.equal((await make(asInes, { user: 'ines' })).status, 403, 'naming oneself takes the same permission');
  t.match((await make(asBoss, { user: 'boss' })).json, { record: { holder: boss, madeBy: undefined } });

  for (const [by, more, code, title] of [
    [asInes, { user: 'boss' }, 'NOT_ALLOWED', 'not allowed: this needs users:manage'],
    [asMona, { user: 'ines' }, 'NOT_ALLOWED', /^not allowed: this needs (?!users:manage)/],
    [token, { user: 'ines' }, 'NOT_ALLOWED', /this needs tokens:issue/],
    [asBoss, { user: 'ines', roles: ['admin'] }, 'REQUEST_INVALID', /^ines does not hold /],
    [asBoss, { user: 'nobody' }, 'NOT_FOUND', 'there is no such user'],
  ] as const)
    t.match((await make(by, more)).fields, { code, title }, JSON.stringify(more));
  await ask('PATCH /v1/users/ines', { token: asBoss, json: { endSessions: true } });
  t.equal((await ask('GET /auth/me', { token })).status, 401, 'it ends with those of its holder');
  const after = (await make(asBoss, { user: 'ines' })).json as { token: string };
  t.equal((await ask('GET /auth/me', { token: after.token })).status, 200, 'one made after that is good');
  await ask('PATCH /v1/users/ines', { token: asBoss, json: { enabled: false } });
  t.match((await make(asBoss, { user: 'ines' })).fields, { title: 'ines is disabled' });
});

void t.test('a deleted user is refused at once, stays in the audit log, and frees the name', async t => {
  await ask('PUT /v1/roles/contributor', {
    ...asOperator,
    json: { permissions: ['nodes:register', 'runs:submit'] },
  });
  const roles = ['contributor'];
  const create = async () =>
    (await ask('POST /v1/users', { ...asOperator, json: { name: 'dora', roles, password } })).fields['id'] ??
    '';
  const id = await create();
  const { access_token: session = '', refresh_token = '' } = (
    await ask('POST /auth/token', { form: { username: 'dora', password } })
  ).fields;
  const token = await issueToken(access, await access.users.get('default', 'dora'));
  const publicKey = newKey().publicKey.spki.toString('base64');
  const { id: node = '' } = (await ask('POST /v1/nodes', { token, json: { publicKey } })).fields;
  t.equal((await ask(`GET /v1/nodes/${node}`, { token })).status, 200);
  const calls = connectOperator(`localhost:${port}`, token, link.ca);
  const watch = calls.client.watchNodes({ snapshot: true }, calls.metadata);
  t.teardown(() => calls.close());
  const cut = new Promise<ServiceError>(resolve => watch.on('error', resolve));
  await new Promise(resolve => watch.once('data', resolve));

  t.same((await ask('DELETE /v1/users/dora', asOperator)).json, {});
  t.match(await cut, { details: 'the token was revoked' }, 'a stream ends at once');
  for (const each of [session, token]) t.equal((await ask('GET /auth/me', { token: each })).status, 401);
  const refresh = { grant_type: 'refresh_token', refresh_token };
  t.equal((await ask('POST /auth/token', { form: refresh })).fields['error'], 'invalid_grant');
  t.equal((await ask('POST /auth/token', { form: { username: 'dora', password } })).status, 400);
  for (const list of ['users', 'tokens'])
    t.notMatch((await ask(`GET /v1/${list}`, asOperator)).text, /dora/, `gone from ${list}`);
  t.equal((await ask(`PATCH /v1/users/${id}`, { ...asOperator, json: {} })).status, 404);
  t.equal((await ask('DELETE /v1/users/dora', asOperator)).status, 404, 'once');
  const told = (await ask(`GET /v1/audit/events?subject=${id}&newestFirst=true`, asOperator)).json;
  t.match(told, {
    entries: [
      { type: 'user.deleted', by: { name: 'operator' }, detail: { name: 'dora', roles: 'contributor' } },
    ],
  });

  const again = await create();
  t.not(again, id, 'another account');
  for (const each of [session, token])
    t.equal((await ask('GET /auth/me', { token: each })).status, 401, 'still');
  const fresh = (await ask('POST /auth/token', { form: { username: 'dora', password } })).fields[
    'access_token'
  ];
  t.equal(
    (await ask(`GET /v1/nodes/${node}`, { token: fresh })).status,
    403,
    'what was hers is not that of another',
  );
  t.match((await ask('GET /v1/nodes', { token: fresh })).json, { nodes: [] });
  t.match((await ask(`GET /v1/nodes/${node}`, asOperator)).json, { owner: 'dora' });
});

void t.test('the last admin of a tenant cannot be deleted', async t => {
  await ask('POST /v1/tenants', { ...asOperator, json: { name: 'lab', admin: 'lena', password } });
  const { fields } = await ask('POST /auth/token', { form: { tenant: 'lab', username: 'lena', password } });
  const lena = { token: fields['access_token'] };
  t.match((await ask('DELETE /v1/users/lena', lena)).fields, {
    code: 'REQUEST_INVALID',
    title: 'lena is the last admin',
  });
  await ask('POST /v1/users', { ...lena, json: { name: 'leo', roles: ['admin'], password } });
  t.equal((await ask('DELETE /v1/users/lena', lena)).status, 200, 'herself, where another is left');
  t.equal((await ask('GET /v1/users', lena)).status, 401);
  t.match(await access.users.list('lab'), [{ name: 'leo' }]);
});

void t.test('a deleted service is refused at once, and frees the name', async t => {
  const json = { name: 'miller', roles: ['viewer'], audiences: ['rollcall', 'studio'] };
  const create = async () => (await ask('POST /v1/services', { ...asOperator, json })).fields['id'] ?? '';
  const id = await create();
  const { secret = '' } = (await ask(`POST /v1/services/${id}/secret`, asOperator)).fields;
  const get = () => ask('POST /token', { json: { sub: id, client_secret: secret } });
  const { access_token: token } = (await get()).fields;
  t.equal((await ask('GET /v1/nodes', { token })).status, 200);
  t.same(await operator.call('deleteService', { service: 'miller' }), {});
  t.equal((await ask('GET /v1/nodes', { token })).status, 401);
  t.equal((await get()).status, 401);
  t.notMatch((await ask('GET /v1/services', asOperator)).text, /miller/);
  const told = (await ask(`GET /v1/audit/events?subject=${id}&newestFirst=true`, asOperator)).json;
  t.match(told, { entries: [{ type: 'service.deleted', detail: { name: 'miller' } }] });
  t.not(await create(), id);
  t.equal((await ask('GET /v1/nodes', { token })).status, 401, 'still');
  t.equal((await get()).status, 401);
});

void t.test('a deleted tenant is refused at once, stays in the audit log, and keeps its name', async t => {
  const tenant = 'vault';
  await ask('POST /v1/tenants', { ...asOperator, json: { name: tenant, admin: 'vic', password } });
  const form = { tenant, username: 'vic', password };
  const { access_token: session = '', refresh_token = '' } = (await ask('POST /auth/token', { form })).fields;
  const asVic = { token: session };
  const token = await issueToken(access, await access.users.get(tenant, 'vic'));
  const { id: service = '' } = (
    await ask('POST /v1/services', { ...asVic, json: { name: 'nightly', roles: ['viewer'] } })
  ).fields;
  const { secret = '' } = (await ask(`POST /v1/services/${service}/secret`, asVic)).fields;
  const asService = { json: { sub: service, client_secret: secret } };
  const { access_token: granted } = (await ask('POST /token', asService)).fields;
  const calls = connectOperator(`localhost:${port}`, token, link.ca);
  const watch = calls.client.watchNodes({ snapshot: false }, calls.metadata);
  t.teardown(() => calls.close());
  const cut = new Promise<ServiceError>(resolve => watch.on('error', resolve));
  await new Promise(resolve => watch.once('metadata', resolve));
  const withClient = { headers: { authorization: `Basic ${btoa(`${service}:${secret}`)}` } };
  t.equal((await ask('GET /auth/revoked', withClient)).status, 200);

  t.same((await ask(`DELETE /v1/tenants/${tenant}`, asOperator)).json, { sessionsEnded: 0 });
  t.match(await cut, { details: 'the token was revoked' }, 'a stream ends at once');
  for (const each of [session, token, granted])
    t.equal((await ask('GET /auth/me', { token: each })).status, 401);
  const refresh = { grant_type: 'refresh_token', refresh_token };
  t.equal((await ask('POST /auth/token', { form: refresh })).fields['error'], 'invalid_grant');
  t.match((await ask('POST /auth/token', { form })).fields, {
    error: 'invalid_grant',
    error_description: /^name, password or code is wrong/,
  });
  t.equal((await ask('POST /token', asService)).fields['error'], 'invalid_client');
  t.equal((await ask('GET /auth/revoked', withClient)).status, 401);
  t.equal((await ask('POST /auth/introspect', { ...withClient, form: { token: session } })).status, 401);
  t.same((await ask('POST /auth/introspect', { ...asOperator, form: { token: session } })).json, {
    active: false,
  });
  t.notMatch((await ask('GET /v1/tenants', asOperator)).text, /vault/, 'gone from the list');

  const told = (await ask(`GET /v1/audit/events?subject=${tenant}&newestFirst=true`, asOperator)).json;
  t.match(told, {
    entries: [{ type: 'tenant.deleted', by: { name: 'operator' } }, { type: 'tenant.created' }],
  });
  const again = { ...asOperator, json: { name: tenant.toUpperCase(), admin: 'vic', password } };
  t.match(
    (await ask('POST /v1/tenants', again)).fields,
    { code: 'NAME_TAKEN' },
    'in any case of its letters',
  );
  t.match((await ask('POST /v1/tenants', { ...again, json: { ...again.json, name: tenant } })).fields, {
    code: 'NAME_TAKEN',
    title: 'the tenant vault was deleted, and its name stays taken',
  });
  const remove = async (name: string) => (await ask(`DELETE /v1/tenants/${name}`, asOperator)).fields;
  t.match(await remove('default'), {
    title: 'the default tenant cannot be deleted',
    code: 'REQUEST_INVALID',
  });
  for (const name of ['nobody', 'Clinic', '__proto__', '%E2%98%83', '..%2Fdefault'])
    t.match(await remove(name), { code: 'NOT_FOUND', title: 'there is no such tenant' }, name);
  while ((await access.tenants.listLeaving()).length > 0) await new Promise(setImmediate);
  t.match(await remove(tenant), { code: 'NOT_FOUND' }, 'once nothing is left of it');
});

void t.test('every method refuses the same as its route, with the same message', async t => {
  await ask('POST /v1/tenants', { ...asOperator, json: { name: 'clinic', admin: 'carl', password } });
  const foreigner = await personWith('wes', ['admin'], 'clinic');
  const asForeigner = { token: foreigner.token };
  const viewer = await personWith('vera', ['viewer']);
  await ask('PUT /v1/roles/theirs', { ...asForeigner, json: { permissions: ['nodes:read'] } });
  const theirs = await ask('POST /v1/services', { ...asForeigner, json: { name: 'theirs' } });
  const { id: node } = await link.register(newKey());
  const config = await ask(`POST /v1/nodes/${node}/config`, asOperator);
  const [theirToken] = (await access.apiTokens.list('clinic')).map(({ id }) => id);

  const people: Readonly<Record<string, string | undefined>> = {
    nobody: undefined,
    'a bad token': 'eyJhbGciOiJub25lIn0.e30.',
    'a viewer': viewer.token,
    'a node': config.fields['accessToken'],
    'an admin of another tenant': foreigner.token,
    'an admin': link.token,
  };
  const ids = [foreigner.id, 'wes', theirs.fields['id'], 'theirs', theirToken, 'studio', 'nobody'];
  const odd = [
    'operator',
    `user:${'0'.repeat(32)}`,
    'user:../x',
    '__proto__',
    '☃',
    'a b',
    '%',
    'x'.repeat(300),
  ];
  const outcomes = new Map<string, Set<string>>();
  for (const [person, token] of Object.entries(people)) {
    const calls = connect(token);
    const codes = new Set<string>();
    const compare = async (method: AdministrationMethod, id: string): Promise<void> => {
      const byMethod = await saidByMethod(calls, method, twinsOf(id)[method]);
      // Created again for the second protocol after the first deleted it.
      if (method === 'removeRole' && byMethod === done) await defineAgain(id);
      const byRoute = await saidByRoute(token, id, twinsOf(id)[method]);
      t.same(byMethod, byRoute, `${method} of ${id} by ${person}`);
      codes.add(byMethod.code);
    };
    for (const method of methods) await compare(method, 'absent');
    // A caller that revokes its own token cannot make a second request.
    const asked = [...ids, ...odd].filter(id => token !== foreigner.token || id !== theirToken);
    // Deleted over one protocol, it is missing over the other.
    const isGone = (method: AdministrationMethod, id: string | undefined): boolean =>
      method.startsWith('delete') &&
      ((token === link.token && id === 'operator') || (token === foreigner.token && ids.includes(id)));
    for (const id of asked)
      for (const method of withId) if (!isGone(method, id)) await compare(method, id ?? '');
    outcomes.set(person, codes);
  }
  t.same(Object.fromEntries([...outcomes].map(([person, codes]) => [person, [...codes].sort()])), {
    nobody: ['TOKEN_REFUSED'],
    'a bad token': ['TOKEN_REFUSED'],
    'a viewer': ['NOT_ALLOWED', 'NOT_FOUND', 'REQUEST_INVALID', 'done'].filter(
      each => each !== 'REQUEST_INVALID',
    ),
    'a node': ['NOT_ALLOWED', 'done'],
    'an admin of another tenant': ['NOT_ALLOWED', 'NOT_FOUND', 'REQUEST_INVALID', 'done'],
    'an admin': ['NOT_ALLOWED', 'NOT_FOUND', 'REQUEST_INVALID', 'done'],
  });
  const asNode = connect(people['a node']);
  for (const method of methods) {
    const isForNodes = method === 'whoAmI' || method === 'getAssignment';
    const { code } = await saidByMethod(asNode, method, twinsOf('x')[method]);
    t.equal(code, isForNodes ? 'done' : 'NOT_ALLOWED', `${method} by a node`);
  }
  const theirLog = await connect(foreigner.token).exportAudit();
  t.notMatch(theirLog.join(), /"by":\{[^}]*"name":"vera"/, 'nobody did anything in another tenant');
  t.equal(
    theirLog.filter(line => /"by":\{[^}]*"name":"operator"/.test(line)).length,
    1,
    'but make its admin',
  );

  async function defineAgain(id: string): Promise<void> {
    for (const token of [link.token, foreigner.token])
      await ask(`PUT /v1/roles/${encodeURIComponent(id)}`, { token, json: { permissions: ['nodes:read'] } });
  }
});

void t.test('gRPC and REST refuse invalid values with the same code', async t => {
  const many = Array<string>(101).fill('viewer');
  const pem = `-----BEGIN PUBLIC KEY-----\n${'A'.repeat(2_000)}\n-----END PUBLIC KEY-----\n`;
  const user = { name: 'eve', roles: ['viewer'], password };
  const token = { name: 'eve', roles: ['viewer'] };
  const users = ['', 'a b', '-', 'x'.repeat(64), 'ä', 'a\nb'].map(name => ({ ...user, name }));
  const passwords = ['', 'short', 'x'.repeat(257), 'with a \0 in it'].map(each => ({
    ...user,
    password: each,
  }));
  const settings: readonly Record<string, readonly string[]>[] = [
    ...[
      { roles: many },
      { roles: ['nobody'] },
      { audiences: [''] },
      { audiences: Array<string>(65).fill('x') },
    ],
    ...[{ scopes: ['a b'] }, { scopes: ['x'.repeat(201)] }, { addresses: ['here'] }],
    ...[{ addresses: Array<string>(65).fill('::1') }, { publicKeys: ['x'] }, { publicKeys: [pem] }],
    ...[{ publicKeys: Array<string>(6).fill('x') }, { certificates: ['x'] }],
    { certificates: Array<string>(6).fill('A'.repeat(43)) },
  ];
  const eventQueries: readonly (readonly [Partial<RequestOf<'listAuditEvents'>>, string])[] = [
    [{ from: 1n << 63n }, `from=${1n << 63n}`],
    [{ sinceMs: -1n }, 'since=-1'],
    [{ untilMs: 1n << 62n }, `until=${1n << 62n}`],
    [{ typePrefix: 'x'.repeat(201) }, `typePrefix=${'x'.repeat(201)}`],
    [{ subject: 'x'.repeat(201) }, `subject=${'x'.repeat(201)}`],
    [{ by: 'x'.repeat(201) }, `by=${'x'.repeat(201)}`],
  ];
  const unfit: readonly (readonly [UnaryMethod, object, string, object?])[] = [
    ...[...users, ...passwords, { ...user, roles: many }, { ...user, roles: ['nobody'] }].map(
      each => ['createUser', each, 'POST /v1/users', each] as const,
    ),
    ...[{ roles: many }, { roles: [''] }].map(
      ({ roles }) =>
        [
          'changeUser',
          { user: 'operator', roles: { texts: roles }, endSessions: false, removeSecondFactor: false },
          'PATCH /v1/users/operator',
          { roles },
        ] as const,
    ),
    ...['', 'x'.repeat(257)].map(
      each =>
        [
          'changeUser',
          { user: 'operator', password: each, endSessions: false, removeSecondFactor: false },
          'PATCH /v1/users/operator',
          { password: each },
        ] as const,
    ),
    ...[Array<string>(101).fill('nodes:read'), ['nodes:write'], ['']].map(
      permissions =>
        ['defineRole', { name: 'eve', permissions }, 'PUT /v1/roles/eve', { permissions }] as const,
    ),
    ['defineRole', { name: 'admin', permissions: [] }, 'PUT /v1/roles/admin', { permissions: [] }],
    ...settings.map(each => {
      const wire = Object.fromEntries(Object.entries(each).map(([name, texts]) => [name, { texts }]));
      return [
        'createService',
        { name: 'eve', settings: wire },
        'POST /v1/services',
        { name: 'eve', ...each },
      ] as const;
    }),
    ...[0, 59_999, 3_600_001, Number.MAX_SAFE_INTEGER].map(
      each =>
        [
          'createService',
          { name: 'eve', settings: { tokenLifetimeMs: BigInt(each) } },
          'POST /v1/services',
          { name: 'eve', tokenLifetimeMs: each },
        ] as const,
    ),
    ['createService', { name: '' }, 'POST /v1/services', { name: '' }],
    ...[
      { ...token, name: '' },
      { ...token, roles: many },
      { ...token, roles: [] },
    ].map(
      each =>
        [
          'issueToken',
          { ...each, lifetimeMs: 60_000n, user: '' },
          'POST /v1/tokens',
          { ...each, lifetimeMs: 60_000 },
        ] as const,
    ),
    ...[0, 59_999, 366 * 86_400_000 + 1, Number.MAX_SAFE_INTEGER].map(
      each =>
        [
          'issueToken',
          { ...token, lifetimeMs: BigInt(each), user: '' },
          'POST /v1/tokens',
          { ...token, lifetimeMs: each },
        ] as const,
    ),
    ...[
      { name: '', admin: 'eve', password },
      { name: 'eve', admin: '', password },
      { name: 'eve', admin: 'no name', password },
      { name: 'eve', admin: 'eve', password: '' },
    ].map(each => ['createTenant', each, 'POST /v1/tenants', each] as const),
    ...['', 'two words', 'x'.repeat(201)].map(
      audience => ['rotateKeys', { audience, dropOld: true }, 'POST /v1/keys/rotate', { audience }] as const,
    ),
    ['getAudienceSecret', { audience: 'two words' }, 'GET /v1/keys/two%20words/secret'],
    ...eventQueries.map(
      ([query, text]) => ['listAuditEvents', eventsOf(query), `GET /v1/audit/events?${text}`] as const,
    ),
  ];
  await makeUserWithPassword('ida', ['admin']);
  const session = await login('ida');
  const calls = connect(session);
  const before = access.keys.list();
  for (const [method, request, line, json] of unfit) {
    const byMethod = await heard(calls.call(method, request));
    const byRoute = read(await ask(line, { token: session, json }));
    const place = `${method} ${JSON.stringify(json ?? line).slice(0, 100)}`;
    t.equal(byMethod.code, byRoute.code, place);
    t.match(byMethod.code, /^(REQUEST_INVALID|PASSWORD_UNFIT)$/, place);
  }
  t.match(await heard(calls.call('getAudienceSecret', { audience: '' })), { code: 'REQUEST_INVALID' });
  t.match(await heard(calls.call('removeRole', { name: '' })), { code: 'NOT_FOUND' });
  t.match(await heard(calls.call('revokeToken', { id: '' })), { code: 'NOT_FOUND' });
  t.match(await heard(calls.call('makeServiceSecret', { service: '' })), { code: 'NOT_FOUND' });
  t.same(access.keys.list(), before);
  const names = (await Promise.all([operator.call('listUsers', {}), operator.call('listServices', {})])).map(
    each => JSON.stringify(each, (_, value: unknown) => (typeof value === 'bigint' ? `${value}` : value)),
  );
  t.notMatch(names.join(), /"eve"/, 'and nothing of it is there');
  t.notOk(await access.tenants.exists('eve'));
});

void t.test('the audit log distinguishes a service from a user of the same name', async t => {
  await makeUserWithPassword('alice', ['admin']);
  const service = await operator.call('createService', {
    name: 'alice',
    settings: { roles: { texts: ['admin'] } },
  });
  const { secret } = await operator.call('makeServiceSecret', { service: service.id });
  const form = { grant_type: 'client_credentials', client_id: service.id, client_secret: secret };
  const granted = (await ask('POST /auth/token', { form })).fields['access_token'];
  const role = { permissions: ['nodes:read'] };
  await connect(await login('alice')).call('defineRole', { ...role, name: 'by-user' });
  await connect(granted).call('defineRole', { ...role, name: 'by-service' });
  const entriesBy = async (by: string) =>
    (await operator.call('listAuditEvents', eventsOf({ by, typePrefix: 'role.' }))).entries;
  const told = (await entriesBy('alice')).map(({ subject, party }) => [subject, party?.kind, party?.name]);
  t.strictSame(told, [
    ['by-user', 'user', 'alice'],
    ['by-service', 'service', 'alice'],
  ]);
  t.match(await entriesBy('service:alice'), [{ subject: 'by-service', party: { id: service.id } }]);
  t.match(await entriesBy(service.id), [{ subject: 'by-service' }], 'found by id as well');
  const { json } = await ask('GET /v1/audit/events?by=user:alice&typePrefix=role.', asOperator);
  t.match(json, { entries: [{ subject: 'by-user', by: { kind: 'user', id: /^user:/, name: 'alice' } }] });
});

void t.test(
  'new users, services and tenants cannot take a name that is reserved for the link or everyone',
  async t => {
    const settings = { roles: { texts: [] } };
    for (const name of ['link', 'Link', 'system', 'holder', 'root', 'anonymous']) {
      const refused = { code: 'REQUEST_INVALID', message: new RegExp(`${name} is a reserved name`) };
      t.match(await heard(operator.call('createUser', { name, roles: [], password })), refused);
      t.match(await heard(operator.call('createService', { name, settings })), refused);
      t.match(await heard(operator.call('createTenant', { name, admin: 'ann', password })), refused);
    }
  },
);

async function makeUserWithPassword(name: string, roles: readonly string[]): Promise<void> {
  await operator.call('createUser', { name, roles: [...roles], password });
}

/** A memory store that counts how often entries of an audit log were listed. */
function countLists(): { store: Store; lists: () => number } {
  const store = createMemoryStore();
  let lists = 0;
  const list: Store['list'] = query => {
    if (query.prefix.includes('/audit/')) lists += 1;
    return store.list(query);
  };
  return { store: { ...store, list }, lists: () => lists };
}

void t.test('the audit log is exported completely, as fast as it is read', async t => {
  const { store, lists } = countLists();
  const site = await startTestLink(t, { store });
  const audit = createAudit({ clock: site.clock });
  const detail = { text: 'x'.repeat(1_000) };
  const write = (many: number) =>
    store.commit(
      Array.from({ length: many }, () =>
        audit.auditChange('default', { type: 'user.changed', by: userParty('me'), detail }),
      ),
    );
  await write(1_000);
  const calls = connect(site.token, site);
  const lines = await calls.exportAudit();
  t.ok(lines.length > 1_001);
  t.match(JSON.parse(lines[0] ?? ''), { format: 'rollcall audit export', tenant: 'default', from: 1 });
  const askSite = restCalls(t, site.link.addresses.control.port, site.ca);
  const { text } = await askSite('GET /v1/audit/export', { token: site.token });
  t.equal(text, lines.map(line => `${line}\n`).join(''), 'line by line what the route gives');

  await write(9_000);
  const before = lists();
  const slow = calls.openExport();
  const ended = new Promise(resolve => slow.once('error', resolve));
  const first = await new Promise(resolve => slow.once('readable', () => resolve(slow.read())));
  t.match(first, { line: /rollcall audit export/ });
  // The link has had every chance to read on.
  for (let turn = 0; turn < 30; turn += 1) await calls.call('whoAmI', {});
  const read = lists() - before;
  t.ok(read > 0 && read < 10, `${read} of more than 20 pages are read for who has not read the first`);
  slow.cancel();
  t.match(await ended, { code: 1 });
  await calls.call('whoAmI', {});
  const after = lists();
  for (let turn = 0; turn < 30; turn += 1) await calls.call('whoAmI', {});
  t.equal(lists(), after, 'and none for who is gone');
});
