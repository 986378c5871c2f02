/**
 * The runner of JavaScript halves, as a process of its own: `node runner.js SOCKET`, with a token on standard input. It holds
 * the app of one run and speaks docs/app-host-protocol.md; its parent may end it at any time, and its end takes it along.
 */
import { closeSync, fstatSync, readdirSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { systemClock } from '../../base/clock.js';
import { RollcallError, toRollcallError } from '../../base/errors.js';
import type { ServerMain } from '../../app/app.js';
import type { FrameConnection } from '../wire/frames.js';
import { loadNodeHalf, loadServerHalf, unpackApp, type AppFolder } from './app.js';
import { openRunnerConnection, type RunnerConnection } from './connection.js';
import { NodeHalfRunner } from './node-half.js';
import { ServerHalfRunner } from './server-half.js';

const exitCodes = { over: 0, failed: 1, usage: 2 } as const;
const lastWordsMs = 1_000;

interface StandardInput {
  readonly token: Promise<string>;
}

/**
 * Anyone who started this process may have files open that children inherit, such as those of a store (LevelDB does not mark its
 * files). Nothing of this process is a file yet.
 */
function closeInheritedFiles(): void {
  try {
    for (const number of readdirSync('/proc/self/fd').map(Number))
      if (number > 2 && isFile(number)) closeSync(number);
  } catch {
    // There is no /proc here.
  }
}

function isFile(number: number): boolean {
  try {
    const status = fstatSync(number);
    return status.isFile() || status.isDirectory() || status.isBlockDevice();
  } catch {
    return false;
  }
}

/** Ends the process when the input ends. */
function watchStandardInput(): StandardInput {
  const watch = new Worker(new URL('watch.js', import.meta.url), {
    env: {},
    argv: [],
    resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 4 },
  });
  watch.on('error', () => process.exit(exitCodes.failed));
  const token = new Promise<string>(resolve => {
    watch.on('message', ({ token, isGone }: { token?: string; isGone?: boolean }) => {
      if (token !== undefined) resolve(token);
      if (isGone === true) process.exit(exitCodes.over);
    });
  });
  return { token };
}

async function run(socketPath: string): Promise<void> {
  const token = await watchStandardInput().token;
  const open = (): Promise<RunnerConnection> => openRunnerConnection(socketPath, token);
  const opened = await open();
  const folder = await unpackApp(opened.archive);
  process.on('exit', () => folder.remove());
  await (opened.welcome.half === 'node' ? runNode(opened, folder) : runServer(opened, folder, open));
}

/** An error that the app does not handle ends the process; the agent reports it as the failure of the message. */
async function runNode({ connection, welcome, state }: RunnerConnection, folder: AppFolder): Promise<void> {
  const handlers = await loadNodeHalf(folder, welcome.app.entry).catch((error: unknown) =>
    toRollcallError(error),
  );
  if (handlers instanceof RollcallError) {
    connection.send('failed', { message: handlers.message });
    await untilClosed(connection);
    throw handlers;
  }
  const runner = new NodeHalfRunner({
    connection,
    welcome,
    state,
    handlers: handlers.handlers,
    folder: folder.path,
    clock: systemClock,
  });
  await runner.run();
}

/** For the last frame to be read. */
function untilClosed(connection: FrameConnection): Promise<void> {
  connection.onFrame(() => undefined);
  return new Promise(resolve => {
    connection.onClose(resolve);
    systemClock.after(lastWordsMs, resolve);
  });
}

async function runServer(
  { connection, welcome }: RunnerConnection,
  folder: AppFolder,
  open: () => Promise<RunnerConnection>,
): Promise<void> {
  const load = async (): Promise<ServerMain> => (await loadServerHalf(folder, welcome.app.entry)).main;
  const runner = new ServerHalfRunner({
    connection,
    welcome,
    open,
    load,
    folder: folder.path,
    clock: systemClock,
  });
  const ended = runner.run();
  process.on('uncaughtException', error => runner.fail(error));
  process.on('unhandledRejection', error => runner.fail(error));
  await ended;
}

const [socketPath, ...more] = process.argv.slice(2);
if (socketPath === undefined || more.length > 0) {
  process.stderr.write('error: usage: runner.js SOCKET, with the token on standard input\n');
  process.exit(exitCodes.usage);
}
closeInheritedFiles();
try {
  await run(socketPath);
  process.exit(exitCodes.over);
} catch (error) {
  process.stderr.write(`error: ${toRollcallError(error).message}\n`);
  process.exit(exitCodes.failed);
}
