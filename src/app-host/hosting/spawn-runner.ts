/**
 * One runner as a process: started with a clean environment and a folder of its own, heard, held to its memory, and ended with
 * all it has started. The token goes in on standard input, which stays open as long as this process lives: its end tells
 * the runner that we are gone. What leaves its process group on purpose is not caught; separate users and containers are for that.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '../../base/clock.js';
import { systemErrorCode } from '../../base/errors.js';
import { refusalOf } from '../../base/system-error.js';
import type { Language, RunnerExit, RunnerOrder } from './hosting.js';
import { readFamily, watchMemory } from './memory-limit.js';
import { readOutput, type OnOutput } from './runner-output.js';
import type { RunnerPrograms } from './runner-programs.js';

export type Environment = Readonly<Record<string, string | undefined>>;

export interface RunnerSurroundings {
  readonly programs: RunnerPrograms;
  /** PATH, LANG and TZ of it go to runners, and nothing else. */
  readonly environment?: Environment | undefined;
  readonly clock: Clock;
}

export interface RunnerProcess {
  /** Ends it with all it has started. The first note is the one that is told. */
  kill(note: string): void;
  /** When it is gone and all it wrote has been told. Never rejects. */
  readonly exited: Promise<RunnerExit>;
}

const defaultPath = '/usr/local/bin:/usr/bin:/bin';
const mebibyte = 1024 * 1024;
/** For how long the output of a process that is gone is waited for; somebody else may hold its end. */
const lastWordsMs = 1_000;

/** Starts one. What goes wrong is told by `exited`. */
export function spawnRunner(
  order: RunnerOrder,
  socketPath: string,
  around: RunnerSurroundings,
  onOutput: OnOutput,
): RunnerProcess {
  let folder: string | undefined;
  try {
    folder = mkdtempSync(join(tmpdir(), 'rollcall-runner-'));
    return follow(startProcess(order, socketPath, around, folder), folder, order, around.clock, onOutput);
  } catch (error) {
    if (folder !== undefined) void removeFolder(folder);
    const note = `it could not be started: ${reasonOf(error)}`;
    return { kill: () => undefined, exited: Promise.resolve({ code: null, signal: null, note }) };
  }
}

type PipedProcess = ChildProcess & { stdin: object; stdout: object; stderr: object };

function startProcess(
  { language, memoryBytes, token }: RunnerOrder,
  socketPath: string,
  { programs, environment = {} }: RunnerSurroundings,
  folder: string,
): PipedProcess {
  const { command, args } = commandOf(language, memoryBytes, programs);
  const child = spawn(command, [...args, socketPath], {
    env: {
      ...cleanEnvironment(environment, folder),
      ...(language === 'python' ? { ROLLCALL_APP_MEMORY_BYTES: String(memoryBytes) } : {}),
    },
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  child.stdin.on('error', () => undefined);
  child.stdin.write(`${token}\n`);
  return child;
}

/** The heap gets three quarters, so that it is cleared before the process as a whole holds too much. */
function commandOf(
  language: Language,
  memoryBytes: number,
  programs: RunnerPrograms,
): { command: string; args: string[] } {
  if (language === 'python') return { command: 'python3', args: ['-u', programs.python] };
  const heapMebibytes = Math.max(16, Math.floor((memoryBytes / mebibyte) * 0.75));
  return { command: process.execPath, args: [`--max-old-space-size=${heapMebibytes}`, programs.node] };
}

function cleanEnvironment(environment: Environment, folder: string): Record<string, string> {
  const { PATH = defaultPath, LANG, TZ } = environment;
  const kept = { PATH, HOME: folder, TMPDIR: folder, LANG, TZ };
  return Object.fromEntries(
    Object.entries(kept).filter((pair): pair is [string, string] => pair[1] !== undefined),
  );
}

function follow(
  child: PipedProcess,
  folder: string,
  order: RunnerOrder,
  clock: Clock,
  onOutput: OnOutput,
): RunnerProcess {
  const { pid } = child;
  let note = '';
  let isGone = false;
  let heapWasFull = false;

  function kill(why: string): void {
    // Its number may be somebody else's by now.
    if (isGone) return;
    if (note === '') note = why;
    if (pid !== undefined) void endFamily(pid, () => isGone);
  }

  const tooMuch = `it used more than ${Math.floor(order.memoryBytes / mebibyte)} MiB of memory`;
  const output = readOutput({ stdout: child.stdout, stderr: child.stderr }, clock, (stream, text) => {
    if (stream === 'stderr' && text.includes('JavaScript heap out of memory')) heapWasFull = true;
    onOutput(stream, text);
  });
  const stopWatching =
    pid === undefined ? undefined : watchMemory(pid, order.memoryBytes, clock, () => kill(tooMuch));

  async function finish(exit: Omit<RunnerExit, 'note'>): Promise<RunnerExit> {
    isGone = true;
    stopWatching?.();
    endGroup(pid);
    await Promise.race([output.ended, pause(clock, lastWordsMs)]);
    output.end();
    await Promise.race([removeFolder(folder), pause(clock, lastWordsMs)]);
    const ended = exit.code === 134 || exit.signal === 'SIGABRT';
    return { ...exit, note: note === '' && heapWasFull && ended ? tooMuch : note };
  }

  const gone = new Promise<Omit<RunnerExit, 'note'>>(resolve => {
    child.once('exit', (code, signal) => resolve({ code, signal }));
    child.once('error', error => {
      // A process that runs has errors of its own, such as a signal that could not be sent.
      if (pid !== undefined) return;
      note = failureNote(error, order.language);
      resolve({ code: null, signal: null });
    });
  });
  return { kill, exited: gone.then(finish) };
}

function pause(clock: Clock, ms: number): Promise<void> {
  return new Promise(resolve => void clock.after(ms, resolve));
}

function failureNote(error: Error, language: Language): string {
  return language === 'python' && systemErrorCode(error) === 'ENOENT'
    ? 'python3 is not there, which the app is written for'
    : `it could not be started: ${reasonOf(error)}`;
}

function reasonOf(error: unknown): string {
  return refusalOf(systemErrorCode(error) ?? 'unknown').reason;
}

/** The group, and what has left it but still has its parent. */
async function endFamily(pid: number, isGone: () => boolean): Promise<void> {
  const [, ...started] = await readFamily(pid);
  if (!isGone()) endGroup(pid);
  for (const each of started) endProcess(each);
}

function endProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // Gone already, with the group.
  }
}

/** All that is left of a group; nothing when nothing is. */
function endGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // Gone already.
  }
}

/** Removes the files that the app left; a failure has no effect. */
async function removeFolder(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true, maxRetries: 2 }).catch(() => undefined);
}
