// Settings, files and exit codes of the agent, in this process and as a process of its own.
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createPrivateKey } from 'node:crypto';
import t from 'tap';
import { readSettings } from '../../src/base/settings.js';
import { RollcallError } from '../../src/base/errors.js';
import { generatePrivateKey, toPkcs8Pem } from '../../src/identity/private-key.js';
import { environmentPrefix, nodeSettings } from '../../src/node/config.js';
import { nodeExitCodes, runNode } from '../../src/node/main.js';
import { makeCertificates, startMiniLink } from './fixtures/mini-link.js';

interface Teardown {
  teardown(call: () => unknown): void;
}

interface Files {
  readonly folder: string;
  readonly flags: Record<string, unknown>;
  readonly write: (name: string, text: string, mode?: number) => Promise<string>;
}

/** A folder with a good key and good roots, and the flags that name them. */
async function makeFiles(t: Teardown, roots = makeCertificates().ca.certificate): Promise<Files> {
  const folder = await mkdtemp(join(tmpdir(), 'rollcall-node-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const write = async (name: string, text: string, mode = 0o600) => {
    const path = join(folder, name);
    await writeFile(path, text, { mode });
    return path;
  };
  const flags = {
    link: '127.0.0.1:1',
    'root-certificates': await write('ca.crt', roots),
    'auth-private-key': await write('key', toPkcs8Pem(generatePrivateKey('P-256'))),
    'log-level': 'silent',
  };
  return { folder, flags, write };
}

async function run(flags: Record<string, unknown>, environment: Record<string, string> = {}) {
  let printed = '';
  const stderr = { write: (text: string) => (printed += text) };
  const code = await runNode({ flags, environment, stderr });
  return { code, printed };
}

const read = (sources: { flags?: object; environment?: Record<string, string>; file?: unknown }) =>
  readSettings(nodeSettings, {
    flags: {},
    environment: {},
    environmentPrefix,
    ...sources,
  } as Parameters<typeof readSettings>[1]) as Record<string, unknown>;

void t.test('flags, environment and file give the same settings', t => {
  const expected = {
    link: { host: 'link.example', port: 9092 },
    tenant: 'blue',
    'state-dir': '/var/lib/node',
  };
  const flat = { link: 'link.example:9092', tenant: 'blue', 'state-dir': '/var/lib/node' };
  t.match(read({ flags: flat }), expected);
  t.match(read({ file: flat }), expected);
  t.match(
    read({
      environment: {
        ROLLCALL_NODE_LINK: 'link.example:9092',
        ROLLCALL_NODE_TENANT: 'blue',
        ROLLCALL_NODE_STATE_DIR: '/var/lib/node',
      },
    }),
    expected,
  );
  t.match(read({}), { tenant: 'default', 'log-level': 'info', 'state-dir': undefined });
  t.same(nodeSettings.link.aliases, ['superlink']);
  t.same(nodeSettings['auth-private-key'].aliases, ['auth-supernode-private-key']);
  t.end();
});

void t.test('node-config is text, a file, or a mapping of the YAML file', t => {
  t.same(read({ flags: { 'node-config': 'a=1 b="x"' } })['node-config'], { pairs: { a: 1, b: 'x' } });
  t.same(read({ flags: { 'node-config': '@pairs.toml' } })['node-config'], { file: 'pairs.toml' });
  t.same(read({ file: { 'node-config': { a: 1, b: 'x' } } })['node-config'], { pairs: { a: 1, b: 'x' } });
  t.same(read({ file: { 'node-config': 'a=1' } })['node-config'], { pairs: { a: 1 } });
  for (const wrong of [['a=1'], 7, true, '@', { a: [] }]) {
    t.throws(() => read({ file: { 'node-config': wrong } }), { code: 'CONFIG_INVALID' });
  }
  t.end();
});

void t.test('every problem of the settings is reported at once, and no insecure option exists', t => {
  const flags = { link: 'nowhere', tenant: '', 'log-level': 'loud', insecure: true };
  try {
    read({ flags, environment: { ROLLCALL_NODE_LINKS: 'x' } });
    t.fail('accepted');
  } catch (error) {
    const { message } = error as RollcallError;
    for (const name of ['--link', '--tenant', '--log-level', '--insecure', 'ROLLCALL_NODE_LINKS']) {
      t.match(message, name);
    }
  }
  t.throws(() => read({ flags: { link: 'link.example:0' } }), {
    code: 'CONFIG_INVALID',
    message: /port from 1/,
  });
  t.end();
});

void t.test('a local error ends the node with 2 and a line that names it', async t => {
  const { flags, write, folder } = await makeFiles(t);
  const open = await write('open-key', toPkcs8Pem(generatePrivateKey('P-256')), 0o644);
  const other = await write('other', 'not a certificate');
  const damaged = await write('damaged', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n');
  const cases: readonly [Record<string, unknown>, RegExp][] = [
    [{ link: undefined }, /^error: --link is needed\nhint: /],
    [
      { link: undefined, 'root-certificates': undefined },
      /--link is needed\nerror: --root-certificates is needed/,
    ],
    [{ 'root-certificates': join(folder, 'none') }, /cannot read the root certificates .*no such file/],
    [{ 'root-certificates': other }, /holds no PEM block, a certificate is wanted/],
    [{ 'root-certificates': damaged }, /a root certificate in .* is damaged/],
    [{ 'auth-private-key': open }, /can be read by others.*\nhint: chmod 600/s],
    [{ 'auth-private-key': join(folder, 'none') }, /cannot read the private key/],
    [{ 'auth-private-key': other }, /expected an ECDSA private key/],
    [{ 'state-dir': other }, /cannot make the state folder .*: a file is in its place/],
    [{ config: join(folder, 'none.yaml') }, /cannot read the configuration file/],
    [{ 'node-config': `@${join(folder, 'none')}` }, /cannot read the node config/],
  ];
  for (const [change, expected] of cases) {
    const { code, printed } = await run({ ...flags, ...change });
    t.equal(code, nodeExitCodes.local, printed);
    t.match(printed, expected);
    t.notMatch(printed, /PRIVATE KEY|at .*\.ts/, 'no secret, no trace');
  }
});

void t.test('an error in node-config is shown with its place, in each source', async t => {
  const { flags, write } = await makeFiles(t);
  const shown = /expected a number, true, false or text in quotes\n {2}(?:a=1 )?b=oops\n {4,}\^\n$/;
  const direct = await run({ ...flags, 'node-config': 'a=1 b=oops' });
  t.equal(direct.code, 2);
  t.match(direct.printed, shown);
  t.match(direct.printed, /^error: --node-config: expected/);
  t.equal(direct.printed.split('\n')[2]?.indexOf('^'), direct.printed.split('\n')[1]?.indexOf('oops'));
  const file = await write('pairs.toml', 'a=1\nb=oops\n');
  const indirect = await run({ ...flags, 'node-config': `@${file}` });
  t.match(indirect.printed, shown);
  t.match(indirect.printed, `error: ${file}: expected`);
});

void t.test(
  'an encrypted key is decrypted by a passphrase from a file or the environment, never a flag',
  async t => {
    const link = await startMiniLink(t);
    link.behaviour.enroll = peer => peer.refuse(new RollcallError('NODE_REVOKED', 'revoked'));
    const { flags, write } = await makeFiles(t, link.ca);
    const encrypted = createPrivateKey(toPkcs8Pem(generatePrivateKey('P-384')))
      .export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'sesame' })
      .toString();
    const key = {
      ...flags,
      link: `127.0.0.1:${link.port}`,
      'auth-private-key': await write('encrypted', encrypted),
    };
    const variable = 'ROLLCALL_NODE_AUTH_PRIVATE_KEY_PASSPHRASE';
    t.equal(
      (await run(key, { [variable]: 'sesame' })).code,
      nodeExitCodes.revoked,
      'it got as far as the link',
    );
    const file = await write('passphrase', 'sesame\n');
    t.equal((await run({ ...key, 'auth-private-key-passphrase-file': file })).code, nodeExitCodes.revoked);
    const wrong = await run(key, { [variable]: 'mellon' });
    t.equal(wrong.code, nodeExitCodes.local);
    t.notMatch(wrong.printed, /sesame|mellon/);
    t.notOk(Object.keys(nodeSettings).includes('auth-private-key-passphrase'));
  },
);

