import t, { type Test } from 'tap';
import { createHash, createPublicKey, generateKeyPairSync, randomBytes, type JsonWebKey } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, request as httpsRequest, type RequestOptions } from 'node:https';
import type { AddressInfo } from 'node:net';
import {
  Client,
  credentials,
  Metadata,
  Server,
  ServerCredentials,
  type handleUnaryCall,
  type ServiceError,
} from '@grpc/grpc-js';
import fastify from 'fastify';
import { createRemoteJWKSet, customFetch, jwtVerify } from 'jose';
import { createLog } from '../../src/base/log.js';
import { systemRandom } from '../../src/base/random.js';
import { createAccessTokens, type NewToken } from '../../src/link/access/tokens/access-tokens.js';
import { createAudit } from '../../src/link/audit/audit.js';
import { createMemoryStore } from '../../src/store/memory.js';
import { openTokenKeys, type TokenAlgorithms } from '../../src/link/access/tokens/keys.js';
import { makeDevelopmentCertificates } from '../../src/link/authority/development.js';
import { coolDownMs, freshMs, maxWaiting } from '../../src/tokens/issuer-keys.js';
import {
  createTokenVerifier,
  requireOwner,
  requirePermission,
  requireRole,
  toGrpcStatus,
  type GrpcGuardOptions,
  type RollcallError,
  type TokenClaims,
  type VerifierOptions,
  type WithOptionalPrincipal,
  type WithPrincipal,
} from '../../src/tokens/verifier.js';
import { createManualClock } from '../harness/manual-clock.js';
import { makeFolder } from '../harness/folder.js';
import { forge, forgedTokens } from './forged-tokens.js';

const certificates = makeDevelopmentCertificates({
  hosts: [],
  days: 2,
  now: Date.now(),
  random: systemRandom,
});
const ca = certificates.ca.certificate;
const tls = { cert: certificates.server.certificate, key: certificates.server.key };
const audience = 'logging-service';
const wanted: NewToken = {
  subject: 'service:0123456789abcdef0123456789abcdef',
  audience,
  tenant: 'default',
  roles: ['writer'],
  scope: 'logs:write',
  lifetimeMs: 900_000,
};
const notValid = { code: 'TOKEN_REFUSED', message: 'the token is not valid here' };
const unreachable = { code: 'LINK_UNREACHABLE' };

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

