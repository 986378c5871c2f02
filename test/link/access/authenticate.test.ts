/** The validity of a token at each request: every right it lost, one at a time, with all others unchanged. */
import t, { type Test } from 'tap';
import { createHash } from 'node:crypto';
import { linkParty } from '../../../src/audit-log/party.js';
import { Ended, openCutoffs } from '../../../src/link/access/tokens/cutoffs.js';
import { createAudit } from '../../../src/link/audit/audit.js';
import { createMemoryStore } from '../../../src/store/memory.js';
import { createPowerCutStore } from '../../../src/store/power-cut.js';
import type { Store } from '../../../src/store/store.js';
import { openAccessRig, password, type AccessRig } from '../../harness/access-rig.js';

const reason = { type: 'user.changed', by: linkParty } as const;
const revoked = { code: 'TOKEN_REFUSED', message: 'the token was revoked' };

async function start(test: Test, store: Store = createMemoryStore()) {
  const rig = await openAccessRig(test, { store });
  await rig.withPassword('ann', ['operator']);
  const { accessToken } = await rig.login('ann');
  const { id } = await rig.access.users.get('default', 'ann');
  return { ...rig, store, id, accessToken };
}

const claimsOf = (token: string): object =>
  JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as object;

/** A service with a token, and what it got it with. */
async function withService({ access, grant }: AccessRig) {
  const { id } = await access.services.create('default', 'nightly', { roles: ['viewer'] }, linkParty);
  const { secret } = await access.services.addSecret('default', id, linkParty);
  const asked = { grant_type: 'client_credentials', client_id: id, client_secret: secret };
  return { id, asked, token: (await grant(asked)).accessToken };
}

void t.test(
  'a token of a user who is disabled is refused, although its session has not been ended',
  async test => {
    const { access, id, accessToken, principalOf } = await start(test);
    await access.users.change('default', id, { enabled: false }, reason);
    await test.rejects(principalOf(accessToken), revoked);
    await access.users.change('default', id, { enabled: true }, reason);
    test.match(await principalOf(accessToken), { name: 'ann' });
  },
);

void t.test('a token of a disabled service is refused, although it was not revoked', async test => {
  const rig = await openAccessRig(test);
  const { id, token } = await withService(rig);
  test.match(await rig.principalOf(token), { kind: 'service', name: 'nightly' });
  await rig.access.services.change('default', id, { enabled: false }, linkParty);
  await test.rejects(rig.principalOf(token), revoked);
});

void t.test('a token from before the cutoff of all tokens is refused', async test => {
  const { access, clock, accessToken, principalOf } = await start(test);
  clock.advance(5);
  await access.cutoffs.raise('default', { before: clock.now() }, linkParty);
  await test.rejects(principalOf(accessToken), revoked);
});

void t.test(
  'tokens that were ended on a full store are refused, and the second attempt is stored',
  async test => {
    const disk = createPowerCutStore();
    const { access, clock, accessToken, principalOf } = await start(test, disk.store);
    clock.advance(5);
    const end = () => access.cutoffs.raise('default', { before: clock.now() }, linkParty);
    disk.failWrites(Object.assign(new Error('full'), { code: 'ENOSPC' }));
    for (let n = 0; n < 2; n++) await test.rejects(end(), { code: 'STORE_FULL' });
    await test.rejects(principalOf(accessToken), revoked);
    disk.failWrites(undefined);
    test.same(await end(), { since: 0, before: clock.now() });
    const again = await openCutoffs({ store: disk.cut(), audit: createAudit({ clock }), clock });
    test.equal(again.of('default').before, clock.now());
  },
);

void t.test(
  'tokens that began between two times are refused; earlier and later ones hold, after a restart too',
  async test => {
    const { access, store, clock, accessToken: earlier, principalOf, login } = await start(test);
    clock.advance(1_000);
    const since = clock.now();
    const { accessToken: within } = await login('ann');
    clock.advance(1_000);
    test.same(await access.cutoffs.raise('default', { since }, linkParty), { since, before: clock.now() });
    const { accessToken: later } = await login('ann');
    test.match(await principalOf(earlier), { name: 'ann' });
    test.match(await principalOf(later), { name: 'ann' });
    await test.rejects(principalOf(within), revoked);
    const again = await openCutoffs({ store, audit: createAudit({ clock }), clock });
    test.same(again.of('default'), access.cutoffs.of('default'));
    test.same(again.of('default').spans, [{ since, before: clock.now() }]);
  },
);

