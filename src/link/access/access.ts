/**
 * Operators, services and nodes with tokens: everything about who may ask, opened together. Doors ask `authenticate` who
 * somebody is, and hand token requests to `grantTokens`; the rest is what admins and users do with accounts.
 */
import type { Clock } from '../../base/clock.js';
import { isRollcallError, RollcallError } from '../../base/errors.js';
import { createLifecycle } from '../../base/lifecycle.js';
import type { Log } from '../../base/log.js';
import type { Random } from '../../base/random.js';
import { defaultTenant } from '../../protocol/limits.js';
import type { Audit, AuditEvent } from '../audit/audit.js';
import type { RefusalCounter } from '../audit/refusals.js';
import type { Store } from '../../store/store.js';
import { createAccessTokens } from './tokens/access-tokens.js';
import { createAccount, type Account } from './login/own-account.js';
import type { Alerts } from './alerts.js';
import { createApiTokens, type ApiTokens } from './tokens/api-tokens.js';
import { createAttempt } from './login/login-attempt.js';
import { createAuthenticate, type Authenticate } from './authenticate.js';
import { openCutoffs, type Cutoffs } from './tokens/cutoffs.js';
import { openDenied } from './tokens/deny-list.js';
import { createFamilies } from './tokens/refresh-families.js';
import { createGrants, type GrantTokens, type TokenRequest } from './login/grants.js';
import { createGuesses } from './login/login-throttle.js';
import { createFindParty, type FindNodeName } from './accounts/holders.js';
import { createIntrospect, type Introspect } from './tokens/introspection.js';
import { openKnownPlaces } from './login/known-places.js';
import { createPasswords, type PasswordCost, type Passwords } from './accounts/passwords.js';
import { actorFrom, actorOf, type Origin, type Principal } from './principal.js';
import { decide } from './records.js';
import { watchRights, type WatchRights } from './rights-changes.js';
import { createRevokedLists, type SignRevokedList } from './tokens/revoked-lists.js';
import { Roles } from './accounts/roles.js';
import { recognizeService } from './login/service-login.js';
import { Services, type Service } from './accounts/services.js';
import { createSessionTokens } from './tokens/session-tokens.js';
import { openSetup, type Setup } from './login/first-admin.js';
import { createSignIn } from './login/password-login.js';
import { createTenants, type Tenants } from './accounts/tenants.js';
import {
  openTokenKeys,
  type AudienceSecret,
  type RotateOptions,
  type Rotation,
  type TokenAlgorithms,
  type TokenKeys,
} from './tokens/keys.js';
import { maxApiTokenMs } from './tokens/lifetimes.js';
import { Users, type User } from './accounts/users.js';

export interface Access {
  readonly authenticate: Authenticate;
  /** Calls when `authenticate` may answer otherwise than before: to whom, its mark says. */
  readonly watchRights: WatchRights;
  readonly grantTokens: GrantTokens;
  /** Whether a token holds now, for somebody of the tenant. */
  readonly introspect: Introspect;
  readonly signRevokedList: SignRevokedList;
  /** The service that proves itself as at the token endpoint; LOGIN_REFUSED. */
  recognizeClient(request: TokenRequest): Promise<Service>;
  /** Judges the setup code, and counts a wrong one as a failed login; LOGIN_REFUSED. */
  checkSetupCode(code: string, origin: Origin): Promise<void>;
  /** Makes the first admin by the setup code. */
  setUp(code: string, name: string, password: string, origin: Origin): Promise<User>;
  /** RFC 7009: ends what the token stands for; what is no token of ours changes nothing. */
  revokeToken(token: string, origin: Origin): Promise<void>;
  /** For the few requests a node may make; they die with the node, or when nobody uses them. NODE_REVOKED. */
  issueNodeTokens(
    node: { readonly tenant: string; readonly id: bigint },
    principal: Principal,
  ): Promise<{ readonly accessToken: string; readonly refreshToken: string }>;
  /** New keys sign; the audit log tells who asked. */
  rotateKeys(options: RotateOptions, principal: Principal): Promise<Rotation>;
  /** What an audience with secrets verifies with; the audit log tells who read it. As `secretOf` in keys.ts. */
  readSecret(principal: Principal, audience: string): Promise<readonly AudienceSecret[]>;
  readonly account: Account;
  readonly users: Users;
  readonly passwords: Passwords;
  readonly services: Services;
  readonly roles: Roles;
  readonly tenants: Tenants;
  readonly apiTokens: ApiTokens;
  readonly cutoffs: Cutoffs;
  readonly keys: TokenKeys;
  readonly setup: Setup;
  readonly audience: string;
  readonly issuer: () => string;
  close(): Promise<void>;
}

export interface AccessOptions {
  /** The data folder. */
  readonly folder: string;
  readonly store: Store;
  readonly audit: Audit;
  readonly refusals: RefusalCounter;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly algorithms: TokenAlgorithms;
  /** `iss`; known once the control port is open. */
  readonly issuer: () => string;
  /** The link, as `aud`. */
  readonly audience: string;
  readonly alerts: Alerts;
  readonly findNodeName: FindNodeName;
  /** What a new hash of a password costs; defaults to currentCost. A test logs in often. */
  readonly passwordCost?: PasswordCost;
}

