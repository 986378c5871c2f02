/**
 * API tokens: long-lived access tokens that a user makes for a program. Each is known by its `jti`, can be listed and
 * revoked, and never allows more than its maker may do at the moment it is used.
 */
import type { Clock } from '../../base/clock.js';
import { RollcallError } from '../../base/errors.js';
import type { Actor, Audit } from '../audit/audit.js';
import { tenantPrefix } from '../../store/keys.js';
import type { Key, Store } from '../../store/store.js';
import type { AccessTokens } from './access-tokens.js';
import { notFound, parseAccessName } from './names.js';
import { actorOf, notAllowed, type Principal } from './principal.js';
import { decideRecord, listRecords, putRecord, readRecord } from './records.js';
import type { Roles } from './roles.js';

export interface ApiToken {
  /** `jti`. */
  readonly id: string;
  readonly name: string;
  /** Who made it and whose rights bound it. */
  readonly holder: string;
  readonly holderName: string;
  readonly roles: readonly string[];
  readonly createdAt: number;
  readonly expiresAt: number;
}

export interface NewApiToken {
  readonly name: string;
  readonly roles: readonly string[];
  readonly lifetimeMs: number;
}

export interface ApiTokens {
  /** The token itself is told this once. */
  issue(
    holder: Principal,
    token: NewApiToken,
  ): Promise<{ readonly record: ApiToken; readonly token: string }>;
  find(tenant: string, id: string): Promise<ApiToken | undefined>;
  /** Those that have not expired. */
  list(tenant: string): Promise<ApiToken[]>;
  /** NOT_FOUND for one that is not there or, with a holder, not theirs. */
  revoke(tenant: string, id: string, by: { readonly by: Actor; readonly holder?: string }): Promise<void>;
}

const dayMs = 86_400_000;
export const longestApiTokenMs = 366 * dayMs;

const prefixOf = (tenant: string): Key => `${tenantPrefix(tenant)}token/`;

export interface ApiTokensOptions {
  readonly store: Store;
  readonly audit: Audit;
  readonly clock: Clock;
  readonly tokens: AccessTokens;
  readonly roles: Pick<Roles, 'requireAll' | 'permissionsOf'>;
  readonly audience: string;
}

export function createApiTokens(options: ApiTokensOptions): ApiTokens {
  const { store, audit, clock, tokens, roles, audience } = options;
  const keyOf = (tenant: string, id: string): Key => prefixOf(tenant) + id.replaceAll(/[^0-9a-f]/g, '_');

  /** Nobody hands on what they do not have, and a token that leaked must not make more of them. */
  async function requireOwnRights(holder: Principal, wanted: readonly string[]): Promise<void> {
    if (holder.kind !== 'user' || holder.session === undefined)
      throw new RollcallError('NOT_ALLOWED', 'only a user who is logged in can make API tokens');
    await roles.requireAll(holder.tenant, wanted);
    const rights = [...(await roles.permissionsOf(holder.tenant, wanted))];
    const foreign = rights.find(each => !holder.permissions.has(each));
    if (foreign !== undefined) throw notAllowed(foreign);
    if (rights.length === 0) throw new RollcallError('REQUEST_INVALID', 'that token would allow nothing');
  }

  return {
    async issue(holder, { name, roles: wanted, lifetimeMs }) {
      parseAccessName(name, 'token name');
      await requireOwnRights(holder, wanted);
      if (!Number.isSafeInteger(lifetimeMs) || lifetimeMs < 60_000 || lifetimeMs > longestApiTokenMs)
        throw new RollcallError('REQUEST_INVALID', 'an API token lasts a minute to 366 days');
      const { tenant, id: subject } = holder;
      const signed = await tokens.sign({ subject, audience, tenant, roles: wanted, lifetimeMs });
      const record: ApiToken = {
        id: signed.tokenId,
        name,
        holder: subject,
        holderName: holder.name,
        roles: [...wanted],
        createdAt: clock.now(),
        expiresAt: signed.expiresAt,
      };
      const detail = { name, roles: wanted.join(' '), expiresAt: new Date(signed.expiresAt).toISOString() };
      await store.commit([
        putRecord(keyOf(tenant, record.id), record),
        audit.auditChange(tenant, { type: 'token.issued', subject: record.id, by: actorOf(holder), detail }),
      ]);
      return { record, token: signed.token };
    },
    find: (tenant, id) => readRecord<ApiToken>(store, keyOf(tenant, id)),
    async list(tenant) {
      const now = clock.now();
      return (await listRecords<ApiToken>(store, prefixOf(tenant))).filter(
        ({ expiresAt }) => expiresAt > now,
      );
    },
    async revoke(tenant, id, { by, holder }) {
      await decideRecord<ApiToken, undefined>(store, keyOf(tenant, id), record => {
        if (!record || (holder !== undefined && record.holder !== holder)) throw notFound('API token');
        const detail = { name: record.name };
        const event = audit.auditChange(tenant, { type: 'token.revoked', subject: record.id, by, detail });
        return {
          changes: [{ type: 'delete', key: keyOf(tenant, id) }, event],
          result: undefined,
        };
      });
    },
  };
}
