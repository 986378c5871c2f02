/**
 * The requests that each party has open, over both protocols. A party is a principal, or a network while nobody is known.
 * It can make the link hold only so much: how many requests at once, and how many bytes of answers that it has asked
 * for and does not read.
 */
import { RollcallError } from '../../base/errors.js';

export interface OpenRequest {
  /** Bytes of the answer that wait for their reader. */
  unreadBytes(): number;
}

export const requestBounds = { requests: 256, unreadBytes: 8 * 1024 * 1024 } as const;

export class OpenRequests {
  readonly #parties = new Map<string, Set<OpenRequest>>();

  /** Counts a request until it leaves; LINK_BUSY when its party has too many. */
  enter(party: string, request: OpenRequest): void {
    const open = this.#parties.get(party) ?? new Set();
    if (open.size >= requestBounds.requests) {
      throw new RollcallError('LINK_BUSY', `at most ${requestBounds.requests} requests at once`, {
        hint: 'wait for some answers before asking more',
      });
    }
    this.#parties.set(party, open.add(request));
  }

  /** A second time does nothing. */
  leave(party: string, request: OpenRequest): void {
    const open = this.#parties.get(party);
    open?.delete(request);
    if (open?.size === 0) this.#parties.delete(party);
  }

  /** LINK_BUSY when so much waits for this party to read that no more is written. */
  requireReader(party: string): void {
    let unread = 0;
    for (const request of this.#parties.get(party) ?? []) unread += request.unreadBytes();
    if (unread < requestBounds.unreadBytes) return;
    throw new RollcallError('LINK_BUSY', 'too many answers wait to be read', {
      hint: 'read what was answered before asking more',
    });
  }
}
