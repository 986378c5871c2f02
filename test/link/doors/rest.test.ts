/** The REST port as programs use and misuse it: the token endpoint, and what it takes and refuses of a request. */
import t, { type Test } from 'tap';
import { createHash, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { decodeJwt, SignJWT } from 'jose';
import type { AuditEntry } from '../../../src/audit-log/entry.js';
import { formatParty } from '../../../src/audit-log/party.js';
import { systemRandom } from '../../../src/base/random.js';
import { permissionNames } from '../../../src/link/access/permissions.js';
import { makeDevelopmentCertificates } from '../../../src/link/authority/development.js';
import { openCutoffs } from '../../../src/link/access/tokens/cutoffs.js';
import { createAudit } from '../../../src/link/audit/audit.js';
import { listEvents } from '../../../src/link/audit/query.js';
import { createMemoryStore } from '../../../src/store/memory.js';
import { createPowerCutStore } from '../../../src/store/power-cut.js';
import { createManualClock } from '../../harness/manual-clock.js';
import { connectOperator } from '../../harness/operator.js';
import { restCalls, type RestAnswer } from '../../harness/rest-calls.js';
import { newKey, startTestLink } from '../../harness/test-link.js';
import { userParty } from '../../harness/parties.js';

const clock = createManualClock();
const link = await startTestLink(t, { clock, settings: { 'control-client-certificates': true } });
const { access } = link.link;
const ask = restCalls(t, link.link.addresses.control.port, link.ca);
const operator = { token: link.token };
const password = 'correct horse battery';
await access.users.create(
  'default',
  { name: 'ann', roles: ['operator'], passwordHash: await access.passwords.hash(password) },
  { type: 'user.created', by: userParty('test') },
);
const login = { grant_type: 'password', client_id: 'rollcall-cli', username: 'ann', password };

const now = (): number => Math.floor(clock.now() / 1000);
/** Until guessing costs no waiting. */
const pause = (): void => clock.advance(60_000);

/** Asks the token endpoint with a form. */
const grant = (form: Record<string, string>, more: Parameters<typeof ask>[1] = {}): Promise<RestAnswer> =>
  ask('POST /auth/token', { form, ...more });

/** The requirements of RFC 6749 §5.2 for every refusal. */
function isGrantError(test: Test, answer: RestAnswer, status: number, error: string, message = error): void {
  test.match(
    [answer.status, answer.fields['error'], answer.headers['content-type'], answer.headers['cache-control']],
    [status, error, /^application\/json/, 'no-store'],
    message,
  );
  test.match(answer.fields['error_description'], /^[^\n]{5,}$/);
  test.notMatch(answer.text, /node_modules|\.js:|at \w+ \(/);
}

void t.test('a user can log in, use and refresh a token, and a failed login states the reason', async t => {
  const { status, json, fields, headers } = await grant(login);
  t.match({ status, json }, { status: 200, json: { token_type: 'Bearer', expires_in: 900 } });
  t.match(headers, { 'cache-control': 'no-store', pragma: 'no-cache' });
  const me = await ask('GET /auth/me', { token: fields['access_token'] });
  t.match(me.json, { kind: 'user', name: 'ann', tenant: 'default', roles: ['operator'] });

  const refresh_token = fields['refresh_token'] ?? '';
  const refresh = (more: Record<string, string> = {}) =>
    grant({ grant_type: 'refresh_token', refresh_token, ...more });
  const next = await refresh();
  t.equal(next.status, 200);
  t.not(next.fields['refresh_token'], refresh_token);
  t.equal(
    (await refresh()).fields['refresh_token'],
    next.fields['refresh_token'],
    'a retry gets the same successor',
  );
  const narrow = await refresh({ scope: 'nodes:read' });
  t.equal(narrow.fields['scope'], 'nodes:read');
  t.match((await ask('GET /auth/me', { token: narrow.fields['access_token'] })).json, {
    permissions: ['nodes:read'],
  });
  t.equal((await ask('POST /v1/users', { token: narrow.fields['access_token'], json: {} })).status, 403);

  const cut = await grant({ ...login, scope: 'nodes:read runs:read' });
  const wider = {
    grant_type: 'refresh_token',
    refresh_token: cut.fields['refresh_token'] ?? '',
    scope: 'nodes:revoke',
  };
  isGrantError(t, await grant(wider), 400, 'invalid_scope', 'more than at the login');
  isGrantError(
    t,
    await grant({ ...login, scope: '' }),
    400,
    'invalid_scope',
    'a scope that no token can hold',
  );
  clock.advance(60_000);
  const again = await grant({ ...wider, scope: 'nodes:read' });
  t.equal(again.status, 200, 'the refusal has not used up the refresh token');

  const brief = (await grant(login)).fields;
  t.equal((await ask('GET /auth/me', { token: brief['access_token'] })).status, 200);
  t.equal((await ask('POST /auth/revoke', { form: { token: brief['refresh_token'] ?? '' } })).status, 200);
  const ended = await ask('GET /auth/me', { token: brief['access_token'] });
  t.match([ended.status, ended.fields['title']], [401, 'the token was revoked'], 'its session has ended');

  const wrong = await grant({ ...login, password: 'incorrect horse battery' });
  isGrantError(t, wrong, 400, 'invalid_grant');
  const unknown = await grant({ ...login, username: 'nobody' });
  t.equal(unknown.text, wrong.text, 'who is there cannot be found out');
  isGrantError(t, await grant({ ...login, tenant: 'elsewhere' }), 400, 'invalid_grant');
  for (const made of [
    '',
    'rcr_',
    `rcr_${'0'.repeat(32)}_${'A'.repeat(65)}`,
    refresh_token.slice(0, -1),
    'x'.repeat(9_000),
  ])
    isGrantError(
      t,
      await grant({ grant_type: 'refresh_token', refresh_token: made }),
      400,
      'invalid_grant',
      made,
    );
});

void t.test('a login with only username and password is accepted, and its response has the user', async t => {
  const brief = { username: 'ann', password };
  const { id } = await access.users.get('default', 'ann');
  const user = { id, name: 'ann', tenant: 'default', roles: ['operator'] };
  for (const answer of [
    await ask('POST /auth/token', { json: brief }),
    await grant(brief),
    await grant({ ...brief, grant_type: 'password' }),
    await grant(login),
  ]) {
    t.match(answer, { status: 200, json: { token_type: 'Bearer', expires_in: 900, user } });
    t.equal((await ask('GET /auth/me', { token: answer.fields['access_token'] })).status, 200);
  }
  isGrantError(t, await grant({ ...brief, password: 'incorrect horse battery' }), 400, 'invalid_grant');
  pause();
});

void t.test('invalid token requests are refused with their OAuth error', async t => {
  const without = (name: string): Record<string, string> =>
    Object.fromEntries(Object.entries(login).filter(([each]) => each !== name));
  const cases: readonly (readonly [Record<string, string>, string])[] = [
    [{}, 'invalid_request'],
    [without('username'), 'invalid_request'],
    [without('password'), 'invalid_request'],
    [{ ...login, client_id: 'some-app' }, 'unauthorized_client'],
    [{ username: 'ann', password, client_id: 'some-app' }, 'unauthorized_client'],
    [{ username: 'ann' }, 'invalid_request'],
    [{ password }, 'invalid_request'],
    [{ ...login, client_id: 'rollcall-cli ' }, 'unauthorized_client'],
    [{ ...login, grant_type: 'authorization_code' }, 'unsupported_grant_type'],
    [{ ...login, grant_type: 'constructor' }, 'unsupported_grant_type'],
    [{ ...login, grant_type: '__proto__' }, 'unsupported_grant_type'],
    [{ grant_type: 'refresh_token' }, 'invalid_request'],
  ];
  for (const [form, error] of cases) {
    const status = error === 'unauthorized_client' ? 403 : 400;
    isGrantError(t, await grant(form), status, error, JSON.stringify(form));
    isGrantError(
      t,
      await ask('POST /auth/token', { json: form }),
      status,
      error,
      `${JSON.stringify(form)} as JSON`,
    );
  }
  const form = new URLSearchParams(login).toString();
  const typed = (type: string): Record<string, string> => ({ 'content-type': type });
  const bodies: Readonly<Record<string, Parameters<typeof ask>[1]>> = {
    'a field twice': { raw: `${form}&username=eve`, headers: typed('application/x-www-form-urlencoded') },
    'the grant twice': {
      raw: `${form}&grant_type=password`,
      headers: typed('application/x-www-form-urlencoded'),
    },
    'a member twice': { raw: `{"grant_type":"password",${JSON.stringify(login).slice(1)}` },
    'a member twice, spelled otherwise': { raw: `{"grant\\u005ftype":"x",${JSON.stringify(login).slice(1)}` },
    'no JSON': { raw: '{"grant_type":' },
    'no UTF-8': { raw: Buffer.from('7b2261223a22ff227d', 'hex') },
    nothing: { raw: '' },
    'a list': { json: [login] },
    null: { raw: 'null' },
    'a number in it': { json: { ...login, password: 1 } },
    'an object in it': { json: { ...login, username: { $ne: '' } } },
    'a list in it': { json: { ...login, username: ['ann'] } },
    'a form in another type': { raw: form, headers: typed('text/plain') },
    XML: {
      raw: '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
      headers: typed('application/xml'),
    },
    'a form in parts': { raw: 'x', headers: typed('multipart/form-data; boundary=x') },
    'too long': { json: { ...login, password: 'x'.repeat(70_000) } },
    'a deep one': { raw: `${'['.repeat(30_000)}${']'.repeat(30_000)}` },
    'deep objects': { raw: `${'{"a":'.repeat(10_000)}1${'}'.repeat(10_000)}` },
  };
  for (const [what, body] of Object.entries(bodies)) {
    const answer = await ask('POST /auth/token', body);
    t.match([answer.status, answer.fields['error']], [400, 'invalid_request'], what);
    t.notMatch(answer.text, /eve|passwd|root:/, what);
  }
  t.match(await ask('GET /.well-known/oauth-authorization-server'), {
    status: 200,
    json: { issuer: access.issuer(), token_endpoint: `${access.issuer()}/auth/token` },
  });
  t.match(await ask('GET /.well-known/openid-configuration'), {
    status: 200,
    json: {
      issuer: access.issuer(),
      jwks_uri: `${access.issuer()}/.well-known/jwks.json`,
      id_token_signing_alg_values_supported: ['ES256'],
      scopes_supported: permissionNames,
    },
  });
  const { json, headers } = await ask('GET /.well-known/jwks.json');
  t.equal(headers['cache-control'], 'public, max-age=300');
  t.match(json, { keys: [{ kty: 'EC', crv: 'P-256', alg: 'ES256' }] });
  t.notMatch(JSON.stringify(json), /"(d|k|p|q|dp|dq|qi)":/, 'public keys alone');
});

void t.test('a service authenticates by secret, by its own key, or by its own certificate', async t => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const own = makeDevelopmentCertificates({ hosts: [], days: 1, now: Date.now(), random: systemRandom });
  const foreign = makeDevelopmentCertificates({ hosts: [], days: 1, now: Date.now(), random: systemRandom });
  const thumbprint = createHash('sha256')
    .update(new X509Certificate(own.ca.certificate).raw)
    .digest('base64url');
  const made = await ask('POST /v1/services', {
    ...operator,
    json: {
      name: 'ingest',
      roles: ['viewer'],
      audiences: ['rollcall', 'logging'],
      scopes: ['logs:write'],
      publicKeys: [publicKey.export({ type: 'spki', format: 'pem' })],
      certificates: [thumbprint],
    },
  });
  t.equal(made.status, 200);
  const id = made.fields['id'] ?? '';
  const secret = (await ask(`POST /v1/services/${id}/secret`, operator)).fields['secret'] ?? '';
  const asking = { grant_type: 'client_credentials', client_id: id };
  const bySecret = { ...asking, client_secret: secret };
  const basic = (name: string, word: string): Record<string, string> => ({
    authorization: `Basic ${Buffer.from(`${name}:${word}`).toString('base64')}`,
  });
  const me = async (
    { fields }: RestAnswer,
    certificate?: { cert: string; key: string },
  ): Promise<RestAnswer> =>
    ask('GET /auth/me', { token: fields['access_token'], ...(certificate && { certificate }) });

  const subjectOf = ({ fields }: RestAnswer): unknown => decodeJwt(fields['access_token'] ?? '').sub;
  const assert = (
    claims: Readonly<Record<string, string | number | undefined>> = {},
    key = privateKey,
  ): Promise<string> => {
    const defaultAlgorithm = {
      iss: id,
      sub: id,
      aud: access.issuer(),
      jti: systemRandom(16).toString('hex'),
      exp: now() + 60,
    };
    const all = Object.entries<string | number | undefined>({ ...defaultAlgorithm, ...claims }).filter(
      ([, value]) => value !== undefined,
    );
    return new SignJWT(Object.fromEntries(all)).setProtectedHeader({ alg: 'ES256' }).sign(key);
  };
  const byAssertion = async (assertion: Promise<string>): Promise<RestAnswer> =>
    grant(
      {
        grant_type: 'client_credentials',
        client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
        client_assertion: await assertion,
      },
      { from: `127.0.2.${++sources}` },
    );

  await t.test('a service authenticates with its secret in the form or in Basic', async t => {
    const answer = await grant(bySecret);
    t.match(answer.json, { token_type: 'Bearer', expires_in: 900 });
    t.notOk('refresh_token' in (answer.json as object), 'it can always ask again');
    t.match((await me(answer)).json, { kind: 'service', name: 'ingest', roles: ['viewer'] });
    const unnamed = { grant_type: 'client_credentials' };
    t.equal((await grant(unnamed, { headers: basic(id, secret) })).status, 200);
    t.equal((await grant(unnamed, { headers: basic(encodeURIComponent(id), secret) })).status, 200);
    t.equal((await ask('POST /auth/token', { json: bySecret })).status, 200, 'as JSON');
  });

  await t.test('a service may use its name as client_id with every credential', async t => {
    const named = { grant_type: 'client_credentials', client_id: 'Ingest' };
    const certificate = { cert: own.ca.certificate, key: own.ca.key };
    const unnamed = { grant_type: 'client_credentials' };
    const assertion = await assert({ iss: 'ingest', sub: 'ingest' });
    for (const [what, answer] of [
      ['a secret', await grant({ ...named, client_secret: secret })],
      ['a secret, of the tenant that is said', await grant({ ...bySecret, ...named, tenant: 'default' })],
      ['Basic', await grant(unnamed, { headers: basic('ingest', secret) })],
      ['an assertion', await byAssertion(Promise.resolve(assertion))],
      ['a certificate', await grant(named, { certificate })],
    ] as const)
      t.match([answer.status, subjectOf(answer)], [200, id], what);
    isGrantError(t, await byAssertion(Promise.resolve(assertion)), 401, 'invalid_client', 'used again');
    pause();
  });

  await t.test('POST /token with sub and aud gives a service a token for itself', async t => {
    const post = (json: Record<string, string>, more: Parameters<typeof ask>[1] = {}) =>
      ask('POST /token', { json, ...more });
    const asked = { sub: 'ingest', aud: 'logging' };
    const certificate = { cert: own.ca.certificate, key: own.ca.key };
    for (const [what, answer] of [
      ['by Basic', await post(asked, { headers: basic(id, secret) })],
      ['by a secret', await post({ ...asked, client_id: id, client_secret: secret })],
      ['by a secret, as whom sub says', await post({ ...asked, client_secret: secret })],
      ['by its id', await post({ sub: id, aud: 'logging', client_secret: secret })],
      ['by a certificate', await post(asked, { certificate })],
      ['without sub', await post({ aud: 'logging' }, { headers: basic('ingest', secret) })],
      ['as a form', await ask('POST /token', { form: asked, headers: basic(id, secret) })],
    ] as const) {
      t.match(answer, { status: 200, json: { token_type: 'Bearer', expires_in: 900 } }, what);
      t.match(decodeJwt(answer.fields['access_token'] ?? ''), { sub: id, aud: 'logging' }, what);
    }
    const other = await ask('POST /v1/services', { ...operator, json: { name: 'other' } });
    const ann = (await access.users.get('default', 'ann')).id;
    for (const sub of ['other', other.fields['id'] ?? '', 'ann', ann, 'nobody', '']) {
      const answer = await post({ sub, aud: 'logging' }, { headers: basic(id, secret) });
      isGrantError(t, answer, 400, 'invalid_request', `for ${sub}`);
      t.match(answer.fields['error_description'], /^a service gets tokens for itself alone/);
    }
    isGrantError(
      t,
      await post({ ...asked, aud: 'billing' }, { headers: basic(id, secret) }),
      400,
      'invalid_target',
    );
    for (const [what, more] of [
      ['nothing', {}],
      ['the token of an admin', operator],
      ['a wrong secret', { headers: basic(id, 'rcs_wrong') }],
    ] as const)
      isGrantError(
        t,
        await post(asked, { ...more, from: `127.0.2.${++sources}` }),
        401,
        'invalid_client',
        what,
      );
    pause();
  });

  await t.test('a service token is limited to the registered audience and scope', async t => {
    const logging = await grant({ ...bySecret, audience: 'logging' });
    const claims = decodeJwt(logging.fields['access_token'] ?? '');
    t.match(claims, { aud: 'logging', sub: id, roles: [], scope: 'logs:write', iss: access.issuer() });
    t.equal((await me(logging)).status, 401, 'a token for another audience is refused here');
    isGrantError(t, await grant({ ...bySecret, audience: 'billing' }), 400, 'invalid_target');
    isGrantError(
      t,
      await grant({ ...bySecret, audience: 'logging', scope: 'logs:erase' }),
      400,
      'invalid_scope',
    );
    const narrow = await grant({ ...bySecret, scope: 'metrics:read users:manage' });
    t.match((await me(narrow)).json, { permissions: ['metrics:read'] }, 'a scope only takes away');
  });

  await t.test('an assertion by the key of a service is accepted once', async t => {
    const assertion = await assert();
    const answer = await byAssertion(Promise.resolve(assertion));
    t.match((await me(answer)).json, { name: 'ingest' });
    isGrantError(t, await byAssertion(Promise.resolve(assertion)), 401, 'invalid_client', 'used again');
    t.equal((await byAssertion(assert({ aud: `${access.issuer()}/auth/token` }))).status, 200);
    const unsigned = Buffer.from('{"alg":"none"}').toString('base64url');
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
    const bad: Readonly<Record<string, () => Promise<string>>> = {
      'another key': () => assert({}, other),
      'another audience': () => assert({ aud: 'https://elsewhere' }),
      'another issuer': () => assert({ iss: 'ingest' }),
      'no id': () => assert({ jti: undefined }),
      'no end': () => assert({ exp: undefined }),
      expired: () => assert({ exp: now() - 120 }),
      'an end far away': () => assert({ exp: now() + 86_400 }),
      'not yet': () => assert({ nbf: now() + 600 }),
      unsigned: async () => (await assert()).replace(/^[^.]+(.*\.).*$/, `${unsigned}$1`),
    };
    for (const [what, make] of Object.entries(bad)) {
      pause();
      isGrantError(t, await byAssertion(make()), 401, 'invalid_client', what);
    }
  });

  await t.test('a service certificate binds its token to the certificate', async t => {
    const certificate = { cert: own.ca.certificate, key: own.ca.key };
    const other = { cert: foreign.ca.certificate, key: foreign.ca.key };
    const answer = await grant(asking, { certificate });
    t.match(decodeJwt(answer.fields['access_token'] ?? ''), { cnf: { 'x5t#S256': thumbprint } });
    t.match((await me(answer, certificate)).json, { name: 'ingest' });
    t.match(
      await me(answer),
      { status: 401, fields: { code: 'TOKEN_REFUSED' } },
      'without it the token is refused',
    );
    t.equal((await me(answer, other)).status, 401, 'nor with another');
    isGrantError(t, await grant(asking, { certificate: other }), 401, 'invalid_client');
    isGrantError(t, await grant(asking), 401, 'invalid_client');
    const header = {
      'x-forwarded-client-cert': own.ca.certificate.replaceAll('\n', ''),
      'x-ssl-client-verify': 'SUCCESS',
    };
    isGrantError(t, await grant(asking, { headers: header, from: '127.0.2.200' }), 401, 'invalid_client');
  });

  await t.test('a service gets the same refusal for every wrong credential', async t => {
    pause();
    const absent = `service:${'0'.repeat(32)}`;
    const wrong = await grant({ ...bySecret, client_secret: 'rcs_wrong' }, { from: '127.0.2.210' });
    isGrantError(t, wrong, 401, 'invalid_client');
    t.equal(wrong.headers['www-authenticate'] !== undefined, true);
    const same = [
      { ...bySecret, client_id: absent },
      { ...bySecret, client_id: 'ingest', tenant: 'elsewhere' },
      { ...bySecret, client_id: 'ingest', tenant: '../default' },
      { ...bySecret, client_id: 'nobody' },
      { ...bySecret, client_id: '../../etc' },
      { ...bySecret, client_id: '__proto__' },
      { ...bySecret, client_id: '' },
      { ...bySecret, client_secret: '' },
      { ...asking },
      { grant_type: 'client_credentials' },
    ];
    for (const [position, form] of same.entries()) {
      pause();
      const answer = await grant(form, { from: `127.0.2.${220 + position}` });
      t.equal(answer.text, wrong.text, JSON.stringify(form));
    }
    const two = await grant(bySecret, { headers: basic(id, secret), from: '127.0.2.230' });
    isGrantError(t, two, 400, 'invalid_request', 'two ways at once');
    for (const odd of ['Basic', 'Basic ====', 'Basic OmFiYw==', 'Bearer x', `Basic ${'A'.repeat(9_000)}`])
      t.equal(
        (await grant(asking, { headers: { authorization: odd }, from: '127.0.2.231' })).status,
        401,
        odd,
      );
  });

  await t.test('the address of a service is that of its socket', async t => {
    pause();
    const change = { ...operator, json: { addresses: ['127.0.0.9'] } };
    t.equal((await ask(`PATCH /v1/services/${id}`, change)).status, 200);
    const claims = { 'x-forwarded-for': '127.0.0.9', forwarded: 'for=127.0.0.9', 'x-real-ip': '127.0.0.9' };
    isGrantError(t, await grant(bySecret, { headers: claims, from: '127.0.2.240' }), 401, 'invalid_client');
    pause();
    t.equal(
      (await grant(bySecret, { from: '127.0.0.9', headers: { 'x-forwarded-for': '192.0.2.1' } })).status,
      200,
    );
    t.equal((await ask(`PATCH /v1/services/${id}`, { ...operator, json: { addresses: [] } })).status, 200);
  });

  await t.test('tokens of a service can be ended, and new ones are valid at once', async t => {
    const before = await grant(bySecret);
    t.equal((await ask(`PATCH /v1/services/${id}`, { ...operator, json: { endTokens: true } })).status, 200);
    t.equal((await me(before)).status, 401);
    t.equal((await me(await grant(bySecret))).status, 200);
    t.equal((await ask(`PATCH /v1/services/${id}`, { ...operator, json: { enabled: false } })).status, 200);
    isGrantError(t, await grant(bySecret), 401, 'invalid_client', 'disabled');
  });
});
let sources = 0;

void t.test('unknown fields of a request body grant nothing', async t => {
  const key = (): string => newKey().publicKey.spki.toString('base64');
  const user = { name: 'bob', roles: ['viewer'], password };
  const bodies: Readonly<Record<string, () => object>> = {
    'POST /v1/users': () => user,
    'PATCH /v1/users/ann': () => ({ enabled: true }),
    'POST /v1/nodes': () => ({ publicKey: key() }),
    'POST /v1/tokens': () => ({ name: 'x', roles: ['viewer'], lifetimeMs: 60_000 }),
    'POST /v1/services': () => ({ name: 'x' }),
    'PUT /v1/roles/x': () => ({ permissions: ['nodes:read'] }),
    'POST /v1/tenants': () => ({ name: 'x', admin: 'x', password }),
    'POST /auth/setup': () => ({ code: 'x', username: 'x', password }),
    'POST /auth/setup/code': () => ({ code: 'x' }),
    'POST /v1/keys/rotate': () => ({ audience: 'nobody' }),
  };
  const more = [
    'status',
    'role',
    'tenant',
    'id',
    'owner',
    'permissions ',
    'validAfter',
    'passwordHash',
    '__proto__',
    'constructor',
    'prototype',
  ];
  for (const [line, body] of Object.entries(bodies)) {
    for (const name of more) {
      // As text, since __proto__ in a literal would be the prototype.
      const raw = `{${JSON.stringify(name)}:{"roles":["admin"]},${JSON.stringify(body()).slice(1)}`;
      const { status, fields } = await ask(line, { ...operator, raw });
      t.same([status, fields['code']], [400, 'REQUEST_INVALID'], `${line} with ${name}`);
    }
    const { status } = await ask(line, { ...operator, raw: `{"x":{"x":1,"x":2}}` });
    t.equal(status, 400, `${line}: a member twice`);
    for (const raw of ['[]', 'null', '"x"', '1', '{', '']) {
      t.equal((await ask(line, { ...operator, raw })).status, 400, `${line} ${raw}`);
    }
  }
  t.same(Object.keys(Object.prototype), []);
  t.equal(({} as Record<string, unknown>)['roles'], undefined, 'no prototype was changed');
  t.match(
    await ask('GET /v1/users', operator),
    { json: { users: { length: 2 } } },
    'and nobody is there who was not',
  );

  const unfit: readonly (readonly [string, object, RegExp])[] = [
    ['POST /v1/users', { ...user, roles: 'viewer' }, /roles must be a list/],
    ['POST /v1/users', { ...user, roles: [1] }, /roles\[0\] must be a text/],
    ['POST /v1/users', { ...user, roles: Array(101).fill('viewer') }, /at most 100/],
    ['POST /v1/users', { ...user, name: '' }, /name must be a text of 1 to 63/],
    ['POST /v1/users', { ...user, name: 'x'.repeat(64) }, /name must be a text of 1 to 63/],
    ['POST /v1/users', { ...user, password: 123_456_789_012 }, /password must be a text/],
    ['POST /v1/users', { name: 'bob', roles: [] }, /must have password/],
    ['PATCH /v1/users/ann', { enabled: 'true' }, /enabled must be true or false/],
    ['PATCH /v1/users/ann', { enabled: null }, /enabled must be true or false/],
    ['POST /v1/tokens', { name: 'x', roles: [], lifetimeMs: '60000' }, /lifetimeMs must be a whole number/],
    ['POST /v1/tokens', { name: 'x', roles: [], lifetimeMs: 1e300 }, /lifetimeMs must be a whole number/],
    ['POST /v1/tokens', { name: 'x', roles: [], lifetimeMs: -1 }, /lifetimeMs must be a whole number/],
    ['POST /v1/services', { name: 'x', certificates: Array(6).fill('x') }, /at most 5/],
    ['PUT /v1/roles/x', { permissions: { length: 0 } }, /permissions must be a list/],
    ['PUT /v1/roles/x', { permissions: Array(101).fill('nodes:read') }, /at most 100 permissions/],
    ['POST /v1/users', { ...user, password: 'x'.repeat(257) }, /15 to 256 characters/],
    ['POST /v1/tenants', { name: 'x', admin: 'no name', password }, /no user name/],
    ['POST /v1/keys/rotate', { audience: 'two words' }, /no audience/],
  ];
  for (const [line, json, title] of unfit) {
    const { status, fields } = await ask(line, { ...operator, json });
    t.match([status, fields['title']], [400, title], `${line} ${JSON.stringify(json).slice(0, 80)}`);
  }
  t.match(
    await ask('GET /v1/tenants', operator),
    { json: { tenants: { length: 1 } } },
    'a tenant is not made for an admin that cannot be',
  );

  const labels = (raw: string): Promise<RestAnswer> =>
    ask('POST /v1/nodes', { ...operator, raw: `{"publicKey":"${key()}","labels":${raw}}` });
  t.match((await labels('{"constructor":"a","toString":"b"}')).json, {
    labels: { constructor: 'a', toString: 'b' },
  });
  t.equal((await labels('{"__proto__":"a"}')).status === 500, false);
  t.equal((await labels('{"a":{"b":1}}')).status, 400);
  t.equal((await labels(`{${Array.from({ length: 200 }, (_, n) => `"l${n}":""`).join()}}`)).status, 400);
  for (const publicKey of ['', 'AAAA', key().slice(0, -4), key() + key(), '☃'])
    t.equal((await ask('POST /v1/nodes', { ...operator, json: { publicKey } })).status, 400, publicKey);
});

void t.test('invalid pages, ids and paths are refused', async t => {
  for (let count = 0; count < 3; count += 1) await link.register(newKey());
  const first = await ask('GET /v1/nodes?pageSize=2', operator);
  t.match(first.json, { nodes: { length: 2 } });
  const pageToken = first.fields['nextPageToken'] ?? '';
  const second = await ask(`GET /v1/nodes?pageSize=2&pageToken=${pageToken}`, operator);
  t.equal(second.status, 200);
  const flipped = `${pageToken.slice(0, -1)}${pageToken.endsWith('A') ? 'B' : 'A'}`;
  const odd = [
    ...[
      'pageSize=0',
      'pageSize=-1',
      'pageSize=1001',
      'pageSize=1e3',
      'pageSize=0x10',
      'pageSize=',
      'pageSize=%205',
      'pageSize=1.5',
    ],
    ...[
      `pageSize=${'9'.repeat(400)}`,
      'pageSize=5&pageSize=6',
      'pageSize[]=5',
      'pageSize=NaN',
      'page_size=5',
    ],
    ...[
      `pageToken=${flipped}`,
      'pageToken=x',
      'pageToken=%00',
      `pageToken=${'A'.repeat(301)}`,
      `pageToken=${pageToken}&text=x`,
    ],
    ...[
      'status=lost',
      'status=__proto__',
      'status=online&status=offline',
      'tenant=ward',
      'owner=ann',
      '__proto__=x',
      'constructor=x',
    ],
  ];
  for (const query of odd) {
    const { status, fields } = await ask(`GET /v1/nodes?${query}`, operator);
    t.same([status, fields['code']], [400, 'REQUEST_INVALID'], query);
  }
  const strange = [
    ...[
      '..%2f..%2fetc%2fpasswd',
      '-rf',
      '--help',
      'x'.repeat(300),
      'x'.repeat(5_000),
      '%00',
      '%0d%0aset-cookie:x',
      '%',
      '%zz',
      '%ff',
    ],
    ...[
      '__proto__',
      'constructor',
      '0',
      '-1',
      '1e9',
      '18446744073709551616',
      '%F0%9F%92%A9',
      '*',
      '%2e',
      'user:',
      'service:..',
      "'or'1'='1",
    ],
  ];
  const places = [
    'GET /v1/nodes/ID',
    'GET /v1/nodes/ID/history',
    'PATCH /v1/users/ID',
    'PATCH /v1/services/ID',
    'POST /v1/services/ID/secret',
    'DELETE /v1/tokens/ID',
    'DELETE /v1/roles/ID',
  ];
  for (const place of places) {
    for (const id of strange) {
      const json = place.startsWith('PATCH') ? { json: { enabled: true } } : {};
      const { status, text, headers } = await ask(place.replace('ID', id), { ...operator, ...json });
      t.ok([400, 404].includes(status), `${place} ${id.slice(0, 20)}: ${status}`);
      t.match(headers, { 'content-type': /json/, 'x-content-type-options': 'nosniff' });
      t.notMatch(text, /root:|node_modules|\.js:/);
    }
  }
  t.match(await ask('DELETE /v1/users', operator), { status: 405, headers: { allow: 'GET, HEAD, POST' } });
  t.match(await ask('POST /v1/nodes/7', operator), { status: 405, headers: { allow: 'GET, HEAD' } });
  t.equal((await ask('GET /v1/nothing', operator)).status, 404);
  for (const path of [
    '/v1/users/',
    '/V1/users',
    '//v1/users',
    '/v1/./users',
    '/v1/nodes/../users',
    '/v1;x/users',
    '/v1/users%2f',
    '/v1/users\\',
  ])
    t.equal((await ask(`GET ${path}`, operator)).status, 404, path);
});

void t.test('the audit log states who did what to which object, where and in which request', async t => {
  const { publicKey } = newKey();
  const node = { publicKey: publicKey.spki.toString('base64'), name: 'audited' };
  t.equal((await ask('POST /v1/nodes', { ...operator, json: node })).status, 200);
  t.equal((await ask('POST /v1/nodes/audited/revoke', { ...operator, json: {} })).status, 200);
  const user = { name: 'vic', roles: ['viewer'], password };
  t.equal((await ask('POST /v1/users', { ...operator, json: user })).status, 200);
  const told = await ask('GET /v1/audit/events?newestFirst=true', operator);
  const events = (told.json as { entries: Record<string, unknown>[] }).entries;
  for (const type of ['node.registered', 'node.revoked', 'user.created']) {
    const event = events.find(each => each['type'] === type);
    t.match(
      event,
      { by: { kind: 'user', name: 'operator' }, address: '127.0.0.1', requestId: /^.{4,}$/ },
      type,
    );
  }
});

void t.test('revocations by a token holder are audited under the name of the holder', async t => {
  const [ended, left] = [await grant(login), await grant(login)];
  const refresh_token = ended.fields['refresh_token'] ?? '';
  const next = await grant({ grant_type: 'refresh_token', refresh_token });
  const revoke = (token = '') => ask('POST /auth/revoke', { form: { token } });
  t.equal((await revoke(next.fields['refresh_token'])).status, 200, 'by refresh token');
  t.equal((await revoke(left.fields['access_token'])).status, 200, 'by access token');
  const told = await ask('GET /v1/audit/events?newestFirst=true&limit=3', operator);
  const ann = { kind: 'user', id: /^user:[0-9a-f]{32}$/, name: 'ann' };
  t.match(told.json, {
    entries: [
      { type: 'session.ended', by: ann, address: '127.0.0.1' },
      { type: 'session.ended', by: ann, address: '127.0.0.1' },
      { type: 'token.refreshed', by: ann, address: '127.0.0.1' },
    ],
  });
});

void t.test('a refused request of an authenticated caller is audited by name', async t => {
  const { fields } = await grant({ ...login, scope: 'nodes:read' });
  const { access_token: token = '' } = fields;
  t.equal((await ask('POST /v1/users', { token, json: {} })).status, 403);
  t.equal((await ask('POST /v1/nodes/18446744073709551615/revoke', { token, json: {} })).status, 403);
  const asAnn = connectOperator(`localhost:${link.link.addresses.control.port}`, token, link.ca);
  t.teardown(() => asAnn.close());
  await t.rejects(asAnn.revokeNode({ node: '18446744073709551615', comment: '' }), { code: 'NOT_ALLOWED' });
  clock.advance(61_000);
  const refused = async () => {
    const { json } = await ask(
      'GET /v1/audit/events?limit=1000&newestFirst=true&typePrefix=request.refused',
      operator,
    );
    return (json as { entries: Record<string, unknown>[] }).entries[0];
  };
  const isTold = async () => (await refused()) !== undefined;
  for (let turns = 0; turns < 100 && !(await isTold()); turns += 1) await new Promise(setImmediate);
  t.match(await refused(), {
    ...{ by: { kind: 'user', name: 'ann' }, address: '127.0.0.1', outcome: 'refused' },
    detail: { 'users:manage': 1, 'nodes:revoke': 2 },
  });
});

void t.test(
  'an operator sees which accounts are attacked, and which callers make refused requests',
  async t => {
    const site = await startTestLink(t, { clock });
    const askSite = restCalls(t, site.link.addresses.control.port, site.ca);
    const as = { token: site.token };
    const { users, passwords } = site.link.access;
    const passwordHash = await passwords.hash(password);
    const bob = { name: 'bob', roles: ['viewer'], passwordHash };
    const { id } = await users.create('default', bob, { type: 'user.created', by: userParty('test') });
    const settings = { audiences: ['studio'], scopes: ['read'] };
    const service = await askSite('POST /v1/services', { ...as, json: { name: 'ingest', ...settings } });
    const client_id = service.fields['id'] ?? '';
    const made = await askSite(`POST /v1/services/${client_id}/secret`, as);
    const client_secret = made.fields['secret'] ?? '';
    const token = (form: Record<string, string>) => askSite('POST /auth/token', { form });
    const byPassword = { grant_type: 'password', client_id: 'rollcall-cli', username: 'bob', password };
    const asService = { grant_type: 'client_credentials', client_id, client_secret };

    for (let n = 0; n < 3; n += 1) await token({ ...byPassword, password: 'a wrong one' });
    await token({ ...byPassword, username: 'my-password-by-mistake' });
    await token({ ...byPassword, tenant: 'nowhere' });
    await token({ ...asService, client_secret: 'rcs_wrong' });
    t.equal((await token({ ...asService, audience: 'elsewhere' })).fields['error'], 'invalid_target');
    t.equal((await token({ ...asService, scope: 'write' })).fields['error'], 'invalid_scope');
    const login = (await token({ ...byPassword, scope: 'nodes:read' })).fields;
    const refresh_token = login['refresh_token'] ?? '';
    await token({ grant_type: 'refresh_token', refresh_token, scope: 'nodes:read users:manage' });
    await askSite('POST /auth/revoke', { form: { token: refresh_token } });
    t.equal((await askSite('GET /auth/me', { token: login['access_token'] })).status, 401);
    await askSite('GET /auth/me', { token: 'made.up.token' });

    clock.advance(61_000);
    const refused = async () => {
      const told = await askSite('GET /v1/audit/events?limit=1000', as);
      const { entries } = told.json as { entries: AuditEntry[] };
      return entries.filter(({ type }) => type.endsWith('.refused'));
    };
    while ((await refused()).length === 0) await new Promise(setImmediate);
    const told = (await refused()).map(({ type, by, subject, outcome, address, detail }) => {
      t.equal(outcome, 'refused');
      t.equal(address, '127.0.0.1');
      return [type, formatParty(by), subject, { ...detail }];
    });
    t.strictSame(told.sort(), [
      ['login.refused', 'anonymous', client_id, { name: 'ingest', LOGIN_REFUSED: 1 }],
      ['login.refused', 'anonymous', 'unknown account', { LOGIN_REFUSED: 2 }],
      ['login.refused', 'anonymous', id, { name: 'bob', LOGIN_REFUSED: 3, TOKEN_REFUSED: 1 }],
      ['peer.refused', 'anonymous', '127.0.0.1', { TOKEN_REFUSED: 1 }],
      ['request.refused', 'service:ingest', '', { invalid_target: 1, invalid_scope: 1 }],
      ['request.refused', 'user:bob', '', { invalid_scope: 1 }],
    ]);
    const alerts = site.logged.filter(line => line.includes('security.request-refused'));
    t.match(
      alerts.map(line => JSON.parse(line) as unknown),
      [
        { account: client_id, name: 'ingest', address: '127.0.0.1', reason: 'invalid_target' },
        { account: id, name: 'bob', reason: 'invalid_scope' },
      ],
      'once a minute for each',
    );
    const { text } = await askSite('GET /metrics', as);
    t.match(text, /^rollcall_refusals_total\{event="login.refused",reason="LOGIN_REFUSED"\} 6$/m);
    t.match(text, /^rollcall_security_alerts_total\{event="security.request-refused"\} 2$/m);
    const everything = JSON.stringify([site.logged, await refused(), text]);
    t.notMatch(
      everything,
      /my-password-by-mistake|nowhere/,
      'what a stranger called the account is written nowhere',
    );
  },
);

void t.test('metrics count the nodes and the sessions of every tenant', async t => {
  const metric = async (line: RegExp): Promise<number> =>
    Number(line.exec((await ask('GET /metrics', operator)).text)?.[1] ?? 0);
  const created = /^rollcall_nodes\{status="created"\} (\d+)$/m;
  const changes = /^rollcall_presence_changes_total\{status="created",reason="registered"\} (\d+)$/m;
  const before = [await metric(created), await metric(changes)];
  const admin = { name: 'metered', admin: 'met', password };
  t.equal((await ask('POST /v1/tenants', { ...operator, json: admin })).status, 200);
  const { fields } = await grant({ ...login, username: 'met', tenant: 'metered' });
  const node = { publicKey: newKey().publicKey.spki.toString('base64') };
  t.equal((await ask('POST /v1/nodes', { token: fields['access_token'], json: node })).status, 200);
  t.same(
    [await metric(created), await metric(changes)],
    before.map(count => count + 1),
  );
});

void t.test('tokens and sessions from before a moment end together', async t => {
  const store = createMemoryStore();
  const ownClock = createManualClock();
  const own = await startTestLink(t, { store, clock: ownClock });
  const askOwn = restCalls(t, own.link.addresses.control.port, own.ca);
  const { users, services, passwords, tenants } = own.link.access;
  const passwordHash = await passwords.hash(password);
  const reason = { type: 'user.created', by: userParty('test') } as const;
  await users.create('default', { name: 'ann', roles: ['admin'], passwordHash }, reason);
  await tenants.create('other', userParty('test'));
  await users.create('other', { name: 'bob', roles: ['admin'], passwordHash }, reason);
  const service = await services.create('default', 'nightly', { roles: ['viewer'] }, userParty('test'));
  const { secret } = await services.addSecret('default', service.id, userParty('test'));
  const tokenBy = async (form: Record<string, string>) => (await askOwn('POST /auth/token', { form })).fields;
  const byService = { grant_type: 'client_credentials', client_id: service.id, client_secret: secret };
  const old = [await tokenBy(login), await tokenBy(byService), { access_token: own.token }];
  const elsewhere = await tokenBy({ ...login, username: 'bob', tenant: 'other' });
  ownClock.advance(5_000);
  const [fresh, viewer] = [await tokenBy(login), await tokenBy(byService)];
  const before = ownClock.now() - 1_000;
  const end = (token: string | undefined, json: unknown) => askOwn('POST /v1/tokens/end', { token, json });
  t.equal((await end(viewer['access_token'], { before })).status, 403);
  for (const wrong of [{}, { before: -1 }, { before: 1.5 }, { before: 'now' }, { before: before + 60_000 }])
    t.equal((await end(fresh['access_token'], wrong)).status, 400, JSON.stringify(wrong));
  t.match((await end(fresh['access_token'], { before })).json, { before, ownEnded: false });
  t.match((await end(fresh['access_token'], { before: 0 })).json, { before }, 'never back');
  for (const { access_token: token } of old) t.equal((await askOwn('GET /auth/me', { token })).status, 401);
  for (const { access_token: token } of [fresh, viewer, elsewhere])
    t.equal((await askOwn('GET /auth/me', { token })).status, 200);
  const refresh = { grant_type: 'refresh_token', refresh_token: old[0]?.['refresh_token'] ?? '' };
  t.equal((await askOwn('POST /auth/token', { form: refresh })).status, 400);
  const opened = await openCutoffs({ store, audit: createAudit({ clock: ownClock }), clock: ownClock });
  t.same([opened.of('default').before, opened.of('other').before], [before, 0], 'kept over a restart');
  const ahead = await opened.raise('other', { before: ownClock.now() + 20_000 }, userParty('test'));
  t.equal(ahead.before, ownClock.now(), 'a clock that is a little ahead means now');
});

void t.test(
  'a store that fails in the middle of a login leaves no token and no part of a session',
  async t => {
    const failing = createPowerCutStore();
    const own = await startTestLink(t, { store: failing.store, clock: createManualClock() });
    const askOwn = restCalls(t, own.link.addresses.control.port, own.ca);
    const { users, passwords } = own.link.access;
    const passwordHash = await passwords.hash(password);
    const ann = { name: 'ann', roles: ['operator'], passwordHash };
    await users.create('default', ann, { type: 'user.created', by: userParty('test') });
    const sessions = async () => (await failing.store.list({ prefix: 't/default/family/' })).length;
    const tryLogin = () => askOwn('POST /auth/token', { form: login });
    for (const kept of [false, true]) {
      failing.failWrites(new Error('the disk is gone'), { kept });
      const { status, text, fields } = await tryLogin();
      t.equal(status, 503, text);
      t.same(
        Object.keys(fields).filter(name => name.includes('token')),
        [],
      );
      failing.failWrites(undefined);
      t.equal((await tryLogin()).status, 200, 'and it costs nothing when the store is well again');
    }
    const events = await listEvents(failing.store, 'default', { limit: 1000 });
    const logins = events.filter(({ type }) => type === 'login').length;
    t.equal(await sessions(), logins, 'every session that is there was told of, and no other');
    t.equal(logins, 3, 'of the failed ones, that whose write went through after all');
  },
);

void t.test(
  'headers that bypass access control elsewhere have no effect, and are logged escaped',
  async t => {
    const tricks: readonly Record<string, string>[] = [
      { 'x-original-url': '/healthz', 'x-rewrite-url': '/healthz' },
      { 'x-forwarded-for': '127.0.0.1', 'x-forwarded-host': 'localhost', 'x-forwarded-proto': 'https' },
      { 'user-agent': 'kube-probe/1.30' },
      { 'user-agent': 'rollcall-cli' },
      { 'x-http-method-override': 'GET', 'x-method-override': 'OPTIONS' },
      { 'x-user': 'operator', 'x-role': 'admin', 'x-tenant': 'default', 'remote-user': 'operator' },
      { cookie: `access_token=${link.token}`, 'x-authorization': `Bearer ${link.token}` },
      { authorization: link.token },
      { authorization: `Basic ${Buffer.from('operator:x').toString('base64')}` },
      { authorization: `Bearer ${link.token}, Bearer ${link.token}` },
      { authorization: `Bearer ${link.token} x` },
      { authorization: 'Bearer' },
      { origin: 'https://localhost', 'access-control-request-method': 'GET' },
    ];
    for (const headers of tricks) {
      const { status, headers: answered } = await ask('GET /v1/users', { headers });
      t.equal(status, 401, JSON.stringify(headers).slice(0, 60));
      t.equal(answered['access-control-allow-origin'], undefined);
    }
    t.equal(
      (await ask(`GET /v1/users?access_token=${link.token}`)).status,
      401,
      'nor is a token taken from the URL',
    );
    t.equal(
      (
        await ask('POST /auth/revoke', {
          form: { token: link.token },
          headers: { 'x-original-url': '/healthz' },
          raw: '',
        })
      ).status,
      200,
    );
    t.equal(
      (await ask('GET /v1/users', operator)).status,
      401,
      'but a revocation is one, no matter who holds the token',
    );
    t.same(await link.link.access.apiTokens.list('default'), [], 'it is in no list any more');
    t.ok(
      link.logged.some(line => line.includes('security.token-denied')),
      'and anyone who uses it is heard',
    );
    t.equal((await ask('POST /auth/revoke', { form: { token: 'nonsense' } })).status, 200, 'RFC 7009 §2.2');
    const logged = link.logged.join('');
    for (const secret of [link.token, password]) t.notOk(logged.includes(secret), 'no secret is in the log');
  },
);
