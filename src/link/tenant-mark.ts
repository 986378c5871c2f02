/**
 * The mark of a tenant that was deleted. It stands in the record of what has ended there (access/tokens/cutoffs.ts), which every
 * decision of access reads; rooms that know nothing of access read it here. Whatever begins in a tenant is committed on
 * condition that the record is as it was read, so that a commit that races the deletion loses.
 */
import { RollcallError } from '../base/errors.js';
import { tenantPrefix } from '../store/keys.js';
import type { Expectation, Key, Reads, Value } from '../store/store.js';

/** The key of the cutoff of a tenant: the time whose tokens and sessions have ended. */
export const cutoffKey = (tenant: string): Key => `${tenantPrefix(tenant)}cutoff`;

/** In that record. A tenant that is there has none. */
export interface TenantMark {
  readonly deletedAt?: number;
}

/** The expectation of a commit that begins something in the tenant. NOT_FOUND once the tenant was deleted. */
export async function expectTenant(reads: Reads, tenant: string): Promise<Expectation> {
  const key = cutoffKey(tenant);
  const value = await reads.get(key);
  if (isDeleted(value)) throw tenantNotFound();
  return { key, value };
}

export function tenantNotFound(): RollcallError {
  return new RollcallError('NOT_FOUND', 'there is no such tenant', {
    hint: '`rollcall tenants list` shows the tenants',
  });
}

function isDeleted(value: Value | undefined): boolean {
  if (!value) return false;
  return (JSON.parse(Buffer.from(value).toString()) as TenantMark).deletedAt !== undefined;
}
