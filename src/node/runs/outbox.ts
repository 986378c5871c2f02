/**
 * Answers of one run on their way to the link: the content of an answer first, when it is an object, then the answer. What
 * is in the journal is sent again on every session until the link has it, so nothing is lost when a send fails; and what
 * is sent twice the link passes over.
 */
import { isRollcallError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import type { ObjectRoom } from '../../objects/object-store.js';
import type { Reply } from '../../protocol/generated/rollcall/v1/link.js';
import type { Answer, Journal } from './journal.js';
import type { LinkHolder } from './link-holder.js';
import { sendObject } from './object-transfer.js';
import type { Slots } from './runner-slots.js';

export interface OutboxOptions {
  readonly run: bigint;
  readonly link: LinkHolder;
  readonly journal: () => Promise<Journal>;
  /** Where answers that are objects lie. */
  readonly room: () => Promise<ObjectRoom>;
  readonly transferSlots: Slots;
  /** Called before an answer: lines of its handler come before it. */
  readonly flushLogs: () => void;
  readonly log: Log;
  readonly signal: AbortSignal;
}

export interface Outbox {
  /** Sends an answer that is in the journal; it is read from there unless it is given. */
  post(message: number, answer?: Answer): void;
  /** Sends an answer that is not kept: it is found anew when the message comes again. */
  postOnce(message: number, answer: Answer): void;
  /** It need not be sent any more. */
  drop(message: number): void;
}

export function createOutbox(options: OutboxOptions): Outbox {
  const { run, link, journal, room, transferSlots, flushLogs, log, signal } = options;
  const queue = new Map<number, Answer | undefined>();
  let isRunning = false;

  async function sendAll(): Promise<void> {
    if (isRunning) return;
    isRunning = true;
    try {
      for (const [message, given] of queue) {
        queue.delete(message);
        await sendOne(message, given);
      }
    } finally {
      isRunning = false;
    }
  }

  async function sendOne(message: number, given: Answer | undefined): Promise<void> {
    try {
      const answer = given ?? (await (await journal()).findAnswer(run, message));
      if (!answer || signal.aborted) return;
      const sent = answer.kind === 'object' ? await upload(message, answer) : answer;
      flushLogs();
      const { live } = link;
      if (live && !live.send({ $case: 'reply', value: toWire(run, message, sent) })) await live.drained();
    } catch (error) {
      if (signal.aborted) return;
      log.warn({ run: `${run}`, message, err: error }, 'an answer could not be sent');
    }
  }

  /** Gives what is to be answered: a content that is lost on this node is told instead of it. */
  async function upload(message: number, answer: Answer & { readonly kind: 'object' }): Promise<Answer> {
    const from = await room();
    const manifest = await from.find(answer.digest);
    if (!manifest) {
      const lost = { kind: 'error', code: 'OBJECT_LOST', message: 'the node has lost its answer' } as const;
      await (await journal()).answer(run, message, lost);
      return lost;
    }
    await link.persist(
      ({ objects }) =>
        transferSlots.use(() => sendObject({ client: objects, run, manifest, room: from, signal }), signal),
      error => isRollcallError(error, 'NOT_FOUND') || isRollcallError(error, 'PROTOCOL_INVALID'),
      signal,
    );
    return answer;
  }

  return {
    post(message, answer) {
      // Without a link it is sent when there is one.
      if (!link.live) return;
      queue.set(message, answer);
      void sendAll();
    },
    postOnce(message, answer) {
      link.live?.send({ $case: 'reply', value: toWire(run, message, answer) });
    },
    drop: message => void queue.delete(message),
  };
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
