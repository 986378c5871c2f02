import fc from 'fast-check';
import t from 'tap';
import { isRollcallError, type RollcallError } from '../../../../src/base/errors.js';
import { createLog } from '../../../../src/base/log.js';
import {
  accountSlowing,
  addressSlowing,
  createGuesses,
  delayAfter,
  type Guess,
  type Guesses,
} from '../../../../src/link/access/login/login-throttle.js';
import { openKnownPlaces } from '../../../../src/link/access/login/known-places.js';
import { createMemoryStore } from '../../../../src/store/memory.js';
import { createPowerCutStore } from '../../../../src/store/power-cut.js';
import type { Store } from '../../../../src/store/store.js';
import { createManualClock, type ManualClock } from '../../../harness/manual-clock.js';

const minuteMs = 60_000;
const dayMs = 86_400_000;
const log = createLog({ level: 'silent', name: 'link' });

async function start(store: Store = createMemoryStore(), clock = createManualClock()) {
  const known = await openKnownPlaces({ store, clock, log });
  return { clock, known, guesses: createGuesses({ clock, known }) };
}

/** The refusal, if any; an accepted guess is withdrawn again. */
async function refusal(
  guesses: Guesses,
  address: string,
  account?: string,
): Promise<RollcallError | undefined> {
  try {
    (await guesses.begin(address, account)).withdrawn();
    return undefined;
  } catch (error) {
    if (isRollcallError(error, 'RATE_LIMITED')) return error;
    throw error;
  }
}

const isLetIn = async (guesses: Guesses, address: string, account?: string): Promise<boolean> =>
  (await refusal(guesses, address, account)) === undefined;

type Who = readonly [address: string | ((n: number) => string), account?: string];

/** Begins as soon as that is allowed. */
async function beginPatiently(
  { guesses, clock }: { guesses: Guesses; clock: ManualClock },
  address: string,
  account?: string,
): Promise<Guess> {
  for (;;) {
    const late = await refusal(guesses, address, account);
    if (!late) return guesses.begin(address, account);
    clock.advance(late.retryAfterMs ?? 0);
  }
}

/** Fails this many times, waiting as long as each refusal states; true when the next one has to wait. */
async function fail(
  rig: { guesses: Guesses; clock: ManualClock },
  times: number,
  [address, account]: Who,
): Promise<boolean> {
  let mustWait = false;
  for (let n = 0; n < times; n++) {
    const from = typeof address === 'string' ? address : address(n);
    mustWait = (await beginPatiently(rig, from, account)).failed();
  }
  return mustWait;
}

async function comeIn({ guesses }: { guesses: Guesses }, address: string, account: string): Promise<void> {
  (await guesses.begin(address, account)).succeeded();
}

const elsewhere = (n: number): string => `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`;
const turn = (): Promise<void> => new Promise(setImmediate);

