/**
 * Who may ask what, in four stories, with a real link, real nodes and the commands as one would type them. Prints the
 * transcript as Markdown; every step is checked, and the first that does not happen ends it with exit code 1.
 *
 *   node --import=tsx examples/access/stories.ts                     print it
 *   node --import=tsx examples/access/stories.ts docs/access.md      write it there
 */
import { spawn } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { command, root, startLinkProcess, startRollcall, type Running } from '../../scripts/running.js';
import { createTokenVerifier } from '../../src/tokens/verifier.js';

const folder = await mkdtemp(join(tmpdir(), 'rollcall-stories-'));
const inFolder = (...names: string[]): string => join(folder, ...names);
const running: Running[] = [];
const transcript: string[] = [];
const fence = '```';
/** Typed once, and then known by the profile. */
const unshown = new Set(['--control', '--root-certificates', '--password-file']);

try {
  await tell();
  const text = `${transcript.join('\n').trimStart()}\n`;
  const [file] = process.argv.slice(2);
  if (file === undefined) process.stdout.write(text);
  else await writeFile(join(root, file), text);
} finally {
  for (const each of running.reverse()) await each.stop('SIGTERM');
  await rm(folder, { recursive: true, force: true });
}

async function tell(): Promise<void> {
  await run([
    process.execPath,
    '--import=tsx',
    join(root, 'scripts/generate-certs.ts'),
    '--out',
    inFolder('certificates'),
  ]);
  await password('ada');
  await password('bob');
  await password('vera');
  await password('eve');
  const { running: link, control } = await startLinkProcess({
    certificates: inFolder('certificates'),
    dataDir: inFolder('link-data'),
    more: ['--token-algorithms', 'ES256,billing=HS256', '--trust-domain', 'fleet.example'],
  });
  running.push(link);
  const url = `https://localhost:${control.split(':')[1] ?? ''}`;

  say(`# Who may ask what

Four stories, with the commands as one would type them and what they print. Written by \`examples/access/stories.ts\`,
which runs them against a real link each time the project is checked; ids, times and tokens are shortened.

The link was started with \`--token-algorithms ES256,billing=HS256\`.`);

  heading('1. A studio: a user, a token for a client, a token for a program');
  say(
    'The first admin comes in with the code that the link showed at its first start. From then on it is name and password.',
  );
  const way = ['--control', control, '--root-certificates', inFolder('certificates/ca.crt')];
  await rollcall(
    'login',
    '--setup',
    '--setup-code-file',
    inFolder('link-data/setup-code'),
    '--user',
    'ada',
    ...withPassword('ada'),
    ...way,
  );
  await rollcall('users', 'create', 'bob', '--role', 'operator', ...withPassword('bob'));
  say(
    'Bob logs in on his own machine, registers a node, and downloads its configuration: the address of the link, the CA, and a token with its refresh token.',
  );
  await rollcall('login', '--profile', 'bob', '--user', 'bob', ...withPassword('bob'), ...way);
  await publicKey('hospital-1');
  await rollcall('nodes', 'register', inFolder('hospital-1.pub'), '--name', 'hospital-1', '--profile', 'bob');
  await rollcall(
    'nodes',
    'config',
    'hospital-1',
    '--private-key',
    inFolder('hospital-1'),
    '--output',
    inFolder('node.yaml'),
    '--profile',
    'bob',
  );
  show(
    'node.yaml',
    (await readFile(inFolder('node.yaml'), 'utf8')).replace(/(BEGIN CERTIFICATE-----\n)[^-]*/g, '$1  …\n  '),
  );
  const node = startRollcall(['node', '--config', inFolder('node.yaml')]);
  running.push(node);
  await node.says('online');
  say(
    'The node starts from that file alone. What runs beside it may ask for two things with the token, and for nothing else:',
  );
  const nodeToken = /access-token: (\S+)/.exec(await readFile(inFolder('node.yaml'), 'utf8'))?.[1] ?? '';
  await ask('GET', `${url}/v1/assignment`, { token: nodeToken, wanted: 200 });
  await ask('GET', `${url}/v1/nodes`, { token: nodeToken, wanted: 403 });
  say(
    'For the program that drives the studio bob makes an API token. It can do what a viewer can, never more than bob, and can be revoked.',
  );
  await rollcall(
    'tokens',
    'create',
    'studio',
    '--role',
    'viewer',
    '--ttl',
    '30d',
    '--output',
    inFolder('studio.token'),
    '--profile',
    'bob',
  );
  await rollcall('nodes', 'list', ...way, '--token-file', inFolder('studio.token'));
  await rollcallFails(1, 'nodes', 'revoke', 'hospital-1', ...way, '--token-file', inFolder('studio.token'));
  const { id } = (
    JSON.parse(await output('tokens', 'list', '--json', '--profile', 'bob')) as { id: string }[]
  )[0] ?? { id: '' };
  await rollcall('tokens', 'revoke', id, '--profile', 'bob');
  await rollcallFails(1, 'nodes', 'list', ...way, '--token-file', inFolder('studio.token'));

  heading('2. Many tenants: a matrix of roles, refresh tokens that rotate, a deny list');
  await rollcall('tenants', 'create', 'acme', '--admin', 'eve', ...withPassword('eve'));
  await rollcall(
    'login',
    '--profile',
    'acme',
    '--user',
    'eve',
    '--tenant',
    'acme',
    ...withPassword('eve'),
    ...way,
  );
  await rollcall('roles', 'matrix', '--profile', 'acme');
  say('What belongs to another tenant looks like what does not exist:');
  await rollcallFails(1, 'nodes', 'show', 'hospital-1', '--profile', 'acme');
  await rollcallFails(1, 'nodes', 'show', 'no-such-node', '--profile', 'acme');
  say(
    'Programs of ours may use the password grant. The refresh token is exchanged at each use; the second use of an old one ends the session.',
  );
  const login = await ask('POST', `${url}/auth/token`, {
    form: {
      grant_type: 'password',
      client_id: 'rollcall-cli',
      tenant: 'acme',
      username: 'eve',
      password: await secretOf('eve'),
    },
    wanted: 200,
  });
  const first = field(login, 'refresh_token');
  const refresh = (token: string, wanted: number) =>
    ask('POST', `${url}/auth/token`, { form: { grant_type: 'refresh_token', refresh_token: token }, wanted });
  const second = field(await refresh(first, 200), 'refresh_token');
  const third = await refresh(second, 200);
  await refresh(first, 400);
  await ask('GET', `${url}/auth/me`, { token: field(third, 'access_token'), wanted: 401 });

  heading('3. gRPC with a Bearer token: who are you, and may you');
  say(
    'Every method and route has one rule: public, optional, a valid token, or a permission, some of them "or the owner".',
  );
  await rollcall('users', 'create', 'vera', '--role', 'viewer', ...withPassword('vera'));
  await rollcall('login', '--profile', 'vera', '--user', 'vera', ...withPassword('vera'), ...way);
  await rollcall('whoami', '--profile', 'vera');
  await rollcall('nodes', 'list', '--profile', 'vera');
  say(
    'PERMISSION_DENIED says which permission is missing; UNAUTHENTICATED says what is wrong with the token.',
  );
  await rollcallFails(1, 'nodes', 'revoke', 'hospital-1', '--profile', 'vera');
  await writeFile(inFolder('forged.token'), 'eyJhbGciOiJub25lIn0.e30.', { mode: 0o600 });
  await rollcallFails(1, 'nodes', 'list', ...way, '--token-file', inFolder('forged.token'));
  say("A role of one's own: whoever may register nodes, and nothing more, sees and revokes own nodes alone.");
  await rollcall('roles', 'define', 'contributor', 'nodes:register');
  await rollcall('users', 'change', 'vera', '--role', 'contributor');
  say('What is taken away is gone at once, what is given comes with the next token:');
  await rollcallFails(1, 'nodes', 'list', '--profile', 'vera');
  await rollcall('login', '--profile', 'vera', '--user', 'vera', ...withPassword('vera'), ...way);
  await publicKey('lab-1');
  await rollcall('nodes', 'register', inFolder('lab-1.pub'), '--name', 'lab-1', '--profile', 'vera');
  await rollcall('nodes', 'list', '--profile', 'vera');
  await rollcallFails(1, 'nodes', 'revoke', 'hospital-1', '--profile', 'vera');
  await rollcall('nodes', 'revoke', 'lab-1', '--profile', 'vera');
  say('Disabled, a user is out with the very next request.');
  await rollcall('users', 'change', 'vera', '--disable');
  await rollcallFails(1, 'nodes', 'list', '--profile', 'vera');

  heading('4. Services among themselves: short tokens, an audience, rotated keys, an audit of it all');
  const registered = await output(
    'services',
    'create',
    'trainer',
    '--audience',
    'logging',
    '--audience',
    'billing',
    '--scope',
    'logs:write',
    '--secret',
    '--json',
  );
  show(
    '$ rollcall services create trainer --audience logging --audience billing --scope logs:write --secret --json',
    registered,
  );
  const service = JSON.parse(registered) as { id: string; secret: string };
  const grant = (audience: string, wanted: number, secret = service.secret) =>
    ask('POST', `${url}/auth/token`, {
      form: { grant_type: 'client_credentials', client_id: service.id, client_secret: secret, audience },
      wanted,
    });
  const logging = field(await grant('logging', 200), 'access_token');
  const billing = field(await grant('billing', 200), 'access_token');
  await grant('payroll', 400);
  await grant('logging', 401, 'rcs_guessed');
  say(
    'The service that is called verifies it with one line, from the published keys, with no question to the link:',
  );
  const rootCertificates = await readFile(inFolder('certificates/ca.crt'), 'utf8');
  const verifier = createTokenVerifier({ issuer: url, audience: 'logging', rootCertificates });
  const { subject, scope, expiresAt, issuedAt } = await verifier.verify(logging);
  show(
    `await createTokenVerifier({ issuer, audience: 'logging' }).verify(token)`,
    JSON.stringify({ subject, scope, minutes: (expiresAt - issuedAt) / 60_000 }),
  );
  say('With HS256 the audience has a secret of its own. A token for one audience is nothing to another:');
  const secrets = JSON.parse(await output('keys', 'secret', 'billing', '--json')) as {
    kid: string;
    secret: string;
  }[];
  const shared = createTokenVerifier({ issuer: url, audience: 'billing', secrets });
  show(`await verifier.verify(token)`, JSON.stringify({ audience: (await shared.verify(billing)).audience }));
  await shared.verify(logging).then(
    () => fail('a token for logging must not be taken by billing'),
    (error: unknown) => show('await verifier.verify(tokenForLogging)', String(error)),
  );
  say(
    'Keys rotate every 90 days, and by command. A key signs once it has been published for an hour, so that every verifier has fetched it; what was signed before is good until it ends.',
  );
  await rollcall('keys', 'rotate');
  await rollcall('keys', 'list');
  await verifier.verify(logging);
  await ask('GET', `${url}/.well-known/jwks.json`, { wanted: 200 });
  say('All of it is in the audit log, whose end a signed checkpoint vouches for.');
  await rollcall('audit', 'list', '--limit', '12');
  await rollcall('audit', 'checkpoint', inFolder('kept.json'));
  await rollcall('audit', 'export', inFolder('log.jsonl'));
  await rollcall('audit', 'verify', inFolder('log.jsonl'), '--checkpoint', inFolder('kept.json'));
  await rollcall('logout');
}

