/**
 * How long events are kept. The oldest entries of a log leave it a batch at a time. In one commit with a batch stand a
 * checkpoint of its last entry, which is kept for ever and stands for what is gone, and the event `audit.trimmed`: a log
 * can be verified at every moment, and its newest entry is never taken away.
 *
 * A batch waits until it is full, or until its oldest entry is a week past its time, so that a quiet log is not trimmed
 * of one entry by adding another.
 */
import { createChainCheck } from '../../audit-log/chain.js';
import { linkParty } from '../../audit-log/party.js';
import type { Clock, Timer } from '../../base/clock.js';
import { isRollcallError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import { createKeyedQueue } from '../../base/keyed-queue.js';
import { listTenants } from '../../store/keys.js';
import type { Entry, Store } from '../../store/store.js';
import type { Audit } from './audit.js';
import type { Checkpoints, Prepared } from './checkpoints.js';
import { decodeEntry, logOf, numberOf, readStart } from './stored-log.js';

const roundEveryMs = 3_600_000;
/** Entries that leave in one commit. */
const batchSize = 1000;
const slackMs = 7 * 86_400_000;
/** A reader that takes longer over an export no longer keeps the log from being trimmed. */
const holdMs = 3_600_000;

export interface RetentionOptions {
  readonly store: Store;
  readonly audit: Audit;
  readonly checkpoints: Pick<Checkpoints, 'prepare'>;
  /** Something was found to be changed. */
  readonly onFault: (tenant: string, fault: string) => void;
  readonly clock: Clock;
  readonly log: Log;
  readonly retentionMs: number;
}

export class Retention {
  readonly #options: RetentionOptions;
  readonly #timer: Timer;
  readonly #inTurn = createKeyedQueue();
  /** When exports began that are being read, by tenant. */
  readonly #readers = new Map<string, Set<{ readonly since: number }>>();
  #running: Promise<void> | undefined;
  #closed = false;

  constructor(options: RetentionOptions) {
    this.#options = options;
    this.#timer = options.clock.every(roundEveryMs, () => void this.run());
  }

  /** Trims every log as far as it goes. Never fails: what the store does not take is for the next hour. */
  run(): Promise<void> {
    return (this.#running ??= this.#trimAll().finally(() => (this.#running = undefined)));
  }

  /** Nothing is taken from the log of a tenant until the function that this gives is called. */
  async hold(tenant: string): Promise<() => void> {
    const readers = this.#readers.get(tenant) ?? new Set();
    this.#readers.set(tenant, readers);
    const reader = { since: this.#options.clock.elapsed() };
    readers.add(reader);
    // A batch that is just leaving.
    await this.#inTurn(tenant, () => Promise.resolve());
    return () => {
      readers.delete(reader);
      if (readers.size === 0) this.#readers.delete(tenant);
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#timer.cancel();
    await this.#running;
  }

  async #trimAll(): Promise<void> {
    const { store, log } = this.#options;
    const failed = (error: unknown): void =>
      log.warn({ err: error }, 'could not trim the audit log; trying again in an hour');
    const tenants = await listTenants(store).catch(failed);
    for (const tenant of tenants ?? []) await this.#trimTenant(tenant).catch(failed);
  }

  async #trimTenant(tenant: string): Promise<void> {
    for (let isMore = true; isMore;)
      isMore = await this.#inTurn(tenant, async () => {
        if (this.#closed || this.#isHeld(tenant)) return false;
        const batch = await this.#findBatch(tenant);
        if (batch.length > 0) await this.#remove(tenant, batch);
        return batch.length > 0;
      });
  }

  #isHeld(tenant: string): boolean {
    const oldest = this.#options.clock.elapsed() - holdMs;
    return [...(this.#readers.get(tenant) ?? [])].some(({ since }) => since > oldest);
  }

  /** The oldest entries whose time is over; none while it is not worth it. A damaged one goes by those around it. */
  async #findBatch(tenant: string): Promise<readonly Entry[]> {
    const { store, clock, retentionMs } = this.#options;
    const limit = clock.now() - retentionMs;
    const start = await readStart(store, tenant);
    if (start && start.at >= limit) return [];
    const oldest = await store.list({ prefix: logOf(tenant), limit: batchSize + 1 });
    const atOf = ({ value }: Entry): number | undefined => decodeEntry(value)?.at;
    const end = oldest.findIndex(entry => (atOf(entry) ?? 0) >= limit);
    // Never the newest one.
    const batch = oldest.slice(0, Math.min(end === -1 ? batchSize : end, oldest.length - 1, batchSize));
    const first = batch.map(atOf).find(at => at !== undefined) ?? limit;
    return batch.length === batchSize || first < limit - slackMs ? batch : [];
  }

  async #remove(tenant: string, batch: readonly Entry[]): Promise<void> {
    const { store, audit, onFault } = this.#options;
    const prefix = logOf(tenant);
    const [first, last] = [batch[0], batch.at(-1)];
    const next = first && last && (await store.list({ prefix, after: last.key, limit: 1 }))[0];
    if (!first || !last || !next) throw new Error('there is no entry that the log could be trimmed up to');
    const [from, to] = [numberOf(prefix, first), numberOf(prefix, last)];
    const prepared = await this.#prepare(tenant, to, last, next);
    // Nothing can stand for this entry: another one is the last of the batch.
    if (!prepared) return this.#remove(tenant, batch.slice(0, -1));
    const { changes, expectations } = prepared;
    const fault = findFault(from, batch);
    const detail = { from, to, ...(fault !== undefined && { fault }) };
    if (fault !== undefined) onFault(tenant, fault);
    const event = audit.auditChange(tenant, {
      ...{ type: 'audit.trimmed', by: linkParty, detail },
      ...(fault !== undefined && { outcome: 'failed' }),
    });
    const gone = batch.map(({ key }) => ({ type: 'delete' as const, key }));
    await store.commit(
      [...changes, ...gone, event],
      [...expectations, { key: first.key, value: first.value }, { key: next.key, value: next.value }],
    );
  }

  /** A checkpoint of the last entry that leaves; undefined for a damaged one, or when one was given that is not of it. */
  async #prepare(tenant: string, seq: number, last: Entry, next: Entry): Promise<Prepared | undefined> {
    const hash = decodeEntry(next.value)?.previous ?? decodeEntry(last.value)?.hash;
    if (hash === undefined) return undefined;
    return this.#options.checkpoints.prepare(tenant, seq, hash).catch((error: unknown) => {
      if (!isRollcallError(error, 'INTERNAL')) throw error;
      this.#options.onFault(tenant, error.message);
      return undefined;
    });
  }
}

/** Errors in entries that are deleted: this is the last time that they can be found. */
function findFault(from: number, batch: readonly Entry[]): string | undefined {
  const chain = createChainCheck(from);
  for (const [index, { value }] of batch.entries()) {
    const entry = decodeEntry(value);
    if (entry) chain.add(entry);
    else chain.addDamaged('not an entry', index + 1, undefined);
  }
  return chain.broken()?.sentence;
}
