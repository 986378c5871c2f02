/**
 * The record of one run that is not over, in memory and on the disk. Changes are made one after the other, and each is one
 * commit together with its audit events.
 */
import type { Clock } from '../../base/clock.js';
import { isRollcallError, RollcallError } from '../../base/errors.js';
import { createKeyedQueue } from '../../base/keyed-queue.js';
import { untilStored } from '../../store/retry.js';
import type { Change, Store } from '../../store/store.js';
import type { Audit } from '../audit/audit.js';
import { runKey } from './run-keys.js';
import { decodeRunRecord, encodeRunRecord, type RunCounts, type RunRecord } from './run-record.js';
import { decideRun, type RunEnding, type RunEvent } from './run-status.js';

export interface RunRecordWriterOptions {
  readonly store: Store;
  readonly audit: Audit;
  readonly clock: Clock;
  /** Returns the current counts, which every change stores too. */
  readonly counts: () => RunCounts;
  /** Called after each commit. */
  readonly onChange: () => void;
}

export class RunRecordWriter {
  readonly #options: RunRecordWriterOptions;
  readonly #inTurn = createKeyedQueue();
  #stored: RunRecord;

  constructor(stored: RunRecord, options: RunRecordWriterOptions) {
    this.#stored = stored;
    this.#options = options;
  }

  /** The record as it is on the disk. */
  get stored(): RunRecord {
    return this.#stored;
  }

  /** Resolves to false if the event changes nothing. */
  change(event: RunEvent): Promise<boolean> {
    const { audit, counts } = this.#options;
    return this.#inTurn('record', async () => {
      for (;;) {
        const decision = decideRun(this.#stored, event);
        if (!decision) return false;
        const audited = decision.audit.map(each => audit.auditChange(this.#stored.tenant, each));
        if (await this.#put({ ...decision.record, counts: counts() }, audited)) return true;
      }
    });
  }

  /** Records that the server half has loaded; retries a full disk as long as `isWanted`. */
  async begin(isWanted: () => boolean): Promise<void> {
    const { clock } = this.#options;
    await untilStored(clock, () => this.change({ type: 'running', at: clock.now() }), isWanted);
  }

  /** Records the end; retries until it is stored, because a full disk must not leave an ended run open. */
  async finish(ending: RunEnding): Promise<void> {
    const { clock } = this.#options;
    await untilStored(clock, () => this.change({ type: 'finished', at: clock.now(), ...ending }));
  }

  /** Stores the counts if they have changed and, when its turn comes, `isWanted` still holds. */
  async saveCounts(isWanted: () => boolean): Promise<void> {
    await this.#inTurn('record', async () => {
      const counts = this.#options.counts();
      if (!isWanted() || JSON.stringify(counts) === JSON.stringify(this.#stored.counts)) return;
      await this.#put({ ...this.#stored, counts }, []);
    });
  }

  /** Resolves to false if the store holds another record than expected: an earlier commit failed but was stored. */
  async #put(next: RunRecord, audited: readonly Change[]): Promise<boolean> {
    const { store, onChange } = this.#options;
    const key = runKey(next.tenant, next.id);
    try {
      await store.commit(
        [{ type: 'put', key, value: encodeRunRecord(next) }, ...audited],
        [{ key, value: encodeRunRecord(this.#stored) }],
      );
    } catch (error) {
      if (!isRollcallError(error, 'STORE_CONFLICT')) throw error;
      const found = await store.get(key);
      if (!found)
        throw new RollcallError('INTERNAL', 'the record of an open run is missing', { cause: error });
      this.#stored = decodeRunRecord(found);
      return false;
    }
    this.#stored = next;
    onChange();
    return true;
  }
}