/** A link as a verifier sees it: its issuer address, with the answer that the test wants. */
async function startIssuer(
  t: Test,
  algorithms: TokenAlgorithms = { defaultAlgorithm: 'ES256', byAudience: {} },
) {
  const clock = createManualClock();
  const keys = await openTokenKeys({
    folder: await makeFolder(t),
    store: createMemoryStore(),
    audit: createAudit({ clock }),
    algorithms,
    clock,
    random: systemRandom,
    log: createLog({ level: 'silent', name: 'link' }),
    maxLifetimeMs: 86_400_000,
  });
  const asked: string[] = [];
  const publish: Answer = (_, response) => response.end(JSON.stringify(keys.jwks()));
  const link = { answer: publish };
  const server = createServer(tls, (request, response) => {
    asked.push(request.url ?? '');
    link.answer(request, response);
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const close = (): Promise<void> =>
    new Promise(resolve => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  t.teardown(async () => {
    await close();
    await keys.close();
  });
  const issuer = `https://localhost:${port}`;
  const tokens = createAccessTokens({ keys, issuer, clock, random: systemRandom });
  const verifier = (options: Partial<VerifierOptions> = {}) =>
    createTokenVerifier({ issuer, audience, rootCertificates: ca, clock, ...options });
  const sign = async (more: Partial<NewToken> = {}): Promise<string> =>
    (await tokens.sign({ ...wanted, ...more })).token;
  return { clock, keys, asked, publish, link, close, issuer, verifier, sign };
}

const partOf = (token: string, index: number): Record<string, unknown> =>
  JSON.parse(Buffer.from(token.split('.')[index] ?? '', 'base64url').toString()) as Record<string, unknown>;

for (const algorithm of ['ES256', 'RS256'] as const) {
  void t.test(`a token is verified with the public keys alone (${algorithm})`, async t => {
    const { keys, clock, asked, issuer, verifier, sign } = await startIssuer(t, {
      defaultAlgorithm: algorithm,
      byAudience: {},
    });
    const mine = verifier();
    const token = await sign();
    const claims = await mine.verify(token);
    t.match(claims, { issuer, subject: wanted.subject, audience, tenant: 'default', roles: ['writer'] });
    t.equal(claims.scope, 'logs:write');
    const jwk: JsonWebKey = { ...keys.jwks().keys[0] };
    const { key } = await keys.signingKey(audience);
    const publicKey = createPublicKey({ key: jwk, format: 'jwk' });
    const victim = {
      header: partOf(token, 0),
      payload: partOf(token, 1),
      key,
      publicKey,
      nowMs: clock.now(),
    };
    for (const [title, bad] of forgedTokens(victim)) {
      const verifying = mine.verify(bad).then(
        () => 'taken',
        (error: unknown) => (error as Error).message,
      );
      // A kid that is unknown waits until the issuer may be asked.
      clock.advance(coolDownMs);
      clock.step(-coolDownMs);
      const said = await verifying;
      if (said !== notValid.message) t.fail(`${title}: ${said}`);
    }
    t.ok(asked.length < 10, `${asked.length} requests for all of them`);
    t.same(new Set(asked), new Set(['/.well-known/jwks.json']), 'and only to where the keys are');
    await t.rejects(mine.verify(await sign({ audience: 'another' })), notValid);
    const other = algorithm === 'ES256' ? 'RS256' : 'ES256';
    await t.rejects(verifier({ algorithms: [other] }).verify(token), notValid, 'when it is not on the list');
    clock.step(900_000 + 30_000);
    await t.rejects(mine.verify(token), { code: 'TOKEN_REFUSED', message: 'the token has expired' });
  });
}

void t.test(
  'keys are fetched once, and again for a new kid, and made-up kids do not become requests',
  async t => {
    const { keys, clock, asked, verifier, sign } = await startIssuer(t);
    const { verify } = verifier();
    const first = await sign();
    await Promise.all(Array.from({ length: 50 }, () => verify(first)));
    t.equal(asked.length, 1, 'fifty at once wait for one request');
    // The second of the two was published after the keys were fetched.
    for (let count = 0; count < 2; count++) await keys.rotate({ now: true });
    const second = await sign();
    const soon = Promise.all([verify(second), verify(second)]);
    clock.advance(coolDownMs - 1);
    await verify(first);
    t.equal(asked.length, 1, 'within the cool-down nobody asks');
    clock.advance(1);
    await soon;
    t.equal(asked.length, 2, 'and who waited is let in by one request');
    await verify(first);
    t.equal(asked.length, 2, 'the overlap costs nothing');
    const { key } = await keys.signingKey(audience);
    const madeUp = (count: number): string =>
      forge({ ...partOf(first, 0), kid: `made-up-${count}` }, partOf(first, 1), key);
    const tries = Array.from({ length: maxWaiting + 1 }, (_, count) => verify(madeUp(count)));
    await t.rejects(Promise.race(tries), unreachable, 'not more wait than there is room for');
    clock.advance(coolDownMs);
    const said = await Promise.allSettled(tries);
    const codes = said.map(each => (each.status === 'rejected' ? (each.reason as RollcallError).code : ''));
    t.equal(codes.filter(code => code === 'TOKEN_REFUSED').length, maxWaiting);
    t.equal(asked.length, 3);
  },
);

void t.test(
  'a token signed right after a rotation is accepted by verifiers with the earlier keys',
  async t => {
    const { keys, asked, clock, issuer, verifier, sign } = await startIssuer(t);
    const mine = verifier();
    // As jose keeps a set of keys: it would ask again for an unknown one only when its last request is 30 s old.
    let fetched = 0;
    const theirs = createRemoteJWKSet(new URL(`${issuer}/.well-known/jwks.json`), {
      [customFetch]: () => {
        fetched += 1;
        return Promise.resolve(Response.json(keys.jwks()));
      },
    });
    const joseVerify = async (token: string): Promise<string | undefined> => {
      const expected = { issuer, audience, typ: 'at+jwt', currentDate: new Date(clock.now()) };
      return (await jwtVerify(token, theirs, expected)).protectedHeader.kid;
    };
    const first = await joseVerify(await sign());
    await mine.verify(await sign());
    clock.advance(3_600_000);
    await mine.verify(await sign());
    const before = asked.length;
    await keys.rotate();
    const fresh = await sign();
    t.not(await joseVerify(fresh), first, 'jose');
    await mine.verify(fresh);
    t.same([fetched, asked.length], [1, before], 'and nobody asks for keys');
  },
);

void t.test('a key that was withdrawn is forgotten', async t => {
  const { keys, clock, verifier, sign } = await startIssuer(t);
  const { verify } = verifier();
  const token = await sign();
  await verify(token);
  await keys.rotate({ dropOld: true });
  clock.advance(freshMs - 1);
  await verify(token);
  clock.advance(1);
  await t.rejects(verify(token), notValid);
});

void t.test('the fetched keys remain valid while the link is away', async t => {
  const { clock, keys, link, asked, publish, close, verifier, sign } = await startIssuer(t);
  const { verify } = verifier();
  const token = await sign({ lifetimeMs: 86_400_000 });
  await verify(token);
  link.answer = (_, response) => response.writeHead(503).end();
  clock.advance(freshMs);
  await verify(token);
  t.equal(asked.length, 2);
  for (let count = 0; count < 2; count++) await keys.rotate({ now: true });
  await t.rejects(verify(await sign()), unreachable, 'nobody can say that a key is unknown');
  clock.advance(coolDownMs);
  await t.rejects(verify(await sign()), unreachable, 'nor once the link was asked again');
  link.answer = () => undefined;
  clock.advance(coolDownMs);
  await verify(token);
  t.pass('and nobody waits for a link that hangs after it was away');
  clock.advance(10_000);
  link.answer = publish;
  await close();
  await verify(token);
  const late = verifier();
  await t.rejects(late.verify(token), unreachable, 'who never had a key cannot say anything');
  await t.rejects(late.verify('nonsense'), notValid, 'except of what is no token');
});

void t.test('an answer that is not a key set is refused', async t => {
  const { keys, clock, link, asked, publish, verifier, sign } = await startIssuer(t);
  const token = await sign();
  const [jwk] = keys.jwks().keys;
  if (!jwk) throw new Error('there is a key');
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 1024 });
  const small = { ...privateKey.export({ format: 'jwk' }), kid: 'small', alg: 'RS256' };
  const json =
    (body: unknown): Answer =>
    (_, response) =>
      response.end(JSON.stringify(body));
  const answers: [string, Answer][] = [
    ['status 500', (_, response) => response.writeHead(500).end(JSON.stringify(keys.jwks()))],
    ['status 204', (_, response) => response.writeHead(204).end()],
    ['nothing', (_, response) => response.end()],
    ['HTML', (_, response) => response.end('<html>')],
    ['half of it', (_, response) => response.end(JSON.stringify(keys.jwks()).slice(0, -10))],
    [
      'a connection that ends',
      (_, response) => response.writeHead(200, { 'content-length': 1000 }).write('{') && response.destroy(),
    ],
    ['a member twice', (_, response) => response.end(`{"keys":[],${JSON.stringify(keys.jwks()).slice(1)}`)],
    [
      'more than it can be',
      (_, response) => response.end(JSON.stringify({ ...keys.jwks(), more: 'x'.repeat(300_000) })),
    ],
    ['a list', json([jwk])],
    ['keys that are no list', json({ keys: { 0: jwk, length: 1 } })],
    ['two keys with one kid', json({ keys: [jwk, jwk] })],
    ['a damaged key', json({ keys: [{ ...jwk, x: 'AAAA' }] })],
    ['a key that is not for its algorithm', json({ keys: [{ ...jwk, alg: 'RS256' }] })],
    ['a weak key beside it', json({ keys: [jwk, small] })],
    ...[301, 302, 303, 307, 308].map((status): [string, Answer] => [
      `status ${status} to elsewhere`,
      (_, response) => response.writeHead(status, { location: '/other/jwks.json' }).end(),
    ]),
  ];
  for (const [title, answer] of answers) {
    link.answer = answer;
    await t.rejects(verifier().verify(token), unreachable, title);
  }
  t.same(new Set(asked), new Set(['/.well-known/jwks.json']), 'redirects are not followed');
  for (const keysOfOthers of [
    [{ ...jwk, use: 'enc' }],
    [{ kty: 'oct', k: 'A'.repeat(43), kid: jwk.kid, alg: 'HS256' }],
    [7],
    [],
  ]) {
    link.answer = json({ keys: keysOfOthers });
    await t.rejects(verifier().verify(token), notValid, 'keys for something else are passed over');
  }
  link.answer = () => clock.advance(5_000);
  await t.rejects(verifier().verify(token), unreachable, 'no answer within the time');
  link.answer = (_, response) => {
    response.write('{"keys":[');
    response.on('close', () => t.pass('and the connection is closed'));
    setImmediate(() => clock.advance(5_000));
  };
  await t.rejects(verifier().verify(token), unreachable, 'nor an answer that does not end');
  link.answer = publish;
  const stranger = makeDevelopmentCertificates({ hosts: [], days: 1, now: Date.now(), random: systemRandom });
  const before = asked.length;
  await t.rejects(
    verifier({ rootCertificates: stranger.ca.certificate }).verify(token),
    unreachable,
    'another root',
  );
  t.equal(asked.length, before);
  await verifier().verify(token);
});

void t.test('HS256 is verified with the shared secret, and both during a rotation', async t => {
  const { keys, asked, issuer, clock, sign } = await startIssuer(t, {
    defaultAlgorithm: 'ES256',
    byAudience: { [audience]: 'HS256' },
  });
  const old = await sign();
  const before = await keys.secretOf(audience);
  await keys.rotate({ audience, now: true });
  const recent = await sign();
  const both = await keys.secretOf(audience);
  const secret = both[0]?.secret ?? '';
  const verifier = (secrets: VerifierOptions['secrets'] & {}) =>
    createTokenVerifier({ issuer, audience, secrets, clock });
  await verifier(both).verify(old);
  await verifier(both).verify(recent);
  await verifier(both.map(each => ({ secret: each.secret }))).verify(old);
  await verifier(secret).verify(recent);
  await t.rejects(verifier(secret).verify(old), notValid);
  await verifier(before).verify(recent);
  await t.rejects(verifier(before.slice(0, 1)).verify(recent), notValid);
  await t.rejects(
    verifier([{ kid: 'other', secret }]).verify(recent),
    notValid,
    'a secret is only for its kid',
  );
  const victim = { header: partOf(recent, 0), payload: partOf(recent, 1), nowMs: clock.now() };
  const mine = verifier([{ kid: both[0]?.kid, secret }]);
  const key = Buffer.from(secret, 'base64url');
  t.ok(await mine.verify(forge(victim.header, victim.payload, key)));
  for (const [title, bad] of forgedTokens({ ...victim, key }))
    await mine.verify(bad).then(
      () => t.fail(`taken: ${title}`),
      (error: unknown) => (error as Error).message === notValid.message || t.fail(title),
    );
  t.equal(asked.length, 0, 'nobody is asked');
});

void t.test('unsafe options of a verifier are refused', t => {
  const issuer = 'https://link.example.org';
  const secret = randomBytes(32).toString('base64url');
  const refused: [string, Record<string, unknown>][] = [
    ['http', { issuer: 'http://link.example.org' }],
    ['a file', { issuer: 'file:///etc/passwd' }],
    ['no address', { issuer: 'link.example.org' }],
    ['nothing', { issuer: '' }],
    ['a password in it', { issuer: 'https://user:pass@link.example.org' }],
    ['a query', { issuer: 'https://link.example.org/?x=1' }],
    ['no audience', { audience: '' }],
    ['no algorithm', { algorithms: [] }],
    ['none', { algorithms: ['none'] }],
    ['HS256 without a secret', { algorithms: ['ES256', 'HS256'] }],
    ['a secret for public keys', { algorithms: ['ES256'], secrets: secret }],
    ['no secret in the list', { secrets: [] }],
    ['an empty secret', { secrets: '' }],
    ['a short secret', { secrets: randomBytes(31).toString('base64url') }],
    ['a secret that is no base64url', { secrets: [{ secret: `${secret}==` }] }],
  ];
  for (const [title, options] of refused) {
    const make = () => createTokenVerifier({ issuer, audience, ...options });
    t.throws(make, { code: 'CONFIG_INVALID' }, title);
  }
  t.ok(createTokenVerifier({ issuer: 'https://link.example.org:9093/', audience }));
  t.end();
});

interface Reply {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

function ask(port: number, authorization?: string, options: RequestOptions = {}): Promise<Reply> {
  const headers = authorization === undefined ? {} : { authorization };
  return new Promise((resolve, reject) => {
    const sent = httpsRequest(
      { host: 'localhost', port, ca, agent: false, headers, ...options },
      response => {
        let body = '';
        response.setEncoding('utf8').on('data', (part: string) => (body += part));
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body }),
        );
      },
    );
    sent.on('error', reject).end();
  });
}