void t.test('adjacent spans of ended tokens are merged, and there are at most 32', async test => {
  const { access, store, clock } = await start(test);
  const span = (since: number, before: number) => ({ since, before });
  test.same(Ended.of({ before: 10 }).spans, [], 'a record from before there were spans');
  const ended = Ended.of({ before: 10, spans: [span(30, 40), span(40, 50), span(5, 12), span(60, 70)] });
  test.match(ended, { before: 12, spans: [span(30, 50), span(60, 70)], until: 70 });
  test.same(
    [11, 12, 29, 30, 49, 50, 69, 70].map(at => ended.covers(at)),
    [...[true, false, false, true], ...[true, false, true, false]],
  );
  test.match(ended.with({ before: 35 }), { before: 50, spans: [span(60, 70)] });
  const now = clock.now();
  for (let n = 32; n > 0; n--)
    await access.cutoffs.raise('default', span(now - 10 * n - 5, now - 10 * n), linkParty);
  await test.rejects(access.cutoffs.raise('default', { since: now - 1 }, linkParty), {
    code: 'REQUEST_INVALID',
    message: 'at most 32 spans of time can be ended',
  });
  for (const wrong of [
    {},
    { since: now },
    { since: now - 5, before: now - 5 },
    { before: now + 60_000 },
    { since: -1 },
  ])
    await test.rejects(access.cutoffs.raise('default', wrong, linkParty), { code: 'REQUEST_INVALID' });
  await access.cutoffs.raise('default', { before: now }, linkParty);
  test.same(access.cutoffs.of('default'), new Ended([span(0, now)]));
  test.same((await openCutoffs({ store, audit: createAudit({ clock }), clock })).of('default').spans, []);
});

void t.test('a token of an ended session is refused', async test => {
  const { access, accessToken, principalOf } = await start(test);
  const { session = '' } = await principalOf(accessToken);
  await access.revokeToken(accessToken, (await principalOf(accessToken)).origin);
  test.match(session, /^[0-9a-f]{32}$/);
  await test.rejects(principalOf(accessToken), revoked);
});

void t.test('a token of a node is refused once the node is revoked', async test => {
  const rig = await openAccessRig(test);
  await rig.putNode('7');
  const { accessToken } = await rig.access.issueNodeTokens({ tenant: 'default', id: 7n }, rig.chief);
  test.match(await rig.principalOf(accessToken), { kind: 'node', id: 'node:7', roles: [] });
  await rig.revokeNode('7');
  await test.rejects(rig.principalOf(accessToken), revoked);
});

void t.test('a token permits what its scope, its roles and the roles of its holder all allow', async test => {
  const { access, administration, id, login, grant, principalOf, accessToken } = await start(test);
  const allowed = async (token: string): Promise<string[]> =>
    [...(await principalOf(token)).permissions].sort();
  test.ok((await allowed(accessToken)).includes('nodes:revoke'));
  const cut = await login('ann', { scope: 'nodes:read users:manage' });
  test.same(await allowed(cut.accessToken), ['nodes:read'], 'a scope only takes away');
  const asked = { grant_type: 'refresh_token', refresh_token: cut.refreshToken ?? '', scope: 'nodes:revoke' };
  await test.rejects(grant(asked), { message: 'that is more than was granted at the login' });
  await access.users.change('default', id, { roles: ['admin'] }, reason);
  test.notOk((await allowed(accessToken)).includes('users:manage'), 'which the token never said');
  test.ok((await allowed(accessToken)).includes('nodes:revoke'));
  await access.users.change('default', id, { roles: ['viewer'] }, reason);
  test.same(
    await allowed(accessToken),
    ['metrics:read', 'nodes:read', 'runs:read'],
    'what the holder has left',
  );
  test.match(administration.describe(await principalOf(accessToken)), { roles: ['operator'] });
});

