import t, { type Test } from 'tap';
import { createPublicKey, type JsonWebKey } from 'node:crypto';
import { isRollcallError, type RollcallError } from '../../../../src/base/errors.js';
import { createLog } from '../../../../src/base/log.js';
import { systemRandom } from '../../../../src/base/random.js';
import {
  createAccessTokens,
  type AccessTokens,
  type NewToken,
} from '../../../../src/link/access/tokens/access-tokens.js';
import {
  openTokenKeys,
  type TokenAlgorithms,
  type TokenKeys,
} from '../../../../src/link/access/tokens/keys.js';
import { createAudit } from '../../../../src/link/audit/audit.js';
import { createMemoryStore } from '../../../../src/store/memory.js';
import { createManualClock, type ManualClock } from '../../../harness/manual-clock.js';
import { makeFolder } from '../../../harness/folder.js';
import { forge, forgedTokens } from '../../../tokens/forged-tokens.js';

const issuer = 'https://link.example.org:9093';
const minuteMs = 60_000;
const dayMs = 86_400_000;
const wanted: NewToken = {
  subject: 'user:0123456789abcdef0123456789abcdef',
  audience: 'rollcall',
  tenant: 'default',
  roles: ['operator'],
  lifetimeMs: 15 * minuteMs,
};

interface Setup {
  readonly keys: TokenKeys;
  readonly tokens: AccessTokens;
  readonly clock: ManualClock;
  readonly folder: string;
}

async function setUp(
  t: Test,
  algorithms: TokenAlgorithms = { defaultAlgorithm: 'ES256', byAudience: {} },
  folder?: string,
  clock: ManualClock = createManualClock(),
): Promise<Setup> {
  const where = folder ?? (await makeFolder(t));
  const log = createLog({ level: 'silent', name: 'link' });
  const keys = await openTokenKeys({
    folder: where,
    store: createMemoryStore(),
    audit: createAudit({ clock }),
    algorithms,
    clock,
    random: systemRandom,
    log,
    maxLifetimeMs: dayMs,
  });
  t.teardown(() => keys.close());
  const tokens = createAccessTokens({ keys, issuer: () => issuer, clock, random: systemRandom });
  return { keys, tokens, clock, folder: where };
}

const partOf = (token: string, index: number): Record<string, unknown> =>
  JSON.parse(Buffer.from(token.split('.')[index] ?? '', 'base64url').toString()) as Record<string, unknown>;

const notValid = { code: 'TOKEN_REFUSED', message: 'the token is not valid here' };
const expired = { code: 'TOKEN_REFUSED', message: 'the token has expired' };

async function refusalOf(verifying: Promise<unknown>): Promise<RollcallError | undefined> {
  try {
    await verifying;
    return undefined;
  } catch (error) {
    if (isRollcallError(error)) return error;
    throw error;
  }
}

void t.test('an access token has the requested claims in the form of RFC 9068', async t => {
  const { tokens, keys, clock } = await setUp(t);
  const signed = await tokens.sign({
    ...wanted,
    client: 'rollcall-cli',
    scope: 'nodes:read runs:read',
    session: 'f'.repeat(32),
    confirmation: 'A'.repeat(43),
  });
  const second = Math.floor(clock.now() / 1000);
  const { kid } = await keys.signingKey('rollcall');
  t.same(partOf(signed.token, 0), { alg: 'ES256', typ: 'at+jwt', kid });
  t.same(partOf(signed.token, 1), {
    iss: issuer,
    sub: wanted.subject,
    aud: 'rollcall',
    iat: second,
    nbf: second - 60,
    exp: second + 900,
    jti: signed.tokenId,
    client_id: 'rollcall-cli',
    tenant_id: 'default',
    roles: ['operator'],
    scope: 'nodes:read runs:read',
    sid: 'f'.repeat(32),
    cnf: { 'x5t#S256': 'A'.repeat(43) },
  });
  t.match(signed.tokenId, /^[0-9a-f]{32}$/);
  t.same(await tokens.verify(signed.token, 'rollcall'), {
    issuer,
    subject: wanted.subject,
    audience: 'rollcall',
    tenant: 'default',
    roles: ['operator'],
    scope: 'nodes:read runs:read',
    tokenId: signed.tokenId,
    client: 'rollcall-cli',
    session: 'f'.repeat(32),
    confirmation: 'A'.repeat(43),
    issuedAt: signed.issuedAt,
    notBefore: (second - 60) * 1000,
    expiresAt: signed.expiresAt,
  });
  const plain = partOf((await tokens.sign({ ...wanted, tokenId: 'mine' })).token, 1);
  t.equal(plain['jti'], 'mine');
  t.equal(plain['client_id'], wanted.subject, 'nobody but the subject itself asked');
  t.notOk('scope' in plain || 'sid' in plain || 'cnf' in plain, 'what was not asked for is not there');
});

