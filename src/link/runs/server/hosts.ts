/**
 * Where server halves run: as children of the link, or, by tenant, with the app host that is connected to a socket of that
 * tenant. Anyone who connects waits until what is left of earlier runs is expected.
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
  /** Undefined where a tenant has no place for its apps. */
  of(tenant: string): Hosting | undefined;
  /** Lets in who waits to connect. */
  open(): void;
  close(): Promise<void>;
}

export interface HostsOptions extends Pick<
  HostingOptions,
  'isolation' | 'programs' | 'environment' | 'clock' | 'log'
> {
  /** Paths by tenant. */
  readonly sockets: ReadonlyMap<string, string>;
  /** Where the keys of the sockets are. */
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
        'APPS RUN AS THE USER OF THIS LINK and can read its keys (--isolation subprocess): for one machine and for development',
      );
      shared = await open();
    } else {
      for (const [tenant, socketPath] of sockets) {
        const keyPath = join(folder, keyFileOf(tenant));
        const hostKey = await openHostKey(keyPath, random);
        byTenant.set(tenant, await open({ socketPath, hostKey }));
        options.log.info({ tenant, socketPath, keyPath }, 'app hosts connect here, with this key');
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
