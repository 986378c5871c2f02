/**
 * Permissions on both protocols of the control port. The tests iterate over the table of rules, so that every added
 * route and method is tested.
 */
import t from 'tap';
import { once } from 'node:events';
import { connect as connectHttp2, type IncomingHttpHeaders } from 'node:http2';
import { request } from 'node:https';
import type { TLSSocket } from 'node:tls';
import { permissionNames } from '../../../src/link/access/permissions.js';
import {
  methodRules,
  routeRules,
  type Access,
  type RouteName,
} from '../../../src/link/doors/access-table.js';
import { AdministrationService } from '../../../src/protocol/generated/rollcall/v1/administration.js';
import { ControlService } from '../../../src/protocol/generated/rollcall/v1/control.js';
import { RunsService } from '../../../src/protocol/generated/rollcall/v1/runs.js';
import type { ControlCalls } from '../../harness/control-calls.js';
import { createManualClock } from '../../harness/manual-clock.js';
import { connectOperator, issueToken, makeUser } from '../../harness/operator.js';
import { framed } from '../../harness/raw-link.js';
import { restCalls, type RestAnswer } from '../../harness/rest-calls.js';
import { watchScrypt } from '../../harness/scrypt.js';
import { openRawHttp2 } from '../../harness/siege.js';
import { newKey, startTestLink } from '../../harness/test-link.js';
import { userParty } from '../../harness/parties.js';

const clock = createManualClock();
const link = await startTestLink(t, { clock });
const { access } = link.link;
const { port } = link.link.addresses.control;
const ask = restCalls(t, port, link.ca);
const operator = { token: link.token };
const routes = Object.entries(routeRules) as [RouteName, { readonly access: Access }][];

async function personWith(name: string, roles: readonly string[], tenant = 'default') {
  const user = await makeUser(access, name, roles, tenant);
  const token = await issueToken(access, user);
  const calls: ControlCalls = connectOperator(`localhost:${port}`, token, link.ca);
  t.teardown(() => calls.close());
  return { id: user.id, name, token, calls };
}

const define = (name: string, permissions: readonly string[]): Promise<RestAnswer> =>
  ask(`PUT /v1/roles/${name}`, { ...operator, json: { permissions } });
await define('registrar', ['nodes:register']);
const viewer = await personWith('vera', ['viewer']);
const registrar = await personWith('rosa', ['registrar']);
await ask('POST /v1/tenants', {
  ...operator,
  json: { name: 'ward', admin: 'wanda', password: 'correct horse battery' },
});
const foreigner = await personWith('wes', ['admin'], 'ward');

async function register(token: string, name = ''): Promise<string> {
  const publicKey = newKey().publicKey.spki.toString('base64');
  return (await ask('POST /v1/nodes', { token, json: { publicKey, name } })).fields['id'] ?? '';
}

/** A route with something in place of its parameters. */
const filled = (name: RouteName, id = 'absent'): string => name.replaceAll(/:\w+/g, id);
const wantedBy = (rule: Access): string | undefined =>
  permissionNames.find(each => each === (typeof rule === 'object' ? Object.values(rule)[0] : rule));
const withoutId = ({ status, text }: RestAnswer, id: string): object => ({
  status,
  text: text.replaceAll(id, 'ID').replaceAll(encodeURIComponent(id), 'ID'),
});

void t.test('every route refuses a missing and an invalid token, except the public routes', async t => {
  for (const [name, rule] of routes) {
    const isOpen = typeof rule.access === 'string' && ['public', 'open', 'optional'].includes(rule.access);
    const isForService = typeof rule.access === 'object' && 'orService' in rule.access;
    const bare = await ask(filled(name), isForService && name.startsWith('POST') ? { json: {} } : {});
    const bad = await ask(filled(name), { token: 'eyJhbGciOiJub25lIn0.e30.' });
    if (isOpen) {
      t.not(bare.fields['code'], 'TOKEN_REFUSED', name);
      t.equal(bad.fields['code'] === 'TOKEN_REFUSED', rule.access === 'optional', `${name} with a bad token`);
      continue;
    }
    if (isForService) {
      t.match([bare.status, bare.fields['code']], [401, 'LOGIN_REFUSED'], `${name} without a proof`);
      t.match([bad.status, bad.fields['code']], [401, 'TOKEN_REFUSED'], `${name} with a bad token`);
      continue;
    }
    for (const answer of [bare, bad]) {
      t.match(
        [answer.status, answer.fields['code'], answer.headers],
        [401, 'TOKEN_REFUSED', { 'www-authenticate': /^Bearer/, 'content-type': 'application/problem+json' }],
        name,
      );
    }
    t.match(
      [bare.fields['title'], bad.fields['title']],
      ['a token is missing', 'the token is not valid here'],
      name,
    );
    if (name.startsWith('GET'))
      t.equal((await ask(filled(name).replace('GET', 'HEAD'))).status, 401, `${name} as HEAD`);
  }
});

