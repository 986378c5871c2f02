/**
 * Access control in four stories, with a real link, a real node and the commands as one types them in an empty
 * folder. Prints the transcript as Markdown; every step is checked, and the first that fails ends it with exit code 1.
 *
 *   node --import=tsx examples/access/stories.ts                     print it
 *   node --import=tsx examples/access/stories.ts docs/access.md      write it there
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { command, root, startRollcall, type Running } from '../../scripts/running.js';

const folder = await mkdtemp(join(tmpdir(), 'rollcall-stories-'));
const inFolder = (...names: string[]): string => join(folder, ...names);
const running: Running[] = [];
const transcript: string[] = [];
const fence = '```';
/** The stand-ins for ids, keys and fingerprints of this run: the same one everywhere for the same value. */
const standIns = new Map<string, string>();
/** The ports of this run, to be shown as the default ones. */
const ports = { node: '', control: '' };

/** The program of somebody who takes tokens, as the page shows it. */
const verifyProgram = `import { readFileSync } from 'node:fs';
import { createTokenVerifier } from 'rollcall/tokens';

const [name, token, secrets] = process.argv.slice(2);
const read = file => readFileSync(file, 'utf8').trim();

const verifier = createTokenVerifier({
  issuer: 'https://localhost:9093',
  audience: name,
  rootCertificates: read('certificates/ca.crt'),
  ...(secrets && { secrets: JSON.parse(read(secrets)) }),
});
try {
  const { subject, audience, scope } = await verifier.verify(read(token));
  console.log({ subject, audience, scope });
} catch (error) {
  console.log(String(error));
}
`;

try {
  await prepare();
  await tell();
  const text = `${transcript.join('\n').trimStart()}\n`;
  const [file] = process.argv.slice(2);
  if (file === undefined) process.stdout.write(text);
  else await writeFile(join(root, file), text);
} finally {
  for (const each of running.reverse()) await each.stop('SIGTERM');
  await rm(folder, { recursive: true, force: true });
}

/** Does the same as `npm link` and `npm link rollcall`: the command on the path, and the package for programs. */
async function prepare(): Promise<void> {
  await mkdir(inFolder('.bin'));
  await writeFile(inFolder('.bin', 'rollcall'), `#!/bin/sh\nexec "${process.execPath}" "${command}" "$@"\n`);
  await chmod(inFolder('.bin', 'rollcall'), 0o755);
  await mkdir(inFolder('node_modules'));
  await symlink(root, inFolder('node_modules', 'rollcall'));
}

async function tell(): Promise<void> {
  say(`# Who may ask what

Four stories, with the commands as one types them and what they print. Written by \`npm run stories -- docs/access.md\`,
which runs them against a real link. Ids, times, tokens and certificates are shortened here: where a command or a request
has one, put in what your link printed.

To type them yourself: \`npm ci && npm link\` in the clone, then everything below in an empty folder. The passwords are
made first, each in a file; without \`--password-file\` a command asks for the password. A password has 15 to 256 characters.`);
  await type('umask 077');
  await type(`for name in ada bob eve vera; do head -c 12 /dev/urandom | base64 > $name.password; done`);
  await type('rollcall certs');
  say('The link runs in a terminal of its own, in the same folder:');
  await startLink(`rollcall link --ssl-ca-certfile certificates/ca.crt --ssl-certfile certificates/server.pem \\
    --ssl-keyfile certificates/server.key --token-algorithms ES256,billing=HS256 --trust-domain fleet.example`);
  await studio();
  await tenants();
  await permissions();
  await services();
}

