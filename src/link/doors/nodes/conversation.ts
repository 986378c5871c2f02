/**
 * One connection of the node port: its frames (docs/protocol.md). The first frame decides what the connection is
 * for: Hello begins an enrollment, Ready a session, OpenObjects transfers of objects. On a session the node may enroll
 * again, which is its renewal. Every refusal is an error frame before the connection is closed.
 */
import type { TLSSocket } from 'node:tls';
import type { Clock } from '../../../base/clock.js';
import { isRollcallError, RollcallError, toRollcallError } from '../../../base/errors.js';
import type { Log } from '../../../base/log.js';
import { certificateFingerprint } from '../../../identity/certificate.js';
import type { Hello, Proof } from '../../../protocol/generated/rollcall/v1/enrollment.js';
import {
  LinkFrame,
  NodeFrame,
  type OpenObjects,
  type Ready,
} from '../../../protocol/generated/rollcall/v1/link.js';
import { FrameStream } from '../../../protocol/frame-stream.js';
import { toLinkError } from '../../../protocol/link-error.js';
import { limits } from '../../../protocol/limits.js';
import type { EnrollPeer, Enrollments } from '../../enrollment/enrollments.js';
import type { NodeObjects } from '../../runs/messages/node-objects.js';
import type { Peer, Session } from '../../sessions/session.js';
import { requireVersion, type LeaveReason, type Sessions } from '../../sessions/sessions.js';
import { logFault, publicError } from '../public-error.js';
import type { Connection } from '../tls/connection.js';
import { Enrolling } from './enrolling.js';
import { ObjectTransfers } from './object-transfers.js';

type SentFrame = NonNullable<LinkFrame['frame']>;
type ReceivedFrame = NonNullable<NodeFrame['frame']>;

/** Bytes that wait for a node that does not read. */
const maxQueuedBytes = 8 * 1024 * 1024;
/** Connections for objects of one session. */
const maxObjectConnections = 4;

export interface ConversationOptions {
  readonly sessions: Sessions;
  readonly enrollments: Enrollments;
  readonly objects: NodeObjects;
  readonly clock: Clock;
  readonly log: Log;
  /** A session was refused, for the audit. */
  readonly onSessionRefused: (connection: Connection, error: unknown) => void;
  /** A peer let a deadline of its enrollment pass. */
  readonly onLate: (connection: Connection) => void;
  /** The connections for objects of each session. */
  readonly objectConnections: WeakMap<Session, Set<Conversation>>;
}

export class Conversation {
  readonly #connection: Connection;
  readonly #options: ConversationOptions;
  readonly #stream: FrameStream<NodeFrame, LinkFrame>;
  #enrolling: Enrolling | undefined;
  #session: Session | undefined;
  #transfers: ObjectTransfers | undefined;
  /** Why the node has left, while its session opens. */
  #gone: LeaveReason | undefined;
  #hasBegun = false;

