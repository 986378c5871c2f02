/**
 * API tokens: long-lived access tokens for a program, which a user makes, or an admin for a user. Each is known by its
 * `jti`, can be listed and revoked, and never allows more than its holder may do at the moment it is used.
 */
import type { Clock } from '../../../base/clock.js';
import { RollcallError } from '../../../base/errors.js';
import type { Log } from '../../../base/log.js';
import type { Actor, Audit, AuditEvent } from '../../audit/audit.js';
import { listTenants, tenantPrefix } from '../../../store/keys.js';
import { pagesBelow } from '../../../store/pages.js';
import type { Change, Key, Reads, Store } from '../../../store/store.js';
import type { AccessTokens } from './access-tokens.js';
import type { Cutoffs } from './cutoffs.js';
import { denial } from './deny-list.js';
import { notFound, parseAccessName } from '../accounts/names.js';
import { actorOf, notAllowed, requirePermission, type Principal } from '../principal.js';
import { decide, decodeRecord, listRecords, putRecord, readRecord } from '../records.js';
import type { Roles } from '../accounts/roles.js';
import { maxApiTokenMs } from './lifetimes.js';
import { sweepEvery, sweepPageSize } from '../sweep.js';
import { scopeOfToken } from './scope.js';
import type { Users } from '../accounts/users.js';

export interface ApiToken {
  /** `jti`. */
  readonly id: string;
  readonly name: string;
  /** The user whose rights bound it. */
  readonly holder: string;
  readonly holderName: string;
  /** The admin who made it for the holder; undefined where the holder did. */
  readonly madeBy?: string | undefined;
  readonly madeByName?: string | undefined;
  readonly roles: readonly string[];
  readonly createdAt: number;
  readonly expiresAt: number;
}

export interface NewApiToken {
  readonly name: string;
  readonly roles: readonly string[];
  readonly lifetimeMs: number;
  /** Name or id of the user it is for; defaults to who makes it. */
  readonly user?: string | undefined;
}

export interface Revoker {
  readonly by: Actor;
  readonly isTheirs?: (token: ApiToken, reads: Reads) => Promise<boolean>;
}

const sweepEveryMs = 3_600_000;
/** A record is kept a little beyond the token's end, for clocks that differ, ms. */
const graceMs = 120_000;

const prefixOf = (tenant: string): Key => `${tenantPrefix(tenant)}token/`;

export interface ApiTokensOptions {
  readonly store: Store;
  readonly audit: Audit;
  readonly clock: Clock;
  readonly log: Log;
  readonly tokens: AccessTokens;
  readonly roles: Pick<Roles, 'requireAll' | 'permissionsOf'>;
  readonly users: Pick<Users, 'get' | 'list'>;
  readonly cutoffs: Pick<Cutoffs, 'of' | 'read'>;
  readonly audience: string;
}

/** The holder of a new token. */
type Holder = Pick<Principal, 'id' | 'name' | 'tenant' | 'permissions' | 'countsFrom'>;

export class ApiTokens {
  readonly #options: ApiTokensOptions;
  readonly #stopSweeping: () => void;