void t.test('a revoked node prints its own message and exits with 4', async t => {
  const link = await startMiniLink(t);
  const { flags, write, folder } = await makeFiles(t, link.ca);
  link.behaviour.enroll = peer => peer.refuse(new RollcallError('NODE_REVOKED', 'anything'));
  const config = await write(
    'node.yaml',
    `link: localhost:${link.port}\nstate-dir: ${join(folder, 'state')}\nnode-config:\n  a: 1\n`,
  );
  const { code, printed } = await run({ ...flags, link: undefined, config });
  t.equal(code, 4);
  t.match(printed, /^error: this node was revoked by the link's operator.*\nhint: /);
});

/** Starts the agent as a process; `printed` resolves when a line matches, or with all there was when it ended. */
function spawnNode(t: Teardown, flags: Record<string, unknown>) {
  const script = fileURLToPath(new URL('fixtures/run-node.ts', import.meta.url));
  const child = spawn(process.execPath, ['--import=tsx', script, JSON.stringify(flags)], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  let text = '';
  child.stderr.on('data', (chunk: Buffer) => (text += chunk.toString()));
  const ended = new Promise<number | string>(resolve => {
    child.once('exit', (code, signal) => resolve(code ?? signal ?? 'unknown'));
  });
  async function printed(pattern: RegExp): Promise<string> {
    while (!pattern.test(text)) {
      const more = new Promise<'more'>(resolve => child.stderr.once('data', () => resolve('more')));
      if ((await Promise.race([more, ended])) !== 'more') break;
    }
    return text;
  }
  return { child, ended, printed };
}

void t.test(
  'a node process waits for its link, logs that it is online, and exits with 0 on a signal',
  async t => {
    const first = await startMiniLink(t);
    // Two roots in one file; the second is the one that counts.
    const { flags } = await makeFiles(t, `${makeCertificates().ca.certificate}\n${first.ca}`);
    await first.close();
    const said = { ...flags, link: `127.0.0.1:${first.port}`, 'log-level': 'info' };
    const patient = spawnNode(t, said);
    t.match(
      await patient.printed(/trusts no app signer/),
      /"level":"info".*"trusts no app signer: no app runs here \(--trust-app-signer\)"/,
    );
    t.match(
      await patient.printed(/cannot reach/),
      /"level":"warn".*"LINK_UNREACHABLE".*nothing listens there/,
    );
    const link = await startMiniLink(t, { certificates: first.certificates, port: first.port });
    t.match(await patient.printed(/"online"/), /"level":"info".*"nodeId":"42".*"msg":"online"/);
    patient.child.kill('SIGTERM');
    t.equal(await patient.ended, 0);
    t.equal(link.sessions.size, 0);

    const interrupted = spawnNode(t, said);
    await interrupted.printed(/"online"/);
    interrupted.child.kill('SIGINT');
    t.equal(await interrupted.ended, 0);
  },
);
