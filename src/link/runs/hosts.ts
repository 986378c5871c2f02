/**
 * Where server halves run: as children of the link, or, by tenant, with the app host that is connected to a socket of that
 * tenant. Whoever connects waits until what is left of earlier runs is expected.
 */
import { createHosting } from '../../app-host/create-hosting.js';
import type { HostingOptions } from '../../app-host/hosting-options.js';
import type { Hosting } from '../../app-host/hosting.js';
import { createLifecycle } from '../../base/lifecycle.js';

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
}

export async function openHosts({ sockets, ...options }: HostsOptions): Promise<Hosts> {
  const lifecycle = createLifecycle();
  const byTenant = new Map<string, Hosting>();
  const open = (socketPath?: string): Promise<Hosting> =>
    lifecycle.open(
      () => createHosting({ ...options, socketPath, held: true }),
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
    } else for (const [tenant, path] of sockets) byTenant.set(tenant, await open(path));
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
