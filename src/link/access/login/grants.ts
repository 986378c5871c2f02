/**
 * The token endpoint (RFC 6749 §4, RFC 9700): what is asked for, who asks, and the tokens they get. Every issuance is in
 * the audit log before the token leaves. How requests and answers travel is the door's business.
 */
import type { Clock } from '../../../base/clock.js';
import { isRollcallError } from '../../../base/errors.js';
import { defaultTenant } from '../../../protocol/limits.js';
import type { Audit, AuditEvent } from '../../audit/audit.js';
import type { Known, RefusalCounter } from '../../audit/refusals.js';
import type { Reads } from '../../../store/store.js';
import type { AccessTokens, SignedToken } from '../tokens/access-tokens.js';
import type { Alerts } from '../alerts.js';
import type { Cutoffs } from '../tokens/cutoffs.js';
import { refreshRefused, type Families } from '../tokens/refresh-families.js';
import type { Family } from '../tokens/refresh-family.js';
import type { FindNodeName } from '../accounts/holders.js';
import { actorFrom, type Origin } from '../principal.js';
import { recognizeService, type Recognition, type ServiceCredentials } from './service-login.js';
import type { Service } from '../accounts/services.js';
import type { SessionTokens } from '../tokens/session-tokens.js';
import type { SignIn } from './password-login.js';
import { grantErrorOf, grantRefused } from './grant-errors.js';
import type { FindParty } from '../accounts/holders.js';
import type { Roles } from '../accounts/roles.js';
import { scopeOfToken } from '../tokens/scope.js';
import type { User, Users } from '../accounts/users.js';

/** Of the form or JSON body, each once. */
export type TokenParameters = Readonly<Record<string, string | undefined>>;

export interface TokenRequest {
  readonly parameters: TokenParameters;
  /** `Basic …`, as it came. */
  readonly authorization?: string | undefined;
  /** DER of the certificate the connection came with. */
  readonly certificate?: Uint8Array | undefined;
  readonly origin: Origin;
}

export interface TokenAnswer {
  readonly accessToken: string;
  readonly expiresInSeconds: number;
  readonly refreshToken?: string | undefined;
  readonly scope?: string | undefined;
  /** The user who has just logged in. */
  readonly user?: Pick<User, 'id' | 'name' | 'tenant' | 'roles'> | undefined;
}

export type GrantTokens = (request: TokenRequest) => Promise<TokenAnswer>;

/** The programs a login may name: passwords are not for those of others. A login that names none is a person's own request. */
const ownPrograms: readonly string[] = ['rollcall-cli', 'rollcall-dashboard'];

const grantTypes = 'password, refresh_token, client_credentials';

export interface GrantOptions {
  readonly audit: Audit;
  readonly clock: Clock;
  readonly users: Users;
  readonly roles: Pick<Roles, 'permissionsOf'>;
  readonly families: Families;
  readonly cutoffs: Pick<Cutoffs, 'read'>;
  readonly tokens: AccessTokens;
  readonly sessionTokens: SessionTokens;
  readonly signIn: SignIn;
  readonly recognition: Recognition;
  readonly alerts: Alerts;
  readonly refusals: Pick<RefusalCounter, 'count'>;
  readonly findParty: FindParty;
  readonly findNodeName: FindNodeName;
  /** The link, as `aud`. */
  readonly audience: string;
}

export class Grants {
  readonly #options: GrantOptions;

  constructor(options: GrantOptions) {
    this.#options = options;
  }

  grant(request: TokenRequest): Promise<TokenAnswer> {
    const { grant_type: named, username } = request.parameters;
    // A name and a password can mean one thing only.
    const type = named ?? (username === undefined ? '' : 'password');
    switch (type) {
      case 'password':
        return this.#password(request);
      case 'refresh_token':
        return this.#refresh(request);
      case 'client_credentials':
        return this.#service(request);
      case '':
        return Promise.reject(grantRefused('invalid_request', 'grant_type is needed'));
      default:
        return Promise.reject(grantRefused('unsupported_grant_type', `one of ${grantTypes} is wanted`));
    }
  }

