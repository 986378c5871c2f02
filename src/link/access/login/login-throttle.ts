/**
 * Slows down guessing: each failure makes the next attempt wait longer, counted per network and per account. In memory
 * and bounded. The caller checks the password: it begins a guess here first and reports the outcome.
 *
 * A guess counts as wrong from its beginning, and only a right one takes that back: many at once, or guesses whose
 * sender does not wait for the answer, are no cheaper than one after the other. While as many are under way as may fail
 * for nothing, the next ones wait for one of them to end, so that honest programs may ask in parallel.
 *
 * No caller can lock out another: an account that came in from a network lately is judged there by what this very
 * pair got wrong, not by what strangers tried on the account from elsewhere or on other accounts from behind the same
 * proxy. And every delay has an end.
 */
import { sha256Base64url } from '../../../base/hash.js';
import type { Clock } from '../../../base/clock.js';
import { RollcallError } from '../../../base/errors.js';
import { networkOf } from '../../../base/network.js';
import { createBoundedMap } from '../bounded-map.js';
import type { KnownPlaces } from './known-places.js';

export interface Guesses {
  /**
   * Resolves when an attempt may begin. RATE_LIMITED, with `retryAfterMs`, when it has to come back later. Without an
   * account only the network counts. Names that nobody has are counted as any other.
   */
  begin(address: string, account: string | undefined): Promise<Guess>;
}

/** An attempt that is under way. It must be told how it ended, once. */
export interface Guess {
  /** The network it comes from, and the account where that came in from there before. */
  readonly party: string;
  readonly isKnown: boolean;
  /** Recent wrong guesses of this party, and those that have not ended yet. */
  readonly failures: number;
  /** True when the next attempt has to wait: these failures are worth an alert. */
  failed(): boolean;
  succeeded(): void;
  /** It was neither right nor wrong. */
  withdrawn(): void;
}

export interface Slowing {
  /** Failures that cost no waiting. */
  readonly free: number;
  readonly maxMs: number;
  /** Forgotten after so long without a failure. */
  readonly quietMs: number;
}

export const addressSlowing: Slowing = { free: 10, maxMs: 15 * 60_000, quietMs: 60 * 60_000 };
export const accountSlowing: Slowing = { free: 5, maxMs: 60_000, quietMs: 15 * 60_000 };

const firstDelayMs = 1_000;
/** Of each kind of count; those that make somebody wait, and those that do not. */
const maxCounts = 10_000;
/** Attempts of one network that wait for others to end. */
const maxWaiting = 64;

/** How long to wait after so many failures, ms: nothing, then a second, doubling. */
export function delayAfter(failures: number, { free, maxMs }: Omit<Slowing, 'quietMs'>): number {
  return failures <= free ? 0 : Math.min(maxMs, firstDelayMs * 2 ** (failures - free - 1));
}

interface Count {
  readonly failures: number;
  readonly failedAt: number;
  /** Attempts that have begun and not ended. */
  readonly underWay: number;
  readonly begunAt: number;
}

const nothing: Count = { failures: 0, failedAt: -Infinity, underWay: 0, begunAt: -Infinity };

/** The counts of one kind, by network, account or both. */
class Counts {
  readonly #slowing: Slowing;
  // Apart, so that a flood of networks with one failure each does not push out those that have to wait.
  readonly #harmless = createBoundedMap<Count>(maxCounts);
  readonly #delayed = createBoundedMap<Count>(maxCounts);

  constructor(slowing: Slowing) {
    this.#slowing = slowing;
  }

  find(key: string, now: number): Count {
    const count = this.#delayed.get(key) ?? this.#harmless.get(key) ?? nothing;
    return now - count.failedAt < this.#slowing.quietMs ? count : { ...count, failures: 0 };
  }

