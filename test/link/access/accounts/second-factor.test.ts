import t from 'tap';
import { systemRandom } from '../../../../src/base/random.js';
import {
  checkCode,
  newRecoveryCodes,
  newSecret,
  otpauthUri,
} from '../../../../src/link/access/accounts/second-factor.js';
import type { SecondFactor } from '../../../../src/link/access/accounts/users.js';

/** RFC 6238 appendix B: SHA-1, the secret "12345678901234567890"; the last six of its eight digits. */
const rfcSecret = 'GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ';
const rfcCodes: readonly (readonly [seconds: number, code: string])[] = [
  [59, '94287082'],
  [1111111109, '07081804'],
  [1111111111, '14050471'],
  [1234567890, '89005924'],
  [2000000000, '69279037'],
  [20000000000, '65353130'],
];

const factorOf = (secret: string, recovery: readonly string[] = []): SecondFactor => ({
  secret,
  lastStep: 0,
  recovery,
});

void t.test('the codes of RFC 6238 are accepted at their time', test => {
  for (const [seconds, code] of rfcCodes) {
    const used = checkCode(factorOf(rfcSecret), code.slice(2), seconds * 1000);
    test.equal(used?.lastStep, Math.floor(seconds / 30), `${seconds} s`);
  }
  test.end();
});

void t.test('a code is accepted one step before and after its time, and no longer', test => {
  const step = Math.floor(1234567890 / 30);
  const at = (steps: number) => checkCode(factorOf(rfcSecret), '005924', (step + steps) * 30_000 + 15_000);
  for (const steps of [-1, 0, 1]) test.equal(at(steps)?.lastStep, step, `${steps} steps away`);
  for (const steps of [-20, -2, 2, 20]) test.equal(at(steps), undefined, `${steps} steps away`);
  test.end();
});

void t.test('a code is accepted once, and earlier codes are refused afterwards', test => {
  const at = 1111111111_000;
  const used = checkCode(factorOf(rfcSecret), '050471', at);
  if (!used) throw new Error('the code was not taken');
  test.equal(checkCode(used, '050471', at), undefined, 'the same again');
  test.equal(checkCode(used, '081804', at), undefined, 'the one of the step before');
  test.ok(checkCode(factorOf(rfcSecret), '081804', at), 'which alone would have been good');
  test.end();
});

void t.test('a code may contain spaces; other characters are refused', test => {
  const at = 1234567890_000;
  test.ok(checkCode(factorOf(rfcSecret), ' 005 924\n', at));
  const wrong = ['', ' ', '5924', '89005924', '005925', '00592a', '٠٠٥٩٢٤', '-05924', '1e5', '__proto__'];
  for (const code of [...wrong, '0'.repeat(1_000_000), `005924${' '.repeat(100)}`])
    test.equal(checkCode(factorOf(rfcSecret), code, at), undefined, JSON.stringify(code.slice(0, 20)));
  test.ok(
    checkCode({ ...factorOf(rfcSecret), lastStep: -1 }, '755224', 5_000),
    'even in the first step of all',
  );
  test.end();
});

void t.test('a recovery code is accepted once, in any case and with any separators', test => {
  const { codes, hashes } = newRecoveryCodes(systemRandom);
  test.equal(codes.length, 10);
  test.equal(new Set(codes).size, 10);
  for (const code of codes) test.match(code, /^[0-9a-hjkmnp-tv-z]{5}-[0-9a-hjkmnp-tv-z]{5}$/);
  test.notOk(hashes.some(hash => codes.some(code => hash.includes(code.replace('-', '')))));
  const factor = factorOf(newSecret(systemRandom), hashes);
  const [first = '', second = '', third = ''] = codes;
  const once = checkCode(factor, first, 0);
  test.same(once, { ...factor, recovery: hashes.slice(1) });
  if (!once) throw new Error('the code was not taken');
  test.equal(checkCode(once, first, 0), undefined, 'the same again');
  test.ok(checkCode(once, ` ${second.toUpperCase().replace('-', ' ')} `, 0));
  const mistaken = third.replaceAll('1', 'I').replaceAll('0', 'O');
  test.ok(checkCode(once, mistaken, 0), 'letters that look like digits');
  for (const wrong of ['', '-', first.slice(1), `${first}0`, 'zzzzz-zzzzz'])
    test.equal(checkCode(once, wrong, 0), undefined);
  test.end();
});

void t.test('using a recovery code leaves time codes valid, and the reverse', test => {
  const { codes, hashes } = newRecoveryCodes(systemRandom);
  const at = 1234567890_000;
  const afterTime = checkCode(factorOf(rfcSecret, hashes), '005924', at);
  test.same(afterTime?.recovery, hashes);
  const afterBoth = afterTime && checkCode(afterTime, codes[3] ?? '', at);
  test.equal(afterBoth?.lastStep, afterTime?.lastStep);
  test.equal(afterBoth?.recovery.length, 9);
  test.end();
});

void t.test('a second-factor secret is 160 random bits, and its URI is read by authenticator apps', test => {
  const secret = newSecret(size => Buffer.from('12345678901234567890').subarray(0, size));
  test.equal(secret, rfcSecret);
  test.not(newSecret(systemRandom), newSecret(systemRandom));
  const uri = new URL(otpauthUri({ issuer: 'Ward 7: link', name: 'ann&bob@x.example', secret }));
  test.equal(uri.protocol, 'otpauth:');
  test.equal(uri.searchParams.get('secret'), rfcSecret);
  test.equal(uri.searchParams.get('issuer'), 'Ward 7: link');
  test.equal(uri.searchParams.get('period'), '30');
  test.match(decodeURIComponent(uri.pathname), /ann&bob@x\.example$/);
  test.end();
});
