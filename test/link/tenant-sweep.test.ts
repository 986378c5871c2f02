/** Deleting a tenant ends its connections at once, its runs and nodes soon, after any failure or restart in between. */
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { verifyExport } from '../../src/audit-log/verify-export.js';
import { createLog } from '../../src/base/log.js';
import { systemRandom } from '../../src/base/random.js';
import { formatAddress } from '../../src/base/settings.js';
import { openCutoffs } from '../../src/link/access/tokens/cutoffs.js';
import { createTenants } from '../../src/link/access/accounts/tenants.js';
import { createAudit } from '../../src/link/audit/audit.js';
import { listEvents } from '../../src/link/audit/query.js';
import { exportLines } from '../../src/link/audit/export.js';
import { openCheckpoints } from '../../src/link/audit/checkpoints.js';
import { Registry } from '../../src/link/registry/registry.js';
import { createPowerCutStore } from '../../src/store/power-cut.js';
import type { Store } from '../../src/store/store.js';
import type { ControlCalls } from '../harness/control-calls.js';
import { makeFolder } from '../harness/folder.js';
import { createManualClock } from '../harness/manual-clock.js';
import { connectOperator, issueToken, makeUser } from '../harness/operator.js';
import { codeOf } from '../harness/outcome.js';
import { userParty } from '../harness/parties.js';
import { rawEnrollment } from '../harness/raw-enrollment.js';
import { restCalls } from '../harness/rest-calls.js';
import {
  enrollOn,
  newKey,
  sessionOn,
  startTestLink,
  type LiveNode,
  type TestLink,
} from '../harness/test-link.js';
import { runsOf, startHandSite, type HandSite } from './runs/fixtures/hand-site.js';

const tenant = 'ward';
const turn = (): Promise<void> => new Promise(setImmediate);

interface Ward {
  readonly token: string;
  readonly calls: ControlCalls;
  register(key?: ReturnType<typeof newKey>): Promise<bigint>;
  enroll(key: ReturnType<typeof newKey>): ReturnType<typeof enrollOn>;
  online(): Promise<LiveNode>;
}

/** A tenant with an admin. */
async function openWard(t: Test, site: TestLink): Promise<Ward> {
  const { access, addresses } = site.link;
  await access.tenants.create(tenant, userParty('test'));
  const token = await issueToken(access, await makeUser(access, 'wanda', ['admin'], tenant));
  const calls = connectOperator(formatAddress(addresses.control), token, site.ca);
  t.teardown(() => calls.close());
  const register: Ward['register'] = async (key = newKey()) =>
    (await calls.registerNode({ publicKey: key.publicKey.spki, name: '', labels: {}, again: false })).id;
  const enroll: Ward['enroll'] = async key => enrollOn(await site.connect(), key, 0n, tenant);
  return {
    ...{ token, calls, register, enroll },
    async online() {
      const key = newKey();
      await register(key);
      const enrollment = await enroll(key);
      const connection = await site.connect(enrollment);
      return { enrollment, connection, session: await sessionOn(connection) };
    },
  };
}

const remove = (t: Test, { link, ca, token }: TestLink) =>
  restCalls(t, link.addresses.control.port, ca)(`DELETE /v1/tenants/${tenant}`, { token });
const isLeaving = async (store: Store): Promise<boolean> =>
  (await store.list({ prefix: 'access/leaving-tenant/' })).length > 0;
const eventsOf = async (store: Store, of = tenant): Promise<string[]> =>
  (await listEvents(store, of, { limit: 1000 })).map(({ type }) => type);

async function statusesOf(store: Store): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const { key } of await store.list({ prefix: `t/${tenant}/status/` })) {
    const status = key.split('/')[3] ?? '';
    counts[status] = (counts[status] ?? 0) + 1;
  }
  return counts;
}

