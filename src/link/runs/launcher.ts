/**
 * Which runs begin, and when: those of a tenant as they came, as many at once as may, once there is somebody to host them.
 * Where apps are children of the link, those of one tenant alone.
 */
import { linkParty } from '../../audit-log/party.js';
import type { Hosting, Isolation } from '../../app-host/hosting/hosting.js';
import { RollcallError, toRollcallError } from '../../base/errors.js';
import type { OpenRun } from './open-run.js';

export interface RunLauncher {
  /** RUN_REFUSED where runs of this tenant cannot be hosted. */
  requirePlace(tenant: string): Promise<void>;
  /** One that is to begin when it may. */
  add(run: OpenRun): void;
  /** One whose server half was started before this link was; false where that cannot have outlived it. */
  resume(run: OpenRun): boolean;
  /** It is over. */
  remove(run: OpenRun): void;
  /** Nothing is started any more. */
  close(): void;
}

export interface RunLauncherOptions {
  readonly isolation: Isolation;
  /** Where server halves of a tenant run; undefined where they cannot. */
  readonly hostingOf: (tenant: string) => Hosting | undefined;
  readonly countTenants: () => Promise<number>;
  /** Of one tenant, running at once; the others wait. */
  readonly maxRunning: number;
}

export function createRunLauncher(options: RunLauncherOptions): RunLauncher {
  const { isolation, hostingOf, countTenants, maxRunning } = options;
  const pending = new Set<OpenRun>();
  const running = new Set<OpenRun>();
  const heard = new WeakSet<Hosting>();
  let closed = false;

  /** A supervisor that connects later finds what waits. */
  function findHosting(tenant: string): Hosting | undefined {
    const hosting = hostingOf(tenant);
    if (hosting && !heard.has(hosting)) {
      heard.add(hosting);
      hosting.onReady(launchPending);
    }
    return hosting;
  }

  /** Children of the link could look at one another. */
  async function requireAlone(): Promise<void> {
    if (isolation !== 'subprocess' || (await countTenants()) <= 1) return;
    throw new RollcallError('RUN_REFUSED', 'apps of several tenants may not run as children of one link', {
      hint: 'start the link with --isolation process and an app host for each tenant',
    });
  }

  function whyWaiting(tenant: string, hosting: Hosting | undefined): string | undefined {
    const ofTenant = [...running].filter(each => each.tenant === tenant).length;
    if (ofTenant >= maxRunning) return 'waiting for other runs to end';
    return hosting?.isReady() ? undefined : 'waiting for an app host';
  }

  async function launch(run: OpenRun, hosting: Hosting): Promise<void> {
    try {
      await requireAlone();
      await run.launch(hosting);
    } catch (error) {
      await run.end({ outcome: 'failed', reason: toRollcallError(error).message, by: linkParty });
    }
  }

  function launchPending(): void {
    if (closed) return;
    for (const run of pending) {
      const hosting = findHosting(run.tenant);
      const reason = whyWaiting(run.tenant, hosting);
      if (hosting && reason === undefined) {
        pending.delete(run);
        running.add(run);
        void launch(run, hosting);
      } else void run.wait(reason ?? 'waiting').catch(() => undefined);
    }
  }

  return {
    async requirePlace(tenant) {
      if (!findHosting(tenant))
        throw new RollcallError('RUN_REFUSED', 'this link has no place for apps to run', {
          hint: 'start it with --app-host-socket PATH and beside it rollcall app-host; for one machine and for development --isolation subprocess',
        });
      await requireAlone();
    },
    add(run) {
      pending.add(run);
      launchPending();
    },
    resume(run) {
      const hosting = findHosting(run.tenant);
      if (run.record().hostedBy !== 'process' || hosting?.isolation !== 'process') return false;
      running.add(run);
      run.resume(hosting);
      return true;
    },
    remove(run) {
      pending.delete(run);
      running.delete(run);
      launchPending();
    },
    close: () => void (closed = true),
  };
}