  constructor(connection: Connection, socket: TLSSocket, options: ConversationOptions) {
    this.#connection = connection;
    this.#options = options;
    this.#stream = new FrameStream({
      socket,
      incoming: NodeFrame,
      outgoing: LinkFrame,
      maxFrameBytes: limits.strangerFrameBytes,
      maxQueuedBytes,
    });
    connection.farewell = () =>
      this.#say(new RollcallError('DEADLINE_EXCEEDED', 'no Hello, Ready or OpenObjects in time'));
    connection.onClosed(() => this.#leave('connection lost'));
  }

  /** Reads from now on. */
  begin(): void {
    this.#stream.serve({
      frame: ({ frame }) => this.#receive(frame),
      ended: () => {
        this.#leave('connection lost');
        this.#stream.end();
      },
      failed: error => this.#fail(error),
    });
  }

  /** Gives a promise when nothing else is to be read before it is settled. */
  #receive(frame: ReceivedFrame | undefined): Promise<void> | undefined {
    if (!frame) throw new RollcallError('PROTOCOL_INVALID', 'an empty frame');
    const isFirst = !this.#hasBegun;
    this.#hasBegun = true;
    if (frame.$case === 'ready' && isFirst) return this.#openSession(frame.value);
    if (frame.$case === 'proof' && this.#enrolling) return this.#prove(this.#enrolling, frame.value);
    if (!this.#take(frame, isFirst))
      throw new RollcallError('PROTOCOL_INVALID', `a ${frame.$case} frame has no place here`);
    return undefined;
  }

  /** Gives false for a frame that has no place here. */
  #take(frame: ReceivedFrame, isFirst: boolean): boolean {
    if (frame.$case === 'openObjects' && isFirst) this.#openObjects(frame.value);
    else if (this.#transfers) this.#transfers.receive(frame);
    else if (frame.$case === 'hello') this.#hello(frame.value);
    else if (!this.#session) return false;
    else if (frame.$case === 'leave') this.#closeByNode();
    else this.#options.sessions.receive(this.#session, { frame });
    return true;
  }

  #hello(hello: Hello): void {
    if (this.#enrolling) throw new RollcallError('PROTOCOL_INVALID', 'a second Hello');
    const { enrollments, clock, onLate } = this.#options;
    this.#connection.callOpened();
    try {
      this.#enrolling = new Enrolling({
        enrollments,
        peer: this.#enrollPeer(),
        clock,
        send: frame => this.#send(frame),
        onLate: error => {
          onLate(this.#connection);
          this.#enrollmentFailed(error);
        },
      });
      this.#enrolling.hello(hello);
    } catch (error) {
      this.#enrollmentFailed(error);
    }
  }

  /** Nothing more is read before the proof is decided, but on a live session, which goes on beside. */
  #prove(enrolling: Enrolling, proof: Proof): Promise<void> | undefined {
    const decided = enrolling.proof(proof).then(
      () => this.#endEnrolling(),
      (error: unknown) => this.#enrollmentFailed(error),
    );
    return this.#session ? undefined : decided;
  }

  #enrollPeer(): EnrollPeer {
    const connection = this.#connection;
    return {
      remoteAddress: connection.remoteAddress,
      binding: type =>
        type === 'tls-exporter' ? connection.exporterBinding() : connection.endPointBinding(),
      issued: (nodeId, fingerprint) => {
        if (this.#session?.nodeId === nodeId) this.#session.successor = fingerprint;
      },
      end: error => {
        this.#endEnrolling();
        return this.end(error);
      },
    };
  }

  #endEnrolling(): void {
    if (!this.#enrolling) return;
    this.#enrolling.close();
    this.#enrolling = undefined;
    this.#connection.callClosed();
  }

  #enrollmentFailed(thrown: unknown): void {
    const { log } = this.#options;
    logFault(log, thrown, 'an enrollment');
    if (this.#enrolling) this.#endEnrolling();
    else this.#connection.callClosed();
    const error = publicError(thrown);
    if (this.#session) this.#send({ $case: 'enrollmentRefused', value: toLinkError(error) });
    else this.#say(error);
  }

  async #openSession(ready: Ready): Promise<void> {
    const { sessions, log, onSessionRefused } = this.#options;
    const connection = this.#connection;
    connection.callOpened();
    try {
      const session = await sessions.open(this.#sessionPeer(), connection.peerLeaf, ready);
      this.#session = session;
      this.#stream.maxFrameBytes = limits.messageBytes;
      connection.authenticated = true;
      if (this.#gone !== undefined) this.#leave(this.#gone);
    } catch (error) {
      logFault(log, error, 'opening a session');
      onSessionRefused(connection, error);
      this.#say(publicError(error));
    } finally {
      connection.callClosed();
    }
  }

  #sessionPeer(): Peer {
    return {
      remoteAddress: this.#connection.remoteAddress,
      send: frame => void this.#stream.send(frame),
      end: async error => {
        await Promise.all([this.end(error), ...this.#endObjects(error)]);
      },
    };
  }

  #closeByNode(): void {
    this.#leave('closed by node');
    this.#stream.stopReading();
    this.#stream.end();
  }

  /** The node has gone, or said that it goes. */
  #leave(reason: LeaveReason): void {
    this.#gone ??= reason;
    this.#endEnrolling();
    this.#transfers?.close();
    const session = this.#session;
    if (!session) return;
    this.#session = undefined;
    this.#connection.authenticated = false;
    void this.#endObjects(new RollcallError('CERTIFICATE_REFUSED', 'the session of these objects is over'));
    this.#options.sessions.leave(session, this.#gone);
  }

  #openObjects({ protocolVersion }: OpenObjects): void {
    requireVersion({ protocolVersion });
    const { sessions, objects, clock, log, objectConnections } = this.#options;
    const der = this.#connection.peerLeaf;
    const session = der && sessions.liveWith(certificateFingerprint(der));
    if (!session)
      throw new RollcallError(
        'CERTIFICATE_REFUSED',
        'objects are for a node whose session is open with the same certificate',
      );
    const others = objectConnections.get(session) ?? new Set();
    if (others.size >= maxObjectConnections)
      throw new RollcallError('LINK_BUSY', `at most ${maxObjectConnections} connections for objects at once`);
    objectConnections.set(session, others.add(this));
    this.#connection.onClosed(() => others.delete(this));
    this.#transfers = new ObjectTransfers({
      session,
      objects,
      clock,
      log,
      send: frame => this.#send(frame),
      onIdle: () => void this.end(new RollcallError('DEADLINE_EXCEEDED', 'no transfer for a minute')),
    });
    this.#stream.maxFrameBytes = limits.messageBytes;
    this.#connection.authenticated = true;
    this.#send({ $case: 'objectsOpen', value: { protocolVersion } });
  }

  #endObjects(error: RollcallError): Promise<void>[] {
    const session = this.#session;
    const conversations = session && this.#options.objectConnections.get(session);
    return [...(conversations ?? [])].map(each => each.end(error));
  }

  /** Tells the node why and cuts the connection; resolves when the socket is closed. */
  end(error: RollcallError): Promise<void> {
    this.#say(error);
    this.#transfers?.close();
    return this.#connection.endSoon();
  }

  /** The node sent a frame out of place, or bytes that are not a frame. */
  #fail(thrown: unknown): void {
    const error = toRollcallError(thrown);
    if (!isRollcallError(thrown)) logFault(this.#options.log, thrown, 'a connection of a node');
    this.#leave('protocol error');
    this.#connection.authenticated = false;
    this.#say(publicError(error));
  }

  /** The last frame of this side. An honest peer goes away by itself then, any other is cut off by the listener. */
  #say(error: RollcallError): void {
    this.#send({ $case: 'error', value: toLinkError(error) });
    this.#stream.stopReading();
    this.#stream.end();
    this.#connection.refused();
  }

  #send(frame: SentFrame): void {
    this.#stream.send({ frame });
  }
}
