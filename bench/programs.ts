/** The processes of the bench: each one started is known by its id, and ended with the bench, however it ends. */
import { fork, spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { residentKib, sleep } from './usage.js';

export interface Program {
  readonly process: ChildProcess;
  readonly pid: number;
  readonly exited: Promise<void>;
  /** Ends it and waits until it is gone. */
  stop(signal?: NodeJS.Signals): Promise<void>;
}

const running = new Set<ChildProcess>();
process.on('exit', () => running.forEach(child => child.kill('SIGKILL')));

/** Starts a command; its standard error goes to a file. */
export function startProgram(
  command: string,
  words: readonly string[],
  options: { readonly logFile: string; readonly environment?: Readonly<Record<string, string>> },
): Program {
  const log = openSync(options.logFile, 'a', 0o600);
  const spawnOptions: SpawnOptions = {
    stdio: ['ignore', 'ignore', log],
    env: { ...cleanEnvironment(), ...options.environment },
  };
  try {
    return watched(spawn(command, words, spawnOptions));
  } finally {
    closeSync(log);
  }
}

/** Starts a module of the bench, in TypeScript, with a channel to it. */
export function startModule(
  path: string,
  nodeFlags: readonly string[] = [],
  environment: Readonly<Record<string, string>> = {},
): Program {
  const module = join(import.meta.dirname, path);
  const execArgv = ['--import=tsx', '--expose-gc', `--import=${probe}`, ...nodeFlags];
  const env = { ...cleanEnvironment(), ...environment };
  return watched(fork(module, { execArgv, serialization: 'advanced', env }));
}

/** Makes a Node.js process collect its garbage on demand. */
export const probe = join(import.meta.dirname, 'probe.js');

function watched(child: ChildProcess): Program {
  running.add(child);
  const exited = once(child, 'exit').then(() => void running.delete(child));
  exited.catch(() => running.delete(child));
  if (child.pid === undefined) throw new Error('a process of the bench did not start');
  return {
    process: child,
    pid: child.pid,
    exited,
    stop(signal = 'SIGTERM') {
      child.kill(signal);
      return exited;
    },
  };
}

/** Without variables that would configure a link or an agent. */
export function cleanEnvironment(): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('ROLLCALL_')));
}

/** Waits until something listens there. */
export async function untilListening(port: number, program: Program, withinMs = 60_000): Promise<void> {
  const deadline = Date.now() + withinMs;
  while (!(await isListening(port))) {
    const { exitCode, signalCode } = program.process;
    if (exitCode !== null || signalCode !== null || Date.now() > deadline) {
      throw new Error(`nothing listens on port ${port}: the process has ended or takes too long`);
    }
    await sleep(2);
  }
}

function isListening(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect({ host: '127.0.0.1', port });
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

/**
 * Resident memory once things are quiet, KiB; in a process with the probe, once garbage is collected and freed pages
 * are given back.
 */
export async function settledKib(program: Program, hasProbe: boolean, isQuick = false): Promise<number> {
  for (const pauseMs of isQuick ? [50] : [500, 700]) {
    await sleep(pauseMs);
    // To any other process the signal may mean anything: nats-server shuts down.
    if (hasProbe) program.process.kill('SIGUSR2');
  }
  await sleep(isQuick ? 50 : 500);
  return residentKib(program.pid);
}
