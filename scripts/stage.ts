/**
 * The stage of stories: a temporary folder, free loopback ports, and real processes. A story is told as it
 * happens; every step is checked, and the first that does not happen ends it with exit code 1. Nothing is left behind,
 * neither files nor processes.
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

/** How long a status may take to become what it should. */
const deadlineMs = 20_000;
/** Typed once, or asked for, in real life; left out of what is shown. */
const hiddenFlags = new Set(['--control', '--root-certificates', '--password-file']);
const colour = process.stdout.isTTY && process.env['NO_COLOR'] === undefined;

export interface NodeView {
  readonly id: string;
  readonly name: string;
  readonly status: string;
  readonly reason: string;
}

export interface LinkWish {
  /** Its earlier address; defaults to a free port. */
  readonly at?: RunningLink;
  readonly more?: readonly string[];
}

export interface NodeWish {
  readonly name: string;
  /** Its private key, below the folder. */
  readonly key: string;
  readonly nodeConfig?: string;
  readonly more?: readonly string[];
}

export interface Stage {
  /** A path in the folder of the story. */
  readonly inFolder: (...names: string[]) => string;
  readonly heading: (title: string, sentence: string) => void;
  readonly say: (text: string) => void;
  /** Beside the story. */
  readonly whisper: (text: string) => void;
  /** `npm run NAME -- …`, in the open: what is typed, and what it prints. */
  readonly script: (name: string, ...parts: string[]) => Promise<void>;
  /** `rollcall …`, in the open. */
  readonly rollcall: (...parts: string[]) => Promise<void>;
  /** `rollcall … --json`, unseen. */
  readonly ask: (...parts: string[]) => Promise<string>;
  readonly list: () => Promise<NodeView[]>;
  /** Asks until the node has the status. */
  readonly waitFor: (name: string, status: string) => Promise<NodeView>;
  /** By the certificates in the folder `certificates`. */
  readonly startLink: (wish?: LinkWish) => Promise<RunningLink>;
  /** Makes the first admin, and stays logged in. */
  readonly logIn: (link: RunningLink) => Promise<void>;
  readonly startNode: (link: RunningLink, wish: NodeWish) => Running;
  readonly stop: (running: Running, signal: NodeJS.Signals) => Promise<void>;
}

/** Ends the story when it is not so. */
export function check(truth: boolean, what: string): asserts truth {
  if (!truth) throw new Error(`it did not hold that ${what}`);
}

/** Plays it and cleans up; sets the exit code. */
export async function perform(
  { title, limitMs }: { readonly title: string; readonly limitMs: number },
  story: (stage: Stage) => Promise<void>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), `rollcall-${title}-`));
  const running = new Set<Running>();
  const { stage, stepOf } = createStage(folder, running);
  try {
    await Promise.race([story(stage), tooLong(limitMs)]);
    const seconds = Math.round(performance.now() / 100) / 10;
    stage.say(`\n${bold('Done.')} Everything above really happened, in ${seconds} s.`);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    stage.say(`\n${bold(`The ${title} failed`)} at step ${stepOf()}: ${message}`);
    for (const { lines } of running) lines.slice(-5).forEach(line => stage.whisper(JSON.stringify(line)));
    process.exitCode = 1;
  } finally {
    for (const each of running) each.process.kill('SIGKILL');
    await Promise.all([...running].map(each => each.exited));
    await rm(folder, { recursive: true, force: true });
  }
}

/** A step that hangs must not hang for ever. */
function tooLong(limitMs: number): Promise<never> {
  return new Promise((_, reject) => {
    setTimeout(() => reject(new Error('it took too long')), limitMs).unref();
  });
}

