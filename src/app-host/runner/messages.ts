/**
 * The messages of a server half between the app and the link: numbered in the order in which they are posted, sent again until
 * they are accepted, and their answers kept until their receiver has taken them. A content that is too large for a frame is
 * stored at the link right before its message: the link keeps it only as long as some message names it.
 */
import type { GridProgress } from '../../app/app.js';
import { RollcallError, toRollcallError } from '../../base/errors.js';
import type { Frame } from '../wire/frames.js';
import { bodyOf, nameContent, type OutgoingContent } from './content.js';
import type { RunnerLink } from './link.js';
import { malformed, numberOf, parseAnswer, parseProgress, type RawAnswer } from './message-frames.js';

export interface PostedMessage {
  readonly node: string;
  readonly type: string;
  readonly group: string;
  readonly ttlMs: number;
  readonly content: OutgoingContent;
}

export interface AnswerReceiver {
  onAccepted(): void;
  onAnswer(number: number, answer: RawAnswer): void;
  onProgress(progress: GridProgress): void;
}

interface Entry {
  /** Until it is accepted. */
  message: PostedMessage | undefined;
  receiver: AnswerReceiver | undefined;
  answer?: RawAnswer;
  /** The link was told already, or never had it. */
  isTaken: boolean;
  onAccepted?: () => void;
}

const maxNotAccepted = 256;
/** The link keeps the last four objects that no message has named yet; these are among them. */
const maxLeases = 2;

export class MessageBook {
  readonly #link: Pick<RunnerLink, 'send' | 'ready' | 'withObjects'>;
  /** Messages whose answer was not taken. */
  readonly #entries = new Map<number, Entry>();
  /** The messages among them that were not accepted, in order. */
  readonly #unaccepted = new Map<number, Entry>();
  #last = 0;
  #sentTo = 0;
  #inFlight = 0;
  #isSending = false;
  #connections = 0;
  /** Digests of the objects that were stored last on this connection. */
  #leases: readonly string[] = [];

  constructor(link: Pick<RunnerLink, 'send' | 'ready' | 'withObjects'>) {
    this.#link = link;
  }

  /** Sends it as soon as possible. Gives its number. */
  post(message: PostedMessage, receiver?: AnswerReceiver): number {
    this.#last += 1;
    const entry: Entry = { message, receiver, isTaken: false };
    this.#entries.set(this.#last, entry);
    this.#unaccepted.set(this.#last, entry);
    void this.#sendOn();
    return this.#last;
  }

  /** Resolves when all of them are accepted. */
  async accepted(numbers: readonly number[]): Promise<void> {
    for (const number of numbers) {
      const entry = this.#unaccepted.get(number);
      if (entry) await new Promise<void>(resolve => (entry.onAccepted = resolve));
    }
  }

