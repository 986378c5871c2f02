/**
 * The operator of tests and benchmarks: an admin without a hashed password, with an API token, and calls of the
 * control port. The real creation of a first admin is tested in test/process/access.test.ts.
 */
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import { Metadata, credentials } from '@grpc/grpc-js';
import { systemClock } from '../../src/base/clock.js';
import { createLog } from '../../src/base/log.js';
import { systemRandom } from '../../src/base/random.js';
import { trustServer } from '../../src/identity/server-trust.js';
import { openAccess, type Access } from '../../src/link/access/access.js';
import { permissionNames } from '../../src/link/access/permissions.js';
import type { Principal } from '../../src/link/access/principal.js';
import type { User } from '../../src/link/access/accounts/users.js';
import { createAudit } from '../../src/link/audit/audit.js';
import type { RefusalCounter } from '../../src/link/audit/refusals.js';
import { storeFolder } from '../../src/link/link.js';
import { openLevelStore } from '../../src/store/level.js';
import { prepareStore } from '../../src/store/schema.js';
import { ControlClient } from '../../src/protocol/generated/rollcall/v1/control.js';
import { defaultTenant } from '../../src/protocol/limits.js';
import { controlCalls, type ControlCalls } from './control-calls.js';
import { userParty } from './parties.js';

/** Of the links whose data folder is prepared here: their ports are not known yet. */
export const operatorIssuer = 'https://localhost';
/** To be given to such a link. */
export const operatorFlags = ['--issuer', operatorIssuer] as const;

const monthMs = 30 * 86_400_000;
/** Of no password at all. */
const nobodysHash = `scrypt$15$8$3$${'A'.repeat(22)}$${'A'.repeat(43)}`;

/** The token file of a data folder: beside the folder, as the link does not know it. */
export function operatorTokenFile(dataDir: string): string {
  return `${dataDir}.operator-token`;
}

/** Makes the operator of a link in a process of its own, before it starts; gives the token. Once is enough for a folder. */
export async function prepareOperator(dataDir: string): Promise<string> {
  const file = operatorTokenFile(dataDir);
  if (existsSync(file)) return readFile(file, 'utf8');
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  const store = await openLevelStore(storeFolder(dataDir));
  try {
    await prepareStore(store);
    const access = await openAccess({
      folder: dataDir,
      store,
      audit: createAudit({ clock: systemClock }),
      refusals: ignoredRefusals,
      clock: systemClock,
      random: systemRandom,
      log: createLog({ level: 'error', name: 'operator' }),
      algorithms: { defaultAlgorithm: 'ES256', byAudience: {} },
      audience: 'rollcall',
      issuer: () => operatorIssuer,
      alerts: { raise: () => undefined },
      findNodeName: () => Promise.resolve(undefined),
    });
    const token = await issueOperatorToken(access);
    await access.close();
    await writeFile(file, token, { mode: 0o600 });
    return token;
  } finally {
    await store.close();
  }
}

/** A counter that reports no refusals. */
export const ignoredRefusals: RefusalCounter = {
  count: () => undefined,
  countLogin: () => undefined,
  flush: () => Promise.resolve(),
  close: () => Promise.resolve(),
};

/** An API token of the operator, who is made when missing. */
export async function issueOperatorToken(access: Access): Promise<string> {
  const operator =
    (await access.users.findByName(defaultTenant, 'operator')) ??
    (await makeUser(access, 'operator', ['admin']));
  return issueToken(access, operator);
}

/** A user whom no password lets in. */
export function makeUser(
  access: Access,
  name: string,
  roles: readonly string[],
  tenant = defaultTenant,
): Promise<User> {
  const user = { name, roles, passwordHash: nobodysHash };
  return access.users.create(tenant, user, { type: 'user.created', by: userParty('test') });
}

/** An API token with all the roles of a user. */
export async function issueToken(access: Access, user: User, lifetimeMs = monthMs): Promise<string> {
  const wanted = { name: 'test', roles: user.roles, lifetimeMs };
  return (await access.apiTokens.issue(asLoggedIn(user), wanted)).token;
}

/** A user as after a login. */
export function asLoggedIn({ id, name, tenant, roles, validAfter }: User): Principal {
  const principal: Principal = {
    ...{ kind: 'user', id, name, tenant, roles, permissions: new Set(permissionNames) },
    ...{ tokenId: 'test', session: 'test', expiresAt: Infinity },
    ...{ beganAt: validAfter, countsFrom: validAfter, accountSince: 0 },
    origin: { address: '127.0.0.1', requestId: 'test', userAgent: '' },
    confirm: () => Promise.resolve(principal),
  };
  return principal;
}

/** `control` is host:port. */
export function connectOperator(control: string, token: string, ca: string): ControlCalls {
  const port = control.slice(control.lastIndexOf(':'));
  const context = createSecureContext(trustServer('localhost', ca));
  const client = new ControlClient(`localhost${port}`, credentials.createFromSecureContext(context));
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${token}`);
  return controlCalls(client, metadata);
}
