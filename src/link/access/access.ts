/**
 * Opens accounts, roles, tokens and logins of operators, services and nodes together. Doors authenticate requests with
 * `authenticate` and pass token requests to `grantTokens`; the other members serve admins and users who change accounts.
 */
import type { Clock } from '../../base/clock.js';
import { isRollcallError, RollcallError } from '../../base/errors.js';
import { createLifecycle, type Lifecycle } from '../../base/lifecycle.js';
import type { Log } from '../../base/log.js';
import type { Random } from '../../base/random.js';
import { defaultTenant } from '../../protocol/limits.js';
import type { Audit, AuditEvent } from '../audit/audit.js';
import type { RefusalCounter } from '../audit/refusals.js';
import type { Store } from '../../store/store.js';
import { createAccessTokens } from './tokens/access-tokens.js';
import { createAccount, type Account } from './login/own-account.js';
import type { Alerts } from './alerts.js';
import { ApiTokens } from './tokens/api-tokens.js';
import { createAttempt, type Attempt } from './login/login-attempt.js';
import { Authentication, type Authenticate, type FindPrincipal } from './authenticate.js';
import { openCutoffs, type Cutoffs } from './tokens/cutoffs.js';
import { openDenied } from './tokens/deny-list.js';
import { Families } from './tokens/refresh-families.js';
import { Grants, type GrantTokens, type TokenRequest } from './login/grants.js';
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
import { recognizeService, type Recognition } from './login/service-login.js';
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
  /** The cost of a new password hash; defaults to currentCost. A test logs in often. */
  readonly passwordCost?: PasswordCost;
}

/** Everything about accounts and tokens that the rest of access stands on. */
type Rooms = Awaited<ReturnType<typeof openRooms>>;

/** The access of a link; close() ends it. */
export async function openAccess(options: AccessOptions): Promise<Access> {
  const lifecycle = createLifecycle();
  return new Access(options, await openRooms(options, lifecycle), () => lifecycle.close());
}

async function openRooms(options: AccessOptions, lifecycle: Lifecycle) {
  const { folder, store, audit, clock, random, log, audience, issuer, findNodeName, algorithms } = options;
  const opened = <T extends { close(): void | Promise<void> }>(open: () => T | Promise<T>): Promise<T> =>
    lifecycle.open(
      async () => open(),
      room => room.close(),
    );
  const keys = await opened(() =>
    openTokenKeys({
      ...{ folder, store, audit, algorithms, clock, random, log },
      maxLifetimeMs: maxApiTokenMs,
      ownAudience: audience,
    }),
  );
  const denied = await opened(() => openDenied({ store, clock, log }));
  const roles = new Roles({ store, audit });
  const users = new Users({ store, audit, clock, random, roles });
  const services = new Services({ store, audit, clock, random, roles });
  const findParty = createFindParty({ users, services, findNodeName });
  const cutoffs = await openCutoffs({ store, audit, clock });
  const tenants = createTenants({ store, audit, clock, cutoffs });
  const secret = keys.refreshSecret;
  const families = await opened(() => new Families({ store, audit, clock, random, log, findParty, secret }));
  const tokens = createAccessTokens({ keys, issuer, clock, random });
  const sessionTokens = createSessionTokens({ audit, families, tokens, roles, audience });
  const apiTokens = await opened(
    () => new ApiTokens({ store, audit, clock, log, tokens, roles, users, cutoffs, audience }),
  );
  const passwords = createPasswords(random, options.passwordCost);
  const setup = await openSetup({ folder, random, users, passwords });
  const known = await opened(() => openKnownPlaces({ store, clock, log }));
  return {
    ...{ keys, denied, roles, users, services, findParty, cutoffs, tenants, families, tokens, sessionTokens },
    ...{ apiTokens, passwords, setup, known },
  };
}

export class Access {
  readonly authenticate: Authenticate;
  /** Calls when `authenticate` may answer otherwise than before: to whom, its mark says. */
  readonly watchRights: WatchRights;
  readonly grantTokens: GrantTokens;
  /** Whether a token holds now, for somebody of the tenant. */
  readonly introspect: Introspect;
  readonly signRevokedList: SignRevokedList;
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
  readonly close: () => Promise<void>;

  readonly #options: AccessOptions;
  readonly #rooms: Rooms;
  readonly #attempt: Attempt;
  readonly #recognition: Recognition;

