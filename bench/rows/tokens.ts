/** The cost of authentication: a token checked, a whole request authenticated, a password hashed. */
import { createLog } from '../../src/base/log.js';
import { systemClock } from '../../src/base/clock.js';
import { systemRandom } from '../../src/base/random.js';
import { openAccess, type Access } from '../../src/link/access/access.js';
import { createPasswords } from '../../src/link/access/accounts/passwords.js';
import { createAudit } from '../../src/link/audit/audit.js';
import { storeFolder } from '../../src/link/link.js';
import { openLevelStore } from '../../src/store/level.js';
import { prepareStore } from '../../src/store/schema.js';
import { createTokenVerifier } from '../../src/tokens/verifier.js';
import { issueOperatorToken, ignoredRefusals } from '../../test/harness/operator.js';
import type { Figure } from '../figures.js';
import type { Stage } from '../stage.js';
import { cpuMs, now } from '../usage.js';
import type { Row } from './row.js';
import { userParty } from '../../test/harness/parties.js';

export const tokensRow: Row = {
  name: 'tokens',
  about: 'tokens verified a second, requests authenticated a second, logins a second',
  run: measureTokens,
};

const issuer = 'https://bench.example';
const audience = 'rollcall';
const origin = { address: '127.0.0.1', requestId: 'bench', userAgent: '' };

async function measureTokens({ place }: Stage): Promise<Figure[]> {
  const folder = await place.subfolder('tokens');
  const store = await openLevelStore(storeFolder(folder));
  place.onClose(() => store.close());
  await prepareStore(store);
  const access = await openAccess({
    folder,
    store,
    audit: createAudit({ clock: systemClock }),
    refusals: ignoredRefusals,
    clock: systemClock,
    random: systemRandom,
    log: createLog({ level: 'error', name: 'bench' }),
    algorithms: { defaultAlgorithm: 'HS256', byAudience: { [audience]: 'ES256' } },
    audience,
    issuer: () => issuer,
    alerts: { raise: () => undefined },
    findNodeName: () => Promise.resolve(undefined),
  });
  const token = await issueOperatorToken(access);
  const authorization = `Bearer ${token}`;
  const rounds = place.isQuick ? 1 : 5;
  const times = place.isQuick ? 50 : 2_000;
  const authenticated = await repeat(rounds, times, () => access.authenticate({ authorization, origin }));
  const fresh = await tokensFor(access, rounds * (place.isQuick ? 10 : 200));
  const firstUse = await repeat(rounds, fresh.length / rounds, () =>
    access.authenticate({ authorization: `Bearer ${fresh.pop() ?? ''}`, origin }),
  );
  const { secrets, hsToken } = await tokenOfService(access);
  const verifier = createTokenVerifier({ issuer, audience: 'bench', secrets });
  const shared = await repeat(rounds, times, () => verifier.verify(hsToken));

  const passwords = createPasswords(systemRandom);
  const hash = await passwords.hash('correct horse battery staple');
  const logins = await repeat(rounds, place.isQuick ? 2 : 10, () =>
    passwords.matches('correct horse battery staple', hash, { party: 'bench', isKnown: true }),
  );
  await access.close();
  await store.close();
  return [
    {
      id: 'tokens.authenticate',
      title: 'requests authenticated a second (ES256, holder and roles looked up), one after the other',
      unit: '/s',
      ...authenticated,
      note: 'a token seen before: deny list, holder, session or API token, roles; in one process, no network',
    },
    {
      id: 'tokens.addedLatency',
      title: 'added to a gRPC call or REST request by its token',
      unit: 'ms',
      ...authenticated,
      samples: authenticated.samples.map(perSecond => 1000 / perSecond),
    },
    {
      id: 'tokens.addedLatency.first',
      title: 'added to the first call with a token',
      unit: 'ms',
      ...firstUse,
      samples: firstUse.samples.map(perSecond => 1000 / perSecond),
      note: 'its signature is verified once',
    },
    {
      id: 'tokens.verify.HS256',
      title: 'tokens verified a second by another program (HS256), one after the other',
      unit: '/s',
      ...shared,
    },
    {
      id: 'tokens.login',
      title: 'passwords checked a second (scrypt N=2^15 r=8 p=3), one after the other',
      unit: '/s',
      ...logins,
      note: 'on purpose; two run at once, and the rest of a flood waits or is refused for now',
    },
  ];
}

/** Of a service, for the link itself. */
async function tokensFor(access: Access, count: number): Promise<string[]> {
  const service = await access.services.create('default', 'many', { roles: ['viewer'] }, userParty('bench'));
  const { secret } = await access.services.addSecret('default', service.id, userParty('bench'));
  const parameters = { grant_type: 'client_credentials', client_id: service.id, client_secret: secret };
  const tokens: string[] = [];
  while (tokens.length < count) tokens.push((await access.grantTokens({ parameters, origin })).accessToken);
  return tokens;
}

async function tokenOfService(access: Access) {
  const { services, keys } = access;
  const service = await services.create('default', 'bench', { audiences: ['bench'] }, userParty('bench'));
  const { secret } = await services.addSecret('default', service.id, userParty('bench'));
  const { accessToken } = await access.grantTokens({
    parameters: { grant_type: 'client_credentials', client_id: service.id, client_secret: secret },
    origin,
  });
  return { secrets: await keys.secretOf('bench'), hsToken: accessToken };
}

/** So many rounds of so many, each as a rate, with CPU for each. */
async function repeat(
  rounds: number,
  times: number,
  work: () => Promise<unknown>,
): Promise<Pick<Figure, 'samples' | 'cpuMs'>> {
  const samples: number[] = [];
  const cpu: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const [startedAt, cpuBefore] = [now(), cpuMs(process.pid)];
    for (let done = 0; done < times; done += 1) await work();
    samples.push((times / (now() - startedAt)) * 1000);
    cpu.push((cpuMs(process.pid) - cpuBefore) / times);
  }
  return { samples, cpuMs: cpu };
}
