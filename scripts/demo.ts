/**
 * The main job on real input: certificates, keys, a link, nodes, all as the processes they are in earnest, in a
 * temporary folder and on free loopback ports. Every step is checked; the first that does not happen ends it with
 * exit code 1. Nothing is left behind, neither files nor processes.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  command as rollcallFile,
  root,
  startLinkProcess,
  startRollcall,
  type Running,
  type RunningLink,
} from './running.js';

const rollcall = [rollcallFile];
const script = (name: string) => ['--import=tsx', join(root, 'scripts', `${name}.ts`)];
const deadlineMs = 20_000;
/** Typed once, or asked for, in real life; left out of what is shown. */
const hiddenFlags = new Set(['--control', '--root-certificates', '--password-file']);
const colour = process.stdout.isTTY && process.env['NO_COLOR'] === undefined;
const bold = (text: string) => (colour ? `\x1b[1m${text}\x1b[0m` : text);
const dim = (text: string) => (colour ? `\x1b[2m${text}\x1b[0m` : text);

interface NodeView {
  readonly id: string;
  readonly name: string;
  readonly status: string;
  readonly reason: string;
}

const running = new Set<Running>();
const folder = await mkdtemp(join(tmpdir(), 'rollcall-demo-'));
const inFolder = (...names: string[]) => join(folder, ...names);
/** As logging in leaves it: which link is meant, and who asks, are in the profile. */
const environment = { ...process.env, ROLLCALL_CONFIG_HOME: inFolder('config') };
let step = 0;

try {
  await Promise.race([demo(), tooLong()]);
  say(
    `\n${bold('Done.')} Everything above really happened, in ${Math.round(performance.now() / 100) / 10} s.`,
  );
} catch (error) {
  say(
    `\n${bold('The demo failed')} at step ${step}: ${error instanceof Error ? error.message : String(error)}`,
  );
  for (const { lines } of running) lines.slice(-5).forEach(line => say(dim(JSON.stringify(line))));
  process.exitCode = 1;
} finally {
  for (const each of running) each.process.kill('SIGKILL');
  await Promise.all([...running].map(each => each.exited));
  await rm(folder, { recursive: true, force: true });
}

/** Nothing in the demo takes long; what hangs must not hang for ever. */
function tooLong(): Promise<never> {
  return new Promise((_, reject) => {
    setTimeout(() => reject(new Error('it took too long')), 60_000).unref();
  });
}

async function demo(): Promise<void> {
  heading(
    'Certificates and keys',
    'A development CA with a server certificate, and a key pair for each node.',
  );
  await command(script('generate-certs'), '--out', inFolder('certificates'));
  await command(script('generate-keys'), '1', '--out', inFolder('keys/p256'));
  await command(script('generate-keys'), '1', '--curve', 'p384', '--out', inFolder('keys/p384'));
  await command(script('generate-keys'), '1', '--out', inFolder('keys/stranger'));

  heading('The link', 'It keeps the registry, and takes nodes and operators over TLS.');
  const first = await startLink('127.0.0.1:0', '127.0.0.1:0');

  heading(
    'Log in',
    'The first admin is made with a code from the data folder of the link; from then on by password.',
  );
  await writeFile(inFolder('password'), `${randomBytes(18).toString('base64url')}\n`, { mode: 0o600 });
  await command(
    rollcall,
    ...['login', '--setup', '--setup-code-file', inFolder('link/setup-code'), '--user', 'ada'],
    ...['--password-file', inFolder('password')],
    ...['--control', first.control, '--root-certificates', inFolder('certificates/ca.crt')],
  );
  await command(rollcall, 'whoami');

  heading(
    'Register two nodes',
    'Only their public keys: the private ones never leave the machines they are on.',
  );
  await operator(
    'register',
    inFolder('keys/p256/client_credentials_1.pub'),
    '--name',
    'berlin',
    '--label',
    'site=charite',
  );
  await operator(
    'register',
    inFolder('keys/p384/client_credentials_1.pub'),
    '--name',
    'tokyo',
    '--label',
    'site=todai',
  );
  await operator('list', '--wide');
  await waitFor('berlin', 'created');
  const registered = await waitFor('tokyo', 'created');

  heading(
    'Start both',
    'Each proves its key over its own TLS connection, gets a certificate, and holds one link.',
  );
  const berlin = startNode(first, 'berlin', 'p256');
  const tokyo = startNode(first, 'tokyo', 'p384');
  await Promise.all([berlin.says('online'), tokyo.says('online')]);
  await waitFor('berlin', 'online');
  await waitFor('tokyo', 'online');
  await operator('list', '--wide');

  heading('A stranger', 'A key that nobody registered gets nothing, and keeps trying politely.');
  const stranger = startNode(first, 'stranger', 'stranger');
  const refusal = await stranger.line(line => String(line['msg']).includes('not registered'));
  say(dim(`the stranger logs: ${String(refusal['msg'])}`));
  check((await list()).length === 2, 'the stranger is in no list');
  await stop(stranger, 'SIGTERM');

  heading('Kill one', 'SIGKILL: no goodbye. The link knows at once, and why.');
  const killedAt = performance.now();
  await stop(berlin, 'SIGKILL');
  const lost = await waitFor('berlin', 'offline');
  say(`berlin is offline (${lost.reason}); the operator saw it within ${since(killedAt)}.`);
  await operator('list', '--wide');

  heading('Start it again', 'Same key, same node: it is back, and was not locked out by its own ghost.');
  const again = startNode(first, 'berlin', 'p256');
  await again.says('online');
  const back = await waitFor('berlin', 'online');
  check(back.id === lost.id, 'the node id is the same');
  await operator('list', '--wide');

  heading('Revoke the other', 'Its live link is cut at once, and its agent stops for good.');
  const revokedAt = performance.now();
  const gone = tokyo.exited.then(code => ({ code, after: since(revokedAt) }));
  await operator('revoke', 'tokyo', '--comment', 'laptop was stolen');
  const { code, after } = await gone;
  check(code === 4, `the revoked agent ends with exit code 4 (got ${String(code)})`);
  say(
    `tokyo's process ended with exit code 4, ${after} after the command was typed (its start-up included).`,
  );
  await operator('list', '--wide');

  heading('Restart the link', 'What was acknowledged is on the disk.');
  await stop(first.running, 'SIGTERM');
  await startLink(first.node, first.control);
  const all = await list();
  check(all.length === 2, 'both nodes are still known');
  check((await waitFor('tokyo', 'revoked')).id === registered.id, 'the revoked one is still revoked');
  await waitFor('berlin', 'online');
  say('berlin came back by itself.');
  await operator('list', '--wide');
  await operator('history', 'berlin');
}

