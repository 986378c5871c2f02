/**
 * gRPC on sockets that the listener owns. The gate refuses calls to unknown methods; every call is tied to its
 * connection by both ends of the socket and passes one guard before any handler (guarded-call.ts): known connection, known
 * method, stream bound, access. Handlers below get the connection, never an address that could be someone else's.
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
import type { Principal } from '../../access/principal.js';
import type { Connection } from '../tls/connection.js';
import { GuardedCall, type GuardOptions } from './guarded-call.js';
import { gateStreams, watchMessages, watchSessions } from './stream-gate.js';

export interface GrpcDoorOptions extends GuardOptions {
  readonly log: Log;
}

/** A call as its handler sees it; the door finds the rest by it. */
type Handled = { readonly metadata: Metadata };

export interface GrpcDoor {
  addService(definition: ServiceDefinition, handlers: UntypedServiceImplementation): void;
  /** Serves gRPC on this connection. */
  serve(socket: TLSSocket): void;
  /** The connection a call came in on. */
  connectionOf(call: Handled): Connection;
  /** The caller, of a call that requires a token. */
  principalOf(call: Handled): Principal;
  /**
   * For a call that lasts: `end` is called when its right is gone, with the refusal that a new call would get; `check`
   * throws when its caller, as they are then, may not have it. LINK_BUSY when they have too many such calls.
   */
  hold(call: Handled, check: (now: Principal) => void | Promise<void>, end: (refusal: unknown) => void): void;
  close(): void;
}

export function createGrpcDoor(options: GrpcDoorOptions): GrpcDoor {
  // The handler's call has the same metadata object as the guard's.
  const calls = new WeakMap<Metadata, GuardedCall>();
  const paths = new Set<string>();
  logQuietly(options.log);

  const guard: ServerInterceptor = (method, call) => {
    const guarded = new GuardedCall(options, method, call);
    watchMessages(call, why => call.sendStatus(toGrpcStatus(new RollcallError('PROTOCOL_INVALID', why))));
    return new ServerInterceptingCall(call, {
      start: next =>
        next({
          onReceiveMetadata(metadata, forward) {
            calls.set(metadata, guarded);
            guarded.receiveMetadata(metadata, forward);
          },
          onReceiveMessage: (message, forward) => guarded.receiveMessage(message, forward),
          onReceiveHalfClose: forward => guarded.receiveHalfClose(forward),
          onCancel: () => guarded.end(),
        }),
      sendMessage: (message, forward) => guarded.sendMessage(message, forward),
      sendStatus: (status, forward) => guarded.sendStatus(status, forward),
    });
  };

  function guardedCall({ metadata }: Handled): GuardedCall {
    const call = calls.get(metadata);
    if (!call) throw new RollcallError('INTERNAL', 'this call did not pass the guard');
    return call;
  }

  const server = new Server({
    interceptors: [guard],
    'grpc.max_concurrent_streams': options.streams.max,
    'grpc.max_receive_message_length': limits.messageBytes,
    // A page of a thousand nodes with all the labels there may be; many clients take 4 MiB and ask for smaller pages.
    'grpc.max_send_message_length': 32 * 1024 * 1024,
    'grpc-node.max_session_memory': 2,
    'grpc.enable_channelz': 0,
  });
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  watchSessions(server, session => {
    const connection = options.listener().find(session.socket);
    if (!connection) return;
    // Says which call was the last that counts (RFC 9113 §6.8): a client knows of one on its way that it was not begun, and
    // makes it anew on another connection. What was begun goes on.
    connection.farewell = () => session.close();
    connection.ping = () => {
      if (!session.closed && !session.destroyed) session.ping(() => undefined);
    };
  });
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
    connectionOf: call => guardedCall(call).connection,
    principalOf: call => guardedCall(call).principal,
    hold: (call, check, end) => guardedCall(call).hold(check, end),
    close: () => server.forceShutdown(),
  };
}

/** By default grpc-js writes headers it refuses to standard error, so that a peer decides how much is written. */
function logQuietly(log: Log): void {
  const write = (...parts: unknown[]): void => log.debug({ said: parts.join(' ') }, 'grpc-js');
  setLogger({ error: write, info: write, debug: write });
}
