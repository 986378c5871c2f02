/** Reads the audit log of a tenant for those who may: pages, the whole log, and a signed checkpoint of its end. */
import type { Checkpoint } from '../../audit-log/checkpoint.js';
import { isRollcallError } from '../../base/errors.js';
import type { Store } from '../../store/store.js';
import type { Checkpoints } from './checkpoints.js';
import { listEventPage, type EventPage, type EventPageQuery } from './query.js';
import { exportLines } from './export.js';
import type { Retention } from './retention.js';

export interface AuditReading {
  listEvents(tenant: string, query: EventPageQuery): Promise<EventPage>;
  /** Lines without line ends, with a checkpoint that covers the newest entry. */
  exportLines(tenant: string): AsyncIterable<string>;
  /** Of the newest entry, made for this question when there is none; NOT_FOUND while the log is empty. */
  checkpoint(tenant: string): Promise<Checkpoint>;
}

export interface AuditReadingOptions {
  readonly store: Store;
  readonly checkpoints: Checkpoints;
  readonly retention: Pick<Retention, 'hold'>;
  readonly trustDomain: string;
}

export function createAuditReading(options: AuditReadingOptions): AuditReading {
  const { store, checkpoints, retention, trustDomain } = options;
  const { publicKeyPem } = checkpoints;
  return {
    listEvents: (tenant, query) => listEventPage(store, tenant, query),
    async *exportLines(tenant) {
      await checkpoints.make(tenant).catch((error: unknown) => {
        // An empty log, or one that was changed: the lines show it.
        if (!isRollcallError(error, 'NOT_FOUND') && !isRollcallError(error, 'INTERNAL')) throw error;
      });
      const release = await retention.hold(tenant);
      try {
        yield* exportLines({ store, tenant, trustDomain, publicKeyPem });
      } finally {
        release();
      }
    },
    checkpoint: tenant => checkpoints.make(tenant),
  };
}
