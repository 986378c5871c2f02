/**
 * How often a party may do something: so many at once, and then one each time so much has passed. Held is one number a
 * party, and only while it has not all of its share back (GCRA, ITU-T I.371).
 */
import { RollcallError } from './errors.js';

export interface RateLimitOptions {
  /** Monotonic, ms. */
  readonly elapsed: () => number;
  /** At once. */
  readonly burst: number;
  /** From one to the next, once the burst is used up. */
  readonly refillMs: number;
}

/** From so many parties on, those that have their whole share back are looked for, and forgotten. */
const sweepFrom = 10_000;

export class RateLimit {
  readonly #options: RateLimitOptions;
  /** When each party has all of its share back. */
  readonly #wholeAt = new Map<string, number>();
  #sweepAt = sweepFrom;

  constructor(options: RateLimitOptions) {
    this.#options = options;
  }

  /** Takes one of a party's share; when nothing is left of it, gives the RATE_LIMITED to throw, with `message`. */
  take(party: string, message: string): RollcallError | undefined {
    const { burst, refillMs, elapsed } = this.#options;
    const now = elapsed();
    const wholeAt = Math.max(now, this.#wholeAt.get(party) ?? now);
    const waitMs = wholeAt - now - (burst - 1) * refillMs;
    if (waitMs > 0) {
      const hint = `try again in ${Math.ceil(waitMs / 1000)} s`;
      return new RollcallError('RATE_LIMITED', message, { hint, retryAfterMs: waitMs });
    }
    if (this.#wholeAt.size >= this.#sweepAt) this.#sweep(now);
    this.#wholeAt.set(party, wholeAt + refillMs);
    return undefined;
  }

  #sweep(now: number): void {
    for (const [party, wholeAt] of this.#wholeAt) if (wholeAt <= now) this.#wholeAt.delete(party);
    this.#sweepAt = Math.max(sweepFrom, 2 * this.#wholeAt.size);
  }
}
