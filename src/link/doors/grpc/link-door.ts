/** `rollcall.v1.Link`: the stream on which a node is online. One a connection; its first frame is Ready. */
import type { ServerDuplexStream } from '@grpc/grpc-js';
import type { Clock } from '../../../base/clock.js';
import { RollcallError } from '../../../base/errors.js';
import type { Log } from '../../../base/log.js';
import type { LinkFrame, LinkServer, NodeFrame } from '../../../protocol/generated/rollcall/v1/link.js';
import { limits } from '../../../protocol/limits.js';
import type { Session, Peer } from '../../sessions/session.js';
import type { LeaveReason, Sessions } from '../../sessions/sessions.js';
import type { Connection } from '../tls/connection.js';
import { endCall, logFault } from './call-end.js';
import type { GrpcDoor } from './grpc-door.js';

type Call = ServerDuplexStream<NodeFrame, LinkFrame>;

/** Frames waiting for a node that does not read; beyond this it is cut off. */
const maxQueueLength = 256;

export interface LinkDoorOptions {
  readonly door: Pick<GrpcDoor, 'connectionOf'>;
  readonly sessions: Sessions;
  readonly clock: Clock;
  readonly log: Log;
  /** A session was refused, for the audit. */
  readonly onRefused: (connection: Connection, error: unknown) => void;
}

export interface LinkDoor {
  readonly handlers: LinkServer;
  /** The live session on this connection. */
  sessionOn(connection: Connection): Session | undefined;
}

export function createLinkDoor(options: LinkDoorOptions): LinkDoor {
  const { door, sessions, clock, log } = options;
  /** What has the connection: a session, or the mark of a stream that may become one. */
  const taken = new WeakMap<Connection, Session | symbol>();

  function connect(call: Call): void {
    const connection = door.connectionOf(call);
    let session: Session | undefined;
    let gone: LeaveReason | undefined;
    const mark = Symbol('opening');

    const refuse = (thrown: unknown): void => {
      logFault(log, thrown, 'opening a session');
      options.onRefused(connection, thrown);
      endCall(call, thrown);
      connection.refused();
    };
    const leave = (reason: LeaveReason): void => {
      waiting.cancel();
      gone ??= reason;
      if (!session) return;
      if (taken.get(connection) === session) {
        taken.delete(connection);
        connection.authenticated = false;
      }
      sessions.leave(session, gone);
    };
    const open = async (frame: NodeFrame): Promise<void> => {
      waiting.cancel();
      if (frame.frame?.$case !== 'ready')
        throw new RollcallError('PROTOCOL_INVALID', 'the first frame must be Ready');
      call.pause();
      const opened = await sessions.open(
        peerOf(call, connection),
        connection.peerCertificate,
        frame.frame.value,
      );
      session = opened;
      taken.set(connection, opened);
      connection.authenticated = true;
      if (gone !== undefined) leave(gone);
      else call.resume();
    };
    const receive = (frame: NodeFrame): void => {
      if (!session) {
        open(frame).catch(refuse);
        return;
      }
      try {
        sessions.receive(session, frame);
      } catch (error) {
        leave('protocol error');
        endCall(call, error);
        void connection.endSoon();
      }
    };

    const waiting = clock.after(limits.readyMs, () =>
      refuse(new RollcallError('DEADLINE_EXCEEDED', 'no Ready in time')),
    );
    if (taken.has(connection)) {
      waiting.cancel();
      endCall(call, new RollcallError('LINK_BUSY', 'this connection has its session already'));
      return;
    }
    taken.set(connection, mark);
    call.on('data', receive);
    call.on('end', () => {
      // A killed process ends its stream, too; but by then its socket is gone.
      leave(connection.destroyed ? 'connection lost' : 'closed by node');
      call.end();
    });
    call.on('cancelled', () => {
      if (taken.get(connection) === mark) taken.delete(connection);
      leave('connection lost');
    });
  }

  return {
    handlers: { connect },
    sessionOn(connection) {
      const session = taken.get(connection);
      return typeof session === 'symbol' ? undefined : session;
    },
  };
}

function peerOf(call: Call, connection: Connection): Peer {
  return {
    remoteAddress: connection.remoteAddress,
    send(frame) {
      if (call.destroyed || call.writableEnded) return;
      if (call.writableLength > maxQueueLength) connection.destroy();
      else call.write(frame);
    },
    end(error) {
      endCall(call, error);
      return connection.endSoon();
    },
  };
}