void t.test('every route refuses a token without its permission', async t => {
  for (const { name: person, token } of [viewer, registrar]) {
    const held = person === 'vera' ? ['nodes:read', 'runs:read', 'metrics:read'] : ['nodes:register'];
    for (const [name, rule] of routes) {
      const wanted = wantedBy(rule.access);
      const { status, fields, text } = await ask(filled(name), {
        token,
        ...(name.startsWith('GET') ? {} : { json: {} }),
      });
      const place = `${name} by ${person}`;
      if (rule.access === 'node') t.match([status, fields['title']], [403, 'this is for nodes'], place);
      else if (wanted === undefined || held.includes(wanted))
        t.notMatch(text, `this needs ${wanted ?? ''}`, place);
      // The list of one's own objects needs no permission.
      else if (name === 'GET /v1/nodes') t.match([status, fields['nodes']], [200, []], place);
      else
        t.match(
          [status, fields['code'], fields['title']],
          [403, 'NOT_ALLOWED', `not allowed: this needs ${wanted}`],
          place,
        );
    }
  }
});

void t.test('every gRPC method refuses an invalid token and a missing permission alike', async t => {
  const expiring = await issueToken(access, await makeUser(access, 'brief', ['admin']), 60_000);
  const revoked = await issueToken(access, await makeUser(access, 'gone', ['admin']));
  await ask('POST /auth/revoke', { form: { token: revoked } });
  clock.advance(95_000);
  const strangers: readonly (readonly [Record<string, string>, string])[] = [
    [{}, 'a token is missing'],
    [{ authorization: 'Basic b3BlcmF0b3I6eA==' }, 'a token is missing'],
    [{ authorization: 'Bearer nonsense' }, 'the token is not valid here'],
    [{ authorization: `Bearer ${link.token.slice(0, -6)}AAAAAA` }, 'the token is not valid here'],
    [{ authorization: `Bearer ${expiring}` }, 'the token has expired'],
    [{ authorization: `Bearer ${revoked}` }, 'the token was revoked'],
    [{ 'x-authorization': `Bearer ${link.token}`, cookie: `token=${link.token}` }, 'a token is missing'],
    [{ 'user-agent': 'grpc_health_probe/0.4.25', 'x-original-url': '/healthz' }, 'a token is missing'],
  ];
  const methods = [
    ...Object.values(ControlService),
    ...Object.values(AdministrationService),
    ...Object.values(RunsService),
  ];
  // Empty, which is a valid request of every method.
  const empty = framed(Buffer.alloc(0));
  for (const { path } of methods) {
    const peer = await openRawHttp2(port, link.ca);
    t.teardown(() => peer.destroy());
    for (const [headers, text] of strangers) {
      const answer = await peer.call(path, empty, headers).status;
      t.same(answer, { grpc: '16', code: 'TOKEN_REFUSED', text }, `${path}: ${text}`);
    }
    const rule = methodRules[path].access;
    for (const [person, held] of [
      [viewer, ['nodes:read', 'runs:read']],
      [registrar, ['nodes:register']],
    ] as const) {
      const wanted = wantedBy(rule);
      const isList = path.endsWith('/ListNodes') || path.endsWith('/WatchNodes');
      if (wanted === undefined || (held as readonly string[]).includes(wanted) || isList) continue;
      const { client, metadata } = person.calls;
      const bytes = (value: Buffer): Buffer => value;
      const refusal = await new Promise(resolve => {
        client.makeUnaryRequest(path, bytes, bytes, Buffer.alloc(0), metadata, resolve);
      });
      const details = `not allowed: this needs ${wanted}`;
      t.match(refusal, { code: 7, details }, `${path} by ${person.name}`);
    }
  }
  t.equal(methods.length, 7 + 27 + 5);
});

