/**
 * Pings the live sessions, and reports those that do not answer or outlive their certificate. A sweep looks only at the
 * sessions that may be due: each waits in the slot of the sweep at which it is due next. An answer moves nothing: a
 * session that was heard meanwhile is put into a later slot when its own comes.
 */
import type { Clock, Timer } from '../../base/clock.js';
import { RollcallError } from '../../base/errors.js';
import type { OfflineReason } from '../registry/offline-reasons.js';
import type { SessionCertificate } from './identify-node.js';
import type { Session } from './session.js';

const sweepEveryMs = 500;

export type SweepVerdict = 'fine' | 'ping' | Extract<OfflineReason, 'no answer' | 'certificate expired'>;

/** A ping goes out so long after the node was last heard, and its answer must come in this time, ms. */
export const pingTimes = { pingEveryMs: 9_000, pongWithinMs: 4_000 } as const;
export type PingTimes = Readonly<Record<keyof typeof pingTimes, number>>;

/** The session as the sweep sees it. */
type SweptSession = Pick<Session, 'heardAt' | 'pingedAt'> & {
  readonly certificate: Pick<SessionCertificate, 'notAfter'>;
};

/** Before this moment `judgeSession` gives `fine`, if nothing changes and no clock is set. Monotonic, ms. */
export function nextDueAt(session: SweptSession, times: PingTimes, elapsed: number, now: number): number {
  const { heardAt, pingedAt, certificate } = session;
  const pingDueAt = pingedAt === undefined ? heardAt + times.pingEveryMs : pingedAt + times.pongWithinMs;
  return Math.min(pingDueAt, elapsed + certificate.notAfter - now);
}

/** Decides what the sweep does with a session at this moment. `elapsed` is monotonic, `now` the wall clock. */
export function judgeSession(
  session: SweptSession,
  times: PingTimes,
  elapsed: number,
  now: number,
): SweepVerdict {
  if (now >= session.certificate.notAfter) return 'certificate expired';
  if (session.pingedAt !== undefined) {
    return elapsed - session.pingedAt > times.pongWithinMs ? 'no answer' : 'fine';
  }
  return elapsed - session.heardAt >= times.pingEveryMs ? 'ping' : 'fine';
}

export type SweepReason = Exclude<SweepVerdict, 'fine' | 'ping'>;

export interface PingSweepOptions {
  readonly clock: Clock;
  /** The session must end. */
  readonly onOver: (session: Session, error: RollcallError, reason: SweepReason) => void;
}

export class PingSweep {
  readonly #options: PingSweepOptions;
  readonly #timer: Timer;
  readonly #slots = new Map<number, Session[]>();
  #sweptAt: number;
  /** The first slot that was not swept yet. */
  #nextSlot: number;
  /** Between wall clock and monotonic time, by which the slots were chosen, ms. */
  #clockOffset: number;

  constructor(options: PingSweepOptions) {
    this.#options = options;
    this.#sweptAt = options.clock.elapsed();
    this.#nextSlot = slotOf(this.#sweptAt);
    this.#clockOffset = options.clock.now() - this.#sweptAt;
    this.#timer = options.clock.every(sweepEveryMs, () => this.#sweep());
  }

  /** Watches a live session until it has ended. */
  add(session: Session): void {
    const { clock } = this.#options;
    this.#put(session, clock.elapsed(), clock.now());
  }

  /** The node answered a ping; an answer to any but the last one counts for nothing. */
  answered(session: Session, sequence: bigint): void {
    if (sequence !== session.pings || session.pingedAt === undefined) return;
    session.pingedAt = undefined;
    session.heardAt = this.#options.clock.elapsed();
  }

  cancel(): void {
    this.#timer.cancel();
  }

  #put(session: Session, elapsed: number, now: number): void {
    const slot = Math.max(this.#nextSlot, slotOf(nextDueAt(session, pingTimes, elapsed, now)));
    const sessions = this.#slots.get(slot);
    if (sessions) sessions.push(session);
    else this.#slots.set(slot, [session]);
  }

  #sweep(): void {
    const { clock } = this.#options;
    const elapsed = clock.elapsed();
    const now = clock.now();
    // A pause of this process is no silence of the nodes: their answers wait to be read behind this very timer.
    const pausedMs = elapsed - this.#sweptAt - sweepEveryMs;
    this.#sweptAt = elapsed;
    if (pausedMs > sweepEveryMs) this.#forgive(pausedMs);
    const wasClockSet = Math.abs(now - elapsed - this.#clockOffset) > sweepEveryMs;
    for (const session of wasClockSet ? this.#takeAll() : this.#takeDue(elapsed))
      if (session.ended === undefined) this.#judge(session, elapsed, now);
    if (wasClockSet) this.#clockOffset = now - elapsed;
  }

  #takeAll(): Session[] {
    const sessions = [...this.#slots.values()].flat();
    this.#slots.clear();
    return sessions;
  }

  /** The sessions of the slots up to now, which are empty then. */
  #takeDue(elapsed: number): Session[] {
    const due: Session[][] = [];
    for (; this.#nextSlot <= slotOf(elapsed); this.#nextSlot += 1) {
      due.push(this.#slots.get(this.#nextSlot) ?? []);
      this.#slots.delete(this.#nextSlot);
    }
    return due.flat();
  }

  #judge(session: Session, elapsed: number, now: number): void {
    const verdict = judgeSession(session, pingTimes, elapsed, now);
    if (verdict === 'ping') ping(session, elapsed);
    else if (verdict !== 'fine') this.#options.onOver(session, errorOf(verdict), verdict);
    if (session.ended === undefined) this.#put(session, elapsed, now);
  }

  #forgive(pausedMs: number): void {
    for (const sessions of this.#slots.values()) {
      for (const session of sessions) if (session.pingedAt !== undefined) session.pingedAt += pausedMs;
    }
  }
}

/** Swept by the first sweep within it or later. */
function slotOf(at: number): number {
  return Math.floor(at / sweepEveryMs);
}

function ping(session: Session, elapsed: number): void {
  session.pingedAt = elapsed;
  session.pings += 1n;
  session.peer.send({ frame: { $case: 'ping', value: { sequence: session.pings } } });
}

function errorOf(reason: SweepReason): RollcallError {
  return reason === 'no answer'
    ? new RollcallError('SESSION_NO_ANSWER', 'no answer to a ping')
    : new RollcallError('SESSION_EXPIRED', 'the certificate of this session has expired');
}
