/** Whether a token holds now: asked of the link, or read from the list that it signs. */
import t from 'tap';
import { generateKeyPairSync } from 'node:crypto';
import { compactVerify, decodeJwt, decodeProtectedHeader } from 'jose';
import { Ended } from '../../../src/link/access/tokens/cutoffs.js';
import { createRevokedLists } from '../../../src/link/access/tokens/revoked-lists.js';
import { maxRevokedEntries, maxRevokedListBytes, readRevokedList } from '../../../src/tokens/revoked-list.js';
import { createTokenVerifier } from '../../../src/tokens/verifier.js';
import { createManualClock } from '../../harness/manual-clock.js';
import { issueToken, makeUser } from '../../harness/operator.js';
import { restCalls, type RestAnswer } from '../../harness/rest-calls.js';
import { startTestLink } from '../../harness/test-link.js';
import { userParty } from '../../harness/parties.js';

const clock = createManualClock();
const link = await startTestLink(t, { clock });
const { access } = link.link;
const ask = restCalls(t, link.link.addresses.control.port, link.ca);
const operator = { token: link.token };
const password = 'correct horse battery';
await access.users.create(
  'default',
  { name: 'ann', roles: ['operator'], passwordHash: await access.passwords.hash(password) },
  { type: 'user.created', by: userParty('test') },
);
const login = { username: 'ann', password };
const grant = (form: Record<string, string>): Promise<RestAnswer> => ask('POST /auth/token', { form });
/** Until guessing costs no waiting. */
const pause = (): void => clock.advance(60_000);
let sources = 0;

