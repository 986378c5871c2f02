/**
 * From a Bearer token to who asks. A signature alone is not enough: at every request the holder must still be there and
 * enabled, the session or API token it came from must still live, and what it may do is what its roles hold now.
 */
import { isDeepStrictEqual } from 'node:util';
import { RollcallError } from '../../base/errors.js';
import { getBearer } from '../../tokens/bearer.js';
import { isHolder } from '../../tokens/thumbprint.js';
import type { Reads } from '../../store/store.js';
import type { AccessTokens, TokenClaims } from './tokens/access-tokens.js';
import type { Alerts } from './alerts.js';
import type { ApiTokens } from './tokens/api-tokens.js';
import type { Cutoffs } from './tokens/cutoffs.js';
import type { Denied } from './tokens/deny-list.js';
import type { Families } from './tokens/refresh-families.js';
import type { FindNodeName, FindParty } from './accounts/holders.js';
import type { Permission } from './permissions.js';
import type { Origin, Principal, PrincipalKind } from './principal.js';
import { ofAccount } from './login/refused-account.js';
import type { Roles } from './accounts/roles.js';
import type { Services } from './accounts/services.js';
import { narrowingOf } from './tokens/scope.js';
import type { Users } from './accounts/users.js';

export interface Credentials {
  /** As it came, `Bearer …`. */
  readonly authorization: string | undefined;
  readonly origin: Origin;
  /** DER of the certificate the connection came with. */
  readonly certificate?: Uint8Array | undefined;
}

/** Throws TOKEN_REFUSED. For what is held (true) nobody asks: a refusal is no use of a token that was revoked. */
export type Authenticate = (credentials: Credentials, isHeld?: boolean) => Promise<Principal>;

/** Finds the holder of a token whose signature is valid; undefined when there is none any more. */
export type FindPrincipal = (claims: TokenClaims) => Promise<Principal | undefined>;

export interface AuthenticateOptions {
  readonly tokens: AccessTokens;
  readonly users: Users;
  readonly services: Services;
  readonly roles: Roles;
  readonly families: Families;
  readonly apiTokens: ApiTokens;
  readonly denied: Denied;
  readonly cutoffs: Pick<Cutoffs, 'of' | 'read'>;
  readonly alerts: Alerts;
  readonly findNodeName: FindNodeName;
  readonly findParty: FindParty;
  /** The link, as `aud`. */
  readonly audience: string;
}

interface Holder {
  readonly kind: PrincipalKind;
  readonly name: string;
  readonly roles: readonly string[];
  /** Tokens from before this count no more, ms. */
  readonly validAfter: number;
  readonly createdAt: number;
}

export class Authentication {
  readonly #options: AuthenticateOptions;

  constructor(options: AuthenticateOptions) {
    this.#options = options;
  }

  async authenticate(
    { authorization, certificate, origin }: Credentials,
    isHeld = false,
  ): Promise<Principal> {
    const claims = await this.#options.tokens.verify(getBearer(authorization), this.#options.audience);
    if (!this.#options.denied.has(claims.tokenId) && !isHolder(claims, certificate))
      throw await this.#asked(unbound(), claims);
    const principal = await this.#judge(claims, origin);
    if (principal) return principal;
    // Its signature holds and its time is not over: somebody has kept it after it, its session or its holder was ended.
    const { subject, tokenId } = claims;
    if (!isHeld)
      this.#options.alerts.raise('security.token-denied', { subject, tokenId, address: origin.address });
    throw await this.#asked(revoked(), claims);
  }

  findPrincipal(claims: TokenClaims): Promise<Principal | undefined> {
    return this.#judge(claims, nowhere);
  }

  async #findHolder({ subject, tenant }: TokenClaims, reads?: Reads): Promise<Holder | undefined> {
    if (subject.startsWith('user:')) {
      const user = await this.#options.users.find(tenant, subject, reads);
      return user?.enabled ? { kind: 'user', ...user } : undefined;
    }
    if (subject.startsWith('service:')) {
      const service = await this.#options.services.find(tenant, subject, reads);
      return service?.enabled ? { kind: 'service', ...service } : undefined;
    }
    if (!subject.startsWith('node:')) return undefined;
    const name = await this.#options.findNodeName(tenant, subject.slice('node:'.length), reads);
    return name === undefined ? undefined : { kind: 'node', name, roles: [], validAfter: 0, createdAt: 0 };
  }

