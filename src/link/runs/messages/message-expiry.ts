/** Finds the messages whose TTL is over. Most of the time none is, which is known without looking at any message. */

interface ExpiringMessage {
  readonly awaitsAnswer: boolean;
  readonly question: { readonly expiresAt: number };
}

export class MessageExpiry {
  /** No message expires before this time. */
  #earliest = Infinity;

  /** A message that awaits an answer expires at this time. */
  note(expiresAt: number): void {
    this.#earliest = Math.min(this.#earliest, expiresAt);
  }

  /** Those of the messages that await an answer and have expired. */
  expired<Message extends ExpiringMessage>(messages: Iterable<Message>, now: number): Message[] {
    if (now < this.#earliest) return [];
    this.#earliest = Infinity;
    const expired: Message[] = [];
    for (const message of messages) {
      if (!message.awaitsAnswer) continue;
      if (message.question.expiresAt > now) this.note(message.question.expiresAt);
      else expired.push(message);
    }
    return expired;
  }
}
