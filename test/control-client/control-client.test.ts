/** The client that programs import, against a real link over TLS. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createServer } from 'node:https';
import { createServer as createTcpServer, type AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { ChannelCredentials } from '@grpc/grpc-js';
import t from 'tap';
import { isRollcallError } from '../../src/base/errors.js';
import { chooseRoute, parseProxy, proxyFlagNames } from '../../src/base/proxy.js';
import { systemRandom } from '../../src/base/random.js';
import { formatAddress } from '../../src/base/settings.js';
import type * as answers from '../../src/control-client/answers.js';
import {
  ControlClient,
  NodeStatus,
  statusName,
  type AuditEntry,
  type ControlClientOptions,
  type Node,
} from '../../src/control-client/control-client.js';
import { askHttp, openLines } from '../../src/control-client/control-http.js';
import { toSpkiPem } from '../../src/identity/private-key.js';
import type { ApiToken } from '../../src/link/access/tokens/api-tokens.js';
import type { Role } from '../../src/link/access/accounts/roles.js';
import type { AudienceSecret, Rotation, TokenKeyInfo } from '../../src/link/access/tokens/keys.js';
import type { Tenant } from '../../src/link/access/accounts/tenants.js';
import type { Administration, ServiceView, UserView } from '../../src/link/administration.js';
import { makeDevelopmentCertificates } from '../../src/link/authority/development.js';
import { startConnectProxy } from '../harness/connect-proxy.js';
import { makeFolder } from '../harness/folder.js';
import { newKey, startTestLink, writeCertificates } from '../harness/test-link.js';
import { issueToken, makeUser } from '../harness/operator.js';

const testLink = await startTestLink(t, {
  settings: { 'token-algorithms': 'ES256,logging/eu=HS256' },
});
const { link, ca, token } = testLink;
const address = formatAddress(link.addresses.control);
const password = 'correct horse battery';

function connect(options: Partial<ControlClientOptions> = {}): ControlClient {
  const client = new ControlClient({ address, rootCertificates: ca, token, ...options });
  t.teardown(() => client.close());
  return client;
}

const client = connect();

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

/** Answers of the link have the types that the client declares. */
export type AnswersFit = Fits<
  {
    user: UserView;
    service: ServiceView;
    role: Role;
    token: ApiToken;
    key: TokenKeyInfo;
    rotation: Rotation;
    secret: AudienceSecret;
    tenant: Tenant;
    me: ReturnType<Administration['describe']>;
  },
  {
    user: answers.User;
    service: answers.Service;
    role: answers.Role;
    token: answers.ApiToken;
    key: answers.TokenKey;
    rotation: answers.KeyRotation;
    secret: answers.AudienceSecret;
    tenant: answers.Tenant;
    me: answers.Me;
  }
>;
type Fits<Said extends Known, Known> = Said;