void t.test('objects of another tenant look the same as missing ones', async t => {
  const node = await register(foreigner.token, 'theirs');
  const { fields: service } = await ask('POST /v1/services', {
    token: foreigner.token,
    json: { name: 'theirs' },
  });
  await ask('PUT /v1/roles/theirs', { token: foreigner.token, json: { permissions: ['nodes:read'] } });
  const tokens = (await ask('GET /v1/tokens', { token: foreigner.token })).json as {
    tokens: { id: string }[];
  };
  const ids: Readonly<Record<string, readonly (readonly [theirs: string, nobodys: string])[]>> = {
    ':node': [
      [node, '1234567890123456789'],
      ['theirs', 'nobodys'],
    ],
    ':user': [
      [foreigner.id, `user:${'0'.repeat(32)}`],
      ['wes', 'nobody'],
    ],
    ':service': [
      [service['id'] ?? '', `service:${'0'.repeat(32)}`],
      ['theirs', 'nobodys'],
    ],
    ':token': [[tokens.tokens[0]?.id ?? '', '0'.repeat(32)]],
    ':role': [['theirs', 'nobodys']],
    // Ownership of runs is tested in runs.long.ts.
    ':run': [],
    // Of the link, not of a tenant.
    ':audience': [],
    ':tenant': [],
  };
  const bodies: Readonly<Record<string, object>> = {
    'PATCH /v1/users/:user': { enabled: false },
    'PATCH /v1/services/:service': { enabled: false },
    'POST /v1/nodes/:node/revoke': {},
    'PUT /v1/roles/:role': { permissions: ['audit:read'] },
  };
  for (const [name] of routes) {
    const parameter = /:\w+/.exec(name)?.[0];
    for (const [theirs, nobodys] of parameter === undefined ? [] : (ids[parameter] ?? [])) {
      for (const { name: person, token } of [{ name: 'operator', ...operator }, viewer, registrar]) {
        const asking = { token, ...(bodies[name] && { json: bodies[name] }) };
        const [found, missing] = [
          await ask(filled(name, theirs), asking),
          await ask(filled(name, nobodys), asking),
        ];
        t.same(withoutId(found, theirs), withoutId(missing, nobodys), `${name} by ${person}: ${theirs}`);
        const isMine = name.endsWith(':role') && person === 'operator';
        t.match(`${found.status}`, isMine ? '200' : /^40[034]$/, `${name} by ${person}`);
      }
    }
    if (parameter !== undefined) t.ok(ids[parameter], `${parameter} is known here`);
  }
  for (const who of [link.control, viewer.calls, registrar.calls]) {
    const outcome = (asked: Promise<unknown>, id: string): Promise<string> =>
      asked.then(
        () => 'found',
        (error: unknown) => String(error).replaceAll(id, 'ID'),
      );
    for (const [theirs, nobodys] of ids[':node'] ?? []) {
      const same = async (call: (id: string) => Promise<unknown>): Promise<void> =>
        void t.equal(await outcome(call(theirs), theirs), await outcome(call(nobodys), nobodys));
      await same(id => who.getNode({ node: id }));
      await same(id => who.revokeNode({ node: id, comment: '' }));
      await same(id => who.deleteNode({ node: id }));
      await same(id => who.listNodeHistory({ node: id, pageSize: 0, pageToken: '' }));
    }
  }
  const mine = async (line: string): Promise<string> => (await ask(line, { token: foreigner.token })).text;
  t.match(await mine(`GET /v1/nodes/${node}`), /"status":"created"/, 'nothing happened to theirs');
  t.match(await mine('GET /v1/services'), /"enabled":true/);
  t.match(await mine('GET /v1/roles'), /"name":"theirs","permissions":\["nodes:read"\]/);
  for (const line of ['GET /v1/nodes', 'GET /v1/users', 'GET /v1/services', 'GET /v1/tokens'])
    t.notMatch((await ask(line, operator)).text, /theirs|"wes"/, line);
  for (const line of ['GET /v1/nodes', 'GET /v1/users', 'GET /v1/tokens'])
    t.notMatch(await mine(line), /"vera"|"operator"/, line);
  const [ours, wards] = [await ask('GET /v1/audit/events', operator), await mine('GET /v1/audit/events')];
  t.notMatch(ours.text, /"wes"/, 'nor does one log tell of the other');
  t.match(wards, /"type":"node.registered"/);
  t.notMatch(wards, /"vera"/);
  for (const line of [
    ...['GET /metrics', 'GET /v1/keys', 'GET /v1/tenants', 'POST /v1/keys/rotate'],
    ...['DELETE /v1/tenants/default', 'DELETE /v1/tenants/ward'],
  ])
    t.equal(
      (await ask(line, { token: foreigner.token })).status,
      403,
      `${line} is for the link’s own people`,
    );
  await ask('DELETE /v1/roles/theirs', operator);
});

