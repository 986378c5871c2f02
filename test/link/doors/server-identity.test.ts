/** The certificate and the roots of a link, as sites have them: what it starts with, hands out and refuses. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import { systemClock } from '../../../src/base/clock.js';
import { formatAddress } from '../../../src/base/settings.js';
import { ControlClient } from '../../../src/control-client/control-client.js';
import { diagnose } from '../../../src/control-client/diagnosis.js';
import { isRollcallError, toRollcallError } from '../../../src/base/errors.js';
import { listEvents } from '../../../src/link/audit/query.js';
import { loadServerIdentity } from '../../../src/link/doors/tls/server-identity.js';
import { storeFolder } from '../../../src/link/link.js';
import { runLink } from '../../../src/link/main.js';
import { openLevelStore } from '../../../src/store/level.js';
import { limits } from '../../../src/protocol/limits.js';
import { fetchDocument } from '../../../src/tokens/fetch-document.js';
import { createManualClock } from '../../harness/manual-clock.js';
import { dayMs, makeAuthority, makeServer, type ServerFiles } from '../../harness/server-chains.js';
import {
  makeFolder,
  newKey,
  startTestLink,
  writeServerFiles,
  type TestLink,
} from '../../harness/test-link.js';

void t.test('link, node and command all accept an intermediate authority as their root', async t => {
  const root = makeAuthority('site root');
  const intermediate = makeAuthority('site intermediate', root);
  const server = { ...makeServer(intermediate, {}, [intermediate]), roots: intermediate.pem };
  const test = await startTestLink(t, { server });
  const key = newKey();
  await test.register(key);
  await test.online(key);
  const address = formatAddress(test.link.addresses.control);
  const client = new ControlClient({ address, rootCertificates: server.roots, token: test.token });
  t.teardown(() => client.close());
  t.match(await client.me(), { tenant: 'default' }, 'over HTTP');
  t.equal((await client.nodes.list().next()).value?.name, '', 'over gRPC');
  const url = new URL(`https://${address}/.well-known/jwks.json`);
  const bounds = { timeoutMs: 10_000, maxBytes: 65_536, clock: systemClock };
  const keys = await fetchDocument({ url, rootCertificates: server.roots, ...bounds });
  t.match(JSON.parse(keys.toString()), { keys: [{}] }, 'for the keys of tokens');
  const target = { address: test.link.addresses.control, addressText: address, rootsPath: 'ca.crt' };
  const names = { address: '--control', roots: '--root-certificates' };
  const diagnosis = await diagnose({ ...target, roots: Buffer.from(server.roots), names }, 'silence');
  t.match(diagnosis.message, /did not answer: silence/, 'nobody is suspected to be in between');
});

void t.test('nodes get the root of the link alone out of a file of three hundred', async t => {
  const root = makeAuthority('site root');
  const strangers = Array.from({ length: 300 }, (_, number) => makeAuthority(`public root ${number}`).pem);
  const roots = [...strangers.slice(0, 150), root.pem, ...strangers.slice(150)].join('');
  const test = await startTestLink(t, { server: { ...makeServer(root), roots } });
  const key = newKey();
  const { id } = await test.register(key);
  const enrollment = await test.enroll(key);
  t.strictSame(
    enrollment.serverRoots?.map(der => new X509Certificate(der).subject),
    ['CN=site root'],
    'the node enrolls',
  );
  const address = formatAddress(test.link.addresses.control);
  const client = new ControlClient({ address, rootCertificates: roots, token: test.token });
  t.teardown(() => client.close());
  t.equal(
    (await client.nodes.config(`${id}`)).serverRoots,
    root.pem,
    'and no other goes into its configuration',
  );
  t.match(test.logged.join(''), /300 of 301 certificates are not handed out to nodes/);
});

/** The result of loadServerIdentity for these files. */
async function judge(
  t: { teardown(call: () => unknown): void },
  server: ServerFiles,
  options: { now?: number; hosts?: readonly string[]; passphrase?: () => Promise<string> } = {},
) {
  const folder = await makeFolder(t);
  await writeServerFiles(folder, server);
  const file = (name: string) => join(folder, name);
  const within = (text: string) => text.replaceAll(`${folder}/`, '');
  const files = {
    certificateFile: file('server.pem'),
    keyFile: file('server.key'),
    rootsFile: file('ca.crt'),
  };
  try {
    const judged = await loadServerIdentity({ files, now: Date.now(), hosts: [], ...options });
    return {
      roots: judged.roots.map(der => new X509Certificate(der).subject),
      warnings: judged.warnings.map(within),
    };
  } catch (error) {
    if (!isRollcallError(error)) throw error;
    const { code, message, hint } = error;
    return { code, problem: within(message), hint };
  }
}

