/**
 * Tenants: each holds one federation of nodes and the people and programs around it, and knows nothing of the others.
 * The default one is always there. One that is deleted leaves its audit log, and its name stays taken. It is in the list
 * of those that leave until its nodes are revoked and its runs are over (link/tenant-sweep.ts).
 */
import type { Clock } from '../../../base/clock.js';
import { RollcallError } from '../../../base/errors.js';
import { defaultTenant } from '../../../protocol/limits.js';
import type { Actor, Audit } from '../../audit/audit.js';
import { tenantPrefix } from '../../../store/keys.js';
import type { Change, Key, Reads, Store } from '../../../store/store.js';
import { tenantNotFound } from '../../tenant-mark.js';
import type { Cutoffs } from '../tokens/cutoffs.js';
import { isAccessName, nameTaken, parseNewName } from './names.js';
import { decide, listRecords, putRecord, readRecord, type Grounds } from '../records.js';

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
  /**
   * Its accounts and tokens count no more when this resolves; links and runs that are there are for the sweep to end.
   * Asked again while that goes on, it changes nothing. NOT_FOUND; REQUEST_INVALID for the default one.
   */
  remove(name: string, by: Actor, grounds?: Grounds): Promise<void>;
  exists(name: string): Promise<boolean>;
  /** Without those that were deleted. */
  list(): Promise<Tenant[]>;
  listLeaving(): Promise<LeavingTenant[]>;
  /** Its links, runs and nodes have ended: it is not listed as leaving any more. */
  hasLeft(name: string): Promise<void>;
}

/** One that was deleted, and who did it. */
export interface LeavingTenant {
  readonly name: string;
  readonly by: Actor;
}

const prefix = 'access/tenant/';
/** Names that differ only in the case of their letters would only mislead. */
const keyOf = (name: string): Key => prefix + name.toLowerCase();
const leavingPrefix = 'access/leaving-tenant/';
const leavingKeyOf = (name: string): Key => leavingPrefix + name.toLowerCase();

export interface TenantsOptions {
  readonly store: Store;
  readonly audit: Audit;
  readonly clock: Clock;
  readonly cutoffs: Pick<Cutoffs, 'of' | 'read' | 'deleteTenant' | 'reload'>;
}

export function createTenants({ store, audit, clock, cutoffs }: TenantsOptions): Tenants {
  const hasUsers = async (tenant: string): Promise<boolean> =>
    (await store.list({ prefix: `${tenantPrefix(tenant)}user/`, limit: 1 })).length > 0;

  return {
    create(name, by, more) {
      return decide(store, async reads => {
        parseNewName(name, 'tenant name');
        if ((await cutoffs.read(reads, name)).isDeleted) throw nameKept(name);
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
    remove(name, by, grounds) {
      return cutoffs.deleteTenant(name, async (reads, { isDeleted }) => {
        await grounds?.(reads);
        if (name === defaultTenant) throw defaultStays();
        const isThere = isAccessName(name) && (await readRecord<Tenant>(reads, keyOf(name)))?.name === name;
        if (!isThere) throw tenantNotFound();
        if (isDeleted) {
          if (await readRecord(reads, leavingKeyOf(name))) return [];
          throw tenantNotFound();
        }
        const leaving: LeavingTenant = { name, by };
        const event = { type: 'tenant.deleted', subject: name, by } as const;
        return [
          putRecord(leavingKeyOf(name), leaving),
          // In both logs: who reads that of the tenant sees why all of it ended.
          audit.auditChange(defaultTenant, event),
          audit.auditChange(name, event),
        ];
      });
    },
    async exists(name) {
      if (name === defaultTenant) return true;
      if (!isAccessName(name) || cutoffs.of(name).isDeleted) return false;
      return (await readRecord<Tenant>(store, keyOf(name)))?.name === name;
    },
    async list() {
      const made = await listRecords<Tenant>(store, prefix);
      const there = made.filter(({ name }) => !cutoffs.of(name).isDeleted);
      return [{ name: defaultTenant, createdAt: 0 }, ...there];
    },
    async listLeaving() {
      const leaving = await listRecords<LeavingTenant>(store, leavingPrefix);
      // The deletion of one may be found though its commit failed.
      for (const { name } of leaving) await cutoffs.reload(name);
      return leaving;
    },
    hasLeft: name =>
      decide(store, () => ({ changes: [{ type: 'delete', key: leavingKeyOf(name) }], result: undefined })),
  };
}

function defaultStays(): RollcallError {
  return new RollcallError('REQUEST_INVALID', 'the default tenant cannot be deleted', {
    hint: 'the link is run from there; any other tenant can be deleted',
  });
}

function nameKept(name: string): RollcallError {
  return new RollcallError('NAME_TAKEN', `the tenant ${name} was deleted, and its name stays taken`, {
    hint: 'choose another name: its audit log is kept under this one',
  });
}
