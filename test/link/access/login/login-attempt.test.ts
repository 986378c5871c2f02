import t from 'tap';
import { RollcallError } from '../../../../src/base/errors.js';
import { createLog } from '../../../../src/base/log.js';
import { systemRandom } from '../../../../src/base/random.js';
import { createAccount } from '../../../../src/link/access/login/own-account.js';
import { createAlerts, type AlertEvent } from '../../../../src/link/access/alerts.js';
import { accountOf, createAttempt } from '../../../../src/link/access/login/login-attempt.js';
import { createGuesses } from '../../../../src/link/access/login/login-throttle.js';
import { openKnownPlaces } from '../../../../src/link/access/login/known-places.js';
import { createPasswords } from '../../../../src/link/access/accounts/passwords.js';
import type { Principal } from '../../../../src/link/access/principal.js';
import { Roles } from '../../../../src/link/access/accounts/roles.js';
import { Users } from '../../../../src/link/access/accounts/users.js';
import { createAudit } from '../../../../src/link/audit/audit.js';
import type { Known } from '../../../../src/link/audit/refusals.js';
import { createMemoryStore } from '../../../../src/store/memory.js';
import { createManualClock } from '../../../harness/manual-clock.js';
import { userParty } from '../../../harness/parties.js';

const address = '192.0.2.1';

const nameOf = (account: Known | string | undefined): string =>
  typeof account === 'object' ? account.name : (account ?? 'unknown account');

async function start() {
  const clock = createManualClock(1_700_000_000_000);
  const counted: string[] = [];
  const raised: AlertEvent[] = [];
  const logged: object[] = [];
  const known = await openKnownPlaces({
    store: createMemoryStore(),
    clock,
    log: createLog({ level: 'silent', name: 'link' }),
  });
  const attempt = createAttempt({
    guesses: createGuesses({ clock, known }),
    refusals: {
      count: (from, reason) => void counted.push(`${from} ${reason}`),
      countLogin: (from, reason, account) => void counted.push(`${from} ${reason} ${nameOf(account)}`),
      flush: () => Promise.resolve(),
      close: () => Promise.resolve(),
    },
    alerts: createAlerts({
      log: { warn: fields => void logged.push(fields) },
      clock,
      count: event => void raised.push(event),
    }),
  });
  return { clock, counted, raised, logged, attempt };
}

const fail = (code: 'LOGIN_REFUSED' | 'OTP_REQUIRED') => () => Promise.reject(new RollcallError(code, 'no'));
const refused = { code: 'LOGIN_REFUSED' };

void t.test('a refused login is counted, delays the next attempt, and raises an alert', async t => {
  const { clock, counted, raised, logged, attempt } = await start();
  const place = { address, account: accountOf('default', 'Ann') };
  for (let n = 0; n < 5; n++) await t.rejects(attempt(place, fail('LOGIN_REFUSED')), refused);
  t.same(raised, [], 'slips are no alert');
  await t.rejects(attempt(place, fail('LOGIN_REFUSED')), refused);
  t.same(raised, ['security.login-failures']);
  t.same(
    logged,
    [{ account: 'unknown account', address, event: raised[0] }],
    'not what a stranger called it',
  );
  t.same(counted, Array(6).fill('192.0.2.1 LOGIN_REFUSED unknown account'));
  const prove = () => Promise.resolve('in');
  await t.rejects(attempt(place, prove), { code: 'RATE_LIMITED' });
  t.equal(counted.at(-1), '192.0.2.1 RATE_LIMITED', 'one that had to wait is counted as well');
  clock.advance(1000);
  t.equal(await attempt(place, prove), 'in');
  await t.rejects(attempt(place, fail('LOGIN_REFUSED')), refused);
  t.equal(raised.length, 1, 'coming in clears the account');
});

void t.test('an error other than a wrong guess is not counted as a failed login', async t => {
  const { counted, raised, attempt } = await start();
  const place = { address, account: 'default/ann' };
  for (let n = 0; n < 20; n++)
    await t.rejects(attempt(place, fail('OTP_REQUIRED')), { code: 'OTP_REQUIRED' });
  t.same([counted, raised], [[], []]);
});

void t.test('every wrong setup code raises an alert', async t => {
  const { counted, raised, attempt } = await start();
  await t.rejects(attempt({ address, account: undefined }, fail('LOGIN_REFUSED')), refused);
  t.same([counted, raised], [['192.0.2.1 LOGIN_REFUSED setup code'], ['security.setup-code-refused']]);
});

void t.test('a wrong old password counts as a wrong guess, although its user is logged in', async t => {
  const { clock, counted, raised, logged, attempt } = await start();
  const store = createMemoryStore();
  const audit = createAudit({ clock });
  const roles = new Roles({ store, audit });
  const users = new Users({ store, audit, clock, random: systemRandom, roles });
  const passwords = createPasswords(systemRandom, { logN: 4, r: 8, p: 1 });
  const account = createAccount({ users, passwords, attempt, clock, random: systemRandom });
  const [right, wrong] = ['correct horse battery', 'incorrect horse battery'] as const;
  const user = await users.create(
    'default',
    { name: 'Ann', roles: ['viewer'], passwordHash: await passwords.hash(right) },
    { type: 'user.created', by: userParty('test') },
  );
  const origin = { address, requestId: '1', userAgent: '' };
  const principal: Principal = {
    ...{ kind: 'user', id: user.id, name: 'Ann', tenant: 'default', roles: ['viewer'] },
    ...{
      permissions: new Set(),
      tokenId: 'a',
      session: 'b',
      expiresAt: Infinity,
      countsFrom: 0,
      beganAt: 0,
      accountSince: 0,
    },
    origin,
    confirm: () => Promise.resolve(principal),
  };
  for (let n = 0; n < 6; n++)
    await t.rejects(account.changePassword(principal, wrong, 'another few words'), refused);
  t.same(counted, Array(6).fill('192.0.2.1 LOGIN_REFUSED Ann'));
  t.same(raised, ['security.login-failures']);
  t.match(logged, [{ tenant: 'default', account: user.id, name: 'Ann', address }]);
  await t.rejects(account.removeSecondFactor(principal, right), { code: 'RATE_LIMITED' });
  clock.advance(1000);
  await account.changePassword(principal, right, 'another few words');
  const { passwordHash } = await users.get('default', 'ann');
  t.ok(await passwords.matches('another few words', passwordHash, { party: 'test', isKnown: true }));
});

void t.test('of 500 simultaneous guesses at one account at most six are tried', async t => {
  const { attempt } = await start();
  let tried = 0;
  let end = (): void => undefined;
  const ended = new Promise<void>(resolve => (end = resolve));
  const guesses = Array.from({ length: 500 }, (_, n) =>
    attempt({ address: `10.0.${n >> 8}.${n & 255}`, account: 'default/ann' }, async () => {
      tried += 1;
      await ended;
      throw new RollcallError('LOGIN_REFUSED', 'no');
    }),
  );
  await new Promise(setImmediate);
  t.equal(tried, 6, 'before the first has failed');
  end();
  const outcomes = await Promise.allSettled(guesses);
  const codes = outcomes.map(each => (each.status === 'rejected' ? (each.reason as RollcallError).code : ''));
  t.equal(tried, 6, 'nor afterwards');
  t.equal(codes.filter(code => code === 'RATE_LIMITED').length, 494);
});
