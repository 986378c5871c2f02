/**
 * Refusals, counted and told once a minute and at close instead of written one by one: nobody outside may decide how much
 * the link writes. A party is a network (src/base/network.ts). Four kinds are counted apart, so that a crowd of one does
 * not hide another:
 *
 * - peers that have proved nothing, in the log of the default tenant: the tenant they name is not proved either;
 * - tries to come in as somebody who does not exist, there too, and without the name: people type passwords where names
 *   belong, and a log is no place for a stranger's words;
 * - tries to come in as an account that exists, in the log of its tenant;
 * - principals that asked for what they may not do, in the log of their tenant.
 */
import { anonymousParty, type Party } from '../../audit-log/party.js';
import type { Clock, Timer } from '../../base/clock.js';
import type { Log } from '../../base/log.js';
import { networkOf } from '../../base/network.js';
import { defaultTenant } from '../../protocol/limits.js';
import type { Store } from '../../store/store.js';
import type { Audit, AuditEvent } from './audit.js';
import { RefusalTally, others, type Counted, type Refused } from './refusal-tally.js';

const periodMs = 60_000;

export interface Known extends Party {
  readonly tenant: string;
}

export interface RefusalCounter {
  /**
   * A peer was refused, or a principal that is known. `reason` is an error code, or the permission that was missing.
   * Never fails and never waits.
   */
  count(address: string, reason: string, who?: Known): void;
  /** A failed login of this account; undefined for one that does not exist. */
  countLogin(address: string, reason: string, account: Known | 'setup code' | undefined): void;
  /** Writes what was counted; when the store does not take it, it is kept for the next time. */
  flush(): Promise<void>;
  close(): Promise<void>;
}

export interface RefusalOptions {
  readonly clock: Clock;
  readonly store: Store;
  readonly audit: Audit;
  readonly log: Log;
  /** Of every refusal, for the metrics. */
  readonly onCount?: (type: Refused['type'], reason: string) => void;
  /** The first refusal in a minute of a principal at a network. */
  readonly onPrincipal?: (who: Known, network: string, reason: string) => void;
}

export class Refusals implements RefusalCounter {
  readonly #options: RefusalOptions;
  readonly #timer: Timer;
  readonly #peers = new RefusalTally();
  readonly #nobodies = new RefusalTally();
  readonly #accounts = new RefusalTally();
  readonly #principals = new RefusalTally();
  #closing: Promise<void> | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(options: RefusalOptions) {
    this.#options = options;
    this.#timer = options.clock.every(periodMs, () => void this.flush());
  }

  count(address: string, reason: string, who?: Known): void {
    const network = networkOf(address);
    this.#options.onCount?.(who ? 'request.refused' : 'peer.refused', reason);
    if (!who) {
      this.#peers.add(
        { tenant: defaultTenant, type: 'peer.refused', by: anonymousParty, subject: '', network },
        reason,
      );
      return;
    }
    const { tenant, kind, id, name } = who;
    const by = { kind, id, name };
    const isFirst = this.#principals.add(
      { tenant, type: 'request.refused', by, subject: '', network },
      reason,
    );
    if (isFirst) this.#options.onPrincipal?.(who, network, reason);
  }

  countLogin(address: string, reason: string, account: Known | 'setup code' | undefined): void {
    const network = networkOf(address);
    this.#options.onCount?.('login.refused', reason);
    const refused = { type: 'login.refused', by: anonymousParty, network } as const;
    if (typeof account === 'object') {
      const { tenant, id, name } = account;
      this.#accounts.add({ ...refused, tenant, subject: id, account: name }, reason);
    } else {
      this.#nobodies.add(
        { ...refused, tenant: defaultTenant, subject: account ?? 'unknown account' },
        reason,
      );
    }
  }

  /** After what is being written, so that a caller who waits for it waits for everything. */
  flush(): Promise<void> {
    this.#writing = this.#writing.then(() => this.#write());
    return this.#writing;
  }

  close(): Promise<void> {
    this.#timer.cancel();
    return (this.#closing ??= this.flush());
  }

  async #write(): Promise<void> {
    const { store, audit, log } = this.#options;
    const tallies = [this.#peers, this.#nobodies, this.#accounts, this.#principals];
    const taken = tallies.map(tally => ({ tally, counted: tally.take() }));
    const counted = taken.flatMap(each => each.counted);
    if (counted.length === 0) return;
    try {
      await store.commit(counted.map(each => audit.auditChange(each.refused.tenant, eventOf(each))));
    } catch (error) {
      log.warn({ err: error }, 'could not write the counts of refusals; keeping them');
      for (const { tally, counted: kept } of taken)
        for (const { refused, reasons } of kept)
          for (const [reason, times] of reasons) tally.add(refused, reason, times);
    }
  }
}

function eventOf({ refused, reasons }: Counted): AuditEvent {
  const { type, by, subject, account, network = others } = refused;
  return {
    type,
    by: { ...by, address: network },
    subject: subject === '' && by.id === '' ? network : subject,
    outcome: 'refused',
    detail: { ...(account !== undefined && { name: account }), ...Object.fromEntries(reasons) },
  };
}
