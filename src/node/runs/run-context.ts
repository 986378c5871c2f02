/** Shared by all runs of a node. */
import type { Clock } from '../../base/clock.js';
import type { Log } from '../../base/log.js';
import type { Random } from '../../base/random.js';
import type { Hosting } from '../../app-host/hosting/hosting.js';
import type { ObjectStore } from '../../objects/object-store.js';
import type { NodeConfig } from '../node-config.js';
import type { AppSource } from './app-source.js';
import type { Journal } from './journal.js';
import type { LinkHolder } from './link-holder.js';
import type { Slots } from './runner-slots.js';

export interface RunContext {
  readonly apps: AppSource;
  readonly nodeConfig: NodeConfig;
  readonly link: LinkHolder;
  /** Opens the journal on first use; retries until the disk works or the signal is aborted. */
  readonly journal: (signal: AbortSignal) => Promise<Journal>;
  /** The journal, when it is open. */
  readonly openJournal: () => Journal | undefined;
  readonly objects: () => Promise<ObjectStore>;
  /** Resolves when runners can be started. */
  readonly hosting: (signal: AbortSignal) => Promise<Hosting>;
  readonly runnerSlots: Slots;
  /** For objects that are fetched or sent. */
  readonly transferSlots: Slots;
  /** Retries after a pause, until the work succeeds or the signal is aborted; failures are logged. */
  readonly persist: <T>(work: () => Promise<T>, signal: AbortSignal) => Promise<T>;
  readonly handlerTimeoutMs: number;
  readonly memoryBytes: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}
