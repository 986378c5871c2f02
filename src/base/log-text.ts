/** A line of the log as a person at a terminal reads it: when, how serious, what, and the fields behind it. Pure. */
import { visibleText } from './text.js';

/** The maximum length of a value that does not scroll the terminal away. */
const maxValueLength = 200;
/** Of the process, not of what happened. */
const unshown = new Set(['time', 'level', 'msg', 'name', 'pid']);

/** From the JSON that the logger writes; what is no JSON is given back as it is. */
export function formatLogLine(line: string): string {
  let entry: Record<string, unknown>;
  try {
    entry = JSON.parse(line) as Record<string, unknown>;
  } catch {
    return line;
  }
  const { time, level, msg } = entry;
  const moment = textOf(time)
    .replace('T', ' ')
    .replace(/\.\d+Z$/, 'Z');
  const fields = Object.entries(entry)
    .filter(([name]) => !unshown.has(name))
    .map(([name, value]) => `${visibleText(name)}=${formatValue(value)}`);
  const head = `${moment}  ${textOf(level).padEnd(5)}  ${visibleText(textOf(msg), 1_000)}`;
  return `${[head, fields.join(' ')].filter(part => part !== '').join('  ')}\n`;
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : value === undefined ? '' : JSON.stringify(value);
}

/** An error by what it says; quoted where it would not end at a space. */
function formatValue(value: unknown): string {
  const isText = typeof value === 'string' || isError(value);
  const said = isError(value) ? value.message : textOf(value);
  const text = visibleText(said, maxValueLength) + (said.length > maxValueLength ? '…' : '');
  return !isText || /^[^\s"=]+$/.test(text) ? text : JSON.stringify(text);
}

function isError(value: unknown): value is { readonly message: string } {
  return (
    typeof value === 'object' && value !== null && 'message' in value && typeof value.message === 'string'
  );
}