void t.test('a root that the root of the link has signed is sent to nodes as well', async t => {
  const [old, stranger] = [makeAuthority('old root'), makeAuthority('stranger')];
  const alone = makeAuthority('next root');
  const next = makeAuthority('next root', old, {}, alone);
  const later = makeAuthority('later root', alone);
  const roots = [stranger, next, old, later, old].map(({ pem }) => pem).join('');
  const all = ['CN=next root', 'CN=old root', 'CN=later root'];
  t.match(await judge(t, { ...makeServer(old), roots }), { roots: all }, 'before the move to it');
  t.match(await judge(t, { ...makeServer(alone), roots }), { roots: all }, 'and after it');
});

void t.test('more roots than a node accepts are refused at the start', async t => {
  const root = makeAuthority('site root');
  const many = Array.from(
    { length: limits.serverRoots },
    (_, number) => makeAuthority(`next ${number}`, root).pem,
  );
  t.match(await judge(t, { ...makeServer(root), roots: [root.pem, ...many].join('') }), {
    code: 'CONFIG_INVALID',
    problem: 'ca.crt: at most 32 roots can be handed out, found 33 that belong to the link',
  });
  const large = Array.from({ length: 100 }, (_, number) => ({ dns: `${'x'.repeat(60)}.n${number}.example` }));
  const heavy = Array.from(
    { length: 8 },
    (_, number) => makeAuthority(`next ${number}`, root, { alternativeNames: large }).pem,
  );
  t.match(await judge(t, { ...makeServer(root), roots: [root.pem, ...heavy].join('') }), {
    problem:
      /^ca.crt: at most 16384 bytes a root and 49152 bytes of roots can be handed out, found \d+ and \d+$/,
  });
});

void t.test('a server chain that nodes would refuse is refused by the link, with the error', async t => {
  const root = makeAuthority('site root');
  const roots = root.pem;
  const middle = makeAuthority('middle', root);
  const ended = { notBefore: Date.now() - 2 * dayMs, notAfter: Date.now() - dayMs };
  const early = { notBefore: Date.now() + dayMs, notAfter: Date.now() + 2 * dayMs };
  const behind = (changes: object) => {
    const authority = makeAuthority('middle', root, changes);
    return { ...makeServer(authority, {}, [authority]), roots };
  };
  const narrow = makeAuthority('narrow root', undefined, { ca: { pathLength: 0 } });
  const below = makeAuthority('middle', narrow);
  const past = makeAuthority('past root', undefined, ended);
  const pair = makeServer(middle);
  const cases: readonly (readonly [string, ServerFiles, RegExp])[] = [
    ['good', { ...makeServer(middle, {}, [middle]), roots }, /^$/],
    [
      'purpose',
      { ...makeServer(root, { extendedKeyUsage: ['clientAuth'] }), roots },
      /^server\.pem is not for servers: its extended key usage lacks serverAuth$/,
    ],
    [
      'key usage',
      { ...makeServer(root, { keyUsage: ['cRLSign'] }), roots },
      /^server\.pem: nodes would refuse it \(INVALID_PURPOSE\)$/,
    ],
    [
      'purpose above',
      behind({ extendedKeyUsage: ['clientAuth'] }),
      /^the issuer "CN=middle" in server\.pem is not for servers/,
    ],
    [
      'no authority',
      behind({ ca: undefined }),
      /^the issuer "CN=middle" in server\.pem is not a certificate authority$/,
    ],
    [
      'may not sign',
      behind({ keyUsage: ['cRLSign'] }),
      /^the issuer "CN=middle" in server\.pem is not a certificate authority$/,
    ],
    [
      'path length',
      { ...makeServer(below, {}, [below]), roots: narrow.pem },
      /nodes would refuse it \(PATH_LENGTH_EXCEEDED\)$/,
    ],
    ['expired', { ...makeServer(root, ended), roots }, /^server\.pem expired on /],
    ['expired above', behind(ended), /^the issuer "CN=middle" in server\.pem expired on /],
    [
      'expired root',
      { ...makeServer(past), roots: past.pem },
      /^the issuer "CN=past root" in ca\.crt expired on /,
    ],
    ['not yet valid', { ...makeServer(root, early), roots }, /^server\.pem is not valid before /],
    ['not yet valid above', behind(early), /^the issuer "CN=middle" in server\.pem is not valid before /],
    [
      'issuer left out',
      { ...makeServer(middle), roots },
      /^server\.pem was not issued by a root in ca\.crt$/,
    ],
    [
      'issuer first',
      { ...pair, certificate: middle.pem + pair.certificate, roots },
      /^server\.pem: the certificate of server\.key is number 2, and must come first$/,
    ],
    [
      'other key',
      { ...makeServer(root), key: pair.key, roots },
      /^server\.key is not the key of server\.pem$/,
    ],
    [
      'damaged',
      {
        ...makeServer(root),
        roots: `${roots}-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n`,
      },
      /^ca\.crt: certificate 2 of the file is damaged$/,
    ],
    [
      'all at once',
      { certificate: 'no', key: 'no', roots: 'no' },
      /^the certificate file server\.pem holds no PEM block.*\nserver\.key is not a private key in PEM\nthe certificate file ca\.crt holds no PEM block/,
    ],
  ];
  for (const [title, server, problem] of cases) {
    const { problem: found = '' } = await judge(t, server);
    t.match(found, problem, title);
  }
  const again = makeAuthority('middle', root, ended, middle);
  t.match(
    await judge(t, { ...makeServer(middle, {}, [again, middle]), roots }),
    { warnings: [] },
    'one good way is enough',
  );
});

