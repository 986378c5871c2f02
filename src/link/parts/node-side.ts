/** The sessions and enrollments of nodes. */
import type { NodeFrame, Ready } from '../../protocol/generated/rollcall/v1/link.js';
import type { TrustBundle } from '../../protocol/generated/rollcall/v1/enrollment.js';
import { Control } from '../control.js';
import { Enrollments } from '../enrollment/enrollments.js';
import type { Registry } from '../registry/registry.js';
import type { Runs } from '../runs/runs.js';
import type { Session } from '../sessions/session.js';
import { Sessions, type SessionListener } from '../sessions/sessions.js';
import type { AuditTrail } from './audit-trail.js';
import type { Foundation } from './foundation.js';
import type { LinkContext } from './link-context.js';

/** Passes what happens on sessions to the runs, which are opened after the sessions. */
class RunsListener implements SessionListener {
  #runs: Runs | undefined;

  use(runs: Runs): void {
    this.#runs = runs;
  }

  onOnline(session: Session, ready: Ready): void {
    this.#runs?.frames.attach(session, ready);
  }

  onOffline(session: Session): void {
    this.#runs?.frames.detach(session);
  }

  onFrame(session: Session, frame: NodeFrame): void {
    this.#runs?.frames.receive(session, frame);
  }
}

export interface NodeSide {
  readonly sessions: Sessions;
  readonly enrollments: Enrollments;
  /** The operations of an operator on nodes. */
  readonly control: Control;
  /** The roots by which nodes verify the link. */
  readonly trustBundle: () => TrustBundle;
  /** From now on the runs hear of the sessions. */
  readonly useRuns: (runs: Runs) => void;
}

export function createNodeSide(
  { config, clock, random, log }: LinkContext,
  { metrics, trustDomain, authority, certificates }: Foundation,
  { alerts, refusals }: AuditTrail,
  registry: Registry,
): NodeSide {
  const trustBundle = (): TrustBundle => ({ serverRoots: [...certificates.identity.roots] });
  const shared = { registry, trustDomain, clock, random, log, metrics };
  const certificateLifetimeMs = config['certificate-lifetime'];
  const listener = new RunsListener();
  const sessions = new Sessions({ ...shared, listener, certificateLifetimeMs, authority });
  const enrollments = new Enrollments({
    ...{ ...shared, alerts, authority, refusals, trustBundle, certificateLifetimeMs },
    bindingTypes: config.bindings,
    linkAddresses: config['link-addresses'],
    maxInFlight: config['max-enrollments'],
  });
  const issuerKeys = authority.certificates.map(each =>
    each.publicKey.export({ type: 'spki', format: 'der' }),
  );
  const ownKeys = (): readonly Buffer[] => [...issuerKeys, ...certificates.identity.publicKeys];
  return {
    ...{ sessions, enrollments, trustBundle },
    control: new Control({ registry, sessions, enrollments, clock, ownKeys }),
    useRuns: runs => listener.use(runs),
  };
}
