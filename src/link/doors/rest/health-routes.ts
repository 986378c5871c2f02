/** /healthz (the process answers), /readyz (the store answers) and /metrics. */
import type { RouteName } from '../access-table.js';
import type { Route } from './route.js';

type HealthRoute = Extract<RouteName, 'GET /healthz' | 'GET /readyz' | 'GET /metrics'>;

export interface HealthRouteOptions {
  /** Rejects when the link cannot serve. */
  readonly ready: () => Promise<void>;
  readonly metrics: () => Promise<{ readonly type: string; readonly body: string }>;
}

export function healthRoutes({ ready, metrics }: HealthRouteOptions): Record<HealthRoute, Route> {
  return {
    'GET /healthz': {
      does: 'says `ok` while the process answers',
      answer({ reply }) {
        void reply.type('text/plain; charset=utf-8');
        return 'ok\n';
      },
    },
    'GET /readyz': {
      does: 'says `ready` while the store answers',
      async answer({ reply }) {
        await ready();
        void reply.type('text/plain; charset=utf-8');
        return 'ready\n';
      },
    },
    'GET /metrics': {
      does: 'metrics in the text format of Prometheus',
      async answer({ reply }) {
        const { type, body } = await metrics();
        void reply.type(type);
        return body;
      },
    },
  };
}
