/** One live link of a node: what is known about it, and the little it decides alone. */
import type { RollcallError } from '../../base/errors.js';
import type { LinkFrame } from '../../protocol/generated/rollcall/v1/link.js';
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
