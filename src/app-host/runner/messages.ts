/**
 * The messages of a server half between the app and the link: numbered in the order in which they are posted, sent again until
 * they are accepted, and their answers kept until whoever wants them has taken them. What is too large for a frame is stored at
 * the link right before the message that speaks of it: the link keeps it only as long as some message does.
 */
import { isMessageErrorCode } from '../../app/message-error.js';
import type { GridProgress, MessageFailure } from '../../app/app.js';
import { RollcallError, toRollcallError } from '../../base/errors.js';
import type { Frame } from '../wire/frames.js';
import { bodyOf, nameContent, type OutgoingContent } from './content.js';
import type { RunnerLink } from './link.js';
import { parseObjectName, type ObjectName } from './objects.js';

export interface PostedMessage {
  readonly node: string;
  readonly type: string;
  readonly group: string;
  readonly ttlMs: number;
  readonly content: OutgoingContent;
}

/** As it came. */
export type RawAnswer = { readonly node: string } & (
  { readonly bytes: Buffer } | { readonly object: ObjectName } | { readonly error: MessageFailure }
);

export interface AnswerReceiver {
  onAccepted(): void;
  onAnswer(number: number, answer: RawAnswer): void;
  onProgress(progress: GridProgress): void;
}

export interface MessageBook {
  /** It goes as soon as it may. Gives its number. */
  post(message: PostedMessage, receiver?: AnswerReceiver): number;
  /** Resolves when all of them are accepted. */
  accepted(numbers: readonly number[]): Promise<void>;
  /** From now on the answers are for this one, also those that came already. REQUEST_INVALID when one is somebody else's. */
  claim(numbers: readonly number[], receiver: AnswerReceiver): void;
  /** The answer is in good hands. */
  taken(number: number): void;
  /** True for a frame that it took. */
  take(frame: Frame): boolean;
  onConnected(): void;
}

interface Entry {
  /** Until it is accepted. */
  message: PostedMessage | undefined;
  receiver: AnswerReceiver | undefined;
  answer?: RawAnswer;
  /** The link was told already, or never had it. */
  isTaken: boolean;
  onAccepted?: () => void;
}

const mostNotAccepted = 256;
/** The link keeps four objects that it was given last and no message has spoken of yet; these are among them. */
const mostLeases = 2;

