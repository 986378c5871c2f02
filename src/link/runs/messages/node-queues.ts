/**
 * What waits for each node, by run, and what is on its way to it. A few messages of each run are under way at once and the
 * runs of a node take turns, so that a run with much to say, or with slow handlers, keeps no other waiting. What was under way
 * when a session ended is sent again on the next: the node knows what it has.
 */
import type { LinkFrame } from '../../../protocol/generated/rollcall/v1/link.js';

type Deliver = Extract<NonNullable<LinkFrame['frame']>, { $case: 'deliver' }>['value'];
type Assign = Extract<NonNullable<LinkFrame['frame']>, { $case: 'assign' }>['value'];

/** What a mailbox needs of a session. */
export interface MailSession {
  readonly nodeId: bigint;
  send(frame: LinkFrame): void;
}

/** What a mailbox needs of a run. */
export interface MailRun {
  readonly id: bigint;
  assign(): Assign;
  /** Undefined for a message that nobody wants delivered any more. */
  deliver(number: number): Deliver | undefined | Promise<Deliver | undefined>;
}

export interface Mailboxes {
  /** From now on messages go here; what was under way goes again. */
  attach(session: MailSession): void;
  detach(session: MailSession): void;
  isOnline(node: bigint): boolean;
  /** How many messages wait for a node, are on their way to it, or are being stored for it. */
  count(node: bigint): number;
  /** Keeps a place for a message that is being stored. */
  reserve(node: bigint): void;
  unreserve(node: bigint): void;
  put(node: bigint, run: MailRun, number: number): void;
  /** It was answered, or its time is over: then the node is told that nobody wants it any more. */
  remove(node: bigint, run: bigint, number: number, how: 'answered' | 'given up'): void;
  /** The run is over; the nodes are told. */
  removeRun(run: bigint, nodes: Iterable<bigint>): void;
  /** To a node that is online. */
  send(node: bigint, frame: LinkFrame): void;
}

/** Messages of one run under way to one node. */
const mostOfRun = 8;
/** Of all runs together. */
const mostOfNode = 64;

interface Lane {
  readonly run: MailRun;
  /** Ascending. */
  waiting: number[];
  readonly underWay: Set<number>;
  /** The session that was told of the run. */
  assignedOn: MailSession | undefined;
  isReading: boolean;
}

interface Box {
  session: MailSession | undefined;
  readonly lanes: Map<bigint, Lane>;
}

export function createMailboxes(): Mailboxes {
  const boxes = new Map<bigint, Box>();
  const reserved = new Map<bigint, number>();

  function boxOf(node: bigint): Box {
    let box = boxes.get(node);
    if (!box) boxes.set(node, (box = { session: undefined, lanes: new Map() }));
    return box;
  }

  /** Lanes without messages, but for those whose run the session was told of. */
  function forgetEmpty(node: bigint, box: Box): void {
    for (const [run, lane] of box.lanes) {
      const isEmpty = lane.waiting.length === 0 && lane.underWay.size === 0;
      if (isEmpty && (!box.session || lane.assignedOn !== box.session)) box.lanes.delete(run);
    }
    if (!box.session && box.lanes.size === 0) boxes.delete(node);
  }

  function underWay(box: Box): number {
    let count = 0;
    for (const lane of box.lanes.values()) count += lane.underWay.size;
    return count;
  }

  /** One message of each run, again and again, until nothing more may be sent. */
  function pump(box: Box): void {
    if (!box.session) return;
    let left = mostOfNode - underWay(box);
    for (let goesOn = true; goesOn && left > 0;) {
      goesOn = false;
      for (const lane of box.lanes.values()) {
        if (left > 0 && sendNext(box, lane)) {
          left -= 1;
          goesOn = true;
        }
      }
    }
  }

  /** Whether one was sent at once. */
  function sendNext(box: Box, lane: Lane): boolean {
    const { session } = box;
    if (!session || lane.isReading || lane.underWay.size >= mostOfRun) return false;
    const number = lane.waiting.shift();
    if (number === undefined) return false;
    lane.underWay.add(number);
    const delivery = lane.run.deliver(number);
    if (!(delivery instanceof Promise)) {
      finishSending(lane, session, number, delivery);
      return true;
    }
    lane.isReading = true;
    void delivery
      .catch(() => undefined)
      .then(read => {
        lane.isReading = false;
        // A session that came meanwhile has it in its own turn.
        if (box.session === session && lane.underWay.has(number)) finishSending(lane, session, number, read);
        pump(box);
      });
    return false;
  }

  function finishSending(
    lane: Lane,
    session: MailSession,
    number: number,
    delivery: Deliver | undefined,
  ): void {
    if (!delivery) {
      lane.underWay.delete(number);
      return;
    }
    if (lane.assignedOn !== session) {
      lane.assignedOn = session;
      session.send({ frame: { $case: 'assign', value: lane.run.assign() } });
    }
    session.send({ frame: { $case: 'deliver', value: delivery } });
  }

  return {
    attach(session) {
      const box = boxOf(session.nodeId);
      box.session = session;
      for (const lane of box.lanes.values()) {
        lane.waiting = [...lane.underWay, ...lane.waiting].sort((one, other) => one - other);
        lane.underWay.clear();
        lane.assignedOn = undefined;
      }
      pump(box);
    },
    detach(session) {
      const box = boxes.get(session.nodeId);
      if (box?.session !== session) return;
      box.session = undefined;
      forgetEmpty(session.nodeId, box);
    },
    isOnline: node => boxes.get(node)?.session !== undefined,
    count(node) {
      let count = reserved.get(node) ?? 0;
      for (const lane of boxes.get(node)?.lanes.values() ?? [])
        count += lane.waiting.length + lane.underWay.size;
      return count;
    },
    reserve: node => void reserved.set(node, (reserved.get(node) ?? 0) + 1),
    unreserve(node) {
      const left = (reserved.get(node) ?? 1) - 1;
      if (left > 0) reserved.set(node, left);
      else reserved.delete(node);
    },
    put(node, run, number) {
      const box = boxOf(node);
      let lane = box.lanes.get(run.id);
      if (!lane) {
        lane = { run, waiting: [], underWay: new Set(), assignedOn: undefined, isReading: false };
        box.lanes.set(run.id, lane);
      }
      // Commits end in any order, and what waits is in that of the numbers.
      let at = lane.waiting.length;
      while (at > 0 && (lane.waiting[at - 1] ?? 0) > number) at--;
      lane.waiting.splice(at, 0, number);
      pump(box);
    },
    remove(node, run, number, how) {
      const box = boxes.get(node);
      const lane = box?.lanes.get(run);
      if (!box || !lane) return;
      const wasUnderWay = lane.underWay.delete(number);
      if (!wasUnderWay) lane.waiting = lane.waiting.filter(each => each !== number);
      if (wasUnderWay && how === 'given up')
        box.session?.send({ frame: { $case: 'cancel', value: { run, message: BigInt(number) } } });
      pump(box);
      forgetEmpty(node, box);
    },
    removeRun(run, nodes) {
      for (const node of nodes) {
        const box = boxes.get(node);
        // What is being read for it is not sent any more.
        box?.lanes.get(run)?.underWay.clear();
        box?.lanes.delete(run);
        box?.session?.send({ frame: { $case: 'cancel', value: { run, message: 0n } } });
        if (box) forgetEmpty(node, box);
      }
    },
    send: (node, frame) => boxes.get(node)?.session?.send(frame),
  };
}
