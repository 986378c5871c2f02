/**
 * One call, from its headers to its end: tied to its connection by both ends of the socket, accepted by its rule before any
 * handler runs, judged again when its request has come, and with a deadline for everything that its peer has to do.
 */
import { status as Status, type Metadata, type ServerInterceptor } from '@grpc/grpc-js';
import { constants, type ServerHttp2Stream } from 'node:http2';
import type { Clock, Timer } from '../../../base/clock.js';
import { RollcallError } from '../../../base/errors.js';
import type { Principal } from '../../access/principal.js';
import { methodRules, type Rule } from '../access-table.js';
import type { Doorkeeper, Entered, Occasion } from '../doorkeeper.js';
import type { HeldRights, LetGo } from '../held-rights.js';
import type { Connection } from '../tls/connection.js';
import type { Listener } from '../tls/listener.js';
import { statusOf } from './call-end.js';
import { streamOf } from './stream-gate.js';

type ServerCall = Parameters<ServerInterceptor>[1];
type Method = Parameters<ServerInterceptor>[0];
type Forward<T> = (value: T) => void;
type SentStatus = Parameters<ServerCall['sendStatus']>[0];

export interface GuardOptions {
  readonly listener: () => Pick<Listener, 'find'>;
  /** Lets the call in or throws; undefined where the rule asks for nothing. Gives who asks. */
  readonly admit: (
    rule: Rule,
    metadata: Metadata,
    connection: Connection,
    occasion: Occasion,
  ) => Promise<Principal | undefined> | undefined;
  /** Counts an accepted call, where calls of one caller are bounded. */
  readonly enter?: Doorkeeper['enter'];
  /** The rights of calls that last, which may be revoked meanwhile. */
  readonly rights?: HeldRights;
  /** Audits an accepted caller's request beyond their rights. */
  readonly onNotAllowed?: (principal: Principal | undefined, message: string) => void;
  /** How many at once; it may grow once the peer is known, up to the first number. */
  readonly streams: { readonly max: number; on(connection: Connection): number };
  readonly clock: Clock;
}

export const callDeadlines = {
  /** From the headers to all of the request; to its first message where there may be many, ms. */
  requestMs: 10_000,
  /** From the end of a call on this side to its end on the other, ms; */
  endMs: 10_000,
  /** and longer where much is still to be read. */
  bytesPerSecond: 16 * 1024,
} as const;

export class GuardedCall {
  readonly #door: GuardOptions;
  readonly #call: ServerCall;
  readonly #method: Method;
  readonly #stream: ServerHttp2Stream;
  readonly #held: LetGo[] = [];
  #connection: Connection | undefined;
  #isCounted = false;
  #metadata: Metadata | undefined;
  #rule: Rule | undefined;
  #requiresToken = false;
  #principal: Principal | undefined;
  #since = 0;
  #entered: Entered | undefined;
  #request: Timer | undefined;
  #isAnswered = false;
  #isAwaited = false;
  #isOver = false;

  constructor(door: GuardOptions, method: Method, call: ServerCall) {
    this.#door = door;
    this.#method = method;
    this.#call = call;
    this.#stream = streamOf(call);
  }