async function studio(): Promise<void> {
  heading('1. A studio: a user, a token for a client, a token for a program');
  say(
    'The first admin needs the code that the link wrote at its first start, and after that name and password.',
  );
  await type(`rollcall login --setup --setup-code-file link-data/setup-code --user ada --password-file ada.password \\
    --root-certificates certificates/ca.crt`);
  await type('rollcall users create bob --role operator --password-file bob.password');
  say(
    'Bob logs in. That is on his own machine, so here he has a profile of his own. He registers a node and downloads its configuration: the address of the link, the CA, and a token with its refresh token.',
  );
  await type(
    'rollcall login --profile bob --user bob --password-file bob.password --root-certificates certificates/ca.crt',
  );
  await type('rollcall keygen 2');
  await type('rollcall nodes register keys/client_credentials_1.pub --name hospital-1 --profile bob');
  await type(
    'rollcall nodes config hospital-1 --private-key keys/client_credentials_1 --output node.yaml --profile bob',
  );
  const config = await readFile(inFolder('node.yaml'), 'utf8');
  show('node.yaml', config.replace(/(BEGIN CERTIFICATE-----\n)[^-]*/g, '$1  …\n  '));
  say('The node starts from that file alone, in a terminal of its own:');
  await startNode('rollcall node --config node.yaml');
  say(`What runs beside the node may ask for two things with the access token, and for nothing else. Requests are shown as
HTTP has them. With curl the first one is

${fence}
curl --cacert certificates/ca.crt https://localhost:9093/v1/assignment \\
    -H "Authorization: Bearer $(sed -n 's/^ *access-token: //p' node.yaml)"
${fence}

and a POST sends each of its fields with \`--data-urlencode NAME=VALUE\`.`);
  const token = /access-token: (\S+)/.exec(config)?.[1] ?? '';
  await ask('GET', '/v1/assignment', { token, expected: 200 });
  await ask('GET', '/v1/nodes', { token, expected: 403 });
  say(
    'For the program that drives the studio bob makes an API token. It can do what a viewer can, never more than bob, and can be revoked.',
  );
  await type('rollcall tokens create studio --role viewer --ttl 30d --output studio.token --profile bob');
  await type('rollcall nodes list --token-file studio.token');
  await type('rollcall nodes revoke hospital-1 --token-file studio.token', 1);
  const listed = await type('rollcall tokens list --profile bob');
  await type(`rollcall tokens revoke ${/\b[0-9a-f]{32}\b/.exec(listed)?.[0] ?? ''} --profile bob`);
  await type('rollcall nodes list --token-file studio.token', 1);
}

async function tenants(): Promise<void> {
  heading('2. Many tenants: a matrix of roles, refresh tokens that rotate, a deny list');
  await type('rollcall tenants create acme --admin eve --password-file eve.password');
  await type(`rollcall login --profile acme --tenant acme --user eve --password-file eve.password \\
    --root-certificates certificates/ca.crt`);
  await type('rollcall roles list --profile acme');
  say(
    'metrics:read, keys:rotate and tenants:manage concern the whole link. Only people and programs of the tenant `default` can hold them, so no role of acme has them, not even admin.',
  );
  say('A node of another tenant looks like a node that does not exist:');
  await type('rollcall nodes show hospital-1 --profile acme', 1);
  await type('rollcall nodes show no-such-node --profile acme', 1);
  say(
    'Your own programs may use the password grant. Each use of the refresh token gives a new one; the second use of an old one ends the session.',
  );
  const password = (await readFile(inFolder('eve.password'), 'utf8')).trim();
  const login = await ask('POST', '/auth/token', {
    form: { grant_type: 'password', client_id: 'rollcall-cli', tenant: 'acme', username: 'eve', password },
    expected: 200,
  });
  const refresh = (token: string, expected: number) =>
    ask('POST', '/auth/token', { form: { grant_type: 'refresh_token', refresh_token: token }, expected });
  const first = field(login, 'refresh_token');
  const second = field(await refresh(first, 200), 'refresh_token');
  const third = await refresh(second, 200);
  say('The first refresh token once more, which was used already, and after that the newest access token:');
  await refresh(first, 400);
  await ask('GET', '/auth/me', { token: field(third, 'access_token'), expected: 401 });
}

async function permissions(): Promise<void> {
  heading('3. gRPC with a Bearer token: who are you, and may you');
  say(
    'Every method and route has one rule: public, optional, a valid token, or a permission, some of them "or the owner".',
  );
  await type('rollcall users create vera --role viewer --password-file vera.password');
  await type(
    'rollcall login --profile vera --user vera --password-file vera.password --root-certificates certificates/ca.crt',
  );
  await type('rollcall whoami --profile vera');
  await type('rollcall nodes list --profile vera');
  say(
    'PERMISSION_DENIED says which permission is missing; UNAUTHENTICATED says what is wrong with the token.',
  );
  await type('rollcall nodes revoke hospital-1 --profile vera', 1);
  await type('echo forged.by.somebody > forged.token');
  await type('rollcall nodes list --token-file forged.token', 1);
  say(
    'An admin may define more roles. Users who may register nodes, and nothing more, see and revoke only the nodes that they registered.',
  );
  await type('rollcall roles define contributor nodes:register');
  await type('rollcall users change vera --role contributor');
  say('A permission that was taken away is gone at once; a new one comes with the next token:');
  await type('rollcall nodes list --profile vera', 1);
  await type('rollcall login --profile vera --user vera --password-file vera.password');
  await type('rollcall nodes register keys/client_credentials_2.pub --name lab-1 --profile vera');
  await type('rollcall nodes list --profile vera');
  await type('rollcall nodes revoke hospital-1 --profile vera', 1);
  await type('rollcall nodes revoke lab-1 --profile vera');
  say('The link refuses the next request of a user who was disabled.');
  await type('rollcall users change vera --disable');
  await type('rollcall nodes list --profile vera', 1);
}

