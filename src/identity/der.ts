/**
 * A small strict reader of DER (X.690): definite minimal lengths, single-byte tags, no bytes after the end. It reads
 * one level at a time, never recurses, copies nothing, and throws only RollcallErrors for any input. It is used where
 * the exact bytes matter: certificates, signatures, and naming foreign keys.
 */
import { RollcallError } from '../base/errors.js';

export interface DerElement {
  /** The identifier byte: class, constructed bit and number. */
  readonly tag: number;
  readonly content: Buffer;
  /** Identifier, length and content. */
  readonly whole: Buffer;
}

export const derTag = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
} as const;

/** The tag of `[number]`, constructed. */
export function contextTag(number: number): number {
  return 0xa0 | number;
}

function malformed(what: string): RollcallError {
  return new RollcallError('REQUEST_INVALID', `malformed DER: ${what}`);
}

interface Extent {
  readonly start: number;
  readonly end: number;
}

function extentAt(bytes: Buffer, at: number): Extent {
  const first = bytes[at + 1];
  if (first === undefined) throw malformed('cut off');
  if (first < 0x80) return extentOf(bytes, at + 2, first);
  const count = first & 0x7f;
  if (count === 0) throw malformed('indefinite length');
  if (count > 4 || at + 2 + count > bytes.length) throw malformed('length out of bounds');
  const length = bytes.readUIntBE(at + 2, count);
  if (length < 0x80 || length < 2 ** (8 * (count - 1))) throw malformed('length not minimal');
  return extentOf(bytes, at + 2 + count, length);
}

function extentOf(bytes: Buffer, start: number, length: number): Extent {
  if (length > bytes.length - start) throw malformed('length out of bounds');
  return { start, end: start + length };
}

function elementAt(bytes: Buffer, at: number): DerElement {
  const tag = bytes[at];
  if (tag === undefined) throw malformed('cut off');
  if ((tag & 0x1f) === 0x1f) throw malformed('tag of more than one byte');
  const { start, end } = extentAt(bytes, at);
  return { tag, content: bytes.subarray(start, end), whole: bytes.subarray(at, end) };
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Reads exactly one element that fills `bytes`, with the given tag if any. */
export function readDer(bytes: Uint8Array, tag?: number): DerElement {
  const element = elementAt(asBuffer(bytes), 0);
  if (element.whole.length !== bytes.length) throw malformed('bytes after the end');
  return tag === undefined ? element : expectTag(element, tag);
}

/** The element itself if it exists and has this tag. */
export function expectTag(element: DerElement | undefined, tag: number): DerElement {
  if (element?.tag !== tag) {
    throw malformed(
      `expected tag 0x${tag.toString(16)}, found ${element ? `0x${element.tag.toString(16)}` : 'the end'}`,
    );
  }
  return element;
}

/** The elements inside a constructed element, in order. */
export function childrenOf(element: DerElement): DerElement[] {
  if ((element.tag & 0x20) === 0) throw malformed('not constructed');
  const children: DerElement[] = [];
  for (let at = 0; at < element.content.length;) {
    const child = elementAt(element.content, at);
    children.push(child);
    at += child.whole.length;
  }
  return children;
}

/** The elements inside a SEQUENCE, which the given element must be. */
export function sequenceOf(element: DerElement | undefined): DerElement[] {
  return childrenOf(expectTag(element, derTag.sequence));
}

/** The magnitude of a non-negative INTEGER, big-endian, without leading zero bytes; empty for zero. */
export function unsignedOf(element: DerElement | undefined): Buffer {
  const { content } = expectTag(element, derTag.integer);
  const [first, second] = content;
  if (first === undefined) throw malformed('empty integer');
  if (first >= 0x80) throw malformed('negative integer');
  if (first !== 0) return content;
  if (second !== undefined && second < 0x80) throw malformed('integer not minimal');
  return content.subarray(1);
}

/** A BOOLEAN, which in DER is 0x00 or 0xff. */
export function booleanOf(element: DerElement | undefined): boolean {
  const { content } = expectTag(element, derTag.boolean);
  if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff)) throw malformed('boolean');
  return content[0] === 0xff;
}

/** The bytes of a BIT STRING without unused bits. */
export function bytesOfBits(element: DerElement | undefined): Buffer {
  const { content } = expectTag(element, derTag.bitString);
  if (content[0] !== 0) throw malformed('bit string with unused bits');
  return content.subarray(1);
}

/** An OBJECT IDENTIFIER in dotted decimal. */
export function oidOf(element: DerElement | undefined): string {
  const { content } = expectTag(element, derTag.oid);
  if (content.length === 0 || content.length > 64) throw malformed('object identifier');
  const arcs: bigint[] = [];
  let arc = 0n;
  let started = false;
  for (const byte of content) {
    if (!started && byte === 0x80) throw malformed('object identifier not minimal');
    arc = (arc << 7n) | BigInt(byte & 0x7f);
    started = byte >= 0x80;
    if (!started) {
      arcs.push(arc);
      arc = 0n;
    }
  }
  if (started) throw malformed('object identifier cut off');
  const [joined = 0n, ...rest] = arcs;
  const root = joined < 80n ? joined / 40n : 2n;
  return [root, joined - root * 40n, ...rest].join('.');
}

/** A UTCTime or GeneralizedTime in the forms of RFC 5280 §4.1.2.5, in milliseconds since 1970. */
export function timeOf(element: DerElement | undefined): number {
  const text = element?.content.toString('latin1') ?? '';
  if (element?.tag === derTag.utcTime && /^\d{12}Z$/.test(text)) {
    return timeOfDigits((Number(text.slice(0, 2)) < 50 ? '20' : '19') + text);
  }
  if (element?.tag === derTag.generalizedTime && /^\d{14}Z$/.test(text) && text >= '2050') {
    return timeOfDigits(text);
  }
  throw malformed('time');
}

function timeOfDigits(digits: string): number {
  const iso = digits.replace(/^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6.000Z');
  const time = Date.parse(iso);
  // Date.parse accepts 30 February; formatting the result detects it.
  if (Number.isNaN(time) || new Date(time).toISOString() !== iso) throw malformed('time');
  return time;
}
