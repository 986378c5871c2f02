/**
 * Starts runners and reports their end, for the link (server halves) and an agent (node halves) alike: a Unix socket that
 * runners connect to with the token of their run, and either children of this process (`subprocess`) or a supervisor of
 * another user, on the same socket (`process`).
 */
import type { FrameConnection } from '../wire/frames.js';

export type Half = 'server' | 'node';
export type Language = 'javascript' | 'python';
export type Isolation = 'process' | 'subprocess';

export interface RunnerOrder {
  /** Decimal. */
  readonly run: string;
  readonly half: Half;
  readonly language: Language;
  /** 32 random bytes in hex: what the runner is known by. */
  readonly token: string;
  readonly memoryBytes: number;
}

export interface RunnerExit {
  readonly code: number | null;
  readonly signal: string | null;
  /** Why it was ended, for people: `used more than 512 MiB of memory`; empty when it ended by itself. */
  readonly note: string;
}

export interface RunnerHandler {
  /** A runner has shown the token; again after every reconnect. It was not answered yet. Set `onFrame` at once. */
  onConnection(connection: FrameConnection): void;
  /** A line it wrote by itself, made harmless. */
  onOutput(stream: 'stdout' | 'stderr', text: string): void;
  /** It is gone, and all it had said was given. Called once for every order and expectation. */
  onExit(exit: RunnerExit): void;
}

export interface Hosting {
  readonly isolation: Isolation;
  /** Whether an order would be carried out now. */
  isReady(): boolean;
  /** Calls each time a supervisor has connected; never where there is none, which is ready from the beginning. */
  onReady(listener: () => void): void;
  /** Lets those in who wait to connect, where it was made `held`; call it when all that is expected was said. */
  open(): void;
  /** Starts a runner, at once or when a supervisor connects. One of a run at a time. */
  start(order: RunnerOrder, handler: RunnerHandler): void;
  /**
   * Takes in a runner that was started before this process was: it is gone when a supervisor connects that does not have it.
   * `tokenHash`: SHA-256 of the token, hex.
   */
  expect(run: string, tokenHash: string, handler: RunnerHandler): void;
  /** Ends the runner of a run, with all it has started, or withdraws the order; its `onExit` is called when it is gone. */
  stop(run: string, note?: string): void;
  /** The path runners connect to. */
  readonly socketPath: string;
  /**
   * The socket is removed. Children are ended, and their `onExit` called; runners of a supervisor live on, and come back.
   * Twice is one promise.
   */
  close(): Promise<void>;
}
