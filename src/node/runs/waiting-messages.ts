/** The messages of one run that wait or are in work, in the order they came, and those that need no answer any more. Pure. */
import type { Deliver } from '../../protocol/generated/rollcall/v1/link.js';
import { inlineContentOf } from './message-body.js';

export interface WaitingMessage {
  readonly number: number;
  readonly deliver: Deliver;
  readonly bytes: number;
  /** By the clock that only runs forward; Infinity when the message does not expire. */
  readonly expiresAt: number;
  /** Aborted when nobody waits for the answer any more, or the run is over: ends all waiting for it. */
  readonly stop: AbortController;
  isUnwanted: boolean;
}

export interface Load {
  readonly messages: number;
  /** Of their inline contents. */
  readonly bytes: number;
}

export class WaitingMessages {
  readonly #messages = new Map<number, WaitingMessage>();
  #bytes = 0;

  get load(): Load {
    return { messages: this.#messages.size, bytes: this.#bytes };
  }

  /** The one in work, or the next. */
  get first(): WaitingMessage | undefined {
    for (const message of this.#messages.values()) return message;
    return undefined;
  }

  has(number: number): boolean {
    return this.#messages.has(number);
  }

  find(number: number): WaitingMessage | undefined {
    return this.#messages.get(number);
  }

  add(deliver: Deliver, now: number): void {
    const number = Number(deliver.message);
    const bytes = inlineContentOf(deliver).length;
    const ttlMs = Number(deliver.ttlMs);
    const expiresAt = ttlMs > 0 ? now + ttlMs : Infinity;
    const stop = new AbortController();
    this.#messages.set(number, { number, deliver, bytes, expiresAt, stop, isUnwanted: false });
    this.#bytes += bytes;
  }

  /** False when it was removed before. */
  remove(message: WaitingMessage): boolean {
    if (this.#messages.get(message.number) !== message) return false;
    this.#messages.delete(message.number);
    this.#bytes -= message.bytes;
    return true;
  }

  stopAll(reason: Error): void {
    for (const { stop } of this.#messages.values()) stop.abort(reason);
  }
}

const maxAcknowledged = 1_000;

/**
 * Numbers of messages that need no answer any more. The link may have sent one of them again just before it acknowledged it;
 * it must not be handled a second time. Bounded: the oldest number is forgotten first.
 */
export class AcknowledgedMessages {
  readonly #numbers = new Set<number>();

  has(number: number): boolean {
    return this.#numbers.has(number);
  }

  add(number: number): void {
    this.#numbers.add(number);
    for (const oldest of this.#numbers) {
      if (this.#numbers.size <= maxAcknowledged) break;
      this.#numbers.delete(oldest);
    }
  }
}
