/** The audit events of a real link, about itself and about its use. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Secret, TOTP } from 'otpauth';
import t from 'tap';
import type { AuditEntry } from '../../../src/audit-log/entry.js';
import { formatParty } from '../../../src/audit-log/party.js';
import { createLog } from '../../../src/base/log.js';
import { version } from '../../../src/base/version.js';
import { createAudit } from '../../../src/link/audit/audit.js';
import { listEvents } from '../../../src/link/audit/query.js';
import { LinkEvents } from '../../../src/link/audit/link-events.js';
import { createPowerCutStore } from '../../../src/store/power-cut.js';
import type { Store } from '../../../src/store/store.js';
import { createManualClock } from '../../harness/manual-clock.js';
import { userParty } from '../../harness/parties.js';
import { restCalls, type RestAnswer } from '../../harness/rest-calls.js';
import { makeFolder, newKey, startTestLink } from '../../harness/test-link.js';

const log = createLog({ level: 'silent', name: 'link' });

/** The newest entries of a tenant: type, by, outcome. */
async function told(store: Store, tenant = 'default', after = 0): Promise<AuditEntry[]> {
  return listEvents(store, tenant, { limit: 1000, after });
}
const typesOf = (entries: readonly AuditEntry[]): string[] => entries.map(({ type }) => type);

/** The store stays open when the link is closed. */
function lasting(store: Store): Store {
  return { ...store, close: () => Promise.resolve() };
}

void t.test('start, stop, reload and crash of the link are audited in the default tenant', async t => {
  const folder = await makeFolder(t);
  const power = createPowerCutStore();
  const first = await startTestLink(t, { folder, store: lasting(power.store) });
  const started = {
    type: 'link.started',
    by: { kind: 'link' },
    detail: { version, trustDomain: 'test.example' },
  };
  const [keys, start] = await told(power.store);
  t.match(
    keys,
    { type: 'keys.rotated', by: { kind: 'link' } },
    'the first keys are made before anything else',
  );
  t.match(start, started);

  await first.link.reload();
  const pem = await readFile(join(folder, 'server.pem'), 'utf8');
  await writeFile(join(folder, 'server.pem'), 'nonsense');
  await t.rejects(first.link.reload(), { code: 'CONFIG_INVALID' });
  await writeFile(join(folder, 'server.pem'), pem);
  const reloads = (await told(power.store)).filter(({ type }) => type === 'link.reloaded');
  t.match(reloads, [
    { by: { kind: 'link' }, detail: { certificate: /^[0-9a-f]{64}$/, notAfter: /^\d{4}-/ } },
    { outcome: 'failed', detail: { reason: 'CONFIG_INVALID' } },
  ]);
  t.notOk(reloads[0]?.outcome, 'the first was done');

  await first.link.close();
  t.equal(typesOf(await told(power.store)).at(-1), 'link.stopped', 'the last event there is');

  // As after a crash: it is never closed before the next one starts.
  await startTestLink(t, { folder, store: lasting(power.store) });
  await startTestLink(t, { folder, store: lasting(power.store) });
  const life = typesOf(await told(power.store)).filter(type => type.startsWith('link.'));
  t.strictSame(
    life.slice(-3),
    ['link.stopped', 'link.started', 'link.started'],
    'a start without a stop before',
  );
});

void t.test('sessions of a node are audited with the actor and the reason of their end', async t => {
  const folder = await makeFolder(t);
  const power = createPowerCutStore();
  const first = await startTestLink(t, { folder, store: lasting(power.store) });
  const key = newKey();
  const { id } = await first.register(key, { name: 'press' });
  const { session, connection } = await first.online(key);
  await session.close();
  await connection.close();
  await first.until(`${id}`, 'offline');
  await first.online(key);
  // The power goes while it is online.
  await startTestLink(t, { folder, store: lasting(power.cut()) });
  const node = { kind: 'node', id: `node:${id}`, name: 'press' };
  const events = (await told(power.store)).filter(({ subject }) => subject === `${id}`);
  t.match(events, [
    { type: 'node.registered', by: { kind: 'user', name: 'operator' }, detail: { name: 'press' } },
    { type: 'node.enrolled', by: node, detail: { generation: '1', address: '127.0.0.1' } },
    { type: 'node.connected', by: node, detail: { address: '127.0.0.1' } },
    { type: 'node.closed', by: { kind: 'link' }, detail: { reason: 'closed by node' } },
    { type: 'node.enrolled', by: node },
    { type: 'node.connected', by: node },
    { type: 'node.link-restarted', by: { kind: 'link' } },
  ]);
});