/** The answers of every HTTP guard; the handler behind it returns the subject. */
async function expectGuarded(
  t: Test,
  port: number,
  { sign, clock }: Awaited<ReturnType<typeof startIssuer>>,
) {
  const token = await sign();
  t.match(await ask(port, `Bearer ${token}`), { status: 200, body: wanted.subject });
  t.match(await ask(port, `bearer ${token}`), { status: 200 }, 'the scheme has no case');
  for (const missing of [
    undefined,
    '',
    'Bearer',
    'Bearer ',
    `Basic ${token}`,
    token,
    `Bearer ${token} ${token}`,
  ]) {
    const { status, headers, body } = await ask(port, missing);
    t.same([status, headers['www-authenticate']], [401, 'Bearer'], String(missing).slice(0, 10));
    t.match(headers['content-type'], /^application\/problem\+json/);
    t.match(JSON.parse(body), { status: 401, code: 'TOKEN_REFUSED', title: 'a token is missing' });
  }
  const wrong = await ask(port, `Bearer ${await sign({ audience: 'another' })}`);
  t.equal(wrong.status, 401);
  t.match(JSON.parse(wrong.body), { code: 'TOKEN_REFUSED', title: 'the token is not valid here' });
  t.equal(
    wrong.headers['www-authenticate'],
    'Bearer error="invalid_token", error_description="the token is not valid here"',
  );
  t.notOk(/aud|another|stack|Error/.test(wrong.body), 'which check failed is not said');
  clock.step(1_000_000);
  const late = await ask(port, `Bearer ${token}`);
  t.match(late.headers['www-authenticate'], /the token has expired/);
  t.equal(late.headers['cache-control'], 'no-store');
}

