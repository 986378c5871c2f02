/**
 * Time as an argument. Dates (certificates, "since") go by `now`, waits and durations by `elapsed` and the timers,
 * which a stepped wall clock does not touch. Tests drive a clock of their own.
 */

export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Milliseconds since 1970, wall clock. */
  now(): number;
  /** Milliseconds from an arbitrary start, monotonic. */
  elapsed(): number;
  /** Calls once, after at least `delayMs`. The timer does not keep the process alive. */
  after(delayMs: number, call: () => void): Timer;
  /** Calls again and again. The timer does not keep the process alive. */
  every(periodMs: number, call: () => void): Timer;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  elapsed: () => performance.now(),
  after(delayMs, call) {
    const dueAt = performance.now() + delayMs;
    // Node.js counts whole milliseconds, so that a timer may fire up to one too early.
    const fire = (): void => {
      const leftMs = dueAt - performance.now();
      if (leftMs > 0 && leftMs <= 1) timer = setTimeout(fire, 1).unref();
      else call();
    };
    let timer = setTimeout(fire, delayMs).unref();
    return { cancel: () => clearTimeout(timer) };
  },
  every(periodMs, call) {
    const timer = setInterval(call, periodMs).unref();
    return { cancel: () => clearInterval(timer) };
  },
};
