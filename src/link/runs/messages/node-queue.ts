/** The messages to one node, by run: those that wait, and those that were sent and are not answered. */
import type { LinkFrame } from '../../../protocol/generated/rollcall/v1/link.js';
import type { Assign, Deliver } from './run-frames.js';

/** The part of a session that a queue uses. */
export interface QueueSession {
  readonly nodeId: bigint;
  readonly peer: { send(frame: LinkFrame): void };
}

/** A run as a queue sees it: the run puts numbers of messages into the queue, which gets the frames to send from it. */
export interface QueuedRun {
  readonly id: bigint;
  assign(): Assign;
  /** Undefined for a message that must not be delivered any more. */
  deliver(number: number): Deliver | undefined | Promise<Deliver | undefined>;
}

/** Maximum number of sent, unanswered messages of one run. */
const maxOfRun = 8;
/** Maximum number of sent, unanswered messages of all runs together. */
const maxOfNode = 64;

interface Lane {
  readonly run: QueuedRun;
  /** Ascending. */
  waiting: number[];
  readonly underWay: Set<number>;
  /** The session that the run was assigned on. */
  assignedOn: QueueSession | undefined;
  isReading: boolean;
}

export class NodeQueue {
  readonly #lanes = new Map<bigint, Lane>();
  #session: QueueSession | undefined;
  #reserved = 0;

  get isOnline(): boolean {
    return this.#session !== undefined;
  }

  /** The number of messages that wait, were sent, or are being stored. */
  get count(): number {
    let count = this.#reserved;
    for (const { waiting, underWay } of this.#lanes.values()) count += waiting.length + underWay.size;
    return count;
  }

  /** Whether the queue can be dropped. */
  get isUnused(): boolean {
    return !this.#session && this.#lanes.size === 0 && this.#reserved === 0;
  }

  attach(session: QueueSession): void {
    this.#session = session;
    for (const lane of this.#lanes.values()) {
      lane.waiting = [...lane.underWay, ...lane.waiting].sort((one, other) => one - other);
      lane.underWay.clear();
      lane.assignedOn = undefined;
    }
    this.#pump();
  }

  detach(session: QueueSession): void {
    if (this.#session !== session) return;
    this.#session = undefined;
    this.#forgetEmptyLanes();
  }

  reserve(): void {
    this.#reserved += 1;
  }

  unreserve(): void {
    this.#reserved = Math.max(0, this.#reserved - 1);
  }

  put(run: QueuedRun, number: number): void {
    const { waiting } = this.#laneOf(run);
    // Commits may end in another order than that of the numbers.
    let at = waiting.length;
    while (at > 0 && (waiting[at - 1] ?? 0) > number) at--;
    waiting.splice(at, 0, number);
    this.#pump();
  }

  remove(run: bigint, number: number, how: 'answered' | 'given up'): void {
    const lane = this.#lanes.get(run);
    if (!lane) return;
    const wasUnderWay = lane.underWay.delete(number);
    if (!wasUnderWay) lane.waiting = lane.waiting.filter(each => each !== number);
    if (wasUnderWay && how === 'given up') this.#cancel(run, number);
    this.#pump();
    this.#forgetEmptyLanes();
  }

  removeRun(run: bigint): void {
    // A message that is being read must not be sent any more.
    this.#lanes.get(run)?.underWay.clear();
    this.#lanes.delete(run);
    this.#cancel(run, 0);
    this.#forgetEmptyLanes();
  }

  #laneOf(run: QueuedRun): Lane {
    let lane = this.#lanes.get(run.id);
    if (!lane) {
      lane = { run, waiting: [], underWay: new Set(), assignedOn: undefined, isReading: false };
      this.#lanes.set(run.id, lane);
    }
    return lane;
  }

  /** Forgets empty lanes, except those whose run is assigned on the current session. */
  #forgetEmptyLanes(): void {
    for (const [run, lane] of this.#lanes) {
      const isEmpty = lane.waiting.length === 0 && lane.underWay.size === 0;
      if (isEmpty && (!this.#session || lane.assignedOn !== this.#session)) this.#lanes.delete(run);
    }
  }

  #cancel(run: bigint, number: number): void {
    this.#session?.peer.send({ frame: { $case: 'cancel', value: { run, message: BigInt(number) } } });
  }

  #underWay(): number {
    let count = 0;
    for (const lane of this.#lanes.values()) count += lane.underWay.size;
    return count;
  }

  /** Sends one message of each run in turn until nothing more may be sent. */
  #pump(): void {
    if (!this.#session) return;
    let left = maxOfNode - this.#underWay();
    for (let goesOn = true; goesOn && left > 0;) {
      goesOn = false;
      for (const lane of this.#lanes.values()) {
        if (left > 0 && this.#sendNext(lane)) {
          left -= 1;
          goesOn = true;
        }
      }
    }
  }

  /** Returns whether a message was sent at once. */
  #sendNext(lane: Lane): boolean {
    const session = this.#session;
    if (!session || lane.isReading || lane.underWay.size >= maxOfRun) return false;
    const number = lane.waiting.shift();
    if (number === undefined) return false;
    lane.underWay.add(number);
    const delivery = lane.run.deliver(number);
    if (!(delivery instanceof Promise)) {
      finishSending(lane, session, number, delivery);
      return true;
    }
    lane.isReading = true;
    void this.#sendWhenRead(lane, session, number, delivery);
    return false;
  }

  async #sendWhenRead(
    lane: Lane,
    session: QueueSession,
    number: number,
    delivery: Promise<Deliver | undefined>,
  ): Promise<void> {
    const read = await delivery.catch(() => undefined);
    lane.isReading = false;
    // A newer session sends it in its own turn.
    if (this.#session === session && lane.underWay.has(number)) finishSending(lane, session, number, read);
    this.#pump();
  }
}

function finishSending(
  lane: Lane,
  session: QueueSession,
  number: number,
  delivery: Deliver | undefined,
): void {
  if (!delivery) {
    lane.underWay.delete(number);
    return;
  }
  if (lane.assignedOn !== session) {
    lane.assignedOn = session;
    session.peer.send({ frame: { $case: 'assign', value: lane.run.assign() } });
  }
  session.peer.send({ frame: { $case: 'deliver', value: delivery } });
}
