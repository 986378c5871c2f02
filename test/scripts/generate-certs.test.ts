import { spawnSync } from 'node:child_process';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { connect, createServer } from 'node:tls';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import t from 'tap';
import { generateCertificates } from '../../src/cli/certs.js';
import { fromPem } from '../../src/base/pem.js';
import { systemRandom } from '../../src/base/random.js';
import { makeDevelopmentCertificates, parseHost } from '../../src/link/authority/development.js';

const needsOpenssl =
  spawnSync('openssl', ['version']).status === 0 ? {} : { skip: 'openssl is not installed' };

const names = ['ca.crt', 'ca.key', 'server.key', 'server.pem'];

async function run(...argv: string[]): Promise<{ code: number; printed: string; complained: string }> {
  const [printed, complained]: [string[], string[]] = [[], []];
  const code = await generateCertificates(argv, {
    print: text => void printed.push(text),
    complain: text => void complained.push(text),
  });
  return { code, printed: printed.join(''), complained: complained.join('') };
}

void t.test('generate-certs writes four files, private keys in private files', async t => {
  const folder = join(t.testdir(), 'new', 'certificates');
  const { code, printed, complained } = await run(
    '--out',
    folder,
    '--host',
    'link.example.org',
    '--host',
    '192.0.2.7',
  );
  t.equal(code, 0, complained);
  t.strictSame(readdirSync(folder).sort(), names);
  for (const name of names) {
    t.equal(statSync(join(folder, name)).mode & 0o077, name.endsWith('.key') ? 0 : 0o044, name);
    t.match(printed, join(folder, name), 'each file is explained');
  }
  t.match(printed, /development/);
  t.match(
    printed,
    /--ssl-ca-certfile .* --ssl-certfile .* --ssl-keyfile /,
    'the next command is there to copy',
  );
  const pem = readFileSync(join(folder, 'server.pem'), 'utf8');
  t.equal(fromPem(pem, 'server').length, 1, 'the server certificate stands alone');
  t.equal(
    new X509Certificate(pem).subjectAltName,
    'DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1, DNS:link.example.org, IP Address:192.0.2.7',
  );
});

void t.test('openssl accepts the server certificate by its strict rules', needsOpenssl, async t => {
  const folder = t.testdir();
  await run('--out', folder);
  const files = ['-CAfile', join(folder, 'ca.crt'), join(folder, 'server.pem')];
  const { status, stdout } = spawnSync(
    'openssl',
    ['verify', '-x509_strict', '-purpose', 'sslserver', ...files],
    {
      encoding: 'utf8',
    },
  );
  t.equal(status, 0);
  t.match(stdout, /server\.pem: OK/);
});

void t.test('generate-certs keeps existing files by default', async t => {
  const folder = t.testdir({ 'server.key': 'precious' });
  const refused = await run('--out', folder);
  t.equal(refused.code, 2);
  t.match(
    refused.complained,
    new RegExp(`^error: .*${join(folder, 'server.key')}\nhint: --renew-server .*--force`),
  );
  t.notMatch(refused.complained, join(folder, 'ca.crt'), 'only what exists is named');
  t.strictSame(readdirSync(folder), ['server.key'], 'half a set is not written');
  t.equal(readFileSync(join(folder, 'server.key'), 'utf8'), 'precious');
  t.equal((await run('--out', folder, '--force')).code, 0);
  t.strictSame(readdirSync(folder).sort(), names);
  t.equal(statSync(join(folder, 'server.key')).mode & 0o777, 0o600);
});

