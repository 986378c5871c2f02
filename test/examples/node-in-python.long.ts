/** The node in Python, which was written from docs/protocol.md alone, against a real link. */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { toPkcs8Pem } from '../../src/identity/private-key.js';
import type { PrivateKey } from '../../src/identity/private-key.js';
import { root } from '../cli/fixtures/shell.js';
import { makeFolder } from '../harness/folder.js';
import { newKey } from '../harness/test-link.js';
import { createWaiting } from '../harness/waiting.js';
import { startHandSite } from '../link/runs/fixtures/hand-site.js';

const run = promisify(execFile);
const example = join(root, 'examples/node-in-python');

/** The Python of an environment with what the example needs; undefined where it cannot be made, with the reason. */
async function makePython(t: Test): Promise<string | undefined> {
  const folder = await makeFolder(t);
  const python = join(folder, 'bin/python');
  try {
    await run('python3', ['-m', 'venv', folder]);
    const install = ['install', '--quiet', '--timeout', '20', '--retries', '1'];
    await run(python, ['-m', 'pip', ...install, '-r', join(example, 'requirements.txt')]);
    const protos = ['enrollment', 'link'].map(name => join(root, `proto/rollcall/v1/${name}.proto`));
    const out = (await run(python, ['-c', 'import site; print(site.getsitepackages()[0])'])).stdout.trim();
    await run(python, ['-m', 'grpc_tools.protoc', '-I', join(root, 'proto'), '--python_out', out, ...protos]);
    return python;
  } catch (error) {
    t.comment((error as { stderr?: string }).stderr ?? '');
    return undefined;
  }
}

interface PythonNode {
  readonly process: ChildProcess;
  /** The first, second, … line that matches. */
  line(pattern: RegExp, count?: number): Promise<string>;
  readonly ended: Promise<number | null>;
}

const python = await makePython(t);

async function start(
  t: Test,
  link: string,
  folder: string,
  key: PrivateKey,
  more: readonly string[] = [],
): Promise<PythonNode> {
  const keyFile = join(folder, 'node-in-python.key');
  await writeFile(keyFile, toPkcs8Pem(key), { mode: 0o600 });
  const words = [join(example, 'node.py'), link, join(folder, 'ca.crt'), keyFile, ...more];
  const process = spawn(python ?? '', words, { stdio: ['ignore', 'pipe', 'pipe'] });
  t.teardown(() => process.kill('SIGKILL'));
  const lines: string[] = [];
  const waiting = createWaiting();
  for (const stream of [process.stdout, process.stderr])
    createInterface({ input: stream }).on('line', line => {
      lines.push(line);
      waiting.look();
    });
  const ended = new Promise<number | null>(resolve => process.once('close', code => resolve(code)));
  const tooEarly = ended.then(() => Promise.reject(new Error(`it ended: ${lines.slice(-5).join('\n')}`)));
  tooEarly.catch(() => undefined);
  return {
    process,
    line(pattern, count = 1) {
      const said = waiting.until(() => lines.filter(line => pattern.test(line))[count - 1]);
      return Promise.race([said, tooEarly]);
    },
    ended,
  };
}

void t.test('the node in Python has at most 250 lines', async t => {
  const lines = (await readFile(join(example, 'node.py'), 'utf8')).trimEnd().split('\n');
  t.ok(lines.length <= 250, `${lines.length} lines`);
});

const skip = python === undefined ? 'no Python with venv, or no package index' : false;

void t.test(
  'a node in Python enrolls, is online, renews, answers a message, and ends when it is revoked',
  { skip },
  async t => {
    for (const curve of ['P-256', 'P-384'] as const) {
      const site = await startHandSite(t);
      const key = newKey(curve);
      const { id } = await site.register(key, { name: 'python' });
      const { port } = site.link.addresses.node;
      const node = await start(t, `localhost:${port}`, site.folder, key, ['--renew-after', '1']);
      t.equal(await node.line(/^online/), `online as ${id}`);
      t.match(await site.until('python', 'online'), { agentVersion: 'node-in-python 1' });

      const supervisor = await site.supervise();
      const { run: started, half } = await site.running(supervisor);
      half.say('send', { number: 1, node: `${id}`, type: 'query' }, Buffer.from('to be given back'));
      const { value, body } = await half.hear('answer');
      t.same([value['node'], body.toString()], [`${id}`, 'to be given back'], `run ${started.id}`);

      // A hand-over leaves no trace in the history.
      await node.line(/^online/, 3);
      await node.line(/^enrolled as \d+, generation 3$/);
      const { transitions } = await site.control.listNodeHistory({
        node: `${id}`,
        pageSize: 0,
        pageToken: '',
      });
      t.same(
        transitions.map(({ reason }) => reason),
        ['connected', 'registered'],
      );

      await site.control.revokeNode({ node: `${id}`, comment: '' });
      t.match(await node.line(/^offline/), /NODE_REVOKED/);
      t.equal(await node.ended, 4, 'it does not come back');
    }
  },
);

void t.test('a node in Python believes no other link', { skip }, async t => {
  const site = await startHandSite(t);
  const other = await startHandSite(t);
  const key = newKey();
  await site.register(key);
  const node = await start(t, `localhost:${site.link.addresses.node.port}`, other.folder, key);
  t.match(await node.line(/^offline/), /certificate verify failed/);
});
