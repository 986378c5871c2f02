import fc from 'fast-check';
import t from 'tap';
import { isRollcallError, type RollcallError } from '../../../src/base/errors.js';
import {
  accountSlowing,
  addressSlowing,
  createGuesses,
  delayAfter,
  type Guesses,
} from '../../../src/link/access/guesses.js';
import { createManualClock } from '../../harness/manual-clock.js';

const minuteMs = 60_000;
const dayMs = 86_400_000;

function start() {
  const clock = createManualClock();
  return { clock, guesses: createGuesses({ clock }) };
}

/** The refusal, if any. */
function refusal(guesses: Guesses, address: string, account?: string): RollcallError | undefined {
  try {
    guesses.admit(address, account);
    return undefined;
  } catch (error) {
    if (isRollcallError(error, 'RATE_LIMITED')) return error;
    throw error;
  }
}

const isAdmitted = (guesses: Guesses, address: string, account?: string): boolean =>
  refusal(guesses, address, account) === undefined;

function fail(guesses: Guesses, times: number, address: (n: number) => string, account?: string): void {
  for (let n = 0; n < times; n++) guesses.failed(address(n), account);
}

const elsewhere = (n: number): string => `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`;

void t.test('the delay is nothing at first, then doubles from a second to its end', test => {
  const after = (failures: number) => delayAfter(failures, { free: 5, mostMs: 60_000 });
  test.same([0, 1, 5, 6, 7, 8, 11, 12, 13].map(after), [0, 0, 0, 1000, 2000, 4000, 32_000, 60_000, 60_000]);
  test.equal(after(1e9), 60_000);
  fc.assert(
    fc.property(fc.nat(), failures => {
      const delays = [after(failures), after(failures + 1)];
      return delays.every(each => each >= 0 && each <= 60_000) && (delays[0] ?? 0) <= (delays[1] ?? 0);
    }),
  );
  test.end();
});

void t.test('an address may fail ten times, then waits longer each time, fifteen minutes at most', test => {
  const { clock, guesses } = start();
  for (let n = 0; n < 10; n++) {
    test.ok(isAdmitted(guesses, '192.0.2.1', `name-${n}`));
    test.notOk(guesses.failed('192.0.2.1', `name-${n}`));
  }
  test.ok(isAdmitted(guesses, '192.0.2.1', 'another'));
  test.ok(guesses.failed('192.0.2.1', 'another'), 'worth an alert');
  test.match(refusal(guesses, '192.0.2.1', 'yet another'), { retryAfterMs: 1000 });
  test.ok(isAdmitted(guesses, '192.0.2.2', 'yet another'), 'another address goes on');
  clock.advance(999);
  test.match(refusal(guesses, '192.0.2.1'), { retryAfterMs: 1 });
  clock.advance(1);
  test.ok(isAdmitted(guesses, '192.0.2.1'));
  for (let n = 0; n < 50; n++) guesses.failed('192.0.2.1', undefined);
  test.match(refusal(guesses, '192.0.2.1'), { retryAfterMs: addressSlowing.mostMs });
  clock.advance(60 * minuteMs);
  fail(guesses, 10, () => '192.0.2.1');
  test.ok(isAdmitted(guesses, '192.0.2.1'), 'after a quiet hour it starts anew');
  test.end();
});

void t.test('an account may fail five times from wherever, then waits a minute at most', test => {
  const { clock, guesses } = start();
  fail(guesses, 5, elsewhere, 'ann');
  test.ok(isAdmitted(guesses, '192.0.2.1', 'ann'));
  fail(guesses, 1, elsewhere, 'ANN');
  test.match(refusal(guesses, '192.0.2.1', 'Ann'), { retryAfterMs: 1000 }, 'whatever the case');
  fail(guesses, 10_000, elsewhere, 'ann');
  test.match(refusal(guesses, '192.0.2.1', 'ann'), { retryAfterMs: accountSlowing.mostMs });
  test.ok(isAdmitted(guesses, '192.0.2.1', 'bob'));
  clock.advance(15 * minuteMs);
  fail(guesses, 5, elsewhere, 'ann');
  test.ok(isAdmitted(guesses, '192.0.2.1', 'ann'), 'after a quiet quarter of an hour it starts anew');
  test.end();
});

void t.test('a refusal is the same for an account that nobody has, and for any other', test => {
  const { guesses } = start();
  const names = ['admin', 'nobody-at-all', '__proto__', 'constructor', '', ' ', 'x'.repeat(1_000_000)];
  const refusals = names.map(name => {
    fail(guesses, 6, () => '192.0.2.9', name);
    return refusal(guesses, '198.51.100.1', name);
  });
  for (const each of refusals) {
    test.same(
      [each?.message, each?.hint, each?.retryAfterMs],
      ['too many failed attempts', 'wait a little, then try again', 1000],
    );
  }
  test.end();
});

