import t, { type Test } from 'tap';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { chmod, mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { calculateJwkThumbprint, type JWK } from 'jose';
import { RollcallError } from '../../../../src/base/errors.js';
import { createLog } from '../../../../src/base/log.js';
import { systemRandom } from '../../../../src/base/random.js';
import {
  openTokenKeys,
  tokenKeyFileName,
  type TokenAlgorithms,
  type TokenKeys,
  type TokenKeysOptions,
} from '../../../../src/link/access/tokens/keys.js';
import { listEvents } from '../../../../src/link/audit/query.js';
import { createAudit } from '../../../../src/link/audit/audit.js';
import { createMemoryStore } from '../../../../src/store/memory.js';
import { createPowerCutStore } from '../../../../src/store/power-cut.js';
import type { Store } from '../../../../src/store/store.js';
import { createManualClock, type ManualClock } from '../../../harness/manual-clock.js';
import { pausingStore } from '../../../harness/stores.js';
import { makeFolder } from '../../../harness/folder.js';

const dayMs = 86_400_000;
const defaultOnly: TokenAlgorithms = { defaultAlgorithm: 'ES256', byAudience: {} };

interface Opened {
  readonly keys: TokenKeys;
  readonly store: Store;
  readonly clock: ManualClock;
  readonly folder: string;
  readonly file: string;
  readonly logged: string[];
}

/** Of each data folder, as long as the test lasts. */
const stores = new Map<string, Store>();

async function open(t: Test, options: Partial<TokenKeysOptions> = {}): Promise<Opened> {
  const folder = options.folder ?? (await makeFolder(t));
  const store = options.store ?? stores.get(folder) ?? createMemoryStore();
  stores.set(folder, store);
  const clock = (options.clock as ManualClock | undefined) ?? createManualClock();
  const logged: string[] = [];
  const log = createLog({
    level: 'debug',
    name: 'link',
    destination: { write: line => void logged.push(line) },
  });
  const keys = await openTokenKeys({
    folder,
    store,
    audit: createAudit({ clock }),
    algorithms: defaultOnly,
    clock,
    random: systemRandom,
    log,
    maxLifetimeMs: dayMs,
    ...options,
  });
  t.teardown(() => keys.close());
  return { keys, store, clock, folder, file: join(folder, tokenKeyFileName), logged };
}

interface KeyFile {
  version: unknown;
  refreshSecret: unknown;
  keys: Record<string, unknown>[];
}

const signers = (keys: TokenKeys) => keys.list().filter(({ use }) => use === 'signs');
const waiting = (keys: TokenKeys) => keys.list().filter(({ use }) => use === 'next');
const hourMs = 3_600_000;

const readKeys = async (file: string): Promise<KeyFile> =>
  JSON.parse(await readFile(file, 'utf8')) as KeyFile;
const only = <T>(list: readonly T[]): T => {
  if (list.length !== 1 || list[0] === undefined) throw new Error(`${list.length} instead of one`);
  return list[0];
};

void t.test('the first start creates a token key, a secret and a private file', async t => {
  const { keys, file, clock } = await open(t);
  t.equal((await stat(file)).mode & 0o777, 0o600);
  t.equal(keys.refreshSecret.length, 32);
  const { kid, algorithm } = await keys.signingKey('rollcall');
  t.equal(algorithm, 'ES256');
  const [next, first] = keys.list();
  const both = { algorithm: 'ES256', audience: null, createdAt: clock.now(), retiredAt: null };
  t.same(first, { ...both, kid, use: 'signs', signsAt: clock.now() });
  t.same(next, { ...both, kid: next?.kid, use: 'next', signsAt: null });
  const published = keys.jwks().keys[1] ?? { kid: '' };
  t.same(
    keys.jwks().keys.map(key => key.kid),
    [next?.kid, kid],
    'the next one is published with the first',
  );
  t.equal(published.kid, await calculateJwkThumbprint(published as JWK), 'its name is its thumbprint');
  t.same(Object.keys(published).sort(), ['alg', 'crv', 'kid', 'kty', 'use', 'x', 'y']);
  t.equal((await keys.signingKey('another')).kid, kid, 'it serves every audience');
});

void t.test('a restart keeps token keys and secret', async t => {
  const first = await open(t, {
    algorithms: { defaultAlgorithm: 'ES256', byAudience: { studio: 'HS256', old: 'RS256' } },
  });
  const before = await Promise.all(['rollcall', 'studio', 'old'].map(each => first.keys.signingKey(each)));
  await first.keys.rotate({ audience: 'rollcall' });
  const list = first.keys.list();
  await first.keys.close();
  const second = await open(t, {
    folder: first.folder,
    clock: first.clock,
    algorithms: { defaultAlgorithm: 'ES256', byAudience: { studio: 'HS256', old: 'RS256' } },
  });
  t.same(second.keys.list(), list);
  t.same(second.keys.refreshSecret, first.keys.refreshSecret);
  t.same(second.keys.jwks(), first.keys.jwks());
  for (const [index, audience] of ['rollcall', 'studio', 'old'].entries()) {
    const { kid = '', algorithm = 'ES256' as const } = before[index] ?? {};
    t.ok(second.keys.verifyingKey(audience, kid, algorithm), `what was signed for ${audience} verifies`);
  }
});

void t.test('RS256 keys have 3072 bits, and HS256 has a secret for each audience', async t => {
  const byAudience = { old: 'RS256', studio: 'HS256', logging: 'HS256' } as const;
  const { keys } = await open(t, { algorithms: { defaultAlgorithm: 'ES256', byAudience } });
  const rsa = await keys.signingKey('old');
  t.equal(rsa.algorithm, 'RS256');
  t.equal(Buffer.from(keys.jwks().keys.find(key => key.kid === rsa.kid)?.n ?? '', 'base64url').length, 384);
  const [studio, nextStudio] = await keys.secretOf('studio');
  const [logging] = await keys.secretOf('logging');
  if (!studio || !logging) throw new Error('each has a secret');
  t.same(
    [studio.use, nextStudio?.use],
    ['signs', 'next'],
    'an audience gets the next secret before it signs',
  );
  t.not(studio.secret, logging.secret);
  t.equal(Buffer.from(studio.secret, 'base64url').length, 32);
  t.equal((await keys.signingKey('studio')).kid, studio.kid);
  t.ok(keys.verifyingKey('studio', studio.kid, 'HS256'));
  t.notOk(keys.verifyingKey('logging', studio.kid, 'HS256'), 'the secret of one does not verify for another');
  t.notOk(keys.verifyingKey('studio', rsa.kid, 'HS256'), 'a public key is no secret');
  t.notOk(keys.verifyingKey('old', rsa.kid, 'ES256'), 'nor is it for another algorithm');
  t.notOk(keys.verifyingKey('old', 'made-up', 'RS256'));
  const published = JSON.stringify(keys.jwks());
  t.notOk(published.includes(studio.secret) || published.includes(studio.kid), 'secrets are not published');
  t.notOk(/"(d|p|q|dp|dq|qi|k|oct)"/.test(published), 'nor is anything private');
  await t.rejects(
    keys.secretOf('rollcall'),
    { code: 'REQUEST_INVALID' },
    'public keys are not handed out as secrets',
  );
});

void t.test('the secret of the audience of the link cannot be exported', async t => {
  const { keys } = await open(t, {
    algorithms: { defaultAlgorithm: 'HS256', byAudience: {} },
    ownAudience: 'rollcall',
  });
  t.equal((await keys.signingKey('rollcall')).algorithm, 'HS256');
  await t.rejects(keys.secretOf('rollcall'), { code: 'REQUEST_INVALID' });
  for (const none of ['', 'two words', 'x'.repeat(201)]) {
    await t.rejects(
      keys.secretOf(none),
      { code: 'REQUEST_INVALID' },
      'nor is one made for an unknown audience',
    );
    await t.rejects(keys.rotate({ audience: none }), { code: 'REQUEST_INVALID' });
  }
  t.equal(keys.list().length, 2);
  t.same(keys.jwks(), { keys: [] });
});

void t.test('an audience may be named constructor or __proto__', async t => {
  const { keys } = await open(t, {
    algorithms: { defaultAlgorithm: 'ES256', byAudience: { studio: 'HS256' } },
  });
  for (const name of ['constructor', '__proto__', 'toString']) t.equal(keys.algorithmFor(name), 'ES256');
});

void t.test('a key signs only after it has been published for an hour', async t => {
  const { keys, clock } = await open(t);
  const first = only(signers(keys)).kid;
  const next = only(waiting(keys)).kid;
  clock.advance(hourMs / 2);
  const { made, signing, retired } = await keys.rotate();
  const from = clock.now() + hourMs / 2;
  t.match(signing, [{ kid: next, use: 'next', signsAt: from }]);
  t.match(retired, [{ kid: first, use: 'signs', retiredAt: from }]);
  t.match(made, [{ use: 'next', signsAt: null }], 'one waits beyond that');
  const again = await keys.rotate();
  t.match(again, { made: [], signing: [{ kid: next, signsAt: from }], retired: [] }, 'it is under way');
  clock.advance(hourMs / 2 - 1);
  t.equal((await keys.signingKey('rollcall')).kid, first);
  clock.advance(1);
  t.equal((await keys.signingKey('rollcall')).kid, next);
  t.match(
    keys.list().map(({ use }) => use),
    ['next', 'signs', 'verifies'],
  );
  clock.step(-hourMs);
  t.equal((await keys.signingKey('rollcall')).kid, first, 'a clock that is set back undoes it');
  t.ok(keys.verifyingKey('rollcall', next, 'ES256'), 'and what was signed meanwhile verifies');
  clock.step(-10 * dayMs);
  t.equal((await keys.signingKey('rollcall')).kid, first, 'even to before there were any keys');
});

void t.test('after an immediate rotation the key that has waited longest signs', async t => {
  const { keys, clock, folder } = await open(t);
  const first = only(signers(keys)).kid;
  const next = only(waiting(keys)).kid;
  await keys.rotate();
  clock.advance(1_000);
  const { made, signing, retired } = await keys.rotate({ now: true });
  t.match(signing, [{ kid: next, use: 'signs', signsAt: clock.now() }]);
  t.match(retired, [{ kid: first, use: 'verifies', retiredAt: clock.now() }]);
  t.same(made, [], 'the rotation before has made the next one');
  t.equal((await keys.signingKey('rollcall')).kid, next);
  await keys.close();
  const again = await open(t, { folder, clock });
  t.same(again.keys.list(), keys.list(), 'a restart knows the same');
});

void t.test('a rotated key verifies until the longest token has ended', async t => {
  const { keys, clock } = await open(t);
  const old = await keys.signingKey('rollcall');
  clock.advance(hourMs);
  const next = only(waiting(keys)).kid;
  const { made, signing, retired, dropped } = await keys.rotate();
  t.same([made.length, retired.map(key => key.kid), dropped.length], [1, [old.kid], 0]);
  const now = await keys.signingKey('rollcall');
  t.match(signing, [{ kid: next, use: 'signs' }]);
  t.equal(now.kid, next, 'what was published an hour ago signs at once');
  const after = only(made).kid;
  t.same(
    keys.jwks().keys.map(key => key.kid),
    [after, now.kid, old.kid],
    'all are published',
  );
  clock.advance(dayMs);
  t.ok(keys.verifyingKey('rollcall', old.kid, 'ES256'), 'at the end of its longest token');
  clock.step(60_001);
  t.notOk(
    keys.verifyingKey('rollcall', old.kid, 'ES256'),
    'a little later it does not count, dropped or not',
  );
  t.same(
    keys.jwks().keys.map(key => key.kid),
    [after, now.kid],
  );
  clock.advance(3_600_000);
  await keys.close();
  t.same(
    keys.list().map(key => key.kid),
    [after, now.kid],
    'and it is dropped',
  );
});

void t.test('after a leak the old keys are removed at once', async t => {
  const { keys, file } = await open(t);
  await keys.rotate();
  await keys.rotate({ now: true });
  await keys.rotate();
  const leaked = keys.list().map(key => key.kid);
  t.equal(leaked.length, 4, 'one that verifies, one that signs, one with a date and one that waits');
  const { made, signing, retired, dropped } = await keys.rotate({ dropOld: true });
  t.same([retired.length, dropped.length], [0, 4], 'a thief of the file has those that wait as well');
  t.match(made, [{ use: 'next' }, { use: 'signs' }]);
  t.match(signing, [{ kid: made[1]?.kid, use: 'signs' }], 'a new one signs at once');
  t.equal((await keys.signingKey('rollcall')).kid, made[1]?.kid);
  for (const kid of leaked) t.notOk(keys.verifyingKey('rollcall', kid, 'ES256'));
  t.equal(keys.jwks().keys.length, 2);
  const onDisk = await readFile(file, 'utf8');
  t.notOk(
    leaked.some(kid => onDisk.includes(kid)),
    'nothing of them stays in the file',
  );
});

void t.test('rotating for one audience leaves the secrets of others unchanged', async t => {
  const algorithms = {
    defaultAlgorithm: 'ES256',
    byAudience: { studio: 'HS256', logging: 'HS256' },
  } as const;
  const { keys } = await open(t, { algorithms });
  const [rollcall, studio, logging] = [
    await keys.signingKey('rollcall'),
    await keys.signingKey('studio'),
    await keys.signingKey('logging'),
  ];
  await keys.rotate({ audience: 'studio', now: true });
  t.equal((await keys.signingKey('rollcall')).kid, rollcall.kid);
  t.equal((await keys.signingKey('logging')).kid, logging.kid);
  t.not((await keys.signingKey('studio')).kid, studio.kid);
  const secrets = await keys.secretOf('studio');
  t.match(secrets, [
    { kid: (await keys.signingKey('studio')).kid, use: 'signs' },
    { use: 'next' },
    { kid: studio.kid, use: 'verifies' },
  ]);
  await keys.rotate({ now: true });
  t.not((await keys.signingKey('logging')).kid, logging.kid, 'without an audience all rotate');
  const { signing } = await keys.rotate({ audience: 'never-seen' });
  t.equal(only(signing).algorithm, 'ES256');
});

void t.test('an audience without a secret gets its first one by a rotation', async t => {
  const { keys } = await open(t, {
    algorithms: { defaultAlgorithm: 'ES256', byAudience: { studio: 'HS256' } },
  });
  const { made, signing, retired } = await keys.rotate({ audience: 'studio' });
  t.same([only(made).audience, retired.length], ['studio', 0]);
  t.match(signing, [{ audience: 'studio', use: 'signs' }], 'nobody has another');
});

void t.test(
  'keys rotate by themselves after 90 days; a secret that others hold waits for an operator',
  async t => {
    const algorithms = {
      defaultAlgorithm: 'ES256',
      byAudience: { rollcall: 'HS256', studio: 'HS256' },
    } as const;
    const options = { algorithms, ownAudience: 'rollcall', maxLifetimeMs: 400 * dayMs };
    const { keys: first, clock, folder } = await open(t, options);
    const kidsOf = async (keys: TokenKeys): Promise<string[]> =>
      Promise.all(['any', 'rollcall', 'studio'].map(async each => (await keys.signingKey(each)).kid));
    const before = await kidsOf(first);
    const next = first.list().find(key => key.use === 'next' && key.algorithm === 'ES256')?.kid;
    clock.step(90 * dayMs - 7_200_000);
    clock.advance(3_600_000);
    await first.close();
    t.same(await kidsOf(first), before, 'not an hour earlier');
    const { keys, logged } = await open(t, { ...options, folder, clock });
    clock.advance(3_600_000);
    await keys.close();
    const after = await kidsOf(keys);
    t.equal(after[0], next, 'the key that waited signs');
    t.not(after[1], before[1]);
    t.equal(after[2], before[2]);
    t.match(logged.join(''), /token keys changed/);
    t.match(logged.join(''), /a token secret is due for rotation/);
    t.notOk(
      keys.jwks().keys.some(({ x }) => logged.join('').includes(String(x))),
      'of keys only names are logged',
    );
    clock.step(120 * dayMs);
    const late = await open(t, { ...options, folder, clock });
    t.not((await late.keys.signingKey('any')).kid, after[0], 'a link that was off does it when it starts');
  },
);

void t.test('a failed rotation is logged, and the old key remains in use', async t => {
  const { keys, clock, folder, logged } = await open(t);
  const { kid } = await keys.signingKey('rollcall');
  await rm(folder, { recursive: true });
  clock.step(90 * dayMs);
  clock.advance(3_600_000);
  await keys.close();
  t.match(logged.join(''), /token keys could not be rotated/);
  t.equal((await keys.signingKey('rollcall')).kid, kid);
});

void t.test('parallel rotations run one after another, and parallel first uses create one key', async t => {
  const { keys, file } = await open(t, {
    algorithms: { defaultAlgorithm: 'ES256', byAudience: { studio: 'HS256' } },
  });
  const needed = await Promise.all(Array.from({ length: 20 }, () => keys.signingKey('studio')));
  t.equal(new Set(needed.map(({ kid }) => kid)).size, 1);
  const rotations = await Promise.all(
    Array.from({ length: 8 }, () => keys.rotate({ audience: 'rollcall', now: true })),
  );
  const signing = rotations.map(rotation => only(rotation.signing).kid);
  t.equal(new Set(signing).size, 8);
  t.equal((await keys.signingKey('rollcall')).kid, signing.at(-1), 'the last one signs');
  const shared = keys.list().filter(key => key.audience === null);
  t.equal(shared.filter(key => key.use === 'signs').length, 1, 'one key signs');
  t.equal(shared.length, 10, 'none is lost');
  t.same(
    (await readKeys(file)).keys.map(key => key['kid']),
    keys.list().map(key => key.kid),
    'the file holds the same',
  );
});

void t.test('a failed write of the key file changes no keys', async t => {
  const { keys, folder, file } = await open(t, {
    algorithms: { defaultAlgorithm: 'ES256', byAudience: { studio: 'HS256' } },
  });
  const before = { list: keys.list(), kid: (await keys.signingKey('rollcall')).kid };
  const content = await readFile(file);
  await rm(folder, { recursive: true });
  await t.rejects(keys.rotate({ dropOld: true }), { code: 'FILE_UNWRITABLE' });
  await t.rejects(
    keys.signingKey('studio'),
    { code: 'FILE_UNWRITABLE' },
    'a secret that was not kept signs nothing',
  );
  t.same(keys.list(), before.list);
  t.equal((await keys.signingKey('rollcall')).kid, before.kid);
  t.ok(keys.verifyingKey('rollcall', before.kid, 'ES256'));
  await mkdir(folder);
  await writeFile(file, content, { mode: 0o600 });
  t.equal((await keys.rotate()).made.length, 1, 'and the next try goes well');
});

void t.test('a key whose algorithm is no longer configured does not sign', async t => {
  const first = await open(t, { algorithms: { defaultAlgorithm: 'ES256', byAudience: { studio: 'HS256' } } });
  const es = await first.keys.signingKey('rollcall');
  const secret = await first.keys.signingKey('studio');
  await first.keys.close();
  const { keys, clock } = await open(t, {
    folder: first.folder,
    clock: first.clock,
    algorithms: { defaultAlgorithm: 'RS256', byAudience: {} },
  });
  t.equal((await keys.signingKey('rollcall')).algorithm, 'RS256');
  const retired = keys.list().filter(key => key.retiredAt !== null);
  t.same(new Set(retired.map(key => key.kid)), new Set([es.kid, secret.kid]));
  t.equal(keys.list().length, 4, 'and those that waited to follow them are gone');
  clock.advance(dayMs + 7_200_000);
  await keys.close();
  t.same(
    keys.list().map(({ algorithm }) => algorithm),
    ['RS256', 'RS256'],
  );
});

void t.test('a token key file that others can read is refused', async t => {
  const { file, folder } = await open(t);
  await chmod(file, 0o640);
  await t.rejects(open(t, { folder }), { code: 'FILE_PERMISSIONS', hint: /chmod 600/ });
});

void t.test('an invalid token key file is refused, with the kid and without a secret', async t => {
  const byAudience = { studio: 'HS256', old: 'RS256' } as const;
  const algorithms = { defaultAlgorithm: 'ES256', byAudience } as const;
  const { keys, file, folder } = await open(t, { algorithms });
  await Promise.all(['rollcall', 'studio', 'old'].map(each => keys.signingKey(each)));
  await keys.close();
  const good = await readFile(file, 'utf8');
  const kidOf = (algorithm: string): string =>
    signers(keys).find(key => key.algorithm === algorithm)?.kid ?? '';
  const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' });
  const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey.export({ format: 'jwk' });
  const small = generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey.export({ format: 'jwk' });
  type Edit = (key: Record<string, unknown>, file: KeyFile) => void;
  const jwkOf = (key: Record<string, unknown>) => key['jwk'] as Record<string, string>;
  const edits: [string, 'ES256' | 'RS256' | 'HS256', Edit][] = [
    ['a key twice', 'ES256', (key, file) => void file.keys.push(key)],
    [
      'two secrets with one kid',
      'HS256',
      (key, file) => void file.keys.push({ ...key, audience: 'logging' }),
    ],
    ['a secret with the kid of a key', 'HS256', key => (key['kid'] = kidOf('ES256'))],
    ['a secret of 255 bits', 'HS256', key => (jwkOf(key)['k'] = randomBytes(31).toString('base64url'))],
    ['an empty secret', 'HS256', key => (jwkOf(key)['k'] = '')],
    ['a secret that is no base64url', 'HS256', key => (jwkOf(key)['k'] = `${jwkOf(key)['k'] ?? ''}=`)],
    ['a secret without an audience', 'HS256', key => (key['audience'] = null)],
    ['a public key with an audience', 'ES256', key => (key['audience'] = 'studio')],
    ['another private key', 'ES256', key => (jwkOf(key)['d'] = other.d ?? '')],
    ['another key altogether', 'ES256', key => (key['jwk'] = other)],
    ['a key on another curve', 'ES256', key => (key['jwk'] = p384)],
    ['a point that is not on the curve', 'ES256', key => (jwkOf(key)['x'] = 'A'.repeat(43))],
    ['no private part', 'ES256', key => delete jwkOf(key)['d']],
    [
      'exponents that belong to no key',
      'RS256',
      key => Object.assign(jwkOf(key), { d: jwkOf(key)['n'], dp: 'AQAB' }),
    ],
    ['another modulus', 'RS256', key => (jwkOf(key)['n'] = `${jwkOf(key)['n'] ?? ''}AAAA`)],
    ['an RSA key of 1024 bits', 'RS256', key => (key['jwk'] = small)],
    ['an RSA key for ES256', 'RS256', key => (key['algorithm'] = 'ES256')],
    ['no algorithm', 'ES256', key => (key['algorithm'] = 'none')],
    ['a date that is text', 'ES256', key => (key['createdAt'] = 'now')],
    ['a retirement without a date', 'ES256', key => delete key['retiredAt']],
    ['a beginning that is text', 'ES256', key => (key['signsAt'] = 'soon')],
    ['no key', 'ES256', key => delete key['jwk']],
  ];
  const secretPart = String(
    jwkOf((JSON.parse(good) as KeyFile).keys.find(key => key['algorithm'] === 'ES256') ?? {})['d'],
  );
  for (const [title, algorithm, edit] of edits) {
    const changed = JSON.parse(good) as KeyFile;
    const key = changed.keys.find(each => each['kid'] === kidOf(algorithm)) ?? {};
    edit(key, changed);
    const kid = String(key['kid']);
    const error = await refusal(file, folder, JSON.stringify(changed), algorithms);
    t.equal(error.code, 'CONFIG_INVALID', title);
    t.ok(error.message.includes(kid), `${title}: ${error.message}`);
    t.notOk(JSON.stringify(error).includes(secretPart), 'no secret');
  }
  const half = good.slice(0, good.indexOf('"d"') + 20);
  const texts: [string, string, RegExp][] = [
    ['nothing', '', /damaged/],
    ['half of it', half, /damaged/],
    ['a list', '[]', /damaged/],
    ['a newer version', good.replace('"version": 1', '"version": 2'), /another version/],
    ['no version', good.replace('"version": 1,', ''), /damaged/],
    ['a member twice', good.replace('{', '{"refreshSecret":"x",'), /damaged/],
    [
      'a short refresh secret',
      good.replace(/"refreshSecret": "[^"]+"/, '"refreshSecret": "AAAA"'),
      /damaged/,
    ],
    ['no refresh secret', good.replace(/"refreshSecret": "[^"]+",/, ''), /damaged/],
    ['a kid that is a path', good.replace(kidOf('HS256'), '../../../etc'), /no kid/],
    ['a key that is text', good.replace(/"keys": \[/, '"keys": ["x",'), /damaged/],
  ];
  for (const [title, text, message] of texts) {
    const error = await refusal(file, folder, text, algorithms);
    t.equal(error.code, 'CONFIG_INVALID', title);
    t.match(error.message, message, title);
    t.notOk(
      `${error.message} ${String(error.cause)}`.includes(half.slice(-10)),
      'what stands in it is not quoted',
    );
  }
  await writeFile(file, good);
  t.equal((await open(t, { folder, algorithms })).keys.list().length, 6, 'and the file as it was is taken');

  async function refusal(
    path: string,
    inFolder: string,
    text: string,
    wanted: TokenAlgorithms,
  ): Promise<RollcallError> {
    await writeFile(path, text);
    try {
      await open(t, { folder: inFolder, algorithms: wanted });
    } catch (error) {
      return error as RollcallError;
    }
    throw new Error(`taken: ${text.slice(0, 200)}`);
  }
});

const typesIn = async (store: Store): Promise<object[]> =>
  (await listEvents(store, 'default', { limit: 100 })).map(({ type, by, detail }) => ({ type, by, detail }));

void t.test('every change of token keys is in the audit log, by a user or by the link', async t => {
  const algorithms = { defaultAlgorithm: 'ES256', byAudience: { studio: 'HS256' } } as const;
  const { keys, store, clock, folder } = await open(t, { algorithms });
  const [next, first] = keys.list().map(({ kid }) => kid);
  const { kid: secret } = await keys.signingKey('studio');
  const ann = { kind: 'user', id: 'user:1', name: 'ann', address: '192.0.2.1' } as const;
  const { made } = await keys.rotate({ audience: 'rollcall', dropOld: true }, { by: ann });
  const dropped = clock.now();
  clock.step(dayMs);
  await keys.rotate({ audience: 'rollcall' }, { by: ann });
  clock.step(90 * dayMs);
  await keys.close();
  const again = await open(t, { algorithms, folder, clock });
  const [link, user] = [{ kind: 'link' }, { kind: 'user', name: 'ann' }];
  const [third, second] = made.map(({ kid }) => kid);
  const fourth = (await again.keys.signingKey('rollcall')).kid;
  const iso = (at: number): string => new Date(at).toISOString();
  const none = { retired: '', dropped: '' };
  t.match(await typesIn(store), [
    { type: 'keys.rotated', by: link, detail: { made: `${next} ${first}`, signing: first, ...none } },
    { type: 'keys.rotated', by: link, detail: { signing: secret } },
    {
      type: 'keys.rotated',
      by: user,
      detail: {
        ...{ audience: 'rollcall', dropOld: true, made: `${third} ${second}`, signing: second },
        ...{ signsFrom: iso(dropped), dropped: `${next} ${first}` },
      },
    },
    { type: 'keys.rotated', by: user, detail: { signing: third, retired: second, dropped: '' } },
    { type: 'keys.rotated', by: link, detail: { signing: fourth, retired: third } },
  ]);
  t.equal((await typesIn(store)).length, 5);
});

void t.test('on a full store token keys do not change, and no change is reported', async t => {
  for (const kept of [false, true]) {
    const disk = createPowerCutStore();
    const { keys, clock, folder } = await open(t, { store: disk.store });
    const before = keys.list();
    const { kid } = await keys.signingKey('rollcall');
    disk.failWrites(Object.assign(new Error('full'), { code: 'ENOSPC' }), { kept });
    await t.rejects(keys.rotate({ dropOld: true }), { code: 'STORE_FULL' });
    t.ok(keys.verifyingKey('rollcall', kid, 'ES256'), 'the old key is there');
    t.equal((await keys.signingKey('rollcall')).kid, kid, 'and signs');
    disk.failWrites(undefined);
    await keys.close();
    const again = await open(t, { store: disk.store, folder, clock });
    // A change that was written after all takes effect and is audited; one that was not is gone.
    const told = (await typesIn(disk.store)).length;
    t.same([told, again.keys.list().length], kept ? [2, 2] : [1, 2], `kept: ${String(kept)}`);
    t.equal((await again.keys.signingKey('rollcall')).kid === kid, !kept);
    t.equal(before.length, 2);
  }
});

void t.test('a key change whose commit failed is looked up before the next change', async t => {
  for (const kept of [false, true]) {
    const disk = createPowerCutStore();
    const { keys, file } = await open(t, { store: disk.store });
    const first = (await keys.signingKey('rollcall')).kid;
    disk.failWrites(new Error('gone'), { kept });
    await t.rejects(keys.rotate({ now: true }), { code: 'STORE_UNAVAILABLE' });
    disk.failWrites(undefined);
    const { retired } = await keys.rotate({ now: true });
    t.equal(only(retired).kid === first, !kept, `kept: ${String(kept)}`);
    t.equal(keys.list().length, kept ? 4 : 3);
    t.equal((await typesIn(disk.store)).length, keys.list().length - 1, 'an event for each that ever signed');
    t.notOk('next' in (await readKeys(file)));
  }
});

void t.test(
  'a link that is killed in the middle of a rotation has the keys that its audit log names',
  async t => {
    const pausing = pausingStore(createMemoryStore());
    const { keys, clock, folder, file } = await open(t, { store: pausing.store });
    const first = (await keys.signingKey('rollcall')).kid;
    const paused = pausing.pause();
    const rotating = keys.rotate({ dropOld: true });
    await paused.held;
    const staged = await readFile(file, 'utf8');
    const dead = await open(t, { store: pausing.store, folder: await copyOf(t, staged), clock });
    t.equal((await dead.keys.signingKey('rollcall')).kid, first, 'before the commit: the old ones');
    paused.resume();
    const second = only((await rotating).signing).kid;
    const late = await open(t, { store: pausing.store, folder: await copyOf(t, staged), clock });
    t.equal((await late.keys.signingKey('rollcall')).kid, second, 'after it: the new ones');
    t.notOk(
      (await readFile(late.file, 'utf8')).includes(first),
      'and nothing is left of those that were dropped',
    );
    t.equal((await typesIn(pausing.store)).length, 2);
    t.equal(folder === late.folder, false);
  },
);

/** A data folder with that file of token keys. */
async function copyOf(t: Test, content: string): Promise<string> {
  const folder = await makeFolder(t);
  await writeFile(join(folder, tokenKeyFileName), content, { mode: 0o600 });
  return folder;
}

void t.test('a rotation by a caller who has lost the permission changes nothing', async t => {
  const { keys, store, file } = await open(t);
  const before = await readFile(file, 'utf8');
  const grounds = () => Promise.reject(new RollcallError('NOT_ALLOWED', 'not any more'));
  const by = { kind: 'user', id: 'user:1', name: 'ann' } as const;
  await t.rejects(keys.rotate({}, { by, grounds }), { code: 'NOT_ALLOWED' });
  t.equal(await readFile(file, 'utf8'), before);
  t.equal((await typesIn(store)).length, 1);
});

void t.test(
  'a key file that cannot be cleaned up after a rotation is cleaned up later; the keys are in use at once',
  async t => {
    const pausing = pausingStore(createMemoryStore());
    const { keys, clock, folder, file, logged } = await open(t, { store: pausing.store });
    const first = (await keys.signingKey('rollcall')).kid;
    const paused = pausing.pause();
    const rotating = keys.rotate({ dropOld: true });
    await paused.held;
    const staged = await readFile(file, 'utf8');
    await rm(folder, { recursive: true });
    paused.resume();
    t.equal((await rotating).made.length, 2);
    t.notOk(keys.verifyingKey('rollcall', first, 'ES256'));
    t.match(logged.join(''), /the file of token keys could not be tidied/);
    await mkdir(folder);
    await writeFile(file, staged, { mode: 0o600 });
    clock.advance(3_600_000);
    await keys.close();
    t.notOk((await readFile(file, 'utf8')).includes(first));
  },
);

void t.test('a key file from before keys were published early is read and gets its next key', async t => {
  const algorithms = { defaultAlgorithm: 'ES256', byAudience: { studio: 'HS256' } } as const;
  const { keys, folder, file, clock } = await open(t, { algorithms });
  const { kid: secret } = await keys.signingKey('studio');
  const { kid } = await keys.signingKey('rollcall');
  await keys.close();
  const { version, refreshSecret, keys: records } = await readKeys(file);
  const older = records.filter(({ signsAt }) => signsAt !== null).map(({ signsAt: _, ...record }) => record);
  await writeFile(file, JSON.stringify({ version, refreshSecret, keys: older }));
  clock.step(100 * dayMs);
  const again = await open(t, { folder, clock, store: createMemoryStore(), algorithms });
  t.same(again.keys.refreshSecret.toString('base64url'), refreshSecret);
  t.same(
    [(await again.keys.signingKey('rollcall')).kid, (await again.keys.signingKey('studio')).kid],
    [kid, secret],
    'a key that is due waits for its follower to have been published for a day',
  );
  t.match(new Set(again.keys.list().map(({ use }) => use)), new Set(['next', 'signs']));
  t.equal(waiting(again.keys).length, 3, 'one of them with a date');
  t.notMatch(again.logged.join(''), /not of the same moment/);
  clock.advance(dayMs - hourMs);
  t.equal((await again.keys.signingKey('rollcall')).kid, kid);
  clock.advance(2 * hourMs);
  await again.keys.close();
  t.not((await again.keys.signingKey('rollcall')).kid, kid, 'a day later that signs');
  t.match(signers(again.keys).find(each => each.audience === 'studio')?.kid, secret);
});

void t.test('a key file and a store of different moments are logged, and the file is used', async t => {
  const { keys, folder, clock, store } = await open(t);
  await keys.rotate();
  await keys.close();
  const restored = await open(t, { folder, clock, store: createMemoryStore() });
  t.match(restored.logged.join(''), /the token keys and the store are not of the same moment/);
  t.same(restored.keys.list(), keys.list());
  t.equal((await restored.keys.rotate({ now: true })).retired.length, 1);
  await restored.keys.close();
  await rm(join(folder, tokenKeyFileName));
  const fresh = await open(t, { folder, clock, store });
  t.equal(fresh.keys.list().length, 2, 'a file that was moved away for new keys');
  t.notMatch(fresh.logged.join(''), /not of the same moment/);
});
