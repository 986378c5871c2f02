/**
 * The messages of one run: a question is on the disk before it is accepted and sent to its node, an answer before the node
 * may forget it and the server half gets it, and both are gone once the server half has the answer. Numbers come from the
 * server half, so that what it sends twice is one message. In memory is what each message is and how it stands; contents stay
 * on the disk.
 */
import type { Clock } from '../../../base/clock.js';
import type { DiskFloor } from '../../../base/disk-floor.js';
import { messageErrors, type MessageErrorCode } from '../../../app/message-error.js';
import type { Change, Store } from '../../../store/store.js';
import type { Deliver, QueuedRun } from './node-queue.js';
import type { NodeQueues } from './node-queues.js';
import { awaitsAnswer, nextStatus, type MessageEvent, type MessageStatus } from './message-machine.js';
import {
  decodeMessage,
  encodeAnswer,
  encodeQuestion,
  type Answer,
  type Content,
  type ObjectName,
  type Question,
} from './message-record.js';
import { isPassing, untilStored } from '../../../store/retry.js';
import { messageKey, messagePrefix, numberOfKey, runNodeKey, runNodePrefix } from '../run-keys.js';

export interface RunMessages {
  /**
   * Resolves when the message is on the disk, or is refused and that is, as its answer; a second time with the first. Throws
   * STORE_FULL and so on: it was not accepted.
   */
  send(question: Question, content: Content): Promise<void>;
  /** Answers it by an error, which is on the disk when it resolves. */
  refuse(question: Question, code: MessageErrorCode, message?: string): Promise<void>;
  /** Answers it by an error at once, where nothing can be stored. It is not to be called accepted. */
  turnAway(question: Question, code: MessageErrorCode, message: string): void;
  /** What a node answered; on the disk when it resolves. A message that has its answer already keeps that. */
  answer(number: number, answer: Answer): Promise<void>;
  /** The server half has the answer. */
  take(number: number): Promise<void>;
  /** Of messages that wait for this node, and of all that are sent to it later. */
  failNode(node: bigint, code: MessageErrorCode): void;
  /** Of all whose time is over. */
  expire(now: number): void;
  find(number: number): MessageEntry | undefined;
  /** Those that were not taken. */
  count(): number;
  /** The last number that was sent, as far as is known, and how many have no answer yet. */
  standing(): { readonly last: number; readonly unanswered: number };
  /** Whether this number was sent, as far as this process knows. */
  wasSent(number: number): boolean;
  /** Numbers of the answers that were not taken, ascending. */
  answered(): number[];
  readAnswer(number: number): Promise<Answer | undefined>;
  /** An object that a message to this node, or an answer to the server half, speaks of. */
  speaksOf(digest: string, of: { readonly questionsTo: bigint } | 'answers'): bigint | undefined;
  deliver: QueuedRun['deliver'];
  /** Those that messages were stored for: the parties of the run. */
  nodes(): ReadonlySet<bigint>;
  readonly counts: { sent: number; answered: number; failed: number };
  /** Those of a run from before this link was started. */
  load(): Promise<void>;
  /** The run is over: nothing is accepted, sent or stored any more; resolves when nothing is being stored. */
  close(): Promise<void>;
}

export interface MessageEntry {
  readonly question: Question;
  status: MessageStatus;
  /** How often it was sent. */
  attempts: number;
  /** Of the question, then of the answer. */
  object: ObjectName | undefined;
  /** At hand only while it can be sent at once. */
  content: Content | undefined;
  /** Not stored: what is refused is refused again when it is sent again. */
  refusal: Answer | undefined;
  /** Its question, or then its answer, being stored. */
  work: Promise<void>;
}

/** Keeps objects that messages speak of. */
export interface ObjectKeeper {
  retain(party: string, digest: string): void;
  release(party: string, digest: string): void;
}

export interface RunMessagesOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly tenant: string;
  readonly run: QueuedRun;
  readonly queues: NodeQueues;
  readonly objects: ObjectKeeper;
  /** What is said in a run leaves room on the disk for what the link must be able to write. */
  readonly floor: Pick<DiskFloor, 'require'>;
  readonly mostWaiting: number;
  /** An answer is there for the server half. */
  readonly onAnswer: (number: number) => void;
  readonly onChange: () => void;
}

/** The party that the app is of. */
export const appParty = 'app';
/** The party that server halves write as. */
export const serverParty = 'server';