async function startLink(node: string, control: string): Promise<RunningLink> {
  const link = await startLinkProcess({
    certificates: inFolder('certificates'),
    dataDir: inFolder('link'),
    node,
    control,
    more: ['--trust-domain', 'demo.example'],
  });
  running.add(link.running);
  say(dim(`nodes at ${link.node}, operators at ${link.control}, trust domain demo.example`));
  return link;
}

function startNode(link: RunningLink, name: string, keys: string): Running {
  const node = startRollcall([
    ...['node', '--link', link.node, '--root-certificates', inFolder('certificates/ca.crt')],
    ...[
      '--auth-private-key',
      inFolder('keys', keys, 'client_credentials_1'),
      '--state-dir',
      inFolder('state', name),
    ],
    ...['--node-config', 'dataset-path="datasets/part_1" partition-id=1'],
  ]);
  running.add(node);
  return node;
}

async function operator(...parts: string[]): Promise<void> {
  await command(rollcall, 'nodes', ...parts);
}

async function list(): Promise<NodeView[]> {
  const child = spawn(process.execPath, [...rollcall, 'nodes', 'list', '--json'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: environment,
  });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  const [code] = (await once(child, 'close')) as [number];
  check(code === 0, 'nodes list works');
  return JSON.parse(text) as NodeView[];
}

/** Asks until the node has the status. */
async function waitFor(name: string, status: string): Promise<NodeView> {
  const until = performance.now() + deadlineMs;
  for (;;) {
    const node = (await list()).find(each => each.name === name);
    if (node?.status === status) return node;
    check(
      performance.now() < until,
      `${name} becomes ${status} (it is ${node?.status ?? 'unknown'}: ${node?.reason ?? ''})`,
    );
  }
}

/** Runs a command in the open: what is typed, and what it prints. */
async function command(program: string[], ...parts: string[]): Promise<void> {
  const shown = parts.filter((part, at) => !hiddenFlags.has(part) && !hiddenFlags.has(parts[at - 1] ?? ''));
  const [first = ''] = program;
  say(
    bold(
      `$ ${first.startsWith('--') ? `npm run ${(program[1] ?? '').replace(/.*\/|\.ts$/g, '')} --` : 'rollcall'} ${shown.map(short).join(' ')}`,
    ),
  );
  const child = spawn(process.execPath, [...program, ...parts], {
    stdio: ['ignore', 'inherit', 'inherit'],
    cwd: root,
    env: environment,
  });
  const [code] = (await once(child, 'close')) as [number | null];
  check(code === 0, `"${shown.map(short).join(' ')}" succeeds (exit code ${String(code)})`);
}

/** As somebody would type it, in the folder of the demo. */
function short(part: string): string {
  const path = part.replace(`${folder}/`, '');
  return path.includes(' ') ? `"${path}"` : path;
}

async function stop(from: Running, signal: NodeJS.Signals): Promise<void> {
  await from.stop(signal);
  running.delete(from);
}

function check(truth: boolean, what: string): asserts truth {
  if (!truth) throw new Error(`it did not hold that ${what}`);
}

function since(start: number): string {
  return `${Math.round(performance.now() - start)} ms`;
}

function heading(title: string, sentence: string): void {
  step += 1;
  say(`\n${bold(`${step}. ${title}`)}\n${sentence}`);
}

function say(text: string): void {
  console.log(text);
}
