/** Opens the parts of the audit log: its checkpoints, the link's own events, its retention, and the refusals counted into it. */
import { createAlerts, type Alerts } from '../access/alerts.js';
import { openCheckpoints, type Checkpoints } from '../audit/checkpoints.js';
import { LinkEvents } from '../audit/link-events.js';
import { checkLogs } from '../audit/log-check.js';
import { Refusals } from '../audit/refusals.js';
import { Retention } from '../audit/retention.js';
import type { Foundation } from './foundation.js';
import type { LinkContext } from './link-context.js';

export interface AuditTrail {
  readonly alerts: Alerts;
  readonly checkpoints: Checkpoints;
  readonly linkEvents: LinkEvents;
  readonly retention: Retention;
  readonly refusals: Refusals;
  /** Verifies the logs in the background, and then removes what is too old; the link closes when that has ended. */
  startCheck(): void;
}

export async function openAuditTrail(context: LinkContext, foundation: Foundation): Promise<AuditTrail> {
  const { config, clock, random, log, lifecycle } = context;
  const { store, audit, trustDomain, metrics } = foundation;
  const alerts = createAlerts({ log, clock, count: event => metrics.alert(event) });
  const onFault = (tenant: string, fault: string): void =>
    alerts.raise('security.audit-log-changed', { tenant, fault });
  // Before the refusals, so that it closes after them and its checkpoint covers what they write last.
  const checkpoints = await lifecycle.open(
    () => openCheckpoints({ folder: config['data-dir'], store, audit, clock, random, log, trustDomain }),
    opened => opened.close(),
  );
  // After the checkpoints and before every other part that writes events: the stop is the last event, and a checkpoint covers it.
  const linkEvents = await lifecycle.open(
    () => new LinkEvents({ store, audit, clock, log, trustDomain }),
    opened => opened.close(),
  );
  const retention = await lifecycle.open(
    () =>
      new Retention({
        ...{ store, audit, checkpoints, clock, log, onFault },
        retentionMs: config['audit-retention'],
      }),
    opened => opened.close(),
  );
  const refusals = await lifecycle.open(
    () =>
      new Refusals({
        ...{ clock, store, audit, log },
        onCount: (event, reason) => metrics.refusal(event, reason),
        onPrincipal: ({ tenant, id, name }, address, reason) =>
          alerts.raise('security.request-refused', { tenant, account: id, name, address, reason }),
      }),
    counter => counter.close(),
  );
  return {
    ...{ alerts, checkpoints, linkEvents, retention, refusals },
    startCheck() {
      const checked = checkLogs({ store, audit, log, key: checkpoints.publicKey, onFault });
      lifecycle.onClose(() => checked);
      void checked.then(() => retention.run());
    },
  };
}