void t.test('changes of passwords, second factors and tokens are audited with the actor', async t => {
  const clock = createManualClock();
  const site = await startTestLink(t, { clock });
  const ask = restCalls(t, site.link.addresses.control.port, site.ca);
  const { users, passwords } = site.link.access;
  const [old, password] = ['correct horse battery', 'another battery of horses'] as const;
  const ann = { name: 'ann', roles: ['admin'], passwordHash: await passwords.hash(old) };
  await users.create('default', ann, { type: 'user.created', by: userParty('test') });
  const logIn = async (word: string, more: Record<string, string> = {}): Promise<string> => {
    const form = { grant_type: 'password', client_id: 'rollcall-cli', username: 'ann', password: word };
    return (await ask('POST /auth/token', { form: { ...form, ...more } })).fields['access_token'] ?? '';
  };
  const done = async (line: string, token: string, json?: object): Promise<RestAnswer['fields']> => {
    const { status, fields, text } = await ask(line, { token, ...(json && { json }) });
    t.equal(status, 200, `${line}: ${text}`);
    return fields;
  };
  await done('POST /auth/password', await logIn(old), { old, new: password });
  const token = await logIn(password);
  const { secret = '' } = await done('POST /auth/second-factor', token);
  const factor = new TOTP({ secret: Secret.fromBase32(secret) });
  const code = () => factor.generate({ timestamp: clock.now() });
  await done('POST /auth/second-factor/confirm', token, { secret, code: code(), password });
  clock.advance(60_000);
  const second = await logIn(password, { otp_code: code() });
  await done('POST /auth/second-factor/remove', second, { password });
  const wanted = { name: 'nightly', roles: ['viewer'], lifetimeMs: 60_000 };
  await done('POST /v1/tokens', second, wanted);
  const nightly = (await site.link.access.apiTokens.list('default')).find(({ name }) => name === 'nightly');
  await done(`DELETE /v1/tokens/${nightly?.id}`, second);
  const { id: client_id = '' } = await done('POST /v1/services', second, { name: 'ingest' });
  const { secret: client_secret = '' } = await done(`POST /v1/services/${client_id}/secret`, second);
  const form = { grant_type: 'client_credentials', client_id, client_secret };
  t.equal((await ask('POST /auth/token', { form })).status, 200);
  await site.register(newKey(), { name: 'press' });
  await done('POST /v1/nodes/press/config', second);
  await done('POST /v1/tokens/end', second, { before: clock.now() });

  const events = (await told(site.store)).filter(({ by }) => /:(ann|ingest)$/.test(formatParty(by)));
  t.strictSame(
    events.map(({ type, by }) => `${type} by ${formatParty(by)}`),
    [
      'login by user:ann',
      'user.password-changed by user:ann',
      'login by user:ann',
      'user.second-factor-on by user:ann',
      'login.factor-used by user:ann',
      'login by user:ann',
      'user.second-factor-off by user:ann',
      'token.issued by user:ann',
      'token.revoked by user:ann',
      'service.created by user:ann',
      'service.secret-made by user:ann',
      'token.granted by service:ingest',
      'node.tokens-issued by user:ann',
      'tokens.ended by user:ann',
    ],
  );
  t.ok(events.every(({ address, requestId }) => address === '127.0.0.1' && requestId !== undefined));
});

void t.test(
  'a log that was cut while no link ran is reported at the next start, in log, alert and metric',
  async t => {
    const folder = await makeFolder(t);
    const power = createPowerCutStore();
    const first = await startTestLink(t, { folder, store: lasting(power.store) });
    await first.link.close();
    const last = await power.store.list({
      prefix: 't/default/audit/',
      after: 't/default/audit/:',
      reverse: true,
      limit: 2,
    });
    await power.store.commit(last.map(({ key }) => ({ type: 'delete', key })));
    // A new store, as a new process has it: this one remembers where the log ended.
    const second = await startTestLink(t, { folder, store: power.cut() });
    const found = async () => (await told(power.store)).filter(({ type }) => type === 'audit.fault-found');
    while ((await found()).length === 0) await new Promise(setImmediate);
    const fault = /^the log is truncated: it ends at entry \d+, a checkpoint is of entry \d+/;
    t.match(await found(), [
      { by: { kind: 'link' }, outcome: 'failed', detail: { kind: 'truncated', fault } },
    ]);
    const alert = second.logged.find(line => line.includes('security.audit-log-changed')) ?? '{}';
    t.match(JSON.parse(alert), { tenant: 'default', fault });
    const ask = restCalls(t, second.link.addresses.control.port, second.ca);
    const { text } = await ask('GET /metrics', { token: second.token });
    t.match(text, /^rollcall_security_alerts_total\{event="security.audit-log-changed"\} 1$/m);
  },
);

void t.test('an event of the link that could not be stored is written once there is room', async t => {
  const power = createPowerCutStore();
  const clock = createManualClock(1_000_000);
  const audit = createAudit({ clock });
  const events = new LinkEvents({ store: power.store, audit, clock, log, trustDomain: 'test.example' });
  power.failWrites(new Error('no'));
  await events.started();
  t.strictSame(await told(power.store), []);
  clock.advance(20_000);
  power.failWrites(undefined);
  clock.advance(10_000);
  await events.reloaded('ab', 0);
  await events.close();
  const expected = [
    { type: 'link.started', at: 1_000_000 },
    { type: 'link.reloaded', at: 1_030_000 },
    { type: 'link.stopped' },
  ];
  t.match(await told(power.store), expected, 'at the time when it happened, in the order of old');
});