void t.test('a caller with only nodes:register sees its own nodes, and no other', async t => {
  const [mine, other] = [await register(registrar.token, 'mine'), await register(link.token, 'others')];
  const { calls, token } = registrar;
  const list = await ask('GET /v1/nodes', { token });
  t.match(list.json, { nodes: [{ id: mine, owner: 'rosa' }] });
  t.match(await calls.listNodes({ statuses: [], labels: {}, text: '', pageSize: 0, pageToken: '' }), {
    nodes: { length: 1 },
  });
  t.match(await ask(`GET /v1/nodes/${mine}`, { token }), { status: 200, fields: { name: 'mine' } });
  t.equal((await ask(`GET /v1/nodes/${mine}/history`, { token })).status, 200);
  const seen: string[] = [];
  const watch = calls.client.watchNodes({ snapshot: true }, calls.metadata);
  watch
    .on('error', () => undefined)
    .on('data', ({ node }: { node: { name: string } }) => seen.push(node.name));
  await new Promise(resolve => watch.once('data', resolve));
  for (const line of [
    `GET /v1/nodes/${other}`,
    `GET /v1/nodes/${other}/history`,
    `POST /v1/nodes/${other}/revoke`,
    `DELETE /v1/nodes/${other}`,
    `POST /v1/nodes/${other}/config`,
    'GET /v1/nodes/others',
  ]) {
    const found = await ask(line, { token, ...(line.endsWith('revoke') && { json: {} }) });
    const missing = await ask(line.replace(other, '99').replace('others', 'nobodys'), {
      token,
      ...(line.endsWith('revoke') && { json: {} }),
    });
    t.match([found.status, found.text], [403, missing.text], line);
  }
  await t.rejects(calls.revokeNode({ node: other, comment: '' }), { code: 'NOT_ALLOWED' });
  t.equal(
    (await ask(`POST /v1/nodes/${mine}/config`, { token })).status,
    200,
    'a configuration for one’s own',
  );
  t.match(await ask(`POST /v1/nodes/${mine}/revoke`, { token, json: {} }), { status: 200 });
  t.match(await ask(`GET /v1/nodes/${other}`, operator), { fields: { status: 'created' } });
  await ask(`POST /v1/nodes/${other}/revoke`, { ...operator, json: {} });
  await ask(`POST /v1/nodes/${mine}/revoke`, { ...operator, json: {} });
  watch.cancel();
  t.same(new Set(seen), new Set(['mine']), 'others’ nodes are not watched either');
});

