/** The log that an app writes to: four levels, one text; what it writes to its console is another thing. */
import { inspect } from 'node:util';
import type { AppLog } from '../../app/app.js';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';
export type WriteLog = (level: LogLevel, text: string) => void;

const maxCharacters = 4_096;

export function createAppLog(write: WriteLog): AppLog {
  const writeAt =
    (level: LogLevel) =>
    (text: unknown): void =>
      write(level, textOf(text));
  return { debug: writeAt('debug'), info: writeAt('info'), warn: writeAt('warn'), error: writeAt('error') };
}

/** JavaScript may log whatever it has. */
function textOf(value: unknown): string {
  const text = typeof value === 'string' ? value : inspect(value);
  return text.length > maxCharacters ? `${text.slice(0, maxCharacters - 1)}…` : text;
}