void t.test('nodes are registered by any form of their key, found, listed and revoked', async t => {
  const key = newKey();
  const node = await client.nodes.register({
    publicKey: toSpkiPem(key.publicKey),
    name: 'berlin',
    labels: { site: 'charite' },
  });
  t.match(node, { name: 'berlin', labels: { site: 'charite' }, status: NodeStatus.NODE_STATUS_CREATED });
  t.equal(statusName(node.status), 'created');
  const tokyo = await client.nodes.register({ publicKey: newKey('P-384').publicKey.spki });
  t.equal(tokyo.name, '');

  for (const reference of [node.id, `${node.id}`, 'berlin', node.fingerprint])
    t.equal((await client.nodes.get(reference)).id, node.id, `${reference}`);
  t.same(
    (await all(client.nodes.list())).map(({ id }) => id).sort(),
    [node.id, tokyo.id].sort(),
    'all without a filter',
  );
  const filters = [{ labels: { site: 'charite' } }, { text: 'BERL' }];
  for (const filter of filters) t.same(await all(client.nodes.list(filter)), [node]);
  t.same(await all(client.nodes.list({ statuses: [NodeStatus.NODE_STATUS_ONLINE] })), []);
  const page = await client.nodes.listPage({ pageSize: 1 });
  const rest = await client.nodes.listPage({ pageSize: 1, pageToken: page.nextPageToken });
  t.same(new Set([...page.nodes, ...rest.nodes].map(({ id }) => id)), new Set([node.id, tokyo.id]));

  await testLink.online(key);
  const revoked = await client.nodes.revoke('berlin', 'key on a lost laptop');
  t.match(revoked, { node: { id: node.id, status: NodeStatus.NODE_STATUS_REVOKED }, sessionsEnded: 1 });
  const history = await all(client.nodes.history(node.id));
  t.same(
    history.map(({ status }) => statusName(status)),
    ['revoked', 'online', 'created'],
  );
  t.equal(history[0]?.detail, 'key on a lost laptop');
  t.equal((await client.nodes.historyPage(node.id, { pageSize: 1 })).transitions.length, 1);

  await t.rejects(client.nodes.get('nobody'), { code: 'NODE_NOT_FOUND' });
  const beginning = `${node.id}`.slice(0, -1);
  t.equal((await client.nodes.get(beginning)).id, node.id, 'text may be a beginning');
  await t.rejects(client.nodes.get(BigInt(beginning)), { code: 'NODE_NOT_FOUND' }, 'a number is whole');
  const again = { publicKey: toSpkiPem(key.publicKey) };
  await t.rejects(client.nodes.register(again), { code: /^NODE_/ });
  t.not((await client.nodes.register({ ...again, again: true })).id, node.id);
  await t.rejects(client.nodes.register({ publicKey: 'nonsense' }), { code: 'KEY_UNSUPPORTED' });
});

void t.test('runs of a client have the fields that the link stores', async t => {
  t.same(await all(client.runs.list()), []);
  t.same(await client.runs.listPage({ pageSize: 1 }), { runs: [], nextPageToken: '' });
  await t.rejects(client.runs.get(7n), { code: 'NOT_FOUND' });
  await t.rejects(client.runs.stop('7'), { code: 'NOT_FOUND' });
  await t.rejects(all(client.runs.log(7n)), { code: 'NOT_FOUND' });
  for (const id of ['seven', '', '-1', 2n ** 64n])
    await t.rejects(client.runs.get(id), { code: 'REQUEST_INVALID' }, `${id}`);
  const signer = newKey().publicKey.spki;
  const app = { appName: 'a', appVersion: '1.0.0', appDigest: '00'.repeat(32), signer };
  await t.rejects(
    client.runs.start({ ...app, signature: Buffer.from('none'), archive: Buffer.from('no archive') }),
    { code: /^(REQUEST_INVALID|RUN_REFUSED)$/ },
  );
});

void t.test('nodes.list() yields every node of a fleet over all pages', async t => {
  const label = { labels: { fleet: 'large' } };
  const more = Array.from({ length: 1_001 }, () => ({ publicKey: newKey().publicKey.spki, ...label }));
  // Each question has ten seconds, also on a machine that is busy.
  while (more.length > 0) await Promise.all(more.splice(0, 100).map(node => client.nodes.register(node)));
  const known = await all(client.nodes.list(label));
  t.equal(new Set(known.map(({ id }) => id)).size, 1_001);
  for await (const { id } of client.nodes.list(label)) {
    t.equal(id, known[0]?.id, 'and one may stop at any of them');
    break;
  }
});

