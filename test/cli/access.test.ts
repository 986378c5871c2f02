/**
 * Accounts and permissions, by the command against a real link over TLS: the first login, and each command about
 * access.
 */
import { createHash, generateKeyPairSync, randomBytes, X509Certificate } from 'node:crypto';
import { copyFile, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { createSecureServer, type Http2ServerResponse } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { Secret, TOTP } from 'otpauth';
import t from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { createLog } from '../../src/base/log.js';
import { systemRandom } from '../../src/base/random.js';
import { askHttp } from '../../src/control-client/control-http.js';
import { openTarget } from '../../src/cli/control-options.js';
import type { Login } from '../../src/cli/login-store.js';
import { runCommand } from '../../src/cli/program.js';
import { displayWidth, type Output } from '../../src/cli/terminal.js';
import { collectLinkConfig, requireUsable } from '../../src/link/config.js';
import { Link } from '../../src/link/link.js';
import { AdministrationService } from '../../src/protocol/generated/rollcall/v1/administration.js';
import { createMemoryStore } from '../../src/store/memory.js';
import { startConnectProxy } from '../harness/connect-proxy.js';
import { makeFolder } from '../harness/folder.js';
import { writeCertificates } from '../harness/test-link.js';
import { Kept, run, type RunOptions, type Said } from './fixtures/shell.js';

const folder = await makeFolder(t);
await writeCertificates(folder);
const roots = join(folder, 'ca.crt');

const logged: string[] = [];

/** A new link: its first admin logs in with the setup code. */
async function startLink() {
  const config = requireUsable(
    collectLinkConfig({
      flags: {
        'data-dir': join(folder, 'data'),
        'ssl-ca-certfile': roots,
        'ssl-certfile': join(folder, 'server.pem'),
        'ssl-keyfile': join(folder, 'server.key'),
        'node-address': '127.0.0.1:0',
        'control-address': '127.0.0.1:0',
        'token-algorithms': 'ES256,logging/eu=HS256',
      },
      environment: {},
      environmentPrefix: 'ROLLCALL_LINK_',
    }),
  );
  const log = createLog({
    level: 'info',
    name: 'link',
    destination: { write: (line: string) => void logged.push(line) },
  });
  const parts = { config, store: createMemoryStore(), clock: systemClock, random: systemRandom, log };
  const link = new Link(parts);
  await link.start();
  t.teardown(() => link.close());
  return link;
}

const link = await startLink();
const control = `127.0.0.1:${link.addresses.control.port}`;

async function secretFile(name: string, text: string): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, text, { mode: 0o600 });
  return path;
}

const passwords = {
  ada: await secretFile('ada-password', 'correct horse battery\n'),
  vera: await secretFile('vera-password', 'staple of the viewer\r\n'),
  fresh: await secretFile('fresh-password', 'another few words here'),
  short: await secretFile('short-password', 'short'),
};

/** Home folders for saved logins, each like a machine of its own. */
const home = (name: string): string => join(folder, 'homes', name);

/** Runs a command at somebody's machine. */
function at(where: string, words: readonly string[], options: RunOptions = {}): Promise<Said> {
  const environment = { ROLLCALL_CONFIG_HOME: home(where), ...options.environment };
  return run(words, { ...options, environment });
}

const here = ['--control', control, '--root-certificates', roots] as const;

function logIn(where: string, user: string, file: string, ...more: string[]): Promise<Said> {
  return at(where, ['login', ...here, '--user', user, '--password-file', file, ...more]);
}

async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isSo())) await new Promise(resolve => setTimeout(resolve, 10));
}

const ada = (words: readonly string[], options?: RunOptions): Promise<Said> => at('ada', words, options);

/** The JSON a command of ada's printed, which must have worked. */
async function adaJson<T>(...words: string[]): Promise<T> {
  const said = await ada([...words, '--json']);
  if (said.code !== 0) throw new Error(said.stderr);
  return JSON.parse(said.stdout) as T;
}

const loginFile = (where: string, profile = 'default'): string => join(home(where), `login-${profile}.json`);

async function readLogin(where: string): Promise<Login> {
  return JSON.parse(await readFile(loginFile(where), 'utf8')) as Login;
}

/** As if a quarter of an hour had passed since the last command. */
async function age(where: string): Promise<Login> {
  const login = { ...(await readLogin(where)), accessEndsAt: Date.now() + 5_000 };
  await writeFile(loginFile(where), JSON.stringify(login), { mode: 0o600 });
  return login;
}

async function copyHome(from: string, to: string): Promise<void> {
  await mkdir(home(to), { recursive: true });
  for (const name of await readdir(home(from))) await copyFile(join(home(from), name), join(home(to), name));
}

/** Answers what is asked on standard error, as a person who waits for the question. */
class Asking extends Kept {
  constructor(readonly answer: (question: string) => void) {
    super(true);
  }

  override _write(chunk: Buffer, encoding: string, done: () => void): void {
    super._write(chunk, encoding, done);
    const question = /^(.+): $/.exec(chunk.toString())?.[1];
    if (question !== undefined) setImmediate(() => this.answer(question));
  }
}

/** Runs a command of ada's at a keyboard. `answer` gets the question and all output so far. */
async function attended(
  words: readonly string[],
  answer: (question: string, shown: string) => string,
): Promise<Said> {
  const keyboard = Object.assign(new PassThrough(), { isTTY: true });
  const before = Object.getOwnPropertyDescriptor(process, 'stdin');
  Object.defineProperty(process, 'stdin', { value: keyboard, configurable: true });
  const stdout = new Kept();
  const stderr: Asking = new Asking(question => keyboard.write(`${answer(question, stderr.text)}\n`));
  try {
    const code = await runCommand(words, {
      stdout: stdout as Output,
      stderr: stderr as Output,
      environment: { ROLLCALL_CONFIG_HOME: home('ada'), NO_COLOR: '1' },
      now: () => Date.now(),
      onInterrupt: () => () => undefined,
    });
    return { code, stdout: stdout.text, stderr: stderr.text };
  } finally {
    if (before) Object.defineProperty(process, 'stdin', before);
  }
}

