/** The clock of programs. */
import t from 'tap';
import { systemClock } from '../../src/base/clock.js';

void t.test(
  'no timer fires before its time, so that a wait that reads the clock afterwards has really ended',
  async t => {
    // Timers that are not for a test keep no process alive.
    const alive = setInterval(() => undefined, 1_000);
    t.teardown(() => clearInterval(alive));
    const missing: Promise<number>[] = [];
    for (let count = 0; count < 1_000; count++) {
      const delayMs = 1 + (count % 20);
      const dueAt = systemClock.elapsed() + delayMs;
      missing.push(
        new Promise(resolve => void systemClock.after(delayMs, () => resolve(dueAt - systemClock.elapsed()))),
      );
      await new Promise<void>(resolve => setImmediate(resolve));
    }
    const early = (await Promise.all(missing)).filter(leftMs => leftMs > 0);
    t.equal(early.length, 0);
    let isCalled = false;
    systemClock.after(1, () => (isCalled = true)).cancel();
    await new Promise<void>(resolve => void systemClock.after(20, resolve));
    t.notOk(isCalled, 'one that was cancelled does not call');
  },
);
