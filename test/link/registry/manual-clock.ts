/** A clock that advances only on demand. */
import type { Clock, Timer } from '../../../src/base/clock.js';

export interface ManualClock extends Clock {
  /** Moves on and calls what has become due, in order. */
  advance(ms: number): void;
}

interface Waiting {
  at: number;
  readonly periodMs: number | undefined;
  readonly call: () => void;
}

export function createManualClock(startAt = 1_700_000_000_000): ManualClock {
  let elapsed = 0;
  const waiting = new Set<Waiting>();

  function add(at: number, periodMs: number | undefined, call: () => void): Timer {
    const entry = { at, periodMs, call };
    waiting.add(entry);
    return { cancel: () => void waiting.delete(entry) };
  }

  function nextDue(until: number): Waiting | undefined {
    return [...waiting].filter(({ at }) => at <= until).sort((one, other) => one.at - other.at)[0];
  }

  return {
    now: () => startAt + elapsed,
    elapsed: () => elapsed,
    after: (delayMs, call) => add(elapsed + delayMs, undefined, call),
    every: (periodMs, call) => add(elapsed + periodMs, periodMs, call),
    advance(ms) {
      const until = elapsed + ms;
      for (let due = nextDue(until); due; due = nextDue(until)) {
        elapsed = due.at;
        if (due.periodMs === undefined) waiting.delete(due);
        else due.at += due.periodMs;
        due.call();
      }
      elapsed = until;
    },
  };
}
