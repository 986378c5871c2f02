/**
 * Accepts peers on a socket of app hosts. The first frame authenticates a runner, by the hash of its token, or a
 * supervisor, by its key. Peers that send nothing or another frame, or are too many, are refused.
 */
import { createServer, type Server, type Socket } from 'node:net';
import type { Clock } from '../../base/clock.js';
import type { Log } from '../../base/log.js';
import { type Frame, FrameConnection } from '../wire/frames.js';
import { hashToken } from '../wire/token-hash.js';

export const protocolVersion = 1;
export const peerLimits = {
  unnamed: 256,
  speakWithinMs: 5_000,
  leaveWithinMs: 5_000,
  /** Of one supervisor, at most. */
  runs: 1_000,
  /** Of the first frame, the longest of which names all runs of a supervisor; none has a body. */
  firstFrame: { headBytes: 32 * 1024, bodyBytes: 0 },
} as const;

export interface PeerServerOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** Gives false for an unknown token. */
  readonly onRunner: (tokenHash: string, connection: FrameConnection) => boolean;
  /** Gives the reason of a refusal, or undefined. */
  readonly onSupervisor: (
    connection: FrameConnection,
    key: unknown,
    runs: readonly string[],
  ) => string | undefined;
}

export interface PeerServer {
  readonly server: Server;
  /** Reads from peers from now on; they wait until then. */
  open(): void;
  /** Disconnects every peer, and stops listening. */
  close(): Promise<void>;
}

/** Makes the server; the caller chooses its address. */
export function createPeerServer({ clock, log, onRunner, onSupervisor }: PeerServerOptions): PeerServer {
  const connections = new Set<FrameConnection>();
  const unnamed = new Set<FrameConnection>();
  let isOpen = false;

  const server = createServer((socket: Socket) => {
    socket.on('error', () => undefined);
    if (unnamed.size >= peerLimits.unnamed) {
      socket.destroy();
      return;
    }
    const connection = new FrameConnection(socket, peerLimits.firstFrame);
    connections.add(connection);
    unnamed.add(connection);
    connection.onClose(() => {
      connections.delete(connection);
      unnamed.delete(connection);
    });
    if (isOpen) greet(connection);
  });

  function greet(connection: FrameConnection): void {
    const silence = clock.after(peerLimits.speakWithinMs, () => refuse(connection, 'no frame came in time'));
    connection.onClose(() => silence.cancel());
    connection.onFrame(frame => {
      if (!unnamed.delete(connection)) return;
      silence.cancel();
      connection.allowLongFrames();
      const objection = identify(connection, frame);
      if (objection !== undefined) refuse(connection, objection);
    });
  }

  /** Gives the reason of a refusal, or undefined. */
  function identify(connection: FrameConnection, { name, value }: Frame): string | undefined {
    if (name !== 'run' && name !== 'supervise') return 'expected "run" or "supervise" as the first frame';
    if (value['protocol'] !== protocolVersion)
      return `expected version ${protocolVersion} of the app host protocol`;
    if (name === 'supervise') {
      const runs = parseRuns(value['runs']);
      return runs ? onSupervisor(connection, value['key'], runs) : 'invalid list of runs';
    }
    const { token } = value;
    const isKnown = typeof token === 'string' && onRunner(hashToken(token), connection);
    return isKnown ? undefined : 'unknown token of a run';
  }

  function refuse(connection: FrameConnection, why: string): void {
    log.debug({ why }, 'refused a peer');
    connection.bye(why);
    const deadline = clock.after(peerLimits.leaveWithinMs, () => connection.destroy());
    connection.onClose(() => deadline.cancel());
  }

  return {
    server,
    open() {
      if (isOpen) return;
      isOpen = true;
      for (const connection of unnamed) greet(connection);
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
  if (!Array.isArray(value) || value.length > peerLimits.runs) return undefined;
  const isRun = (each: unknown): each is string => typeof each === 'string' && isRunId(each);
  return value.every(isRun) ? value : undefined;
}

/** Decimal, as in every frame. */
export function isRunId(text: string): boolean {
  return /^[1-9][0-9]{0,19}$/.test(text);
}