void t.test('the token of a node opens the routes for nodes, and ends with the node', async t => {
  const [id, other] = [await register(link.token, 'tied'), await register(link.token)];
  const { fields } = await ask(`POST /v1/nodes/${id}/config`, operator);
  const token = fields['accessToken'] ?? fields['token'] ?? '';
  t.match(await ask('GET /v1/node', { token }), { status: 200, fields: { id } });
  t.match(await ask('GET /v1/assignment', { token }), {
    status: 200,
    json: { links: [{ address: /:\d+$/ }] },
  });
  for (const [name, rule] of routes) {
    if (rule.access === 'node' || rule.access === 'anyoneOrNode') continue;
    if (['public', 'open', 'optional'].includes(rule.access as string)) continue;
    const { status } = await ask(filled(name, other), {
      token,
      ...(name.startsWith('GET') ? {} : { json: {} }),
    });
    t.equal(status, 403, name);
  }
  const calls = connectOperator(`localhost:${port}`, token, link.ca);
  await t.rejects(calls.listNodes({ statuses: [], labels: {}, text: '', pageSize: 0, pageToken: '' }), {
    code: 'NOT_ALLOWED',
  });
  await t.rejects(calls.getNode({ node: id }), { code: 'NOT_ALLOWED' });
  calls.close();
  await ask(`POST /v1/nodes/${id}/revoke`, { ...operator, json: {} });
  t.equal((await ask('GET /v1/node', { token })).status, 401);
  const refresh_token = fields['refreshToken'] ?? '';
  t.match(refresh_token, /^rcr_/);
  t.equal(
    (await ask('POST /auth/token', { form: { grant_type: 'refresh_token', refresh_token } })).status,
    400,
  );
});

void t.test('no caller can grant or take over permissions that it does not have', async t => {
  await define('manager', ['users:manage', 'roles:manage', 'services:manage']);
  const { token } = await personWith('max', ['manager']);
  const password = 'correct horse battery';
  const attempts: readonly (readonly [string, object])[] = [
    ['POST /v1/users', { name: 'eve', roles: ['admin'], password }],
    ['POST /v1/users', { name: 'eve', roles: ['manager', 'viewer'], password }],
    ['PATCH /v1/users/max', { roles: ['admin'] }],
    ['PATCH /v1/users/operator', { password }],
    ['PATCH /v1/users/operator', { enabled: false }],
    ['PATCH /v1/users/vera', { roles: ['manager'] }],
    ['PUT /v1/roles/manager', { permissions: permissionNames }],
    ['PUT /v1/roles/registrar', { permissions: ['audit:read'] }],
    ['POST /v1/services', { name: 'eve', roles: ['admin'] }],
    ['POST /v1/tokens', { name: 'eve', roles: ['manager'], lifetimeMs: 60_000 }],
    ['POST /v1/tenants', { name: 'eve', admin: 'eve', password }],
  ];
  for (const [line, json] of attempts)
    t.equal((await ask(line, { token, json })).status, 403, `${line} ${JSON.stringify(json)}`);
  t.equal(
    (await ask('POST /v1/tokens', { ...operator, json: { name: 'x', roles: ['admin'], lifetimeMs: 60_000 } }))
      .status,
    403,
    'nor does an API token make others',
  );
  const last = await ask('PATCH /v1/users/wes', { token: foreigner.token, json: { roles: [] } });
  t.equal(last.status, 200, 'another admin is left');
});