async function services(): Promise<void> {
  heading('4. Services among themselves: short tokens, an audience, rotated keys, an audit of it all');
  const registered = await type(
    'rollcall services create trainer --audience logging --audience billing --scope logs:write --secret --json',
  );
  const { id, secret } = JSON.parse(registered) as { id: string; secret: string };
  const grant = (audience: string, expected: number, client_secret = secret) =>
    ask('POST', '/auth/token', {
      form: { grant_type: 'client_credentials', client_id: id, client_secret, audience },
      expected,
    });
  const logging = field(await grant('logging', 200), 'access_token');
  const billing = field(await grant('billing', 200), 'access_token');
  await grant('payroll', 400);
  await grant('logging', 401, 'rcs_guessed');
  say(
    'A service that is called verifies the token by the published keys, and does not ask the link about it. This program takes an audience and the file of a token (`npm link rollcall` in the folder lets it import the package):',
  );
  show('verify.mjs', verifyProgram);
  await writeFile(
    inFolder('verify.mjs'),
    verifyProgram.replaceAll('localhost:9093', `localhost:${ports.control}`),
  );
  await writeFile(inFolder('logging.token'), logging, { mode: 0o600 });
  await writeFile(inFolder('billing.token'), billing, { mode: 0o600 });
  say('With the first access token of the service in logging.token, and the second one in billing.token:');
  const shown = await type('node verify.mjs logging logging.token');
  if (!shown.includes(id)) fail(`verify.mjs did not print the service: ${shown}`);
  say(
    'With HS256 an audience has a secret of its own. Its verifier refuses a token that was made for another audience:',
  );
  await type('rollcall keys secret billing --json > billing.secrets');
  await type('node verify.mjs billing billing.token billing.secrets');
  const refused = await type('node verify.mjs billing logging.token billing.secrets');
  if (!refused.includes('RollcallError')) fail('a token for logging must not be taken by billing');
  say(
    'Keys rotate every 90 days, and by command. A key signs once it has been published for an hour, so that every verifier has fetched it. Tokens that an earlier key signed are valid until they end.',
  );
  await type('rollcall keys rotate');
  await type('rollcall keys list');
  const still = await run('node verify.mjs logging logging.token');
  if (!still.text.includes(id)) fail(`a token from before the rotation is refused: ${still.text}`);
  await ask('GET', '/.well-known/jwks.json', { expected: 200 });
  say(
    'The audit log has an entry for all of this. A signed checkpoint that you keep shows later that no entry up to it was changed or removed.',
  );
  await type('rollcall audit list --limit 12');
  await type('rollcall audit checkpoint kept.json');
  await type('rollcall audit export log.jsonl');
  await type('rollcall audit verify log.jsonl --checkpoint kept.json');
  await type('rollcall logout');
}

function heading(title: string): void {
  say(`## ${title}`);
}

function say(text: string): void {
  transcript.push('', text);
}

/** Commands that are typed in a row stand together. */
function show(typed: string, printed: string): void {
  const text = plain(`${typed}\n${printed}`.trimEnd());
  if (transcript.at(-1) === fence) transcript.splice(-1, 1, '', text, fence);
  else transcript.push('', fence, text, fence);
}

function standIn(found: string, sample: string): string {
  const known = standIns.get(found);
  if (known !== undefined) return known;
  const alike = [...standIns.values()].filter(each => each.length === sample.length).length;
  const start = (alike * 5) % sample.length;
  const made = sample.slice(start) + sample.slice(0, start);
  standIns.set(found, made);
  return made;
}