export function createMessageBook(link: Pick<RunnerLink, 'send' | 'ready' | 'withObjects'>): MessageBook {
  /** Those that were not taken. */
  const entries = new Map<number, Entry>();
  /** Those among them that were not accepted, in order. */
  const unaccepted = new Map<number, Entry>();
  let last = 0;
  let sentTo = 0;
  let inFlight = 0;
  let isSending = false;
  let connections = 0;
  /** Digests of what the link was given last on this connection. */
  let leases: readonly string[] = [];

  async function sendOn(): Promise<void> {
    if (isSending) return;
    isSending = true;
    while (sentTo < last && inFlight < mostNotAccepted) {
      const number = sentTo + 1;
      const entry = unaccepted.get(number);
      if (!entry?.message) sentTo = number;
      else if (await storeContent(number, entry, entry.message.content)) {
        sentTo = number;
        inFlight += 1;
        if (!sendNow(number, entry.message)) await link.ready();
      }
    }
    isSending = false;
  }

  function sendNow(number: number, { content, ...message }: PostedMessage): boolean {
    return link.send('send', { number, ...message, ...nameContent(content) }, bodyOf(content));
  }

  /** False when the message cannot go now: it was refused, or others are to be sent again before it. */
  async function storeContent(number: number, entry: Entry, content: OutgoingContent): Promise<boolean> {
    const { manifest } = content;
    if (!manifest || leases.includes(manifest.digest)) return true;
    const before = connections;
    try {
      await link.withObjects(objects => objects.write(manifest, content.parts));
    } catch (error) {
      sentTo = number;
      refuse(number, entry, toRollcallError(error).message);
      return false;
    }
    if (connections !== before) return false;
    leases = [...leases, manifest.digest].slice(-mostLeases);
    return true;
  }

  /** The link never hears of it. */
  function refuse(number: number, entry: Entry, message: string): void {
    const node = entry.message?.node ?? '';
    entry.isTaken = true;
    settle(number, entry);
    give(number, entry, { node, error: { code: 'APP_INVALID', message } });
  }

  function settle(number: number, entry: Entry): void {
    unaccepted.delete(number);
    entry.message = undefined;
    entry.receiver?.onAccepted();
    entry.onAccepted?.();
  }

  function give(number: number, entry: Entry, answer: RawAnswer): void {
    entry.answer = answer;
    if (entry.receiver) entry.receiver.onAnswer(number, answer);
    else if (!('object' in answer) && !entry.isTaken) {
      // It is all here. Answers that nobody asks for yet must not keep the others away.
      entry.isTaken = true;
      link.send('taken', { number });
    }
  }

  function accept(number: number): void {
    // It may have been sent on an earlier connection, and not yet again on this one.
    if (number > last) throw malformed(`message ${number} was never sent`);
    const entry = unaccepted.get(number);
    if (!entry) return;
    if (number <= sentTo) inFlight -= 1;
    settle(number, entry);
    void sendOn();
  }

  function takeAnswer(number: number, frame: Frame): void {
    const answer = parseAnswer(frame);
    accept(number);
    const entry = entries.get(number);
    if (!entry) {
      // Nothing but the word that it was taken was lost.
      link.send('taken', { number });
    } else if (entry.isTaken) link.send('taken', { number });
    else if (!entry.answer) give(number, entry, answer);
  }

  return {
    post(message, receiver) {
      last += 1;
      const entry: Entry = { message, receiver, isTaken: false };
      entries.set(last, entry);
      unaccepted.set(last, entry);
      void sendOn();
      return last;
    },
    async accepted(numbers) {
      for (const number of numbers) {
        const entry = unaccepted.get(number);
        if (entry) await new Promise<void>(resolve => (entry.onAccepted = resolve));
      }
    },
    claim(numbers, receiver) {
      const claimed =
        new Set(numbers).size === numbers.length ? numbers.map(number => entries.get(number)) : [undefined];
      if (claimed.some(entry => entry === undefined || entry.receiver !== undefined))
        throw new RollcallError(
          'REQUEST_INVALID',
          'one of these messages was never sent, or its answer is received already',
        );
      for (const [index, number] of numbers.entries()) {
        const entry = claimed[index];
        if (!entry) continue;
        entry.receiver = receiver;
        if (!unaccepted.has(number)) receiver.onAccepted();
        if (entry.answer) receiver.onAnswer(number, entry.answer);
      }
    },
    taken(number) {
      if (entries.get(number)?.isTaken === false) link.send('taken', { number });
      entries.delete(number);
    },
    take(frame) {
      if (frame.name === 'accepted') accept(numberOf(frame));
      else if (frame.name === 'answer') takeAnswer(numberOf(frame), frame);
      else if (frame.name === 'progress') {
        const number = numberOf(frame);
        entries.get(number)?.receiver?.onProgress(parseProgress(number, frame));
      } else return false;
      return true;
    },
    onConnected() {
      const [first = last + 1] = unaccepted.keys();
      sentTo = first - 1;
      inFlight = 0;
      connections += 1;
      leases = [];
      void sendOn();
    },
  };
}

function parseAnswer({ value, body }: Frame): RawAnswer {
  const node = String(value['node']);
  if (value['error'] !== undefined) {
    const { code, message } = (value['error'] ?? {}) as Partial<Record<string, unknown>>;
    const known = typeof code === 'string' && isMessageErrorCode(code) ? code : 'APP_INVALID';
    return { node, error: { code: known, message: String(message) } };
  }
  return value['object'] === undefined
    ? { node, bytes: body }
    : { node, object: parseObjectName(value['object']) };
}

function parseProgress(number: number, { value }: Frame): GridProgress {
  const { node, fraction, note } = value;
  return { message: number, node: String(node), fraction: Number(fraction), note: String(note) };
}

function numberOf({ name, value }: Frame): number {
  const { number } = value;
  if (typeof number === 'number' && Number.isSafeInteger(number) && number > 0) return number;
  throw malformed(`a frame "${name}" has no number`);
}

function malformed(what: string): RollcallError {
  return new RollcallError('PROTOCOL_INVALID', what);
}