void t.test('nodes.watch() yields a snapshot and each change, until its signal aborts', async t => {
  const key = newKey();
  const { id } = await client.nodes.register({ publicKey: key.publicKey.spki, name: 'watched' });
  const ending = new AbortController();
  const seen: string[] = [];
  const see = async (node: Node): Promise<void> => {
    if (node.id !== id) return;
    seen.push(statusName(node.status));
    if (seen.length === 1) await testLink.online(key);
    if (seen.at(-1) === 'online') await client.nodes.revoke(id);
    if (seen.at(-1) === 'revoked') ending.abort();
  };
  let opened = 0;
  const options = { snapshot: true, signal: ending.signal, onOpen: () => (opened += 1) };
  for await (const node of client.nodes.watch(options)) await see(node);
  t.same(seen, ['created', 'online', 'revoked']);
  t.equal(opened, 1);

  t.same(await all(client.nodes.watch({ snapshot: true, signal: AbortSignal.abort() })), []);
  for await (const node of client.nodes.watch({ snapshot: true })) {
    t.ok(node.id, 'and one may leave it in between');
    break;
  }
});

void t.test('closing a client ends its watches', async t => {
  const closed = connect();
  t.same(await all(closed.nodes.watch({ onOpen: () => closed.close() })), []);
  await t.rejects(closed.nodes.get('x'));
  closed.close();
});

void t.test('me() and assignment() return the caller and the addresses for nodes', async t => {
  t.match(await client.me(), { kind: 'user', name: 'operator', tenant: 'default', roles: ['admin'] });
  t.match(await client.assignment(), {
    tenant: 'default',
    trustDomain: 'test.example',
    links: [{ address: `localhost:${link.addresses.node.port}` }],
    serverRoots: ca,
  });
  const { id } = await client.nodes.register({ publicKey: newKey().publicKey.spki, name: 'configured' });
  const config = await client.nodes.config(id);
  t.match(config, { id: `${id}`, name: 'configured', tenant: 'default', serverRoots: ca });
  t.match(await connect({ token: config.accessToken }).me(), { kind: 'node', id: `node:${id}` });
});

void t.test('users, roles, services, tokens, tenants and keys are managed as by the command', async t => {
  const { users, roles, services, tokens, tenants, keys } = client;
  const vera = await users.create({ name: 'vera', roles: ['viewer'], password });
  t.match(vera, { name: 'vera', roles: ['viewer'], enabled: true, secondFactor: false });
  t.match(await users.change('vera', { enabled: false }), { id: vera.id, enabled: false });
  t.ok((await users.list()).some(({ id }) => id === vera.id));
  await t.rejects(users.change('', { enabled: true }), { code: 'REQUEST_INVALID' });
  await t.rejects(users.change('../roles', { enabled: true }), { code: 'NOT_FOUND' });

  t.match(await roles.define('watcher', ['nodes:read']), { name: 'watcher', permissions: ['nodes:read'] });
  const matrix = await roles.list();
  t.ok(matrix.roles.some(({ name, builtIn }) => name === 'watcher' && !builtIn));
  t.ok(matrix.permissions.some(({ name }) => name === 'nodes:read'));
  await roles.remove('watcher');
  await t.rejects(roles.remove('watcher'), { code: 'NOT_FOUND' });

  const service = await services.create('trainer', { audiences: ['logging/eu'] });
  t.match(await services.makeSecret(service.id), { service: { secrets: 1 }, secret: /^rcs_/ });
  t.match(await services.change('trainer', { enabled: false, endTokens: true }), { enabled: false });
  t.same(
    (await services.list()).map(({ name }) => name),
    ['trainer'],
  );

  t.ok((await tokens.list()).some(({ holderName }) => holderName === 'operator'));
  const wanted = { name: 'mine', roles: ['viewer'], lifetimeMs: 3_600_000 };
  await t.rejects(tokens.create(wanted), { code: 'NOT_ALLOWED' }, 'a token makes no tokens');
  t.match(await tenants.create({ name: 'north', admin: 'nora', password }), { name: 'north' });
  t.same(
    (await tenants.list()).map(({ name }) => name),
    ['default', 'north'],
  );
  t.ok((await keys.list()).every(({ retiredAt }) => retiredAt === null));
  const { signing } = await keys.rotate({ audience: 'logging/eu' });
  t.match(signing, [{ algorithm: 'HS256', audience: 'logging/eu', use: 'signs', retiredAt: null }]);
  const secret = /^[\w-]{43}$/;
  t.match(await keys.secrets('logging/eu'), [
    { kid: signing[0]?.kid, use: 'signs', secret },
    { use: 'next', secret },
  ]);
});

