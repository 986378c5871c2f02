/** Both ports of the link, on the certificates that it has now. */
import type { SecureContextOptions } from 'node:tls';
import { toRollcallError } from '../../base/errors.js';
import { toPem } from '../../base/pem.js';
import type { Store } from '../../store/store.js';
import type { Access } from '../access/access.js';
import { Administration } from '../administration.js';
import type { Alive } from '../alive.js';
import { createAuditReading } from '../audit/audit-reading.js';
import { openControlPort } from '../doors/control-port.js';
import { openNodePort, type Port } from '../doors/node-port.js';
import type { ServerIdentity } from '../doors/tls/server-identity.js';
import { RunControl } from '../run-control.js';
import type { Runs } from '../runs/runs.js';
import type { TenantSweep } from '../tenant-sweep.js';
import type { AuditTrail } from './audit-trail.js';
import type { Foundation } from './foundation.js';
import type { LinkContext } from './link-context.js';
import type { NodeSide } from './node-side.js';
import type { OwnAddresses } from './own-addresses.js';

/** The operations that the ports give access to. */
export interface Rooms {
  readonly foundation: Foundation;
  readonly alive: Alive;
  readonly auditTrail: AuditTrail;
  readonly nodeSide: NodeSide;
  readonly access: Access;
  readonly runs: Runs;
  readonly sweep: TenantSweep;
  readonly addresses: OwnAddresses;
}

export interface Ports {
  readonly node: Port;
  readonly control: Port;
}

/** The control port first: the address of the node port is known to it once that is open. */
export async function openPorts(context: LinkContext, rooms: Rooms): Promise<Ports> {
  const control = await openControl(context, rooms);
  rooms.addresses.control = control.address;
  const node = await openNodes(context, rooms);
  rooms.addresses.node = node.address;
  return { control, node };
}

/** Reads the certificate files again once they have changed; live sessions stay. */
export function watchCertificates({ lifecycle }: LinkContext, rooms: Rooms, ports: Ports): void {
  const { certificates } = rooms.foundation;
  const { linkEvents } = rooms.auditTrail;
  const { sessions, trustBundle } = rooms.nodeSide;
  certificates.watch({
    use(fresh) {
      ports.node.reload(nodeContextOf(fresh, rooms.foundation));
      ports.control.reload(contextOf(fresh));
    },
    async onReloaded({ fingerprint, expiresAt }) {
      sessions.broadcast({ frame: { $case: 'trustBundle', value: trustBundle() } });
      await linkEvents.reloaded(fingerprint, expiresAt);
    },
    onFailed: ({ code }) => linkEvents.reloadFailed(code),
  });
  lifecycle.onClose(() => certificates.close());
}

function openControl(context: LinkContext, rooms: Rooms): Promise<Port> {
  const { config, lifecycle } = context;
  const { access, runs, sweep, addresses, alive } = rooms;
  const { store, certificates, trustDomain } = rooms.foundation;
  const { checkpoints, retention } = rooms.auditTrail;
  return lifecycle.open(
    () =>
      openControlPort({
        ...sharedOptions(context, rooms),
        address: config['control-address'],
        context: contextOf(certificates.identity),
        control: rooms.nodeSide.control,
        runControl: new RunControl(runs),
        access,
        administration: new Administration(access, tenant => sweep.begin(tenant)),
        auditReading: createAuditReading({ store, checkpoints, retention, trustDomain }),
        assignment: () => ({
          trustDomain,
          links: addresses.links().map(address => ({ address })),
          serverRoots: certificates.identity.roots.map(der => toPem(der, 'CERTIFICATE')).join(''),
        }),
        requireAuth: config['require-auth'],
        requestCertificate: config['control-client-certificates'],
        ready: () => checkReady(store, () => alive.failure()),
      }),
    port => port.close(),
  );
}

function openNodes(context: LinkContext, rooms: Rooms): Promise<Port> {
  const { config, lifecycle } = context;
  const { sessions, enrollments } = rooms.nodeSide;
  const { foundation, runs } = rooms;
  return lifecycle.open(
    () =>
      openNodePort({
        ...sharedOptions(context, rooms),
        address: config['node-address'],
        context: nodeContextOf(foundation.certificates.identity, foundation),
        sessions,
        enrollments,
        objects: runs.frames,
      }),
    port => port.close(),
  );
}

function sharedOptions({ config, clock, log }: LinkContext, { foundation, auditTrail }: Rooms) {
  const caps = { total: config['max-connections'], perAddress: config['max-connections-per-address'] };
  return { caps, clock, log, metrics: foundation.metrics, refusals: auditTrail.refusals };
}

function contextOf({ certificate, key }: ServerIdentity): { cert: string; key: string } {
  return { cert: certificate, key };
}

/** Nodes show certificates of the link's authority. */
function nodeContextOf(identity: ServerIdentity, { authority }: Foundation): SecureContextOptions {
  return { ...contextOf(identity), ca: authority.certificates.map(each => each.toString()) };
}

async function checkReady(store: Store, failure: () => unknown): Promise<void> {
  await store.get('meta/schema');
  const failed = failure();
  if (failed !== undefined) throw toRollcallError(failed);
}