export async function openAccess(options: AccessOptions): Promise<Access> {
  const { folder, store, audit, refusals, alerts, clock, random, log, audience, issuer, findNodeName } =
    options;
  const lifecycle = createLifecycle();
  const keys = await lifecycle.open(
    () =>
      openTokenKeys({
        folder,
        store,
        audit,
        algorithms: options.algorithms,
        clock,
        random,
        log,
        maxLifetimeMs: maxApiTokenMs,
        ownAudience: audience,
      }),
    opened => opened.close(),
  );
  const denied = await lifecycle.open(
    () => openDenied({ store, clock, log }),
    opened => opened.close(),
  );
  const roles = new Roles({ store, audit });
  const users = new Users({ store, audit, clock, random, roles });
  const services = new Services({ store, audit, clock, random, roles });
  const findParty = createFindParty({ users, services, findNodeName });
  const cutoffs = await openCutoffs({ store, audit, clock });
  const tenants = createTenants({ store, audit, clock, cutoffs });
  const families = await lifecycle.open(
    () =>
      Promise.resolve(
        createFamilies({ store, audit, clock, random, log, findParty, secret: keys.refreshSecret }),
      ),
    opened => opened.close(),
  );
  const tokens = createAccessTokens({ keys, issuer, clock, random });
  const sessionTokens = createSessionTokens({ audit, families, tokens, roles, audience });
  const apiTokens = await lifecycle.open(
    () =>
      Promise.resolve(createApiTokens({ store, audit, clock, log, tokens, roles, users, cutoffs, audience })),
    opened => opened.close(),
  );
  const passwords = createPasswords(random, options.passwordCost);
  const setup = await openSetup({ folder, random, users, passwords });
  const known = await lifecycle.open(
    () => openKnownPlaces({ store, clock, log }),
    opened => opened.close(),
  );
  const attempt = createAttempt({ guesses: createGuesses({ clock, known }), refusals, alerts });
  const signIn = createSignIn({ store, audit, users, passwords, attempt, clock, cutoffs });
  const assertionAudiences = (): string[] => [issuer(), `${issuer()}/auth/token`];
  const recognition = { store, services, denied, cutoffs, attempt, clock, assertionAudiences };
  const shared = { users, roles, families, cutoffs, tokens, audience, findNodeName, findParty, alerts };

  async function revokeAccessToken(token: string, origin: Origin): Promise<void> {
    const { tenant, subject, session, tokenId, expiresAt } = await tokens.verify(token, audience);
    if (session !== undefined) {
      await families.end(tenant, session, origin);
      return;
    }
    await denied.deny({ id: tokenId, endsAt: expiresAt, tenant }, async reads => {
      const by = actorFrom(await findParty(tenant, subject, reads), origin);
      const apiToken = await apiTokens.find(tenant, tokenId, reads);
      if (apiToken) return apiTokens.planEnd(tenant, apiToken, by);
      return [audit.auditChange(tenant, { type: 'token.revoked', subject: tokenId, by })];
    });
  }

  const { authenticate, findPrincipal } = createAuthenticate({ ...shared, services, apiTokens, denied });

  return {
    authenticate,
    introspect: createIntrospect({ tokens, findPrincipal, audience }),
    signRevokedList: createRevokedLists({ keys, denied, users, services, cutoffs, clock, issuer, audience }),
    recognizeClient: ({ origin, ...credentials }) =>
      recognizeService(recognition, { ...credentials, address: origin.address }, ({ service }) =>
        Promise.resolve({ changes: [], result: service }),
      ),
    watchRights: listener => watchRights({ store, keys }, listener),
    grantTokens: createGrants({ ...shared, audit, refusals, clock, sessionTokens, signIn, recognition }),
    checkSetupCode: (code, { address }) => attempt({ address, account: undefined }, () => setup.check(code)),
    setUp: (code, name, password, origin) =>
      attempt({ address: origin.address, account: undefined }, () =>
        setup.complete(code, name, password, origin),
      ),
    async revokeToken(token, origin) {
      if (await families.endByToken(token, origin)) return;
      await revokeAccessToken(token, origin).catch((error: unknown) => {
        if (!isRollcallError(error, 'TOKEN_REFUSED')) throw error;
      });
    },
    async issueNodeTokens({ tenant, id }, principal) {
      const { signed, refreshToken } = await decide(store, async reads => {
        await principal.confirm(reads);
        if ((await findNodeName(tenant, `${id}`, reads)) === undefined)
          throw new RollcallError('NODE_REVOKED', 'this node was revoked');
        const { until } = await cutoffs.read(reads, tenant);
        const createdAt = Math.max(clock.now(), until);
        return sessionTokens.begin(
          { tenant, holder: `node:${id}`, roles: [], createdAt },
          { type: 'node.tokens-issued', subject: `${id}`, by: actorOf(principal) },
          reads,
        );
      });
      return { accessToken: signed.token, refreshToken };
    },
    rotateKeys: (wanted, principal) =>
      keys.rotate(wanted, { by: actorOf(principal), grounds: principal.confirm }),
    async readSecret(principal, secretAudience) {
      const secrets = await keys.secretOf(secretAudience);
      return decide(store, async reads => {
        await principal.confirm(reads);
        const detail = { keys: secrets.map(({ kid }) => kid).join(' ') };
        const event: AuditEvent = {
          type: 'keys.secret-read',
          subject: secretAudience,
          by: actorOf(principal),
          detail,
        };
        return { changes: [audit.auditChange(defaultTenant, event)], result: secrets };
      });
    },
    account: createAccount({ users, passwords, clock, random, attempt }),
    users,
    passwords,
    services,
    roles,
    tenants,
    apiTokens,
    cutoffs,
    keys,
    setup,
    audience,
    issuer,
    close: () => lifecycle.close(),
  };
}
