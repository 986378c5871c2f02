/** The messages of one run in memory: what each one is and how it stands. Contents stay on the disk. Pure. */
import { awaitsAnswer, nextStatus, type MessageEvent, type MessageStatus } from './message-machine.js';
import type { Answer, Content, ObjectName, Question, StoredMessage } from './message-record.js';

export class MessageEntry {
  readonly question: Question;
  /** At hand only while it can be sent at once. */
  content: Content | undefined;
  /** How often it was sent. */
  attempts = 0;
  /** Not stored: what is refused is refused again when it is sent again. */
  refusal: Answer | undefined;
  /** Its question, or then its answer, being stored. */
  work: Promise<void> = Promise.resolve();
  #status: MessageStatus;

  constructor(question: Question, status: MessageStatus, content?: Content) {
    this.question = question;
    this.#status = status;
    this.content = content;
  }

  /** As an earlier process of the link left it. */
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

  /** Whether the event changes its status. */
  advance(event: MessageEvent): boolean {
    const next = nextStatus(this.#status, event);
    if (next) this.#status = next;
    return next !== undefined;
  }
}

export class MessageEntries {
  readonly #entries = new Map<number, MessageEntry>();
  /** The object that a question, or then its answer, speaks of. */
  readonly #objects = new Map<MessageEntry, ObjectName>();
  /** Those that speak of an object, by its digest: nodes ask as often as they like. */
  readonly #speaking = new Map<string, Set<MessageEntry>>();
  #last = 0;
  /** No message ends before this. */
  #earliest = Infinity;

  /** Those that were not taken. */
  get size(): number {
    return this.#entries.size;
  }

  /** The highest number that was sent, as far as this process knows. */
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

  /** It speaks of this object from now on, and of no other one. */
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

  /** The node of a message that speaks of this object: of a question to that node, or of an answer. */
  speaksOf(digest: string, of: { readonly questionsTo: bigint } | 'answers'): bigint | undefined {
    for (const { question, status } of this.#speaking.get(digest) ?? []) {
      const isAnswer = status === 'answered';
      if (of === 'answers' ? isAnswer : !isAnswer && question.node === of.questionsTo) return question.node;
    }
    return undefined;
  }

  /** How many have no answer on the disk. */
  countUnanswered(): number {
    let count = 0;
    for (const { status } of this.#entries.values()) if (status !== 'answered') count += 1;
    return count;
  }

  /** Numbers of the answers that were not taken, ascending. */
  answered(): number[] {
    return [...this.#entries.values()]
      .filter(({ status }) => status === 'answered')
      .map(({ question }) => question.number)
      .sort((one, other) => one - other);
  }

  /** Those to this node whose answer has not come. */
  openTo(node: bigint): MessageEntry[] {
    return [...this.#entries.values()].filter(each => each.question.node === node && each.awaitsAnswer);
  }

  /** A message that awaits an answer ends then. */
  noteExpiry(expiresAt: number): void {
    this.#earliest = Math.min(this.#earliest, expiresAt);
  }

  /** Those whose answer has not come and whose time is over. */
  expired(now: number): MessageEntry[] {
    if (now < this.#earliest) return [];
    this.#earliest = Infinity;
    const expired: MessageEntry[] = [];
    for (const entry of this.#entries.values()) {
      if (!entry.awaitsAnswer) continue;
      if (entry.question.expiresAt > now) this.noteExpiry(entry.question.expiresAt);
      else expired.push(entry);
    }
    return expired;
  }
}
