/**
 * The app host runs under a user of its own. It holds a connection to the socket of a link or an agent, starts and ends
 * runners by its orders, and reports what they write and how they end. A lost connection is opened again, without end;
 * runners live on meanwhile, and end with this process.
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
import type { RunnerExit, RunnerOrder } from './hosting.js';
import { createOutbox } from './outbox.js';
import type { RunnerPrograms } from './runner-programs.js';
import { spawnRunner, type Environment, type RunnerProcess } from './spawn-runner.js';
import { isRunId, protocolVersion, peerLimits } from './accept-peers.js';

export interface SupervisorOptions {
  readonly socketPath: string;
  /** Authenticates the app host on the socket. */
  readonly hostKey: string;
  readonly programs: RunnerPrograms;
  /** Runners receive its PATH, LANG and TZ. */
  readonly environment?: Environment | undefined;
  readonly clock: Clock;
  readonly log: Log;
  /** Ends it, and all its runners. */
  readonly signal: AbortSignal;
}

const firstPauseMs = 100;
const maxPauseMs = 5_000;

/** Resolves after the signal, once every runner has ended. */
export function runSupervisor(options: SupervisorOptions): Promise<void> {
  return new Supervisor(options).run();
}

class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #outbox = createOutbox();
  readonly #processes = new Map<string, RunnerProcess>();

  constructor(options: SupervisorOptions) {
    this.#options = options;
  }

  async run(): Promise<void> {
    const { clock, log, signal } = this.#options;
    let pauseMs = firstPauseMs;
    let lastTrouble = '';
    while (!signal.aborted) {
      try {
        await this.#superviseOnce();
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
    const children = [...this.#processes.values()];
    for (const child of children) child.kill(endNotes.hostEnds);
    await Promise.all(children.map(({ exited }) => exited));
  }

  /** Resolves when the connection is over; throws when it was refused. */
  async #superviseOnce(): Promise<void> {
    const { socketPath, log, signal } = this.#options;
    const connection = new FrameConnection(await connect(socketPath));
    const forget = onAbort(signal, () => connection.destroy());
    const seen = { welcome: false, bye: 'connection closed' };
    try {
      await new Promise<void>(resolve => {
        connection.onClose(resolve);
        connection.onFrame(frame => {
          if (frame.name === 'bye') seen.bye = readBye(frame);
          else if (seen.welcome) this.#take(frame);
          else if (frame.name === 'welcome') {
            seen.welcome = true;
            log.info({ socketPath }, 'connected');
            this.#outbox.connect(connection);
          }
        });
        this.#introduce(connection);
      });
    } finally {
      forget();
    }
    if (signal.aborted) return;
    if (!seen.welcome) throw new RollcallError('LINK_UNREACHABLE', `refused: ${seen.bye}`);
    log.warn({ reason: seen.bye }, 'disconnected');
  }

  #introduce(connection: FrameConnection): void {
    const runs = [...new Set([...this.#processes.keys(), ...this.#outbox.unreported()])];
    connection.send('supervise', { protocol: protocolVersion, key: this.#options.hostKey, runs });
  }

  #take({ name, value }: Frame): void {
    if (name === 'start') this.#start(parseOrder(value));
    else if (name === 'stop' && typeof value['run'] === 'string')
      this.#processes.get(value['run'])?.kill(endNotes.stopped);
  }

  #start(order: RunnerOrder): void {
    const { run, half, language } = order;
    const { socketPath, log } = this.#options;
    if (this.#processes.has(run)) {
      log.warn({ run }, 'ignored a second order to start a runner');
      return;
    }
    if (this.#processes.size >= peerLimits.runs) {
      const note = `an app host runs at most ${peerLimits.runs} runners`;
      this.#outbox.exited(run, { code: null, signal: null, note });
      return;
    }
    log.info({ run, half, language }, 'a runner starts');
    const child = spawnRunner(order, socketPath, this.#options, (stream, text) =>
      this.#outbox.output(run, stream, text),
    );
    this.#processes.set(run, child);
    void child.exited.then(exit => {
      this.#processes.delete(run);
      log.info({ run, ...shownExit(exit) }, 'a runner has ended');
      this.#outbox.exited(run, exit);
    });
  }
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

/** At the end of a run its runner is stopped by a signal, which is not shown, since nothing crashed. */
function shownExit({ code, signal, note }: RunnerExit): object {
  if (note === endNotes.stopped) return { note };
  return { code, signal, ...(note !== '' && { note }) };
}

const minMemoryBytes = 1024 * 1024;
const maxMemoryBytes = 2 ** 44;

/** PROTOCOL_INVALID for an invalid order. */
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
  throw new RollcallError('PROTOCOL_INVALID', 'invalid order to start a runner');
}

function readBye({ value }: Frame): string {
  return visibleText(typeof value['message'] === 'string' ? value['message'] : '');
}
