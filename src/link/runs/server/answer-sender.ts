/**
 * The answers to a server half's messages, on one connection: sent in the order in which they are durable, at most so many
 * ahead of what the half has taken. Those that it has not taken are sent again on its next connection.
 */
import type { RunMessages } from '../messages/run-messages.js';
import type { ServerConnection } from './server-connection.js';

/** Answers with their content in the frame that were sent and not taken. */
const maxUntaken = 64;

export class AnswerSender {
  readonly #connection: ServerConnection;
  readonly #messages: RunMessages;
  /** Not sent yet. */
  #waiting: number[];
  /** Sent on this connection, and not taken. */
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
        // Those that were added while it was ending.
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
    // The half reads an object when it likes; until then it costs nothing.
    if ('object' in answer) this.#untaken.delete(number);
    const about = { number, node: `${entry.question.node}` };
    if ('error' in answer) frames.send('answer', { ...about, error: answer.error });
    else if ('object' in answer) frames.send('answer', { ...about, object: answer.object });
    else frames.send('answer', about, answer.bytes);
  }
}
