/** The searches for nodes of one server half: bounded, answered one after the other, and reported in the run's log while they wait. */
import { setMaxListeners } from 'node:events';
import type { Frame } from '../../../app-host/wire/frames.js';
import type { Clock } from '../../../base/clock.js';
import { toRollcallError } from '../../../base/errors.js';
import { createKeyedQueue } from '../../../base/keyed-queue.js';
import { sleep } from '../../../base/wait.js';
import { linkLine, type RunLog } from '../run-log.js';
import {
  pagesOf,
  waitingEveryMs,
  type FindNodes,
  type FoundNode,
  type NodeCriteria,
} from '../node-selection.js';
import type { ServerConnection } from './server-connection.js';
import { readNodesRequest } from './server-frames.js';

const maxSearches = 64;
/** The pause after an answer: at least this long, and longer for many nodes. */
const minPauseMs = 5;
const nodesPerPauseMs = 100;
/** Maximum number of characters of the labels in a line of the log. */
const maxLabelText = 200;

export interface NodeSearchesOptions {
  readonly connection: ServerConnection;
  readonly clock: Clock;
  readonly log: RunLog;
  readonly findNodes: FindNodes;
}

export class NodeSearches {
  readonly #options: NodeSearchesOptions;
  readonly #inTurn = createKeyedQueue();
  readonly #ending = new AbortController();
  #open = 0;
  #nextReportAt = 0;

  constructor(options: NodeSearchesOptions) {
    this.#options = options;
    setMaxListeners(maxSearches, this.#ending.signal);
  }

  /** Answers a frame "nodes" once enough nodes match. Rejects if the frame is malformed. */
  async search(frame: Frame): Promise<void> {
    const { connection, findNodes } = this.#options;
    const { request, criteria } = readNodesRequest(frame);
    if (this.#open >= maxSearches) {
      connection.send('nodes', { request, error: `at most ${maxSearches} searches for nodes at once` });
      return;
    }
    this.#open += 1;
    const { signal } = this.#ending;
    try {
      const nodes = await connection.whileOpen(() =>
        findNodes(criteria, signal, count => this.#reportWaiting(criteria, count)),
      );
      await this.#inTurn('nodes', () => this.#sendNodes(request, nodes));
    } catch (error) {
      if (!signal.aborted) connection.send('nodes', { request, error: toRollcallError(error).message });
    } finally {
      this.#open -= 1;
    }
  }

  /** Ends all searches without an answer. */
  close(): void {
    this.#ending.abort();
  }

  /** Writes at most one line a minute, however many searches wait: they must not fill the run's log. */
  #reportWaiting(criteria: NodeCriteria, count: number): void {
    const { connection, clock, log } = this.#options;
    if (clock.elapsed() < this.#nextReportAt) return;
    // Timers may fire slightly early.
    this.#nextReportAt = clock.elapsed() + waitingEveryMs - 1_000;
    connection.track(log.append('link', [linkLine(clock, waitingText(criteria, count))]));
  }

  /** Sends one answer after the other, with longer pauses after longer answers: a small request can cause a large answer. */
  async #sendNodes(request: number, nodes: readonly FoundNode[]): Promise<void> {
    const { connection, clock } = this.#options;
    for (const { page, isLast } of pagesOf(nodes)) {
      connection.send('nodes', { request, nodes: page, isLast });
      await connection.frames.drained();
    }
    void this.#inTurn('nodes', () => sleep(clock, minPauseMs + nodes.length / nodesPerPauseMs));
  }
}

function waitingText({ min, labels }: NodeCriteria, count: number): string {
  const fitting = Object.entries(labels).map(([name, value]) => ` ${name}=${value}`);
  const nodes = `${min} ${min === 1 ? 'node' : 'nodes'}${fitting.join('').slice(0, maxLabelText)}`;
  return `waiting for ${nodes} (${count} online)`;
}
