import t from 'tap';
import { createLog } from '../../../../src/base/log.js';
import { systemRandom } from '../../../../src/base/random.js';
import {
  Families,
  refreshRefused,
  type NewFamily,
  type Refreshed,
} from '../../../../src/link/access/tokens/refresh-families.js';
import { absoluteMs, idleMs, retryWithinMs } from '../../../../src/link/access/tokens/refresh-family.js';
import { createAudit } from '../../../../src/link/audit/audit.js';
import { listEvents } from '../../../../src/link/audit/query.js';
import { createMemoryStore } from '../../../../src/store/memory.js';
import { createPowerCutStore } from '../../../../src/store/power-cut.js';
import type { Store } from '../../../../src/store/store.js';
import { createManualClock } from '../../../harness/manual-clock.js';
import type { FindParty } from '../../../../src/link/access/accounts/holders.js';
import { slowStore } from '../../../harness/stores.js';

const secret = Buffer.alloc(32, 7);
const log = createLog({ level: 'silent', name: 'link' });
const holder = `user:${'0'.repeat(32)}`;
const findParty: FindParty = (_, id) => Promise.resolve({ kind: 'user', id, name: 'ann' });
const wanted: NewFamily = { tenant: 'default', holder, audience: 'link', scope: 'runs:read' };

function start(store: Store = createMemoryStore()) {
  const clock = createManualClock(1_700_000_000_000);
  const audit = createAudit({ clock });
  const open = (on: Store = store, key = secret): Families =>
    new Families({ store: on, audit, clock, log, random: systemRandom, findParty, secret: key });
  const families = open();
  async function begin(family: NewFamily = wanted) {
    const begun = families.begin(family);
    await store.commit(begun.changes);
    return begun;
  }
  const typesOf = async (tenant = 'default') =>
    (await listEvents(store, tenant, { limit: 5000 })).map(({ type }) => type);
  return { store, clock, families, open, begin, typesOf };
}

function tokenOf(refreshed: Refreshed): string {
  if ('token' in refreshed) return refreshed.token;
  throw new Error(`no token but ${refreshed.outcome}`);
}

void t.test('each refresh token is exchanged for a new one of the same family', async test => {
  const { families, clock, begin, typesOf } = start();
  const { family, token } = await begin();
  test.match(token, new RegExp(`^rcr_${family.id}_[A-Za-z0-9_-]{65}$`));
  test.match(family, { ...wanted, createdAt: clock.now(), usedAt: clock.now(), rotations: 0 });
  const seen = new Set([token]);
  let present = token;
  for (let rotations = 1; rotations <= 5; rotations++) {
    clock.advance(3_600_000);
    const refreshed = await families.refresh(present);
    test.match(refreshed, { outcome: 'rotated', family: { ...wanted, id: family.id, rotations } });
    present = tokenOf(refreshed);
    seen.add(present);
  }
  test.equal(seen.size, 6);
  test.match(await families.find('default', family.id), { rotations: 5, usedAt: clock.now() });
  test.same(await typesOf(), Array<string>(5).fill('token.refreshed'));
});

void t.test('repeating a refresh within ten seconds returns the same successor', async test => {
  const { families, clock, begin, typesOf } = start();
  const { token } = await begin();
  const first = await families.refresh(token);
  for (const waitMs of [0, retryWithinMs / 2, retryWithinMs / 2]) {
    clock.advance(waitMs);
    const again = await families.refresh(token);
    test.match(again, { outcome: 'repeated', token: tokenOf(first) });
  }
  test.same(await typesOf(), ['token.refreshed'], 'and nothing is recorded of it');
  test.match(await families.refresh(tokenOf(first)), { outcome: 'rotated' });
});

