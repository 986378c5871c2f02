/**
 * Access tokens that were revoked before their end, by `jti`. The list is in the store, so that it survives a restart,
 * and in memory, so that asking costs nothing; what has expired by itself is forgotten.
 */
import type { Clock } from '../../base/clock.js';
import type { Log } from '../../base/log.js';
import { padded } from '../../store/keys.js';
import type { Change, Key, Reads, Store } from '../../store/store.js';
import { decide } from './records.js';

export interface Denied {
  /**
   * Denied from now on, before it is on the disk; durable when it resolves. `more` goes into the same commit, unless the
   * store denies it already.
   */
  deny(
    tokenId: string,
    expiresAt: number,
    more?: (reads: Reads) => Promise<readonly Change[]>,
  ): Promise<void>;
  /** The change that denies it, for a commit of somebody else's, who then calls `note`. */
  change(tokenId: string, expiresAt: number): Change;
  note(tokenId: string, expiresAt: number): void;
  has(tokenId: string): boolean;
  /** The same, read by a decision: also of what another commit denies in the meantime. */
  read(reads: Reads, tokenId: string, expiresAt: number): Promise<boolean>;
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
  /** When each ends. */
  const ends = new Map<string, number>();
  for (const { key } of await store.list({ prefix })) {
    const rest = key.slice(prefix.length);
    ends.set(rest.slice(endDigits + 1), Number(rest.slice(0, endDigits)));
  }

  async function forget(): Promise<void> {
    const over = [...ends].filter(([, end]) => end + graceMs < clock.now());
    for (const [tokenId] of over) ends.delete(tokenId);
    if (over.length === 0) return;
    await store.commit(over.map(([tokenId, end]) => ({ type: 'delete', key: keyOf(tokenId, end) })));
  }

  const timer = clock.every(sweepEveryMs, () => {
    forget().catch((error: unknown) => log.warn({ err: error }, 'could not forget expired tokens'));
  });

  function note(tokenId: string, expiresAt: number): void {
    // A second word on it must not end it sooner.
    ends.set(tokenId, Math.max(expiresAt, ends.get(tokenId) ?? 0));
  }

  const change = (tokenId: string, expiresAt: number): Change => ({
    type: 'put',
    key: keyOf(tokenId, expiresAt),
    value: Buffer.of(),
  });

  return {
    async deny(tokenId, expiresAt, more) {
      note(tokenId, expiresAt);
      await decide(store, async reads => {
        const isStored = (await reads.get(keyOf(tokenId, expiresAt))) !== undefined;
        if (isStored) return { changes: [], result: undefined };
        const others = (await more?.(reads)) ?? [];
        return { changes: [change(tokenId, expiresAt), ...others], result: undefined };
      });
    },
    change,
    note,
    has: tokenId => ends.has(tokenId),
    read: async (reads, tokenId, expiresAt) =>
      ends.has(tokenId) || (await reads.get(keyOf(tokenId, expiresAt))) !== undefined,
    close: () => timer.cancel(),
  };
}

function keyOf(tokenId: string, end: number): Key {
  return `${prefix}${padded(end, endDigits)}/${tokenId}`;
}