void t.test('a permission that is removed ends with the very next request', async t => {
  const isRefused = async (token: string | undefined, why: string): Promise<void> => {
    t.match(await ask('GET /auth/me', { token }), { status: 401, fields: { code: 'TOKEN_REFUSED' } }, why);
    const calls = connectOperator(`localhost:${port}`, token ?? '', link.ca);
    await t.rejects(calls.getNode({ node: '7' }), { code: 'TOKEN_REFUSED' }, `${why}, by gRPC`);
    calls.close();
  };
  const change = (name: string, json: object): Promise<RestAnswer> =>
    ask(`PATCH /v1/users/${name}`, { ...operator, json });
  const words = ['correct horse battery', 'another horse battery', 'a third horse battery'] as const;

  const disabled = await personWith('dora', ['operator']);
  clock.advance(1);
  t.equal((await change('dora', { enabled: false })).status, 200);
  await isRefused(disabled.token, 'a user who is disabled');
  await change('dora', { enabled: true });
  await isRefused(disabled.token, 'and once enabled again, by a token of before');

  const ended = await personWith('emil', ['operator']);
  clock.advance(1);
  await change('emil', { endSessions: true });
  await isRefused(ended.token, 'sessions and tokens that were ended');

  const lesser = await personWith('liam', ['operator']);
  t.equal((await ask('POST /v1/nodes', { token: lesser.token, json: {} })).status, 400, 'may register');
  await change('liam', { roles: ['viewer'] });
  t.equal((await ask('POST /v1/nodes', { token: lesser.token, json: {} })).status, 403, 'a lesser role');
  await define('reader', ['nodes:read', 'audit:read']);
  const reader = await personWith('rita', ['reader']);
  t.equal((await ask('GET /v1/audit/events', { token: reader.token })).status, 200);
  await define('reader', ['nodes:read']);
  t.equal((await ask('GET /v1/audit/events', { token: reader.token })).status, 403, 'a role that holds less');
  await ask('DELETE /v1/roles/reader', operator);
  t.equal((await ask('GET /v1/nodes/7', { token: reader.token })).status, 403, 'a role that is gone');

  const { tokens } = (await ask('GET /v1/tokens', { token: reader.token })).json as {
    tokens: { id: string }[];
  };
  t.equal(
    (await ask(`DELETE /v1/tokens/${tokens[0]?.id ?? ''}`, { token: viewer.token })).status,
    404,
    'not by others',
  );
  t.equal((await ask(`DELETE /v1/tokens/${tokens[0]?.id ?? ''}`, { token: reader.token })).status, 200);
  await isRefused(reader.token, 'an API token that was revoked');

  // By the password from here on: each of these is a hash at its full price.
  await ask('POST /v1/users', {
    ...operator,
    json: { name: 'paul', roles: ['operator'], password: words[0] },
  });
  const login = (password: string): Promise<RestAnswer> =>
    ask('POST /auth/token', {
      form: { grant_type: 'password', client_id: 'rollcall-cli', username: 'paul', password },
    });
  const first = (await login(words[0])).fields;
  const made = { name: 'program', roles: ['operator'], lifetimeMs: 3_600_000 };
  const program = (await ask('POST /v1/tokens', { token: first['access_token'], json: made })).fields[
    'token'
  ];
  clock.advance(1);
  t.equal(
    (await ask('POST /auth/password', { token: program, json: { old: words[0], new: words[1] } })).status,
    403,
    'a program does not change it',
  );
  t.equal(
    (
      await ask('POST /auth/password', {
        token: first['access_token'],
        json: { old: words[0], new: words[1] },
      })
    ).status,
    200,
  );
  await isRefused(first['access_token'], 'a session from before the password was changed');
  await isRefused(program, 'and the API token made in it');
  const refreshed = { grant_type: 'refresh_token', refresh_token: first['refresh_token'] ?? '' };
  t.equal((await ask('POST /auth/token', { form: refreshed })).status, 400);

  const second = (await login(words[1])).fields;
  t.equal((await ask('GET /auth/me', { token: second['access_token'] })).status, 200);
  await ask('POST /auth/revoke', { form: { token: second['refresh_token'] ?? '' } });
  await isRefused(second['access_token'], 'a session that logged out');

  t.equal((await ask('POST /v1/keys/rotate', { ...operator, json: {} })).status, 200);
  t.equal((await ask('GET /auth/me', operator)).status, 200, 'keys that rotate in peace go on verifying');
  t.equal((await ask('POST /v1/keys/rotate', { ...operator, json: { dropOld: true } })).status, 200);
  await isRefused(link.token, 'tokens of keys that were dropped');
  await isRefused(viewer.token, 'everybody’s');
});

void t.test('with require-auth every route but the open ones requires a token', async t => {
  const strict = await startTestLink(t, { settings: { 'require-auth': true } });
  const askStrict = restCalls(t, strict.link.addresses.control.port, strict.ca);
  for (const [name, rule] of routes) {
    const { fields } = await askStrict(filled(name));
    // A service proves itself without a token.
    const isOpen = rule.access === 'open' || (typeof rule.access === 'object' && 'orService' in rule.access);
    t.equal(fields['code'] === 'TOKEN_REFUSED', !isOpen, name);
  }
  t.equal((await askStrict('GET /healthz', { token: strict.token })).text, 'ok\n');
});

