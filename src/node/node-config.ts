/**
 * A node's own settings, which whatever runs on it reads: `dataset-path="datasets/part_1" partition-id=1 flag=true`.
 * The pairs are TOML's, separated by white space or new lines; `#` starts a comment. Keys are bare and flat, values
 * are strings, integers, floats and booleans. What TOML has beyond that is refused with an error that points at it.
 */
import { RollcallError } from '../base/errors.js';
import { createCursor, type Cursor } from './text-cursor.js';

export type NodeConfigValue = string | number | bigint | boolean;

/** An integer beyond 2^53 is a bigint. The object has no prototype, so that no key means anything but itself. */
export type NodeConfig = Readonly<Record<string, NodeConfigValue>>;

/** Of the whole text, in UTF-8. */
export const maxNodeConfigBytes = 64 * 1024;

/** Reads pairs; CONFIG_INVALID with the line and a caret under the unexpected character. */
export function parseNodeConfig(text: string): NodeConfig {
  if (Buffer.byteLength(text) > maxNodeConfigBytes) {
    throw new RollcallError('CONFIG_INVALID', `at most ${maxNodeConfigBytes} bytes`);
  }
  const cursor = createCursor(text);
  const entries = new Map<string, NodeConfigValue>();
  skipBlank(cursor);
  while (!cursor.atEnd()) {
    const [key, value] = readPair(cursor, entries);
    entries.set(key, value);
    separate(cursor);
  }
  return freeze(entries);
}

/** Takes the mapping a YAML file holds; CONFIG_INVALID names the key that does not fit. */
export function nodeConfigFromMapping(mapping: object): NodeConfig {
  const entries = new Map<string, NodeConfigValue>();
  for (const [key, value] of Object.entries(mapping) as [string, unknown][]) {
    if (!isKey(key)) throw new RollcallError('CONFIG_INVALID', keyWanted);
    entries.set(key, checkValue(key, value));
  }
  return freeze(entries);
}

function freeze(entries: ReadonlyMap<string, NodeConfigValue>): NodeConfig {
  const config = Object.create(null) as Record<string, NodeConfigValue>;
  for (const [key, value] of entries) config[key] = value;
  return Object.freeze(config);
}

const keyWanted = 'expected keys of letters, digits, "-", "_" and single dots, such as partition-id';

function isKey(key: string): boolean {
  return /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/.test(key);
}

function checkValue(key: string, value: unknown): NodeConfigValue {
  if (typeof value === 'string' || typeof value === 'boolean') return value;
  if (typeof value === 'bigint') return narrow(value);
  if (typeof value === 'number' && Number.isFinite(value)) {
    // Beyond this a file's digits are lost already.
    if (!Number.isInteger(value) || Number.isSafeInteger(value)) return value;
  }
  throw new RollcallError('CONFIG_INVALID', `"${key}" must be a string, an integer, a float or a boolean`);
}

