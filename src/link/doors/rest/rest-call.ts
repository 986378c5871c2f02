/**
 * One HTTP request, from its headers to the last byte of its answer: counted, accepted by its rule, judged again when its body
 * has come and while its answer lasts, and with a deadline for everything that its peer has to do.
 */
import type { Readable } from 'node:stream';
import { TLSSocket } from 'node:tls';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Clock, Timer } from '../../../base/clock.js';
import { RollcallError } from '../../../base/errors.js';
import type { Credentials } from '../../access/authenticate.js';
import type { Origin, Principal } from '../../access/principal.js';
import type { Rule } from '../access-table.js';
import type { Doorkeeper, Entered, Occasion } from '../doorkeeper.js';
import type { HeldRights } from '../held-rights.js';
import type { KnownConnections } from '../known-connections.js';
import type { Connection } from '../tls/connection.js';

export interface RestCallOptions {
  readonly doorkeeper: Doorkeeper;
  readonly rights: HeldRights;
  /** Marks a connection as known while a request with a valid token is open on it. */
  readonly known: Pick<KnownConnections, 'recognise' | 'leave'>;
  readonly clock: Clock;
}

export const restDeadlines = {
  /** From the headers to the last byte of the body; Node.js answers 408 a little before, ms. */
  bodyMs: 15_000,
  /** A reader that takes nothing of an answer for so long is cut off, ms. */
  stillMs: 5 * 60_000,
} as const;

const lookEveryMs = 5_000;

export class RestCall {
  readonly #options: RestCallOptions;
  readonly #connection: Connection;
  readonly #request: FastifyRequest;
  readonly #reply: FastifyReply;
  readonly #origin: Origin;
  readonly #onEnd: (() => void)[] = [];
  #rule: Rule | undefined;
  #principal: Principal | undefined;
  #since = 0;
  #entered: Entered | undefined;
  #isOver = false;
  /** The connection goes before the answer was sent. */
  readonly #hangUp = new AbortController();

  constructor(
    options: RestCallOptions,
    connection: Connection,
    request: FastifyRequest,
    reply: FastifyReply,
  ) {
    this.#options = options;
    this.#connection = connection;
    this.#request = request;
    this.#reply = reply;
    // Of the socket alone: anybody can forge a header that names an address.
    const address = connection.remoteAddress;
    const userAgent = (request.headers['user-agent'] ?? '').slice(0, 200);
    this.#origin = { address, requestId: request.id, userAgent, signal: this.#hangUp.signal };
    connection.callOpened();
    reply.raw.once('close', () => this.#end());
    this.#watchBody();
    this.#watchReader();
  }

  get principal(): Principal | undefined {
    return this.#principal;
  }

  get origin(): Origin {
    return this.#origin;
  }

  /** DER of the certificate the connection came with. */
  get certificate(): Uint8Array | undefined {
    const { socket } = this.#request;
    return socket instanceof TLSSocket ? socket.getPeerX509Certificate()?.raw : undefined;
  }

  /** Accepts the request by its rule. A refused caller has no principal from then on. */
  async admit(rule: Rule, occasion: Occasion = 'request'): Promise<void> {
    const { doorkeeper, rights, known } = this.#options;
    const since = rights.changes;
    this.#rule = rule;
    this.#principal = undefined;
    const principal = await doorkeeper.admit(rule, this.#credentials(rule), occasion);
    this.#principal = principal;
    this.#since = since;
    if (this.#isOver) return;
    if (principal) known.recognise(this.#connection, principal);
    const who = { principal, address: this.#origin.address };
    const request = { unreadBytes: () => this.#reply.raw.writableLength };
    this.#entered ??= doorkeeper.enter(who, request);
  }

  /** LINK_BUSY when its caller has not read what was answered before. */
  requireReader(): void {
    this.#entered?.requireReader();
  }

  /** Cuts an answer that lasts once the right to it is gone. LINK_BUSY when its caller has too many of them. */
  hold(answer: Readable): Readable {
    const rule = this.#rule;
    if (!rule || !this.#principal) return answer;
    const judge = (): Promise<unknown> =>
      this.#options.doorkeeper.admit(rule, this.#credentials(rule), 'hold');
    const end = (refusal: unknown): void => void answer.destroy(refusal as Error);
    const letGo = this.#options.rights.holdStream({ principal: this.#principal, judge, end }, this.#since);
    this.#onEnd.push(letGo);
    return answer;
  }

  #credentials({ access }: Rule): Credentials {
    const authorization = access === 'open' ? undefined : this.#request.headers.authorization;
    return { authorization, origin: this.#origin, certificate: this.certificate };
  }

  #end(): void {
    this.#isOver = true;
    if (!this.#reply.raw.writableFinished)
      this.#hangUp.abort(new RollcallError('LOGIN_REFUSED', 'the caller hung up before the answer'));
    this.#entered?.leave();
    for (const each of this.#onEnd) each();
    this.#connection.callClosed();
    if (this.#connection.calls === 0) this.#options.known.leave(this.#connection);
  }

  #watchBody(): void {
    const { raw } = this.#request;
    if (raw.complete) return;
    const late: Timer = this.#options.clock.after(restDeadlines.bodyMs, () => this.#connection.destroy());
    raw.once('close', () => late.cancel()).once('end', () => late.cancel());
    this.#onEnd.push(() => late.cancel());
  }

  #watchReader(): void {
    const { clock } = this.#options;
    const { raw } = this.#reply;
    let takenAt = clock.elapsed();
    const taken = (): void => void (takenAt = clock.elapsed());
    raw.on('drain', taken);
    const look = clock.every(lookEveryMs, () => {
      const isWaiting = raw.writableNeedDrain || raw.writableEnded;
      if (!isWaiting) taken();
      else if (clock.elapsed() - takenAt > restDeadlines.stillMs) this.#connection.destroy();
    });
    this.#onEnd.push(() => look.cancel());
  }
}