void t.test('the audit log is listed, exported and verified by a checkpoint', async t => {
  const entries = await all<AuditEntry>(client.audit.list({ typePrefix: 'node.registered' }));
  t.ok(entries.length > 3);
  t.ok(entries.every(({ type }) => type === 'node.registered'));
  const page = await client.audit.listEvents({ limit: 1, newestFirst: true });
  t.equal(page.entries.length, 1);
  const checkpoint = await client.audit.latestCheckpoint();
  t.equal(checkpoint.tenant, 'default');
  const lines = await all(client.audit.exportLines());
  t.ok(lines.length > entries.length);
  t.doesNotThrow(() => lines.map(line => JSON.parse(line) as unknown));
});

void t.test('a token that was revoked during use is refused in every call', async t => {
  const user = await makeUser(link.access, 'leaver', ['admin']);
  const leaver = connect({ token: await issueToken(link.access, user) });
  t.match(await leaver.me(), { name: 'leaver' });
  const [held] = (await leaver.tokens.list()).filter(({ holderName }) => holderName === 'leaver');
  await client.tokens.revoke(held?.id ?? '');
  await t.rejects(leaver.me(), { code: 'TOKEN_REFUSED', hint: /^make a new token/ }, 'over HTTP');
  await t.rejects(leaver.nodes.get('x'), { code: 'TOKEN_REFUSED', hint: /^make a new token/ }, 'over gRPC');
  await t.rejects(all(leaver.nodes.watch()), { code: 'TOKEN_REFUSED' }, 'a watch');
  await t.rejects(all(leaver.audit.exportLines()), { code: 'TOKEN_REFUSED' }, 'an export');
});

void t.test('a token function is called each time, and once more when its token is refused', async t => {
  const refusals: (string | undefined)[] = [];
  const renewing = connect({
    token: refused => {
      refusals.push(refused);
      return refused === undefined ? 'ended' : token;
    },
  });
  t.match(await renewing.me(), { name: 'operator' });
  t.same(refusals, [undefined, 'ended']);
  t.ok((await all(renewing.nodes.list({ text: 'berlin' }))).length > 0);
  for await (const node of renewing.nodes.watch({ snapshot: true })) {
    t.ok(node.id);
    break;
  }
  t.ok((await all(renewing.audit.exportLines())).length > 0);
  t.same(refusals.slice(2), Array(3).fill([undefined, 'ended']).flat());

  let asked = 0;
  const stubborn = connect({ token: () => Promise.resolve(`ended-${(asked += 1)}`) });
  await t.rejects(stubborn.me(), { code: 'TOKEN_REFUSED' });
  t.equal(asked, 2, 'not a third time');
  const failing = connect({ token: () => Promise.reject(new Error('the vault is shut')) });
  await t.rejects(failing.me(), { message: 'the vault is shut' });
  await t.rejects(connect({ token: () => 'two words' }).me(), { code: 'CONFIG_INVALID' });
});

void t.test('invalid options of a client are refused before any request', t => {
  const refused = (options: Partial<ControlClientOptions>): unknown => {
    try {
      return new ControlClient({ address, rootCertificates: ca, ...options });
    } catch (error) {
      return isRollcallError(error) ? { code: error.code, hint: error.hint, message: error.message } : error;
    }
  };
  const before = process.env['ROLLCALL_TOKEN'];
  t.teardown(() => {
    if (before === undefined) delete process.env['ROLLCALL_TOKEN'];
    else process.env['ROLLCALL_TOKEN'] = before;
  });
  for (const nothing of ['', undefined]) {
    if (nothing === undefined) delete process.env['ROLLCALL_TOKEN'];
    else process.env['ROLLCALL_TOKEN'] = nothing;
    t.match(refused({}), { code: 'CONFIG_INVALID', hint: /ROLLCALL_TOKEN/ });
  }
  t.match(refused({ token: '' }), { code: 'CONFIG_INVALID' });
  const secret = refused({ token: 'two words' });
  t.match(secret, { code: 'CONFIG_INVALID' });
  t.notMatch(JSON.stringify(secret), 'two words', 'and is not repeated');
  t.match(refused({ token, address: 'nowhere' }), { code: 'CONFIG_INVALID', message: /^address: / });
  t.match(refused({ token, rootCertificates: 'x' }), { code: 'CONFIG_INVALID', message: /rootCertificates/ });
  t.end();
});

