/** Everything about who may ask, opened on a store that pauses, without ports: for tests of what is decided and committed. */
import type { Test } from 'tap';
import { linkParty } from '../../src/audit-log/party.js';
import { createLog } from '../../src/base/log.js';
import { systemRandom } from '../../src/base/random.js';
import { Administration } from '../../src/link/administration.js';
import { openAccess, type Access } from '../../src/link/access/access.js';
import type { TokenAnswer } from '../../src/link/access/login/grants.js';
import { createPasswords } from '../../src/link/access/accounts/passwords.js';
import type { Origin, Principal } from '../../src/link/access/principal.js';
import { createAudit } from '../../src/link/audit/audit.js';
import { routeRules, type RouteName } from '../../src/link/doors/access-table.js';
import { Doorkeeper } from '../../src/link/doors/doorkeeper.js';
import { createMemoryStore } from '../../src/store/memory.js';
import type { Store } from '../../src/store/store.js';
import { makeFolder } from './folder.js';
import { createManualClock, type ManualClock } from './manual-clock.js';
import { issueToken, makeUser } from './operator.js';
import { pausingStore, type PausingStore } from './stores.js';

export interface AccessRig {
  readonly access: Access;
  readonly administration: Administration;
  readonly pausing: PausingStore;
  readonly clock: ManualClock;
  /** An admin of the default tenant, by an API token. */
  readonly chief: Principal;
  /** A user with an API token of all of their roles, as authenticated for a request: by default GET /auth/me. */
  readonly person: (name: string, roles: readonly string[], route?: RouteName) => Promise<Principal>;
  /** A user who comes in by a password; the hash has the cost of older ones when asked for. */
  readonly withPassword: (
    name: string,
    roles: readonly string[],
    options?: { readonly isDated: boolean },
  ) => Promise<void>;
  readonly login: (name: string, more?: Readonly<Record<string, string>>) => Promise<TokenAnswer>;
  readonly grant: (parameters: Readonly<Record<string, string>>) => Promise<TokenAnswer>;
  readonly principalOf: (token: string, route?: RouteName) => Promise<Principal>;
  readonly putNode: (id: string) => Promise<void>;
  readonly revokeNode: (id: string) => Promise<void>;
  /** Another link on the same store and folder, as if the first had died. */
  readonly again: () => Promise<Access>;
}

/** The password of everybody made here. */
export const password = 'correct horse battery';
export const origin: Origin = { address: '192.0.2.1', requestId: '00aa', userAgent: 'test' };
/** So low that a hundred logins take no time. */
const cheap = { logN: 4, r: 8, p: 1 };
const nodeKey = (id: string): string => `t/default/node/${id}`;

export async function openAccessRig(
  t: Pick<Test, 'teardown'>,
  { store = createMemoryStore() }: { readonly store?: Store | undefined } = {},
): Promise<AccessRig> {
  const clock = createManualClock(1_700_000_000_000);
  const pausing = pausingStore(store);
  const ignore = (): void => undefined;
  const done = (): Promise<void> => Promise.resolve();
  const refusals = { count: ignore, countLogin: ignore, flush: done, close: done };
  const folder = await makeFolder(t);
  const open = async (): Promise<Access> => {
    const access = await openAccess({
      ...{ folder, store: pausing.store, clock, random: systemRandom, passwordCost: cheap },
      audit: createAudit({ clock }),
      refusals,
      log: createLog({ level: 'silent', name: 'link' }),
      algorithms: { defaultAlgorithm: 'ES256', byAudience: { studio: 'HS256' } },
      audience: 'rollcall',
      issuer: () => 'https://localhost',
      alerts: { raise: () => undefined },
      findNodeName: async (tenant, id, reads = store) =>
        (await reads.get(`t/${tenant}/node/${id}`)) ? `node-${id}` : undefined,
    });
    t.teardown(() => access.close());
    return access;
  };
  const access = await open();
  const { authenticate } = access;
  const doorkeeper = new Doorkeeper({ authenticate, refusals, clock, requireAuth: false });
  const principalOf: AccessRig['principalOf'] = async (token, route = 'GET /auth/me') => {
    const principal = await doorkeeper.admit(routeRules[route], { authorization: `Bearer ${token}`, origin });
    if (principal) return principal;
    throw new Error(`${route} does not ask who somebody is`);
  };
  const grant = (parameters: Readonly<Record<string, string>>): Promise<TokenAnswer> =>
    access.grantTokens({ parameters, origin });
  const person: AccessRig['person'] = async (name, roles, route) =>
    principalOf(await issueToken(access, await makeUser(access, name, roles)), route);
  return {
    ...{ access, pausing, clock, person, grant, principalOf },
    administration: new Administration(access, () => Promise.resolve(0)),
    chief: await person('chief', ['admin']),
    async withPassword(name, roles, { isDated } = { isDated: false }) {
      const passwords = createPasswords(systemRandom, isDated ? { ...cheap, p: 2 } : cheap);
      const user = { name, roles, passwordHash: await passwords.hash(password) };
      await access.users.create('default', user, { type: 'user.created', by: linkParty });
    },
    login: (username, more = {}) =>
      grant({ grant_type: 'password', client_id: 'rollcall-cli', username, password, ...more }),
    putNode: id => store.commit([{ type: 'put', key: nodeKey(id), value: Buffer.from('node') }]),
    revokeNode: id => store.commit([{ type: 'delete', key: nodeKey(id) }]),
    again: open,
  };
}
