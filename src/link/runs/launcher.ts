/**
 * Decides when runs start: those of a tenant in the order of their arrival, up to `maxRunning` at once, and only while a hosting
 * is ready. Where apps are children of the link, only a link with a single tenant runs them.
 */
import { linkParty } from '../../audit-log/party.js';
import type { Hosting, Isolation } from '../../app-host/hosting/hosting.js';
import { RollcallError, toRollcallError } from '../../base/errors.js';
import type { OpenRun } from './open-run.js';

export interface RunLauncherOptions {
  readonly isolation: Isolation;
  /** Undefined for a tenant without a place for its apps. */
  readonly hostingOf: (tenant: string) => Hosting | undefined;
  readonly countTenants: () => Promise<number>;
  /** Maximum number of runs of one tenant at the same time; further runs wait. */
  readonly maxRunning: number;
}

export class RunLauncher {
  readonly #options: RunLauncherOptions;
  readonly #pending = new Set<OpenRun>();
  readonly #running = new Set<OpenRun>();
  /** Hostings whose `onReady` is subscribed. */
  readonly #subscribed = new WeakSet<Hosting>();
  #isClosed = false;

  constructor(options: RunLauncherOptions) {
    this.#options = options;
  }

  /** Rejects with RUN_REFUSED if runs of this tenant cannot be hosted. */
  async requireHosting(tenant: string): Promise<void> {
    if (!this.#findHosting(tenant))
      throw new RollcallError('RUN_REFUSED', 'this link does not host apps of this tenant', {
        hint: 'start the link with --app-host-socket PATH and run `rollcall app-host` beside it; use --isolation subprocess only on a single machine or for development',
      });
    await this.#requireOneTenant();
  }

  /** Starts the run as soon as possible. */
  add(run: OpenRun): void {
    this.#pending.add(run);
    this.#launchPending();
  }

  /** Resumes a run whose server half an earlier process started; false if that cannot be alive. */
  resume(run: OpenRun): boolean {
    const hosting = this.#findHosting(run.tenant);
    if (run.record().hostedBy !== 'process' || hosting?.isolation !== 'process') return false;
    this.#running.add(run);
    run.resume(hosting);
    return true;
  }

  /** The run has ended: another one may start. */
  remove(run: OpenRun): void {
    this.#pending.delete(run);
    this.#running.delete(run);
    this.#launchPending();
  }

  /** Starts no further run. */
  close(): void {
    this.#isClosed = true;
  }

  /** Subscribes to the hosting, so that a supervisor that connects later starts the waiting runs. */
  #findHosting(tenant: string): Hosting | undefined {
    const hosting = this.#options.hostingOf(tenant);
    if (hosting && !this.#subscribed.has(hosting)) {
      this.#subscribed.add(hosting);
      hosting.onReady(() => this.#launchPending());
    }
    return hosting;
  }

  /** Children of the link share its user, so that apps of two tenants could read each other's files. */
  async #requireOneTenant(): Promise<void> {
    const { isolation, countTenants } = this.#options;
    if (isolation !== 'subprocess' || (await countTenants()) <= 1) return;
    throw new RollcallError('RUN_REFUSED', 'apps of several tenants must not run as children of one link', {
      hint: 'start the link with --isolation process and an app host for each tenant',
    });
  }

  #launchPending(): void {
    if (this.#isClosed) return;
    for (const run of this.#pending) {
      const hosting = this.#findHosting(run.tenant);
      const reason = this.#whyWaiting(run.tenant, hosting);
      if (hosting && reason === undefined) {
        this.#pending.delete(run);
        this.#running.add(run);
        void this.#launch(run, hosting);
      } else void run.wait(reason ?? 'waiting').catch(() => undefined);
    }
  }

  #whyWaiting(tenant: string, hosting: Hosting | undefined): string | undefined {
    const ofTenant = [...this.#running].filter(each => each.tenant === tenant).length;
    if (ofTenant >= this.#options.maxRunning) return 'waiting for other runs to end';
    return hosting?.isReady() ? undefined : 'waiting for an app host';
  }

  async #launch(run: OpenRun, hosting: Hosting): Promise<void> {
    try {
      await this.#requireOneTenant();
      await run.launch(hosting);
    } catch (error) {
      await run.end({ outcome: 'failed', reason: toRollcallError(error).message, by: linkParty });
    }
  }
}
