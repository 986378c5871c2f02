/**
 * The messages of one run. A question is on the disk before it is accepted and sent to its node. An answer is on the disk before
 * it is acknowledged to the node and sent to the server half. Both are removed once the server half has the answer. The server
 * half numbers the messages, so that one it sends twice is the same message.
 */
import { messageErrors, type MessageErrorCode } from '../../../app/message-error.js';
import { serverParty, type RunBuckets } from '../run-buckets.js';
import { MessageEntries, MessageEntry } from './message-entries.js';
import type { Answer, Content, ObjectName, Question, StoredMessage } from './message-record.js';
import type { NodeQueues } from './node-queues.js';
import { RunDeliveries, type RunDeliveriesOptions } from './run-deliveries.js';
import { StoredMessages, type StoredMessagesOptions } from './stored-messages.js';

type ObjectKeeper = Pick<RunBuckets, 'retain' | 'release'>;

export interface RunMessagesOptions extends StoredMessagesOptions, RunDeliveriesOptions {
  /** Keeps the objects that messages refer to. */
  readonly objects: ObjectKeeper;
  /** Maximum number of messages waiting for one node. */
  readonly maxWaiting: number;
  /** Called when an answer can be sent to the server half. */
  readonly onAnswer: (number: number) => void;
  readonly onChange: () => void;
}

export class RunMessages {
  readonly #options: RunMessagesOptions;
  readonly #queues: NodeQueues;
  readonly #objects: ObjectKeeper;
  readonly #entries = new MessageEntries();
  readonly #stored: StoredMessages;
  readonly #deliveries: RunDeliveries;
  /** Nodes that get no messages any more, with the error of those messages. */
  readonly #failed = new Map<bigint, MessageErrorCode>();
  readonly #storing = new Set<Promise<void>>();
  readonly #counts = { sent: 0, answered: 0, failed: 0 };
  #isClosed = false;

  constructor(options: RunMessagesOptions) {
    this.#options = options;
    this.#queues = options.queues;
    this.#objects = options.objects;
    this.#stored = new StoredMessages(options.assign.run, options);
    this.#deliveries = new RunDeliveries(options, this.#entries, this.#stored);
  }

