/**
 * The app host: under a user of its own it holds a connection to the socket of a link or an agent, starts and ends runners as it
 * is told, and tells what they write and how they end. When the connection is lost it comes back, for ever; runners live on
 * meanwhile, and end with this process.
 */
import { createConnection, type Socket } from 'node:net';
import type { Clock } from '../../base/clock.js';
import { RollcallError, systemErrorCode, toRollcallError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import { refusalOf } from '../../base/system-error.js';
import { visibleText } from '../../base/text.js';
import { onAbort, sleep } from '../../base/wait.js';
import { type Frame, FrameConnection } from '../wire/frames.js';
import { endNotes } from './hosting-options.js';
import type { RunnerExit } from './hosting.js';
import type { RunnerOrder } from './hosting.js';
import { createOutbox } from './outbox.js';
import type { RunnerPrograms } from './runner-programs.js';
import { spawnRunner, type Environment, type RunnerProcess } from './spawn-runner.js';
import { isRunId, protocolVersion, visitorLimits } from './accept-peers.js';

export interface SupervisorOptions {
  readonly socketPath: string;
  /** What it shows there. */
  readonly hostKey: string;
  readonly programs: RunnerPrograms;
  /** PATH, LANG and TZ of it go to runners. */
  readonly environment?: Environment | undefined;
  readonly clock: Clock;
  readonly log: Log;
  /** Ends it, and all its runners. */
  readonly signal: AbortSignal;
}

const firstPauseMs = 100;
const maxPauseMs = 5_000;

/** Resolves when it was told to end and every runner is gone. */
export async function runSupervisor(options: SupervisorOptions): Promise<void> {
  const { socketPath, clock, log, signal } = options;
  const outbox = createOutbox();
  const processes = new Map<string, RunnerProcess>();

  function start(order: RunnerOrder): void {
    const { run, half, language } = order;
    if (processes.has(run)) {
      log.warn({ run }, 'a runner was to be started twice');
      return;
    }
    if (processes.size >= visitorLimits.runs) {
      outbox.exited(run, {
        code: null,
        signal: null,
        note: `${visitorLimits.runs} runners are there already`,
      });
      return;
    }
    log.info({ run, half, language }, 'a runner starts');
    const child = spawnRunner(order, socketPath, options, (stream, text) => outbox.output(run, stream, text));
    processes.set(run, child);
    void child.exited.then(exit => {
      processes.delete(run);
      log.info({ run, ...shownExit(exit) }, 'a runner has ended');
      outbox.exited(run, exit);
    });
  }

  function take({ name, value }: Frame): void {
    if (name === 'start') start(parseOrder(value));
    else if (name === 'stop' && typeof value['run'] === 'string')
      processes.get(value['run'])?.kill(endNotes.stopped);
  }

  /** Resolves when the connection is over; throws when it was not let in. */
  async function superviseOnce(): Promise<void> {
    const connection = new FrameConnection(await connect(socketPath));
    const forget = onAbort(signal, () => connection.destroy());
    const seen = { welcome: false, bye: 'connection closed' };
    try {
      await new Promise<void>(resolve => {
        connection.onClose(resolve);
        connection.onFrame(frame => {
          if (frame.name === 'bye') seen.bye = readBye(frame);
          else if (seen.welcome) take(frame);
          else if (frame.name === 'welcome') {
            seen.welcome = true;
            log.info({ socketPath }, 'connected');
            outbox.connect(connection);
          }
        });
        introduce(connection);
      });
    } finally {
      forget();
    }
    if (signal.aborted) return;
    if (!seen.welcome) throw new RollcallError('LINK_UNREACHABLE', `refused: ${seen.bye}`);
    log.warn({ reason: seen.bye }, 'disconnected');
  }

  function introduce(connection: FrameConnection): void {
    const runs = [...new Set([...processes.keys(), ...outbox.untold()])];
    connection.send('supervise', { protocol: protocolVersion, key: options.hostKey, runs });
  }

  let pauseMs = firstPauseMs;
  let lastTrouble = '';
  while (!signal.aborted) {
    try {
      await superviseOnce();
      pauseMs = firstPauseMs;
      lastTrouble = '';
    } catch (error) {
      const { message } = toRollcallError(error);
      if (message !== lastTrouble) log.warn({ reason: message }, 'cannot connect; trying again');
      lastTrouble = message;
    }
    await sleep(clock, pauseMs, signal);
    pauseMs = Math.min(maxPauseMs, pauseMs * 2);
  }
  for (const child of processes.values()) child.kill(endNotes.hostEnds);
  await Promise.all([...processes.values()].map(({ exited }) => exited));
}

function connect(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    const fail = (error: Error): void => {
      const code = systemErrorCode(error) ?? 'unknown';
      const reason = code === 'ECONNREFUSED' ? 'nothing listens there' : refusalOf(code).reason;
      reject(new RollcallError('LINK_UNREACHABLE', `cannot connect to ${path}: ${reason}`, { cause: error }));
    };
    socket.once('error', fail);
    socket.once('connect', () => {
      socket.off('error', fail);
      resolve(socket);
    });
  });
}

/** At the end of a run its runner is stopped by a signal: no crash, so the signal is not shown. */
function shownExit({ code, signal, note }: RunnerExit): object {
  if (note === endNotes.stopped) return { note };
  return { code, signal, ...(note !== '' && { note }) };
}

const minMemoryBytes = 1024 * 1024;
const maxMemoryBytes = 2 ** 44;

/** PROTOCOL_INVALID for what is no order. */
export function parseOrder(value: Frame['value']): RunnerOrder {
  const { run, half, language, token, memoryBytes } = value;
  if (
    typeof run === 'string' &&
    isRunId(run) &&
    (half === 'server' || half === 'node') &&
    (language === 'javascript' || language === 'python') &&
    typeof token === 'string' &&
    /^[0-9a-f]{64}$/.test(token) &&
    typeof memoryBytes === 'number' &&
    Number.isSafeInteger(memoryBytes) &&
    memoryBytes >= minMemoryBytes &&
    memoryBytes <= maxMemoryBytes
  )
    return { run, half, language, token, memoryBytes };
  throw new RollcallError('PROTOCOL_INVALID', 'an order to start a runner has the wrong form');
}

function readBye({ value }: Frame): string {
  return visibleText(typeof value['message'] === 'string' ? value['message'] : '');
}
