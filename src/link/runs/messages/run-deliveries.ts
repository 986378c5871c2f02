/** The deliveries of one run: puts its messages into the queues of its nodes, and makes the frames that the queues send. */
import type { Clock } from '../../../base/clock.js';
import type { MessageEntries, MessageEntry } from './message-entries.js';
import type { Content } from './message-record.js';
import type { QueuedRun } from './node-queue.js';
import type { NodeQueues } from './node-queues.js';
import { deliverOf, type Assign, type Deliver } from './run-frames.js';
import type { StoredMessages } from './stored-messages.js';

export interface RunDeliveriesOptions {
  /** Sent to a node before its first message of the run. */
  readonly assign: Assign;
  readonly queues: NodeQueues;
  readonly clock: Clock;
}

export class RunDeliveries implements QueuedRun {
  readonly id: bigint;
  readonly #options: RunDeliveriesOptions;
  readonly #entries: MessageEntries;
  readonly #stored: StoredMessages;
  #isClosed = false;

  constructor(options: RunDeliveriesOptions, entries: MessageEntries, stored: StoredMessages) {
    this.id = options.assign.run;
    this.#options = options;
    this.#entries = entries;
    this.#stored = stored;
  }

  put({ question: { node, number } }: MessageEntry): void {
    this.#options.queues.put(node, this, number);
  }

  /** Removes a message that was answered, or cancels on its node one that was given up. */
  remove({ question: { node, number } }: MessageEntry, how: 'answered' | 'given up'): void {
    this.#options.queues.remove(node, this.id, number, how);
  }

  assign(): Assign {
    return this.#options.assign;
  }

  deliver(number: number): Deliver | undefined | Promise<Deliver | undefined> {
    const entry = this.#entries.find(number);
    if (entry?.status !== 'waiting') return undefined;
    return entry.content ? this.#deliveryOf(entry, entry.content) : this.#readDelivery(entry);
  }

  /** Stops reading the contents of waiting messages. */
  close(): void {
    this.#isClosed = true;
  }

  /** Removes the run from the queues and cancels it on its nodes. */
  leave(): void {
    this.#options.queues.removeRun(this.id, this.#stored.nodes);
  }

  async #readDelivery(entry: MessageEntry): Promise<Deliver | undefined> {
    const isWanted = (): boolean => entry.status === 'waiting' && !this.#isClosed;
    const content = await this.#stored.readContent(entry.question.number, isWanted);
    return content && isWanted() ? this.#deliveryOf(entry, content) : undefined;
  }

  #deliveryOf(entry: MessageEntry, content: Content): Deliver {
    entry.attempts += 1;
    const { question, attempts: attempt } = entry;
    return deliverOf({ run: this.id, question, content, attempt, now: this.#options.clock.now() });
  }
}
