/**
 * Tenants: each holds one federation of nodes and the people and programs around it, and knows nothing of the others.
 * The default one is always there. A tenant is never deleted, so that its audit log is not either.
 */
import type { Clock } from '../../base/clock.js';
import { defaultTenant } from '../../protocol/limits.js';
import type { Actor, Audit } from '../audit/audit.js';
import { tenantPrefix } from '../../store/keys.js';
import type { Change, Key, Reads, Store } from '../../store/store.js';
import { isAccessName, nameTaken, parseNewName } from './names.js';
import { decide, listRecords, putRecord, readRecord } from './records.js';

export interface Tenant {
  readonly name: string;
  readonly createdAt: number;
}

export interface Tenants {
  /**
   * `more` decides on what else the same commit makes, the first admin for one. A tenant that is there without any user,
   * as a link that died in between once left it, is completed so.
   */
  create(
    name: string,
    by: Actor,
    more?: (reads: Reads) => Promise<{ readonly changes: readonly Change[] }>,
  ): Promise<Tenant>;
  exists(name: string): Promise<boolean>;
  list(): Promise<Tenant[]>;
}

const prefix = 'access/tenant/';
/** Names that differ only in the case of their letters would only mislead. */
const keyOf = (name: string): Key => prefix + name.toLowerCase();

export interface TenantsOptions {
  readonly store: Store;
  readonly audit: Audit;
  readonly clock: Clock;
}

export function createTenants({ store, audit, clock }: TenantsOptions): Tenants {
  const hasUsers = async (tenant: string): Promise<boolean> =>
    (await store.list({ prefix: `${tenantPrefix(tenant)}user/`, limit: 1 })).length > 0;

  return {
    create(name, by, more) {
      return decide(store, async reads => {
        parseNewName(name, 'tenant name');
        const before = await readRecord<Tenant>(reads, keyOf(name));
        const canComplete = before?.name === name && more !== undefined && !(await hasUsers(name));
        if (name.toLowerCase() === defaultTenant || (before && !canComplete)) throw nameTaken('tenant', name);
        const { changes } = (await more?.(reads)) ?? { changes: [] };
        if (before) return { changes, result: before };
        const tenant = { name, createdAt: clock.now() };
        const event = audit.auditChange(defaultTenant, { type: 'tenant.created', subject: name, by });
        return { changes: [putRecord(keyOf(name), tenant), event, ...changes], result: tenant };
      });
    },
    async exists(name) {
      if (name === defaultTenant) return true;
      return isAccessName(name) && (await readRecord<Tenant>(store, keyOf(name)))?.name === name;
    },
    async list() {
      return [{ name: defaultTenant, createdAt: 0 }, ...(await listRecords<Tenant>(store, prefix))];
    },
  };
}
