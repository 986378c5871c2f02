/**
 * Slows down guessing: who failed often waits, longer each time, counted per address and per account. In memory and
 * bounded. Whether a password was right is for others, who ask to be admitted first and tell how it ended.
 *
 * Nobody can shut anybody else out: an account that came in from an address lately is judged there by what this very
 * pair got wrong, not by what strangers tried on the account from elsewhere or on other accounts from behind the same
 * proxy. And every delay has an end.
 */
import { createHash } from 'node:crypto';
import type { Clock } from '../../base/clock.js';
import { RollcallError } from '../../base/errors.js';
import { networkOf } from '../../base/network.js';
import { createBoundedMap } from './bounded-map.js';

export interface Guesses {
  /**
   * Throws RATE_LIMITED, with `retryAfterMs`, when an attempt has to wait. Without an account only the address counts.
   * Names that nobody has are counted as any other.
   */
  admit(address: string, account: string | undefined): void;
  /** True when the next attempt has to wait: these failures are worth an alert. */
  failed(address: string, account: string | undefined): boolean;
  succeeded(address: string, account: string | undefined): void;
}

export interface Slowing {
  /** Failures that cost no waiting. */
  readonly free: number;
  readonly mostMs: number;
  /** Forgotten after so long without a failure. */
  readonly quietMs: number;
}

export const addressSlowing: Slowing = { free: 10, mostMs: 15 * 60_000, quietMs: 60 * 60_000 };
export const accountSlowing: Slowing = { free: 5, mostMs: 60_000, quietMs: 15 * 60_000 };

const firstDelayMs = 1_000;
/** Of each kind of count; those that make somebody wait, and those that do not. */
const countsKept = 10_000;
/** Accounts whose addresses are remembered, and how many of each. */
const accountsKnown = 10_000;
const addressesKnown = 16;
const knownForMs = 30 * 86_400_000;
/** Once there is a delay, one attempt at a time, or many at once would be many guesses for one delay. */
const attemptMs = 5_000;

/** How long to wait after so many failures, ms: nothing, then a second, doubling. */
export function delayAfter(failures: number, { free, mostMs }: Omit<Slowing, 'quietMs'>): number {
  return failures <= free ? 0 : Math.min(mostMs, firstDelayMs * 2 ** (failures - free - 1));
}

interface Count {
  readonly failures: number;
  readonly failedAt: number;
  /** When an attempt was admitted that has not ended. */
  readonly triedAt?: number | undefined;
}

interface Counts {
  /** Until the next attempt is admitted, ms. */
  waitMs(key: string, now: number): number;
  try(key: string, now: number): void;
  /** Gives how long to wait from now on. */
  fail(key: string, now: number): number;
  /** The attempt has ended well, which takes back none of the failures. */
  pass(key: string): void;
  forget(key: string): void;
}

function createCounts(slowing: Slowing): Counts {
  // Apart, so that a flood of addresses with one failure each does not push out those that have to wait.
  const harmless = createBoundedMap<Count>(countsKept);
  const delayed = createBoundedMap<Count>(countsKept);

  function find(key: string, now: number): Count | undefined {
    const count = delayed.get(key) ?? harmless.get(key);
    return count && now - count.failedAt < slowing.quietMs ? count : undefined;
  }

  return {
    waitMs(key, now) {
      const count = find(key, now);
      if (!count || count.failures <= slowing.free) return 0;
      const delayMs = count.failedAt + delayAfter(count.failures, slowing) - now;
      return Math.max(0, delayMs, (count.triedAt ?? -Infinity) + attemptMs - now);
    },
    try(key, now) {
      const count = delayed.get(key);
      if (count) delayed.set(key, { ...count, triedAt: now });
    },
    fail(key, now) {
      const failures = (find(key, now)?.failures ?? 0) + 1;
      const [mine, other] = failures > slowing.free ? [delayed, harmless] : [harmless, delayed];
      other.delete(key);
      mine.set(key, { failures, failedAt: now });
      return delayAfter(failures, slowing);
    },
    pass(key) {
      const count = delayed.get(key);
      if (count) delayed.set(key, { ...count, triedAt: undefined });
    },
    forget(key) {
      harmless.delete(key);
      delayed.delete(key);
    },
  };
}

export function createGuesses({ clock }: { readonly clock: Pick<Clock, 'elapsed'> }): Guesses {
  const byAddress = createCounts(addressSlowing);
  const byAccount = createCounts(accountSlowing);
  const byPair = createCounts(accountSlowing);
  /** When each account last came in, by where from. */
  const known = createBoundedMap<ReturnType<typeof createBoundedMap<number>>>(accountsKnown);

  function isKnown(place: Place): boolean {
    const at = known.get(place.account)?.get(place.address);
    return at !== undefined && clock.elapsed() - at < knownForMs;
  }

  function remember({ account, address }: Place): void {
    const addresses = known.get(account) ?? createBoundedMap<number>(addressesKnown);
    addresses.set(address, clock.elapsed());
    known.set(account, addresses);
  }

  /** The counts that hold for an attempt. */
  function countsFor(place: Place): [Counts, string][] {
    if (place.account === '') return [[byAddress, place.address]];
    if (isKnown(place)) return [[byPair, place.pair]];
    return [
      [byAddress, place.address],
      [byAccount, place.account],
    ];
  }

  return {
    admit(address, account) {
      const now = clock.elapsed();
      const counts = countsFor(placeOf(address, account));
      const waitMs = Math.max(...counts.map(([each, key]) => each.waitMs(key, now)));
      if (waitMs > 0) throw tooMany(waitMs);
      for (const [each, key] of counts) each.try(key, now);
    },
    failed(address, account) {
      const now = clock.elapsed();
      const place = placeOf(address, account);
      const waits = [byAddress.fail(place.address, now)];
      if (place.account !== '') waits.push(byAccount.fail(place.account, now));
      if (isKnown(place)) waits.push(byPair.fail(place.pair, now));
      return Math.max(...waits) > 0;
    },
    succeeded(address, account) {
      const place = placeOf(address, account);
      // Not forgotten: who has one account could otherwise guess at others without end.
      byAddress.pass(place.address);
      if (place.account === '') return;
      // From a known address others' failures did not matter, and go on slowing the others down.
      if (isKnown(place)) byPair.forget(place.pair);
      else byAccount.forget(place.account);
      remember(place);
    },
  };
}

interface Place {
  readonly address: string;
  /** Empty for none. */
  readonly account: string;
  readonly pair: string;
}

/** Names are hashed: they come in any length, and people type passwords where names belong. */
function placeOf(address: string, account: string | undefined): Place {
  const network = networkOf(address);
  const name =
    account === undefined ? '' : createHash('sha256').update(account.toLowerCase()).digest('base64url');
  return { address: network, account: name, pair: `${name} ${network}` };
}

function tooMany(waitMs: number): RollcallError {
  return new RollcallError('RATE_LIMITED', 'too many failed attempts', {
    hint: 'wait a little, then try again',
    retryAfterMs: Math.ceil(waitMs),
  });
}