  constructor(options: ApiTokensOptions) {
    this.#options = options;
    const { clock, log } = options;
    const failure = 'could not forget expired API tokens';
    this.#stopSweeping = sweepEvery({ clock, log, everyMs: sweepEveryMs, failure }, () =>
      this.#forgetExpired(),
    );
  }

  /**
   * The token itself is told this once. For another user only by those with users:manage who hold all that the user holds,
   * and with nothing that the user does not hold.
   */
  issue(
    principal: Principal,
    { name, roles: wanted, lifetimeMs, user }: NewApiToken,
  ): Promise<{ readonly record: ApiToken; readonly token: string }> {
    return decide(this.#options.store, async reads => {
      const maker = await principal.confirm(reads);
      parseAccessName(name, 'token name');
      this.#requireLogin(maker);
      const holder = user === undefined ? maker : await this.#findOther(maker, user, reads);
      const isOwn = holder.id === maker.id;
      await this.#requireHeld(holder, wanted, { isOwn, reads });
      if (!Number.isSafeInteger(lifetimeMs) || lifetimeMs < 60_000 || lifetimeMs > maxApiTokenMs)
        throw new RollcallError('REQUEST_INVALID', 'an API token lasts a minute to 366 days');
      const { tenant, id: subject } = holder;
      const client = `api-token:${name}`;
      const scope = await scopeOfToken(this.#options.roles, { tenant, roles: wanted }, reads);
      const signed = await this.#options.tokens.sign({
        ...{ subject, audience: this.#options.audience, tenant, client, roles: wanted },
        ...scope,
        lifetimeMs,
      });
      const record: ApiToken = {
        id: signed.tokenId,
        name,
        holder: subject,
        holderName: holder.name,
        ...(!isOwn && { madeBy: maker.id, madeByName: maker.name }),
        roles: [...wanted],
        createdAt: Math.max(this.#options.clock.now(), holder.countsFrom),
        expiresAt: signed.expiresAt,
      };
      const detail = {
        name,
        roles: wanted.join(' '),
        expiresAt: new Date(signed.expiresAt).toISOString(),
        ...(!isOwn && { holder: subject, holderName: holder.name }),
      };
      const event: AuditEvent = { type: 'token.issued', subject: record.id, by: actorOf(maker), detail };
      return {
        changes: [
          putRecord(this.#keyOf(tenant, record.id), record),
          this.#options.audit.auditChange(tenant, event),
        ],
        result: { record, token: signed.token },
      };
    });
  }

  find(tenant: string, id: string, reads: Reads = this.#options.store): Promise<ApiToken | undefined> {
    return readRecord<ApiToken>(reads, this.#keyOf(tenant, id));
  }

  /** The valid ones: not expired, and not ended with all else of their holder or of a span of time. */
  async list(tenant: string): Promise<ApiToken[]> {
    const now = this.#options.clock.now();
    const ended = this.#options.cutoffs.of(tenant);
    const countsFrom = new Map(
      (await this.#options.users.list(tenant)).map(({ id, validAfter }) => [id, validAfter]),
    );
    return (await listRecords<ApiToken>(this.#options.store, prefixOf(tenant))).filter(
      ({ holder, createdAt, expiresAt }) =>
        expiresAt > now && createdAt >= (countsFrom.get(holder) ?? Infinity) && !ended.covers(createdAt),
    );
  }

  /**
   * Ends one for good; its use from now on raises an alert. NOT_FOUND for one that is not there, or that
   * `isTheirs` says is not for them to end.
   */
  async revoke(tenant: string, id: string, { by, isTheirs }: Revoker): Promise<void> {
    await decide(this.#options.store, async reads => {
      const record = await readRecord<ApiToken>(reads, this.#keyOf(tenant, id));
      const mayEnd = record && ((await isTheirs?.(record, reads)) ?? true);
      if (!mayEnd) throw notFound('API token');
      return {
        // The record is what counts; the deny list makes its use heard.
        changes: [
          denial({ id: record.id, endsAt: record.expiresAt, tenant }),
          ...this.planEnd(tenant, record, by),
        ],
        result: undefined,
      };
    });
  }

  /** The changes that end a token, for a commit that denies it. */
  planEnd(tenant: string, { id, name }: ApiToken, by: Actor): Change[] {
    const event: AuditEvent = { type: 'token.revoked', subject: id, by, detail: { name } };
    return [{ type: 'delete', key: this.#keyOf(tenant, id) }, this.#options.audit.auditChange(tenant, event)];
  }

  close(): void {
    this.#stopSweeping();
  }

  #keyOf(tenant: string, id: string): Key {
    return prefixOf(tenant) + id.replaceAll(/[^0-9a-f]/g, '_');
  }

  /** A token that leaked must not make more of them. */
  #requireLogin({ kind, session }: Principal): void {
    if (kind === 'user' && session !== undefined) return;
    throw new RollcallError('NOT_ALLOWED', 'only a user who is logged in can make API tokens');
  }

  /** The maker of a token for somebody may act as them: so only those who hold all that they hold. */
  async #findOther(maker: Principal, reference: string, reads: Reads): Promise<Holder> {
    requirePermission(maker, 'users:manage');
    const { tenant } = maker;
    const user = await this.#options.users.get(tenant, reference, reads);
    const permissions = await this.#options.roles.permissionsOf(tenant, user.roles, reads);
    const beyond = [...permissions].find(each => !maker.permissions.has(each));
    if (beyond !== undefined) throw notAllowed(beyond);
    if (!user.enabled) throw new RollcallError('REQUEST_INVALID', `${user.name} is disabled`);
    const { until } = await this.#options.cutoffs.read(reads, tenant);
    return { ...user, permissions, countsFrom: Math.max(user.validAfter, until) };
  }

  /** NOT_ALLOWED for a token with more permissions than its holder has. */
  async #requireHeld(
    { tenant, name, permissions }: Holder,
    wanted: readonly string[],
    { isOwn, reads }: { readonly isOwn: boolean; readonly reads: Reads },
  ): Promise<void> {
    await this.#options.roles.requireAll(tenant, wanted, reads);
    const rights = [...(await this.#options.roles.permissionsOf(tenant, wanted, reads))];
    const foreign = rights.find(each => !permissions.has(each));
    if (foreign !== undefined && isOwn) throw notAllowed(foreign);
    if (foreign !== undefined) throw new RollcallError('REQUEST_INVALID', `${name} does not hold ${foreign}`);
    if (rights.length === 0) throw new RollcallError('REQUEST_INVALID', 'that token would allow nothing');
  }

  async #forgetExpired(): Promise<void> {
    for (const tenant of await listTenants(this.#options.store)) {
      for await (const page of pagesBelow(this.#options.store, prefixOf(tenant), sweepPageSize)) {
        const over = page.filter(
          ({ value }) => decodeRecord<ApiToken>(value).expiresAt + graceMs < this.#options.clock.now(),
        );
        const changes = over.map(({ key }) => ({ type: 'delete', key }) as const);
        await decide(this.#options.store, () => ({ changes, result: undefined }));
      }
    }
  }
}
