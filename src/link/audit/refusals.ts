/**
 * Refusals of callers who have proved nothing, counted per address and minute instead of written one by one: nobody
 * outside may decide how much the link writes. Once a minute, and at close, each address becomes one audit event
 * with its counts by reason.
 */
import type { Clock } from '../../base/clock.js';
import type { Log } from '../../base/log.js';
import type { Store } from '../store/store.js';
import type { Audit } from './audit.js';

const periodMs = 60_000;
const maxAddresses = 1024;
const maxReasons = 32;
/** What is counted together once there are too many. */
const rest = 'other';

export interface RefusalCounter {
  /** Never fails and never waits. `reason` is an error code. */
  count(address: string, reason: string): void;
  /** Writes what was counted; when the store does not take it, it is kept for the next time. */
  flush(): Promise<void>;
  close(): Promise<void>;
}

export interface RefusalOptions {
  readonly clock: Clock;
  readonly store: Store;
  readonly audit: Audit;
  readonly log: Log;
  /** Whose audit log is told. The tenant a caller names is not proved either, so it is one for all. */
  readonly tenant?: string;
}

type Counts = Map<string, Map<string, number>>;

function bounded<T>(map: ReadonlyMap<string, T>, key: string, most: number): string {
  return map.has(key) || map.size < most ? key : rest;
}

function add(counts: Counts, address: string, reason: string, times: number): void {
  const where = bounded(counts, address, maxAddresses);
  const reasons = counts.get(where) ?? new Map<string, number>();
  counts.set(where, reasons);
  const why = bounded(reasons, reason, maxReasons);
  reasons.set(why, (reasons.get(why) ?? 0) + times);
}

export function createRefusalCounter(options: RefusalOptions): RefusalCounter {
  const { clock, store, audit, log, tenant = 'default' } = options;
  let counts: Counts = new Map();
  let closing: Promise<void> | undefined;
  let writing: Promise<void> = Promise.resolve();
  const timer = clock.every(periodMs, () => void flush());

  /** After what is being written, so that whoever waits for it waits for everything. */
  function flush(): Promise<void> {
    writing = writing.then(writeCounts);
    return writing;
  }

  async function writeCounts(): Promise<void> {
    if (counts.size === 0) return;
    const taken = counts;
    counts = new Map();
    const changes = [...taken].map(([subject, reasons]) =>
      audit.auditChange(tenant, {
        type: 'peer.refused',
        subject,
        by: 'link',
        detail: Object.fromEntries(reasons),
      }),
    );
    try {
      await store.commit(changes);
    } catch (error) {
      log.warn({ err: error }, 'could not write the counts of refused enrollments; keeping them');
      for (const [address, reasons] of taken) {
        for (const [reason, times] of reasons) add(counts, address, reason, times);
      }
    }
  }

  return {
    count: (address, reason) => add(counts, address, reason, 1),
    flush,
    close() {
      timer.cancel();
      return (closing ??= flush());
    },
  };
}