function heading(title: string): void {
  say(`## ${title}`);
}

function say(text: string): void {
  transcript.push('', text);
}

/** What is typed and printed in a row stands together. */
function show(typed: string, printed: string): void {
  const text = plain(`${typed}\n${printed.trimEnd()}`);
  if (transcript.at(-1) === fence) transcript.splice(-1, 1, '', text, fence);
  else transcript.push('', fence, text, fence);
}

/** What differs from run to run, in a form that does not, as wide as it was so that tables stay tables. */
function plain(text: string): string {
  const sample = (of: string) => (found: string) => of.repeat(found.length).slice(0, found.length);
  return text
    .replaceAll(`${folder}/`, '')
    .replaceAll(/eyJ[\w-]+\.[\w-]+\.[\w-]*/g, 'eyJ…')
    .replaceAll(/rc([rs])_[\w-]{20,}/g, 'rc$1_…')
    .replaceAll(/(?<=SHA256:)[\w+/]{43}/g, sample('Bu0X43JeKtjcp3LmJpGguhIm14O2zjOSHbDpeBrYkDs'))
    .replaceAll(/(?<![\w/+-])[\w-]{43}(?![\w/+-])/g, sample('XG82esW7rFCtRcBNgMnhvPWOyEIthPOlXymCp8jqpPs'))
    .replaceAll(/\b[0-9a-f]{32}\b/g, sample('3b8e6d8a5dd291d57a61c53773a82fea'))
    .replaceAll(/\b\d{16,20}\b/g, sample('6024033180731329507 '))
    .replaceAll(/(localhost|127\.0\.0\.1):\d+/g, '$1:9093')
    .replaceAll(/\d{4}-\d\d-\d\d([T ])\d\d:\d\d:\d\d/g, '2026-11-22$112:00:00')
    .replaceAll(/\b\d\d:\d\d:\d\d(?!Z)/g, '00:00:02')
    .replaceAll(/\d+\.\d ms\b/g, '2.8 ms');
}