function createStage(folder: string, running: Set<Running>): { stage: Stage; stepOf: () => number } {
  let step = 0;
  const inFolder = (...names: string[]): string => join(folder, ...names);
  /** As logging in leaves it: which link is meant, and who asks, are in the profile. */
  const environment = { ...process.env, ROLLCALL_CONFIG_HOME: inFolder('config') };

  /** Runs a command in the open. */
  async function show(typed: string, program: readonly string[], parts: readonly string[]): Promise<void> {
    const shown = parts
      .filter((part, at) => !hiddenFlags.has(part) && !hiddenFlags.has(parts[at - 1] ?? ''))
      .map(part => short(part, folder))
      .join(' ');
    say(bold(`$ ${typed} ${shown}`));
    const child = spawn(process.execPath, [...program, ...parts], {
      stdio: ['ignore', 'inherit', 'inherit'],
      cwd: root,
      env: environment,
    });
    const [code] = (await once(child, 'close')) as [number | null];
    check(code === 0, `"${shown}" succeeds (exit code ${String(code)})`);
  }

  const rollcall = (...parts: string[]): Promise<void> => show('rollcall', [rollcallFile], parts);

  async function ask(...parts: string[]): Promise<string> {
    const child = spawn(process.execPath, [rollcallFile, ...parts, '--json'], {
      stdio: ['ignore', 'pipe', 'inherit'],
      cwd: root,
      env: environment,
    });
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    const [code] = (await once(child, 'close')) as [number | null];
    check(code === 0, `"${parts.join(' ')}" succeeds (exit code ${String(code)})`);
    return text;
  }

  const list = async (): Promise<NodeView[]> => JSON.parse(await ask('nodes', 'list', '--all')) as NodeView[];

  const stage: Stage = {
    ...{ inFolder, say, whisper, rollcall, ask, list },
    heading(title, sentence) {
      step += 1;
      say(`\n${bold(`${step}. ${title}`)}\n${sentence}`);
    },
    script: (name, ...parts) => show(`npm run ${name} --`, ['--import=tsx', scriptFile(name)], parts),
    async waitFor(name, status) {
      const until = performance.now() + deadlineMs;
      for (;;) {
        const node = (await list()).find(each => each.name === name);
        if (node?.status === status) return node;
        const found = `${node?.status ?? 'unknown'}: ${node?.reason ?? ''}`;
        check(performance.now() < until, `${name} becomes ${status} (it is ${found})`);
      }
    },
    async startLink({ at, more = [] } = {}) {
      const link = await startLinkProcess({
        certificates: inFolder('certificates'),
        dataDir: inFolder('link'),
        ...(at && { node: at.node, control: at.control }),
        more: ['--trust-domain', 'demo.example', ...more],
      });
      running.add(link.running);
      whisper(`nodes at ${link.node}, operators at ${link.control}, trust domain demo.example`);
      return link;
    },
    async logIn(link) {
      await writeFile(inFolder('password'), `${randomBytes(18).toString('base64url')}\n`, { mode: 0o600 });
      await rollcall(
        ...['login', '--setup', '--setup-code-file', inFolder('link/setup-code'), '--user', 'ada'],
        ...['--password-file', inFolder('password')],
        ...['--control', link.control, '--root-certificates', inFolder('certificates/ca.crt')],
      );
    },
    startNode(link, { name, key, nodeConfig, more = [] }) {
      const node = startRollcall([
        ...['node', '--link', link.node, '--root-certificates', inFolder('certificates/ca.crt')],
        ...['--auth-private-key', inFolder(key), '--state-dir', inFolder('state', name)],
        ...(nodeConfig === undefined ? [] : ['--node-config', nodeConfig]),
        ...more,
      ]);
      running.add(node);
      return node;
    },
    async stop(process, signal) {
      await process.stop(signal);
      running.delete(process);
    },
  };
  return { stage, stepOf: () => step };
}

/** `digits:split` is of the example digits, all others are of this folder. */
function scriptFile(name: string): string {
  const [example, script] = name.split(':');
  return script === undefined
    ? join(root, 'scripts', `${name}.ts`)
    : join(root, 'examples', example ?? '', `${script}.ts`);
}

/** As somebody would type it, in the folder of the story. */
function short(part: string, folder: string): string {
  const path = part.replace(`${folder}/`, '');
  return path.includes(' ') ? `"${path}"` : path;
}

function say(text: string): void {
  console.log(text);
}

function whisper(text: string): void {
  say(colour ? `\x1b[2m${text}\x1b[0m` : text);
}

function bold(text: string): string {
  return colour ? `\x1b[1m${text}\x1b[0m` : text;
}
