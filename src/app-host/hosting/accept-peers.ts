/**
 * Who comes to a socket of app hosts, and as what: by the first frame a runner, known by the hash of its token, or a
 * supervisor. What says nothing, something else, or is too much is sent away.
 */
import { createServer, type Server, type Socket } from 'node:net';
import type { Clock } from '../../base/clock.js';
import type { Log } from '../../base/log.js';
import { type Frame, FrameConnection } from '../wire/frames.js';
import { hashToken } from '../wire/token-hash.js';

export const protocolVersion = 1;
export const visitorLimits = {
  unnamed: 256,
  speakWithinMs: 5_000,
  leaveWithinMs: 5_000,
  /** As many as a supervisor has. */
  runs: 1_000,
  /** Of the frame that says who connects: a supervisor with all its runs, and nothing with a body. */
  firstFrame: { headBytes: 32 * 1024, bodyBytes: 0 },
} as const;

export interface VisitorsOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** Gives false for a token that is not known. */
  readonly onRunner: (tokenHash: string, connection: FrameConnection) => boolean;
  /** Gives why it is sent away, or undefined. */
  readonly onSupervisor: (
    connection: FrameConnection,
    key: unknown,
    runs: readonly string[],
  ) => string | undefined;
}

export interface Visitors {
  readonly server: Server;
  /** Visitors wait at the door until then. */
  open(): void;
  /** Sends everybody away, and listens no more. */
  close(): Promise<void>;
}

/** Makes the server; where it listens is for the caller. */
export function createVisitors({ clock, log, onRunner, onSupervisor }: VisitorsOptions): Visitors {
  const connections = new Set<FrameConnection>();
  const unnamed = new Set<FrameConnection>();
  let isOpen = false;

  const server = createServer((socket: Socket) => {
    socket.on('error', () => undefined);
    if (unnamed.size >= visitorLimits.unnamed) {
      socket.destroy();
      return;
    }
    const connection = new FrameConnection(socket, visitorLimits.firstFrame);
    connections.add(connection);
    unnamed.add(connection);
    connection.onClose(() => {
      connections.delete(connection);
      unnamed.delete(connection);
    });
    if (isOpen) letIn(connection);
  });

  function letIn(connection: FrameConnection): void {
    const silence = clock.after(visitorLimits.speakWithinMs, () => sendAway(connection, 'nothing was said'));
    connection.onClose(() => silence.cancel());
    connection.onFrame(frame => {
      if (!unnamed.delete(connection)) return;
      silence.cancel();
      connection.allowLongFrames();
      const objection = identify(connection, frame);
      if (objection !== undefined) sendAway(connection, objection);
    });
  }

  /** Gives why it is sent away, or undefined. */
  function identify(connection: FrameConnection, { name, value }: Frame): string | undefined {
    if (name !== 'run' && name !== 'supervise') return 'expected "run" or "supervise" as the first frame';
    if (value['protocol'] !== protocolVersion)
      return `only protocol ${protocolVersion} of app hosts is spoken here`;
    if (name === 'supervise') {
      const runs = parseRuns(value['runs']);
      return runs ? onSupervisor(connection, value['key'], runs) : 'the list of runs has the wrong form';
    }
    const { token } = value;
    const isKnown = typeof token === 'string' && onRunner(hashToken(token), connection);
    return isKnown ? undefined : 'no run is known by this token';
  }

  function sendAway(connection: FrameConnection, why: string): void {
    log.debug({ why }, 'a visitor was sent away');
    connection.bye(why);
    const patience = clock.after(visitorLimits.leaveWithinMs, () => connection.destroy());
    connection.onClose(() => patience.cancel());
  }

  return {
    server,
    open() {
      if (isOpen) return;
      isOpen = true;
      for (const connection of unnamed) letIn(connection);
    },
    async close() {
      const closed = new Promise<void>(resolve => void server.close(() => resolve()));
      for (const connection of connections) connection.destroy();
      await closed;
    },
  };
}

function parseRuns(value: unknown): readonly string[] | undefined {
  if (value === undefined) return [];
  if (!Array.isArray(value) || value.length > visitorLimits.runs) return undefined;
  const isRun = (each: unknown): each is string => typeof each === 'string' && isRunId(each);
  return value.every(isRun) ? value : undefined;
}

/** Decimal, as in every frame. */
export function isRunId(text: string): boolean {
  return /^[1-9][0-9]{0,19}$/.test(text);
}