void t.test('a token states the permissions of its holder, with or without a requested scope', async test => {
  const rig = await openAccessRig(test);
  const { access, login, grant, principalOf } = rig;
  const mayRead = ['nodes:read'] as const;
  await access.roles.define('default', { name: 'reader', permissions: mayRead }, linkParty);
  await rig.withPassword('ann', ['reader', 'viewer']);
  const all = await login('ann');
  test.match(claimsOf(all.accessToken), { scope: 'nodes:read runs:read metrics:read', scope_from: 'roles' });
  test.equal(all.scope, 'nodes:read runs:read metrics:read', 'the answer says it as well');
  const cut = await login('ann', { scope: 'nodes:revoke runs:read logs:write' });
  test.equal(cut.scope, 'runs:read', 'never more than the roles give, whatever was asked for');
  test.match(claimsOf(cut.accessToken), { scope: 'runs:read', scope_from: undefined });
  test.same(
    [...(await principalOf(cut.accessToken)).permissions],
    ['runs:read'],
    'which narrows at the link',
  );
  const ask = (scope: string) =>
    grant({ grant_type: 'refresh_token', refresh_token: all.refreshToken ?? '', scope });
  await test.rejects(ask('nodes:revoke'), { message: 'the roles give nothing of that scope' });
  const less = await ask('nodes:read');
  test.match(claimsOf(less.accessToken), { scope: 'nodes:read', scope_from: undefined }, 'of one token');
  await test.rejects(login('ann', { scope: 'users:manage' }), { code: 'REQUEST_INVALID' });

  const { token } = await access.apiTokens.issue(await principalOf(all.accessToken), {
    ...{ name: 'studio', roles: ['reader'], lifetimeMs: 60_000 },
  });
  test.match(claimsOf(token), { scope: 'nodes:read', scope_from: 'roles' });
  const service = await withService(rig);
  test.match(claimsOf(service.token), { scope: 'nodes:read runs:read metrics:read', scope_from: 'roles' });
  const asked = await grant({ ...service.asked, scope: 'runs:read users:manage' });
  test.match(
    claimsOf(asked.accessToken),
    { scope: 'runs:read' },
    'a service gets no more than its roles give',
  );
  await test.rejects(grant({ ...service.asked, scope: 'users:manage' }), { code: 'REQUEST_INVALID' });

  const may = async (): Promise<string[]> => [...(await principalOf(all.accessToken)).permissions].sort();
  await access.roles.define('default', { name: 'reader', permissions: ['nodes:revoke'] }, linkParty);
  test.same(
    await may(),
    ['metrics:read', 'nodes:read', 'nodes:revoke', 'runs:read'],
    'a scope that nobody asked for does not narrow at the link: rights are looked up anew',
  );
  test.match(await principalOf(token), { permissions: new Set(['nodes:revoke']) });
});

void t.test('every token names the program that it was issued to', async test => {
  const rig = await openAccessRig(test);
  const { access, login, grant } = rig;
  await rig.withPassword('ann', ['operator']);
  const { accessToken, refreshToken = '' } = await login('ann');
  test.match(claimsOf(accessToken), { client_id: 'rollcall-cli' });
  const refreshed = await grant({ grant_type: 'refresh_token', refresh_token: refreshToken });
  test.match(claimsOf(refreshed.accessToken), { client_id: 'rollcall-cli' });
  const dashboard = await login('ann', { client_id: 'rollcall-dashboard' });
  test.match(claimsOf(dashboard.accessToken), { client_id: 'rollcall-dashboard' });
  const service = await withService(rig);
  test.match(claimsOf(service.token), { client_id: service.id }, 'a service is its own program');
  const ann = await rig.principalOf(accessToken);
  const program = await access.apiTokens.issue(ann, {
    name: 'studio',
    roles: ['viewer'],
    lifetimeMs: 60_000,
  });
  test.match(claimsOf(program.token), { client_id: 'api-token:studio', sub: ann.id });
  await rig.putNode('7');
  const node = await access.issueNodeTokens({ tenant: 'default', id: 7n }, rig.chief);
  test.match(claimsOf(node.accessToken), { client_id: 'node:7' });
});