/** With a place for the runs of the tenant. No time passes, so that nothing is tried again. */
const startSite = async (t: Test): Promise<HandSite> =>
  startHandSite(t, {
    clock: createManualClock(),
    settings: { 'app-host-socket': `${tenant}=${join(await makeFolder(t), 'ward.sock')}` },
  });

void t.test('deleting a tenant ends its connections and runs and revokes its nodes at once', async t => {
  const site = await startSite(t);
  const { store } = site;
  const ours = await site.online(await registered(site));
  const ward = await openWard(t, site);
  const live = await ward.online();
  const known = newKey();
  await ward.register(known);
  const challenged = rawEnrollment(await site.connect(), known);
  challenged.hello({ tenant });
  await challenged.challenge();
  const runs = runsOf(site, ward.token);
  t.teardown(() => runs.close());
  const run = await runs.start(await site.pack());

  const answer = await remove(t, site);
  t.same(answer.json, { sessionsEnded: 2 }, 'a session and an enrollment');
  t.match(await live.session.ended, { error: { code: 'NODE_REVOKED' } });
  t.equal((await challenged.refused).code, 'NODE_REVOKED');
  const connecting = site.connect(live.enrollment).then(sessionOn);
  t.match(await codeOf(connecting), /^(NODE_REVOKED|CERTIFICATE_REFUSED)$/);
  t.equal(await codeOf(ward.enroll(known)), 'NODE_REVOKED');
  t.equal(await codeOf(ward.enroll(newKey())), 'NODE_NOT_REGISTERED');
  t.equal(await codeOf(ward.register()), 'TOKEN_REFUSED');
  t.equal(await codeOf(runs.start(await site.pack())), 'TOKEN_REFUSED');

  while (await isLeaving(store)) await turn();
  t.same(await statusesOf(store), { revoked: 2 });
  const [stored] = await store.list({ prefix: `t/${tenant}/run/` });
  t.match(JSON.parse(String(stored && Buffer.from(stored.value))), { id: `${run.id}`, outcome: 'stopped' });
  const told = await listEvents(store, tenant, { limit: 100 });
  const end = told.slice(told.findIndex(({ type }) => type === 'tenant.deleted'));
  t.same(end.map(({ type }) => type).sort(), [
    ...['node.revoked', 'node.revoked', 'run.stopped', 'tenant.deleted'],
  ]);
  for (const { by } of end) t.match(by, { name: 'operator' }, 'by who deleted it');
  t.match(end.find(({ type }) => type === 'node.revoked')?.detail, { comment: 'the tenant was deleted' });

  t.same(await eventsAbout(site), ['tenant.created', 'tenant.deleted']);
  t.equal((await site.until(`${ours.enrollment.nodeId}`, 'online')).name, '', 'another tenant goes on');
  t.equal((await site.control.getNode({ node: `${ours.enrollment.nodeId}` })).id, ours.enrollment.nodeId);

  const next = await site.restart();
  t.same(await next.link.access.tenants.list(), [{ name: 'default', createdAt: 0 }]);
  const ask = restCalls(t, next.link.addresses.control.port, next.ca);
  t.equal((await ask('GET /auth/me', { token: ward.token })).status, 401, 'a restart changes nothing');
  t.equal((await remove(t, next)).status, 404);
  await next.link.close();
  const { lines, isVouchedFor } = await exported(t, next);
  t.ok(isVouchedFor, 'the audit log is whole and vouched for to its end');
  t.ok(lines >= told.length, 'with what was refused after it');
});

async function registered(site: TestLink) {
  const key = newKey();
  await site.register(key);
  return key;
}

const eventsAbout = async (site: HandSite): Promise<string[]> =>
  (await site.audit('tenant.created', 'tenant.deleted')).map(({ type }) => type);