  /** When what the token came from began; undefined when that has ended. */
  async #findBeginning(claims: TokenClaims, kind: PrincipalKind, reads?: Reads): Promise<number | undefined> {
    const { session, tenant, subject, tokenId, issuedAt } = claims;
    if (session !== undefined) {
      const family = await this.#options.families.find(tenant, session, reads);
      return family?.holder === subject ? family.createdAt : undefined;
    }
    if (kind === 'service') return issuedAt;
    const apiToken = await this.#options.apiTokens.find(tenant, tokenId, reads);
    return apiToken?.holder === subject ? apiToken.createdAt : undefined;
  }

  async #permissionsOf(claims: TokenClaims, holder: Holder, reads?: Reads): Promise<ReadonlySet<Permission>> {
    const held = await this.#options.roles.permissionsOf(claims.tenant, holder.roles, reads);
    const said = isDeepStrictEqual(claims.roles, holder.roles)
      ? held
      : await this.#options.roles.permissionsOf(claims.tenant, claims.roles, reads);
    const narrowing = narrowingOf(claims);
    return new Set([...said].filter(each => held.has(each) && (narrowing?.includes(each) ?? true)));
  }

  /**
   * Finds the holder of a token now; undefined when there is none any more. Without `reads` what is in memory anyway
   * is not read once more.
   */
  async #judge(claims: TokenClaims, origin: Origin, reads?: Reads): Promise<Principal | undefined> {
    const { tenant, tokenId, expiresAt } = claims;
    const isDenied = reads
      ? await this.#options.denied.read(reads, tokenId, expiresAt)
      : this.#options.denied.has(tokenId);
    const holder = isDenied ? undefined : await this.#findHolder(claims, reads);
    const since = holder && (await this.#findBeginning(claims, holder.kind, reads));
    if (!holder || since === undefined) return undefined;
    const ended = reads ? await this.#options.cutoffs.read(reads, tenant) : this.#options.cutoffs.of(tenant);
    if (since < holder.validAfter || ended.covers(since)) return undefined;
    const countsFrom = Math.max(holder.validAfter, ended.until);
    return {
      kind: holder.kind,
      id: claims.subject,
      name: holder.name,
      tenant,
      roles: claims.roles,
      permissions: await this.#permissionsOf(claims, holder, reads),
      tokenId,
      session: claims.session,
      expiresAt,
      origin,
      beganAt: since,
      countsFrom,
      accountSince: holder.createdAt,
      confirm: async again => {
        const principal = await this.#judge(claims, origin, again);
        if (principal) return principal;
        throw revoked();
      },
    };
  }

  /** Notes in whose name somebody came with a token that the link made. */
  async #asked(error: RollcallError, { tenant, subject }: TokenClaims): Promise<RollcallError> {
    return ofAccount(error, { tenant, ...(await this.#options.findParty(tenant, subject)) });
  }
}

/** Of a principal that has asked for nothing. */
const nowhere: Origin = { address: '', requestId: '', userAgent: '' };

function revoked(): RollcallError {
  return new RollcallError('TOKEN_REFUSED', 'the token was revoked', {
    hint: 'log in again: rollcall login',
  });
}

function unbound(): RollcallError {
  return new RollcallError('TOKEN_REFUSED', 'the token is bound to a certificate that did not come with it', {
    hint: 'connect with the client certificate that the token was asked for with',
  });
}