void t.test('one line guards a fastify program', async t => {
  const issuer = await startIssuer(t);
  const app = fastify({ https: tls });
  t.teardown(() => app.close());
  let calls = 0;
  app.addHook('onRequest', issuer.verifier().fastify());
  app.get('/', request => {
    calls += 1;
    return Promise.resolve((request as typeof request & WithPrincipal).principal.subject);
  });
  await app.listen({ port: 0, host: '127.0.0.1' });
  await expectGuarded(t, (app.server.address() as AddressInfo).port, issuer);
  t.equal(calls, 2, 'the handler never hears of what was refused');
});

void t.test('a public route accepts a request without a token, and refuses an invalid token', async t => {
  const issuer = await startIssuer(t);
  const { verifier, sign } = issuer;
  const app = fastify({ https: tls });
  t.teardown(() => app.close());
  const optional = { onRequest: verifier().fastify({ optional: true }) };
  const whoAsks = (request: object): string | undefined =>
    (request as WithOptionalPrincipal).principal?.subject;
  app.get('/', optional, request => Promise.resolve(whoAsks(request) ?? 'nobody'));
  const writers = verifier().fastify({ require: caller => requirePermission(caller, 'logs:write') });
  app.get('/write', { onRequest: writers }, () => Promise.resolve('written'));
  app.get('/own', optional, request => {
    requireOwner((request as WithOptionalPrincipal).principal, wanted.subject);
    return Promise.resolve('own');
  });
  await app.listen({ port: 0, host: '127.0.0.1' });
  const { port } = app.server.address() as AddressInfo;
  const get = (path: string, token?: string): Promise<Reply> =>
    ask(port, token === undefined ? undefined : `Bearer ${token}`, { path });

  t.match(await get('/'), { status: 200, body: 'nobody' });
  t.match(await get('/', await sign()), { status: 200, body: wanted.subject });
  t.match(await get('/', await sign({ audience: 'another' })), { status: 401, body: /not valid here/ });
  for (const header of ['', 'Bearer', 'Basic eDp5'])
    t.match(await ask(port, header), { status: 401 }, header);

  t.match(await get('/write', await sign()), { status: 200, body: 'written' });
  const refused = await get('/write', await sign({ scope: 'logs:read logs:write:all' }));
  t.match(refused, { status: 403, body: /not allowed: this needs logs:write"/ });
  t.equal(
    refused.headers['www-authenticate'],
    'Bearer error="insufficient_scope", error_description="not allowed: this needs logs:write"',
  );
  t.match(await get('/write', await sign({ scope: undefined })), { status: 403 }, 'no scope allows nothing');
  t.match(await get('/write'), { status: 401 });
  t.match(await get('/own', await sign()), { status: 200, body: 'own' });
  t.match(await get('/own', await sign({ subject: 'user:another' })), { status: 403 }, 'thrown in a handler');
  t.match(await get('/own'), { status: 401 });
});

void t.test('a caller is required by permission, by role, and by owner', async t => {
  const { verifier, sign } = await startIssuer(t);
  const caller = await verifier().verify(await sign({ roles: ['writer', 'auditor'] }));
  const notAllowed = { code: 'NOT_ALLOWED', statusCode: 403 };
  t.equal(requirePermission(caller, 'logs:write'), caller);
  t.throws(() => requirePermission(caller, 'logs'), notAllowed, 'a part of one is another');
  t.throws(() => requirePermission({ ...caller, scope: undefined }, ''), notAllowed);
  t.equal(requireRole(caller, 'auditor'), caller);
  t.throws(() => requireRole(caller, 'admin'), { ...notAllowed, message: /needs the role admin/ });
  t.equal(requireOwner(caller, caller.subject), caller);
  t.equal(requireOwner(caller, 'user:another', 'logs:write'), caller, 'or by the permission over all');
  t.throws(() => requireOwner(caller, 'user:another', 'logs:erase'), notAllowed);
  t.throws(() => requireOwner(caller, 'user:another'), notAllowed);
  const missing = { code: 'TOKEN_REFUSED', statusCode: 401, message: 'a token is missing' };
  t.throws(() => requirePermission(undefined, 'logs:write'), missing);
  t.throws(() => requireRole(undefined, 'writer'), missing);
  t.throws(() => requireOwner(undefined, 'user:another'), missing);
});

void t.test('one line guards an express program, and any program with the same interface', async t => {
  const issuer = await startIssuer(t);
  const guard = issuer.verifier().express();
  const app = createServer(tls, (request, response) =>
    guard(request, response, () =>
      response.end((request as IncomingMessage & WithPrincipal).principal.subject),
    ),
  );
  await new Promise<void>(resolve => app.listen(0, '127.0.0.1', resolve));
  t.teardown(() => app.close());
  const { port } = app.address() as AddressInfo;
  await expectGuarded(t, port, issuer);
  await issuer.close();
  const away = issuer.verifier().express();
  const second = createServer(tls, (request, response) => away(request, response, () => response.end('in')));
  await new Promise<void>(resolve => second.listen(0, '127.0.0.1', resolve));
  t.teardown(() => second.close());
  const answer = await ask((second.address() as AddressInfo).port, `Bearer ${await issuer.sign()}`);
  t.equal(answer.status, 503, 'without keys nobody comes in');
  t.equal(answer.headers['retry-after'], '5');
  t.match(JSON.parse(answer.body), { code: 'LINK_UNREACHABLE' });
});

void t.test('a token that is bound to a certificate is refused without that certificate', async t => {
  const { verifier, sign } = await startIssuer(t);
  const holder = makeDevelopmentCertificates({
    hosts: [],
    days: 1,
    now: Date.now(),
    random: systemRandom,
  }).server;
  const other = makeDevelopmentCertificates({
    hosts: [],
    days: 1,
    now: Date.now(),
    random: systemRandom,
  }).server;
  const der = Buffer.from(holder.certificate.replaceAll(/-----[^-]+-----|\s/g, ''), 'base64');
  const token = await sign({ confirmation: createHash('sha256').update(der).digest('base64url') });
  const mine = verifier();
  t.ok(await mine.verify(token, der));
  await t.rejects(mine.verify(token), notValid);
  await t.rejects(mine.verify(token, Buffer.of()), notValid);
  const guard = mine.express();
  const app = createServer({ ...tls, requestCert: true, rejectUnauthorized: false }, (request, response) =>
    guard(request, response, () => response.end('in')),
  );
  await new Promise<void>(resolve => app.listen(0, '127.0.0.1', resolve));
  t.teardown(() => app.close());
  const { port } = app.address() as AddressInfo;
  const shown = ({ certificate: cert, key }: typeof holder) => ({ cert, key });
  t.equal((await ask(port, `Bearer ${token}`, shown(holder))).status, 200);
  t.equal((await ask(port, `Bearer ${token}`, shown(other))).status, 401);
  t.equal((await ask(port, `Bearer ${token}`)).status, 401);
  t.equal((await ask(port, `Bearer ${await sign()}`)).status, 200, 'one that is not bound needs none');
});

const bytes = (value: Buffer): Buffer => value;
const method = (path: string, streams = false) => ({
  path,
  requestStream: streams,
  responseStream: streams,
  requestSerialize: bytes,
  requestDeserialize: bytes,
  responseSerialize: bytes,
  responseDeserialize: bytes,
});

void t.test('one line guards a gRPC program', async t => {
  const { verifier, sign, clock, close } = await startIssuer(t);
  const mine = verifier();
  const seen: (TokenClaims | undefined)[] = [];
  const whoAmI: handleUnaryCall<Buffer, Buffer> = (call, answer) => {
    const claims = mine.claimsOf(call);
    seen.push(claims);
    answer(null, Buffer.from(claims?.subject ?? 'nobody'));
  };
  const publicPath = '/test.Log/Check';
  const optionalPath = '/test.Log/Read';
  const ownPath = '/test.Log/Erase';
  const erase: handleUnaryCall<Buffer, Buffer> = (call, answer) => {
    try {
      requireOwner(mine.claimsOf(call), 'user:another');
    } catch (error) {
      answer(toGrpcStatus(error));
    }
  };
  const start = async (guard = mine): Promise<Client> => {
    const options: GrpcGuardOptions = {
      public: [publicPath],
      optional: [optionalPath],
      require: (caller, path) => path === '/test.Log/Write' && requirePermission(caller, 'logs:write'),
    };
    const server = new Server({ interceptors: [guard.grpc(options)] });
    server.addService(
      {
        Write: method('/test.Log/Write'),
        Check: method(publicPath),
        Read: method(optionalPath),
        Erase: method(ownPath),
      },
      { Write: whoAmI, Check: whoAmI, Read: whoAmI, Erase: erase },
    );
    const identity = { private_key: Buffer.from(tls.key), cert_chain: Buffer.from(tls.cert) };
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync('127.0.0.1:0', ServerCredentials.createSsl(null, [identity]), (error, bound) => {
        if (error) reject(error);
        else resolve(bound);
      });
    });
    const client = new Client(`localhost:${port}`, credentials.createSsl(Buffer.from(ca)));
    t.teardown(() => {
      client.close();
      server.forceShutdown();
    });
    return client;
  };
  const call = (client: Client, path: string, metadata: Metadata): Promise<{ code: number; text: string }> =>
    new Promise(resolve => {
      client.makeUnaryRequest(
        path,
        bytes,
        bytes,
        Buffer.from('x'),
        metadata,
        (error: ServiceError | null, answer) =>
          resolve(error ? { code: error.code, text: error.details } : { code: 0, text: String(answer) }),
      );
    });
  const metadataOf = (...values: readonly string[]): Metadata => {
    const metadata = new Metadata();
    for (const value of values) metadata.add('authorization', value);
    return metadata;
  };
  const client = await start();
  const token = await sign();
  t.same(await call(client, '/test.Log/Write', metadataOf(`Bearer ${token}`)), {
    code: 0,
    text: wanted.subject,
  });
  t.equal(seen.length, 1);
  for (const values of [[], [''], ['Bearer'], [token], [`Bearer ${token} ${token}`]])
    t.same(await call(client, '/test.Log/Write', metadataOf(...values)), {
      code: 16,
      text: 'a token is missing',
    });
  const another = await sign({ audience: 'another' });
  const refused = { code: 16, text: 'the token is not valid here' };
  t.same(await call(client, '/test.Log/Write', metadataOf(`Bearer ${another}`)), refused);
  const probe = metadataOf();
  probe.set('user-agent', 'grpc_health_probe');
  probe.set('x-original-url', publicPath);
  t.equal((await call(client, '/test.Log/Write', probe)).code, 16, 'no other header opens the door');
  t.equal((await call(client, '/test.log/Check', probe)).code, 12);
  t.equal(seen.length, 1, 'the handler never hears of what was refused');
  t.same(await call(client, publicPath, metadataOf()), { code: 0, text: 'nobody' });
  t.same(await call(client, optionalPath, metadataOf()), { code: 0, text: 'nobody' });
  t.same(await call(client, optionalPath, metadataOf(`Bearer ${token}`)), { code: 0, text: wanted.subject });
  t.same(await call(client, optionalPath, metadataOf(`Bearer ${another}`)), refused);
  t.equal((await call(client, optionalPath, metadataOf(''))).code, 16, 'nor is an empty one nobody');
  const reader = metadataOf(`Bearer ${await sign({ scope: 'logs:read' })}`);
  const mayNot = { code: 7, text: 'not allowed: this needs logs:write' };
  t.same(await call(client, '/test.Log/Write', reader), mayNot);
  const foreign = { code: 7, text: 'not allowed: only the owner may do this' };
  t.same(await call(client, ownPath, reader), foreign, 'what a handler ends its call with');
  clock.step(1_000_000);
  const expired = { code: 16, text: 'the token has expired' };
  t.same(await call(client, '/test.Log/Write', metadataOf(`Bearer ${token}`)), expired);
  await close();
  const lost = await start(verifier());
  t.equal((await call(lost, '/test.Log/Write', metadataOf(`Bearer ${await sign()}`))).code, 14);
});