/** The log of the tenant as it would be exported, without making a checkpoint for that. */
async function exported(t: Test, { store, folder, clock }: TestLink) {
  const log = createLog({ level: 'silent', name: 'test' });
  const [trustDomain, audit] = ['test.example', createAudit({ clock })];
  const checkpoints = await openCheckpoints({
    ...{ folder: join(folder, 'data'), store, audit, clock, random: systemRandom, log, trustDomain },
  });
  t.teardown(() => checkpoints.close());
  const { publicKeyPem } = checkpoints;
  const report = await verifyExport(exportLines({ store, tenant, trustDomain, publicKeyPem }));
  return { lines: report.entries, isVouchedFor: report.ok && report.vouchedTo === report.last };
}

void t.test('the next link completes the deletion of a tenant that a killed link has begun', async t => {
  const site = await startSite(t);
  const { store, clock } = site;
  const ward = await openWard(t, site);
  for (let count = 0; count < 3; count++) await ward.register();
  const live = await ward.online();
  const runs = runsOf(site, ward.token);
  t.teardown(() => runs.close());
  await runs.start(await site.pack());
  const ours = await registered(site);

  const next = await site.restart(async () => {
    const audit = createAudit({ clock });
    const cutoffs = await openCutoffs({ store, audit, clock });
    const by = userParty('boss');
    await createTenants({ store, audit, clock, cutoffs }).remove(tenant, by);
    const log = createLog({ level: 'silent', name: 'test' });
    const registry = new Registry({ store, audit, clock, random: systemRandom, log });
    let pages = 0;
    // Nodes that are pending and created; the link was killed before online ones were revoked.
    await registry.revokeAll(tenant, { by, comment: '' }, () => ++pages <= 2);
    await registry.close();
    t.same(await statusesOf(store), { revoked: 3, online: 1 });
  });
  while (await isLeaving(store)) await turn();
  t.same(await statusesOf(store), { revoked: 4 });
  const told = await eventsOf(store);
  t.equal(told.filter(type => type === 'node.revoked').length, 4, 'each once');
  t.equal(told.filter(type => type === 'run.stopped').length, 1);
  const connecting = next.connect(live.enrollment).then(sessionOn);
  t.match(await codeOf(connecting), /^(NODE_REVOKED|CERTIFICATE_REFUSED)$/);
  t.ok(await next.online(ours), 'another tenant goes on');
});

void t.test('a tenant deletion that a failed commit stored takes effect once it is found', async t => {
  const power = createPowerCutStore();
  const clock = createManualClock();
  const site = await startTestLink(t, { clock, store: power.store });
  const ward = await openWard(t, site);
  const id = await ward.register();
  const full = Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
  power.failWrites(full, { kept: 'later' });
  t.match((await remove(t, site)).fields, { code: 'STORE_FULL' });
  power.failWrites(undefined);
  t.equal((await ward.calls.getNode({ node: `${id}` })).id, id, 'nobody was told that it is deleted');
  while (!site.logged.some(line => line.includes('of a deleted tenant have ended'))) {
    clock.advance(1_000);
    await turn();
  }
  t.same(await statusesOf(power.store), { revoked: 1 });
  t.equal(await codeOf(ward.calls.getNode({ node: `${id}` })), 'TOKEN_REFUSED');
});

void t.test('a failed deletion of a tenant is retried', async t => {
  const power = createPowerCutStore();
  const clock = createManualClock();
  const site = await startTestLink(t, { clock, store: power.store });
  const ward = await openWard(t, site);
  const live = await ward.online();
  const full = Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
  const stopWatching = power.store.watch('access/leaving-tenant/', () => power.failWrites(full));
  t.same((await remove(t, site)).json, { sessionsEnded: 1 }, 'the link is cut all the same');
  t.match(await live.session.ended, { error: { code: 'NODE_REVOKED' } });
  while (!site.logged.some(line => line.includes('could not end what is left'))) await turn();
  stopWatching();
  t.ok(await isLeaving(power.store));
  power.failWrites(undefined);
  t.equal((await remove(t, site)).status, 200, 'asked again, it goes on');
  while (await isLeaving(power.store)) await turn();
  t.same(await statusesOf(power.store), { revoked: 1 });
});
