/**
 * The log lines of nodes, each stored once and acknowledged only then. A node sends lines again on its next session until they
 * are acknowledged, and drops those that are.
 */
import { RollcallError } from '../../../base/errors.js';
import type { NodeLog } from '../../../protocol/generated/rollcall/v1/link.js';
import { limits } from '../../../protocol/limits.js';
import type { Session } from '../../sessions/session.js';
import type { RunLog } from '../run-log.js';

/** How far the link is with the lines of one node in one run. */
interface Progress {
  /** Sequence of the last line that was given to the log. */
  received: number;
  /** Sequence of the last line that is stored. */
  stored: number;
  /** Resolves when the last lines are stored, or to false if they cannot be. */
  work: Promise<boolean>;
  /** The session on which lines could not be stored. */
  failedOn: Session | undefined;
}

/** Bound of the sequences, below which they are exact as numbers. */
const maxSequence = 2n ** 52n;

export class NodeLogs {
  readonly #progress = new WeakMap<RunLog, Map<bigint, Progress>>();

  /** Resolves to the sequence to acknowledge, or to undefined if nothing may be acknowledged on this session. */
  async store(log: RunLog, session: Session, { sequence, lines }: NodeLog): Promise<bigint | undefined> {
    const { nodeId } = session;
    const progress = this.#progressOf(log, nodeId);
    if (progress.failedOn === session) return undefined;
    const first = Number(sequence);
    const end = first + lines.length - 1;
    if (end > progress.received) {
      const fresh = log.isFull(nodeId) ? [] : lines.slice(Math.max(0, progress.received + 1 - first));
      progress.received = end;
      progress.work = log.append(
        nodeId,
        fresh.map(({ atMs, level, text }) => ({ at: Number(atMs), level, text })),
      );
    }
    // Lines that came before, on this session or an earlier one, may still be on their way to the disk.
    if (await progress.work) {
      progress.stored = Math.max(progress.stored, end);
      return BigInt(end);
    }
    // An acknowledgement of later lines would include these: none is sent until the node has sent all again.
    progress.failedOn = session;
    progress.received = progress.stored;
    return undefined;
  }

  #progressOf(log: RunLog, node: bigint): Progress {
    const ofRun = this.#progress.get(log) ?? new Map<bigint, Progress>();
    this.#progress.set(log, ofRun);
    const known = ofRun.get(node);
    if (known) return known;
    const progress = { received: 0, stored: 0, work: Promise.resolve(true), failedOn: undefined };
    ofRun.set(node, progress);
    return progress;
  }
}

/** Throws PROTOCOL_INVALID for a frame that no agent sends. */
export function requireLines({ sequence, lines }: NodeLog): void {
  if (sequence < 1n || sequence > maxSequence)
    throw new RollcallError(
      'PROTOCOL_INVALID',
      `the sequence of a log line must be from 1 to ${maxSequence}`,
    );
  if (lines.length > limits.logLinesPerFrame)
    throw new RollcallError(
      'PROTOCOL_INVALID',
      `expected at most ${limits.logLinesPerFrame} log lines in a frame, found ${lines.length}`,
    );
}
