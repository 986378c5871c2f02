/**
 * The hostings of server halves: one for the whole link, which starts them as its children, or one for each tenant, whose app
 * host connects to a socket of that tenant. Connections wait until `open`, so that the runners of earlier runs are expected by
 * then.
 */
import { join } from 'node:path';
import { createHosting } from '../../../app-host/hosting/create-hosting.js';
import type { HostingOptions } from '../../../app-host/hosting/hosting-options.js';
import type { Hosting } from '../../../app-host/hosting/hosting.js';
import { openHostKey } from '../../../app-host/hosting/host-key.js';
import { createLifecycle } from '../../../base/lifecycle.js';
import type { Random } from '../../../base/random.js';
import { defaultTenant } from '../../../protocol/limits.js';

export interface Hosts {
  /** Undefined for a tenant whose apps are not hosted. */
  of(tenant: string): Hosting | undefined;
  /** Accepts the waiting connections, and all later ones. */
  open(): void;
  close(): Promise<void>;
}

export interface HostsOptions extends Pick<
  HostingOptions,
  'isolation' | 'programs' | 'environment' | 'clock' | 'log'
> {
  /** Paths of the sockets, by tenant. */
  readonly sockets: ReadonlyMap<string, string>;
  /** The folder of the keys of the sockets. */
  readonly folder: string;
  readonly random: Random;
}

export async function openHosts({ sockets, folder, random, ...options }: HostsOptions): Promise<Hosts> {
  const lifecycle = createLifecycle();
  const byTenant = new Map<string, Hosting>();
  const open = (at: Pick<HostingOptions, 'socketPath' | 'hostKey'> = {}): Promise<Hosting> =>
    lifecycle.open(
      () => createHosting({ ...options, ...at, held: true }),
      hosting => hosting.close(),
    );
  let shared: Hosting | undefined;
  try {
    if (options.isolation === 'subprocess') {
      options.log.warn(
        {},
        'APPS RUN AS THE USER OF THIS LINK and can read its keys (--isolation subprocess): use this only on a single machine or for development',
      );
      shared = await open();
    } else {
      for (const [tenant, socketPath] of sockets) {
        const keyPath = join(folder, keyFileOf(tenant));
        const hostKey = await openHostKey(keyPath, random);
        byTenant.set(tenant, await open({ socketPath, hostKey }));
        options.log.info(
          { tenant, socketPath, keyPath },
          'waiting for app hosts on this socket, with this key',
        );
      }
    }
  } catch (error) {
    await lifecycle.close();
    throw error;
  }
  return {
    of: tenant => shared ?? byTenant.get(tenant),
    open() {
      for (const hosting of shared ? [shared] : byTenant.values()) hosting.open();
    },
    close: () => lifecycle.close(),
  };
}

function keyFileOf(tenant: string): string {
  return tenant === defaultTenant ? 'app-host.key' : `app-host-${encodeURIComponent(tenant)}.key`;
}