async function password(name: string): Promise<void> {
  await writeFile(inFolder(`${name}.password`), `${randomBytes(12).toString('base64url')}\n`, {
    mode: 0o600,
  });
}

async function secretOf(name: string): Promise<string> {
  return (await readFile(inFolder(`${name}.password`), 'utf8')).trim();
}

function withPassword(name: string): string[] {
  return ['--password-file', inFolder(`${name}.password`)];
}

async function publicKey(name: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const { publicKey: spki, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  await writeFile(inFolder(name), privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
  await writeFile(inFolder(`${name}.pub`), spki.export({ type: 'spki', format: 'pem' }));
}

async function run([program = '', ...parts]: string[]): Promise<{
  code: number | null;
  text: string;
  stdout: string;
}> {
  const env = { ...process.env, ROLLCALL_CONFIG_HOME: inFolder('config'), NO_COLOR: '1' };
  const child = spawn(program, parts, { stdio: ['ignore', 'pipe', 'pipe'], cwd: root, env });
  let text = '';
  let stdout = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
    stdout += chunk;
  });
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, text, stdout };
}

async function typed(wanted: number, parts: string[]): Promise<string> {
  const { code, text, stdout } = await run([process.execPath, command, ...parts]);
  const shown = parts.filter((part, at) => !unshown.has(part) && !unshown.has(parts[at - 1] ?? ''));
  if (code !== wanted) fail(`rollcall ${shown.join(' ')} ended with ${String(code)}: ${text}`);
  show(`$ rollcall ${shown.join(' ')}`, text);
  return stdout;
}