void t.test('the setup code creates the first admin, once', async t => {
  const code = join(folder, 'data', 'setup-code');
  const setup = ['--setup', '--setup-code-file', code];
  const wrong = await secretFile('wrong-code', 'AAAAA-AAAAA-AAAAA-AAAAA-AAAAA\n');
  const refused = await logIn('ada', 'ada', passwords.ada, '--setup', '--setup-code-file', wrong);
  t.match(refused, { code: 1, stdout: '', stderr: /^error: the setup code is not valid\nhint: it is in/ });
  await t.rejects(stat(home('ada')), 'nothing is kept of a login that was refused');
  const [told] = logged.filter(line => line.includes('there is no admin yet'));
  t.match(JSON.parse(told ?? '{}'), { level: 'info', setupCodeFile: code, hint: 'rollcall login --setup' });
  t.notMatch(logged.join(''), (await readFile(code, 'utf8')).trim(), 'the log does not hold the code');
  const early = await attended(['login', ...here], () => 'nothing is to be asked');
  t.match(early, { code: 1, stdout: '' });
  t.match(
    early.stderr,
    /^error: there is no admin yet on this link\nhint: make the first one .*: rollcall login --setup\n$/,
  );
  const unfit = await logIn('ada', 'ada', passwords.short, ...setup);
  t.match(unfit, { code: 1, stderr: /^error: a password has 15 to 256 characters/ });

  const right = 'correct horse battery';
  const typed: Record<string, string[]> = {
    'setup code': ['AAAAA-AAAAA-AAAAA-AAAAA-AAAAA', (await readFile(code, 'utf8')).trim()],
    user: ['ada'],
    'new password': ['too short', right, right],
    'new password again': [`${right} `, right],
  };
  const shownThen: string[] = [];
  const asked: string[] = [];
  const said = await attended(['login', ...here, '--setup'], (question, shown) => {
    if (question === 'new password') shownThen.push(shown);
    asked.push(question);
    return typed[question]?.shift() ?? 'asked too often';
  });
  t.match(said, { code: 0, stdout: `✅ Logged in to ${control} as ada, the first admin.\n` });
  t.match(
    shownThen[0],
    /hint: a password has 15 to 256 characters/,
    'the rule is told before it is asked for',
  );
  t.match(shownThen[2], /hint: the two were not the same; try again\n/);
  t.match(said.stderr, /hint: the setup code is not valid; it is in the file setup-code/);
  t.same(asked.slice(0, 3), ['setup code', 'setup code', 'user'], 'the code is judged before more is asked');
  t.same(Object.values(typed).flat(), [], 'each was asked for once more, and nothing else');
  for (const name of ['login-default.json', 'profiles.json'])
    t.equal((await stat(join(home('ada'), name))).mode & 0o777, 0o600, name);
  await t.rejects(stat(code), 'the code is gone');
  const kept = await secretFile('kept-code', 'AAAAA-AAAAA-AAAAA-AAAAA-AAAAA\n');
  t.equal((await logIn('eve', 'eve', passwords.ada, '--setup', '--setup-code-file', kept)).code, 1);
  const late = await attended(['login', ...here, '--setup'], () => 'nothing is to be asked');
  t.match(late, {
    code: 1,
    stdout: '',
    stderr: 'error: there is an admin already\nhint: log in without --setup\n',
  });

  const who = await ada(['whoami']);
  t.match(who, { code: 0, stderr: '' });
  t.match(who.stdout, /^Name {8}ada\nKind {8}user\nTenant {6}default\nRoles {7}admin\nMay {9}audit:read, /);
  t.match(await adaJson('whoami'), {
    ...{ name: 'ada', kind: 'user', roles: ['admin'], tenant: 'default' },
    expiresAt: /^\d{4}-\d\d-\d\dT.*Z$/,
  });
});