void t.test('the delay of logins is zero at first, then doubles from one second to its maximum', test => {
  const after = (failures: number) => delayAfter(failures, { free: 5, maxMs: 60_000 });
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

void t.test(
  'an address may fail ten times, then waits longer each time, up to fifteen minutes',
  async test => {
    const rig = await start();
    const { clock, guesses } = rig;
    for (let n = 0; n < 10; n++) test.notOk((await guesses.begin('192.0.2.1', `name-${n}`)).failed());
    test.ok((await guesses.begin('192.0.2.1', 'another')).failed(), 'worth an alert');
    test.match(await refusal(guesses, '192.0.2.1', 'yet another'), { retryAfterMs: 1000 });
    test.ok(await isLetIn(guesses, '192.0.2.2', 'yet another'), 'another address goes on');
    clock.advance(999);
    test.match(await refusal(guesses, '192.0.2.1'), { retryAfterMs: 1 });
    clock.advance(1);
    test.ok(await isLetIn(guesses, '192.0.2.1'));
    await fail(rig, 50, ['192.0.2.1']);
    test.match(await refusal(guesses, '192.0.2.1'), { retryAfterMs: addressSlowing.maxMs });
    clock.advance(60 * minuteMs);
    await fail(rig, 10, ['192.0.2.1']);
    test.ok(await isLetIn(guesses, '192.0.2.1'), 'after a quiet hour it starts anew');
  },
);

void t.test('an account may fail five times from any address, then waits up to a minute', async test => {
  const rig = await start();
  const { clock, guesses } = rig;
  await fail(rig, 5, [elsewhere, 'ann']);
  test.ok(await isLetIn(guesses, '192.0.2.1', 'ann'));
  await fail(rig, 1, [elsewhere, 'ANN']);
  test.match(await refusal(guesses, '192.0.2.1', 'Ann'), { retryAfterMs: 1000 }, 'whatever the case');
  await fail(rig, 100, [elsewhere, 'ann']);
  test.match(await refusal(guesses, '192.0.2.1', 'ann'), { retryAfterMs: accountSlowing.maxMs });
  test.ok(await isLetIn(guesses, '192.0.2.1', 'bob'));
  clock.advance(15 * minuteMs);
  await fail(rig, 5, [elsewhere, 'ann']);
  test.ok(await isLetIn(guesses, '192.0.2.1', 'ann'), 'after a quiet quarter of an hour it starts anew');
});

void t.test('the refusal of a login is the same for an unknown account and a known one', async test => {
  const names = ['admin', 'nobody-at-all', '__proto__', 'constructor', '', ' ', 'x'.repeat(1_000_000)];
  for (const name of names) {
    const rig = await start();
    await fail(rig, 6, ['192.0.2.9', name]);
    const { message, hint, retryAfterMs } = (await refusal(rig.guesses, '198.51.100.1', name)) ?? {};
    test.same(
      [message, hint, retryAfterMs],
      ['too many failed attempts', 'wait a little, then try again', 1000],
      name.slice(0, 20),
    );
  }
});

void t.test('only a few of ten thousand consecutive guesses are tried', async test => {
  const { clock, guesses } = await start();
  let letIn = 0;
  for (let n = 0; n < 10_000; n++) {
    const guess = await guesses.begin(elsewhere(n), 'ann').catch(() => undefined);
    if (guess?.failed() !== undefined) letIn += 1;
    clock.advance(100);
  }
  test.ok(letIn < 40, `${letIn} in 17 minutes, from as many addresses`);
});

void t.test(
  'simultaneous guesses count from their start, and no more start than may fail without delay',
  async test => {
    for (const [address, account, max] of [
      [elsewhere, 'ann', 6],
      [() => '192.0.2.1', undefined, 11],
    ] as const) {
      const { guesses } = await start();
      const begun: Guess[] = [];
      const refused: unknown[] = [];
      for (let n = 0; n < 50; n++)
        void guesses.begin(address(n), account).then(
          guess => begun.push(guess),
          (error: unknown) => refused.push(error),
        );
      await turn();
      test.same([begun.length, refused.length], [max, 0], 'the others wait for one of them to end');
      for (const guess of begun) guess.failed();
      await turn();
      test.same([begun.length, refused.length], [max, 50 - max], 'and are refused when all were wrong');
    }
  },
);

void t.test('a program that requests many tokens at once gets them all', async test => {
  const rig = await start();
  const { guesses } = rig;
  await comeIn(rig, '192.0.2.1', 'service:1');
  let underWay = 0;
  let maxUnderWay = 0;
  const one = async (): Promise<void> => {
    const guess = await guesses.begin('192.0.2.1', 'service:1');
    maxUnderWay = Math.max(maxUnderWay, (underWay += 1));
    await turn();
    underWay -= 1;
    guess.succeeded();
  };
  await Promise.all(Array.from({ length: 60 }, one));
  test.equal(maxUnderWay, 6, 'six at a time');
});

void t.test('at most 64 logins of one network wait, and other networks keep their slots', async test => {
  const { guesses } = await start();
  const all = Array.from({ length: 100 }, () => guesses.begin('192.0.2.1', undefined));
  const refused = await Promise.all(all.slice(75).map(each => each.catch((error: unknown) => error)));
  for (const each of refused) test.match(each, { code: 'RATE_LIMITED', retryAfterMs: 1000 });
  test.ok(await isLetIn(guesses, '192.0.2.2'));
  for (const each of all.slice(0, 11)) void each.then(guess => guess.succeeded());
  for (const each of all.slice(11, 75)) await each.then(guess => guess.succeeded());
});

void t.test('once a login is delayed, each pending guess extends the delay of the next', async test => {
  const rig = await start();
  const { clock, guesses } = rig;
  await fail(rig, 6, [elsewhere, 'ann']);
  clock.advance(1000);
  const never = await guesses.begin('192.0.2.1', 'ann');
  test.match(await refusal(guesses, '192.0.2.2', 'ann'), { retryAfterMs: 2000 });
  clock.advance(2000);
  test.ok(await isLetIn(guesses, '192.0.2.2', 'ann'), 'one that never ends blocks nobody');
  never.withdrawn();
  test.ok(await isLetIn(guesses, '192.0.2.2', 'ann'));
});

void t.test('a withdrawn guess changes no delay', async test => {
  const rig = await start();
  await fail(rig, 5, ['192.0.2.1', 'ann']);
  for (let n = 0; n < 20; n++) (await rig.guesses.begin('192.0.2.1', 'ann')).withdrawn();
  test.ok(await isLetIn(rig.guesses, '192.0.2.1', 'ann'));
  await fail(rig, 1, ['192.0.2.1', 'ann']);
  test.match(await refusal(rig.guesses, '192.0.2.1', 'ann'), { retryAfterMs: 1000 }, 'nor does it take back');
});

void t.test(
  'an admin under attack from everywhere can still log in from an address known for her',
  async test => {
    const rig = await start();
    const { clock, guesses } = rig;
    await comeIn(rig, '192.0.2.1', 'admin');
    await fail(rig, 100, [elsewhere, 'admin']);
    const guess = await guesses.begin('192.0.2.1', 'Admin');
    test.match(guess, { isKnown: true, failures: 0 });
    guess.succeeded();
    test.ok(await refusal(guesses, '192.0.2.2', 'admin'), 'which does not help those who guess elsewhere');
    clock.advance(31 * dayMs);
    await fail(rig, 6, [elsewhere, 'admin']);
    test.ok(await refusal(guesses, '192.0.2.1', 'admin'), 'for thirty days');
  },
);

void t.test(
  'strangers behind a shared address cannot lock out an account that is known at it',
  async test => {
    const rig = await start();
    const { clock, guesses } = rig;
    await comeIn(rig, '192.0.2.1', 'admin');
    for (let n = 0; n < 30; n++) await fail(rig, 1, ['192.0.2.1', `name-${n}`]);
    test.ok(await refusal(guesses, '192.0.2.1', 'bob'));
    test.ok(await isLetIn(guesses, '192.0.2.1', 'admin'));
    await fail(rig, 20, ['192.0.2.1', 'admin']);
    test.match(
      await refusal(guesses, '192.0.2.1', 'admin'),
      { retryAfterMs: 60_000 },
      'guesses there wait too',
    );
    clock.advance(60_000);
    await comeIn(rig, '192.0.2.1', 'admin');
    await fail(rig, 5, ['192.0.2.1', 'admin']);
    test.ok(await isLetIn(guesses, '192.0.2.1', 'admin'), 'and the right password clears them');
  },
);

void t.test(
  'a successful login resets the delay of its own account, but not the delay of its address',
  async test => {
    const rig = await start();
    const { guesses } = rig;
    await fail(rig, 5, ['192.0.2.1', 'ann']);
    await comeIn(rig, '192.0.2.1', 'ann');
    await fail(rig, 5, ['192.0.2.3', 'ann']);
    test.ok(await isLetIn(guesses, '192.0.2.4', 'ann'));
    for (let n = 0; n < 11; n++) {
      await fail(rig, 1, ['192.0.2.66', `victim-${n}`]);
      if (n < 10) await comeIn(rig, '192.0.2.66', 'mallory');
    }
    test.ok(await refusal(guesses, '192.0.2.66', 'victim'));
  },
);

void t.test('a flood of addresses and names does not evict entries that still have a delay', async test => {
  const rig = await start();
  await fail(rig, 20, ['192.0.2.1']);
  await fail(rig, 12, [elsewhere, 'ann']);
  for (let n = 0; n < 30_000; n++) (await rig.guesses.begin(elsewhere(n + 1000), `name-${n}`)).failed();
  test.ok(await refusal(rig.guesses, '192.0.2.1'));
  test.ok(await refusal(rig.guesses, '192.0.2.2', 'ann'));
});

void t.test('addresses of one IPv6 /64 count as one in the login throttle', async test => {
  const rig = await start();
  await fail(rig, 11, [n => `2001:db8:1:2::${n.toString(16)}`]);
  test.ok(await refusal(rig.guesses, '2001:db8:1:2:3::4'));
  test.ok(await isLetIn(rig.guesses, '2001:db8:1:3::4'));
});

void t.test('a stepped wall clock does not change the delays of logins', async test => {
  const rig = await start();
  await fail(rig, 11, ['192.0.2.1']);
  rig.clock.step(dayMs);
  test.match(await refusal(rig.guesses, '192.0.2.1'), { retryAfterMs: 1000 });
});

void t.test(
  'known addresses of an account survive a restart of the link, and are stored as hashes only',
  async test => {
    const store = createMemoryStore();
    const first = await start(store);
    await comeIn(first, '192.0.2.1', 'ann');
    for (let n = 0; n < 20; n++) await comeIn(first, elsewhere(n), 'bob');
    await first.known.close();
    const { guesses } = await start(store, first.clock);
    test.match(await guesses.begin('192.0.2.1', 'Ann'), { isKnown: true });
    test.match(await guesses.begin('192.0.2.1', 'bob'), { isKnown: false });
    test.match(await guesses.begin('192.0.2.2', 'ann'), { isKnown: false });
    test.match(await guesses.begin(elsewhere(19), 'bob'), { isKnown: true });
    test.match(
      await guesses.begin(elsewhere(0), 'bob'),
      { isKnown: false },
      'sixteen networks of each account',
    );
    const text = JSON.stringify(
      (await store.list({ prefix: '' })).map(({ key, value }) => [key, String(value)]),
    );
    test.notMatch(text, /192\.0\.2\.1|ann|bob/);
    test.equal((await store.list({ prefix: 'access/known/' })).length, 2);
  },
);

void t.test('a failing store does not prevent logins, nor that their addresses become known', async test => {
  const disk = createPowerCutStore();
  const rig = await start(disk.store);
  disk.failWrites(new Error('gone'));
  await comeIn(rig, '192.0.2.1', 'ann');
  await rig.known.close();
  test.match(await rig.guesses.begin('192.0.2.1', 'ann'), { isKnown: true });
});
