/**
 * The control port: the protocol offered decides. A peer that offers `http/1.1` (browsers, curl, Prometheus) gets
 * HTTP, one that offers only `h2` gets gRPC. One doorkeeper stands before both.
 */
import { randomBytes } from 'node:crypto';
import { version } from '../../base/version.js';
import { AdministrationService } from '../../protocol/generated/rollcall/v1/administration.js';
import { ControlService } from '../../protocol/generated/rollcall/v1/control.js';
import { RunsService } from '../../protocol/generated/rollcall/v1/runs.js';
import type { Access } from '../access/access.js';
import type { Credentials } from '../access/authenticate.js';
import type { Administration } from '../administration.js';
import type { AuditReading } from '../audit/audit-reading.js';
import type { Control } from '../control.js';
import type { RunControl } from '../run-control.js';
import type { Assignment } from './assignment.js';
import { anybodysRule } from './access-table.js';
import { Doorkeeper } from './doorkeeper.js';
import { createAdministrationDoor } from './grpc/administration-door.js';
import { createControlDoor } from './grpc/control-door.js';
import { createGrpcDoor, type GrpcDoor } from './grpc/grpc-door.js';
import { createRunsDoor } from './grpc/runs-door.js';
import { HeldRights } from './held-rights.js';
import { KnownConnections } from './known-connections.js';
import { deadlines, type Port, type PortOptions } from './node-port.js';
import { RestDoor } from './rest/rest-door.js';
import type { Routes } from './rest/route.js';
import { createRoutes } from './rest/routes.js';
import type { Connection } from './tls/connection.js';
import { Listener } from './tls/listener.js';

export interface ControlPortOptions extends PortOptions {
  readonly control: Control;
  readonly runControl: RunControl;
  readonly access: Access;
  readonly administration: Administration;
  readonly auditReading: AuditReading;
  readonly assignment: () => Assignment;
  /** Requires a token for what is public otherwise. */
  readonly requireAuth: boolean;
  /** Asks callers for a certificate, for services that authenticate by one. */
  readonly requestCertificate: boolean;
  /** Rejects when the link cannot serve. */
  readonly ready: () => Promise<void>;
}

const streamsPerConnection = 64;

export async function openControlPort(options: ControlPortOptions): Promise<Port> {
  const { clock, log, metrics, refusals, access, requireAuth } = options;
  const rights = new HeldRights({ watchRights: access.watchRights, clock });
  const known = new KnownConnections({ rights, clock });
  const doorkeeper = new Doorkeeper({ authenticate: access.authenticate, refusals, clock, requireAuth });
  const guards: Guards = { rights, known, doorkeeper };
  const door = openGrpcDoor(options, guards, () => listener);
  const routes = routesOf(options);
  const rest = await RestDoor.open({ routes, ...guards, clock, log });

  const listener = new Listener({
    address: options.address,
    context: options.context,
    requestCertificate: options.requestCertificate,
    chooseProtocol: offered => ['http/1.1', 'h2'].find(each => offered.includes(each)),
    caps: options.caps,
    deadlines,
    clock,
    log,
    onHandshake: outcome => metrics.handshake('control', outcome),
    onConnection(connection, socket) {
      if (socket.alpnProtocol === 'h2') {
        door.serve(socket);
        return;
      }
      rest.serve(socket, connection);
    },
  });
  const address = await listener.listen();
  return {
    address,
    reload: context => listener.reload(context),
    stopAccepting: () => listener.stopAccepting(),
    async close() {
      const closed = listener.close();
      door.close();
      await rest.close();
      await closed;
      known.close();
      rights.close();
    },
  };
}

interface Guards {
  readonly rights: HeldRights;
  readonly known: KnownConnections;
  readonly doorkeeper: Doorkeeper;
}

function openGrpcDoor(
  options: ControlPortOptions,
  { rights, known, doorkeeper }: Guards,
  listener: () => Listener,
): GrpcDoor {
  const { control, runControl, administration, auditReading: audit, assignment, clock, log } = options;
  const door = createGrpcDoor({
    listener,
    async admit(rule, metadata, connection, occasion) {
      const since = rights.changes;
      const header = (name: string) => metadata.get(name)[0]?.toString();
      const credentials = credentialsOf(header, connection, options.requestCertificate);
      const principal = await doorkeeper.admit(rule, credentials, occasion);
      const judge = (): Promise<unknown> => doorkeeper.admit(anybodysRule, credentials, 'hold');
      if (principal) known.recognise(connection, principal, { since, judge });
      return principal;
    },
    enter: (who, request) => doorkeeper.enter(who, request),
    rights,
    onNotAllowed: (principal, message) =>
      doorkeeper.auditRefusal(principal, { code: 'NOT_ALLOWED', message }),
    streams: { max: streamsPerConnection, on: () => streamsPerConnection },
    clock,
    log,
  });
  door.addService(ControlService, createControlDoor({ control, door, clock, log }));
  door.addService(RunsService, createRunsDoor({ runControl, door, clock, log }));
  door.addService(
    AdministrationService,
    createAdministrationDoor({ administration, audit, assignment, door, clock, log }),
  );
  return door;
}

function credentialsOf(
  header: (name: string) => string | undefined,
  connection: Connection,
  readsCertificate: boolean,
): Credentials {
  return {
    authorization: header('authorization'),
    certificate: readsCertificate ? connection.peerCertificate : undefined,
    origin: {
      address: connection.remoteAddress,
      requestId: randomBytes(8).toString('hex'),
      userAgent: header('user-agent')?.slice(0, 200) ?? '',
    },
  };
}

function routesOf(options: ControlPortOptions): Routes {
  const { metrics, access, administration, auditReading, assignment, control, runControl, ready } = options;
  return createRoutes({
    health: { ready, metrics: () => metrics.render() },
    auth: { access, administration },
    nodes: { control, assignment, version, access },
    runs: runControl,
    administration,
    audit: auditReading,
  });
}
