/**
 * The content of an app's messages: a record of numbers, texts, truth values, bytes, arrays of numbers, and records. Arrays
 * are not copied, neither when written nor when read, and any language reads them with its own standard library:
 *
 *     "RCC1"  length of the head (uint32)  head (JSON, UTF-8)  sections, in the order in which the head names them
 *
 * All numbers are little-endian. The head is padded with blanks and each section with zeros, so that every section
 * begins at a multiple of eight. In the head a number, a text or a truth value stands for itself, and
 *
 *     {"record":[["name",value],…]}   {"array":"float32","shape":[2,3]}   {"bytes":5}   {"number":"NaN"}
 *
 * for the rest. What is read comes from others: everything is bounded, and nothing is guessed.
 */
import { endianness } from 'node:os';
import { RollcallError } from '../base/errors.js';

const arrayTypes = {
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  float32: Float32Array,
  float64: Float64Array,
} as const;

export type ArrayType = keyof typeof arrayTypes;
export type ArrayData = InstanceType<(typeof arrayTypes)[ArrayType]>;

/** Numbers of one type in rows: the last dimension changes fastest. */
export class NumberArray<D extends ArrayData = ArrayData> {
  readonly data: D;
  readonly shape: readonly number[];

  /** One dimension by default. REQUEST_INVALID when the shape does not hold as many numbers as there are. */
  constructor(data: D, shape: readonly number[] = [data.length]) {
    if (!isShapeOf(shape, data.length))
      throw unfit(`a shape of [${shape.join()}] does not hold ${data.length} numbers`);
    this.data = data;
    this.shape = shape;
  }
}

export type ContentValue = number | string | boolean | Uint8Array | NumberArray | Content;
export interface Content {
  readonly [name: string]: ContentValue;
}

export const contentLimits = { headBytes: 1024 * 1024, depth: 16, values: 10_000, dimensions: 16 } as const;
const magic = 'RCC1';
const alignment = 8;
const alignedTo = (length: number): number => Math.ceil(length / alignment) * alignment;

/** The parts to send one after the other; arrays and bytes are among them as they are, not copied. */
export function encodeContent(content: Content): Uint8Array[] {
  requireLittleEndian();
  const sections: Uint8Array[] = [];
  const counter = createCounter(unfit);
  const tree = toHead(content, sections, counter, 0);
  const text = JSON.stringify(tree);
  const headBytes = alignedTo(8 + Buffer.byteLength(text)) - 8;
  if (headBytes > contentLimits.headBytes) throw unfit('it holds too many names and texts');
  const head = Buffer.alloc(8 + headBytes, ' ');
  head.write(magic, 0, 'latin1');
  head.writeUInt32LE(headBytes, 4);
  head.write(text, 8, 'utf8');
  return [head, ...sections.flatMap(padded)];
}

function padded(section: Uint8Array): Uint8Array[] {
  const missing = alignedTo(section.length) - section.length;
  return missing === 0 ? [section] : [section, new Uint8Array(missing)];
}

/**
 * Arrays and bytes look into the very memory that was given, when it begins at a multiple of eight (otherwise all of it
 * is copied once). PROTOCOL_INVALID for what no `encodeContent` would write.
 */
export function decodeContent(given: Uint8Array): Content {
  requireLittleEndian();
  const bytes = given.byteOffset % alignment === 0 ? given : Uint8Array.from(given);
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.length < 8 || view.toString('latin1', 0, 4) !== magic) throw malformed('it does not begin as one');
  const headBytes = view.readUInt32LE(4);
  if (headBytes > contentLimits.headBytes || 8 + headBytes > view.length || headBytes % alignment !== 0)
    throw malformed('the length of its head is wrong');
  const sections = createSections(view, 8 + headBytes);
  const content = fromHead(parseHead(view.subarray(8, 8 + headBytes)), sections, createCounter(malformed), 0);
  if (!isRecord(content)) throw malformed('it is no record');
  sections.requireEnd();
  return content;
}

function isRecord(value: ContentValue): value is Content {
  return typeof value === 'object' && !(value instanceof Uint8Array) && !(value instanceof NumberArray);
}

type Count = () => void;

function createCounter(refuse: (what: string) => RollcallError): Count {
  let values = 0;
  return () => {
    values += 1;
    if (values > contentLimits.values) throw refuse(`it holds more than ${contentLimits.values} values`);
  };
}

function toHead(value: ContentValue, sections: Uint8Array[], count: Count, depth: number): unknown {
  count();
  if (depth > contentLimits.depth) throw unfit(`records lie more than ${contentLimits.depth} deep`);
  if (typeof value === 'number')
    return Number.isFinite(value) && !Object.is(value, -0) ? value : { number: spell(value) };
  if (typeof value === 'string') return isWhole(value) ? value : refuseText();
  if (typeof value === 'boolean') return value;
  if (value instanceof NumberArray) {
    const { buffer, byteOffset, byteLength } = value.data;
    sections.push(new Uint8Array(buffer, byteOffset, byteLength));
    return { array: typeOf(value.data), shape: value.shape };
  }
  if (value instanceof Uint8Array) {
    sections.push(value);
    return { bytes: value.length };
  }
  requirePlain(value);
  return {
    record: Object.entries(value).map(([name, each]) => [
      isWhole(name) ? name : refuseText(),
      toHead(each, sections, count, depth + 1),
    ]),
  };
}

