/**
 * The queue for hashing passwords. Hashing is dear on purpose, so only two run at a time, and only one of them for
 * strangers: the other is for accounts that came in from there before and for people who are logged in, however many
 * strangers ask. Among those who wait, who was wrong less often comes first, and one party's second after everybody's
 * first: the cost of being wrong is the guesser's. Work whose sender has hung up is not done.
 */
import { RollcallError } from '../../../base/errors.js';
import { onAbort } from '../../../base/wait.js';

/** The party that the work is for. */
export interface HashAsker {
  /** A network, an account at one, or somebody who is logged in. */
  readonly party: string;
  readonly isKnown: boolean;
  /** Recent wrong guesses of the party. */
  readonly failures?: number;
  /** Fires when nobody waits for the result any more. */
  readonly signal?: AbortSignal | undefined;
}

/** Hashes at a time. */
const places = 2;
const placesOfStrangers = 1;
/** In each lane; beyond it a login is told to come back. */
const maxWaiting = 64;

interface Waiting {
  readonly party: string;
  /** The lowest comes first, then who came first. */
  readonly rank: number;
  start(): void;
  refuse(error: Error): void;
}

export class HashQueue {
  readonly #known = new Lane();
  readonly #strangers = new Lane();

  /** Runs the work when it is its turn. RATE_LIMITED when too many wait; the reason of the signal when that fires first. */
  async run<T>(asker: HashAsker, work: () => Promise<T>): Promise<T> {
    const lane = asker.isKnown ? this.#known : this.#strangers;
    const turn = lane.enter(asker);
    this.#startNext();
    await turn;
    try {
      return await work();
    } finally {
      lane.leave(asker.party);
      this.#startNext();
    }
  }

  #startNext(): void {
    while (this.#running < places && this.#known.start());
    while (this.#running < places && this.#strangers.running < placesOfStrangers && this.#strangers.start());
  }

  get #running(): number {
    return this.#known.running + this.#strangers.running;
  }
}

class Lane {
  #running = 0;
  readonly #waiting = new Set<Waiting>();
  /** Of each party, what waits or runs. */
  readonly #ofParty = new Map<string, number>();

  get running(): number {
    return this.#running;
  }

  /** Resolves when it was started; until it leaves, it holds a place. */
  enter({ party, failures = 0, signal }: HashAsker): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason as Error);
    const rank = failures + (this.#ofParty.get(party) ?? 0);
    if (this.#waiting.size >= maxWaiting && !this.#makeRoom(rank)) return Promise.reject(tooMany());
    return new Promise((resolve, reject) => {
      const stop = (): void => {
        forget();
        this.#waiting.delete(waiting);
      };
      const waiting: Waiting = {
        party,
        rank,
        start() {
          stop();
          resolve();
        },
        refuse: error => {
          stop();
          this.#add(party, -1);
          reject(error);
        },
      };
      const forget = onAbort(signal, () => waiting.refuse(signal?.reason as Error));
      this.#add(party, 1);
      this.#waiting.add(waiting);
    });
  }

  /** Starts the one whose turn it is; false when nobody waits. */
  start(): boolean {
    const [first, ...rest] = this.#waiting;
    if (!first) return false;
    this.#running += 1;
    rest.reduce((best, each) => (each.rank < best.rank ? each : best), first).start();
    return true;
  }

  leave(party: string): void {
    this.#running -= 1;
    this.#add(party, -1);
  }

  /** The last in turn gives way to one that comes before it. */
  #makeRoom(rank: number): boolean {
    const [first, ...rest] = this.#waiting;
    const last = rest.reduce((worst, each) => (each.rank >= (worst?.rank ?? 0) ? each : worst), first);
    if (!last || last.rank <= rank) return false;
    last.refuse(tooMany());
    return true;
  }

  #add(party: string, count: number): void {
    const left = (this.#ofParty.get(party) ?? 0) + count;
    if (left > 0) this.#ofParty.set(party, left);
    else this.#ofParty.delete(party);
  }
}

function tooMany(): RollcallError {
  return new RollcallError('RATE_LIMITED', 'too many logins at once', {
    hint: 'try again in a few seconds',
    retryAfterMs: 5_000,
  });
}