void t.test('a call that is held open until its caller loses the permission has no effect', async t => {
  const own = await startTestLink(t);
  const { users, passwords, apiTokens } = own.link.access;
  const { port } = own.link.addresses.control;
  const password = 'correct horse battery';
  const passwordHash = await passwords.hash(password);
  const user = { name: 'held', roles: ['admin'], passwordHash };
  const { id } = await users.create('default', user, { type: 'user.created', by: userParty('test') });
  const askOwn = restCalls(t, port, own.ca);
  const form = { grant_type: 'password', client_id: 'rollcall-cli', username: 'held', password };
  const authorization = `Bearer ${(await askOwn('POST /auth/token', { form })).fields['access_token'] ?? ''}`;

  const session = connectHttp2(`https://localhost:${port}`, { ca: own.ca });
  t.teardown(() => session.destroy());
  const open = () => {
    const stream = session.request({
      ...{ ':method': 'POST', ':path': '/rollcall.v1.Administration/ListUsers', te: 'trailers' },
      ...{ 'content-type': 'application/grpc', authorization },
    });
    const code = new Promise<string>(resolve => {
      const read = (fields: IncomingHttpHeaders): void => {
        const { 'grpc-status': status, 'rollcall-code': stated = status } = fields;
        if (status !== undefined) resolve(String(stated));
      };
      stream.on('response', read).on('trailers', read);
    });
    stream.resume();
    return { stream, code };
  };
  const message = Buffer.alloc(5);
  const held = open();
  const body = JSON.stringify({ name: 'thief', roles: ['admin'], lifetimeMs: 86_400_000 });
  const upload = request({
    ...{ host: 'localhost', port, ca: own.ca, method: 'POST', path: '/v1/tokens' },
    headers: { authorization, 'content-type': 'application/json', 'content-length': body.length },
  });
  const status = new Promise<number>((resolve, reject) => {
    upload.on('response', response => resolve(response.resume().statusCode ?? 0)).on('error', reject);
  });
  upload.flushHeaders();
  const [socket] = (await once(upload, 'socket')) as [TLSSocket];
  await once(socket, 'secureConnect');
  // By the time that these are answered, what was sent before has been read.
  const next = open();
  next.stream.end(message);
  t.equal(await next.code, '0');
  for (let turns = 0; turns < 20; turns += 1) await askOwn('GET /healthz');

  await users.change('default', id, { endSessions: true }, { type: 'user.changed', by: userParty('test') });
  held.stream.end(message);
  upload.end(body);
  t.equal(await held.code, 'TOKEN_REFUSED');
  t.equal(await status, 401);
  t.notOk((await apiTokens.list('default')).some(({ name }) => name === 'thief'));
});

void t.test(
  'guesses of callers that disconnect are not hashed, and honest logins do not wait for them',
  async t => {
    const own = await startTestLink(t);
    const { port } = own.link.addresses.control;
    const askOwn = restCalls(t, port, own.ca);
    const password = 'correct horse battery';
    const made = { name: 'ann', roles: ['operator'], password };
    t.equal((await askOwn('POST /v1/users', { token: own.token, json: made })).status, 200);
    const form = { grant_type: 'password', client_id: 'rollcall-cli', username: 'ann', password };
    let letGo = (): void => undefined;
    const isFirstDone = new Promise<void>(resolve => (letGo = resolve));
    let hashed = 0;
    const started = (): Promise<void> | undefined => ((hashed += 1) === 1 ? isFirstDone : undefined);
    await watchScrypt(started, async () => {
      const guessers = Array.from({ length: 30 }, (_, n) => {
        const body = new URLSearchParams({ ...form, username: `name-${n}` }).toString();
        const type = 'application/x-www-form-urlencoded';
        const guess = request({
          ...{ host: '127.0.0.1', port, ca: own.ca, localAddress: `127.0.3.${1 + (n % 3)}`, agent: false },
          ...{ method: 'POST', path: '/auth/token' },
          headers: { 'content-type': type, 'content-length': body.length },
        });
        guess.on('error', () => undefined).end(body);
        return guess;
      });
      await Promise.all(guessers.map(guess => once(guess, 'finish')));
      for (let turns = 0; turns < 20; turns += 1) await askOwn('GET /healthz');
      t.equal(hashed, 1, 'one stranger at a time');
      for (const guess of guessers) guess.destroy();
      for (let turns = 0; turns < 20; turns += 1) await askOwn('GET /healthz');
      letGo();
      t.equal((await askOwn('POST /auth/token', { form })).status, 200);
      t.equal((await askOwn('POST /auth/token', { form, from: '127.0.3.9' })).status, 200);
      t.equal(hashed, 3, 'the one that was at work, and the two honest ones');
    });
  },
);