const setUps: readonly (readonly [string, TokenAlgorithms])[] = [
  ['ES256', { defaultAlgorithm: 'ES256', byAudience: { other: 'RS256', secret: 'HS256' } }],
  ['RS256', { defaultAlgorithm: 'RS256', byAudience: { other: 'ES256', secret: 'HS256' } }],
  ['HS256', { defaultAlgorithm: 'HS256', byAudience: { other: 'ES256' } }],
];

for (const [algorithm, algorithms] of setUps) {
  void t.test(`forged tokens are refused with ${algorithm}`, async t => {
    const { tokens, keys, clock } = await setUp(t, algorithms);
    const { token } = await tokens.sign(wanted);
    t.equal(partOf(token, 0)['alg'], algorithm);
    await tokens.verify(token, 'rollcall');
    const { key, kid } = await keys.signingKey('rollcall');
    const publicJwk = keys.jwks().keys.find(each => each.kid === kid) as JsonWebKey | undefined;
    const publicKey = publicJwk && createPublicKey({ key: publicJwk, format: 'jwk' });
    const victim = { header: partOf(token, 0), payload: partOf(token, 1), key, nowMs: clock.now() };
    const good = forge(victim.header, victim.payload, key);
    t.equal(
      (await tokens.verify(good, 'rollcall')).subject,
      wanted.subject,
      'the forger can make a good one',
    );
    const forged = forgedTokens({ ...victim, ...(publicKey && { publicKey }) });
    t.ok(forged.length > 150, `${forged.length} of them`);
    for (const [title, bad] of forged) {
      const error = await refusalOf(tokens.verify(bad, 'rollcall'));
      if (error?.message !== notValid.message) t.fail(`${title}: ${error?.message ?? 'taken'}`);
      if (!(error?.cause instanceof Error)) t.fail(`${title}: no reason for the log`);
      if (error && bad.length > 20 && `${error.message} ${String(error.cause)}`.includes(bad.slice(0, 200)))
        t.fail(`${title}: the token is in the message`);
    }
  });
}

void t.test('a token for another audience is refused, whatever it is signed with', async t => {
  const algorithms: TokenAlgorithms = {
    defaultAlgorithm: 'ES256',
    byAudience: { old: 'RS256', studio: 'HS256', logging: 'HS256' },
  };
  const { tokens, keys } = await setUp(t, algorithms);
  const audiences = ['rollcall', 'second', 'old', 'studio', 'logging'];
  const { key } = await keys.signingKey('studio');
  for (const audience of audiences) {
    const { token } = await tokens.sign({ ...wanted, audience });
    await tokens.verify(token, audience);
    for (const other of audiences.filter(each => each !== audience))
      await t.rejects(tokens.verify(token, other), notValid, `${audience} at ${other}`);
    // Anyone who has the secret of one audience can make tokens for that one alone.
    const minted = forge(
      { alg: 'HS256', typ: 'at+jwt', kid: (await keys.signingKey('studio')).kid },
      { ...partOf(token, 1), roles: ['admin'] },
      key,
    );
    if (audience !== 'studio')
      await t.rejects(tokens.verify(minted, audience), notValid, `minted for ${audience}`);
  }
});

void t.test('expiry is reported only for a token with a valid signature and this audience', async t => {
  const { tokens, clock } = await setUp(t);
  const { token, expiresAt } = await tokens.sign(wanted);
  const forOther = await tokens.sign({ ...wanted, audience: 'other' });
  clock.step(expiresAt + 29_999 - clock.now());
  await tokens.verify(token, 'rollcall');
  clock.step(1);
  await t.rejects(tokens.verify(token, 'rollcall'), expired, '30 seconds after its end, to the millisecond');
  const tampered = `${token.slice(0, -6)}AAAAAA`;
  await t.rejects(tokens.verify(tampered, 'rollcall'), notValid);
  await t.rejects(tokens.verify(forOther.token, 'rollcall'), notValid);
});

