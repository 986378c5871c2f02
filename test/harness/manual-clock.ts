/** A clock that moves only when a test moves it; timers fire in the order of their times. */
import type { Clock } from '../../src/base/clock.js';

export interface ManualClock extends Clock {
  /** Moves wall clock and monotonic time, firing what falls due. */
  advance(ms: number): void;
  /** As if the process had been stopped: time has passed, and what fell due meanwhile fires once, at the next advance. */
  oversleep(ms: number): void;
  /** Steps the wall clock alone, as an administrator or NTP would. */
  step(ms: number): void;
}

interface Pending {
  at: number;
  readonly everyMs: number | undefined;
  readonly call: () => void;
}

export function createManualClock(startAt = Date.now()): ManualClock {
  let elapsed = 0;
  let wall = startAt;
  const pending = new Set<Pending>();

  function add(at: number, everyMs: number | undefined, call: () => void) {
    const entry: Pending = { at, everyMs, call };
    pending.add(entry);
    return { cancel: () => void pending.delete(entry) };
  }

  function nextDue(until: number): Pending | undefined {
    let first: Pending | undefined;
    for (const entry of pending) if (entry.at <= until && (!first || entry.at < first.at)) first = entry;
    return first;
  }

  return {
    now: () => wall,
    elapsed: () => elapsed,
    after: (delayMs, call) => add(elapsed + delayMs, undefined, call),
    every: (periodMs, call) => add(elapsed + periodMs, periodMs, call),
    step: ms => void (wall += ms),
    oversleep(ms) {
      elapsed += ms;
      wall += ms;
      for (const entry of pending) entry.at = Math.max(entry.at, elapsed);
    },
    advance(ms) {
      const until = elapsed + ms;
      for (let entry = nextDue(until); entry; entry = nextDue(until)) {
        wall += Math.max(0, entry.at - elapsed);
        elapsed = Math.max(elapsed, entry.at);
        if (entry.everyMs === undefined) pending.delete(entry);
        else entry.at += entry.everyMs;
        entry.call();
      }
      wall += until - elapsed;
      elapsed = until;
    },
  };
}
