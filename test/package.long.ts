/** The package as others have it: packed, installed in a folder of their own, every entry imported, compiled against and used. */
import { execFile } from 'node:child_process';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { root } from './cli/fixtures/shell.js';
import { makeFolder } from './harness/folder.js';

const run = promisify(execFile);

/** A program of somebody else: a link and a node in one process, and an operator who watches. */
const program = `
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { ControlClient, statusName } from 'rollcall/control';
import { startLink, type RunningLink } from 'rollcall/link';
import { startNode, type RunningNode } from 'rollcall/node';
import { createTokenVerifier } from 'rollcall/tokens';
import { nodeApp, serverApp } from 'rollcall/app';

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
writeFileSync('node.key', privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
const link: RunningLink = await startLink({
  'data-dir': 'data',
  'node-address': '127.0.0.1:0',
  'control-address': '127.0.0.1:0',
  'ssl-ca-certfile': 'certificates/ca.crt',
  'ssl-certfile': 'certificates/server.pem',
  'ssl-keyfile': 'certificates/server.key',
  'log-level': 'error',
});
const rootCertificates = readFileSync('certificates/ca.crt');
const address = link.controlAddress.replace('127.0.0.1', 'localhost');
const setup = await fetchToken(address);
const operator = new ControlClient({ address, rootCertificates, token: setup });
await operator.nodes.register({ publicKey: publicKey.export({ type: 'spki', format: 'der' }), name: 'berlin' });
const node: RunningNode = await startNode({
  link: link.nodeAddress,
  'root-certificates': 'certificates/ca.crt',
  'auth-private-key': 'node.key',
  'log-level': 'error',
});
await node.online();
const { status } = await operator.nodes.get('berlin');
console.log(node.status.phase, statusName(status), typeof createTokenVerifier, typeof nodeApp, typeof serverApp);
operator.close();
await node.stop();
console.log((await node.ended).reason);
await link.stop();

/** The first admin, by the setup code, and a login. */
async function fetchToken(at: string): Promise<string> {
  const login = { username: 'ada', password: 'correct horse battery' };
  await post(at, '/auth/setup', 'application/json', JSON.stringify({ code: link.setupCode, ...login }));
  const form = new URLSearchParams({ grant_type: 'password', ...login }).toString();
  const answer = await post(at, '/auth/token', 'application/x-www-form-urlencoded', form);
  return JSON.parse(answer).access_token;
}

async function post(at: string, path: string, type: string, body: string): Promise<string> {
  const { request } = await import('node:https');
  return new Promise((resolve, reject) => {
    const options = { method: 'POST', ca: rootCertificates, headers: { 'content-type': type } };
    const asked = request('https://' + at + path, options, response => {
      let text = '';
      response.on('data', chunk => (text += chunk));
      response.on('end', () => resolve(text));
    });
    asked.on('error', reject);
    asked.end(body);
  });
}
`;

void t.test('every entry of the packed package works where it is installed', async t => {
  const folder = await makeFolder(t);
  const { stdout } = await run('npm', ['pack', '--ignore-scripts', '--pack-destination', folder], {
    cwd: root,
  });
  const installed = join(folder, 'app/node_modules/rollcall');
  await mkdir(installed, { recursive: true });
  const archive = join(folder, stdout.trim().split('\n').at(-1) ?? '');
  await run('tar', ['-xzf', archive, '-C', installed, '--strip-components=1']);
  // The dependencies of the package, one level up as a package manager would install them.
  await symlink(join(root, 'node_modules'), join(folder, 'node_modules'));
  const app = join(folder, 'app');
  await run(process.execPath, [join(installed, 'dist/src/cli/main.js'), 'certs'], { cwd: app });

  const { exports } = JSON.parse(await readFile(join(installed, 'package.json'), 'utf8')) as {
    exports: Record<string, unknown>;
  };
  const entries = Object.keys(exports).filter(entry => entry !== './package.json');
  t.same(entries.sort(), ['./app', './control', './link', './node', './tokens']);
  await writeFile(join(app, 'package.json'), '{ "type": "module" }');
  await writeFile(join(app, 'program.ts'), program);
  const compiler = [
    '--strict',
    '--module',
    'nodenext',
    '--target',
    'es2022',
    '--types',
    'node',
    '--noImplicitAny',
    'false',
  ];
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  await t.resolves(
    run(process.execPath, [tsc, ...compiler, 'program.ts'], { cwd: app }),
    'it compiles against its types',
  );
  const printed = await run(process.execPath, ['program.js'], { cwd: app });
  t.equal(printed.stdout, 'online online function function function\nclosed\n');
  t.equal(printed.stderr, '');
});
