/**
 * gRPC on sockets that the listener owns. What is no call to a method of ours ends at the gate; every call is tied to its
 * connection by both ends of the socket and passes one guard before any handler: known connection, known method,
 * stream bound, access. Handlers below get the connection, never an address that could be someone else's.
 */
import {
  Server,
  ServerCredentials,
  ServerInterceptingCall,
  setLogger,
  type Metadata,
  type ServerInterceptor,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { TLSSocket } from 'node:tls';
import { RollcallError } from '../../../base/errors.js';
import type { Log } from '../../../base/log.js';
import { limits } from '../../../protocol/limits.js';
import { toGrpcStatus } from '../../../protocol/status.js';
import type { Connection } from '../tls/connection.js';
import type { Listener } from '../tls/listener.js';
import { accessTable, type Access } from './access-table.js';
import { gateStreams, watchMessages } from './stream-gate.js';

export interface GrpcDoorOptions {
  readonly listener: () => Pick<Listener, 'find'>;
  /** Checks an `authorization` header for methods that need a token; throws TOKEN_REFUSED. */
  readonly checkToken: (authorization: string | undefined, connection: Connection) => void;
  readonly streamsPerConnection: number;
  readonly log: Log;
}

export interface GrpcDoor {
  addService(definition: ServiceDefinition, handlers: UntypedServiceImplementation): void;
  /** Serves gRPC on this connection. */
  serve(socket: TLSSocket): void;
  /** The connection a call came in on. */
  connectionOf(call: { readonly metadata: Metadata }): Connection;
  close(): void;
}

export function createGrpcDoor(options: GrpcDoorOptions): GrpcDoor {
  // The handler's call has the very metadata object that the guard let through.
  const connections = new WeakMap<Metadata, Connection>();
  const paths = new Set<string>();
  logQuietly(options.log);

  const guard: ServerInterceptor = (method, call) => {
    let admitted: Connection | undefined;
    let answered = false;
    watchMessages(call, why => call.sendStatus(toGrpcStatus(new RollcallError('PROTOCOL_INVALID', why))));
    return new ServerInterceptingCall(call, {
      start: next =>
        next({
          onReceiveMetadata(metadata, forward) {
            const connection = options.listener().find(call.getConnectionInfo());
            try {
              admitted = admit(method.path, metadata, connection);
            } catch (error) {
              connection?.refused();
              call.sendStatus(toGrpcStatus(error));
              return;
            }
            admitted.callOpened();
            connections.set(metadata, admitted);
            forward(metadata);
          },
          // Comes once at the end of every call, however it ended.
          onCancel() {
            admitted?.callClosed();
            // Reset by the peer, or refused below this guard: whoever goes on like that has no business here.
            if (!answered) admitted?.refused();
          },
        }),
      sendStatus(status, next) {
        answered = true;
        next(status);
      },
    });
  };

  /** Throws what the caller is told when the call may not go on. */
  function admit(path: string, metadata: Metadata, connection: Connection | undefined): Connection {
    const access = (accessTable as Readonly<Record<string, Access | undefined>>)[path];
    if (!connection || !access)
      throw new RollcallError('INTERNAL', 'the connection or the method is not known');
    if (connection.calls >= options.streamsPerConnection) {
      throw new RollcallError('LINK_BUSY', `at most ${options.streamsPerConnection} streams a connection`);
    }
    if (access === 'token') options.checkToken(metadata.get('authorization')[0]?.toString(), connection);
    return connection;
  }

  const server = new Server({
    interceptors: [guard],
    'grpc.max_concurrent_streams': options.streamsPerConnection,
    'grpc.max_receive_message_length': limits.messageBytes,
    'grpc.max_send_message_length': limits.messageBytes * 16,
    'grpc-node.max_session_memory': 2,
    'grpc.enable_channelz': 0,
  });
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  gateStreams(server, {
    isMethod: path => paths.has(path),
    onRefused: ({ session }) => session && options.listener().find(session.socket)?.refused(),
  });

  return {
    addService(definition, handlers) {
      server.addService(definition, handlers);
      for (const { path } of Object.values(definition)) paths.add(path);
    },
    serve: socket => injector.injectConnection(socket),
    connectionOf(call) {
      const connection = connections.get(call.metadata);
      if (!connection) throw new RollcallError('INTERNAL', 'the connection is not known');
      return connection;
    },
    close: () => server.forceShutdown(),
  };
}

/** Left alone, grpc-js writes headers it does not like to standard error: nobody outside may decide how much is written. */
function logQuietly(log: Log): void {
  const write = (...parts: unknown[]): void => log.debug({ said: parts.join(' ') }, 'grpc-js');
  setLogger({ error: write, info: write, debug: write });
}
