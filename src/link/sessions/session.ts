/** One live link of a node: what is known about it, and the little it decides alone. */
import type { RollcallError } from '../../base/errors.js';
import type { LinkFrame } from '../../protocol/generated/rollcall/v1/link.js';
import type { OfflineReason } from '../registry/offline-reasons.js';
import type { SessionCertificate } from './identify-node.js';

/** The connection of a session; the door provides it. */
export interface Peer {
  readonly remoteAddress: string;
  send(frame: LinkFrame): void;
  /** Tells the node why, cuts the connection, and resolves when the socket is closed. */
  end(error: RollcallError): Promise<void>;
}

export interface Session {
  readonly id: bigint;
  readonly tenant: string;
  readonly nodeId: bigint;
  readonly certificate: SessionCertificate;
  readonly peer: Peer;
  /** Set once, by whatever ended it. */
  ended: RollcallError | 'by peer' | undefined;
  /** Monotonic times, ms. */
  heardAt: number;
  pingedAt: number | undefined;
  pings: bigint;
  /** The last certificate issued over this very session: a session opened with it is its hand-over, not a takeover. */
  successor: string | undefined;
}

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