void t.test('a refresh token used again later ends its family, including the current token', async test => {
  const { store, families, clock, begin, typesOf } = start();
  const { family, token } = await begin();
  const successor = tokenOf(await families.refresh(token, { address: '192.0.2.1' }));
  clock.advance(retryWithinMs + 1);
  const reused = await families.refresh(token, { address: '203.0.113.9' });
  test.match(reused, { outcome: 'reused', family: { id: family.id, holder } });
  test.notOk('token' in reused);
  test.same(await families.refresh(successor), { outcome: 'unknown' });
  test.same(await families.refresh(token), { outcome: 'unknown' }, 'and it ends once only');
  test.equal(await families.find('default', family.id), undefined);
  test.same(await typesOf(), ['token.refreshed', 'token.refresh-reused']);
  const [, event] = await listEvents(store, 'default', { limit: 5 });
  test.match(event, {
    subject: holder,
    by: { kind: 'link' },
    address: '203.0.113.9',
    detail: { session: family.id },
  });
  test.same(await store.list({ prefix: 'access/family/' }), [], 'and nothing is left of it');
});

void t.test('repeated refreshes do not extend the ten seconds', async test => {
  const { families, clock, begin } = start();
  const { token } = await begin();
  await families.refresh(token);
  for (const outcome of ['repeated', 'repeated', 'reused']) {
    clock.advance(4_000);
    test.equal((await families.refresh(token)).outcome, outcome);
  }
});

void t.test('a token before the previous one counts as reuse, even within the ten seconds', async test => {
  const { families, begin } = start();
  const { token } = await begin();
  await families.refresh(tokenOf(await families.refresh(token)));
  test.equal((await families.refresh(token)).outcome, 'reused');
});

void t.test('made-up tokens of a real family do not end the family', async test => {
  const { families, clock, open, store, begin, typesOf } = start();
  const { family, token } = await begin();
  clock.advance(60_000);
  const body = `rcr_${family.id}_`;
  const flipped = (at: number) => token.slice(0, at) + (token[at] === 'A' ? 'B' : 'A') + token.slice(at + 1);
  const foreign = open(store, Buffer.alloc(32, 8)).begin(wanted).token;
  const madeUp = [
    body + systemRandom(32).toString('base64url'),
    body + systemRandom(48).toString('base64url').padEnd(65, 'A'),
    body + foreign.slice(body.length),
    ...[37, 40, 60, 79, 80, 90, token.length - 1].map(flipped),
    token.slice(0, -1),
    `${token}A`,
    `${token}\n`,
    ` ${token}`,
    token.toUpperCase(),
    'rcr_',
    '',
    '__proto__',
    'x'.repeat(1_000_000),
  ];
  for (const made of madeUp) {
    test.same(await families.refresh(made), { outcome: 'unknown' }, made.slice(0, 110));
    test.equal(await families.endByToken(made, {}), undefined);
  }
  test.same(await typesOf(), [], 'nor is anything written');
  test.equal((await families.refresh(token)).outcome, 'rotated');
});

void t.test('a thousand concurrent refreshes of one token are one rotation and successor', async test => {
  const disk = createPowerCutStore();
  const { families, begin, typesOf } = start(disk.store);
  const { family, token } = await begin();
  const refreshed = await Promise.all(Array.from({ length: 1000 }, () => families.refresh(token)));
  test.equal(new Set(refreshed.map(tokenOf)).size, 1);
  test.equal(refreshed.filter(({ outcome }) => outcome === 'rotated').length, 1);
  test.same(await typesOf(), ['token.refreshed']);
  test.match(await families.find('default', family.id), { rotations: 1 });
  const [first] = refreshed;
  test.equal(first && (await families.refresh(tokenOf(first))).outcome, 'rotated');
});

void t.test('a family that is not used for seven days ends', async test => {
  const { families, clock, begin, typesOf } = start();
  const { family, token } = await begin();
  clock.advance(idleMs);
  const next = tokenOf(await families.refresh(token));
  clock.advance(idleMs + 1);
  test.equal(await families.find('default', family.id), undefined);
  test.same(await families.refresh(next), { outcome: 'unknown' });
  test.same(await typesOf(), ['token.refreshed', 'session.expired']);
});

