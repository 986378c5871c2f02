/** The messages of one run in memory: the question and the status of each. Contents stay on the disk. Pure. */
import { MessageExpiry } from './message-expiry.js';
import { awaitsAnswer, nextStatus, type MessageEvent, type MessageStatus } from './message-machine.js';
import type { Answer, Content, ObjectName, Question, StoredMessage } from './message-record.js';

export class MessageEntry {
  readonly question: Question;
  /** Set only while the message can be sent at once. */
  content: Content | undefined;
  /** How many times it was sent. */
  attempts = 0;
  /** An answer that is not stored: the message is refused again if it is sent again. */
  refusal: Answer | undefined;
  /** Settles when its question, or later its answer, is stored. */
  work: Promise<void> = Promise.resolve();
  #status: MessageStatus;

  constructor(question: Question, status: MessageStatus, content?: Content) {
    this.question = question;
    this.#status = status;
    this.content = content;
  }

  /** Restores a message that an earlier process of the link stored. */
  static restore(message: StoredMessage): MessageEntry {
    const unknown = { type: '', group: '', createdAt: 0, expiresAt: Infinity };
    const status = 'answer' in message ? 'answered' : 'waiting';
    return new MessageEntry({ ...unknown, ...message.question }, status);
  }

  get status(): MessageStatus {
    return this.#status;
  }

  get awaitsAnswer(): boolean {
    return awaitsAnswer(this.#status);
  }

  /** Returns whether the event changes the status. */
  advance(event: MessageEvent): boolean {
    const next = nextStatus(this.#status, event);
    if (next) this.#status = next;
    return next !== undefined;
  }
}

export class MessageEntries {
  readonly #entries = new Map<number, MessageEntry>();
  /** The object that a question, or later its answer, refers to. */
  readonly #objects = new Map<MessageEntry, ObjectName>();
  /** The messages that refer to an object, by its digest: an index, because nodes may ask for objects at any rate. */
  readonly #speaking = new Map<string, Set<MessageEntry>>();
  #last = 0;
  readonly #expiry = new MessageExpiry();

  /** The number of messages that the server half has not taken the answer of. */
  get size(): number {
    return this.#entries.size;
  }

  /** The highest number that this process knows of. */
  get last(): number {
    return this.#last;
  }

  add(entry: MessageEntry, object: ObjectName | undefined): void {
    const { number, expiresAt } = entry.question;
    this.#entries.set(number, entry);
    this.#last = Math.max(this.#last, number);
    this.noteExpiry(expiresAt);
    this.speakOf(entry, object);
  }

  find(number: number): MessageEntry | undefined {
    return this.#entries.get(number);
  }

  forget(entry: MessageEntry): void {
    this.speakOf(entry, undefined);
    this.#entries.delete(entry.question.number);
  }

  objectOf(entry: MessageEntry): ObjectName | undefined {
    return this.#objects.get(entry);
  }

  /** Replaces the object that the message refers to. */
  speakOf(entry: MessageEntry, object: ObjectName | undefined): void {
    const before = this.#objects.get(entry);
    if (before) {
      const speaking = this.#speaking.get(before.digest);
      speaking?.delete(entry);
      if (speaking?.size === 0) this.#speaking.delete(before.digest);
      this.#objects.delete(entry);
    }
    if (!object) return;
    this.#objects.set(entry, object);
    const speaking = this.#speaking.get(object.digest) ?? new Set();
    this.#speaking.set(object.digest, speaking.add(entry));
  }

  /** The node of a message that refers to this object: a question to that node, or an answer. */
  speaksOf(digest: string, of: { readonly questionsTo: bigint } | 'answers'): bigint | undefined {
    for (const { question, status } of this.#speaking.get(digest) ?? []) {
      const isAnswer = status === 'answered';
      if (of === 'answers' ? isAnswer : !isAnswer && question.node === of.questionsTo) return question.node;
    }
    return undefined;
  }

  /** The number of messages without an answer on the disk. */
  countUnanswered(): number {
    let count = 0;
    for (const { status } of this.#entries.values()) if (status !== 'answered') count += 1;
    return count;
  }

  /** Numbers of the answers that the server half has not taken, ascending. */
  answered(): number[] {
    return [...this.#entries.values()]
      .filter(({ status }) => status === 'answered')
      .map(({ question }) => question.number)
      .sort((one, other) => one - other);
  }

  /** Messages to this node that await an answer. */
  openTo(node: bigint): MessageEntry[] {
    return [...this.#entries.values()].filter(each => each.question.node === node && each.awaitsAnswer);
  }

  /** A message that awaits an answer expires at this time. */
  noteExpiry(expiresAt: number): void {
    this.#expiry.note(expiresAt);
  }

  /** Messages that await an answer and have expired. */
  expired(now: number): MessageEntry[] {
    return this.#expiry.expired(this.#entries.values(), now);
  }
}