void t.test(
  'a session from before clients were stored continues, and its tokens name the user',
  async test => {
    const rig = await openAccessRig(test);
    await rig.withPassword('ann', ['operator']);
    const { accessToken, refreshToken = '' } = await rig.login('ann');
    const { session = '', id } = await rig.principalOf(accessToken);
    const key = `t/default/family/${session}`;
    const { store } = rig.pausing;
    const record = JSON.parse(Buffer.from((await store.get(key)) ?? '').toString()) as Record<
      string,
      unknown
    >;
    delete record['client'];
    await store.commit([{ type: 'put', key, value: Buffer.from(JSON.stringify(record)) }]);
    const refreshed = await rig.grant({ grant_type: 'refresh_token', refresh_token: refreshToken });
    test.match(claimsOf(refreshed.accessToken), { client_id: id, sid: session });
  },
);

void t.test('a certificate-bound token is refused without its certificate', async test => {
  const rig = await openAccessRig(test);
  const certificate = Buffer.from('a certificate');
  const certificates = [createHash('sha256').update(certificate).digest('base64url')];
  const { id } = await rig.access.services.create('default', 'bound', { certificates }, linkParty);
  const { origin } = rig.chief;
  const parameters = { grant_type: 'client_credentials', client_id: id };
  const { accessToken } = await rig.access.grantTokens({ parameters, certificate, origin });
  const authorization = `Bearer ${accessToken}`;
  test.match(await rig.access.authenticate({ authorization, certificate, origin }), { name: 'bound' });
  const unbound = { code: 'TOKEN_REFUSED', message: /bound to a certificate/ };
  for (const other of [undefined, Buffer.from('another')])
    await test.rejects(rig.access.authenticate({ authorization, certificate: other, origin }), unbound);
});

void t.test('a change requested with a token is not committed once the token was denied', async test => {
  const rig = await openAccessRig(test);
  const { access, administration, chief, principalOf } = rig;
  const { id, asked } = await withService(rig);
  await access.services.change('default', id, { roles: ['admin'] }, linkParty);
  const { accessToken } = await rig.grant(asked);
  const principal = await principalOf(accessToken, 'POST /v1/users');
  const user = { name: 'new', roles: [], password };
  // Another link on the same store denies it, which is not in the memory of this link.
  const other = await rig.again();
  const paused = rig.pausing.pause();
  const creating = test.rejects(administration.createUser(principal, user), { code: 'TOKEN_REFUSED' });
  await paused.held;
  await other.revokeToken(accessToken, chief.origin);
  paused.resume();
  await creating;
  test.equal(await access.users.findByName('default', 'new'), undefined);
});

void t.test('the record of an API token is removed after its end, and no other record', async test => {
  const { access, clock, accessToken, principalOf, pausing } = await start(test);
  const ann = await principalOf(accessToken);
  const issue = async (name: string, lifetimeMs: number): Promise<string> =>
    (await access.apiTokens.issue(ann, { name, roles: ['operator'], lifetimeMs })).record.id;
  const short = await issue('short', 60_000);
  const long = await issue('long', 24 * 3_600_000);
  // As many as two pages of a sweep.
  for (let made = 0; made < 501; made += 1) await issue(`more-${made}`, 60_000);
  const keys = async (): Promise<string[]> =>
    (await pausing.store.list({ prefix: 't/default/token/' })).map(({ key }) => key.split('/').at(-1) ?? '');
  const before = await keys();
  test.ok(before.includes(short) && before.includes(long));
  clock.advance(3_600_000);
  for (let turn = 0; turn < 1_000 && (await keys()).length > before.length - 502; turn += 1)
    await new Promise(resolve => setImmediate(resolve));
  test.notOk((await keys()).includes(short));
  test.ok((await keys()).includes(long), 'one that counts stays');
  test.equal((await keys()).length, before.length - 502);
});
