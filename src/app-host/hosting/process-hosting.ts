/**
 * Runners under another user: a supervisor, `rollcall app-host`, connects to our socket, starts what it is told to, and tells
 * what becomes of it. Runners live on when this process ends, and come back to the socket. What the supervisor says is
 * bounded and made harmless here again: it runs beside apps, as their user.
 */
import { createExpectedRunners, type ExpectedRunner } from './expected-runners.js';
import type { Frame, FrameConnection } from '../wire/frames.js';
import { endNotes, type HostingOptions } from './hosting-options.js';
import type { Hosting, RunnerExit, RunnerHandler, RunnerOrder } from './hosting.js';
import { isHostKey } from './host-key.js';
import { hashToken } from '../wire/token-hash.js';
import { createLineLimit, makeHarmless, outputLimits } from './runner-output.js';
import { listenInClosedFolder } from './runner-socket.js';
import { createVisitors, protocolVersion } from './accept-peers.js';

/** A supervisor that does not answer a stop for so long is taken not to know the runner. */
const stopWithinMs = 10_000;
const tellRefusedEveryMs = 60_000;
/** It bounds lines itself; more come only after it was away. */
const linesPerSecond = 4 * outputLimits.linesPerSecond;

export async function createProcessHosting({
  socketPath,
  hostKey,
  clock,
  log,
  held = false,
}: Omit<HostingOptions, 'isolation'> & {
  readonly socketPath: string;
  readonly hostKey: string;
}): Promise<Hosting> {
  const runners = createExpectedRunners(clock);
  const outputs = new WeakMap<ExpectedRunner, ReturnType<typeof createLineLimit>>();
  /** Orders that no supervisor was given. */
  const waiting = new Map<string, RunnerOrder>();
  /** Orders that were given and of whose runner nothing was heard: what a supervisor was told as it ended may be lost. */
  const unheard = new Map<string, RunnerOrder>();
  /** Runs whose order was lost once; a second time it is their runner that ends the supervisor. */
  const lostOnce = new WeakSet<RunnerOrder>();
  /** Runs whose runner is being ended, and why. */
  const stopping = new Map<string, string>();
  /** Runners of the supervisor that nobody waits for; a new one of the run is ordered when they are gone. */
  let leftovers = new Set<string>();
  let supervisor: FrameConnection | undefined;
  const readyListeners: (() => void)[] = [];
  let closing: Promise<void> | undefined;
  let refusedAt = -Infinity;

  const visitors = createVisitors({
    clock,
    log,
    onRunner(tokenHash, connection) {
      const run = runners.connect(tokenHash, connection);
      if (run !== undefined) unheard.delete(run);
      return run !== undefined;
    },
    onSupervisor,
  });

  function add(run: string, tokenHash: string, handler: RunnerHandler): ExpectedRunner {
    const runner = runners.add(run, tokenHash, handler);
    const tell = handler.onOutput.bind(handler);
    outputs.set(runner, createLineLimit(clock, tell, linesPerSecond));
    return runner;
  }

  function end(runner: ExpectedRunner, exit: RunnerExit): void {
    waiting.delete(runner.run);
    unheard.delete(runner.run);
    stopping.delete(runner.run);
    outputs.get(runner)?.end();
    runner.end(exit);
  }

  function endUnseen(runner: ExpectedRunner, note: string): void {
    end(runner, { code: null, signal: null, note });
  }

  function orderIfPossible(run: string): void {
    const order = waiting.get(run);
    if (!order || !supervisor || leftovers.has(run)) return;
    waiting.delete(run);
    unheard.set(run, order);
    supervisor.send('start', order);
  }

  /** For what a new supervisor does not have. */
  function orderAgainOrEnd(runner: ExpectedRunner): void {
    const order = unheard.get(runner.run);
    if (order && !lostOnce.has(order)) {
      lostOnce.add(order);
      waiting.set(runner.run, order);
    } else if (!waiting.has(runner.run)) endUnseen(runner, endNotes.hostRestarted);
  }

  function onSupervisor(
    connection: FrameConnection,
    key: unknown,
    runs: readonly string[],
  ): string | undefined {
    if (!isHostKey(key, hostKey)) {
      tellRefused();
      return 'this is not the key of this socket';
    }
    if (supervisor) return 'there is a supervisor already';
    supervisor = connection;
    connection.onFrame(takeFrame);
    connection.onClose(supervisorLeft);
    connection.send('welcome', { protocol: protocolVersion });
    log.info({ runners: runs.length }, 'an app host has connected');
    leftovers = new Set(runs.filter(run => waiting.has(run) || !runners.find(run)));
    for (const run of leftovers) connection.send('stop', { run });
    const listed = new Set(runs);
    for (const runner of runners.all()) if (!listed.has(runner.run)) orderAgainOrEnd(runner);
    for (const run of waiting.keys()) orderIfPossible(run);
    for (const listener of readyListeners) listener();
    return undefined;
  }

  /** Now and then: whoever knocks does not decide how much is logged. */
  function tellRefused(): void {
    if (clock.elapsed() - refusedAt < tellRefusedEveryMs) return;
    refusedAt = clock.elapsed();
    log.warn({ socketPath }, 'a process without the key of this socket wanted to be its app host');
  }

  function supervisorLeft(): void {
    supervisor = undefined;
    if (closing) return;
    log.warn({}, 'the app host has disconnected');
    for (const [run, note] of [...stopping]) {
      const runner = runners.find(run);
      if (runner) endUnseen(runner, note);
    }
  }

  function takeFrame({ name, value }: Frame): void {
    const { run } = value;
    if (typeof run !== 'string') return;
    const runner = waiting.has(run) ? undefined : runners.find(run);
    if (name === 'output' && runner && !leftovers.has(run)) {
      const { stream, text } = value;
      if ((stream !== 'stdout' && stream !== 'stderr') || typeof text !== 'string') return;
      unheard.delete(run);
      outputs.get(runner)?.take(stream, () => makeHarmless(text));
    } else if (name === 'exited') {
      if (leftovers.delete(run)) orderIfPossible(run);
      else if (runner) end(runner, readExit(value, stopping.get(run)));
    }
  }

  function stop(run: string, note = endNotes.stopped): void {
    const runner = runners.find(run);
    if (!runner || stopping.has(run)) return;
    if (waiting.has(run) || !supervisor) {
      endUnseen(runner, note);
      return;
    }
    stopping.set(run, note);
    supervisor.send('stop', { run });
    const patience = clock.after(stopWithinMs, () => {
      leftovers.add(run);
      endUnseen(runner, note);
    });
    void runner.ended.then(() => patience.cancel());
  }

  await listenInClosedFolder(visitors.server, socketPath);
  if (!held) visitors.open();

  return {
    isolation: 'process',
    isReady: () => supervisor !== undefined,
    onReady: listener => void readyListeners.push(listener),
    open: () => visitors.open(),
    start(order, handler) {
      const runner = add(order.run, hashToken(order.token), handler);
      if (closing) {
        endUnseen(runner, endNotes.closed);
        return;
      }
      waiting.set(order.run, order);
      orderIfPossible(order.run);
    },
    expect(run, tokenHash, handler) {
      const runner = add(run, tokenHash, handler);
      // What the supervisor has was gone through when it connected.
      if (supervisor) endUnseen(runner, endNotes.hostRestarted);
    },
    stop,
    socketPath,
    close: () => (closing ??= visitors.close()),
  };
}

function readExit({ code, signal, note }: Frame['value'], ourNote: string | undefined): RunnerExit {
  return {
    code: typeof code === 'number' ? code : null,
    signal: typeof signal === 'string' ? makeHarmless(signal).slice(0, 20) : null,
    note: ourNote ?? (typeof note === 'string' ? makeHarmless(note).slice(0, 200) : ''),
  };
}