void t.test('a family ends after thirty days, however much it is used', async test => {
  const { families, clock, begin, typesOf } = start();
  const { family, token } = await begin();
  let present = token;
  for (let day = 6; day <= 30; day += 6) {
    clock.advance((absoluteMs / 30) * 6);
    present = tokenOf(await families.refresh(present));
  }
  clock.advance(1);
  test.equal(await families.find('default', family.id), undefined);
  test.same(await families.refresh(present), { outcome: 'unknown' });
  test.equal((await typesOf()).at(-1), 'session.expired');
});

void t.test(
  'after a restart refresh tokens are valid, retries get the same token, and reuse is detected',
  async test => {
    const { families, clock, open, begin } = start();
    const { token } = await begin();
    const second = tokenOf(await families.refresh(token));
    test.match(await open().refresh(token), { outcome: 'repeated', token: second });
    const third = tokenOf(await open().refresh(second));
    clock.advance(retryWithinMs + 1);
    test.equal((await open().refresh(second)).outcome, 'reused');
    test.equal((await open().refresh(third)).outcome, 'unknown');
  },
);

void t.test(
  'a store that fails during a refresh leaves the old token valid, whether or not it was written',
  async test => {
    for (const kept of [false, true]) {
      const disk = createPowerCutStore();
      const { families, clock, begin, typesOf } = start(disk.store);
      const { token } = await begin();
      disk.failWrites(new Error('gone'), { kept });
      await test.rejects(families.refresh(token), { code: 'STORE_UNAVAILABLE' });
      disk.failWrites(undefined);
      clock.advance(3_600_000);
      const refreshed = await families.refresh(token);
      test.equal(refreshed.outcome, kept ? 'repeated' : 'rotated', `kept: ${String(kept)}`);
      test.same(await typesOf(), ['token.refreshed']);
      clock.advance(retryWithinMs + 1);
      test.equal((await families.refresh(token)).outcome, 'reused', 'once it was answered it counts as used');
    }
  },
);

void t.test(
  'a rotation that could not be stored does not revive a token that was used long ago',
  async test => {
    for (const kept of [false, true]) {
      const disk = createPowerCutStore();
      const { families, clock, begin, typesOf } = start(disk.store);
      const { token: first } = await begin();
      const second = tokenOf(await families.refresh(first));
      clock.advance(3_600_000);
      disk.failWrites(new Error('gone'), { kept });
      await test.rejects(families.refresh(second), { code: 'STORE_UNAVAILABLE' });
      disk.failWrites(undefined);
      test.equal((await families.refresh(first)).outcome, 'reused', `kept: ${String(kept)}`);
      test.equal((await typesOf()).at(-1), 'token.refresh-reused');
    }
  },
);

void t.test('a power cut during a refresh leaves the old token valid', async test => {
  for (const keepHeld of [false, true]) {
    const disk = createPowerCutStore();
    const { families, open, begin } = start(disk.store);
    const { token } = await begin();
    disk.hold();
    const refreshing = families.refresh(token);
    await new Promise(resolve => setImmediate(resolve));
    const store = disk.cut({ keepHeld });
    await test.rejects(refreshing, { code: 'STORE_UNAVAILABLE' });
    const refreshed = await open(store).refresh(token);
    test.equal(refreshed.outcome, keepHeld ? 'repeated' : 'rotated');
    test.equal((await open(store).refresh(tokenOf(refreshed))).outcome, 'rotated');
  }
});

void t.test('a retry after a slow commit does not count as reuse', async test => {
  const clock = createManualClock(1_700_000_000_000);
  let delayMs = 0;
  const store = slowStore(createMemoryStore(), clock, () => delayMs);
  const audit = createAudit({ clock });
  const families = new Families({ store, audit, clock, log, random: systemRandom, findParty, secret });
  const { token, changes } = families.begin(wanted);
  await store.commit(changes);
  delayMs = 30_000;
  const turn = () => new Promise(resolve => setImmediate(resolve));
  const first = families.refresh(token);
  await turn();
  clock.advance(15_000);
  const meanwhile = families.refresh(token);
  await turn();
  clock.advance(15_000);
  const successor = tokenOf(await first);
  clock.advance(9_000);
  test.match(
    await families.refresh(token),
    { outcome: 'repeated', token: successor },
    'just after the answer',
  );
  clock.advance(60_000);
  test.match(await meanwhile, { outcome: 'repeated', token: successor }, 'while it was being written');
  const late = families.refresh(token);
  await turn();
  clock.advance(60_000);
  test.equal((await late).outcome, 'reused');
});

