/** The way in on the first day, by a real process: from the setup code to a token that a program uses. */
import t from 'tap';
import { existsSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { AuditEntry } from '../../src/audit-log/entry.js';
import { formatParty } from '../../src/audit-log/party.js';
import { startLinkProcess } from '../../scripts/running.js';
import { connectOperator } from '../harness/operator.js';
import { restCalls, type AskRest } from '../harness/rest-calls.js';
import { makeFolder, newKey, writeCertificates } from '../harness/test-link.js';

void t.test('setup code, first admin, login and API token work, also after a restart', async t => {
  const folder = await makeFolder(t);
  const { ca } = await writeCertificates(folder);
  const dataDir = join(folder, 'data');
  const start = async (control?: string) => {
    const at = control === undefined ? {} : { control };
    const link = await startLinkProcess({ certificates: folder, dataDir, ...at });
    t.teardown(() => link.running.stop('SIGKILL'));
    return link;
  };
  const link = await start();
  const ask = restCalls(t, Number(link.control.split(':').at(-1)), ca);
  const codeFile = join(dataDir, 'setup-code');
  const code = await readFile(codeFile, 'utf8');
  for (const secret of ['setup-code', 'token-keys.json'])
    t.equal((await stat(join(dataDir, secret))).mode & 0o777, 0o600, secret);
  t.notMatch(JSON.stringify(link.running.lines), code.trim(), 'the log does not hold the code');

  const admin = { username: 'ann', password: 'correct horse battery' };
  const wrong = await ask('POST /auth/setup', {
    json: { code: code.replaceAll(/[0-9A-Z]/g, '0'), ...admin },
  });
  t.match(wrong, { status: 401, fields: { code: 'LOGIN_REFUSED' } });
  t.match(await ask('POST /auth/setup', { json: { code, ...admin } }), {
    status: 200,
    fields: { name: 'ann' },
  });
  t.notOk(existsSync(codeFile), 'the code is gone');
  t.equal((await ask('POST /auth/setup', { json: { code, ...admin, username: 'eve' } })).status, 401);

  const session = await login(ask, admin);
  t.match(session, { token_type: 'Bearer', expires_in: 900, refresh_token: /^rcr_/ });
  const made = await ask('POST /v1/tokens', {
    token: session['access_token'],
    json: { name: 'program', roles: ['admin'], lifetimeMs: 3_600_000 },
  });
  t.equal(made.status, 200);
  const token = made.fields['token'] ?? '';
  const operator = connectOperator(link.control, token, ca);
  const { id } = await operator.registerNode({
    publicKey: newKey().publicKey.spki,
    name: 'press',
    labels: {},
    again: false,
  });
  operator.close();
  t.match(await ask('GET /metrics', { token }), { status: 200, text: /rollcall_nodes/ });
  t.equal((await ask('GET /metrics')).status, 401);

  t.equal(await link.running.stop('SIGTERM'), 0);
  await start(link.control);
  t.notOk(existsSync(codeFile), 'no new code is made');
  t.match(await ask(`GET /v1/nodes/${id}`, { token }), {
    status: 200,
    fields: { name: 'press', owner: 'ann' },
  });
  t.match(await ask('GET /auth/me', { token: session['access_token'] }), { fields: { name: 'ann' } });
  const { json } = await ask('GET /v1/audit/events?limit=100', { token });
  const told = (json as { entries: AuditEntry[] }).entries.map(
    ({ type, by }) => `${type} by ${formatParty(by)}`,
  );
  t.strictSame(told, [
    'keys.rotated by link',
    'link.started by link',
    'setup.completed by setup',
    'login by user:ann',
    'token.issued by user:ann',
    'node.registered by user:ann',
    'peer.refused by anonymous',
    'login.refused by anonymous',
    'link.stopped by link',
    'link.started by link',
  ]);
  const secrets = [token, session['access_token'] ?? '', session['refresh_token'] ?? '', admin.password];
  const log = JSON.stringify(link.running.lines);
  t.notOk(
    secrets.some(secret => log.includes(secret)),
    'no secret is in the log',
  );
});

async function login(
  ask: AskRest,
  { username, password }: { username: string; password: string },
): Promise<Readonly<Record<string, string>>> {
  const form = { grant_type: 'password', client_id: 'rollcall-cli', username, password };
  return (await ask('POST /auth/token', { form })).fields;
}