export function createRunMessages(options: RunMessagesOptions): RunMessages {
  const { store, clock, tenant, run, queues, objects, floor, mostWaiting, onAnswer, onChange } = options;
  const entries = new Map<number, MessageEntry>();
  /** Those that speak of an object, by its digest: nodes ask as often as they like. */
  const byObject = new Map<string, Set<MessageEntry>>();
  const nodes = new Set<bigint>();
  /** Nodes that are sent nothing any more. */
  const failed = new Map<bigint, MessageErrorCode>();
  const counts = { sent: 0, answered: 0, failed: 0 };
  const storing = new Set<Promise<void>>();
  let isClosed = false;
  let highest = 0;
  /** No message ends before this. */
  let earliest = Infinity;

  function add(entry: MessageEntry): void {
    const { number, expiresAt } = entry.question;
    entries.set(number, entry);
    highest = Math.max(highest, number);
    earliest = Math.min(earliest, expiresAt);
  }

  function speakOf(entry: MessageEntry, object: ObjectName | undefined): void {
    const before = entry.object && byObject.get(entry.object.digest);
    before?.delete(entry);
    if (entry.object && before?.size === 0) byObject.delete(entry.object.digest);
    entry.object = object;
    if (!object) return;
    const speaking = byObject.get(object.digest) ?? new Set();
    byObject.set(object.digest, speaking.add(entry));
  }

  function forget(entry: MessageEntry): void {
    speakOf(entry, undefined);
    entries.delete(entry.question.number);
  }

  async function refuse(
    entry: MessageEntry,
    code: MessageErrorCode,
    message: string = messageErrors[code],
  ): Promise<void> {
    const { question } = entry;
    const refusal: Answer = { error: { code, message } };
    // Nobody keeps it for this message.
    speakOf(entry, undefined);
    advance(entry, 'answer');
    const key = messageKey(tenant, run.id, question.number);
    try {
      await store.commit([{ type: 'put', key, value: encodeAnswer(question, refusal) }]);
    } catch (error) {
      forget(entry);
      counts.sent -= 1;
      throw error;
    }
    advance(entry, 'answer-stored');
    settle(entry, refusal);
  }

  function settle(entry: MessageEntry, answer: Answer): void {
    entry.content = undefined;
    count(answer);
    onAnswer(entry.question.number);
  }

  function count(answer: Answer): void {
    counts.answered += 1;
    if ('error' in answer) counts.failed += 1;
    onChange();
  }

  async function storeQuestion(entry: MessageEntry, content: Content): Promise<void> {
    const { node, number } = entry.question;
    const key = messageKey(tenant, run.id, number);
    const value = encodeQuestion(entry.question, content);
    await floor.require(value.length);
    // Given up meanwhile: its answer is on the way, and must not be written over.
    if (entry.status !== 'storing') return;
    const changes: Change[] = [{ type: 'put', key, value }];
    if (!nodes.has(node))
      changes.push({ type: 'put', key: runNodeKey(tenant, run.id, node), value: Buffer.alloc(0) });
    await store.commit(changes);
    nodes.add(node);
  }

  function begin(question: Question, content: Content | undefined): MessageEntry {
    const object = content && 'object' in content ? content.object : undefined;
    const entry: MessageEntry = {
      ...{ question, status: 'storing', attempts: 0, object: undefined, content },
      ...{ refusal: undefined, work: Promise.resolve() },
    };
    speakOf(entry, object);
    add(entry);
    counts.sent += 1;
    return entry;
  }

  async function sendNew(entry: MessageEntry, content: Content): Promise<void> {
    const { node, number } = entry.question;
    const { object } = entry;
    if (object) objects.retain(serverParty, object.digest);
    queues.reserve(node);
    try {
      await storeQuestion(entry, content);
    } catch (error) {
      // It may have been given up meanwhile: then its answer is on the way.
      if (entry.status !== 'storing') return;
      forget(entry);
      counts.sent -= 1;
      if (object) objects.release(serverParty, object.digest);
      throw error;
    } finally {
      queues.unreserve(node);
    }
    // Given up meanwhile, its answer is on the way.
    if (isClosed || !advance(entry, 'stored')) return;
    queues.put(node, run, number);
    entry.content = undefined;
    onChange();
  }

  async function commitAnswer(entry: MessageEntry, answer: Answer): Promise<void> {
    const { number } = entry.question;
    const key = messageKey(tenant, run.id, number);
    const value = encodeAnswer(entry.question, answer);
    // Presence goes on when the disk is full, and so do answers: they are owed. Contents wait until there is room for them.
    await untilStored(
      clock,
      async () => {
        if ('bytes' in answer) await floor.require(value.length);
        await store.commit([{ type: 'put', key, value }]);
      },
      () => !isClosed,
    );
  }

  /** What is stored when the run ends is waited for, and removed with the rest. */
  function track(work: Promise<void>): Promise<void> {
    const done = work
      .catch(() => undefined)
      .finally(() => {
        storing.delete(done);
      });
    storing.add(done);
    return work;
  }

  async function storeAnswer(entry: MessageEntry, given: Answer): Promise<void> {
    const { node, number } = entry.question;
    if ('object' in given) objects.retain(`${node}`, given.object.digest);
    try {
      await commitAnswer(entry, given);
    } catch (error) {
      // It may be answered again, or given up.
      if ('object' in given) objects.release(`${node}`, given.object.digest);
      advance(entry, 'answer-failed');
      earliest = Math.min(earliest, entry.question.expiresAt);
      throw error;
    }
    if (entry.object) objects.release(serverParty, entry.object.digest);
    speakOf(entry, 'object' in given ? given.object : undefined);
    queues.remove(node, run.id, number, 'answered');
    advance(entry, 'answer-stored');
    settle(entry, given);
  }

  /** What comes while an answer is being stored waits for that one. */
  function answer(number: number, given: Answer): Promise<void> {
    const entry = entries.get(number);
    if (isClosed || !entry || entry.status === 'answered') return Promise.resolve();
    if (advance(entry, 'answer')) entry.work = track(storeAnswer(entry, given));
    return entry.work;
  }

  function giveUp(entry: MessageEntry, code: MessageErrorCode): void {
    const { node, number } = entry.question;
    queues.remove(node, run.id, number, 'given up');
    void answer(number, { error: { code, message: messageErrors[code] } }).catch(() => undefined);
  }

  return {
    send(question, content) {
      // Sent again since nobody heard that it was accepted.
      const before = entries.get(question.number);
      if (before) return before.status === 'waiting' ? Promise.resolve() : before.work;
      const entry = begin(question, content);
      const refusal = isClosed ? 'RUN_OVER' : failed.get(question.node);
      if (refusal) entry.work = track(refuse(entry, refusal));
      else if (queues.count(question.node) >= mostWaiting)
        entry.work = track(refuse(entry, 'QUEUE_FULL', `${mostWaiting} messages wait for this node already`));
      else entry.work = track(sendNew(entry, content));
      return entry.work;
    },
    refuse(question, code, message) {
      const before = entries.get(question.number);
      if (before) return before.work;
      const entry = begin(question, undefined);
      entry.work = track(refuse(entry, code, message));
      return entry.work;
    },
    turnAway(question, code, message) {
      if (entries.has(question.number)) return;
      const entry = begin(question, undefined);
      entry.refusal = { error: { code, message } };
      advance(entry, 'turned-away');
      settle(entry, entry.refusal);
    },
    answer,
    async take(number) {
      const entry = entries.get(number);
      if (entry?.status !== 'answered') return;
      const { object } = entry;
      forget(entry);
      if (object) objects.release(`${entry.question.node}`, object.digest);
      try {
        await store.commit([{ type: 'delete', key: messageKey(tenant, run.id, number) }]);
      } catch (error) {
        // It goes with the run; after a restart it is given once more, and taken.
        if (!isPassing(error)) throw error;
      }
    },
    failNode(node, code) {
      failed.set(node, code);
      for (const entry of entries.values())
        if (entry.question.node === node && awaitsAnswer(entry.status)) giveUp(entry, code);
    },
    expire(now) {
      if (now < earliest) return;
      earliest = Infinity;
      for (const entry of entries.values()) {
        if (!awaitsAnswer(entry.status)) continue;
        const { expiresAt, node } = entry.question;
        if (expiresAt > now) earliest = Math.min(earliest, expiresAt);
        else giveUp(entry, queues.isOnline(node) ? 'EXPIRED' : 'NODE_OFFLINE');
      }
    },
    find: number => entries.get(number),
    count: () => entries.size,
    standing() {
      let unanswered = 0;
      for (const { status } of entries.values()) if (status !== 'answered') unanswered += 1;
      return { last: highest, unanswered };
    },
    wasSent: number => number >= 1 && number <= highest,
    answered: () =>
      [...entries.values()]
        .filter(({ status }) => status === 'answered')
        .map(({ question }) => question.number)
        .sort((one, other) => one - other),
    async readAnswer(number) {
      const entry = entries.get(number);
      if (entry?.status !== 'answered') return undefined;
      if (entry.refusal) return entry.refusal;
      const value = await store.get(messageKey(tenant, run.id, number));
      const message = value && decodeMessage(value);
      return message && 'answer' in message ? message.answer : undefined;
    },
    speaksOf(digest, of) {
      for (const { question, status } of byObject.get(digest) ?? []) {
        const isAnswer = status === 'answered';
        if (of === 'answers' ? isAnswer : !isAnswer && question.node === of.questionsTo) return question.node;
      }
      return undefined;
    },
    deliver(number) {
      const entry = entries.get(number);
      if (entry?.status !== 'waiting') return undefined;
      if (entry.content) return deliveryOf(entry, entry.content);
      const isWanted = (): boolean => entry.status === 'waiting' && !isClosed;
      const key = messageKey(tenant, run.id, number);
      return untilStored(clock, () => store.get(key), isWanted).then(value => {
        const message = value && decodeMessage(value);
        return message && 'content' in message && isWanted() ? deliveryOf(entry, message.content) : undefined;
      });
    },
    nodes: () => nodes,
    counts,
    async close() {
      isClosed = true;
      while (storing.size > 0) await Promise.all(storing);
    },
    async load() {
      for (const { key } of await store.list({ prefix: runNodePrefix(tenant, run.id) }))
        nodes.add(numberOfKey(key));
      const prefix = messagePrefix(tenant, run.id);
      for (let after: string | undefined; ;) {
        const stored = await store.list({ prefix, after, limit: 500 });
        for (const { value } of stored) restore(decodeMessage(value));
        after = stored.at(-1)?.key;
        if (stored.length < 500) return;
      }
    },
  };

  function restore(message: ReturnType<typeof decodeMessage>): void {
    const content = 'content' in message ? message.content : message.answer;
    const object = 'object' in content ? content.object : undefined;
    const isAnswer = 'answer' in message;
    const question: Question = {
      type: '',
      group: '',
      createdAt: 0,
      expiresAt: Infinity,
      ...message.question,
    };
    const status = isAnswer ? 'answered' : 'waiting';
    const work = Promise.resolve();
    const entry = { question, status, attempts: 0, content: undefined, refusal: undefined, work } as const;
    const restored: MessageEntry = { ...entry, object: undefined };
    speakOf(restored, object);
    add(restored);
    if (object) objects.retain(isAnswer ? `${question.node}` : serverParty, object.digest);
    if (question.node !== 0n) nodes.add(question.node);
    if (!isAnswer) queues.put(question.node, run, question.number);
  }

  function deliveryOf(entry: MessageEntry, content: Content): Deliver {
    const { number, type, group, createdAt, expiresAt } = entry.question;
    entry.attempts += 1;
    return {
      run: run.id,
      message: BigInt(number),
      type,
      group,
      attempt: entry.attempts,
      ttlMs: BigInt(Math.max(1, Math.round(expiresAt - clock.now()))),
      createdAtMs: BigInt(createdAt),
      body: toBody(content),
    };
  }
}

/** Whether the event changes its status. */
function advance(entry: MessageEntry, event: MessageEvent): boolean {
  const next = nextStatus(entry.status, event);
  if (next) entry.status = next;
  return next !== undefined;
}

function toBody(content: Content): Deliver['body'] {
  return 'object' in content
    ? {
        body: {
          $case: 'object',
          value: {
            digest: Buffer.from(content.object.digest, 'hex'),
            sizeBytes: BigInt(content.object.sizeBytes),
          },
        },
      }
    : { body: { $case: 'content', value: content.bytes } };
}

/** The deletion of all messages of a run that is over, and of who its parties were, a few hundred at a time. */
export async function removeMessages(store: Store, tenant: string, run: bigint): Promise<void> {
  for (const prefix of [messagePrefix(tenant, run), runNodePrefix(tenant, run)]) {
    for (;;) {
      const stored = await store.list({ prefix, limit: 500 });
      if (stored.length === 0) break;
      await store.commit(stored.map(({ key }): Change => ({ type: 'delete', key })));
    }
  }
}
