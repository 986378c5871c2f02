/** The messages of one run on the disk, and the nodes that they were stored for: the parties of the run. */
import type { Clock, Timer } from '../../../base/clock.js';
import type { DiskFloor } from '../../../base/disk-floor.js';
import { untilStored } from '../../../store/retry.js';
import { pagesBelow } from '../../../store/pages.js';
import type { Change, Key, Store } from '../../../store/store.js';
import { messageKey, messagePrefix, numberOfKey, runNodeKey, runNodePrefix } from '../run-keys.js';
import {
  decodeMessage,
  encodeAnswer,
  encodeQuestion,
  type Answer,
  type Content,
  type Question,
  type StoredMessage,
} from './message-record.js';

export interface StoredMessagesOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly tenant: string;
  /** Keeps room on the disk for the link's own records. */
  readonly floor: Pick<DiskFloor, 'require'>;
}

const pageSize = 500;
/** Answers that were taken are removed together: each commit of its own would cost as much as storing the next message. */
const removeAfterMs = 50;

export class StoredMessages {
  readonly #run: bigint;
  readonly #options: StoredMessagesOptions;
  readonly #nodes = new Set<bigint>();
  #removed: Key[] = [];
  #removal: Timer | undefined;

  constructor(run: bigint, options: StoredMessagesOptions) {
    this.#run = run;
    this.#options = options;
  }

  get nodes(): ReadonlySet<bigint> {
    return this.#nodes;
  }

  /** Yields the messages that an earlier process of the link stored. */
  async *load(): AsyncGenerator<StoredMessage, void> {
    const { store, tenant } = this.#options;
    for (const { key } of await store.list({ prefix: runNodePrefix(tenant, this.#run) }))
      this.#nodes.add(numberOfKey(key));
    const prefix = messagePrefix(tenant, this.#run);
    for await (const page of pagesBelow(store, prefix, pageSize)) {
      for (const { value } of page) {
        const message = decodeMessage(value);
        if (message.question.node !== 0n) this.#nodes.add(message.question.node);
        yield message;
      }
    }
  }

  /** Writes nothing if `isWanted` no longer holds once there is room on the disk. */
  async putQuestion(question: Question, content: Content, isWanted: () => boolean): Promise<void> {
    const { store, floor, tenant } = this.#options;
    const { node, number } = question;
    const value = encodeQuestion(question, content);
    await floor.require(value.length);
    if (!isWanted()) return;
    const changes: Change[] = [{ type: 'put', key: this.#keyOf(number), value }];
    if (!this.#nodes.has(node))
      changes.push({ type: 'put', key: runNodeKey(tenant, this.#run, node), value: Buffer.alloc(0) });
    await store.commit(changes);
    this.#nodes.add(node);
  }

  /** Stores the answer of a message that was not accepted; does not retry. */
  async putRefusal(question: Question, refusal: Answer): Promise<void> {
    const value = encodeAnswer(question, refusal);
    await this.#options.store.commit([{ type: 'put', key: this.#keyOf(question.number), value }]);
  }

  /** Retries as long as `isWanted` until the answer is on the disk. */
  async putAnswer(question: Question, answer: Answer, isWanted: () => boolean): Promise<void> {
    const { store, clock, floor } = this.#options;
    const key = this.#keyOf(question.number);
    const value = encodeAnswer(question, answer);
    // Errors and names of objects are small, and stored even on a nearly full disk. Contents wait until there is room for them.
    const put = async (): Promise<void> => {
      if ('bytes' in answer) await floor.require(value.length);
      await store.commit([{ type: 'put', key, value }]);
    };
    await untilStored(clock, put, isWanted);
  }

  /** Retries as long as `isWanted`; undefined if there is no question under this number. */
  async readContent(number: number, isWanted: () => boolean): Promise<Content | undefined> {
    const { store, clock } = this.#options;
    const value = await untilStored(clock, () => store.get(this.#keyOf(number)), isWanted);
    const message = value && decodeMessage(value);
    return message && 'content' in message ? message.content : undefined;
  }

  async readAnswer(number: number): Promise<Answer | undefined> {
    const value = await this.#options.store.get(this.#keyOf(number));
    const message = value && decodeMessage(value);
    return message && 'answer' in message ? message.answer : undefined;
  }

  /** Removes the message soon. After a crash before that the server half gets the answer again and takes it again. */
  remove(number: number): void {
    this.#removed.push(this.#keyOf(number));
    this.#removal ??= this.#options.clock.after(removeAfterMs, () => void this.flush());
  }

  /** Removes at once the messages that are to be removed. */
  async flush(): Promise<void> {
    this.#removal?.cancel();
    this.#removal = undefined;
    const changes = this.#removed.map((key): Change => ({ type: 'delete', key }));
    this.#removed = [];
    // A message that cannot be removed now is removed with the run.
    if (changes.length > 0) await this.#options.store.commit(changes).catch(() => undefined);
  }

  #keyOf(number: number): Key {
    return messageKey(this.#options.tenant, this.#run, number);
  }
}

/** Removes the messages and the list of nodes of a run that is over, a few hundred at a time. */
export async function removeMessages(store: Store, tenant: string, run: bigint): Promise<void> {
  for (const prefix of [messagePrefix(tenant, run), runNodePrefix(tenant, run)]) {
    for (;;) {
      const stored = await store.list({ prefix, limit: pageSize });
      if (stored.length === 0) break;
      await store.commit(stored.map(({ key }): Change => ({ type: 'delete', key })));
    }
  }
}
