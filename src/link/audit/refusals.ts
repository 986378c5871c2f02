/**
 * Refusals, counted per address and minute instead of written one by one: nobody outside may decide how much the link
 * writes. Once a minute, and at close, each address becomes one audit event with its counts by reason. Callers who have
 * proved nothing are counted together; one who is known and asked for what it may not do has an event of its own, in
 * the log of its tenant.
 */
import { anonymousParty, linkParty, type Party } from '../../audit-log/party.js';
import type { Clock } from '../../base/clock.js';
import type { Log } from '../../base/log.js';
import type { Store } from '../../store/store.js';
import type { Audit } from './audit.js';

const periodMs = 60_000;
const maxAddresses = 1024;
const maxReasons = 32;
/** What is counted together once there are too many. */
const rest = 'other';

export interface Known extends Party {
  readonly tenant: string;
}

export interface RefusalCounter {
  /** Never fails and never waits. `reason` is an error code. */
  count(address: string, reason: string, who?: Known): void;
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

interface Counted {
  readonly address: string;
  readonly who?: Known | undefined;
  readonly reasons: Map<string, number>;
}

/** By a text that tells those who were refused apart. */
type Counts = Map<string, Counted>;

function bounded<T>(map: ReadonlyMap<string, T>, key: string, most: number): string {
  return map.has(key) || map.size < most ? key : rest;
}

function add(counts: Counts, reason: string, times: number, address: string, who?: Known): void {
  const ownKey = who ? `${who.tenant} ${who.id} ${address}` : address;
  const hasPlace = counts.has(ownKey) || counts.size < maxAddresses;
  // Those without a place are counted together, still in the log of their tenant.
  const place = hasPlace
    ? { address, who }
    : { address: rest, who: who && { ...anonymousParty, tenant: who.tenant, name: rest } };
  const key = hasPlace ? ownKey : `${place.who?.tenant ?? ''} ${rest}`;
  const { reasons } = counts.get(key) ?? { reasons: new Map<string, number>() };
  counts.set(key, { ...place, reasons });
  const why = bounded(reasons, reason, maxReasons);
  reasons.set(why, (reasons.get(why) ?? 0) + times);
}

export function createRefusalCounter(options: RefusalOptions): RefusalCounter {
  const { clock, store, audit, log, tenant = 'default' } = options;
  // Apart, so that a crowd of strangers does not push out those who have a name.
  let strangers: Counts = new Map();
  let known: Counts = new Map();
  let closing: Promise<void> | undefined;
  let writing: Promise<void> = Promise.resolve();
  const timer = clock.every(periodMs, () => void flush());

  /** After what is being written, so that whoever waits for it waits for everything. */
  function flush(): Promise<void> {
    writing = writing.then(writeCounts);
    return writing;
  }

  async function writeCounts(): Promise<void> {
    const taken = [...strangers.values(), ...known.values()];
    if (taken.length === 0) return;
    strangers = new Map();
    known = new Map();
    const changes = taken.map(({ address, who, reasons }) =>
      audit.auditChange(who?.tenant ?? tenant, {
        ...(who
          ? {
              type: 'request.refused',
              subject: who.name,
              by: { ...who, address },
              outcome: 'refused',
            }
          : { type: 'peer.refused', subject: address, by: linkParty }),
        detail: Object.fromEntries(reasons),
      }),
    );
    try {
      await store.commit(changes);
    } catch (error) {
      log.warn({ err: error }, 'could not write the counts of refused enrollments; keeping them');
      for (const { address, who, reasons } of taken) {
        for (const [reason, times] of reasons) add(who ? known : strangers, reason, times, address, who);
      }
    }
  }

  return {
    count: (address, reason, who) => add(who ? known : strangers, reason, 1, address, who),
    flush,
    close() {
      timer.cancel();
      return (closing ??= flush());
    },
  };
}