async function rollcall(...parts: string[]): Promise<void> {
  await typed(0, parts);
}

async function rollcallFails(code: number, ...parts: string[]): Promise<void> {
  await typed(code, parts);
}

async function output(...parts: string[]): Promise<string> {
  const { code, text, stdout } = await run([process.execPath, command, ...parts]);
  if (code !== 0) fail(`rollcall ${parts.join(' ')} ended with ${String(code)}: ${text}`);
  return stdout;
}

interface Question {
  readonly token?: string;
  readonly form?: Readonly<Record<string, string>>;
  readonly wanted: number;
}

async function ask(method: string, url: string, { token, form, wanted }: Question): Promise<string> {
  const ca = await readFile(inFolder('certificates/ca.crt'));
  const body = form && new URLSearchParams(form).toString();
  const headers = {
    ...(token !== undefined && { authorization: `Bearer ${token}` }),
    ...(body !== undefined && { 'content-type': 'application/x-www-form-urlencoded' }),
  };
  const { status, text } = await new Promise<{ status: number; text: string }>((resolve, reject) => {
    const asked = request(url, { method, ca, headers, agent: false }, response => {
      let received = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (received += chunk));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text: received }));
    });
    asked.on('error', reject);
    asked.end(body);
  });
  if (status !== wanted) fail(`${method} ${url} answered ${status}: ${text}`);
  const fields = Object.entries(form ?? {}).map(
    ([name, value]) => `${name}=${name === 'password' ? '…' : value}`,
  );
  const printed = text.replaceAll(/-----BEGIN[^"]*/g, '-----BEGIN CERTIFICATE-----…');
  show(
    [`${method} ${new URL(url).pathname}${token === undefined ? '' : '   (Bearer eyJ…)'}`, ...fields].join(
      '\n    ',
    ),
    `→ ${status} ${printed}`,
  );
  return text;
}

function field(json: string, name: string): string {
  return (JSON.parse(json) as Record<string, string>)[name] ?? '';
}

function fail(what: string): never {
  throw new Error(what);
}