void t.test('ten thousand guesses at once are let through a few times only', test => {
  const { clock, guesses } = start();
  let admitted = 0;
  for (let n = 0; n < 10_000; n++) {
    if (isAdmitted(guesses, elsewhere(n), 'ann')) {
      admitted += 1;
      guesses.failed(elsewhere(n), 'ann');
    }
    clock.advance(100);
  }
  test.ok(admitted < 40, `${admitted} in 17 minutes, from as many addresses`);
  const { clock: another, guesses: others } = start();
  fail(others, 6, elsewhere, 'ann');
  another.advance(2_000);
  const together = Array.from({ length: 100 }, (_, n) => isAdmitted(others, elsewhere(n), 'ann'));
  test.equal(together.filter(Boolean).length, 1, 'and one at a time once there is a delay');
  test.end();
});

void t.test(
  'once there is a delay one attempt is under way at a time, but one that never ends blocks nobody',
  test => {
    const { clock, guesses } = start();
    fail(guesses, 6, elsewhere, 'ann');
    clock.advance(1000);
    test.ok(isAdmitted(guesses, '192.0.2.1', 'ann'));
    test.match(refusal(guesses, '192.0.2.2', 'ann'), { retryAfterMs: 5000 });
    clock.advance(5000);
    test.ok(isAdmitted(guesses, '192.0.2.2', 'ann'));
    test.end();
  },
);

void t.test('an admin under attack from everywhere still comes in from where she came in before', test => {
  const { clock, guesses } = start();
  guesses.succeeded('192.0.2.1', 'admin');
  fail(guesses, 10_000, elsewhere, 'admin');
  test.ok(isAdmitted(guesses, '192.0.2.1', 'Admin'));
  guesses.succeeded('192.0.2.1', 'admin');
  test.ok(refusal(guesses, '192.0.2.2', 'admin'), 'which does not help those who guess elsewhere');
  clock.advance(30 * dayMs);
  fail(guesses, 6, elsewhere, 'admin');
  test.ok(refusal(guesses, '192.0.2.1', 'admin'), 'for thirty days');
  test.end();
});

void t.test('strangers behind the same address cannot keep an account out that came in from there', test => {
  const { clock, guesses } = start();
  guesses.succeeded('192.0.2.1', 'admin');
  for (let n = 0; n < 1000; n++) guesses.failed('192.0.2.1', `name-${n}`);
  test.ok(refusal(guesses, '192.0.2.1', 'bob'));
  test.ok(isAdmitted(guesses, '192.0.2.1', 'admin'));
  fail(guesses, 100, () => '192.0.2.1', 'admin');
  test.match(refusal(guesses, '192.0.2.1', 'admin'), { retryAfterMs: 60_000 }, 'guesses there wait too');
  clock.advance(60_000);
  test.ok(isAdmitted(guesses, '192.0.2.1', 'admin'), 'a minute at most');
  guesses.succeeded('192.0.2.1', 'admin');
  fail(guesses, 5, () => '192.0.2.1', 'admin');
  test.ok(isAdmitted(guesses, '192.0.2.1', 'admin'), 'and the right password clears them');
  test.end();
});

void t.test(
  'coming in clears the account, but not the address: one own account is no way to guess at others',
  test => {
    const { guesses } = start();
    fail(guesses, 5, () => '192.0.2.1', 'ann');
    guesses.succeeded('192.0.2.1', 'ann');
    fail(guesses, 5, () => '192.0.2.3', 'ann');
    test.ok(isAdmitted(guesses, '192.0.2.4', 'ann'));
    for (let n = 0; n < 11; n++) {
      guesses.failed('192.0.2.66', `victim-${n}`);
      guesses.succeeded('192.0.2.66', 'mallory');
    }
    test.ok(refusal(guesses, '192.0.2.66', 'victim'));
    test.end();
  },
);

void t.test('a flood of addresses and names does not push out those that have to wait', test => {
  const { guesses } = start();
  fail(guesses, 20, () => '192.0.2.1');
  fail(guesses, 8, elsewhere, 'ann');
  for (let n = 0; n < 30_000; n++) guesses.failed(elsewhere(n), `name-${n}`);
  test.ok(refusal(guesses, '192.0.2.1'));
  test.ok(refusal(guesses, '192.0.2.2', 'ann'));
  test.end();
});

void t.test('addresses of one IPv6 /64 count as one', test => {
  const { guesses } = start();
  fail(guesses, 11, n => `2001:db8:1:2::${n.toString(16)}`);
  test.ok(refusal(guesses, '2001:db8:1:2:3::4'));
  test.ok(isAdmitted(guesses, '2001:db8:1:3::4'));
  test.end();
});

void t.test('a stepped wall clock changes nothing', test => {
  const { clock, guesses } = start();
  fail(guesses, 11, () => '192.0.2.1');
  clock.step(dayMs);
  test.match(refusal(guesses, '192.0.2.1'), { retryAfterMs: 1000 });
  test.end();
});