void t.test(
  'generate-certs --renew-server replaces the server certificate only, and nodes trust it by their CA',
  async t => {
    const folder = t.testdir();
    const read = (name: string) => readFileSync(join(folder, name), 'utf8');
    await run('--out', folder, '--host', 'link.example.org', '--days', '2');
    const before = Object.fromEntries(names.map(name => [name, read(name)]));
    const renewed = await run('--out', folder, '--renew-server', '--host', '192.0.2.7');
    t.equal(renewed.code, 0, renewed.complained);
    t.match(renewed.printed, /server\.pem {2}valid until .* for DNS:localhost, .*IP Address:192\.0\.2\.7$/m);
    const [ca, server] = [new X509Certificate(read('ca.crt')), new X509Certificate(read('server.pem'))];
    for (const name of ['ca.crt', 'ca.key']) t.equal(read(name), before[name], name);
    for (const name of ['server.pem', 'server.key']) t.not(read(name), before[name], name);
    t.ok(server.checkIssued(ca) && server.verify(ca.publicKey), 'signed by the CA that was there');
    t.ok(server.checkPrivateKey(createPrivateKey(read('server.key'))));
    t.equal(statSync(join(folder, 'server.key')).mode & 0o777, 0o600);
    t.equal(
      server.subjectAltName,
      'DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1, DNS:link.example.org, IP Address:192.0.2.7',
      'its names stay, each once',
    );

    const longest = await run('--out', folder, '--renew-server', '--days', '36500');
    t.equal(longest.code, 0, longest.complained);
    t.equal(new X509Certificate(read('server.pem')).validTo, ca.validTo, 'it ends with the CA at the latest');
    const both = await run('--out', folder, '--renew-server', '--force');
    t.match(both, { code: 2, complained: /^error: give --force or --renew-server, not both\nhint: / });
    rmSync(join(folder, 'ca.key'));
    const kept = read('server.pem');
    t.match(await run('--out', folder, '--renew-server'), { code: 2, complained: /^error: .*ca\.key/ });
    t.equal(read('server.pem'), kept, 'without the key of the CA nothing is written');
  },
);

void t.test('generate-certs refuses invalid arguments before it writes anything', async t => {
  const folder = t.testdir();
  const bad = [
    ['--days', '0'],
    ['--days', '1.5'],
    ['--days', '36501'],
    ['--host', ''],
    ['--host', 'a b'],
    ['--hots', 'x'],
    ['stray'],
    ['--out'],
  ];
  for (const argv of bad) {
    const { code, complained, printed } = await run('--out', folder, ...argv);
    t.match(
      { code, complained, printed },
      { code: 2, complained: /^error: .+\n/, printed: /^$/ },
      argv.join(' '),
    );
  }
  t.strictSame(readdirSync(folder), []);
  t.match(await run('--help'), { code: 0, printed: /usage: / });
  for (const [argv, said] of [
    ['--hots', "unknown option '--hots'"],
    ['stray', "too many arguments: 'stray'"],
    ['--out', "invalid use of option '--out'"],
  ] as const)
    t.equal((await run(argv)).complained, `error: ${said}\nhint: --help shows what there is\n`);
});

void t.test('generate-certs --json prints the files and the server certificate', async t => {
  const folder = join(t.testdir(), 'made');
  const at = (name: string) => join(folder, name);
  const server = { expiresAt: /^\d{4}-.*Z$/, names: /DNS:localhost/, fingerprint256: /^[0-9A-F:]{95}$/ };
  const pair = { 'server.pem': at('server.pem'), 'server.key': at('server.key') };
  const made = await run('--out', folder, '--json');
  const files = { ...pair, 'ca.crt': at('ca.crt'), 'ca.key': at('ca.key') };
  t.match(JSON.parse(made.printed), { files, server });
  const renewed = await run('--out', folder, '--json', '--renew-server');
  t.match(JSON.parse(renewed.printed), { files: pair, server });
});

void t.test('generate-certs reports a folder that cannot be made without a stack trace', async t => {
  const file = join(t.testdir({ file: '' }), 'file');
  const { code, complained } = await run('--out', join(file, 'below'));
  t.equal(code, 2);
  t.match(complained, /^error: /);
  t.notMatch(complained, /\n\s+at /);
});

