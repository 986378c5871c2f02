/** The searches for nodes of one server half: bounded, answered one after the other, and told of in the run's log while they wait. */
import { setMaxListeners } from 'node:events';
import type { Frame } from '../../../app-host/wire/frames.js';
import type { Clock } from '../../../base/clock.js';
import { toRollcallError } from '../../../base/errors.js';
import { createTurns } from '../../../base/keyed-queue.js';
import { sleep } from '../../../base/wait.js';
import { linkLine, type RunLog } from '../run-log.js';
import { pagesOf, waitingEveryMs, type FindNodes, type FoundNode, type NodeWish } from './find-nodes.js';
import type { ServerConnection } from './server-connection.js';
import { readNodesRequest } from './server-frames.js';

const maxSearches = 64;
/** Between two answers: at least this long, and longer for many nodes. */
const minPauseMs = 5;
const nodesPerPauseMs = 100;
/** Characters of the labels in a line about waiting. */
const maxLabelText = 200;

export interface NodeSearchesOptions {
  readonly connection: ServerConnection;
  readonly clock: Clock;
  readonly log: RunLog;
  readonly findNodes: FindNodes;
}

export class NodeSearches {
  readonly #options: NodeSearchesOptions;
  readonly #inTurn = createTurns();
  readonly #ending = new AbortController();
  #open = 0;
  #tellWaitingFrom = 0;

  constructor(options: NodeSearchesOptions) {
    this.#options = options;
    setMaxListeners(maxSearches, this.#ending.signal);
  }

  /** Answers a frame "nodes" once enough nodes fit. Rejects for a frame of another form. */
  async search(frame: Frame): Promise<void> {
    const { connection, findNodes } = this.#options;
    const { request, wish } = readNodesRequest(frame);
    if (this.#open >= maxSearches) {
      connection.say('nodes', { request, error: `at most ${maxSearches} searches for nodes at once` });
      return;
    }
    this.#open += 1;
    const { signal } = this.#ending;
    try {
      const nodes = await connection.whileOpen(() =>
        findNodes(wish, signal, count => this.#tellWaiting(wish, count)),
      );
      await this.#inTurn('nodes', () => this.#sendNodes(request, nodes));
    } catch (error) {
      if (!signal.aborted) connection.say('nodes', { request, error: toRollcallError(error).message });
    } finally {
      this.#open -= 1;
    }
  }

  /** Ends all searches without an answer. */
  close(): void {
    this.#ending.abort();
  }

  /** One line at a time, however many searches wait: the run's log has room for others too. */
  #tellWaiting(wish: NodeWish, count: number): void {
    const { connection, clock, log } = this.#options;
    if (clock.elapsed() < this.#tellWaitingFrom) return;
    // A timer may be a little early.
    this.#tellWaitingFrom = clock.elapsed() + waitingEveryMs - 1_000;
    connection.track(log.append('link', [linkLine(clock, waitingText(wish, count))]));
  }

  /** One answer after the other, and slower the longer they are: a search costs its sender little, and its answer much. */
  async #sendNodes(request: number, nodes: readonly FoundNode[]): Promise<void> {
    const { connection, clock } = this.#options;
    for (const { page, isLast } of pagesOf(nodes)) {
      connection.say('nodes', { request, nodes: page, isLast });
      await connection.frames.drained();
    }
    void this.#inTurn('nodes', () => sleep(clock, minPauseMs + nodes.length / nodesPerPauseMs));
  }
}

function waitingText({ min, labels }: NodeWish, count: number): string {
  const fitting = Object.entries(labels).map(([name, value]) => ` ${name}=${value}`);
  const nodes = `${min} ${min === 1 ? 'node' : 'nodes'}${fitting.join('').slice(0, maxLabelText)}`;
  return `waiting for ${nodes} (${count} online)`;
}