void t.test('tokens are valid on a clock that is ten minutes off only within the tolerance', async t => {
  const { tokens, clock } = await setUp(t);
  const { token } = await tokens.sign(wanted);
  clock.step(10 * minuteMs);
  await tokens.verify(token, 'rollcall');
  clock.step(10 * minuteMs);
  await t.rejects(tokens.verify(token, 'rollcall'), expired);
  clock.step(-30 * minuteMs);
  await t.rejects(tokens.verify(token, 'rollcall'), notValid, 'made in what is now the future');
  clock.step(10 * minuteMs);
  await tokens.verify(token, 'rollcall');
  clock.step(-29_000);
  await tokens.verify(token, 'rollcall');
});

void t.test('tokens survive a rotation and a restart of the link, and end after a leak', async t => {
  const { tokens, keys, folder, clock } = await setUp(t);
  const { token: old } = await tokens.sign({ ...wanted, lifetimeMs: dayMs });
  await keys.rotate({ now: true });
  const { token: recent } = await tokens.sign(wanted);
  t.not(partOf(recent, 0)['kid'], partOf(old, 0)['kid']);
  await tokens.verify(old, 'rollcall');
  await keys.close();
  const again = await setUp(t, undefined, folder, clock);
  await again.tokens.verify(old, 'rollcall');
  await again.tokens.verify(recent, 'rollcall');
  await again.keys.rotate({ dropOld: true });
  await t.rejects(again.tokens.verify(old, 'rollcall'), notValid);
  await t.rejects(again.tokens.verify(recent, 'rollcall'), notValid);
  await again.tokens.verify((await again.tokens.sign(wanted)).token, 'rollcall');
});

void t.test('a token of an algorithm that is no longer configured is refused', async t => {
  const { tokens, keys, folder, clock } = await setUp(t);
  const { token } = await tokens.sign(wanted);
  await keys.close();
  const after = await setUp(t, { defaultAlgorithm: 'RS256', byAudience: {} }, folder, clock);
  await t.rejects(after.tokens.verify(token, 'rollcall'), notValid);
});

void t.test('a token that no verifier would accept is not signed', async t => {
  const { tokens } = await setUp(t);
  const unfit: Partial<NewToken>[] = [
    { lifetimeMs: 0 },
    { lifetimeMs: -1 },
    { lifetimeMs: 401 * dayMs },
    { lifetimeMs: NaN },
    { lifetimeMs: Infinity },
    { subject: '' },
    { subject: 'user:\n' },
    { tenant: '' },
    { scope: '' },
    { scopeFrom: 'elsewhere' as 'roles' },
    { roles: Array.from({ length: 101 }, () => 'r') },
    { roles: Array.from({ length: 100 }, (_, index) => `${index}`.padEnd(80, 'r')) },
    { confirmation: 'short' },
  ];
  for (const each of unfit)
    await t.rejects(
      tokens.sign({ ...wanted, ...each }),
      { code: 'REQUEST_INVALID' },
      JSON.stringify(each).slice(0, 60),
    );
});

void t.test('a token that was verified before is checked again except for its signature', async t => {
  const { keys, tokens, clock } = await setUp(t);
  const [first, second] = [await tokens.sign(wanted), await tokens.sign(wanted)];
  for (const { token, tokenId } of [first, second, first, second])
    t.match(await tokens.verify(token, 'rollcall'), { tokenId });
  await t.rejects(tokens.verify(first.token, 'elsewhere'), notValid);
  const forged = `${first.token.slice(0, -6)}AAAAAA`;
  await t.rejects(tokens.verify(forged, 'rollcall'), notValid);
  await t.rejects(
    tokens.verify(forged, 'rollcall'),
    notValid,
    'nor is a refusal remembered as something else',
  );
  clock.advance(16 * minuteMs);
  await t.rejects(tokens.verify(first.token, 'rollcall'), expired);
  const third = await tokens.sign(wanted);
  await tokens.verify(third.token, 'rollcall');
  await keys.rotate();
  t.match(await tokens.verify(third.token, 'rollcall'), { tokenId: third.tokenId });
  await keys.rotate({ dropOld: true });
  await t.rejects(tokens.verify(third.token, 'rollcall'), notValid, 'its key is not trusted any more');
});