  /** Until the next attempt may begin, ms. */
  waitMs(key: string, now: number): number {
    const { failures, failedAt, underWay, begunAt } = this.find(key, now);
    if (failures <= this.#slowing.free) return 0;
    const since = underWay > 0 ? Math.max(failedAt, begunAt) : failedAt;
    return Math.max(0, since + delayAfter(failures + underWay, this.#slowing) - now);
  }

  /** Another attempt would cost a delay if all that are under way failed. */
  isCrowded(key: string, now: number): boolean {
    const { failures, underWay } = this.find(key, now);
    const { free } = this.#slowing;
    return failures <= free && failures + underWay > free;
  }

  begin(key: string, now: number): void {
    const count = this.find(key, now);
    this.#set(key, { ...count, underWay: count.underWay + 1, begunAt: now });
  }

  /** `passed` takes back none of the failures, `cleared` all of them. Gives how long to wait from now on. */
  end(key: string, now: number, outcome: 'failed' | 'passed' | 'cleared'): number {
    const count = this.find(key, now);
    const ended = { ...count, underWay: Math.max(0, count.underWay - 1) };
    if (outcome === 'cleared') this.#set(key, { ...ended, failures: 0, failedAt: -Infinity });
    else if (outcome === 'passed') this.#set(key, ended);
    else this.#set(key, { ...ended, failures: count.failures + 1, failedAt: now });
    return delayAfter(this.find(key, now).failures, this.#slowing);
  }

  #set(key: string, count: Count): void {
    const isDelayed = count.failures > this.#slowing.free;
    const [mine, other] = isDelayed ? [this.#delayed, this.#harmless] : [this.#harmless, this.#delayed];
    other.delete(key);
    if (count.failures + count.underWay > 0) mine.set(key, count);
    else mine.delete(key);
  }
}

/** Some of the counts, and under which key. */
type Tally = readonly [Counts, string];

interface Place {
  readonly network: string;
  /** Empty for none. */
  readonly account: string;
  readonly pair: string;
}

export interface GuessesOptions {
  readonly clock: Pick<Clock, 'elapsed'>;
  readonly known: Pick<KnownPlaces, 'has' | 'remember'>;
}

export function createGuesses(options: GuessesOptions): Guesses {
  return new LoginThrottle(options);
}

class LoginThrottle implements Guesses {
  readonly #clock: GuessesOptions['clock'];
  readonly #known: GuessesOptions['known'];
  readonly #byNetwork = new Counts(addressSlowing);
  readonly #byAccount = new Counts(accountSlowing);
  readonly #byPair = new Counts(accountSlowing);
  /** By network, those that wait for another attempt to end. */
  readonly #waiting = new Map<string, Set<() => void>>();

  constructor({ clock, known }: GuessesOptions) {
    this.#clock = clock;
    this.#known = known;
  }

  async begin(address: string, account: string | undefined): Promise<Guess> {
    const place = placeOf(address, account);
    // Others may have been quicker each time.
    while (this.#mustWait(place)) await this.#anotherEnds(place.network);
    return this.#begun(place, this.#known.has(place.account, place.network));
  }

  /** Throws RATE_LIMITED where waiting here would not do. */
  #mustWait(place: Place): boolean {
    const now = this.#clock.elapsed();
    const judging = this.#judging(place, this.#known.has(place.account, place.network));
    const waitMs = Math.max(...judging.map(([counts, key]) => counts.waitMs(key, now)));
    if (waitMs > 0) throw tooMany(waitMs);
    return judging.some(([counts, key]) => counts.isCrowded(key, now));
  }

  /** The counts that hold for an attempt. */
  #judging({ network, account, pair }: Place, isKnown: boolean): readonly Tally[] {
    if (isKnown) return [[this.#byPair, pair]];
    const byNetwork: Tally = [this.#byNetwork, network];
    return account === '' ? [byNetwork] : [byNetwork, [this.#byAccount, account]];
  }

  #anotherEnds(network: string): Promise<void> {
    const waiting = this.#waiting.get(network) ?? new Set();
    if (waiting.size >= maxWaiting) throw tooMany(firstDelayMs);
    this.#waiting.set(network, waiting);
    return new Promise(resolve => waiting.add(resolve));
  }

  /** They look again, in the order in which they came. */
  #wake(): void {
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const each of waiting) for (const resume of each) resume();
  }

  #begun(place: Place, isKnown: boolean): Guess {
    const { network, account, pair } = place;
    const clock = this.#clock;
    const byNetwork: Tally = [this.#byNetwork, network];
    const byAccount: readonly Tally[] = account === '' ? [] : [[this.#byAccount, account]];
    const byPair: readonly Tally[] = isKnown ? [[this.#byPair, pair]] : [];
    const all = [byNetwork, ...byAccount, ...byPair];
    const [[judged, key]] = isKnown ? [[this.#byPair, pair] as const] : [byNetwork];
    const { failures, underWay } = judged.find(key, clock.elapsed());
    for (const [counts, each] of all) counts.begin(each, clock.elapsed());

    const end = (tallies: readonly Tally[], outcome: 'failed' | 'passed' | 'cleared'): number =>
      Math.max(0, ...tallies.map(([counts, each]) => counts.end(each, clock.elapsed(), outcome)));
    return {
      party: isKnown ? pair : network,
      isKnown,
      failures: failures + underWay,
      failed: () => {
        const waitMs = end(all, 'failed');
        this.#wake();
        return waitMs > 0;
      },
      succeeded: () => {
        // Not cleared: who has one account could otherwise guess at others without end.
        end([byNetwork], 'passed');
        // From a known network others' failures did not matter, and go on slowing the others down.
        end(byAccount, isKnown ? 'passed' : 'cleared');
        end(byPair, 'cleared');
        if (account !== '') this.#known.remember(account, network);
        this.#wake();
      },
      withdrawn: () => {
        end(all, 'passed');
        this.#wake();
      },
    };
  }
}

/** Names are hashed: they come in any length, and people type passwords where names belong. */
function placeOf(address: string, account: string | undefined): Place {
  const network = networkOf(address);
  const name = account === undefined ? '' : sha256Base64url(account.toLowerCase());
  return { network, account: name, pair: `${name} ${network}` };
}

function tooMany(waitMs: number): RollcallError {
  return new RollcallError('RATE_LIMITED', 'too many failed attempts', {
    hint: 'wait a little, then try again',
    retryAfterMs: Math.ceil(waitMs),
  });
}
