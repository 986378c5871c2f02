/** Every REST route, from the files that answer them. To make them asks nothing of what is behind them; to answer does. */
import { adminRoutes } from './admin-routes.js';
import { auditRoutes } from './audit-routes.js';
import { authRoutes } from './auth-routes.js';
import { healthRoutes } from './health-routes.js';
import { nodeRoutes } from './node-routes.js';
import type { Routes } from './route.js';
import { runRoutes } from './run-routes.js';

export interface RouteOptions {
  readonly health: Parameters<typeof healthRoutes>[0];
  readonly auth: Parameters<typeof authRoutes>[0];
  readonly nodes: Parameters<typeof nodeRoutes>[0];
  readonly runs: Parameters<typeof runRoutes>[0];
  readonly administration: Parameters<typeof adminRoutes>[0];
  readonly audit: Parameters<typeof auditRoutes>[0];
}

export function createRoutes({ health, auth, nodes, runs, administration, audit }: RouteOptions): Routes {
  return {
    ...healthRoutes(health),
    ...authRoutes(auth),
    ...nodeRoutes(nodes),
    ...runRoutes(runs),
    ...adminRoutes(administration),
    ...auditRoutes(audit),
  };
}