  async #password({ parameters, origin }: TokenRequest): Promise<TokenAnswer> {
    const { client_id: program, tenant = defaultTenant, username, password: word, scope } = parameters;
    if (program !== undefined && !ownPrograms.includes(program)) {
      throw grantRefused(
        'unauthorized_client',
        'passwords are for the command and the dashboard of Rollcall',
        {
          hint: 'a program wants a service (rollcall services create) or an API token (rollcall tokens create)',
        },
      );
    }
    if (username === undefined || word === undefined)
      throw grantRefused('invalid_request', 'username and password are needed');
    requireScope(scope);
    const { signed, refreshToken, user } = await this.#options.signIn(
      { tenant, name: username, password: word, code: parameters['otp_code'] },
      origin,
      async ({ id: holder, tenant: home, name, roles, validAfter }, reads) => {
        const detail = { userAgent: origin.userAgent };
        // A login in the very millisecond in which those before it ended.
        const { until } = await this.#options.cutoffs.read(reads, home);
        const createdAt = Math.max(this.#options.clock.now(), validAfter, until);
        const { changes, result } = await this.#countRefused(origin, { tenant: home, holder }, () =>
          this.#options.sessionTokens.begin(
            { tenant: home, holder, client: program, roles, scope, createdAt },
            {
              type: 'login',
              subject: holder,
              by: actorFrom({ kind: 'user', id: holder, name }, origin),
              detail,
            },
            reads,
          ),
        );
        return { changes, result: { ...result, user: { id: holder, name, tenant: home, roles } } };
      },
    );
    return { ...this.#answer(signed, refreshToken), user };
  }

  async #refresh({ parameters, origin }: TokenRequest): Promise<TokenAnswer> {
    const { refresh_token: presented, scope } = parameters;
    if (presented === undefined) throw grantRefused('invalid_request', 'refresh_token is needed');
    requireScope(scope);
    const refreshed = await this.#options.families.refresh(presented, origin, async (family, reads) => {
      const asked = await this.#countRefused(origin, family, () => narrow(family.scope, scope));
      const roles = await this.#findRoles(family, reads);
      if (!roles) throw refreshRefused();
      return this.#countRefused(origin, family, () =>
        this.#options.sessionTokens.sign(family, { roles, asked }, reads),
      );
    });
    if (refreshed.outcome === 'reused') {
      const { holder: subject, id } = refreshed.family;
      this.#options.alerts.raise('security.refresh-reused', {
        subject,
        session: id,
        address: origin.address,
      });
    }
    if (refreshed.outcome === 'reused' || refreshed.outcome === 'unknown') throw refreshRefused();
    return this.#answer(refreshed.used, refreshed.token);
  }

  /** Of a holder who is still there, enabled, and was not told to end the sessions since. */
  async #findRoles(family: Family, reads: Reads): Promise<readonly string[] | undefined> {
    const { tenant, holder, createdAt } = family;
    if ((await this.#options.cutoffs.read(reads, tenant)).covers(createdAt)) return undefined;
    if (holder.startsWith('node:')) {
      const name = await this.#options.findNodeName(tenant, holder.slice('node:'.length), reads);
      return name === undefined ? undefined : [];
    }
    const user = await this.#options.users.find(tenant, holder, reads);
    return user?.enabled && createdAt >= user.validAfter ? user.roles : undefined;
  }

  async #service(request: TokenRequest): Promise<TokenAnswer> {
    const { parameters, origin } = request;
    requireScope(parameters['scope']);
    const credentials: ServiceCredentials = { ...request, address: origin.address };
    return recognizeService(this.#options.recognition, credentials, async (recognized, reads) => {
      const { service: known, confirmation, by } = recognized;
      const { id, name, tenant, roles } = known;
      const wish = (): ReturnType<typeof readWish> => readWish(known, parameters, this.#options.audience);
      const { audience, scope } = await this.#countRefused(origin, { tenant, holder: id }, wish);
      const isLink = audience === this.#options.audience;
      const wished = isLink
        ? await this.#countRefused(origin, { tenant, holder: id }, () =>
            scopeOfToken(this.#options.roles, { tenant, roles, asked: scope }, reads),
          )
        : { scope };
      const { until } = await this.#options.cutoffs.read(reads, tenant);
      const countsFrom = Math.max(known.validAfter, until);
      const signed = await this.#options.tokens.sign({
        subject: id,
        audience,
        tenant,
        roles: isLink ? roles : [],
        ...wished,
        lifetimeMs: known.tokenLifetimeMs,
        issuedAt: notOlderThan(countsFrom, this.#options.clock.now()),
        confirmation,
      });
      const detail = { name, audience, scope: signed.scope ?? '', tokenId: signed.tokenId, method: by };
      const actor = actorFrom({ kind: 'service', id, name }, origin);
      const event: AuditEvent = { type: 'token.granted', subject: id, by: actor, detail };
      return {
        changes: [this.#options.audit.auditChange(tenant, event)],
        result: this.#answer(signed, undefined),
      };
    });
  }

  /** Audits under the name of a known account its request for more than it holds. */
  async #countRefused<T>(
    { address }: Origin,
    { tenant, holder }: { readonly tenant: string; readonly holder: string },
    wish: () => T | Promise<T>,
  ): Promise<T> {
    try {
      return await wish();
    } catch (error) {
      if (isRollcallError(error, 'REQUEST_INVALID')) {
        const who: Known = { tenant, ...(await this.#options.findParty(tenant, holder)) };
        this.#options.refusals.count(address, grantErrorOf(error), who);
      }
      throw error;
    }
  }

  #answer({ token, scope, issuedAt, expiresAt }: SignedToken, refreshToken: string | undefined): TokenAnswer {
    const expiresInSeconds = Math.floor((expiresAt - issuedAt) / 1000);
    return { accessToken: token, expiresInSeconds, refreshToken, scope };
  }
}

