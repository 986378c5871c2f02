/** What waits for one node, by run, and what is on its way to it. */
import type { LinkFrame } from '../../../protocol/generated/rollcall/v1/link.js';
import type { Assign, Deliver } from './run-frames.js';

/** What a queue needs of a session. */
export interface QueueSession {
  readonly nodeId: bigint;
  readonly peer: { send(frame: LinkFrame): void };
}

/** What a queue needs of a run: its messages put themselves into the queue, and are asked for what goes out. */
export interface QueuedRun {
  readonly id: bigint;
  assign(): Assign;
  /** Undefined for a message that nobody wants delivered any more. */
  deliver(number: number): Deliver | undefined | Promise<Deliver | undefined>;
}

/** Messages of one run under way to one node. */
const maxOfRun = 8;
/** Of all runs together. */
const maxOfNode = 64;

interface Lane {
  readonly run: QueuedRun;
  /** Ascending. */
  waiting: number[];
  readonly underWay: Set<number>;
  /** The session that was told of the run. */
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

  /** How many messages wait, are on their way, or are being stored. */
  get count(): number {
    let count = this.#reserved;
    for (const { waiting, underWay } of this.#lanes.values()) count += waiting.length + underWay.size;
    return count;
  }

  /** Nothing is lost when it is forgotten. */
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
    // Commits end in any order, and what waits is in that of the numbers.
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
    // What is being read for it is not sent any more.
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

  /** Lanes without messages, but for those whose run the session was told of. */
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

  /** One message of each run, again and again, until nothing more may be sent. */
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

  /** Whether one was sent at once. */
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
    // A session that came meanwhile has it in its own turn.
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
