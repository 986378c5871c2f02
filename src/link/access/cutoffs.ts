/**
 * Tokens and sessions of a tenant that began before a moment count no more: what an admin says when nobody knows how
 * much was stolen. In the store, and in memory, so that asking costs nothing. A cutoff is never taken back.
 */
import type { Clock } from '../../base/clock.js';
import { RollcallError } from '../../base/errors.js';
import type { Actor, Audit } from '../audit/audit.js';
import { listTenants, tenantPrefix } from '../../store/keys.js';
import type { Key, Reads, Store } from '../../store/store.js';
import { decide, isStoreFailure, putRecord, readRecord, type Grounds } from './records.js';

export interface Cutoffs {
  /** Milliseconds since 1970; 0 for none. */
  of(tenant: string): number;
  /** The same, read by a decision that something must not begin before it. */
  read(reads: Reads, tenant: string): Promise<number>;
  /**
   * Ends what began before this moment, durable when it resolves; with a store that fails it counts all the same, until
   * the link restarts. Gives the cutoff there is now, which may be a later one. REQUEST_INVALID for a moment to come.
   */
  raise(tenant: string, before: number, by: Actor, grounds?: Grounds): Promise<number>;
}

interface Cutoff {
  readonly before: number;
}

/** A caller whose clock is ahead by this means now, ms. */
const toleranceMs = 30_000;

const keyOf = (tenant: string): Key => `${tenantPrefix(tenant)}cutoff`;

export interface CutoffOptions {
  readonly store: Store;
  readonly audit: Audit;
  readonly clock: Clock;
}

export async function openCutoffs({ store, audit, clock }: CutoffOptions): Promise<Cutoffs> {
  const cutoffs = new Map<string, number>();
  for (const tenant of await listTenants(store)) {
    const found = await readRecord<Cutoff>(store, keyOf(tenant));
    if (found) cutoffs.set(tenant, found.before);
  }

  const of = (tenant: string): number => cutoffs.get(tenant) ?? 0;

  function raiseInMemory(tenant: string, before: number): void {
    cutoffs.set(tenant, Math.max(before, of(tenant)));
  }

  return {
    of,
    async read(reads, tenant) {
      const found = await readRecord<Cutoff>(reads, keyOf(tenant));
      return Math.max(found?.before ?? 0, of(tenant));
    },
    async raise(tenant, wanted, by, grounds) {
      if (!Number.isSafeInteger(wanted) || wanted < 0 || wanted > clock.now() + toleranceMs) {
        throw new RollcallError(
          'REQUEST_INVALID',
          'tokens can be ended from before now, not from before later',
          {
            hint: 'give a moment that has passed, milliseconds since 1970',
          },
        );
      }
      const before = Math.min(wanted, clock.now());
      const committing = decide(store, async reads => {
        await grounds?.(reads);
        const found = await readRecord<Cutoff>(reads, keyOf(tenant));
        const detail = { before: new Date(before).toISOString() };
        const event = audit.auditChange(tenant, { type: 'tokens.ended', subject: tenant, by, detail });
        const cutoff = { before: Math.max(before, found?.before ?? 0) };
        return { changes: [putRecord(keyOf(tenant), cutoff), event], result: undefined };
      });
      await committing.catch((error: unknown) => {
        if (isStoreFailure(error)) raiseInMemory(tenant, before);
        throw error;
      });
      raiseInMemory(tenant, before);
      return of(tenant);
    },
  };
}