/** Authors write JavaScript too: what would travel as an empty record, or number by number, is told instead. */
function requirePlain(value: unknown): asserts value is Content {
  if (Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView)))
    throw unfit('an array in it is no NumberArray: new NumberArray(Float32Array.of(1, 2))');
  const prototype: unknown = typeof value === 'object' && value !== null && Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null)
    throw unfit('a value in it is no number, text, truth value, array, bytes or record');
}

/** No half of a character: other languages could not read it, or would read something else. */
function isWhole(text: string): boolean {
  return !/\p{Cs}/u.test(text);
}

function refuseText(): never {
  throw unfit('a text in it holds half a character');
}

function spell(value: number): string {
  return Object.is(value, -0) ? '-0' : String(value);
}

const oddNumbers: Readonly<Record<string, number>> = { NaN, Infinity, '-Infinity': -Infinity, '-0': -0 };

function typeOf(data: ArrayData): ArrayType {
  const found = (Object.keys(arrayTypes) as ArrayType[]).find(type => data instanceof arrayTypes[type]);
  if (found) return found;
  throw unfit('unsupported array type');
}

/** JSON as we write it: what is spelled or padded in another way is no content. */
function parseHead(bytes: Buffer): unknown {
  const text = bytes.toString('utf8').trimEnd();
  const spelled = Buffer.alloc(alignedTo(8 + Buffer.byteLength(text)) - 8, ' ');
  spelled.write(text, 'utf8');
  try {
    const head: unknown = JSON.parse(text);
    if (JSON.stringify(head) === text && spelled.equals(bytes)) return head;
  } catch {
    // Told below.
  }
  throw malformed('its head is no plain JSON');
}

interface Sections {
  take(length: number): { readonly buffer: ArrayBuffer; readonly byteOffset: number };
  requireEnd(): void;
}

function createSections(view: Buffer, from: number): Sections {
  let at = from;
  return {
    take(length) {
      const end = at + alignedTo(length);
      if (!Number.isSafeInteger(end) || end > view.length) throw malformed('it ends too soon');
      if (view.subarray(at + length, end).some(octet => octet !== 0))
        throw malformed('its padding is not empty');
      const byteOffset = view.byteOffset + at;
      at = end;
      return { buffer: view.buffer as ArrayBuffer, byteOffset };
    },
    requireEnd() {
      if (at !== view.length) throw malformed('something follows it');
    },
  };
}

function fromHead(head: unknown, sections: Sections, count: Count, depth: number): ContentValue {
  count();
  if (depth > contentLimits.depth) throw malformed('it is too deep');
  if (typeof head === 'string' && !isWhole(head)) throw malformed('a text in it holds half a character');
  if (typeof head === 'number' || typeof head === 'string' || typeof head === 'boolean') return head;
  const { record, array, shape, bytes, number } = membersOf(head);
  if (Array.isArray(record)) return readRecord(record, sections, count, depth);
  if (isArrayType(array)) return readArray(array, shape, sections);
  if (isLength(bytes)) {
    const { buffer, byteOffset } = sections.take(bytes);
    return new Uint8Array(buffer, byteOffset, bytes);
  }
  if (typeof number === 'string' && Object.hasOwn(oddNumbers, number)) return oddNumbers[number] ?? 0;
  throw malformed('a value in it is of no kind there is');
}

const kinds: ReadonlySet<string> = new Set(['record', 'array shape', 'bytes', 'number']);

function membersOf(head: unknown): Readonly<Record<string, unknown>> {
  if (typeof head === 'object' && head !== null && kinds.has(Object.keys(head).join(' ')))
    return head as Readonly<Record<string, unknown>>;
  throw malformed('a value in it is of no kind there is');
}

function readRecord(entries: readonly unknown[], sections: Sections, count: Count, depth: number): Content {
  const names = new Set<string>();
  const values = entries.map((entry): [string, ContentValue] => {
    const [name, head, ...more] = Array.isArray(entry) ? (entry as unknown[]) : [];
    if (
      typeof name !== 'string' ||
      !isWhole(name) ||
      head === undefined ||
      more.length > 0 ||
      names.has(name)
    )
      throw malformed('a record in it is no list of names and values');
    names.add(name);
    return [name, fromHead(head, sections, count, depth + 1)];
  });
  return Object.fromEntries(values);
}

function readArray(type: ArrayType, shape: unknown, sections: Sections): NumberArray {
  if (!Array.isArray(shape) || !shape.every(isLength)) throw malformed('invalid array shape');
  const length = shape.reduce((product, each) => product * each, 1);
  if (!isShapeOf(shape, length)) throw malformed('invalid array shape');
  const Data = arrayTypes[type];
  const { buffer, byteOffset } = sections.take(length * Data.BYTES_PER_ELEMENT);
  return new NumberArray(new Data(buffer, byteOffset, length), shape);
}

function isArrayType(value: unknown): value is ArrayType {
  return typeof value === 'string' && Object.hasOwn(arrayTypes, value);
}

function isLength(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

/** No dimensions hold one number. */
function isShapeOf(shape: readonly number[], length: number): boolean {
  if (shape.length > contentLimits.dimensions || !shape.every(isLength)) return false;
  return shape.reduce((product, each) => product * each, 1) === length && Number.isSafeInteger(length);
}

function requireLittleEndian(): void {
  if (endianness() !== 'LE') throw new RollcallError('INTERNAL', 'contents are for little-endian machines');
}

function unfit(what: string): RollcallError {
  return new RollcallError('REQUEST_INVALID', `this content cannot be sent: ${what}`);
}

function malformed(what: string): RollcallError {
  return new RollcallError('PROTOCOL_INVALID', `this is no content of an app: ${what}`);
}
