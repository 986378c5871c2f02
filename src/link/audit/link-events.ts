/**
 * The events of the link itself in the audit log: that it started, read its certificates again, and stopped. After a crash
 * a start follows a start. It stands in the log of the default tenant, whose admins run the link; the logs of the other
 * tenants tell what concerns them.
 *
 * A store that takes nothing keeps no link from starting or stopping: an event waits until the store takes it.
 */
import { linkParty } from '../../audit-log/party.js';
import type { Clock, Timer } from '../../base/clock.js';
import type { Log } from '../../base/log.js';
import { version } from '../../base/version.js';
import { defaultTenant } from '../../protocol/limits.js';
import type { Change, Store } from '../../store/store.js';
import type { Audit, AuditEvent } from './audit.js';

const retryEveryMs = 30_000;
/** Certificates may be read again and again while the disk is full. */
const maxWaiting = 100;

export interface LinkEventsOptions {
  readonly store: Store;
  readonly audit: Audit;
  readonly clock: Clock;
  readonly log: Log;
  readonly trustDomain: string;
}

export class LinkEvents {
  readonly #options: LinkEventsOptions;
  readonly #timer: Timer;
  #waiting: Change[] = [];
  #writing: Promise<void> = Promise.resolve();
  #hasStarted = false;

  constructor(options: LinkEventsOptions) {
    this.#options = options;
    this.#timer = options.clock.every(retryEveryMs, () => void this.#write());
  }

  started(): Promise<void> {
    this.#hasStarted = true;
    return this.#tell({ type: 'link.started', detail: { version, trustDomain: this.#options.trustDomain } });
  }

  /** `certificate` is the SHA-256 of the DER, hex. */
  reloaded(certificate: string, notAfter: number): Promise<void> {
    const detail = { certificate, notAfter: new Date(notAfter).toISOString() };
    return this.#tell({ type: 'link.reloaded', detail });
  }

  /** The files are not fit to be used, and the certificates of before stay. */
  reloadFailed(reason: string): Promise<void> {
    return this.#tell({ type: 'link.reloaded', outcome: 'failed', detail: { reason } });
  }

  /** The last event there is: belongs after the close of everything that tells of something. */
  async close(): Promise<void> {
    this.#timer.cancel();
    if (this.#hasStarted) await this.#tell({ type: 'link.stopped', detail: { version } });
  }

  #tell(event: Omit<AuditEvent, 'by'>): Promise<void> {
    const { audit } = this.#options;
    // Made now: the time of an event that waits is when it happened.
    this.#waiting.push(audit.auditChange(defaultTenant, { ...event, by: linkParty }));
    this.#waiting = this.#waiting.slice(-maxWaiting);
    return this.#write();
  }

  /** One after the other, so that what is being written is not written twice. */
  #write(): Promise<void> {
    this.#writing = this.#writing.then(() => this.#writeWaiting());
    return this.#writing;
  }

  async #writeWaiting(): Promise<void> {
    const { store, log } = this.#options;
    const changes = this.#waiting;
    if (changes.length === 0) return;
    this.#waiting = [];
    try {
      await store.commit(changes);
    } catch (error) {
      this.#waiting = [...changes, ...this.#waiting].slice(-maxWaiting);
      log.warn({ err: error }, 'the audit log does not take an event of the link; trying again');
    }
  }
}