/** The audience and scope that a service asks for, within its settings. */
function readWish(service: Service, parameters: TokenParameters, own: string) {
  requireItself(service, parameters['sub']);
  const audience = audienceFor(service, parameters['audience'] ?? parameters['resource'], own);
  return { audience, scope: scopeFor(service, audience === own, parameters['scope']) };
}

/** A service acts for nobody else, whatever subject it asks for. */
function requireItself({ id, name }: Service, subject: string | undefined): void {
  if (subject === undefined || subject === id || subject.toLowerCase() === name.toLowerCase()) return;
  throw grantRefused('invalid_request', 'a service gets tokens for itself alone', {
    hint: 'leave sub out, or give the name or id of the service that asks',
  });
}

/** RFC 6749 §3.3, so that what no token could hold is refused before anything is looked at. */
const scopePattern = /^[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*$/;
const maxScope = 2_000;

function requireScope(scope: string | undefined): void {
  if (scope === undefined || (scope.length <= maxScope && scopePattern.test(scope))) return;
  throw grantRefused(
    'invalid_scope',
    `a scope is words with single spaces between them, at most ${maxScope} characters`,
  );
}

/** The times in tokens are whole seconds: a token of the second in which those before it ended would seem to be one of them. */
function notOlderThan(validAfter: number, now: number): number {
  return Math.floor(now / 1000) * 1000 < validAfter ? Math.ceil(validAfter / 1000) * 1000 : now;
}

/** Asking again can only give less (RFC 6749 §6). */
function narrow(granted: string | undefined, wanted: string | undefined): string | undefined {
  if (wanted === undefined) return granted;
  const all = granted?.split(' ');
  const more = wanted.split(' ').find(each => all && !all.includes(each));
  if (more !== undefined) throw grantRefused('invalid_scope', 'that is more than was granted at the login');
  return wanted;
}

function audienceFor({ audiences }: Service, wanted: string | undefined, own: string): string {
  const audience = wanted ?? (audiences.length === 0 ? own : audiences[0]) ?? own;
  if (audiences.includes(audience) || (audiences.length === 0 && audience === own)) return audience;
  throw grantRefused('invalid_target', 'this service is not registered for that audience', {
    hint: 'rollcall services change NAME --audience …',
  });
}

/** At the link scopes are permissions and only cut down; elsewhere they are what the service was registered with. */
function scopeFor({ scopes }: Service, atLink: boolean, wanted: string | undefined): string | undefined {
  if (atLink) return wanted;
  const asked = wanted === undefined ? scopes : wanted.split(' ');
  if (asked.every(each => scopes.includes(each))) return asked.length === 0 ? undefined : asked.join(' ');
  throw grantRefused('invalid_scope', 'this service is not registered for that scope');
}
