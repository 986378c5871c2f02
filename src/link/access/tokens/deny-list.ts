/**
 * The list of what was revoked before its end: tokens by `jti`, sessions by `sid`, holders that are gone by `sub`, and assertions that
 * were used. The list is in the store, so that it survives a restart, and in memory, so that asking costs nothing; what
 * has expired by itself is forgotten.
 */
import type { Clock } from '../../../base/clock.js';
import type { Log } from '../../../base/log.js';
import { defaultTenant } from '../../../protocol/limits.js';
import { padded } from '../../../store/keys.js';
import { pagesBelow } from '../../../store/pages.js';
import type { Change, Key, Reads, Store, Value } from '../../../store/store.js';
import { decide } from '../records.js';
import { sweepPageSize } from '../sweep.js';

export interface Revoked {
  readonly id: string;
  /** When the last token that it concerns has ended, ms since 1970. */
  readonly endsAt: number;
  readonly tenant: string;
}

export interface Denied {
  /**
   * Denied from now on, before it is on the disk; durable when it resolves. `more` goes into the same commit, unless the
   * store denies it already.
   */
  deny(revoked: Revoked, more?: (reads: Reads) => Promise<readonly Change[]>): Promise<void>;
  has(id: string): boolean;
  /** Of one tenant. */
  list(tenant: string): readonly Revoked[];
  /** The same, read by a decision: also of what another commit denies in the meantime. */
  read(reads: Reads, id: string, endsAt: number): Promise<boolean>;
  close(): void;
}

const prefix = 'access/denied/';
const endDigits = 16;
const sweepEveryMs = 60_000;
/** Kept a little beyond the end, for clocks that differ, ms. */
const graceMs = 120_000;

export interface DeniedOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
}

export async function openDenied({ store, clock, log }: DeniedOptions): Promise<Denied> {
  const revoked = new Map<string, Revoked>();
  for (const { key, value } of await store.list({ prefix })) noteStored(key, value);

  function noteStored(key: Key, value: Value): void {
    // One that was written before tenants were is of the default one, as far as anybody knows.
    const tenant = Buffer.from(value).toString() || defaultTenant;
    note({ id: key.slice(prefix.length + endDigits + 1), endsAt: endOf(key), tenant });
  }

  function note(entry: Revoked): void {
    // A second word on it must not end it sooner.
    const endsAt = Math.max(entry.endsAt, revoked.get(entry.id)?.endsAt ?? 0);
    revoked.set(entry.id, { ...entry, endsAt });
  }

  /** An id that was denied twice, with two ends, has two keys: each is deleted at its own end. */
  async function forget(): Promise<void> {
    const now = clock.now();
    const isOver = (endsAt: number): boolean => endsAt + graceMs < now;
    for (const { id, endsAt } of revoked.values()) if (isOver(endsAt)) revoked.delete(id);
    for await (const page of pagesBelow(store, prefix, sweepPageSize)) {
      const over = page.filter(({ key }) => isOver(endOf(key)));
      if (over.length > 0) await store.commit(over.map(({ key }) => ({ type: 'delete', key })));
      // The keys are in the order of the ends.
      if (over.length < page.length) return;
    }
  }

  const timer = clock.every(sweepEveryMs, () => {
    forget().catch((error: unknown) => log.warn({ err: error }, 'could not forget expired tokens'));
  });
  const stopWatching = store.watch(prefix, changes => {
    for (const { key, value } of changes) if (value) noteStored(key, value);
  });

  return {
    async deny(entry, more) {
      note(entry);
      await decide(store, async reads => {
        const isStored = (await reads.get(keyOf(entry.id, entry.endsAt))) !== undefined;
        if (isStored) return { changes: [], result: undefined };
        const others = (await more?.(reads)) ?? [];
        return { changes: [denial(entry), ...others], result: undefined };
      });
    },
    has: id => revoked.has(id),
    list: tenant => [...revoked.values()].filter(each => each.tenant === tenant),
    read: async (reads, id, endsAt) => revoked.has(id) || (await reads.get(keyOf(id, endsAt))) !== undefined,
    close() {
      stopWatching();
      timer.cancel();
    },
  };
}

/** The change that denies it, for a commit of somebody else's: it counts once that is made. */
export function denial({ id, endsAt, tenant }: Revoked): Change {
  return { type: 'put', key: keyOf(id, endsAt), value: Buffer.from(tenant) };
}

function keyOf(id: string, endsAt: number): Key {
  return `${prefix}${padded(endsAt, endDigits)}/${id}`;
}

function endOf(key: Key): number {
  return Number(key.slice(prefix.length, prefix.length + endDigits));
}