void t.test('generate-certs runs as a command', t => {
  // Through a symlink, as a command on the path is.
  const folder = t.testdir({ 'certs.ts': t.fixture('symlink', resolve('scripts/generate-certs.ts')) });
  const command = ['--import=tsx', join(folder, 'certs.ts'), '--out', join(folder, 'out')];
  const first = spawnSync(process.execPath, command, { encoding: 'utf8' });
  t.equal(first.status, 0, first.stderr);
  t.match(first.stdout, /rollcall keygen 2\n  rollcall link --ssl-ca/);
  const second = spawnSync(process.execPath, command, { encoding: 'utf8' });
  t.match(second, { status: 2, stdout: '', stderr: /^error: / });
  t.end();
});

void t.test('generate-certs takes names, addresses and a leading wildcard as hosts', t => {
  t.strictSame(parseHost('link-1.example.org'), { dns: 'link-1.example.org' });
  t.strictSame(parseHost('*.example.org'), { dns: '*.example.org' });
  t.strictSame(parseHost('rollcall_link'), { dns: 'rollcall_link' });
  t.strictSame(parseHost('2001:db8::1'), { ip: '2001:db8::1' });
  const label = 'a'.repeat(63);
  const longest = `${label}.${label}.${label}.${'a'.repeat(61)}`;
  t.strictSame(parseHost(longest), { dns: longest });
  const bad = [
    '',
    ' ',
    'a b',
    `${longest}a`,
    'a'.repeat(64),
    '*',
    '*x.org',
    'a.*.org',
    '-a.org',
    'a..b',
    'a.',
    '256.1.1.1',
  ];
  for (const host of [
    ...bad,
    'localhost:9092',
    '[::1]',
    'https://x',
    'fe80::1%eth0',
    'bücher.de',
    'a\n.org',
  ]) {
    t.throws(() => parseHost(host), { code: 'REQUEST_INVALID' }, JSON.stringify(host));
  }
  t.end();
});

void t.test('the generated CA lasts ten years, or as long as a longer server certificate', t => {
  const now = Date.UTC(2026, 0, 1);
  const yearsOf = (days: number) => {
    const { ca, server } = makeDevelopmentCertificates({ hosts: [], days, now, random: systemRandom });
    return [ca, server].map(({ certificate }) =>
      new Date(new X509Certificate(certificate).validTo).getUTCFullYear(),
    );
  };
  t.strictSame(yearsOf(365), [2036, 2027]);
  t.strictSame(yearsOf(36_500), [2125, 2125]);
  t.end();
});

void t.test('a TLS client that trusts the generated CA accepts the server by name and IP', async t => {
  const { ca, server } = makeDevelopmentCertificates({
    hosts: [],
    days: 1,
    now: Date.now(),
    random: systemRandom,
  });
  const listener = createServer({ cert: server.certificate, key: server.key, minVersion: 'TLSv1.3' });
  listener.on('tlsClientError', () => undefined);
  listener.on('secureConnection', socket => socket.on('error', () => undefined).resume());
  await once(listener.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => listener.close());
  const { port } = listener.address() as AddressInfo;
  const isTrusted = async (host: string, roots: string, servername?: string) => {
    const socket = connect({ host, port, ca: roots, ...(servername === undefined ? {} : { servername }) });
    const outcome = await once(socket, 'secureConnect').then(
      () => socket.authorized,
      () => false,
    );
    socket.destroy();
    return outcome;
  };
  t.equal(await isTrusted('127.0.0.1', ca.certificate), true);
  t.equal(await isTrusted('127.0.0.1', ca.certificate, 'localhost'), true);
  t.equal(await isTrusted('127.0.0.1', ca.certificate, 'elsewhere.example'), false);
  const stranger = makeDevelopmentCertificates({ hosts: [], days: 1, now: Date.now(), random: systemRandom });
  t.equal(await isTrusted('127.0.0.1', stranger.ca.certificate), false);
});
