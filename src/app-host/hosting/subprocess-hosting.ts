/**
 * Runners as children of this process, with its user's rights: for one machine and one tenant, development and the demo. They
 * end with this process. The socket lies in a folder of its own that only this user can enter.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLifecycle } from '../../base/lifecycle.js';
import { createExpectedRunners } from './expected-runners.js';
import { endNotes, type HostingOptions } from './hosting-options.js';
import type { Hosting, RunnerHandler, RunnerOrder } from './hosting.js';
import { hashToken } from '../wire/token-hash.js';
import { listenInClosedFolder } from './runner-socket.js';
import { spawnRunner, type RunnerProcess } from './spawn-runner.js';
import { createPeerServer } from './accept-peers.js';

export async function createSubprocessHosting(
  options: Omit<HostingOptions, 'isolation' | 'socketPath'>,
): Promise<Hosting> {
  const { clock, log, held = false } = options;
  const runners = createExpectedRunners(clock);
  const processes = new Map<string, RunnerProcess>();
  const lifecycle = createLifecycle();
  let isClosed = false;

  const visitors = createPeerServer({
    clock,
    log,
    onRunner: (tokenHash, connection) => runners.connect(tokenHash, connection) !== undefined,
    onSupervisor: () => 'runners are started here without a supervisor',
  });

  function start(order: RunnerOrder, handler: RunnerHandler): void {
    const runner = runners.add(order.run, hashToken(order.token), handler);
    if (isClosed) {
      runner.end({ code: null, signal: null, note: endNotes.closed });
      return;
    }
    const child = spawnRunner(order, socketPath, options, (stream, text) => handler.onOutput(stream, text));
    processes.set(order.run, child);
    void child.exited.then(exit => {
      processes.delete(order.run);
      log.debug({ run: order.run, ...exit }, 'a runner has ended');
      runner.end(exit);
    });
  }

  async function endAll(): Promise<void> {
    isClosed = true;
    for (const child of processes.values()) child.kill(endNotes.closed);
    await Promise.all(runners.all().map(({ ended }) => ended));
  }

  const folder = await lifecycle.open(
    () => mkdtemp(join(tmpdir(), 'rollcall-apps-')),
    path => rm(path, { recursive: true, force: true }),
  );
  const socketPath = join(folder, 'socket');
  try {
    await listenInClosedFolder(visitors.server, socketPath);
  } catch (error) {
    await lifecycle.close();
    throw error;
  }
  lifecycle.onClose(() => visitors.close());
  lifecycle.onClose(endAll);
  if (!held) visitors.open();

  return {
    isolation: 'subprocess',
    isReady: () => !isClosed,
    // It is ready from the beginning.
    onReady: () => undefined,
    open: () => visitors.open(),
    start,
    expect: (run, tokenHash, handler) =>
      runners.add(run, tokenHash, handler).end({ code: null, signal: null, note: endNotes.parentEnded }),
    stop: (run, note = endNotes.stopped) => processes.get(run)?.kill(note),
    socketPath,
    close: () => lifecycle.close(),
  };
}