/** Replaces what differs from run to run, by text as wide as it was so that tables stay tables. */
function plain(text: string): string {
  const by = (sample: string) => (found: string) => standIn(found, sample);
  return text
    .replaceAll(`${folder}/`, '')
    .replaceAll(/eyJ[\w-]+\.[\w-]+\.[\w-]*/g, 'eyJ…')
    .replaceAll(/rc([rs])_[\w-]{20,}/g, 'rc$1_…')
    .replaceAll(
      /(?<=SHA256:)[\w+/]{43}|(?<![\w/+-])[\w-]{43}(?![\w/+-])/g,
      by('XG82esW7rFCtRcBNgMnhvPWOyEIthPOlXymCp8jqpPs'),
    )
    .replaceAll(/\b[0-9a-f]{32}\b/g, by('3b8e6d8a5dd291d57a61c53773a82fea'))
    .replaceAll(/\b(\d{16,20})( {2,})?/g, (whole, id: string, gap = '') => {
      const shown = standIn(id, '6024033180731329507');
      return gap === '' ? shown : shown.padEnd(whole.length);
    })
    .replaceAll(/(localhost|127\.0\.0\.1):(\d+)/g, (_, host: string, port: string) =>
      port === ports.node ? `${host}:9092` : `${host}:9093`,
    )
    .replaceAll(/\d{4}-\d\d-\d\d([T ])\d\d:\d\d:\d\d/g, '2026-11-22$112:00:00')
    .replaceAll(/(?<=T12:00:00)\.\d{3}Z/g, '.000Z')
    .replaceAll(/\b\d\d:\d\d:\d\d(?!\.?\d*Z)/g, '00:00:02')
    .replaceAll(/\d+\.\d ms\b/g, '2.8 ms');
}

/** The words on the command line of a program. */
function wordsOf(line: string): string[] {
  return line.replaceAll('\\\n', ' ').split(/\s+/).slice(1);
}

/** Starts the link as typed, but on free ports. */
async function startLink(line: string): Promise<void> {
  const link = startRollcall(wordsOf(line), {
    folder,
    environment: {
      ROLLCALL_LINK_NODE_ADDRESS: '127.0.0.1:0',
      ROLLCALL_LINK_CONTROL_ADDRESS: '127.0.0.1:0',
    },
  });
  running.push(link);
  const { nodeAddress, controlAddress } = await link.says('link started');
  ports.node = String((nodeAddress as { port: number }).port);
  ports.control = String((controlAddress as { port: number }).port);
  show(`$ ${line}`, '');
}

async function startNode(line: string): Promise<void> {
  const node = startRollcall(wordsOf(line), { folder });
  running.push(node);
  await node.says('online');
  show(`$ ${line}`, '');
}

/**
 * Runs a line of the shell in the folder, with an empty home and the `umask` that was typed first. The link of this run
 * stands in for the one at the default address.
 */
async function run(line: string): Promise<{ code: number | null; text: string; stdout: string }> {
  const kept = Object.entries(process.env).filter(([name]) => !/^(?:ROLLCALL_|XDG_)/.test(name));
  const child = spawn('sh', ['-c', `umask 077; ${line}`], {
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd: folder,
    env: {
      ...Object.fromEntries(kept),
      HOME: inFolder('.home'),
      PATH: `${inFolder('.bin')}${delimiter}${process.env['PATH'] ?? ''}`,
      NO_COLOR: '1',
      ...(ports.control !== '' && { ROLLCALL_CONTROL: `127.0.0.1:${ports.control}` }),
    },
  });
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

/** Runs a line and shows it with what it printed; gives its standard output. */
async function type(line: string, expected = 0): Promise<string> {
  const { code, text, stdout } = await run(line);
  if (code !== expected) fail(`${line} ended with ${String(code)}: ${text}`);
  show(`$ ${line.replaceAll(/(?<!\\)\n/g, '\n$ ')}`, text);
  return stdout;
}

interface Question {
  readonly token?: string;
  readonly form?: Readonly<Record<string, string>>;
  readonly expected: number;
}

async function ask(method: string, path: string, { token, form, expected }: Question): Promise<string> {
  const ca = await readFile(inFolder('certificates/ca.crt'));
  const body = form && new URLSearchParams(form).toString();
  const headers = {
    ...(token !== undefined && { authorization: `Bearer ${token}` }),
    ...(body !== undefined && { 'content-type': 'application/x-www-form-urlencoded' }),
  };
  const url = `https://localhost:${ports.control}${path}`;
  const { status, text } = await new Promise<{ status: number; text: string }>((resolve, reject) => {
    const asked = request(url, { method, ca, headers, agent: false }, response => {
      let received = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (received += chunk));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text: received }));
    });
    asked.on('error', reject);
    asked.end(body);
  });
  if (status !== expected) fail(`${method} ${path} answered ${status}: ${text}`);
  const fields = Object.entries(form ?? {}).map(
    ([name, value]) => `${name}=${name === 'password' ? '…' : value}`,
  );
  const printed = text.replaceAll(/-----BEGIN[^"]*/g, '-----BEGIN CERTIFICATE-----…');
  show(
    [`${method} ${path}${token === undefined ? '' : '   (Bearer eyJ…)'}`, ...fields].join('\n    '),
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