/** Makes a service with a secret; gives its id, and headers that prove it. */
async function serviceWith(settings: object): Promise<{ id: string; headers: Record<string, string> }> {
  const { fields } = await ask('POST /v1/services', { ...operator, json: settings });
  const id = fields['id'] ?? '';
  const { secret = '' } = (await ask(`POST /v1/services/${id}/secret`, operator)).fields;
  return { id, headers: { authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}` } };
}

void t.test('introspection returns the present claims of an active token, and of no other', async t => {
  const mill = await serviceWith({ name: 'mill', audiences: ['logging'], scopes: ['logs:write'] });
  const introspect = (token: string, more: Parameters<typeof ask>[1] = { headers: mill.headers }) =>
    ask('POST /auth/introspect', { form: { token }, ...more });
  const inactive = (answer: RestAnswer, message: string): void =>
    void t.same([answer.status, answer.json], [200, { active: false }], message);
  const { access_token: token = '', refresh_token: refreshToken = '' } = (await grant(login)).fields;

  const { json } = await introspect(token);
  const { sub, jti, sid, exp } = decodeJwt(token);
  const iss = access.issuer();
  t.match(json, { active: true, token_type: 'Bearer', sub, jti, sid, exp, iss, aud: 'rollcall' });
  t.match(json, {
    username: 'ann',
    tenant_id: 'default',
    roles: ['operator'],
    scope: /^metrics:read nodes:read/,
  });
  t.same((await introspect(token, operator)).json, json, 'to a Bearer token with the permission');
  const asJson = await ask('POST /auth/introspect', { json: { token }, headers: mill.headers });
  t.same(asJson.json, json, 'as JSON');
  const foreign = await ask('POST /token', { json: { aud: 'logging' }, headers: mill.headers });
  t.match((await introspect(foreign.fields['access_token'] ?? '')).json, {
    active: true,
    aud: 'logging',
    sub: mill.id,
    scope: 'logs:write',
    username: 'mill',
  });

  await t.test('introspection refuses callers without credentials or permission', async t => {
    const { token: plain } = await plainUser('pat', ['viewer']);
    for (const [what, more, status, code] of [
      ['nothing', {}, 401, 'LOGIN_REFUSED'],
      ['the token itself', { token }, 403, 'NOT_ALLOWED'],
      ['another token without the permission', { token: plain }, 403, 'NOT_ALLOWED'],
      ['a bad token', { token: 'eyJhbGciOiJub25lIn0.e30.' }, 401, 'TOKEN_REFUSED'],
      [
        'a wrong secret',
        { headers: { authorization: `Basic ${btoa(`${mill.id}:rcs_x`)}` } },
        401,
        'LOGIN_REFUSED',
      ],
    ] as const) {
      const answer = await introspect(token, { ...more, from: `127.0.2.${++sources}` });
      t.match([answer.status, answer.fields['code']], [status, code], what);
    }
    pause();
    t.equal((await ask('POST /auth/introspect', { form: {}, headers: mill.headers })).status, 400);
  });

  inactive(await introspect(refreshToken), 'a refresh token');
  for (const odd of ['x', 'a.b.c', `${token}x`, token.slice(0, -6) + 'AAAAAA', 'x'.repeat(20_000)])
    inactive(await introspect(odd), odd.slice(0, 40));
  const unsigned = `${Buffer.from('{"alg":"none","typ":"at+jwt"}').toString('base64url')}.${token.split('.')[1] ?? ''}.`;
  inactive(await introspect(unsigned), 'an unsigned one');
  const ward = await access.tenants.create('mill-ward', userParty('test'));
  const wanda = await makeUser(access, 'wanda', ['admin'], ward.name);
  const foreigner = await issueToken(access, wanda);
  inactive(await introspect(foreigner), 'one of another tenant');
  inactive(await introspect(token, { token: foreigner }), 'one of this tenant, to another');

  await ask('POST /auth/revoke', { form: { token } });
  inactive(await introspect(token), 'one whose session has ended');
  const brief = (await grant(login)).fields['access_token'] ?? '';
  clock.advance(1_000_000);
  inactive(await introspect(brief), 'an expired one');
  const rights = await plainUser('quinn', ['viewer']);
  t.match((await introspect(rights.token)).json, { active: true });
  const change = (json: object) => ask('PATCH /v1/users/quinn', { ...operator, json });
  await change({ roles: ['operator'] });
  t.match(
    (await introspect(rights.token)).json,
    { scope: 'metrics:read nodes:read runs:read' },
    'what both hold',
  );
  await change({ enabled: false });
  inactive(await introspect(rights.token), 'one of a user who is disabled');
  await ask(`PATCH /v1/services/${mill.id}`, { ...operator, json: { endTokens: true } });
  inactive(
    await introspect(foreign.fields['access_token'] ?? '', operator),
    'one that was ended with its like',
  );
  const fresh = await ask('POST /token', { json: { aud: 'logging' }, headers: mill.headers });
  t.match(
    (await introspect(fresh.fields['access_token'] ?? '')).json,
    { active: true },
    'but not one from after',
  );
  t.match((await ask('GET /.well-known/oauth-authorization-server')).json, {
    introspection_endpoint: `${access.issuer()}/auth/introspect`,
  });
});

/** A user with an API token. */
async function plainUser(name: string, roles: readonly string[]): Promise<{ id: string; token: string }> {
  const user = await makeUser(access, name, roles);
  return { id: user.id, token: await issueToken(access, user) };
}

void t.test('a verifier without introspection learns of revocations from the signed list', async t => {
  const mill = await serviceWith({ name: 'guard' });
  const fetchList = async (
    more: Parameters<typeof ask>[1] = { headers: mill.headers },
  ): Promise<RestAnswer> => {
    // A list that was signed just now is returned again.
    clock.advance(2_000);
    return ask('GET /auth/revoked', more);
  };
  const verifier = createTokenVerifier({
    ...{ issuer: access.issuer(), audience: 'rollcall', rootCertificates: link.ca, clock },
  });
  const take = async (more?: Parameters<typeof ask>[1]) => verifier.takeRevoked((await fetchList(more)).text);
  const refused = { code: 'TOKEN_REFUSED', message: 'the token was revoked' };
  const good = (token: string, message: string) => t.resolves(verifier.verify(token), message);
  const bad = (token: string, message: string) => t.rejects(verifier.verify(token), refused, message);

  const answer = await fetchList();
  t.match(answer.headers, { 'content-type': /^application\/jwt/, 'cache-control': 'private, max-age=60' });
  t.match(decodeProtectedHeader(answer.text), { typ: 'rollcall-revoked+jwt', alg: 'ES256' });
  t.equal((await fetchList({})).status, 401, 'for nobody');
  const { token: plain, id: pia } = await plainUser('pia', ['viewer']);
  t.equal((await fetchList({ token: plain })).status, 403, 'nor for anybody with a token');
  await t.rejects(verifier.verify(answer.text), { code: 'TOKEN_REFUSED' }, 'a list is no token');
  await t.rejects(verifier.takeRevoked(plain), { code: 'TOKEN_REFUSED' }, 'and a token no list');

  const { access_token: session = '' } = (await grant(login)).fields;
  const { access_token: other = '' } = (await grant(login)).fields;
  const api = await plainUser('quentin', ['viewer']);
  const off = await plainUser('rita', ['viewer']);
  t.match(await take(operator), { tenant: 'default', isComplete: true });
  for (const each of [session, other, api.token, off.token, plain]) await good(each, 'so far');

  await ask('POST /auth/revoke', { form: { token: session } });
  await ask(`DELETE /v1/tokens/${decodeJwt(api.token).jti ?? ''}`, operator);
  await ask('PATCH /v1/users/rita', { ...operator, json: { enabled: false } });
  const gone = await plainUser('sam', ['viewer']);
  const program = await serviceWith({ name: 'gone', audiences: ['rollcall'] });
  const ofProgram =
    (await ask('POST /token', { json: {}, headers: program.headers })).fields['access_token'] ?? '';
  for (const each of [gone.token, ofProgram]) await good(each, 'while the holder is there');
  await ask('DELETE /v1/users/sam', operator);
  await ask('DELETE /v1/services/gone', operator);
  await good(session, 'before the next list');
  await take();
  await bad(session, 'of a session that has ended');
  await bad(api.token, 'an API token');
  await bad(off.token, 'of a user who is disabled');
  await bad(gone.token, 'of a user who is deleted');
  await bad(ofProgram, 'of a service that is deleted');
  await good(other, 'of another session');

  await ask(`PATCH /v1/users/${pia}`, { ...operator, json: { endSessions: true } });
  const before = await fetchList();
  await verifier.takeRevoked(before.text);
  await bad(plain, 'of a user whose tokens were ended');
  await verifier.takeRevoked(answer.text);
  await bad(plain, 'also when an older list comes after');

  clock.advance(2_000);
  await ask('POST /v1/tokens/end', { ...operator, json: { before: clock.now() - 1_000 } });
  const next = (await grant(login)).fields['access_token'] ?? '';
  const chief = await plainUser('chief-two', ['admin']);
  await take({ token: chief.token });
  await bad(other, 'from before all tokens of the tenant were ended');
  await good(next, 'from after that');
  clock.advance(2_000);
  const since = clock.now();
  const within = (await grant(login)).fields['access_token'] ?? '';
  clock.advance(2_000);
  const ended = await ask('POST /v1/tokens/end', { token: chief.token, json: { since } });
  t.same(ended.fields, { since, before: clock.now(), ownEnded: false });
  const last = (await grant(login)).fields['access_token'] ?? '';
  await take({ token: chief.token });
  await bad(within, 'from a time whose tokens were ended');
  for (const each of [next, last]) await good(each, 'from before and after it');
  clock.advance(400_000);
  await t.rejects(
    verifier.takeRevoked(before.text),
    { message: 'the token has expired' },
    'a list that is over',
  );
  await bad(other, 'what it said goes on to count');
  const elsewhere = createTokenVerifier({
    ...{ issuer: 'https://elsewhere.example', audience: 'rollcall', rootCertificates: link.ca, clock },
  });
  await t.rejects(elsewhere.takeRevoked(before.text), { code: 'LINK_UNREACHABLE' });
});

void t.test('a revocation list over its limit keeps the entries that end last, and says so', async t => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const revoked = Array.from({ length: maxRevokedEntries + 1 }, (_, n) => ({
    ...{ id: `token-${n}`, endsAt: clock.now() + n * 1_000, tenant: 'ward' },
  }));
  const signList = createRevokedLists({
    keys: {
      signingKey: () => Promise.resolve({ kid: 'k', algorithm: 'ES256', key: privateKey }),
      watch: () => () => undefined,
    },
    denied: { list: () => revoked },
    users: { list: () => Promise.resolve([]) },
    services: { list: () => Promise.resolve([]) },
    cutoffs: { of: () => new Ended() },
    ...{ clock, issuer: () => 'https://link.example', audience: 'rollcall' },
  });
  const list = await signList('ward');
  t.ok(list.length < maxRevokedListBytes);
  const { payload } = await compactVerify(list, publicKey);
  const { ids, isComplete } = readRevokedList(JSON.parse(Buffer.from(payload).toString()));
  t.same(
    [isComplete, ids.size, ids.has('token-0'), ids.has('token-1')],
    [false, maxRevokedEntries, false, true],
  );
  t.equal(await signList('ward'), list, 'asked for again at once, it is not made anew');
  revoked.pop();
  clock.advance(2_000);
  const next = readRevokedList(decodeJwt(await signList('ward')));
  t.same([next.isComplete, next.ids.size], [true, maxRevokedEntries]);
});
