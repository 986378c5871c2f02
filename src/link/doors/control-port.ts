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
import type { Administration } from '../administration.js';
import type { AuditReading } from '../audit/audit-reading.js';
import type { Control } from '../control.js';
import type { RunControl } from '../run-control.js';
import type { Assignment } from './assignment.js';
import { anybodysRule } from './access-table.js';
import { Doorkeeper } from './doorkeeper.js';
import { createAdministrationDoor } from './grpc/administration-door.js';
import { createControlDoor } from './grpc/control-door.js';
import { createGrpcDoor } from './grpc/grpc-door.js';
import { createRunsDoor } from './grpc/runs-door.js';
import { HeldRights } from './held-rights.js';
import { KnownConnections } from './known-connections.js';
import { deadlines, type Port, type PortOptions } from './node-port.js';
import { RestDoor } from './rest/rest-door.js';
import { createRoutes } from './rest/routes.js';
import { Listener } from './tls/listener.js';

export interface ControlPortOptions extends PortOptions {
  readonly control: Control;
  readonly runControl: RunControl;
  readonly access: Access;
  readonly administration: Administration;
  readonly auditReading: AuditReading;
  readonly assignment: () => Assignment;
  /** Wants a token for what is public otherwise. */
  readonly requireAuth: boolean;
  /** Asks callers for a certificate, for services that prove themselves by one. */
  readonly requestCertificate: boolean;
  /** Rejects when the link cannot serve. */
  readonly ready: () => Promise<void>;
}

const streamsPerConnection = 64;

export async function openControlPort(options: ControlPortOptions): Promise<Port> {
  const { clock, log, metrics, refusals, access, administration, auditReading, assignment } = options;
  const { control, runControl } = options;
  const rights = new HeldRights({ watchRights: access.watchRights, clock });
  const known = new KnownConnections({ rights, clock });
  const doorkeeper = new Doorkeeper({
    authenticate: access.authenticate,
    refusals,
    clock,
    requireAuth: options.requireAuth,
  });
  const door = createGrpcDoor({
    listener: () => listener,
    async admit(rule, metadata, connection, occasion) {
      const since = rights.changes;
      const userAgent = metadata.get('user-agent')[0]?.toString() ?? '';
      const credentials = {
        authorization: metadata.get('authorization')[0]?.toString(),
        certificate: options.requestCertificate ? connection.peerCertificate : undefined,
        origin: {
          address: connection.remoteAddress,
          requestId: randomBytes(8).toString('hex'),
          userAgent: userAgent.slice(0, 200),
        },
      };
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
    createAdministrationDoor({ administration, audit: auditReading, assignment, door, clock, log }),
  );
  const rest = await RestDoor.open({
    routes: createRoutes({
      health: { ready: options.ready, metrics: () => metrics.render() },
      auth: { access, administration },
      nodes: { control, assignment, version, access },
      runs: runControl,
      administration,
      audit: auditReading,
    }),
    doorkeeper,
    rights,
    known,
    clock,
    log,
  });

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
