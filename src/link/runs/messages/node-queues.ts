/**
 * The messages to each node. Only a few messages of each run are sent at a time and the runs of a node take turns, so that a run
 * with many messages or slow handlers does not delay another. Messages that were sent and not answered when a session ended are
 * sent again on the next one; the node recognizes those that it has.
 */
import { NodeQueue, type QueuedRun, type QueueSession } from './node-queue.js';

export class NodeQueues {
  readonly #queues = new Map<bigint, NodeQueue>();

  /** Sends messages of this node on this session, beginning with those that were sent on an earlier one and not answered. */
  attach(session: QueueSession): void {
    this.#queueOf(session.nodeId).attach(session);
  }

  detach(session: QueueSession): void {
    this.#change(session.nodeId, queue => queue.detach(session));
  }

  isOnline(node: bigint): boolean {
    return this.#queues.get(node)?.isOnline ?? false;
  }

  /** The number of messages to a node that wait, were sent, or are being stored. */
  count(node: bigint): number {
    return this.#queues.get(node)?.count ?? 0;
  }

  /** Counts a message that is being stored. */
  reserve(node: bigint): void {
    this.#queueOf(node).reserve();
  }

  unreserve(node: bigint): void {
    this.#change(node, queue => queue.unreserve());
  }

  put(node: bigint, run: QueuedRun, number: number): void {
    this.#queueOf(node).put(run, number);
  }

  /** Removes a message that was answered, or cancels on its node one that was given up. */
  remove(node: bigint, run: bigint, number: number, how: 'answered' | 'given up'): void {
    this.#change(node, queue => queue.remove(run, number, how));
  }

  /** Removes a run that is over and cancels it on its nodes. */
  removeRun(run: bigint, nodes: Iterable<bigint>): void {
    for (const node of nodes) this.#change(node, queue => queue.removeRun(run));
  }

  #queueOf(node: bigint): NodeQueue {
    let queue = this.#queues.get(node);
    if (!queue) this.#queues.set(node, (queue = new NodeQueue()));
    return queue;
  }

  /** Changes a queue and drops it if it is unused then. */
  #change(node: bigint, change: (queue: NodeQueue) => void): void {
    const queue = this.#queues.get(node);
    if (!queue) return;
    change(queue);
    if (queue.isUnused) this.#queues.delete(node);
  }
}
