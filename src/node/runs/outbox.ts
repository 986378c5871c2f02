/**
 * Answers of one run on their way to the link: the content of an answer first, when it is an object, then the answer. What
 * is in the journal is sent again on every session until the link has it, so nothing is lost when a send fails; and the link
 * passes over an answer that it has.
 */
import { isRollcallError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import type { ObjectBucket } from '../../objects/object-store.js';
import type { Reply } from '../../protocol/generated/rollcall/v1/link.js';
import type { Answer, Journal } from './journal.js';
import type { LinkHolder } from './link-holder.js';
import { sendObject } from './object-transfer.js';
import type { RunLogs } from './run-logs.js';
import type { Slots } from './runner-slots.js';

export interface OutboxOptions {
  readonly run: bigint;
  readonly link: LinkHolder;
  readonly journal: () => Promise<Journal>;
  /** The objects of answers. */
  readonly openBucket: () => Promise<ObjectBucket>;
  readonly transferSlots: Slots;
  /** Flushed before an answer: lines of its handler come before it. */
  readonly logs: RunLogs;
  readonly log: Log;
  readonly signal: AbortSignal;
}

export class Outbox {
  readonly #options: OutboxOptions;
  readonly #queue = new Map<number, Answer | undefined>();
  #isRunning = false;

  constructor(options: OutboxOptions) {
    this.#options = options;
  }

  /** Sends an answer that is in the journal; it is read from there unless it is given. */
  post(message: number, answer?: Answer): void {
    // Without a link it is sent when there is one.
    if (!this.#options.link.live) return;
    this.#queue.set(message, answer);
    void this.#sendAll();
  }

  /** Sends an answer that is not kept: it is found anew when the message comes again. */
  postOnce(message: number, answer: Answer): void {
    const { run, link } = this.#options;
    link.live?.send({ $case: 'reply', value: toWire(run, message, answer) });
  }

  /** The answer need not be sent any more. */
  drop(message: number): void {
    this.#queue.delete(message);
  }

  async #sendAll(): Promise<void> {
    if (this.#isRunning) return;
    this.#isRunning = true;
    try {
      for (const [message, given] of this.#queue) {
        this.#queue.delete(message);
        await this.#sendOne(message, given);
      }
    } finally {
      this.#isRunning = false;
    }
  }

  async #sendOne(message: number, given: Answer | undefined): Promise<void> {
    const { run, link, journal, logs, log, signal } = this.#options;
    try {
      const answer = given ?? (await (await journal()).findAnswer(run, message));
      if (!answer || signal.aborted) return;
      const sent = answer.kind === 'object' ? await this.#upload(message, answer) : answer;
      logs.flush();
      const { live } = link;
      if (live && !live.send({ $case: 'reply', value: toWire(run, message, sent) })) await live.drained();
    } catch (error) {
      if (signal.aborted) return;
      log.warn({ run: `${run}`, message, err: error }, 'an answer could not be sent');
    }
  }

  /** Gives the answer to send: an error in its place when this node has lost its content. */
  async #upload(message: number, answer: Answer & { readonly kind: 'object' }): Promise<Answer> {
    const { run, link, journal, openBucket, transferSlots, signal } = this.#options;
    const bucket = await openBucket();
    const manifest = await bucket.find(answer.digest);
    if (!manifest) {
      const lost = { kind: 'error', code: 'OBJECT_LOST', message: 'the node has lost its answer' } as const;
      await (await journal()).answer(run, message, lost);
      return lost;
    }
    await link.persist(
      ({ objects }) =>
        transferSlots.use(() => sendObject({ objects, run, manifest, bucket, signal }), signal),
      error => isRollcallError(error, 'NOT_FOUND') || isRollcallError(error, 'PROTOCOL_INVALID'),
      signal,
    );
    return answer;
  }
}

function toWire(run: bigint, message: number, answer: Answer): Reply {
  return { run, message: BigInt(message), outcome: outcomeOf(answer) };
}

function outcomeOf(answer: Answer): Reply['outcome'] {
  if (answer.kind === 'error')
    return { $case: 'error', value: { code: answer.code, message: answer.message } };
  if (answer.kind === 'content')
    return { $case: 'body', value: { body: { $case: 'content', value: Buffer.from(answer.content) } } };
  const value = { digest: Buffer.from(answer.digest, 'hex'), sizeBytes: BigInt(answer.sizeBytes) };
  return { $case: 'body', value: { body: { $case: 'object', value } } };
}