  constructor(options: AccessOptions, rooms: Rooms, close: () => Promise<void>) {
    const { store, audit, refusals, alerts, clock, random, audience, issuer, findNodeName } = options;
    const { keys, denied, roles, users, services, cutoffs, tenants, apiTokens, passwords, setup } = rooms;
    const { families, tokens, sessionTokens, findParty, known } = rooms;
    this.#options = options;
    this.#rooms = rooms;
    const attempt = createAttempt({ guesses: createGuesses({ clock, known }), refusals, alerts });
    this.#attempt = attempt;
    const assertionAudiences = (): string[] => [issuer(), `${issuer()}/auth/token`];
    const recognition = { store, services, denied, cutoffs, attempt, clock, assertionAudiences };
    this.#recognition = recognition;
    const signIn = createSignIn({ store, audit, users, passwords, attempt, clock, cutoffs });
    const shared = { users, roles, families, cutoffs, tokens, audience, findNodeName, findParty, alerts };
    const grants = new Grants({ ...shared, audit, refusals, clock, sessionTokens, signIn, recognition });
    const authentication = new Authentication({ ...shared, services, apiTokens, denied });
    const findPrincipal: FindPrincipal = claims => authentication.findPrincipal(claims);
    this.authenticate = (credentials, isHeld) => authentication.authenticate(credentials, isHeld);
    this.watchRights = listener => watchRights({ store, keys }, listener);
    this.grantTokens = request => grants.grant(request);
    this.introspect = createIntrospect({ tokens, findPrincipal, audience });
    this.signRevokedList = createRevokedLists({
      ...{ keys, denied, users, services, cutoffs, clock, issuer, audience },
    });
    this.account = createAccount({ users, passwords, clock, random, attempt });
    this.users = users;
    this.passwords = passwords;
    this.services = services;
    this.roles = roles;
    this.tenants = tenants;
    this.apiTokens = apiTokens;
    this.cutoffs = cutoffs;
    this.keys = keys;
    this.setup = setup;
    this.audience = audience;
    this.issuer = issuer;
    this.close = close;
  }

  /** The service that proves itself as at the token endpoint; LOGIN_REFUSED. */
  recognizeClient({ origin, ...credentials }: TokenRequest): Promise<Service> {
    const request = { ...credentials, address: origin.address };
    return recognizeService(this.#recognition, request, ({ service }) =>
      Promise.resolve({ changes: [], result: service }),
    );
  }

  /** Judges the setup code, and counts a wrong one as a failed login; LOGIN_REFUSED. */
  checkSetupCode(code: string, { address }: Origin): Promise<void> {
    return this.#attempt({ address, account: undefined }, () => this.setup.check(code));
  }

  /** Creates the first admin by the setup code. */
  setUp(code: string, name: string, password: string, origin: Origin): Promise<User> {
    return this.#attempt({ address: origin.address, account: undefined }, () =>
      this.setup.complete(code, name, password, origin),
    );
  }

  /** RFC 7009: ends what the token stands for; any other text changes nothing. */
  async revokeToken(token: string, origin: Origin): Promise<void> {
    if (await this.#rooms.families.endByToken(token, origin)) return;
    await this.#revokeAccessToken(token, origin).catch((error: unknown) => {
      if (!isRollcallError(error, 'TOKEN_REFUSED')) throw error;
    });
  }

  /** For the few requests a node may make; they end with the node, or when nobody uses them. NODE_REVOKED. */
  async issueNodeTokens(
    { tenant, id }: { readonly tenant: string; readonly id: bigint },
    principal: Principal,
  ): Promise<{ readonly accessToken: string; readonly refreshToken: string }> {
    const { store, clock, findNodeName } = this.#options;
    const { cutoffs, sessionTokens } = this.#rooms;
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
  }

  /** New keys sign from now on; the audit log names the principal. */
  rotateKeys(wanted: RotateOptions, principal: Principal): Promise<Rotation> {
    return this.keys.rotate(wanted, { by: actorOf(principal), grounds: principal.confirm });
  }

  /** The secrets that an audience verifies tokens with; the audit log names the reader. As `secretOf` in keys.ts. */
  async readSecret(principal: Principal, audience: string): Promise<readonly AudienceSecret[]> {
    const { store, audit } = this.#options;
    const secrets = await this.keys.secretOf(audience);
    return decide(store, async reads => {
      await principal.confirm(reads);
      const detail = { keys: secrets.map(({ kid }) => kid).join(' ') };
      const event: AuditEvent = {
        type: 'keys.secret-read',
        subject: audience,
        by: actorOf(principal),
        detail,
      };
      return { changes: [audit.auditChange(defaultTenant, event)], result: secrets };
    });
  }

  async #revokeAccessToken(token: string, origin: Origin): Promise<void> {
    const { tokens, families, denied, apiTokens, findParty } = this.#rooms;
    const { tenant, subject, session, tokenId, expiresAt } = await tokens.verify(token, this.audience);
    if (session !== undefined) {
      await families.end(tenant, session, origin);
      return;
    }
    await denied.deny({ id: tokenId, endsAt: expiresAt, tenant }, async reads => {
      const by = actorFrom(await findParty(tenant, subject, reads), origin);
      const apiToken = await apiTokens.find(tenant, tokenId, reads);
      if (apiToken) return apiTokens.planEnd(tenant, apiToken, by);
      return [this.#options.audit.auditChange(tenant, { type: 'token.revoked', subject: tokenId, by })];
    });
  }
}
