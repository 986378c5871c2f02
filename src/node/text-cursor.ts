/**
 * Reads text from left to right by sticky patterns and, when it finds something else, makes an error that shows the
 * line with a caret under the character. It knows nothing of what the text means.
 */
import { RollcallError } from '../base/errors.js';

export interface Cursor {
  atEnd(): boolean;
  /** In UTF-16 units from the start. */
  position(): number;
  /** Whether the sticky pattern matches here; nothing is read. */
  looking(pattern: RegExp): boolean;
  /** Reads what the sticky pattern matches here, or gives undefined and reads nothing. */
  take(pattern: RegExp): string | undefined;
  /** CONFIG_INVALID that names the expected text and points at a position, the current one by default. */
  fail(wanted: string, at?: number): RollcallError;
}

export function createCursor(text: string): Cursor {
  let at = 0;
  function match(pattern: RegExp): string | undefined {
    pattern.lastIndex = at;
    return pattern.exec(text)?.[0];
  }
  return {
    atEnd: () => at >= text.length,
    position: () => at,
    looking: pattern => match(pattern) !== undefined,
    take(pattern) {
      const found = match(pattern);
      at += found?.length ?? 0;
      return found;
    },
    fail: (wanted, where = at) =>
      new RollcallError('CONFIG_INVALID', `${wanted}\n${showPosition(text, where)}`),
  };
}

/** How much of a long line is shown on either side of the caret, characters. */
const sideLength = 48;

/** Two lines: the line of `text` that holds position `at`, and a caret under it. */
export function showPosition(text: string, at: number): string {
  const start = Math.max(text.lastIndexOf('\n', at - 1) + 1, 0);
  const nextBreak = text.indexOf('\n', at);
  const end = nextBreak === -1 ? text.length : nextBreak;
  const before = Array.from(text.slice(start, at), visible);
  const after = Array.from(text.slice(at, end), visible);
  const left = before.length > sideLength ? ['…', ...before.slice(-sideLength)] : before;
  const right = after.length > sideLength ? [...after.slice(0, sideLength), '…'] : after;
  return `  ${left.join('')}${right.join('')}\n  ${' '.repeat(left.length)}^`;
}

/** Nothing that a terminal would obey, and one column each. */
function visible(character: string): string {
  if (character === '\t') return ' ';
  return /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(character) ? '·' : character;
}