  get connection(): Connection {
    if (this.#connection) return this.#connection;
    throw new RollcallError('INTERNAL', 'the connection is not known');
  }

  get principal(): Principal {
    if (this.#principal) return this.#principal;
    throw new RollcallError('INTERNAL', 'nobody is known to have made this call');
  }

  receiveMetadata(metadata: Metadata, forward: Forward<Metadata>): void {
    this.#connection = this.#door.listener().find(this.#call.getConnectionInfo());
    try {
      this.#rule = ruleOf(this.#method.path, this.#connection, this.#door);
      this.#connection?.callOpened();
      this.#isCounted = true;
      this.#metadata = metadata;
      const late = new RollcallError('DEADLINE_EXCEEDED', 'the request did not come in time');
      this.#request = this.#door.clock.after(callDeadlines.requestMs, () => this.#refuse(late));
      const admission = this.#admit('request');
      if (!admission) {
        forward(metadata);
        return;
      }
      this.#requiresToken = true;
      admission
        .then(() => {
          if (this.#isOver) return;
          this.#enter();
          forward(metadata);
        })
        .catch((error: unknown) => this.#refuse(error));
    } catch (error) {
      this.#refuse(error);
    }
  }

  /** A call may be held open before its message comes: the rights of the caller at that time are decisive. */
  receiveMessage(message: unknown, forward: Forward<unknown>): void {
    if (this.#method.requestStream) this.#request?.cancel();
    if (!this.#requiresToken) {
      forward(message);
      return;
    }
    this.#admit('again')
      ?.then(() => forward(message))
      .catch((error: unknown) => this.#refuse(error));
  }

  receiveHalfClose(forward: () => void): void {
    this.#request?.cancel();
    forward();
  }

  sendMessage(message: unknown, next: Forward<unknown>): void {
    try {
      this.#entered?.requireReader();
    } catch (error) {
      this.#refuse(error);
      return;
    }
    next(message);
    // Of one answer the status comes only when that was read.
    if (!this.#method.responseStream) this.#awaitEnd();
  }

  sendStatus(status: SentStatus, next: Forward<SentStatus>): void {
    if (status.code === Status.PERMISSION_DENIED) this.#door.onNotAllowed?.(this.#principal, status.details);
    this.#answer(() => next(status));
  }

  /** Comes once at the end of every call, however it ended. */
  end(): void {
    this.#isOver = true;
    this.#request?.cancel();
    this.#entered?.leave();
    for (const letGo of this.#held) letGo();
    if (this.#isCounted) this.#connection?.callClosed();
    // Reset by the peer, or refused below this guard: a peer that goes on like that has no business here.
    if (!this.#isAnswered) this.#connection?.refused();
  }

  /**
   * For a call that lasts: it is ended when its right is gone, and `check` throws when its caller, as they are then, may
   * not have it. LINK_BUSY when they have too many such calls.
   */
  hold(check: (now: Principal) => void | Promise<void>, end: (refusal: unknown) => void): void {
    const { rights } = this.#door;
    if (!rights) throw new RollcallError('INTERNAL', 'no call of this port holds a right');
    const judge = async (): Promise<void> => {
      await this.#admit('hold');
      await check(this.principal);
    };
    const letGo = rights.holdStream({ principal: this.principal, judge, end }, this.#since);
    if (this.#isOver) letGo();
    else this.#held.push(letGo);
  }

  /** Undefined where the rule asks for nothing. */
  #admit(occasion: Occasion): Promise<void> | undefined {
    const { rights } = this.#door;
    const since = rights?.changes ?? 0;
    if (!this.#rule || !this.#metadata) throw new RollcallError('INTERNAL', 'the call has not begun');
    return this.#door.admit(this.#rule, this.#metadata, this.connection, occasion)?.then(principal => {
      this.#principal = principal;
      this.#since = since;
    });
  }

  #enter(): void {
    const address = this.connection.remoteAddress;
    const request = { unreadBytes: () => this.#stream.writableLength };
    this.#entered = this.#door.enter?.({ principal: this.#principal, address }, request);
  }

  #refuse(error: unknown): void {
    this.#connection?.refused();
    const status = statusOf(error);
    this.#answer(() => this.#call.sendStatus(status));
  }

  #answer(send: () => void): void {
    this.#isAnswered = true;
    this.#request?.cancel();
    send();
    this.#awaitEnd();
  }

  /** A peer that has its answer ends the call, too; one that does not, or does not read it, is not waited for. */
  #awaitEnd(): void {
    const stream = this.#stream;
    if (stream.destroyed || this.#isAwaited) return;
    this.#isAwaited = true;
    const { clock } = this.#door;
    const readMs = Math.ceil(stream.writableLength / callDeadlines.bytesPerSecond) * 1000;
    let waiting = clock.after(callDeadlines.endMs + readMs, () => {
      stream.close(constants.NGHTTP2_CANCEL);
      // Once that has left.
      setImmediate(() => {
        if (!stream.destroyed) waiting = clock.after(callDeadlines.endMs, () => this.#connection?.destroy());
      });
    });
    stream.once('close', () => waiting.cancel());
  }
}

/** Throws the error for the caller when the call may not continue. */
function ruleOf(path: string, connection: Connection | undefined, { streams }: GuardOptions): Rule {
  const rule = (methodRules as Readonly<Record<string, Rule | undefined>>)[path];
  if (!connection || !rule) throw new RollcallError('INTERNAL', 'the connection or the method is not known');
  const max = streams.on(connection);
  if (connection.calls >= max) throw new RollcallError('LINK_BUSY', `at most ${max} streams a connection`);
  return rule;
}