void t.test('ROLLCALL_TOKEN is the default token of a client', async t => {
  const before = process.env['ROLLCALL_TOKEN'];
  process.env['ROLLCALL_TOKEN'] = token;
  t.teardown(() => {
    if (before === undefined) delete process.env['ROLLCALL_TOKEN'];
    else process.env['ROLLCALL_TOKEN'] = before;
  });
  const byEnvironment = new ControlClient({ address, rootCertificates: ca });
  t.teardown(() => byEnvironment.close());
  t.match(await byEnvironment.me(), { name: 'operator' });
  await t.rejects(connect({ token: 'given' }).me(), { code: 'TOKEN_REFUSED' }, 'the option goes first');
});

void t.test('a client sends no token to a server that it cannot verify', async t => {
  const { ca: strange } = await writeCertificates(await makeFolder(t));
  const misled = connect({ rootCertificates: Buffer.from(strange) });
  const wanted = { code: 'LINK_UNVERIFIED', message: /no root in rootCertificates has issued$/ };
  await t.rejects(misled.me(), wanted, 'over HTTP');
  await t.rejects(misled.nodes.get('x'), wanted, 'over gRPC');
  await t.rejects(all(misled.nodes.watch()), wanted, 'a watch');
  const nodePort = connect({ address: formatAddress(link.addresses.node) });
  await t.rejects(nodePort.nodes.get('x'), { code: 'LINK_UNREACHABLE' });
});

void t.test('a watch ends with an error when the link goes away', async t => {
  const other = await startTestLink(t);
  const there = { address: formatAddress(other.link.addresses.control), rootCertificates: other.ca };
  const watcher = connect({ ...there, token: other.token });
  const leaving = { onOpen: () => void other.link.close() };
  await t.rejects(all(watcher.nodes.watch(leaving)), { code: 'LINK_UNREACHABLE', message: /went away$/ });
  await t.rejects(watcher.me(), { code: 'LINK_UNREACHABLE', message: /^nothing listens at / });
});

const root = fileURLToPath(new URL('../../', import.meta.url));

