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
  status as Status,
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
import type { Principal } from '../../access/principal.js';
import { methodRules, type Rule } from '../access-table.js';
import { endSessionsBetweenReads, gateStreams, watchMessages } from './stream-gate.js';

export interface GrpcDoorOptions {
  readonly listener: () => Pick<Listener, 'find'>;
  /**
   * Lets the call in or throws; undefined where the rule asks for nothing. Gives who asks. `again` for a call that was
   * let in before, which counts once.
   */
  readonly admit: (
    rule: Rule,
    metadata: Metadata,
    connection: Connection,
    again?: boolean,
  ) => Promise<Principal | undefined> | undefined;
  /** Somebody who was let in asked for what is not theirs. */
  readonly onNotAllowed?: (principal: Principal | undefined, message: string) => void;
  /** How many at once; it may grow once the peer is known, up to the first number. */
  readonly streams: { readonly most: number; on(connection: Connection): number };
  readonly log: Log;
}

export interface GrpcDoor {
  addService(definition: ServiceDefinition, handlers: UntypedServiceImplementation): void;
  /** Serves gRPC on this connection. */
  serve(socket: TLSSocket): void;
  /** The connection a call came in on. */
  connectionOf(call: { readonly metadata: Metadata }): Connection;
  /** Who makes a call that wants a token. */
  principalOf(call: { readonly metadata: Metadata }): Principal;
  /** Looks once more who makes a call, for those that last: throws what a new one would be told. */
  recheck(call: { readonly metadata: Metadata }): Promise<Principal | undefined>;
  close(): void;
}

export function createGrpcDoor(options: GrpcDoorOptions): GrpcDoor {
  // The handler's call has the very metadata object that the guard let through.
  const connections = new WeakMap<Metadata, Connection>();
  const principals = new WeakMap<Metadata, Principal>();
  const admissions = new WeakMap<Metadata, () => Promise<Principal | undefined>>();
  const paths = new Set<string>();
  logQuietly(options.log);

  const guard: ServerInterceptor = (method, call) => {
    let admitted: Connection | undefined;
    let answered = false;
    let asked: Metadata | undefined;
    watchMessages(call, why => call.sendStatus(toGrpcStatus(new RollcallError('PROTOCOL_INVALID', why))));
    return new ServerInterceptingCall(call, {
      start: next =>
        next({
          onReceiveMetadata(metadata, forward) {
            const found = options.listener().find(call.getConnectionInfo());
            const refuse = (error: unknown): void => {
              found?.refused();
              call.sendStatus(toGrpcStatus(error));
            };
            try {
              const { rule, connection } = ruleFor(method.path, found);
              admitted = connection;
              connection.callOpened();
              connections.set(metadata, connection);
              asked = metadata;
              const admission = options.admit(rule, metadata, connection);
              if (!admission) {
                forward(metadata);
                return;
              }
              admissions.set(metadata, async () => options.admit(rule, metadata, connection, true));
              admission
                .then(principal => {
                  if (principal) principals.set(metadata, principal);
                  forward(metadata);
                })
                .catch(refuse);
            } catch (error) {
              refuse(error);
            }
          },
          // A call may be held open before it says what it wants: what counts is what its caller may do then.
          onReceiveMessage(message, forward) {
            const readmit = asked && admissions.get(asked);
            if (!readmit) {
              forward(message);
              return;
            }
            readmit()
              .then(principal => {
                if (asked && principal) principals.set(asked, principal);
                forward(message);
              })
              .catch((error: unknown) => call.sendStatus(toGrpcStatus(error)));
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
        if (status.code === Status.PERMISSION_DENIED)
          options.onNotAllowed?.(asked && principals.get(asked), status.details);
        next(status);
      },
    });
  };

  /** Throws what the caller is told when the call may not go on. */
  function ruleFor(path: string, connection: Connection | undefined): { rule: Rule; connection: Connection } {
    const rule = (methodRules as Readonly<Record<string, Rule | undefined>>)[path];
    if (!connection || !rule)
      throw new RollcallError('INTERNAL', 'the connection or the method is not known');
    const most = options.streams.on(connection);
    if (connection.calls >= most)
      throw new RollcallError('LINK_BUSY', `at most ${most} streams a connection`);
    return { rule, connection };
  }

  const server = new Server({
    interceptors: [guard],
    'grpc.max_concurrent_streams': options.streams.most,
    'grpc.max_receive_message_length': limits.messageBytes,
    // A page of a thousand nodes with all the labels there may be; many clients take 4 MiB and ask for smaller pages.
    'grpc.max_send_message_length': 32 * 1024 * 1024,
    'grpc-node.max_session_memory': 2,
    'grpc.enable_channelz': 0,
  });
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  endSessionsBetweenReads(server);
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
    principalOf(call) {
      const principal = principals.get(call.metadata);
      if (!principal) throw new RollcallError('INTERNAL', 'nobody is known to have made this call');
      return principal;
    },
    recheck: async ({ metadata }) => admissions.get(metadata)?.(),
    close: () => server.forceShutdown(),
  };
}

/** Left alone, grpc-js writes headers it does not like to standard error: nobody outside may decide how much is written. */
function logQuietly(log: Log): void {
  const write = (...parts: unknown[]): void => log.debug({ said: parts.join(' ') }, 'grpc-js');
  setLogger({ error: write, info: write, debug: write });
}