function skipBlank(cursor: Cursor): void {
  cursor.take(/(?:[ \t\r\n]+|#[^\r\n]*)+/y);
}

function separate(cursor: Cursor): void {
  const before = cursor.position();
  skipBlank(cursor);
  if (cursor.atEnd() || cursor.position() > before) return;
  throw cursor.fail(
    cursor.looking(/[,;]/y)
      ? 'expected a space between pairs, nothing else'
      : 'expected a space before the next pair',
  );
}

function readPair(cursor: Cursor, taken: ReadonlyMap<string, unknown>): [string, NodeConfigValue] {
  const start = cursor.position();
  const key = cursor.take(/[A-Za-z0-9_.-]+/y);
  if (key === undefined) throw cursor.fail('expected a key of letters, digits, "-", "_" and dots');
  if (!isKey(key)) throw cursor.fail('expected a key with single dots between its parts', start);
  if (taken.has(key)) throw cursor.fail('this key was given before', start);
  cursor.take(/[ \t]+/y);
  if (cursor.take(/=/y) === undefined) throw cursor.fail('expected "=" after the key');
  cursor.take(/[ \t]+/y);
  return [key, readValue(cursor)];
}

function readValue(cursor: Cursor): NodeConfigValue {
  if (cursor.looking(/"/y)) return readBasicString(cursor);
  if (cursor.looking(/'/y)) return readLiteralString(cursor);
  const start = cursor.position();
  const word = cursor.take(/[^\s"'#,;=]+/y);
  if (word === undefined) throw cursor.fail('expected a value: a number, true, false or text in quotes');
  if (word === 'true' || word === 'false') return word === 'true';
  const value = readInteger(word, cursor, start) ?? readFloat(word, cursor, start);
  if (value === undefined) throw cursor.fail(explainWord(word), start);
  return value;
}

function explainWord(word: string): string {
  if (/^[+-]?0\d/.test(word)) return 'expected a number without leading zeros; text goes in quotes';
  if (/^(?:true|false)$/i.test(word)) return 'expected true or false in lower case';
  if (/^[[{]/.test(word)) return 'expected a single value; lists and tables are not taken';
  return 'expected a number, true, false or text in quotes';
}

// Letters of either case stand only for hexadecimal digits.
const integerPattern =
  /^(?:[+-]?(?:0|[1-9](?:_?\d)*)|0x[\da-fA-F](?:_?[\da-fA-F])*|0o[0-7](?:_?[0-7])*|0b[01](?:_?[01])*)$/;

function readInteger(word: string, cursor: Cursor, start: number): number | bigint | undefined {
  if (!integerPattern.test(word)) return undefined;
  // BigInt takes neither separators nor a plus.
  const plain = word.replaceAll('_', '').replace(/^\+/, '');
  const value = plain.startsWith('-') ? -BigInt(plain.slice(1)) : BigInt(plain);
  if (value !== BigInt.asIntN(64, value)) throw cursor.fail('expected an integer of at most 64 bits', start);
  return narrow(value);
}

function narrow(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

const floatPattern = /^[+-]?(?:0|[1-9](?:_?\d)*)(?:\.\d(?:_?\d)*)?(?:e[+-]?\d(?:_?\d)*)?$/i;

function readFloat(word: string, cursor: Cursor, start: number): number | undefined {
  if (!floatPattern.test(word)) return undefined;
  const value = Number(word.replaceAll('_', ''));
  if (!Number.isFinite(value)) throw cursor.fail('expected a finite number', start);
  return value;
}

function readLiteralString(cursor: Cursor): string {
  const start = cursor.position();
  const body = cursor.take(/'[^'\u0000-\u0008\u000a-\u001f\u007f]*/y) ?? '';
  closeString(cursor, "'", start);
  return body.slice(1);
}

function readBasicString(cursor: Cursor): string {
  const start = cursor.position();
  cursor.take(/"/y);
  const parts: string[] = [];
  for (;;) {
    parts.push(cursor.take(/[^"\\\u0000-\u0008\u000a-\u001f\u007f]+/y) ?? '');
    if (!cursor.looking(/\\/y)) break;
    parts.push(readEscape(cursor));
  }
  closeString(cursor, '"', start);
  return parts.join('');
}

function closeString(cursor: Cursor, quote: '"' | "'", start: number): void {
  if (cursor.take(quote === '"' ? /"/y : /'/y) !== undefined) return;
  if (cursor.atEnd()) throw cursor.fail(`expected a closing ${quote} for the text that starts here`, start);
  if (cursor.looking(/[\r\n]/y)) throw cursor.fail(`expected a closing ${quote} on the same line`);
  throw cursor.fail('control characters are not allowed in text; "\\t" and "\\u0007" write them');
}

const escapes: Readonly<Partial<Record<string, string>>> = {
  '\\b': '\b',
  '\\t': '\t',
  '\\n': '\n',
  '\\f': '\f',
  '\\r': '\r',
  '\\"': '"',
  '\\\\': '\\',
};

function readEscape(cursor: Cursor): string {
  const start = cursor.position();
  const short = cursor.take(/\\[btnfr"\\]/y);
  if (short !== undefined) return escapes[short] ?? '';
  const long = cursor.take(/\\(?:u[\da-fA-F]{4}|U[\da-fA-F]{8})/y);
  if (long === undefined)
    throw cursor.fail('expected one of \\b \\t \\n \\f \\r \\" \\\\ \\uXXXX \\UXXXXXXXX');
  const point = Number.parseInt(long.slice(2), 16);
  const isScalar = point <= 0x10ffff && (point < 0xd800 || point > 0xdfff);
  if (!isScalar) throw cursor.fail('expected the number of a Unicode character', start);
  return String.fromCodePoint(point);
}
