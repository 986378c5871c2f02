/**
 * Removes what is left of a deleted tenant. The commit that deletes it keeps everything new out; what was there before
 * is ended here: links at once, then runs and nodes, each with its event. Until that is done a mark in the store says so
 * (access/accounts/tenants.ts), and a link that dies in between goes on with it when it starts.
 */
import type { Clock, Timer } from '../base/clock.js';
import { RollcallError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import type { LeavingTenant, Tenants } from './access/accounts/tenants.js';
import type { Enrollments } from './enrollment/enrollments.js';
import type { Registry } from './registry/registry.js';
import type { Runs } from './runs/runs.js';
import type { Sessions } from './sessions/sessions.js';

export interface TenantSweepOptions {
  readonly tenants: Pick<Tenants, 'listLeaving' | 'hasLeft'>;
  readonly registry: Pick<Registry, 'revokeAll'>;
  readonly sessions: Pick<Sessions, 'endTenant'>;
  readonly enrollments: Pick<Enrollments, 'endTenant'>;
  readonly runs: Pick<Runs, 'stopAll'>;
  readonly clock: Clock;
  readonly log: Log;
}

/** The pause before failed work is tried again, and before a deletion is found whose commit failed and was stored all the same, ms. */
const againEveryMs = 60_000;
const comment = 'the tenant was deleted';

export class TenantSweep {
  readonly #options: TenantSweepOptions;
  readonly #sweeping = new Map<string, Promise<void>>();
  readonly #timer: Timer;
  #closed = false;

  constructor(options: TenantSweepOptions) {
    this.#options = options;
    this.#timer = options.clock.every(againEveryMs, () => void this.resume());
  }

  /** Cuts the links of a tenant that has just been deleted; gives how many once they are closed. The rest goes on by itself. */
  async begin(tenant: string): Promise<number> {
    const cut = this.#cut(tenant);
    void this.resume();
    return cut;
  }

  /** Goes on with what is left of every deleted tenant. Never fails: what the store does not take is for the next time. */
  async resume(): Promise<void> {
    try {
      const leaving = await this.#options.tenants.listLeaving();
      await Promise.all(leaving.map(tenant => this.#sweepOnce(tenant)));
    } catch (error) {
      this.#failed(error);
    }
  }

  close(): void {
    this.#closed = true;
    this.#timer.cancel();
  }

  async #cut(tenant: string): Promise<number> {
    const { sessions, enrollments } = this.#options;
    const gone = new RollcallError('NODE_REVOKED', 'the tenant of this node was deleted');
    const ended = await Promise.all([sessions.endTenant(tenant, gone), enrollments.endTenant(tenant, gone)]);
    return ended[0] + ended[1];
  }

  #sweepOnce(leaving: LeavingTenant): Promise<void> {
    const { name } = leaving;
    let sweeping = this.#sweeping.get(name);
    if (!sweeping) {
      sweeping = this.#sweep(leaving)
        .catch((error: unknown) => this.#failed(error))
        .finally(() => this.#sweeping.delete(name));
      this.#sweeping.set(name, sweeping);
    }
    return sweeping;
  }

  async #sweep({ name, by }: LeavingTenant): Promise<void> {
    const { tenants, registry, runs, log } = this.#options;
    const isWanted = (): boolean => !this.#closed;
    if (!isWanted()) return;
    await Promise.all([
      this.#cut(name),
      runs.stopAll(name, by),
      registry.revokeAll(name, { by, comment }, isWanted),
    ]);
    if (!isWanted()) return;
    await tenants.hasLeft(name);
    log.info({ tenant: name }, 'nodes and runs of a deleted tenant have ended');
  }

  #failed(error: unknown): void {
    if (this.#closed) return;
    this.#options.log.warn(
      { err: error },
      'could not end what is left of a deleted tenant; trying again in a minute',
    );
  }
}
