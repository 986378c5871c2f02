import t from 'tap';
import { systemRandom } from '../../../../src/base/random.js';
import { RollcallError } from '../../../../src/base/errors.js';
import type { HashAsker } from '../../../../src/link/access/accounts/hash-queue.js';
import { createPasswords, currentCost } from '../../../../src/link/access/accounts/passwords.js';
import { watchScrypt, type ScryptCost } from '../../../harness/scrypt.js';

/** Quick enough for many. */
const cheap = { logN: 4, r: 8, p: 1 };
const passwords = createPasswords(systemRandom, cheap);
/** A caller with a known account. */
const regular: HashAsker = { party: 'test', isKnown: true };
const good = 'correct horse battery';

/** Runs the work and gives the parameters of each scrypt it did. */
async function countingScrypt(work: () => Promise<unknown>): Promise<ScryptCost[]> {
  const calls: ScryptCost[] = [];
  await watchScrypt(cost => void calls.push(cost), work);
  return calls;
}

void t.test('the right password matches its hash and no other password does', async test => {
  const hash = await passwords.hash(good);
  test.match(hash, /^scrypt\$4\$8\$1\$[A-Za-z0-9_-]{22}\$[A-Za-z0-9_-]{43}$/);
  test.ok(await passwords.matches(good, hash, regular));
  for (const wrong of ['', 'correct horse batter', `${good} `, good.toUpperCase(), hash, `${good}\0`])
    test.notOk(await passwords.matches(wrong, hash, regular), wrong);
  test.not(await passwords.hash(good), hash, 'each hash has a salt of its own');
});

void t.test('a login of an unknown user costs the same work as of a known one, and fails', async test => {
  const hash = await passwords.hash(good);
  const outcomes: boolean[] = [];
  const workOf = (password: string, kept: string | undefined) =>
    countingScrypt(async () => outcomes.push(await passwords.matches(password, kept, regular)));
  const known = await workOf('a wrong password', hash);
  test.same(known, [{ N: 16, r: 8, p: 1 }]);
  test.same(await workOf('a wrong password', undefined), known);
  test.same(await workOf(good, undefined), known);
  test.same(await workOf('', undefined), known, 'nor does an empty password tell');
  test.same(await workOf('x'.repeat(1_000_000), undefined), known, 'nor a long one');
  test.same(await workOf('x'.repeat(1_000_000), hash), known);
  test.same(outcomes, [false, false, false, false, false, false]);
});

void t.test('a password of the default cost is hashed with the documented parameters', async test => {
  test.same(currentCost, { logN: 15, r: 8, p: 3 });
  const defaultAlgorithm = createPasswords(systemRandom);
  const calls = await countingScrypt(async () => {
    test.ok(await defaultAlgorithm.matches(good, await defaultAlgorithm.hash(good), regular));
  });
  test.same(
    calls,
    [1, 2].map(() => ({ N: 32_768, r: 8, p: 3 })),
  );
});

void t.test('a hash made with other parameters still matches, and is reported as outdated', async test => {
  const stronger = createPasswords(systemRandom, { logN: 5, r: 8, p: 1 });
  const hash = await passwords.hash(good);
  test.ok(await stronger.matches(good, hash, regular));
  test.notOk(await stronger.matches('a wrong password', hash, regular));
  test.ok(stronger.isDated(hash));
  test.notOk(stronger.isDated(await stronger.hash(good)));
  test.notOk(passwords.isDated(hash));
});

void t.test('a password has 15 to 256 characters, counted after normalization', async test => {
  const fit = ['x'.repeat(15), 'x'.repeat(256), 'ä'.repeat(15), '🐎'.repeat(15), ' '.repeat(15)];
  for (const password of fit)
    test.ok(await passwords.matches(password, await passwords.hash(password), regular), password);
  const unfit = [
    '',
    'x'.repeat(14),
    'x'.repeat(257),
    `${good}\0`,
    `${good}\n`,
    '🐎'.repeat(14),
    'a\u0308'.repeat(14),
    'x'.repeat(1_000_000),
  ];
  for (const password of unfit) {
    const error = await passwords.hash(password).catch((each: unknown) => each);
    test.match(error, {
      code: 'PASSWORD_UNFIT',
      message: 'a password has 15 to 256 characters that can be typed',
    });
  }
  const hash = await passwords.hash('x'.repeat(256));
  test.notOk(await passwords.matches('x'.repeat(257), hash, regular), 'what is cut off is not forgotten');
});

void t.test('a password in another Unicode normalization is the same password', async test => {
  const hash = await passwords.hash('grüße aus köln!');
  test.ok(await passwords.matches('grüße aus köln!'.normalize('NFD'), hash, regular));
});