void t.test('a session is ended by its current token, by the previous one, or by its id', async test => {
  const { families, begin, typesOf } = start();
  const one = await begin();
  test.match(await families.endByToken(one.token, {}), { id: one.family.id });
  test.equal(await families.endByToken(one.token, {}), undefined);
  test.equal((await families.refresh(one.token)).outcome, 'unknown');
  const two = await begin();
  const next = tokenOf(await families.refresh(two.token));
  test.match(await families.endByToken(two.token, {}), { id: two.family.id });
  test.equal((await families.refresh(next)).outcome, 'unknown');
  const three = await begin();
  await families.end('ward', three.family.id, {});
  test.equal(await families.find('ward', three.family.id), undefined);
  test.match(
    await families.find('default', three.family.id),
    { id: three.family.id },
    'not from another tenant',
  );
  await families.end('default', three.family.id, {});
  await families.end('default', three.family.id, {});
  await families.end('default', '__proto__', {});
  test.equal(await families.find('default', three.family.id), undefined);
  test.same(await typesOf(), ['session.ended', 'token.refreshed', 'session.ended', 'session.ended']);
});

void t.test('ending a family does not affect another of the same holder', async test => {
  const { families, clock, begin } = start();
  const [one, two] = [await begin(), await begin({ ...wanted, tenant: 'ward' })];
  await families.refresh(one.token);
  clock.advance(60_000);
  test.equal((await families.refresh(one.token)).outcome, 'reused');
  test.match(await families.refresh(two.token), { outcome: 'rotated', family: { tenant: 'ward' } });
});

void t.test('no token is in the store or in the audit log', async test => {
  const { store, families, begin } = start();
  const { token } = await begin();
  const tokens = [token];
  for (let n = 0; n < 3; n++) tokens.push(tokenOf(await families.refresh(tokens.at(-1) ?? '')));
  const text = (await store.list({ prefix: '' }))
    .map(({ key, value }) => `${key} ${Buffer.from(value).toString()}`)
    .join('\n');
  test.ok(text.includes('token.refreshed'));
  for (const each of tokens) {
    const random = each.slice('rcr_'.length + 33);
    for (let at = 0; at + 12 <= random.length; at++)
      if (text.includes(random.slice(at, at + 12))) test.fail(each);
  }
  test.notOk(text.includes(secret.toString('hex')) || text.includes(secret.toString('base64')));
});

void t.test(
  'a refresh token cannot be derived from a copy of the store without the secret of the link',
  async test => {
    const { store, families, open, begin } = start();
    const { token } = await begin();
    const stranger = open(store, Buffer.alloc(32, 8));
    test.same(await stranger.refresh(token), { outcome: 'unknown' });
    test.equal((await families.refresh(token)).outcome, 'rotated');
    test.match(refreshRefused(), { code: 'TOKEN_REFUSED', message: 'the refresh token is not valid' });
  },
);

void t.test('unused sessions are removed, and their removal is audited', async test => {
  const { store, clock, begin, families, typesOf } = start();
  const { family } = await begin();
  const { token } = await begin({ ...wanted, tenant: 'acme' });
  clock.advance(idleMs - 3_600_000);
  const refreshed = await families.refresh(token);
  clock.advance(2 * 3_600_000);
  const gone = async () => (await store.get(`access/family/${family.id}`)) === undefined;
  for (let turns = 0; turns < 1000 && !(await gone()); turns += 1) await new Promise(setImmediate);
  test.ok(await gone());
  test.same(await store.list({ prefix: 't/default/family/' }), []);
  test.same(await typesOf(), ['session.expired']);
  test.same(await typesOf('acme'), ['token.refreshed'], 'one that was used since is not');
  test.equal((await families.refresh(tokenOf(refreshed))).outcome, 'rotated');
  families.close();
});