void t.test('a program that imports rollcall/control runs, and exits once its client is closed', async t => {
  const folder = await makeFolder(t);
  const program = `
    import { readFile } from 'node:fs/promises';
    import { ControlClient, NodeStatus, RollcallError, statusName } from 'rollcall/control';
    const [address, roots] = process.argv.slice(1);
    const client = new ControlClient({ address, rootCertificates: await readFile(roots) });
    for await (const { name, status } of client.nodes.list({ text: 'berlin', statuses: [NodeStatus.NODE_STATUS_REVOKED] })) console.log(name, statusName(status));
    console.log((await client.me()).name, RollcallError.name);
    client.close();
  `;
  const rootsPath = join(folder, 'ca.crt');
  await writeFile(rootsPath, ca);
  const child = spawn(process.execPath, ['--input-type=module', '-e', program, address, rootsPath], {
    cwd: root,
    env: { PATH: process.env['PATH'], ROLLCALL_TOKEN: token },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  t.equal(code, 0);
  t.equal(said, 'berlin revoked\noperator RollcallError\n');
  const { exports } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as {
    exports: Record<string, { types: string }>;
  };
  const types = await readFile(join(root, exports['./control']?.types ?? ''), 'utf8');
  t.match(types, 'export declare class ControlClient');
});

void t.test('the program in README.md runs as typed', async t => {
  const folder = await makeFolder(t);
  const [, program = ''] = /^```js\n(.*?)^```/ms.exec(await readFile(join(root, 'README.md'), 'utf8')) ?? [];
  // The link of this test has a port of its own.
  await writeFile(join(folder, 'watch.mjs'), program.replace("'localhost:9093'", `'${address}'`));
  await mkdir(join(folder, 'certificates'));
  await writeFile(join(folder, 'certificates', 'ca.crt'), ca);
  await mkdir(join(folder, 'node_modules'));
  await symlink(root, join(folder, 'node_modules', 'rollcall'));
  const child = spawn(process.execPath, ['watch.mjs'], {
    cwd: folder,
    env: { PATH: process.env['PATH'], ROLLCALL_TOKEN: token },
  });
  const closed = once(child, 'close');
  let said = '';
  let complaint = '';
  child.stderr.on('data', (chunk: Buffer) => (complaint += chunk.toString()));
  child.stdout.on('data', (chunk: Buffer) => {
    said += chunk.toString();
    // It watches until it is ended.
    if (/^berlin .*\n/m.test(said)) child.kill();
  });
  await closed;
  t.equal(complaint, '');
  t.match(said, /^berlin [a-z]+ [a-z ]+$/m);
});

void t.test('a client connects through its proxy alone, over gRPC and HTTP, by the link name', async t => {
  const { port } = link.addresses.control;
  const proxy = await startConnectProxy(t, { credentials: 'bob:open sesame' });
  const address = `localhost:${port}`;
  const given = { address, proxy: proxy.url, proxyCredentials: 'bob:open sesame' };
  const behind = connect(given);
  t.equal((await behind.me()).name, 'operator');
  t.ok((await all(behind.nodes.list())).length > 0);
  const watch = behind.nodes.watch({ snapshot: true });
  t.ok((await watch.next()).value);
  t.ok(proxy.asked.length >= 2);
  t.same(new Set(proxy.asked), new Set([address]));

  proxy.cut();
  await t.rejects(all(watch), { code: 'LINK_UNREACHABLE' });
  t.ok(await behind.nodes.listPage({ pageSize: 1 }), 'and comes back through it');
  behind.close();

  const refused = connect({ ...given, proxyCredentials: 'bob:wrong' });
  const refusals: (() => Promise<unknown>)[] = [() => refused.me(), () => refused.nodes.listPage({})];
  for (const asking of refusals) {
    await t.rejects(asking(), {
      code: 'LINK_UNREACHABLE',
      message: `the proxy ${proxy.url} refuses ${address}: 407 Proxy Authentication Required`,
      hint: 'it does not take the user and the password of proxyCredentials',
    });
  }
  const stranger = makeDevelopmentCertificates({ hosts: [], days: 1, now: Date.now(), random: systemRandom });
  const astray = connect({ ...given, rootCertificates: stranger.ca.certificate });
  const lost: (() => Promise<unknown>)[] = [() => astray.me(), () => astray.nodes.listPage({})];
  for (const asking of lost)
    await t.rejects(asking(), { code: 'LINK_UNVERIFIED', hint: /a proxy that inspects TLS must let/ });
});

void t.test('a client reads HTTPS_PROXY only with proxy: "environment"', async t => {
  const before = { ...process.env };
  t.teardown(() => (process.env = before));
  const proxy = await startConnectProxy(t);
  for (const name of ['HTTPS_PROXY', 'https_proxy', 'grpc_proxy']) process.env[name] = proxy.url;
  const straight = connect();
  t.ok(await straight.me());
  t.ok(await straight.nodes.listPage({}));
  t.same(proxy.asked, []);
  t.ok(await connect({ proxy: 'environment' }).me());
  t.same(proxy.asked, [address]);
  t.ok(await connect({ proxy: 'none' }).me());
  process.env['NO_PROXY'] = '127.0.0.1';
  t.ok(await connect({ proxy: 'environment' }).me());
  t.equal(proxy.asked.length, 1);
  const wrong = {
    message: /^proxy: expected a URL without user and password; give those by proxyCredentials$/,
  };
  t.throws(() => connect({ proxy: 'http://bob:sesame@p:1' }), { code: 'CONFIG_INVALID', ...wrong });
  t.throws(() => connect({ proxy: proxy.url, proxyCredentials: 'bob' }), {
    message: 'proxyCredentials: expected user:password on one line',
  });
  t.throws(() => connect({ proxy: proxy.url, proxyRootCertificates: 'x' }), { code: /KEY|CONFIG|FILE/ });
});

void t.test('a silent link behind a proxy fails a request after its deadline', async t => {
  const mute = createTcpServer(socket => void socket.on('error', () => undefined).resume());
  await new Promise<void>(resolve => mute.listen(0, '127.0.0.1', resolve));
  t.teardown(() => mute.close());
  const address = { host: '127.0.0.1', port: (mute.address() as AddressInfo).port };
  const proxy = await startConnectProxy(t);
  const setting = parseProxy(proxy.url);
  const target = {
    address,
    addressText: formatAddress(address),
    route: chooseRoute({ setting, environment: {}, link: address, names: proxyFlagNames }),
    roots: Buffer.from(ca),
    rootsPath: 'ca',
    names: { address: '--control', roots: '--root-certificates' },
  };
  // Enough for the proxy to answer; the link never does.
  const asking = askHttp(target, { method: 'GET', path: '/', withinMs: 1_000 });
  await t.rejects(asking, { code: 'LINK_UNREACHABLE', message: /no answer/ });
});

void t.test('a response that is cut off within a line fails with a RollcallError', async t => {
  const now = Date.now();
  const { ca, server } = makeDevelopmentCertificates({ hosts: [], days: 1, now, random: systemRandom });
  const cutting = createServer({ cert: server.certificate, key: server.key }, (_, response) => {
    response.writeHead(200, { 'content-length': 1_000 });
    response.write('one\ntwo\nthr', () => setImmediate(() => response.socket?.destroy()));
  });
  await new Promise<void>(resolve => cutting.listen(0, '127.0.0.1', resolve));
  t.teardown(() => cutting.close());
  const { port } = cutting.address() as AddressInfo;
  const address = { host: '127.0.0.1', port };
  const roots = Buffer.from(ca.certificate);
  const names = { address: 'address', roots: 'rootCertificates' };
  const target = { address, addressText: `127.0.0.1:${port}`, roots, rootsPath: 'roots', names };
  const read: string[] = [];
  const reading = async (): Promise<void> => {
    for await (const line of await openLines(target, { method: 'GET', path: '/' })) read.push(line);
  };
  await t.rejects(reading(), { name: 'RollcallError', code: 'LINK_UNREACHABLE' });
  t.same(read.slice(0, 2), ['one', 'two']);
});

void t.test('grpc-js is pinned to the version whose internals are used', async t => {
  const read = async (path: string) =>
    JSON.parse(await readFile(new URL(path, import.meta.url), 'utf8')) as {
      version: string;
      dependencies: Record<string, string>;
    };
  const own = await read('../../package.json');
  const grpc = await read('../../node_modules/@grpc/grpc-js/package.json');
  t.equal(own.dependencies['@grpc/grpc-js'], grpc.version, 'exactly, without a range');
  // src/protocol/tunnel-credentials.ts builds on it. If this fails, read it against the new version before changing it.
  t.equal(grpc.version, '1.14.7');
  const connector = ChannelCredentials.createInsecure()._createSecureConnector({ path: '' }, {});
  t.same(Object.keys(connector).sort(), ['connect', 'destroy', 'getCallCredentials', 'waitForReady']);
});
