/**
 * The form of a message in the store: first a question, later its answer under the same key. The content of up to 64 KiB follows
 * a JSON head, so that it is not copied into text and the head can be read without it.
 */
import { RollcallError } from '../../../base/errors.js';
import type { MessageErrorCode } from '../../../app/message-error.js';
import type { Value } from '../../../store/store.js';

export interface ObjectName {
  /** Hex. */
  readonly digest: string;
  readonly sizeBytes: number;
}

/** The bytes themselves, or the object that holds them. */
export type Content = { readonly bytes: Buffer } | { readonly object: ObjectName };

export interface Question {
  readonly number: number;
  readonly node: bigint;
  readonly type: string;
  readonly group: string;
  /** Milliseconds since 1970. */
  readonly createdAt: number;
  readonly expiresAt: number;
}

export interface MessageFailure {
  readonly code: MessageErrorCode;
  readonly message: string;
}

export type Answer = Content | { readonly error: MessageFailure };

export type StoredMessage =
  | { readonly question: Question; readonly content: Content }
  | { readonly question: Pick<Question, 'number' | 'node'>; readonly answer: Answer };

interface Head {
  readonly question: Omit<Question, 'node'> & { readonly node: string };
  readonly isAnswer: boolean;
  readonly object?: ObjectName;
  readonly error?: MessageFailure;
}

export function encodeQuestion(question: Question, content: Content): Buffer {
  return encode({ question: { ...question, node: `${question.node}` }, isAnswer: false }, content);
}

export function encodeAnswer({ number, node }: Pick<Question, 'number' | 'node'>, answer: Answer): Buffer {
  return encode({ question: { number, node: `${node}` } as Head['question'], isAnswer: true }, answer);
}

function encode(head: Head, content: Content | { readonly error: MessageFailure }): Buffer {
  const bytes = 'bytes' in content ? content.bytes : Buffer.alloc(0);
  const text = Buffer.from(JSON.stringify({ ...head, ...(!('bytes' in content) && content) }));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(text.length);
  return Buffer.concat([length, text, bytes]);
}

export function decodeMessage(value: Value): StoredMessage {
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  try {
    const end = 4 + bytes.readUInt32BE();
    const { question, isAnswer, object, error } = JSON.parse(bytes.toString('utf8', 4, end)) as Head;
    const node = BigInt(question.node);
    if (!Number.isSafeInteger(question.number)) throw new TypeError('invalid number');
    if (!isAnswer && !Number.isFinite(question.expiresAt)) throw new TypeError('invalid time');
    const content: Content = object ? { object } : { bytes: bytes.subarray(end) };
    return isAnswer
      ? { question: { ...question, node }, answer: error ? { error } : content }
      : { question: { ...question, node }, content };
  } catch (cause) {
    throw new RollcallError('INTERNAL', 'a message in the store is damaged', { cause });
  }
}