void t.test('a damaged password hash matches no password', async test => {
  const hash = await passwords.hash(good);
  const short = hash.slice(0, -10);
  for (const damaged of ['', 'scrypt', short, hash.replace('scrypt', 'plain'), hash.replace('$4$', '$x$')])
    await test.rejects(passwords.matches(good, damaged, regular), { code: 'INTERNAL' }, damaged);
});

/** Callers without a known account, each from a network of its own or as given. */
const strangers = (count: number, options: Partial<HashAsker> = {}): HashAsker[] =>
  Array.from({ length: count }, (_, n) => ({ party: `stranger-${n}`, isKnown: false, ...options }));

/** Starts all at once; returns the finished ones in order, and the number of refused ones. */
async function order(askers: readonly (HashAsker & { readonly name?: string })[]) {
  const hash = await passwords.hash(good);
  const done: string[] = [];
  const outcomes = await Promise.allSettled(
    askers.map(async asker => {
      await passwords.matches(good, hash, asker);
      done.push(asker.name ?? asker.party);
    }),
  );
  const refused = outcomes.flatMap(each => (each.status === 'rejected' ? [each.reason as unknown] : []));
  return { done, refused };
}

void t.test('a flood of logins waits in a bounded queue, and logins beyond it are refused', async test => {
  for (const [isKnown, places] of [
    [true, 2],
    [false, 1],
  ] as const) {
    const { done, refused } = await order(strangers(200, { isKnown }));
    test.equal(done.length, places + 64, 'at work, and waiting');
    test.equal(refused.length, 200 - places - 64);
    for (const reason of refused) test.match(reason, { code: 'RATE_LIMITED', retryAfterMs: 5000 });
  }
  test.equal((await order([regular])).done.length, 1, 'and then it goes on');
});

void t.test('strangers hash one at a time, so that known callers never wait for them', async test => {
  let begun = 0;
  let letGo = (): void => undefined;
  const isFirstDone = new Promise<void>(resolve => (letGo = resolve));
  const started = (): Promise<void> | undefined => ((begun += 1) === 1 ? isFirstDone : undefined);
  const hash = await passwords.hash(good);
  await watchScrypt(started, async () => {
    const flood = strangers(65).map(each => passwords.matches(good, hash, each));
    for (let n = 0; n < 3; n++) test.ok(await passwords.matches(good, hash, regular));
    test.equal(begun, 4, 'while one stranger was at work, and none of the others');
    letGo();
    test.ok((await Promise.all(flood)).every(Boolean));
  });
});

void t.test(
  'strangers with fewer failures are hashed first, and each before the second request of another one',
  async test => {
    const first = { party: 'busy', isKnown: false };
    const { done } = await order([
      first,
      { ...first, party: 'wrong twice', failures: 2 },
      { ...first, party: 'greedy', name: 'greedy 1' },
      { ...first, party: 'greedy', name: 'greedy 2' },
      { ...first, party: 'wrong once', failures: 1 },
      { ...first, party: 'honest' },
    ]);
    test.same(done, ['busy', 'greedy 1', 'honest', 'greedy 2', 'wrong once', 'wrong twice']);
  },
);

void t.test(
  'a stranger without failures takes the queue slot of one with failures in a full queue',
  async test => {
    const askers = [...strangers(65, { failures: 3 }), ...strangers(1, { party: 'honest' })];
    const { done, refused } = await order(askers);
    test.equal(done[1], 'honest');
    test.equal(done.length, 65);
    test.match(refused, [{ code: 'RATE_LIMITED' }], 'the last of the guessers gives way');
    const late = await order([...strangers(65), ...strangers(1, { party: 'guesser', failures: 1 })]);
    test.notOk(late.done.includes('guesser'), 'not the other way round');
  },
);

void t.test('no password is hashed for a caller that has disconnected', async test => {
  const hash = await passwords.hash(good);
  const reason = new RollcallError('LOGIN_REFUSED', 'gone');
  const calls = await countingScrypt(async () => {
    const controllers = Array.from({ length: 30 }, () => new AbortController());
    const [first, ...others] = controllers.map(({ signal }, n) =>
      passwords.matches(good, hash, { party: `stranger-${n}`, isKnown: false, signal }),
    );
    const honest = passwords.matches(good, hash, { party: 'honest', isKnown: false });
    for (const each of controllers) each.abort(reason);
    for (const each of others) await test.rejects(each, reason);
    test.ok(await first, 'but for what was at work');
    test.ok(await honest);
    await test.rejects(passwords.matches(good, hash, { ...regular, signal: controllers[0]?.signal }), reason);
  });
  test.equal(calls.length, 2);
});

void t.test('a failed hash gives its slot to the next in the queue', async test => {
  const hash = (await passwords.hash(good)).replace('$4$', '$0$');
  const failing = await Promise.allSettled(
    Array.from({ length: 60 }, () => passwords.matches(good, hash, regular)),
  );
  test.ok(failing.every(({ status }) => status === 'rejected'));
  test.ok(await passwords.matches(good, await passwords.hash(good), regular));
});