  /** Loads the messages that an earlier process of the link stored. */
  async load(): Promise<void> {
    try {
      for await (const message of this.#stored.load()) this.#restore(message);
    } catch (error) {
      this.leaveQueues();
      throw error;
    }
  }

  /** Since this link was started. */
  get counts(): Readonly<{ sent: number; answered: number; failed: number }> {
    return this.#counts;
  }

  /** The nodes that messages were stored for: the parties of the run. */
  get nodes(): ReadonlySet<bigint> {
    return this.#stored.nodes;
  }

  /** The number of messages that the server half has not taken the answer of. */
  get size(): number {
    return this.#entries.size;
  }

  /** The highest known number, and how many messages have no answer yet. */
  standing(): { readonly last: number; readonly unanswered: number } {
    return { last: this.#entries.last, unanswered: this.#entries.countUnanswered() };
  }

  find(number: number): MessageEntry | undefined {
    return this.#entries.find(number);
  }

  /** Whether a message of this number was sent, as far as this process knows. */
  wasSent(number: number): boolean {
    return number >= 1 && number <= this.#entries.last;
  }

  /** Numbers of the answers that the server half has not taken, ascending. */
  answered(): number[] {
    return this.#entries.answered();
  }

  /** The node of a message that refers to this object: a question to that node, or an answer to the server half. */
  speaksOf(digest: string, of: { readonly questionsTo: bigint } | 'answers'): bigint | undefined {
    return this.#entries.speaksOf(digest, of);
  }

  /**
   * Resolves when the message, or its refusal as its answer, is on the disk; for a number that was sent before, together with
   * the first. Rejects with STORE_FULL or STORE_UNAVAILABLE if the message was not accepted.
   */
  send(question: Question, content: Content): Promise<void> {
    // A server half that did not learn that it was accepted sends it again.
    const before = this.find(question.number);
    if (before) return before.status === 'waiting' ? Promise.resolve() : before.work;
    const entry = this.#begin(question, content);
    entry.work = this.#track(this.#accept(entry, content));
    return entry.work;
  }

  /** Answers the message with an error; resolves when that is on the disk. */
  refuse(question: Question, code: MessageErrorCode): Promise<void> {
    const before = this.find(question.number);
    if (before) return before.work;
    const entry = this.#begin(question, undefined);
    entry.work = this.#track(this.#refuse(entry, code));
    return entry.work;
  }

  /** Answers a message that was not accepted with an error in memory, because nothing can be stored. */
  turnAway(question: Question, code: MessageErrorCode, message: string): void {
    if (this.find(question.number)) return;
    const entry = this.#begin(question, undefined);
    entry.refusal = { error: { code, message } };
    this.#settle(entry, 'turned-away', entry.refusal);
  }

  /**
   * Stores the answer of a node; resolves when it is on the disk. The first answer counts: a later one changes nothing, and one
   * that arrives while the first is being stored waits for it.
   */
  answer(number: number, given: Answer): Promise<void> {
    const entry = this.find(number);
    if (this.#isClosed || !entry || entry.status === 'answered') return Promise.resolve();
    if (entry.advance('answer')) entry.work = this.#track(this.#storeAnswer(entry, given));
    return entry.work;
  }

  async readAnswer(number: number): Promise<Answer | undefined> {
    const entry = this.find(number);
    if (entry?.status !== 'answered') return undefined;
    return entry.refusal ?? this.#stored.readAnswer(number);
  }

  /** The server half has the answer: removes the message. */
  take(number: number): void {
    const entry = this.find(number);
    if (entry?.status !== 'answered') return;
    const object = this.#entries.objectOf(entry);
    this.#entries.forget(entry);
    if (object) this.#objects.release(`${entry.question.node}`, object.digest);
    this.#stored.remove(number);
  }

  /** Answers with this error the open messages to a node, and all that are sent to it later. */
  failNode(node: bigint, code: MessageErrorCode): void {
    this.#failed.set(node, code);
    for (const entry of this.#entries.openTo(node)) this.#giveUp(entry, code);
  }

  /** Answers the messages that have expired with an error. */
  expire(now: number): void {
    for (const entry of this.#entries.expired(now))
      this.#giveUp(entry, this.#queues.isOnline(entry.question.node) ? 'EXPIRED' : 'NODE_OFFLINE');
  }

  /** Accepts, sends and stores nothing more, because the run is over; resolves when everything is stored or removed. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#deliveries.close();
    while (this.#storing.size > 0) await Promise.all(this.#storing);
    await this.#stored.flush();
  }

  /** Removes the run from the queues and cancels it on its nodes. */
  leaveQueues(): void {
    this.#deliveries.leave();
  }

  #begin(question: Question, content: Content | undefined): MessageEntry {
    const entry = new MessageEntry(question, 'storing', content);
    this.#entries.add(entry, content && objectOf(content));
    this.#counts.sent += 1;
    return entry;
  }

  /** Forgets a message that was not accepted. */
  #takeBack(entry: MessageEntry): void {
    this.#entries.forget(entry);
    this.#counts.sent -= 1;
  }

  #accept(entry: MessageEntry, content: Content): Promise<void> {
    const { node } = entry.question;
    const { maxWaiting } = this.#options;
    const refusal = this.#isClosed ? 'RUN_OVER' : this.#failed.get(node);
    if (refusal) return this.#refuse(entry, refusal);
    if (this.#queues.count(node) < maxWaiting) return this.#sendNew(entry, content);
    return this.#refuse(entry, 'QUEUE_FULL', `at most ${maxWaiting} messages may wait for one node`);
  }

  async #sendNew(entry: MessageEntry, content: Content): Promise<void> {
    const { node } = entry.question;
    const object = this.#entries.objectOf(entry);
    if (object) this.#objects.retain(serverParty, object.digest);
    this.#queues.reserve(node);
    try {
      // If it was given up meanwhile, its answer is being stored under the same key and must not be overwritten.
      await this.#stored.putQuestion(entry.question, content, () => entry.status === 'storing');
    } catch (error) {
      if (entry.status !== 'storing') return;
      this.#takeBack(entry);
      if (object) this.#objects.release(serverParty, object.digest);
      throw error;
    } finally {
      this.#queues.unreserve(node);
    }
    if (this.#isClosed || !entry.advance('stored')) return;
    this.#deliveries.put(entry);
    entry.content = undefined;
    this.#options.onChange();
  }

  async #refuse(
    entry: MessageEntry,
    code: MessageErrorCode,
    message: string = messageErrors[code],
  ): Promise<void> {
    const refusal: Answer = { error: { code, message } };
    // Its object was not retained, so it must not be released with the message.
    this.#entries.speakOf(entry, undefined);
    entry.advance('answer');
    try {
      await this.#stored.putRefusal(entry.question, refusal);
    } catch (error) {
      this.#takeBack(entry);
      throw error;
    }
    this.#settle(entry, 'answer-stored', refusal);
  }

  async #storeAnswer(entry: MessageEntry, given: Answer): Promise<void> {
    const { node, expiresAt } = entry.question;
    const object = objectOf(given);
    if (object) this.#objects.retain(`${node}`, object.digest);
    try {
      await this.#stored.putAnswer(entry.question, given, () => !this.#isClosed);
    } catch (error) {
      // The message stays open: it may be answered again or expire.
      if (object) this.#objects.release(`${node}`, object.digest);
      entry.advance('answer-failed');
      this.#entries.noteExpiry(expiresAt);
      throw error;
    }
    const questioned = this.#entries.objectOf(entry);
    if (questioned) this.#objects.release(serverParty, questioned.digest);
    this.#entries.speakOf(entry, object);
    this.#deliveries.remove(entry, 'answered');
    this.#settle(entry, 'answer-stored', given);
  }

  #settle(entry: MessageEntry, event: 'answer-stored' | 'turned-away', answer: Answer): void {
    entry.content = undefined;
    entry.advance(event);
    this.#counts.answered += 1;
    if ('error' in answer) this.#counts.failed += 1;
    this.#options.onChange();
    this.#options.onAnswer(entry.question.number);
  }

  #giveUp(entry: MessageEntry, code: MessageErrorCode): void {
    this.#deliveries.remove(entry, 'given up');
    void this.answer(entry.question.number, { error: { code, message: messageErrors[code] } }).catch(
      () => undefined,
    );
  }

  /** `close` waits for this work, so that nothing is stored after the messages of the run were removed. */
  #track(work: Promise<void>): Promise<void> {
    const done = work.catch(() => undefined).finally(() => this.#storing.delete(done));
    this.#storing.add(done);
    return work;
  }

  #restore(message: StoredMessage): void {
    const entry = MessageEntry.restore(message);
    const isAnswer = 'answer' in message;
    const object = objectOf(isAnswer ? message.answer : message.content);
    this.#entries.add(entry, object);
    if (object) this.#objects.retain(isAnswer ? `${entry.question.node}` : serverParty, object.digest);
    if (!isAnswer) this.#deliveries.put(entry);
  }
}

function objectOf(content: Answer): ObjectName | undefined {
  return 'object' in content ? content.object : undefined;
}