  /** Gives this receiver the answers, also those that came already. REQUEST_INVALID when one of them has another receiver. */
  claim(numbers: readonly number[], receiver: AnswerReceiver): void {
    const isDistinct = new Set(numbers).size === numbers.length;
    const claimed = isDistinct ? numbers.map(number => this.#entries.get(number)) : [undefined];
    if (claimed.some(entry => entry === undefined || entry.receiver !== undefined))
      throw new RollcallError(
        'REQUEST_INVALID',
        'one of these messages was never sent, or its answer is received already',
      );
    for (const [index, number] of numbers.entries()) {
      const entry = claimed[index];
      if (!entry) continue;
      entry.receiver = receiver;
      if (!this.#unaccepted.has(number)) receiver.onAccepted();
      if (entry.answer) receiver.onAnswer(number, entry.answer);
    }
  }

  /** The receiver has the answer. */
  taken(number: number): void {
    if (this.#entries.get(number)?.isTaken === false) this.#sendTaken(number);
    this.#entries.delete(number);
  }

  /** True for a frame that it took. */
  take(frame: Frame): boolean {
    switch (frame.name) {
      case 'accepted':
        this.#accept(numberOf(frame));
        return true;
      case 'answer':
        this.#takeAnswer(numberOf(frame), frame);
        return true;
      case 'progress':
        this.#takeProgress(numberOf(frame), frame);
        return true;
      default:
        return false;
    }
  }

  /** Sends again what was not accepted. */
  onConnected(): void {
    const [first = this.#last + 1] = this.#unaccepted.keys();
    this.#sentTo = first - 1;
    this.#inFlight = 0;
    this.#connections += 1;
    this.#leases = [];
    void this.#sendOn();
  }

  async #sendOn(): Promise<void> {
    if (this.#isSending) return;
    this.#isSending = true;
    while (this.#sentTo < this.#last && this.#inFlight < maxNotAccepted) {
      const number = this.#sentTo + 1;
      const entry = this.#unaccepted.get(number);
      if (!entry?.message) this.#sentTo = number;
      else if (await this.#storeContent(number, entry, entry.message.content)) {
        this.#sentTo = number;
        this.#inFlight += 1;
        if (!this.#send(number, entry.message)) await this.#link.ready();
      }
    }
    this.#isSending = false;
  }

  #send(number: number, { content, ...message }: PostedMessage): boolean {
    return this.#link.send('send', { number, ...message, ...nameContent(content) }, bodyOf(content));
  }

  #sendTaken(number: number): void {
    this.#link.send('taken', { number });
  }

  /** False when the message cannot go now: it was refused, or others are to be sent again before it. */
  async #storeContent(number: number, entry: Entry, content: OutgoingContent): Promise<boolean> {
    const { manifest } = content;
    if (!manifest || this.#leases.includes(manifest.digest)) return true;
    const before = this.#connections;
    try {
      await this.#link.withObjects(objects => objects.write(manifest, content.parts));
    } catch (error) {
      this.#sentTo = number;
      this.#refuse(number, entry, toRollcallError(error).message);
      return false;
    }
    if (this.#connections !== before) return false;
    this.#leases = [...this.#leases, manifest.digest].slice(-maxLeases);
    return true;
  }

  /** Answers the message with an error here; it is never sent to the link. */
  #refuse(number: number, entry: Entry, message: string): void {
    const node = entry.message?.node ?? '';
    entry.isTaken = true;
    this.#settle(number, entry);
    this.#give(number, entry, { node, error: { code: 'APP_INVALID', message } });
  }

  #accept(number: number): void {
    // It may have been sent on an earlier connection, and not yet again on this one.
    if (number > this.#last) throw malformed(`message ${number} was never sent`);
    const entry = this.#unaccepted.get(number);
    if (!entry) return;
    if (number <= this.#sentTo) this.#inFlight -= 1;
    this.#settle(number, entry);
    void this.#sendOn();
  }

  #settle(number: number, entry: Entry): void {
    this.#unaccepted.delete(number);
    entry.message = undefined;
    entry.receiver?.onAccepted();
    entry.onAccepted?.();
  }

  #takeAnswer(number: number, frame: Frame): void {
    const answer = parseAnswer(frame);
    this.#accept(number);
    const entry = this.#entries.get(number);
    // Without an entry the answer was taken before, and only the frame that said so was lost.
    if (!entry || entry.isTaken) this.#sendTaken(number);
    else if (!entry.answer) this.#give(number, entry, answer);
  }

  #takeProgress(number: number, frame: Frame): void {
    this.#entries.get(number)?.receiver?.onProgress(parseProgress(number, frame));
  }

  #give(number: number, entry: Entry, answer: RawAnswer): void {
    entry.answer = answer;
    if (entry.receiver) entry.receiver.onAnswer(number, answer);
    else if (!('object' in answer) && !entry.isTaken) {
      // All of it is here. Answers without a receiver must not hold back those that are waited for.
      entry.isTaken = true;
      this.#sendTaken(number);
    }
  }
}
