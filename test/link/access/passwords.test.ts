import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import t from 'tap';
import { systemRandom } from '../../../src/base/random.js';
import { createPasswords, currentCost } from '../../../src/link/access/passwords.js';

/** Quick enough for many. */
const cheap = { logN: 4, r: 8, p: 1 };
const passwords = createPasswords(systemRandom, cheap);
const good = 'correct horse battery';

interface Call {
  readonly N?: number | undefined;
  readonly r?: number | undefined;
  readonly p?: number | undefined;
}

/** Runs the work and gives the parameters of each scrypt it did: the real one, counted. */
async function countingScrypt(work: () => Promise<unknown>): Promise<Call[]> {
  const calls: Call[] = [];
  const real = crypto.scrypt;
  crypto.scrypt = ((...call: Parameters<typeof real>) => {
    const { N, r, p } = call[3];
    calls.push({ N, r, p });
    real(...call);
  }) as typeof real;
  syncBuiltinESMExports();
  try {
    await work();
  } finally {
    crypto.scrypt = real;
    syncBuiltinESMExports();
  }
  return calls;
}

void t.test('the right password fits its hash and no other does', async test => {
  const hash = await passwords.hash(good);
  test.match(hash, /^scrypt\$4\$8\$1\$[A-Za-z0-9_-]{22}\$[A-Za-z0-9_-]{43}$/);
  test.ok(await passwords.matches(good, hash));
  for (const wrong of ['', 'correct horse batter', `${good} `, good.toUpperCase(), hash, `${good}\0`])
    test.notOk(await passwords.matches(wrong, hash), wrong);
  test.not(await passwords.hash(good), hash, 'each hash has a salt of its own');
});

void t.test('an unknown user costs the same work as a known one, and is never let in', async test => {
  const hash = await passwords.hash(good);
  const outcomes: boolean[] = [];
  const workOf = (password: string, kept: string | undefined) =>
    countingScrypt(async () => outcomes.push(await passwords.matches(password, kept)));
  const known = await workOf('a wrong password', hash);
  test.same(known, [{ N: 16, r: 8, p: 1 }]);
  test.same(await workOf('a wrong password', undefined), known);
  test.same(await workOf(good, undefined), known);
  test.same(await workOf('', undefined), known, 'nor does an empty password tell');
  test.same(await workOf('x'.repeat(1_000_000), undefined), known, 'nor a long one');
  test.same(await workOf('x'.repeat(1_000_000), hash), known);
  test.same(outcomes, [false, false, false, false, false, false]);
});

void t.test('a password of the usual cost takes the documented parameters', async test => {
  test.same(currentCost, { logN: 15, r: 8, p: 3 });
  const usual = createPasswords(systemRandom);
  const calls = await countingScrypt(async () => {
    test.ok(await usual.matches(good, await usual.hash(good)));
  });
  test.same(
    calls,
    [1, 2].map(() => ({ N: 32_768, r: 8, p: 3 })),
  );
});

void t.test('a hash made with other parameters still fits, and is known to be dated', async test => {
  const stronger = createPasswords(systemRandom, { logN: 5, r: 8, p: 1 });
  const hash = await passwords.hash(good);
  test.ok(await stronger.matches(good, hash));
  test.notOk(await stronger.matches('a wrong password', hash));
  test.ok(stronger.isDated(hash));
  test.notOk(stronger.isDated(await stronger.hash(good)));
  test.notOk(passwords.isDated(hash));
});

void t.test('a password is 15 to 256 characters as people see them', async test => {
  const fit = ['x'.repeat(15), 'x'.repeat(256), 'ä'.repeat(15), '🐎'.repeat(15), ' '.repeat(15)];
  for (const password of fit)
    test.ok(await passwords.matches(password, await passwords.hash(password)), password);
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
      message: 'a password wants 15 to 256 characters that can be typed',
    });
  }
  const hash = await passwords.hash('x'.repeat(256));
  test.notOk(await passwords.matches('x'.repeat(257), hash), 'what is cut off is not forgotten');
});

void t.test('the same letters typed on another keyboard are the same password', async test => {
  const hash = await passwords.hash('grüße aus köln!');
  test.ok(await passwords.matches('grüße aus köln!'.normalize('NFD'), hash));
});

void t.test('a damaged hash lets nobody in', async test => {
  const hash = await passwords.hash(good);
  const short = hash.slice(0, -10);
  for (const damaged of ['', 'scrypt', short, hash.replace('scrypt', 'plain'), hash.replace('$4$', '$x$')])
    await test.rejects(passwords.matches(good, damaged), { code: 'INTERNAL' }, damaged);
});

void t.test('a flood of logins waits in turn, and what is too much is told to come back', async test => {
  const hash = await passwords.hash(good);
  const flood = Array.from({ length: 200 }, () => passwords.matches(good, hash));
  const outcomes = await Promise.allSettled(flood);
  const done = outcomes.filter(({ status }) => status === 'fulfilled');
  const refused = outcomes.flatMap(each => (each.status === 'rejected' ? [each.reason as unknown] : []));
  test.equal(done.length, 66, 'two at work and 64 waiting');
  test.equal(refused.length, 134);
  for (const reason of refused) test.match(reason, { code: 'RATE_LIMITED', retryAfterMs: 5000 });
  test.ok(await passwords.matches(good, hash), 'and then it goes on');
});

void t.test('work that fails gives its place to the next', async test => {
  const hash = (await passwords.hash(good)).replace('$4$', '$0$');
  const failing = await Promise.allSettled(Array.from({ length: 60 }, () => passwords.matches(good, hash)));
  test.ok(failing.every(({ status }) => status === 'rejected'));
  test.ok(await passwords.matches(good, await passwords.hash(good)));
});
