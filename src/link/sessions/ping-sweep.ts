/** Pings every live session, and says which ones do not answer or outlive their certificate. */
import type { Clock, Timer } from '../../base/clock.js';
import { RollcallError } from '../../base/errors.js';
import { judgeSession, pingTimes, type Session, type SweepVerdict } from './session.js';

const sweepEveryMs = 500;

export type SweepReason = Exclude<SweepVerdict, 'fine' | 'ping'>;

export interface PingSweepOptions {
  readonly clock: Clock;
  readonly liveSessions: () => Iterable<Session>;
  /** The session must end. */
  readonly onOver: (session: Session, error: RollcallError, reason: SweepReason) => void;
}

export class PingSweep {
  readonly #options: PingSweepOptions;
  readonly #timer: Timer;
  #sweptAt: number;

  constructor(options: PingSweepOptions) {
    this.#options = options;
    this.#sweptAt = options.clock.elapsed();
    this.#timer = options.clock.every(sweepEveryMs, () => this.#sweep());
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

  #sweep(): void {
    const { clock, liveSessions, onOver } = this.#options;
    const elapsed = clock.elapsed();
    const now = clock.now();
    // A pause of this process is no silence of the nodes: their answers wait to be read behind this very timer.
    const pausedMs = elapsed - this.#sweptAt - sweepEveryMs;
    this.#sweptAt = elapsed;
    if (pausedMs > sweepEveryMs) this.#forgive(pausedMs);
    for (const session of liveSessions()) {
      const verdict = judgeSession(session, pingTimes, elapsed, now);
      if (verdict === 'ping') ping(session, elapsed);
      else if (verdict !== 'fine') onOver(session, errorOf(verdict), verdict);
    }
  }

  #forgive(pausedMs: number): void {
    for (const session of this.#options.liveSessions())
      if (session.pingedAt !== undefined) session.pingedAt += pausedMs;
  }
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
