/**
 * Tenants: each holds one federation of nodes and the people and programs around it, and knows nothing of the others.
 * The default one is always there. A tenant is never deleted, so that its audit log is not either.
 */
import type { Clock } from '../../base/clock.js';
import { defaultTenant } from '../../protocol/limits.js';
import type { Actor, Audit } from '../audit/audit.js';
import type { Key, Store } from '../../store/store.js';
import { isAccessName, nameTaken, parseNewName } from './names.js';
import { decideRecord, listRecords, putRecord, readRecord } from './records.js';

export interface Tenant {
  readonly name: string;
  readonly createdAt: number;
}

export interface Tenants {
  create(name: string, by: Actor): Promise<Tenant>;
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
  return {
    create(name, by) {
      parseNewName(name, 'tenant name');
      const tenant = { name, createdAt: clock.now() };
      return decideRecord<Tenant, Tenant>(store, keyOf(name), before => {
        if (before || name.toLowerCase() === defaultTenant) throw nameTaken('tenant', name);
        return {
          changes: [
            putRecord(keyOf(name), tenant),
            audit.auditChange(defaultTenant, { type: 'tenant.created', subject: name, by }),
          ],
          result: tenant,
        };
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
