/** The node port: TLS that asks for a client certificate without demanding one, `h2` only; enrollment, link and objects. */
import type { SecureContextOptions } from 'node:tls';
import type { Clock } from '../../base/clock.js';
import { toRollcallError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import type { Address } from '../../base/settings.js';
import { EnrollmentService } from '../../protocol/generated/rollcall/v1/enrollment.js';
import { LinkService, ObjectsService } from '../../protocol/generated/rollcall/v1/link.js';
import { limits } from '../../protocol/limits.js';
import { accountIn } from '../access/login/refused-account.js';
import type { RefusalCounter } from '../audit/refusals.js';
import type { Enrollments } from '../enrollment/enrollments.js';
import type { Metrics } from '../metrics.js';
import type { NodeObjects } from '../runs/messages/node-objects.js';
import type { Sessions } from '../sessions/sessions.js';
import { createEnrollmentDoor } from './grpc/enrollment-door.js';
import { createGrpcDoor } from './grpc/grpc-door.js';
import { createLinkDoor } from './grpc/link-door.js';
import { createObjectsDoor } from './grpc/objects-door.js';
import type { Caps } from './tls/pending-connections.js';
import { createListener } from './tls/listener.js';

export interface PortOptions {
  readonly address: Address;
  readonly context: SecureContextOptions;
  readonly caps: Caps;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly refusals: RefusalCounter;
}

export interface Port {
  readonly address: Address;
  reload(context: SecureContextOptions): void;
  stopAccepting(): void;
  close(): Promise<void>;
}

export interface NodePortOptions extends PortOptions {
  readonly sessions: Sessions;
  readonly enrollments: Enrollments;
  readonly objects: NodeObjects;
}

export const deadlines = { handshakeMs: limits.handshakeMs, idleMs: 5_000, afterRefusalMs: 1_000 };

export async function openNodePort(options: NodePortOptions): Promise<Port> {
  const { sessions, enrollments, objects, clock, log, metrics, refusals } = options;
  const door = createGrpcDoor({
    listener: () => listener,
    // Nothing on this port takes a token: a certificate, or the proof of a key, is what counts here.
    admit: ({ access }) => {
      if (access === 'open' || access === 'certificate') return undefined;
      throw new Error('no method of the node port takes a token');
    },
    streams: {
      max: limits.streamsPerSession,
      on: ({ authenticated }) => (authenticated ? limits.streamsPerSession : limits.streamsPerConnection),
    },
    clock,
    log,
  });
  const linkDoor = createLinkDoor({
    door,
    sessions,
    clock,
    log,
    onRefused: (connection, error) =>
      refusals.count(connection.remoteAddress, toRollcallError(error).code, accountIn(error)),
  });
  const enrollmentDoor = createEnrollmentDoor({
    door,
    enrollments,
    clock,
    log,
    onLate(connection) {
      metrics.enrollment('DEADLINE_EXCEEDED');
      refusals.count(connection.remoteAddress, 'DEADLINE_EXCEEDED');
    },
    onIssued(connection, nodeId, fingerprint) {
      const session = linkDoor.sessionOn(connection);
      if (session?.nodeId === nodeId) session.successor = fingerprint;
    },
  });
  door.addService(EnrollmentService, enrollmentDoor);
  door.addService(LinkService, linkDoor.handlers);
  door.addService(
    ObjectsService,
    createObjectsDoor({ door, sessionOn: each => linkDoor.sessionOn(each), objects, clock, log }),
  );

  const listener = createListener({
    address: options.address,
    context: options.context,
    requestCertificate: true,
    chooseProtocol: offered => (offered.includes('h2') ? 'h2' : undefined),
    caps: options.caps,
    deadlines,
    clock,
    log,
    onHandshake: outcome => metrics.handshake('node', outcome),
    onConnection(connection, socket) {
      if (socket.alpnProtocol === 'h2') door.serve(socket);
      else connection.destroy();
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
      await closed;
    },
  };
}
