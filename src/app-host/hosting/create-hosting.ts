/** Hosting of the kind that is asked for. */
import { RollcallError } from '../../base/errors.js';
import type { HostingOptions } from './hosting-options.js';
import { ProcessHosting } from './process-hosting.js';
import { createSubprocessHosting } from './subprocess-hosting.js';
import type { Hosting } from './hosting.js';

export type { HostingOptions } from './hosting-options.js';

/** Listens when it resolves. CONFIG_INVALID when the socket cannot be there, or not safely. */
export async function createHosting(options: HostingOptions): Promise<Hosting> {
  const { isolation, socketPath, hostKey } = options;
  if (isolation === 'subprocess') return createSubprocessHosting(options);
  if (socketPath !== undefined && hostKey !== undefined)
    return ProcessHosting.listen({ ...options, socketPath, hostKey });
  throw new RollcallError('CONFIG_INVALID', 'apps in a process of their own need a socket and its key', {
    hint: 'name one in a folder that only the link, or the agent, and the app host can enter',
  });
}
