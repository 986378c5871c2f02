/**
 * Sends the answers to a server half's messages on one connection, in the order in which they became durable, with at most
 * `maxUntaken` sent and not taken. Answers that the half has not taken are sent again on its next connection.
 */
import type { RunMessages } from '../messages/run-messages.js';
import type { ServerConnection } from './server-connection.js';

/** Counts only answers that carry their content in the frame. */
const maxUntaken = 64;

export class AnswerSender {
  readonly #connection: ServerConnection;
  readonly #messages: RunMessages;
  /** Numbers of the answers that are not sent yet. */
  #waiting: number[];
  /** Numbers of the answers that were sent on this connection and not taken. */
  readonly #untaken = new Set<number>();
  /** Undefined until the half has loaded; resolves when that is recorded. */
  #ready: Promise<void> | undefined;
  #isSending = false;

  constructor(connection: ServerConnection, messages: RunMessages) {
    this.#connection = connection;
    this.#messages = messages;
    this.#waiting = messages.answered();
  }

  /** The half has loaded. */
  start(ready: Promise<void>): void {
    this.#ready = ready;
    this.#send();
  }

  add(number: number): void {
    this.#waiting.push(number);
    this.#send();
  }

  taken(number: number): void {
    this.#untaken.delete(number);
    this.#send();
  }

  close(): void {
    this.#waiting = [];
  }

  #maySend(): boolean {
    return this.#waiting.length > 0 && this.#untaken.size < maxUntaken && !this.#connection.frames.closed;
  }

  #send(): void {
    if (this.#isSending || !this.#ready || !this.#maySend()) return;
    this.#isSending = true;
    this.#sendWaiting(this.#ready).then(
      () => {
        this.#isSending = false;
        // Answers may have been added while the last batch was ending.
        this.#send();
      },
      (error: unknown) => {
        this.#isSending = false;
        this.#connection.refuse(error);
      },
    );
  }

  async #sendWaiting(ready: Promise<void>): Promise<void> {
    await ready;
    while (this.#maySend()) {
      const batch = this.#waiting.splice(0, maxUntaken - this.#untaken.size);
      for (const number of batch) this.#untaken.add(number);
      for (const number of batch) await this.#sendOne(number);
      await this.#connection.frames.drained();
    }
  }

  async #sendOne(number: number): Promise<void> {
    const { frames } = this.#connection;
    const entry = this.#messages.find(number);
    const answer = await this.#connection.whileOpen(() => this.#messages.readAnswer(number));
    if (!entry || !answer) {
      this.#untaken.delete(number);
      return;
    }
    // An object costs no memory until the half reads it.
    if ('object' in answer) this.#untaken.delete(number);
    const about = { number, node: `${entry.question.node}` };
    if ('error' in answer) frames.send('answer', { ...about, error: answer.error });
    else if ('object' in answer) frames.send('answer', { ...about, object: answer.object });
    else frames.send('answer', about, answer.bytes);
  }
}
