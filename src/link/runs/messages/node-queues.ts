/**
 * What waits for each node, and what is on its way to it. A few messages of each run are under way at once and the runs of a
 * node take turns, so that a run with much to say, or with slow handlers, keeps no other waiting. What was under way when a
 * session ended is sent again on the next: the node knows what it has.
 */
import { NodeQueue, type QueuedRun, type QueueSession } from './node-queue.js';

export class NodeQueues {
  readonly #queues = new Map<bigint, NodeQueue>();

  /** From now on messages go here; what was under way goes again. */
  attach(session: QueueSession): void {
    this.#queueOf(session.nodeId).attach(session);
  }

  detach(session: QueueSession): void {
    this.#change(session.nodeId, queue => queue.detach(session));
  }

  isOnline(node: bigint): boolean {
    return this.#queues.get(node)?.isOnline ?? false;
  }

  /** How many messages wait for a node, are on their way to it, or are being stored for it. */
  count(node: bigint): number {
    return this.#queues.get(node)?.count ?? 0;
  }

  /** Keeps a place for a message that is being stored. */
  reserve(node: bigint): void {
    this.#queueOf(node).reserve();
  }

  unreserve(node: bigint): void {
    this.#change(node, queue => queue.unreserve());
  }

  put(node: bigint, run: QueuedRun, number: number): void {
    this.#queueOf(node).put(run, number);
  }

  /** It was answered, or its time is over: then the node is told that nobody wants it any more. */
  remove(node: bigint, run: bigint, number: number, how: 'answered' | 'given up'): void {
    this.#change(node, queue => queue.remove(run, number, how));
  }

  /** The run is over; the nodes are told. */
  removeRun(run: bigint, nodes: Iterable<bigint>): void {
    for (const node of nodes) this.#change(node, queue => queue.removeRun(run));
  }

  #queueOf(node: bigint): NodeQueue {
    let queue = this.#queues.get(node);
    if (!queue) this.#queues.set(node, (queue = new NodeQueue()));
    return queue;
  }

  /** Takes something out of a queue; one that is unused then is forgotten. */
  #change(node: bigint, change: (queue: NodeQueue) => void): void {
    const queue = this.#queues.get(node);
    if (!queue) return;
    change(queue);
    if (queue.isUnused) this.#queues.delete(node);
  }
}
