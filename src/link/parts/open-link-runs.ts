/** The runs of apps, as the link opens them: who hosts server halves, what objects may take, which runs go on. */
import { join } from 'node:path';
import { defaultRunnerPrograms } from '../../app-host/hosting/runner-programs.js';
import type { Environment } from '../../app-host/hosting/spawn-runner.js';
import { DiskFloor } from '../../base/disk-floor.js';
import { createObjectStore } from '../../objects/object-store.js';
import type { Tenants } from '../access/accounts/tenants.js';
import type { Registry } from '../registry/registry.js';
import { Runs } from '../runs/runs.js';
import { openHosts, type Hosts } from '../runs/server/hosts.js';
import type { AuditTrail } from './audit-trail.js';
import type { Foundation } from './foundation.js';
import type { LinkContext } from './link-context.js';

/** App hosts may connect once these are open, and wait. */
export function openLinkHosts(
  { config, clock, random, log, lifecycle }: LinkContext,
  environment: Environment | undefined,
): Promise<Hosts> {
  const { isolation, 'app-host-socket': sockets, 'data-dir': folder } = config;
  return lifecycle.open(
    () =>
      openHosts({
        ...{ isolation, clock, log, folder, random, environment },
        sockets: new Map(sockets),
        programs: defaultRunnerPrograms(),
      }),
    opened => opened.close(),
  );
}

export function openLinkRuns(
  { config, clock, random, log, lifecycle }: LinkContext,
  { store, audit, metrics }: Foundation,
  { alerts, refusals }: AuditTrail,
  { registry, tenants, hosts }: { registry: Registry; tenants: Tenants; hosts: Hosts },
): Promise<Runs> {
  const { isolation, 'data-dir': folder } = config;
  const floor = new DiskFloor({ folder, minFreeBytes: config['min-free-disk'], clock });
  return lifecycle.open(
    () =>
      new Runs({
        ...{ store, audit, refusals, alerts, clock, random, log, registry, isolation, floor },
        objects: createObjectStore({
          folder: join(folder, 'objects'),
          maxRunBytes: config['object-space'],
          floor,
        }),
        hostingOf: tenant => hosts.of(tenant),
        countTenants: () => countTenants(tenants),
        maxRunning: config['max-runs'],
        maxWaiting: config['max-queued-messages'],
        memoryBytes: config['app-memory'],
        maxRunMs: config['max-run-time'],
        retentionMs: config['run-retention'],
        onAnswered: outcome => metrics.message(outcome),
      }),
    opened => opened.close(),
  );
}

/** Deleted ones count for as long as anything of theirs may still run. */
async function countTenants(tenants: Tenants): Promise<number> {
  return (await tenants.list()).length + (await tenants.listLeaving()).length;
}