void t.test('a server certificate must cover the hosts that nodes connect to', async t => {
  const root = makeAuthority('site root');
  const server = { ...makeServer(root), roots: root.pem };
  t.match(await judge(t, server, { hosts: ['localhost', '127.0.0.1'] }), { warnings: [] });
  t.match(await judge(t, server, { hosts: ['localhost', 'link.example.org', '192.0.2.1'] }), {
    problem:
      /^server.pem is not for link.example.org, where --link-addresses sends nodes \(it is for DNS:localhost, IP Address:127.0.0.1; use.*\nserver.pem is not for 192.0.2.1/,
  });
  t.match(await judge(t, { ...makeServer(root, { alternativeNames: [] }), roots: root.pem }), {
    warnings: [/^server.pem has no subject alternative name/],
  });
  const settings = { 'link-addresses': 'link.example.org:9092' };
  await t.rejects(startTestLink(t, { server, settings }), {
    code: 'CONFIG_INVALID',
    message: /not for link.example.org/,
  });
});

void t.test('an encrypted server key is decrypted with its passphrase', async t => {
  const root = makeAuthority('site root');
  const pair = { ...makeServer(root), roots: root.pem };
  const key = createPrivateKey(pair.key);
  const passphrase = () => Promise.resolve('open sesame');
  for (const type of ['pkcs8', 'sec1'] as const) {
    const text = key.export({ type, format: 'pem', cipher: 'aes-256-cbc', passphrase: 'open sesame' });
    const server = { ...pair, key: text.toString() };
    t.match(await judge(t, server, { passphrase }), { warnings: [] }, type);
    t.match(await judge(t, server, { passphrase: () => Promise.resolve('wrong') }), {
      code: 'KEY_PASSPHRASE',
      problem: 'the passphrase does not open server.key',
    });
    t.match(await judge(t, server), {
      code: 'KEY_PASSPHRASE',
      problem: 'server.key is encrypted, and there is no passphrase for it',
      hint: /--ssl-keyfile-passphrase-file/,
    });
  }
});

void t.test('--check-config accepts what the start accepts, and warns of likely mistakes', async t => {
  const root = makeAuthority('site root');
  const folder = await makeFolder(t);
  const at = (name: string) => join(folder, name);
  const flags = {
    'check-config': 'true',
    'data-dir': at('data'),
    'ssl-certfile': at('server.pem'),
    'ssl-keyfile': at('server.key'),
    'ssl-ca-certfile': at('ca.crt'),
  };
  const check = async (more: Record<string, string> = {}, environment: Record<string, string> = {}) => {
    const said: string[] = [];
    const write = (text: string) => said.push(text.replaceAll(`${folder}/`, ''));
    const output = { stdout: { write }, stderr: { write } };
    try {
      await runLink({ flags: { ...flags, ...more }, environment, ...output });
    } catch (error) {
      write(toRollcallError(error).message);
    }
    return said.join('');
  };
  const client = makeServer(root, { extendedKeyUsage: ['clientAuth'] });
  await writeServerFiles(folder, { ...client, roots: root.pem });
  t.match(await check(), /^server\.pem is not for servers/);

  const pair = makeServer(root);
  const cipher = { cipher: 'aes-256-cbc', passphrase: 'open sesame' };
  const key = createPrivateKey(pair.key)
    .export({ type: 'pkcs8', format: 'pem', ...cipher })
    .toString();
  const roots = root.pem + makeAuthority('public root').pem;
  await writeServerFiles(folder, { certificate: pair.certificate, key, roots });
  t.match(await check(), /^server\.key is encrypted, and there is no passphrase for it/);
  const good = /^warning: ca\.crt: 1 of 2 certificates are not handed out.*\nthe configuration is good\n$/;
  t.match(await check({}, { ROLLCALL_LINK_SSL_KEYFILE_PASSPHRASE: 'open sesame' }), good);
  await writeFile(at('passphrase'), 'open sesame\n', { mode: 0o600 });
  const passphrase = { 'ssl-keyfile-passphrase-file': at('passphrase') };
  t.match(await check(passphrase), good);
  const test = await startTestLink(t, {
    folder,
    server: { certificate: pair.certificate, key, roots },
    settings: passphrase,
  });
  await (await test.connect()).close();
});

void t.test('--check-config names missing files beside the settings that cannot be read', async t => {
  const folder = await makeFolder(t);
  const at = (name: string) => join(folder, name);
  const config = at('link.yaml');
  const check = async (lines: readonly string[]): Promise<readonly string[]> => {
    await writeFile(config, lines.join('\n'));
    const quiet = { write: () => true };
    const started = runLink({
      flags: { config, 'check-config': 'true' },
      environment: {},
      stdout: quiet,
      stderr: quiet,
    });
    const error = await started.then(() => undefined, toRollcallError);
    return (error?.message ?? '').replaceAll(`${folder}/`, '').split('\n');
  };
  const bad = ['node-addres: 1', 'max-runs: many', 'certificate-lifetime: long'];
  const files = [`ssl-certfile: ${at('server.pem')}`, `ssl-keyfile: ${at('server.key')}`];
  const named = await check([...bad, ...files, `ssl-ca-certfile: ${at('ca.crt')}`]);
  t.match(named, [
    /unknown key "node-addres"/,
    /certificate-lifetime: expected a duration/,
    /max-runs: expected a whole number/,
    /cannot read the server certificate server\.pem: there is no such file/,
    /cannot read the server key server\.key: there is no such file/,
    /cannot read the server roots ca\.crt: there is no such file/,
  ]);
  t.equal(named.length, 6, 'nothing else');
  t.match(
    await check([...bad, ...files]),
    [/node-addres/, /lifetime/, /max-runs/, /--ssl-ca-certfile is needed/, /server\.pem/, /server\.key/],
    'files are looked at also while another one is not named',
  );
  const misled = await check([...bad, ...files, 'link-addresses: 7', 'data-dir: 7']);
  t.equal(misled.length, 8, 'what could not be read is not looked at further');
});

void t.test('a wrong certificate file is named although another link has the database open', async t => {
  const folder = await makeFolder(t);
  const data = join(folder, 'data');
  await mkdir(data, { mode: 0o700 });
  const other = await openLevelStore(storeFolder(data));
  t.teardown(() => other.close());
  const root = makeAuthority('site root');
  await writeServerFiles(folder, { ...makeServer(root), roots: root.pem });
  const quiet = { write: () => true };
  const flags = {
    'data-dir': data,
    'ssl-certfile': join(folder, 'server.pem'),
    'ssl-keyfile': join(folder, 'server.key'),
    'log-level': 'silent',
  };
  const start = (roots: string) =>
    runLink({
      flags: { ...flags, 'ssl-ca-certfile': join(folder, roots) },
      environment: {},
      stdout: quiet,
      stderr: quiet,
    });
  await t.rejects(start('none.crt'), {
    message: /cannot read the server roots .*none\.crt: there is no such file/,
  });
  await t.rejects(start('ca.crt'), { code: 'STORE_LOCKED' });
});

/** Resolves once the link has logged a line with this message. */
async function says(test: TestLink, message: string): Promise<void> {
  while (!test.logged.some(line => line.includes(`"msg":"${message}`))) await setImmediate();
}

const linesOf = (test: TestLink, text: string) => test.logged.filter(line => line.includes(text));
const watchEveryMs = 10_000;

/** The certificate that the node port presents now. */
async function shown(test: TestLink): Promise<string> {
  const connection = await test.connect();
  await connection.close();
  return connection.peerCertificate.toString();
}

async function reloads(test: TestLink) {
  const events = await listEvents(test.store, 'default', { limit: 1000, after: 0 });
  return events
    .filter(({ type }) => type === 'link.reloaded')
    .map(({ outcome = 'done', detail }) => ({ outcome, reason: detail['reason'] }));
}

void t.test('a renewed server certificate is loaded by itself, also through a replaced symlink', async t => {
  const root = makeAuthority('site root');
  const folder = await makeFolder(t);
  const versions = ['first', 'second'].map(name => ({ name, ...makeServer(root), roots: root.pem }));
  for (const version of versions) {
    await mkdir(join(folder, version.name));
    await writeServerFiles(join(folder, version.name), version);
  }
  await symlink('first', join(folder, 'live'));
  const clock = createManualClock();
  const [first, second] = versions;
  if (!first || !second) throw new Error('two versions');
  const settings = {
    'ssl-certfile': join(folder, 'live', 'server.pem'),
    'ssl-keyfile': join(folder, 'live', 'server.key'),
  };
  const test = await startTestLink(t, { clock, folder, server: first, settings });
  t.equal(await shown(test), first.certificate);
  // As Kubernetes does with `..data`, and certbot with each file.
  await symlink('second', join(folder, 'next'));
  await rename(join(folder, 'next'), join(folder, 'live'));
  clock.advance(watchEveryMs);
  await says(test, 'certificates read again');
  t.equal(await shown(test), second.certificate);
  t.match(await reloads(test), [{ outcome: 'done' }]);
  clock.advance(watchEveryMs);
  await test.link.reload();
  t.equal(linesOf(test, 'certificates read again').length, 2, 'files that stay the same are left alone');
});

void t.test(
  'a new certificate without its key is not used, and it is loaded once its key is there',
  async t => {
    const root = makeAuthority('site root');
    const [old, fresh] = [makeServer(root), makeServer(root)];
    const clock = createManualClock();
    const test = await startTestLink(t, { clock, server: { ...old, roots: root.pem } });
    const [certificateFile, keyFile] = [join(test.folder, 'server.pem'), join(test.folder, 'server.key')];
    await writeFile(certificateFile, fresh.certificate);
    clock.advance(watchEveryMs);
    await says(test, `the old certificates stay: ${keyFile} is not the key of ${certificateFile}`);
    t.equal(await shown(test), old.certificate);
    clock.advance(watchEveryMs);
    await t.rejects(test.link.reload(), { code: 'CONFIG_INVALID' });
    t.equal(linesOf(test, 'the old certificates stay').length, 2, 'once, and once more for who asked');

    await rm(keyFile);
    clock.advance(watchEveryMs);
    await says(test, 'the old certificates stay: cannot read the server key');
    await writeFile(keyFile, fresh.key, { mode: 0o600 });
    clock.advance(watchEveryMs);
    await says(test, 'certificates read again');
    t.equal(await shown(test), fresh.certificate);
    const failed = { outcome: 'failed', reason: 'CONFIG_INVALID' };
    t.match(await reloads(test), [
      failed,
      failed,
      { outcome: 'failed', reason: 'FILE_UNREADABLE' },
      { outcome: 'done' },
    ]);
  },
);

void t.test('an expiring server certificate is reported in the last third of its lifetime', async t => {
  const root = makeAuthority('site root', undefined, { notAfter: Date.now() + 400 * dayMs });
  const life = { notBefore: Date.now() - 60 * dayMs, notAfter: Date.now() + 30.5 * dayMs };
  const clock = createManualClock();
  const test = await startTestLink(t, { clock, server: { ...makeServer(root, life), roots: root.pem } });
  const told = () => linesOf(test, 'the certificate of the link expires on').length;
  t.equal(told(), 0, 'before it');
  clock.oversleep(dayMs);
  clock.advance(watchEveryMs);
  t.equal(told(), 1, 'in the last third');
  clock.advance(watchEveryMs);
  t.equal(told(), 1, 'not at every look');
  clock.oversleep(dayMs);
  clock.advance(watchEveryMs);
  t.equal(told(), 2, 'once a day');
  clock.oversleep(30 * dayMs);
  clock.advance(watchEveryMs);
  const expired = linesOf(test, 'the certificate of the link expired on');
  t.match(expired, [/"level":"error".*nodes and operators refuse the link/]);
  await writeServerFiles(test.folder, {
    ...makeServer(root, { notAfter: clock.now() + 90 * dayMs }),
    roots: root.pem,
  });
  clock.advance(watchEveryMs);
  await says(test, 'certificates read again');
  clock.advance(watchEveryMs);
  t.equal(told() + linesOf(test, 'expired on').length, 3, 'no more once it is renewed');
});