void t.test('users are created, listed, changed and disabled', async t => {
  const made = await ada(['users', 'create', 'vera', '--role', 'viewer', '--password-file', passwords.vera]);
  t.same(made, { code: 0, stdout: '✅ User vera created as viewer.\n', stderr: '' });
  const words = ['users', 'create', 'otto', '--role', 'operator', '--role', 'viewer'];
  t.match(await adaJson(...words, '--password-file', passwords.vera), {
    id: /^user:[0-9a-f]{32}$/,
    name: 'otto',
    roles: ['operator', 'viewer'],
    enabled: true,
    secondFactor: false,
    createdAt: /^\d{4}-.*Z$/,
  });
  const taken = await ada(['users', 'create', 'Vera', '--role', '', '--password-file', passwords.vera]);
  t.match(taken, { code: 1, stderr: 'error: there is a user named Vera already\n' });
  const open = join(folder, 'open-password');
  await writeFile(open, 'readable by everybody', { mode: 0o644 });
  const readable = await ada(['users', 'create', 'x', '--role', 'viewer', '--password-file', open]);
  t.match(readable, { code: 2, stderr: /can be read by others.*\nhint: chmod 600/ });
  t.match(await ada(['users', 'create', 'x', '--role', 'viewer']), {
    code: 2,
    stderr: 'error: cannot ask for the new password here\nhint: give --password-file FILE\n',
  });
  t.match(await ada(['users', 'create', 'x']), { code: 2, stderr: /required option '--role <ROLE>'/ });

  const plain = await ada(['users', 'list']);
  const [head = '', ...rows] = plain.stdout.trimEnd().split('\n');
  t.match(head, /^User {2}Roles {13}Status {3}Second Factor {2}Created {15}ID$/);
  t.equal(rows.length, 3);
  t.ok(rows.some(row => /^vera {2}viewer {12}enabled {2}off {12}\d{4}-.*Z {2}user:/.test(row)));
  const boxed = await ada(['users', 'list'], { isTTY: true });
  t.match(boxed.stdout, /^┏━.*\n┃\x1b\[1m User /);

  t.same(await ada(['users', 'change', 'otto', '--role', 'viewer', '--disable']), {
    code: 0,
    stdout: '✅ User otto changed: now viewer, disabled, all logins and API tokens ended.\n',
    stderr: '',
  });
  t.match((await logIn('otto', 'otto', passwords.vera)).stderr, /^error: name, password or code is wrong\n/);
  t.match((await ada(['users', 'list'], { isTTY: true })).stdout, '\x1b[31mdisabled\x1b[0m');
  t.match(await adaJson('users', 'change', 'otto', '--enable', '--role', ''), { enabled: true, roles: [] });

  t.match(await ada(['users', 'change', 'otto']), { code: 2, stderr: /^error: nothing was said/ });
  t.match(await ada(['users', 'change', 'otto', '--enable', '--disable']), { code: 2, stderr: /together/ });
  t.match(await ada(['users', 'change', '', '--enable']), { code: 2, stderr: /expected the name of a user/ });
  for (const name of ['nobody', '..', '../roles', 'a/b', 'a\x1b[2Jb'])
    t.match(await ada(['users', 'change', name, '--enable']), {
      code: 1,
      stderr: 'error: there is no such user\n',
    });
});

void t.test('users and services are deleted by name', async t => {
  const word = ['--password-file', passwords.vera];
  await ada(['users', 'create', 'brief', '--role', 'viewer', ...word]);
  t.same(await ada(['users', 'delete', 'brief']), {
    ...{ code: 0, stderr: '' },
    stdout: '✅ User brief deleted; all logins and tokens of the user have ended.\n',
  });
  t.match(await ada(['users', 'delete', 'brief']), { code: 1, stderr: 'error: there is no such user\n' });
  await ada(['users', 'create', 'brief', '--role', 'viewer', ...word]);
  t.same(await adaJson('users', 'delete', 'brief'), { deleted: 'brief' });
  await ada(['services', 'create', 'passing']);
  t.match(await ada(['services', 'delete', 'passing']), {
    ...{ code: 0, stdout: '✅ Service passing deleted; its tokens have ended.\n' },
  });
  await ada(['services', 'create', 'passing']);
  t.same(await adaJson('services', 'delete', 'passing'), { deleted: 'passing' });
});

void t.test('a refused command names the missing permission', async t => {
  t.equal((await logIn('vera', 'vera', passwords.vera)).code, 0);
  const asked: readonly (readonly [string, ...string[]])[] = [
    ['users:manage', 'users', 'list'],
    ['users:manage', 'users', 'change', 'vera', '--role', 'admin'],
    ['users:manage', 'users', 'delete', 'ada'],
    ['services:manage', 'services', 'delete', 'mine'],
    ['users:manage', 'users', 'password', 'ada', '--password-file', passwords.vera],
    ['roles:manage', 'roles', 'define', 'mine', 'nodes:read'],
    ['roles:manage', 'roles', 'remove', 'mine'],
    ['services:manage', 'services', 'list'],
    ['services:manage', 'services', 'create', 'mine'],
    ['services:manage', 'services', 'secret', 'mine'],
    ['tokens:issue', 'tokens', 'create', 'mine', '--role', 'viewer', '--ttl', '1h'],
    ['keys:rotate', 'keys', 'list'],
    ['keys:rotate', 'keys', 'rotate', '--drop-old'],
    ['keys:rotate', 'keys', 'secret', 'logging/eu'],
    ['tenants:manage', 'tenants', 'list'],
    ['tenants:manage', 'tenants', 'create', 'mine', '--admin', 'vera', '--password-file', passwords.vera],
    ['tenants:manage', 'tenants', 'delete', 'mine'],
  ];
  for (const [permission, ...words] of asked) {
    const said = await at('vera', words);
    t.match(said, { code: 1, stdout: '', stderr: `needs ${permission}\nhint: ` }, words.join(' '));
  }
  t.equal((await at('vera', ['roles', 'matrix'])).code, 0, 'what roles allow is for everybody to see');
});

void t.test('the role matrix has permissions as rows and roles as columns', async t => {
  t.same(await ada(['roles', 'define', 'watcher', 'nodes:read', 'audit:read']), {
    code: 0,
    stdout: '✅ Role watcher allows audit:read, nodes:read.\n',
    stderr: '',
  });
  t.match(await adaJson('roles', 'define', 'stopper', 'runs:stop'), {
    name: 'stopper',
    builtIn: false,
    permissions: ['runs:stop'],
  });
  const said = await ada(['roles', 'matrix']);
  t.same(await ada(['roles', 'list']), said, 'roles list is its name, and matrix another');
  t.match(
    said.stdout,
    /^Permission +admin {2}operator {2}viewer {2}stopper {2}watcher\nnodes:read +✓ {6}✓ {9}✓ {7}- {8}✓\n/,
  );
  t.match(said.stdout, /^tenants:manage +✓ {6}- {9}- {7}- {8}-$/m);
  t.match((await ada(['roles', 'matrix', '--wide'])).stdout, /nodes:revoke .* revoke any node$/m);
  t.match((await ada(['roles', 'matrix'], { isTTY: true })).stdout, '│ \x1b[32m✓\x1b[0m ');
  const { roles, permissions } = await adaJson<{ roles: { name: string }[]; permissions: object[] }>(
    ...['roles', 'matrix'],
  );
  t.same(
    roles.map(({ name }) => name),
    ['admin', 'operator', 'viewer', 'stopper', 'watcher'],
  );
  t.match(permissions[0], { name: 'nodes:read', allows: /^see all nodes/ });

  t.match(await ada(['roles', 'define', 'watcher', 'nodes:fly']), {
    code: 1,
    stderr: /^error: no permission here: nodes:fly\nhint: `rollcall roles list`/,
  });
  t.match(await ada(['roles', 'define', 'Admin', 'nodes:read']), { code: 1, stderr: /is built in/ });
  t.match(await ada(['roles', 'define', 'watcher']), { code: 2, stderr: /missing required argument/ });
  t.match(await ada(['roles', 'remove', 'watcher']), { code: 0, stdout: /^✅ Role watcher removed; / });
  t.same(await adaJson('roles', 'remove', 'stopper'), { removed: 'stopper' });
  t.match(await ada(['roles', 'remove', 'watcher']), { code: 1, stderr: /^error: there is no such role/ });
});

/** The output of ssh-keygen for a P-256 key (RFC 5656 §3.1). */
function opensshLine(): string {
  const { x = '', y = '' } = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({
    format: 'jwk',
  });
  const point = Buffer.concat([Buffer.of(4), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')]);
  const fields = [Buffer.from('ecdsa-sha2-nistp256'), Buffer.from('nistp256'), point];
  const blob = fields.flatMap(field => [Buffer.of(0, 0, 0, field.length), field]);
  return `ecdsa-sha2-nistp256 ${Buffer.concat(blob).toString('base64')} ada@desk\n`;
}

interface ServiceJson {
  readonly id: string;
  readonly name: string;
  readonly secrets: number;
  readonly publicKeys: readonly string[];
  readonly certificates: readonly string[];
  readonly secret?: string;
}

const findService = async (name: string): Promise<ServiceJson | undefined> =>
  (await adaJson<ServiceJson[]>('services', 'list')).find(each => each.name === name);

void t.test(
  'services are created with a secret, keys or certificates, and keep what they were registered with',
  async t => {
    t.match(await ada(['services', 'list']), { code: 0, stdout: /^Service /, stderr: /^hint: no service/ });
    const flags = [
      '--role',
      'viewer',
      '--audience',
      'logging/eu',
      '--audience',
      'billing',
      '--scope',
      'write',
    ];
    const limits = ['--address', '127.0.0.0/8', '--token-lifetime', '5m'];
    const made = await ada(['services', 'create', 'shipper', ...flags, ...limits, '--secret']);
    t.match(made, { code: 0, stderr: /^hint: the secret is shown this once/ });
    const [, id = '', secret = ''] =
      /^✅ Service shipper created\.\n {3}client_id {2}(\S+)\n {3}client_secret {2}(\S+)\n$/.exec(
        made.stdout,
      ) ?? [];
    t.match(secret, /^rcs_/);

    const target = await openTarget({ control, rootCertificates: roots, proxy: {} }, {});
    const form = { grant_type: 'client_credentials', audience: 'logging/eu', scope: 'write', client_id: id };
    const tokenFor = (client_secret: string): Promise<{ expires_in: number }> =>
      askHttp(target, { method: 'POST', path: '/auth/token', form: { ...form, client_secret } });
    t.match(await tokenFor(secret), { expires_in: 300 });

    const renewed = await ada(['services', 'secret', 'shipper']);
    t.match(renewed, { code: 0, stdout: /^rcs_[\w-]{43}\n$/, stderr: /^hint: .*\nhint: the one before it/ });
    t.match(await tokenFor(renewed.stdout.trim()), { expires_in: 300 });
    const third = await adaJson<ServiceJson>('services', 'secret', id);
    t.match(third, { name: 'shipper', secrets: 2, secret: /^rcs_/ });
    await t.rejects(tokenFor(secret), { code: 'LOGIN_REFUSED' }, 'the one before the last is gone');

    const listed = await ada(['services', 'list']);
    t.match(
      listed.stdout,
      /^shipper {2}enabled {2}viewer {2}logging\/eu, billing {2}write {3}127\.0\.0\.0\/8 {2}5m {11}2 secrets {3}service:/m,
    );
    const change = ['--audience', 'billing', '--scope', '', '--disable', '--end-tokens'];
    t.same(await ada(['services', 'change', 'shipper', ...change]), {
      code: 0,
      stdout: '✅ Service shipper changed; its tokens have ended.\n',
      stderr: '',
    });
    t.match(await adaJson('services', 'change', 'shipper', '--enable', '--token-lifetime', '90s'), {
      enabled: true,
      audiences: ['billing'],
      scopes: [],
      tokenLifetimeMs: 90_000,
      createdAt: /Z$/,
    });

    const fails: readonly (readonly [RegExp, number, ...string[]])[] = [
      [/nothing was said/, 2, 'change', 'shipper'],
      [
        /--token-lifetime: expected a duration, found "soon"/,
        2,
        'change',
        'shipper',
        '--token-lifetime',
        'soon',
      ],
      [/last 1 to 60 minutes/, 1, 'change', 'shipper', '--token-lifetime', '2h'],
      [/there is no role ghost/, 1, 'create', 'x', '--role', 'ghost'],
      [/there is a service named shipper already/, 1, 'create', 'shipper'],
      [/there is no such service/, 1, 'secret', 'nobody'],
    ];
    for (const [stderr, code, ...words] of fails)
      t.match(await ada(['services', ...words]), { code, stderr });
  },
);

void t.test('keys and certificates of services are read from files of every supported format', async t => {
  const write = async (name: string, content: string): Promise<string> => {
    await writeFile(join(folder, name), content);
    return join(folder, name);
  };
  const pemOf = (type: 'rsa' | 'ec'): string => {
    const pair =
      type === 'rsa'
        ? generateKeyPairSync('rsa', { modulusLength: 2048 })
        : generateKeyPairSync('ec', { namedCurve: 'P-256' });
    return pair.publicKey.export({ type: 'spki', format: 'pem' }).toString();
  };
  const line = await write('service.ssh', opensshLine());
  const pems = [pemOf('rsa'), pemOf('ec')];
  const files = await Promise.all(pems.map((pem, index) => write(`service-${index}.pub`, `${pem}\n`)));
  const keyFlags = [...files, line].flatMap(file => ['--public-key', file]);
  const certificate = join(folder, 'server.pem');
  const made = await ada(['services', 'create', 'signer', ...keyFlags, '--certificate', certificate]);
  t.match(made, {
    code: 0,
    stdout: /^✅ Service signer created\.\n {3}client_id {2}service:\w+\n$/,
    stderr: '',
  });
  const { raw } = new X509Certificate(await readFile(certificate));
  const thumbprint = createHash('sha256').update(raw).digest('base64url');
  t.match(await findService('signer'), {
    secrets: 0,
    publicKeys: [pems[0], pems[1], /^-----BEGIN PUBLIC KEY-----\n/],
    certificates: [thumbprint],
  });
  t.match((await ada(['services', 'list'])).stdout, /signer .* 3 keys, one certificate {2}/);

  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const privatePem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  const damaged = pems[1]?.replace('MFkw', 'MFkx') ?? '';
  const fails: readonly (readonly [RegExp, string, string])[] = [
    [/private key/, '--public-key', await write('private.pem', privatePem)],
    [/is damaged/, '--public-key', await write('damaged.pub', damaged)],
    [/there is no such file/, '--public-key', join(folder, 'missing')],
    [/a certificate is wanted/, '--certificate', files[0] ?? ''],
    [
      /is damaged/,
      '--certificate',
      await write('damaged.crt', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'),
    ],
  ];
  for (const [stderr, flag, path] of fails)
    t.match(await ada(['services', 'create', 'x', flag, path]), { code: 2, stdout: '', stderr }, path);
  t.equal(await findService('x'), undefined);
});

void t.test('API tokens are shown once, written to private files, listed and revoked', async t => {
  t.match(await ada(['tokens', 'list']), { code: 0, stdout: /^Token /, stderr: /^hint: no token is there/ });
  const create = ['tokens', 'create', 'ci', '--role', 'viewer', '--ttl', '30d'];
  const made = await ada(create);
  t.match(made.stdout, /^[\w-]+\.[\w-]+\.[\w-]+\n$/, 'the token alone');
  t.match(made.stderr, /^hint: the token is shown this once and ends \d{4}-/);
  const token = { ROLLCALL_TOKEN: made.stdout.trim() };
  t.match((await ada(['whoami'], { environment: token })).stdout, /^Roles +viewer\n/m);

  const output = join(folder, 'ci-token');
  const written = await ada([...create, '--output', output]);
  t.match(written, { code: 0, stdout: `✅ Token ci written to ${output}; it ends `, stderr: /--token-file/ });
  t.equal((await stat(output)).mode & 0o777, 0o600);
  t.equal((await ada(['whoami', '--token-file', output])).code, 0);
  const json = await adaJson<{ id: string; token: string }>(...create.with(2, 'other'));
  t.match(json, { name: 'other', holderName: 'ada', roles: ['viewer'], expiresAt: /Z$/, token: /\./ });
  t.match(await adaJson(...create, '--output', join(folder, 'second')), {
    token: undefined,
    output: /second$/,
  });

  const tokens = await adaJson<{ id: string }[]>('tokens', 'list');
  t.equal(tokens.length, 4);
  t.match(
    (await ada(['tokens', 'list'])).stdout,
    /^other {2}ada {5}ada {6}viewer {2}\d{4}-.*Z {2}\d{4}-.*Z {2}[0-9a-f]+$/m,
  );
  t.match(await adaJson(...create, '--user', 'ada'), { holderName: 'ada', madeByName: 'ada' });
  t.match(await ada([...create, '--user', 'no-such-user']), { code: 1, stderr: /there is no such user/ });
  t.match(await ada([...create, '--output', output]), {
    code: 2,
    stderr: /exists already\nhint: give another name/,
  });
  const nowhere = join(folder, 'no', 'such', 'folder');
  t.match(await ada([...create, '--output', nowhere]), {
    code: 2,
    stdout: '',
    stderr: /cannot write .*: there is no such folder/,
  });
  t.equal((await adaJson<unknown[]>('tokens', 'list')).length, 5, 'no token that nobody has is left');

  t.same(await ada(['tokens', 'revoke', json.id]), {
    code: 0,
    stdout: `✅ Token ${json.id} revoked.\n`,
    stderr: '',
  });
  const refused = await ada(['roles', 'matrix'], { environment: { ROLLCALL_TOKEN: json.token } });
  t.match(refused, {
    code: 1,
    stderr: 'error: the token was revoked\nhint: the token came from ROLLCALL_TOKEN; ',
  });
  const [first = ''] = tokens.map(({ id }) => id).filter(id => id !== json.id);
  t.same(await adaJson('tokens', 'revoke', first), { revoked: first });
  t.match(await ada(['tokens', 'revoke', first]), { code: 1, stderr: 'error: there is no such API token\n' });
  const both = tokens.filter(({ id }) => id !== json.id && id !== first).map(({ id }) => id);
  t.match(await ada(['tokens', 'revoke', 'ci']), {
    code: 2,
    stderr: /^error: 3 tokens are named ci\nhint: give one ID: [0-9a-f]{32}, [0-9a-f]{32}, [0-9a-f]{32}\n$/,
  });
  t.equal(both.length, 2);
  const { id } = await adaJson<{ id: string }>(...create.with(2, 'Nightly'));
  t.match(await ada(['tokens', 'revoke', 'nightly']), {
    code: 0,
    stdout: `✅ Token Nightly (${id}) revoked.\n`,
  });
  t.match(await ada(['tokens', 'revoke', 'nightly']), {
    code: 1,
    stderr:
      'error: there is no API token with the name or ID "nightly"\nhint: rollcall tokens list shows names and IDs\n',
  });
  for (const wrong of [[], [first, '--before', '2h']])
    t.match(await ada(['tokens', 'revoke', ...wrong]), {
      code: 2,
      stderr: /expected a token, or a time with --before WHEN, --since WHEN or both/,
    });
  t.match(await ada(['tokens', 'revoke', '--before', 'soon']), {
    code: 2,
    stderr: /--before: expected a moment/,
  });
  t.match(await ada(['tokens', 'revoke', '--before', '2999-01-01']), { code: 1, stderr: /from before now/ });
  t.match(await ada(['tokens', 'revoke', '--before', '30d']), {
    code: 0,
    stdout:
      /^✅ Every token and login that began before .* has ended, .*; later ones are kept\. Connections of nodes stay: revoke a node to cut it off\.\n$/,
  });
  t.match(await ada(['tokens', 'revoke', '--since', '20d', '--before', '10d']), {
    code: 0,
    stdout:
      /^✅ Every token and login that began from .* to .* has ended, .*; earlier and later ones are kept\. Connections/,
    stderr:
      /^hint: a login that began earlier is kept even if it was stolen; --before now ends everything\n$/,
  });
  t.match(await ada(['tokens', 'revoke', '--since', '10d', '--before', '20d']), {
    code: 1,
    stderr: /must start before it ends/,
  });
  t.equal((await adaJson<unknown[]>('tokens', 'list')).length, 3, 'those of today are there still');

  t.match(await ada(create.with(6, 'x')), { code: 2, stderr: /--ttl: expected a duration, found "x"/ });
  t.match(await ada(create.with(6, '2s')), { code: 1, stderr: /lasts a minute to 366 days/ });
  t.match(await ada(create.slice(0, 5)), { code: 2, stderr: /required option '--ttl/ });
  const byToken = await ada([...create, '--token-file', output]);
  t.equal(byToken.code, 1, 'a token makes no tokens');
});

void t.test('keys are listed, rotated, and shared with the audience that has a secret', async t => {
  interface Key {
    readonly kid: string;
    readonly algorithm: string;
    readonly use: string;
  }
  const find = async (use: string): Promise<string> => {
    const keys = await adaJson<Key[]>('keys', 'list');
    return keys.find(key => key.use === use && key.algorithm === 'ES256')?.kid ?? '';
  };
  const [signing, next] = [await find('signs'), await find('next')];
  const header = /^Key +Algorithm {2}Audience +Use {4}Published +Signs From +Until\n/;
  const listed = (await ada(['keys', 'list'])).stdout;
  t.match(listed, header);
  t.match(listed, new RegExp(`^${next} +ES256 +all +next +\\d\\S+ \\S+ +- +-$`, 'm'), 'one always waits');
  const secrets = await ada(['keys', 'secret', 'logging/eu']);
  t.match(secrets, {
    code: 0,
    stdout: /^Key +Use +Secret\n[0-9a-f]{32} {2}signs {2}[\w-]{43}\n[0-9a-f]{32} {2}next {3}[\w-]{43}\n$/,
    stderr: /^hint: who has/,
  });
  const before = await adaJson<object[]>('keys', 'secret', 'logging/eu');
  t.match(before[0], { kid: /^[0-9a-f]{32}$/, use: 'signs', secret: /^[\w-]{43}$/ });
  t.match(await ada(['keys', 'secret', 'rollcall']), { code: 1, stderr: /no secret to hand out\nhint: / });

  const soon = await ada(['keys', 'rotate']);
  t.match(soon.stdout, new RegExp(`^✅ Key ${next} signs from \\d\\S+ \\S+Z on with ES256\\.$`, 'm'));
  t.match(soon.stdout, new RegExp(`^✅ Key ${signing} signs until then with ES256\\.$`, 'm'));
  t.match(soon.stdout, /^✅ Key \S{43} is published for the rotation after this one with ES256\.$/m);
  t.match(
    soon.stderr,
    /^hint: verifiers fetch the key meanwhile; with --now .* refuse its tokens for up to 15 minutes/m,
    'it says what the other way costs',
  );
  const usesDuringRotation = (await ada(['keys', 'list'])).stdout
    .split('\n')
    .flatMap(line => /^\S+ +ES256 +all +(\w+)/.exec(line)?.[1] ?? []);
  t.same(usesDuringRotation, ['later', 'next', 'signs'], 'only one key is the next');
  t.equal(await find('signs'), signing);
  const rotated = await ada(['keys', 'rotate', '--audience', 'logging/eu', '--now']);
  t.match(
    rotated.stdout,
    /^✅ Key \w+ signs now for logging\/eu\.\n✅ Key \w+ verifies still for logging\/eu\.\n$/,
  );
  t.notMatch(rotated.stderr, /keyfunc/, 'a secret is handed over, and nobody fetches it');
  t.match((await adaJson<object[]>('keys', 'secret', 'logging/eu'))[2], { ...before[0], use: 'verifies' });
  const now = await ada(['keys', 'rotate', '--now']);
  t.match(
    now.stderr,
    /jose and PyJWT up to 30 seconds, keyfunc 5 minutes, jwx 15/,
    'it says what that costs',
  );
  t.match(now.stderr, /rollcall keys secret AUDIENCE/);
  t.equal(await find('signs'), next);
  t.match(await adaJson('keys', 'rotate', '--now'), {
    made: Array(2).fill({ use: 'next', signsAt: null }),
    signing: Array(2).fill({ use: 'signs', signsAt: /Z$/ }),
    retired: Array(2).fill({ use: 'verifies', retiredAt: /Z$/ }),
    dropped: [],
  });
  t.match((await ada(['keys', 'list'])).stdout, new RegExp(`^${signing} +ES256 +all +verifies `, 'm'));
  t.equal((await ada(['whoami'])).code, 0, 'a token of before still counts');
});

void t.test('a tenant starts with its own admin, and sees nothing of other tenants', async t => {
  const create = ['tenants', 'create', 'north', '--admin', 'nora', '--password-file', passwords.vera];
  t.same(await ada(create), {
    code: 0,
    stdout: '✅ Tenant north created; nora is its admin.\n',
    stderr: 'hint: its admin logs in with: rollcall login --profile north --tenant north --user nora\n',
  });
  t.match(await ada(create), { code: 1, stderr: 'error: there is a tenant named north already\n' });
  t.match(await adaJson(...create.with(2, 'south')), { name: 'south', admin: 'nora', createdAt: /Z$/ });
  t.match((await ada(['tenants', 'list'])).stdout, /^Tenant {3}Created\ndefault {2}-\nnorth {4}\d{4}-/);
  t.match(await adaJson('tenants', 'list'), [{ name: 'default', createdAt: null }, {}, {}]);

  const profile = ['--profile', 'north'];
  t.equal((await logIn('nora', 'nora', passwords.vera, '--tenant', 'north', ...profile)).code, 0);
  const users = await at('nora', ['users', 'list', '--json', ...profile]);
  t.match(JSON.parse(users.stdout), [{ name: 'nora', roles: ['admin'] }]);
  t.match(await at('nora', ['tenants', 'list', ...profile]), { code: 1, stderr: /needs tenants:manage/ });
  const foreign = await at('nora', ['users', 'change', 'vera', '--disable', ...profile]);
  t.match(foreign, { code: 1, stderr: 'error: there is no such user\n' });

  t.same(await ada(['tenants', 'delete', 'north']), {
    ...{ code: 0, stderr: '' },
    stdout:
      '✅ Tenant north deleted; no node was connected. Its nodes and runs end, and its audit log is kept.\n',
  });
  t.same(await adaJson('tenants', 'delete', 'south'), { deleted: 'south', sessionsEnded: 0 });
  t.same(await adaJson('tenants', 'list'), [{ name: 'default', createdAt: null }]);
  t.match(await at('nora', ['users', 'list', ...profile]), {
    stderr: /^error: the token was revoked/,
  });
  t.same(await ada(create), {
    ...{ code: 1, stdout: '' },
    stderr:
      'error: the tenant north was deleted, and its name stays taken\n' +
      'hint: choose another name: its audit log is kept under this one\n',
  });
  t.same(await ada(['tenants', 'delete', 'default']), {
    ...{ code: 1, stdout: '' },
    stderr:
      'error: the default tenant cannot be deleted\n' +
      'hint: the link is run from there; any other tenant can be deleted\n',
  });
  t.same(await ada(['tenants', 'delete', 'nowhere']), {
    ...{ code: 1, stdout: '' },
    stderr: 'error: there is no such tenant\nhint: `rollcall tenants list` shows the tenants\n',
  });
});

void t.test('an access token near its end is refreshed silently, also by two commands at once', async t => {
  const before = await age('ada');
  t.match(await ada(['whoami']), { code: 0, stderr: '' });
  const after = await readLogin('ada');
  t.not(after.refreshToken, before.refreshToken);
  t.ok(after.accessEndsAt > Date.now() + 60_000);
  t.equal((await stat(loginFile('ada'))).mode & 0o777, 0o600);

  for (let round = 0; round < 3; round += 1) {
    await age('ada');
    const said = await Promise.all([ada(['whoami']), ada(['users', 'list']), ada(['nodes', 'list'])]);
    t.same(
      said.map(({ code }) => code),
      [0, 0, 0],
    );
  }
  const strays = (await readdir(home('ada'))).filter(name => !/^(login-default|profiles)\.json$/.test(name));
  t.same(strays, []);
});

void t.test('two logins of one user are independent, and each ends alone', async t => {
  t.equal((await logIn('laptop', 'ada', passwords.ada)).code, 0);
  for (const where of ['ada', 'laptop', 'ada', 'laptop']) {
    await age(where);
    t.equal((await at(where, ['whoami'])).code, 0, where);
  }
  await copyHome('laptop', 'thief');
  t.same(await at('laptop', ['logout']), {
    code: 0,
    stdout: '✅ Logged out; the login of ada has ended.\n',
    stderr: '',
  });
  t.match(await at('laptop', ['whoami']), {
    code: 2,
    stderr: /^error: nobody is logged in to the link at .*\nhint: log in first: rollcall login /,
  });
  t.match(await at('laptop', ['logout']), { code: 0, stderr: 'hint: nobody was logged in\n' });
  t.match(await at('thief', ['whoami']), { code: 1, stderr: /^error: the token was revoked\n/ });
  await age('thief');
  t.match(await at('thief', ['whoami']), {
    code: 1,
    stderr: /^error: the refresh token is not valid\nhint: log in/,
  });
  t.equal((await ada(['whoami'])).code, 0);
});

void t.test('a login is saved under the named profile, also when the profile is new', async t => {
  const environment = { ROLLCALL_PROFILE: 'site-b' };
  const words = ['login', ...here, '--user', 'vera', '--password-file', passwords.vera];
  t.match(await at('desk', words, { environment }), { code: 0, stderr: '' });
  t.match((await at('desk', ['whoami'], { environment })).stdout, /^Name +vera\n/);
  t.equal((await at('desk', ['whoami'])).code, 2, 'the default profile has none');
  t.equal((await at('desk', ['login', '--profile', '../x', ...here])).code, 2);
  const damaged = loginFile('desk', 'site-b');
  await writeFile(damaged, '{"user":1}', { mode: 0o600 });
  t.match(await at('desk', ['whoami'], { environment }), {
    code: 2,
    stderr: /holds no login\nhint: log in again/,
  });
});

void t.test('a login through a proxy saves it, and later commands use it until the logout', async t => {
  const proxy = await startConnectProxy(t);
  const entered = await logIn('behind', 'ada', passwords.ada, '--proxy', proxy.url);
  t.match(entered, { code: 0, stderr: '' });
  t.equal((await at('behind', ['whoami'])).code, 0);
  await age('behind');
  t.equal((await at('behind', ['nodes', 'list'])).code, 0, 'with an exchanged token');
  t.equal((await at('behind', ['logout'])).code, 0);
  t.equal(proxy.asked.length, 6, 'setup, login, whoami, exchange, list, logout');
  t.same(new Set(proxy.asked), new Set([control]));
});

void t.test('changing the own password requires the old one, and ends every login', async t => {
  const own = ['users', 'password', '--old-password-file'];
  t.equal((await logIn('tablet', 'vera', passwords.vera)).code, 0);
  const wrong = await at('vera', [...own, passwords.ada, '--password-file', passwords.fresh]);
  t.match(wrong, { code: 1, stdout: '', stderr: 'error: the password is wrong\n' });
  t.same(await at('vera', [...own, passwords.vera, '--password-file', passwords.fresh]), {
    code: 0,
    stdout: '✅ Password changed; every login has ended.\n',
    stderr: 'hint: log in again, here too: rollcall login\n',
  });
  for (const where of ['vera', 'tablet']) t.equal((await at(where, ['whoami'])).code, 1, where);
  t.equal((await logIn('vera', 'vera', passwords.fresh)).code, 0);
  const back = [...own, passwords.fresh, '--password-file', passwords.vera, '--json'];
  t.same(JSON.parse((await at('vera', back)).stdout), { changed: true });

  t.match(await ada(['users', 'password', 'vera', '--password-file', passwords.fresh]), {
    code: 0,
    stdout: '✅ Password of vera set; every login has ended.\n',
  });
  t.match(await adaJson('users', 'password', 'vera', '--password-file', passwords.vera), { name: 'vera' });
  t.match(await ada(['users', 'password', 'vera', '--old-password-file', passwords.vera]), { code: 2 });

  const texts = ['correct horse battery', 'typed by a person', 'typed by a human'];
  const differing = await attended(['users', 'password'], question =>
    question === 'password'
      ? (texts[0] ?? '')
      : question.endsWith('again')
        ? (texts[2] ?? '')
        : (texts[1] ?? ''),
  );
  t.match(differing, { code: 2, stderr: /error: the two were not the same\n/ });
  for (const text of texts) t.notMatch(differing.stderr, text, 'what is typed is not shown');
});

void t.test('a second factor is enabled with a code, required at login, and disabled', async t => {
  const codeOf = (shown: string): string => {
    const [, secret = ''] = /secret {2}([A-Z2-7]+)\n/.exec(shown) ?? [];
    return new TOTP({ secret: Secret.fromBase32(secret) }).generate();
  };
  t.match(await ada(['users', 'second-factor', 'on', '--password-file', passwords.ada]), {
    code: 2,
    stderr: /error: cannot ask for the code that the app shows here/,
  });
  t.match(await ada(['users', 'second-factor', 'up']), { code: 2, stderr: /takes "on" or "off"/ });
  const put = await attended(['users', 'second-factor', 'on'], (question, shown) =>
    question === 'password' ? 'correct horse battery' : codeOf(shown),
  );
  t.equal(put.code, 0, put.stderr);
  t.match(put.stderr, /secret {2}[A-Z2-7]{32}\n {3}URI {5}otpauth:\/\/totp\/Rollcall:ada\?/);
  t.match(put.stdout, /^([0-9a-z]{5}-[0-9a-z]{5}\n){10}$/, 'the recovery codes alone');
  t.notMatch(put.stderr, 'correct horse battery');
  t.match((await ada(['users', 'list'])).stdout, /^ada .* on /m);

  const [one = '', two = ''] = put.stdout.split('\n');
  t.match(await logIn('phone', 'ada', passwords.ada), { code: 2, stderr: /cannot ask for the code of the/ });
  t.equal((await logIn('phone', 'ada', passwords.ada, '--code', one)).code, 0);
  t.equal((await logIn('phone', 'ada', passwords.ada, '--code', one)).code, 1, 'a code counts once');
  const words = ['login', ...here, '--user', 'ada', '--password-file', passwords.ada];
  t.match(await attended(words, () => two), { code: 0, stdout: /^✅ Logged in/ });

  const off = ['users', 'second-factor', 'off', '--password-file', passwords.ada];
  t.same(await ada(off), { code: 0, stdout: '✅ The second factor is off.\n', stderr: '' });
  const again = await attended(['users', 'second-factor', 'on', '--json'], (question, shown) =>
    question === 'password' ? 'correct horse battery' : codeOf(shown),
  );
  t.match(JSON.parse(again.stdout), { secondFactor: true, recoveryCodes: { length: 10 } });
  t.same(JSON.parse((await ada([...off, '--json'])).stdout), { secondFactor: false });
});

/** A link that lies, or one whose data somebody wrote into: real TLS, any text in every answer. */
async function startLiar(evil: string) {
  const times = { createdAt: 1, expiresAt: 1e300, signsAt: -1e300, retiredAt: Number.MIN_VALUE };
  const texts = [evil];
  const thing = {
    ...{
      id: evil,
      name: evil,
      roles: texts,
      permissions: [evil, 'runs:read'],
      holderName: evil,
      holder: evil,
    },
    ...{ audiences: texts, scopes: texts, addresses: texts, publicKeys: texts, certificates: texts },
    ...{ kid: evil, algorithm: evil, audience: evil, secret: evil, secrets: 1, enabled: true },
    ...{
      use: 'signs',
      kind: evil,
      tenant: evil,
      allows: evil,
      builtIn: false,
      secondFactor: false,
      ...times,
    },
  };
  const [earliest, latest] = [-(2n ** 63n), 2n ** 63n - 1n];
  const onWire = {
    ...{ ...thing, madeBy: evil, madeByName: evil, tokenLifetimeMs: 1n, validAfterMs: 0n, sessionsEnded: 1 },
    ...{ createdAtMs: 1n, expiresAtMs: latest, signsAtMs: earliest, retiredAtMs: latest },
  };
  const lists = ['users', 'roles', 'services', 'tokens', 'keys', 'tenants', 'permissions', 'secrets'];
  const listed = Object.fromEntries(lists.map(list => [list, [onWire]]));
  const more = { made: [onWire], signing: [onWire], retired: [onWire], dropped: [onWire] };
  const wrapped = { service: onWire, record: onWire, token: evil, ...more };
  const asked: string[] = [];
  let isRefusing = false;
  const tls = {
    cert: await readFile(join(folder, 'server.pem')),
    key: await readFile(join(folder, 'server.key')),
    allowHTTP1: true,
  };
  const answerHttp = (response: Http2ServerResponse): void => {
    response.statusCode = isRefusing ? 403 : 200;
    response.end(JSON.stringify(isRefusing ? { code: 'NOT_ALLOWED', title: evil, detail: evil } : thing));
  };
  const answerGrpc = (path: string, response: Http2ServerResponse): void => {
    const method = Object.values(AdministrationService).find(each => each.path === path);
    response.writeHead(200, { 'content-type': 'application/grpc' });
    const refusal = {
      'grpc-status': 7,
      'grpc-message': encodeURIComponent(evil),
      'rollcall-code': 'NOT_ALLOWED',
    };
    response.addTrailers(isRefusing ? refusal : { 'grpc-status': 0 });
    if (!isRefusing && method) {
      const isList = path.includes('/List') || path.includes('/Get');
      // A listing and one thing differ only in these.
      const answer = { ...onWire, ...(isList ? listed : {}), ...wrapped } as never;
      const message = method.responseSerialize(answer);
      const prefix = Buffer.alloc(5);
      prefix.writeUInt32BE(message.length, 1);
      response.write(Buffer.concat([prefix, message]));
    }
    response.end();
  };
  const server = createSecureServer(tls, (request, response) => {
    asked.push(`${request.method} ${request.url}`);
    if (request.httpVersionMajor === 2) answerGrpc(request.url, response);
    else answerHttp(response);
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return {
    asked,
    control: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    refuse: () => void (isRefusing = true),
  };
}

void t.test('text from a link cannot move the cursor or add lines', async t => {
  const evil = `x\x1b[2J\x9b1m\r\nerror: forged\u202e\u2028\x07${String.fromCodePoint(0xe0041)}`;
  const tame = await startLiar('x');
  const liar = await startLiar(evil);
  const token = await secretFile('some-token', randomBytes(16).toString('hex'));
  const file = ['--password-file', passwords.vera];
  const asking: readonly (readonly string[])[] = [
    ['whoami'],
    ['users', 'list'],
    ['users', 'create', 'n', '--role', 'r', ...file],
    ['users', 'change', 'n', '--role', 'r'],
    ['users', 'password', 'n', ...file],
    ['roles', 'matrix', '--wide'],
    ['roles', 'define', 'n', 'p'],
    ['services', 'list'],
    ['services', 'create', 'n', '--secret'],
    ['services', 'change', 'n', '--enable'],
    ['services', 'secret', 'n'],
    ['tokens', 'create', 'n', '--role', 'r', '--ttl', '1h'],
    ['tokens', 'list'],
    ['keys', 'list'],
    ['keys', 'rotate'],
    ['keys', 'secret', 'a'],
    ['tenants', 'list'],
    ['tenants', 'create', 'n', '--admin', 'a', ...file],
  ];
  const ask = (where: { control: string }, words: readonly string[], isTTY: boolean): Promise<Said> => {
    const way = ['--control', where.control, '--root-certificates', roots, '--token-file', token];
    return at('eve', [...words, ...way], { isTTY, environment: { NO_COLOR: '1' } });
  };
  const unseen = /[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]|\p{Cf}/u;
  const linesOf = ({ stdout, stderr }: Said): number[] =>
    [stdout, stderr].map(each => each.split('\n').length);
  for (const words of asking) {
    for (const isTTY of [false, true]) {
      const said = await ask(liar, words, isTTY);
      const defaultAlgorithm = await ask(tame, words, isTTY);
      t.equal(said.code, 0, said.stderr);
      t.notMatch(said.stdout + said.stderr, unseen, words.join(' '));
      t.same(linesOf(said), linesOf(defaultAlgorithm), `${words.join(' ')}: as many lines as ever`);
    }
    const { stdout } = await ask(liar, [...words, '--json'], true);
    t.notMatch(stdout, unseen, `${words.join(' ')} --json`);
    t.ok(
      JSON.stringify(JSON.parse(stdout)).includes(JSON.stringify(evil).slice(1, -1)),
      'and nothing is lost',
    );
  }
  liar.refuse();
  const refused = await ask(liar, ['users', 'list'], true);
  t.match(refused, { code: 1, stderr: /^error: x.*\n$/ });
  t.notMatch(refused.stderr, unseen);
});

void t.test('a saved login is sent to its own link only, whatever link is named', async t => {
  const other = await startLiar('x');
  const environment = { ROLLCALL_CONTROL: other.control, ROLLCALL_ROOT_CERTIFICATES: roots };
  t.equal((await logIn('guest', 'vera', passwords.vera)).code, 0);
  await copyHome('guest', 'guest-before');
  const refused = await at('guest', ['users', 'list'], { environment });
  t.match(refused, {
    code: 2,
    stderr: `error: nobody is logged in to the link at ${other.control}\nhint: name a saved login with --profile: default (${control}); or log in first: `,
  });
  const out = await at('guest', ['logout'], { environment: { ROLLCALL_CONTROL: other.control } });
  t.match(out, { code: 0, stderr: '' });
  t.match(await at('guest-before', ['whoami']), { code: 1, stderr: /the token was revoked/ });
  t.same(other.asked, []);
});

void t.test('a saved login is used for its link, also when the link is named', async t => {
  t.match(await logIn('booth', 'vera', passwords.vera, '--profile', 'lab'), { code: 0 });
  const named = { ROLLCALL_CONTROL: control };
  t.equal((await at('booth', ['whoami'])).code, 2, 'no link is named, and nobody is logged in by default');
  t.match(await at('booth', ['whoami'], { environment: named }), { code: 0, stdout: /^Name +vera\n/ });
  t.match(await at('booth', ['whoami', '--control', control]), { code: 0, stderr: '' });
  t.match(await at('booth', ['whoami', '--control', control.replace('127.0.0.1', 'localhost')]), {
    code: 2,
    stderr: `error: nobody is logged in to the link at localhost:`,
  });

  t.match(await logIn('booth', 'ada', passwords.ada, '--profile', 'admin'), { code: 0 });
  t.match(await at('booth', ['whoami', '--control', control]), {
    code: 2,
    stderr: `hint: name a saved login with --profile: admin (${control}), lab (${control}); or log in first: `,
  });
  const words = ['login', '--control', control, '--user', 'vera', '--password-file', passwords.vera];
  t.match(await at('booth', words), { code: 0, stderr: '' }, 'the roots of the link are known');
  t.match(await at('booth', ['whoami', '--control', control]), { code: 0, stdout: /^Name +vera\n/ });
  t.match(await at('booth', ['logout', '--control', control]), { code: 0, stdout: /login of vera/ });
  t.match(await at('booth', ['whoami', '--profile', 'admin']), { code: 0, stdout: /^Name +ada\n/ });
});

void t.test('a new login ends the session that it replaces, at the link of that session only', async t => {
  t.equal((await logIn('shelf', 'ada', passwords.ada)).code, 0);
  await copyHome('shelf', 'shelf-before');
  t.equal((await logIn('shelf', 'ada', passwords.ada)).code, 0);
  t.equal((await at('shelf', ['whoami'])).code, 0);
  t.match(await at('shelf-before', ['whoami']), { code: 1, stderr: /^error: the token was revoked\n/ });

  await copyHome('shelf', 'shelf-before');
  const refused = await logIn('shelf', 'ada', passwords.vera);
  t.match(refused, { code: 1, stderr: /name, password or code is wrong/ });
  t.equal((await at('shelf', ['whoami'])).code, 0, 'a login that is refused ends nothing');

  const other = await startLiar('x');
  const elsewhere = ['login', '--control', other.control, '--root-certificates', roots, '--user', 'x'];
  t.match(await at('shelf', [...elsewhere, '--password-file', passwords.ada]), { code: 0, stderr: '' });
  t.same(
    other.asked,
    ['GET /auth/setup', 'POST /auth/token'],
    'the other link is told nothing of the old session',
  );
  t.match(await at('shelf-before', ['whoami']), { code: 1, stderr: /^error: the token was revoked\n/ });

  await copyHome('ada', 'shelf');
  const gone = await startLiar('x');
  const login = { ...(await readLogin('shelf')), control: gone.control };
  await writeFile(loginFile('shelf'), JSON.stringify(login), { mode: 0o600 });
  gone.refuse();
  t.match(await logIn('shelf', 'ada', passwords.ada), { code: 0, stderr: '' }, 'whatever the old link says');
  t.same(gone.asked, ['POST /auth/revoke']);
});

void t.test('dropping the old keys ends every token, and a login gets a new one silently', async t => {
  const token = ['tokens', 'create', 'before', '--role', 'viewer', '--ttl', '1h', '--json'];
  const { token: apiToken } = JSON.parse((await ada(token)).stdout) as { token: string };
  const before = await readLogin('ada');
  const said = await ada(['keys', 'rotate', '--drop-old']);
  t.match(said.stdout, /^✅ Key \S+ is gone; no token of it counts any more\.$/m);
  t.match(said.stderr, /hint: tokens of before are refused; logins go on, API tokens have to be made anew\n/);
  t.match(said.stderr, /keyfunc 5 minutes/, 'a thief of the keys has the next one too, so a new one signs');

  t.match(await ada(['nodes', 'list', '--json']), { code: 0, stdout: '[]\n', stderr: '' }, 'over gRPC');
  const after = await readLogin('ada');
  t.not(after.accessToken, before.accessToken);
  t.not(after.refreshToken, before.refreshToken);
  t.match(await ada(['users', 'list']), { code: 0, stderr: '' });
  t.same(await readLogin('ada'), after, 'a token that is good is not exchanged');

  const lasting = await ada(['users', 'list'], { environment: { ROLLCALL_TOKEN: apiToken } });
  t.match(lasting, { code: 1, stderr: /hint: the token came from ROLLCALL_TOKEN; log in/ });
  const file = ['--token-file', await secretFile('dropped-token', before.accessToken)];
  t.match(await ada(['users', 'list', ...file]), { code: 1, stderr: /came from .*dropped-token; log in/ });
  t.same(await readLogin('ada'), after, 'tokens that were given are not made up for by a login');
});

void t.test('a watch whose token is dropped continues with a new token', async t => {
  const key = ['nodes', 'register', await secretFile('watched.pub', opensshLine()), '--name', 'watched'];
  t.equal((await ada(key)).code, 0);
  const stdout = new Kept();
  let interrupt: () => void = () => undefined;
  const onInterruptible = (listener: () => void) => (interrupt = listener);
  const said = ada(['nodes', 'watch', '--snapshot'], { stdout, onInterruptible });
  await until(() => stdout.text.includes('(watched)'));
  const { accessToken } = await readLogin('ada');
  t.equal((await ada(['keys', 'rotate', '--drop-old'])).code, 0);
  await until(async () => (await readLogin('ada')).accessToken !== accessToken);
  t.equal((await ada(['nodes', 'revoke', 'watched'])).code, 0);
  await until(() => stdout.text.includes('revoked'));
  interrupt();
  t.match(await said, { code: 0, stdout: /^\S+ .* created .*\n\S+ .* revoked .*\n$/, stderr: '' });
});

void t.test('commands that are refused at the same time all continue with one session', async t => {
  await ada(['keys', 'rotate', '--drop-old']);
  const said = await Promise.all([ada(['whoami']), ada(['nodes', 'list']), ada(['audit', 'list'])]);
  t.same(
    said.map(({ code }) => code),
    [0, 0, 0],
  );
  await ada(['keys', 'rotate', '--drop-old']);
  const log = join(folder, 'exported.jsonl');
  t.match(await ada(['audit', 'export', log]), { code: 0, stderr: /^hint: check it/ });
});

void t.test('a refused command whose login has ended reports that it has ended', async t => {
  t.equal((await logIn('kiosk', 'vera', passwords.vera)).code, 0);
  await ada(['users', 'change', 'vera', '--end-sessions']);
  const before = await readLogin('kiosk');
  t.match(await at('kiosk', ['whoami']), {
    code: 1,
    stderr: /^error: the token was revoked\nhint: the token came from the login of vera; log in again/,
  });
  t.same(await readLogin('kiosk'), before);
});

void t.test('tokens revoke --before now ends every token and every login', async t => {
  t.equal((await logIn('stolen', 'ada', passwords.ada)).code, 0);
  t.match(await ada(['tokens', 'revoke', '--before', 'now']), {
    code: 0,
    stdout: /^✅ Every token and login that began before /,
    stderr: 'hint: your own login has ended too: rollcall login\n',
  });
  for (const where of ['ada', 'stolen'])
    t.match(await at(where, ['whoami']), { code: 1, stderr: /^error: the token was revoked\n/ });
  t.equal((await logIn('ada', 'ada', passwords.ada)).code, 0, 'a login made since counts');
  t.same(await adaJson('tokens', 'list'), [], 'an ended token is in no list');
  const create = ['tokens', 'create', 'of-vera', '--role', 'viewer', '--ttl', '1h', '--user', 'vera'];
  t.equal((await ada(create)).code, 0);
  t.match(await adaJson('tokens', 'list'), [{ name: 'of-vera' }]);
  await ada(['users', 'change', 'vera', '--end-sessions']);
  t.same(await adaJson('tokens', 'list'), [], 'nor is one that ended with all logins of its holder');
});

void t.test('login, logout, audit export and profile save print JSON with --json', async t => {
  const json = async (...words: string[]): Promise<unknown> => {
    const said = await at('robot', [...words, '--json']);
    t.equal(said.code, 0, said.stderr);
    return JSON.parse(said.stdout);
  };
  const login = ['login', ...here, '--user', 'ada', '--password-file', passwords.ada];
  t.same(await json(...login), { user: 'ada', control, profile: 'default' });
  const [log, checkpoint] = [join(folder, 'robot.jsonl'), join(folder, 'robot.checkpoint')];
  t.match(await json('audit', 'export', log), { output: log, lines: Number });
  t.match(await json('audit', 'checkpoint', checkpoint), { output: checkpoint, seq: Number });
  t.match(await json('profile', 'save', 'more', ...here), { name: 'more', control, tokenFile: null });
  t.same(await json('profile', 'remove', 'more'), { removed: 'more' });
  t.same(await json('logout'), { user: 'ada', control, profile: 'default' });
  t.same(await json('logout'), { user: null, profile: 'default' });
});

void t.test('nodes config names --force for an existing file before it requests tokens', async t => {
  const output = await secretFile('there.yaml', 'link: x');
  t.match(await ada(['nodes', 'config', 'no-such-node', '--output', output]), {
    ...{ code: 2, stdout: '' },
    stderr: `error: ${output} exists already\nhint: --force replaces it, and --output FILE writes elsewhere\n`,
  });
});

void t.test('every listing fits a terminal from 40 columns on', async t => {
  const create = ['services', 'create', 'narrow', '--role', 'viewer', '--audience', 'logging', '--secret'];
  t.equal((await ada(create)).code, 0);
  const rooms = ['audit', 'keys', 'services', 'tokens', 'users', 'roles', 'tenants', 'profile'];
  for (const words of [...rooms.map(room => [room, 'list']), ['whoami'], ['roles', 'list', '--wide']])
    for (const columns of [40, 60, 80]) {
      const stdout = new Kept(true, columns);
      await ada(words, { stdout, environment: { NO_COLOR: '1' } });
      // Values that cannot be wrapped, such as ids, may exceed the width of a table without a box.
      const wide = stdout.text
        .split('\n')
        .filter(line => displayWidth(line) > columns && !/^(?:.* {2,})?[^ │┃┏└]+$/.test(line));
      t.same(wide, [], `${words.join(' ')} in ${columns} columns`);
      t.notMatch(stdout.text, /^$/, 'and something is shown');
    }
});
