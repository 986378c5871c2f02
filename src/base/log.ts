/**
 * The one logger file. Structured lines by pino; what could be a secret is redacted by path as a second line of
 * defence, the first being that nobody passes one.
 */
import { isatty } from 'node:tty';
import { pino, type DestinationStream } from 'pino';
import { formatLogLine } from './log-text.js';
import { as, type Setting } from './settings.js';

export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof logLevels)[number];

/** `auto` is text on a terminal and JSON elsewhere. */
export const logFormats = ['auto', 'text', 'json'] as const;
export type LogFormat = (typeof logFormats)[number];

export const logFormatSetting: Setting<LogFormat> = {
  value: 'FORMAT',
  description: 'text for people, json for machines; auto: text on a terminal',
  default: 'auto',
  parse: as.oneOf(logFormats),
};

const secretNames = [
  'authorization',
  'token',
  'accessToken',
  'refreshToken',
  'clientSecret',
  'setupCode',
  'password',
  'passphrase',
  'privateKey',
  'key',
  'secret',
  'signature',
  'nonce',
] as const;

/** A field with the name of a secret would be printed as `[redacted]`: what may be read needs another name. */
type Fields = Record<string, unknown> & { readonly [name in (typeof secretNames)[number]]?: never };

/** The part of a logger that all rooms use. */
export interface Log {
  trace(fields: Fields, message: string): void;
  debug(fields: Fields, message: string): void;
  info(fields: Fields, message: string): void;
  warn(fields: Fields, message: string): void;
  error(fields: Fields, message: string): void;
  child(fields: Fields): Log;
}

export interface LogOptions {
  readonly level: LogLevel;
  /** The `name` field of every line. */
  readonly name: string;
  /** Defaults to JSON. */
  readonly format?: LogFormat;
  /** The output; defaults to standard error. */
  readonly destination?: DestinationStream;
}

const standardError = 2;

export function createLog({ level, name, format = 'json', destination }: LogOptions): Log {
  const lines = destination ?? pino.destination({ fd: standardError, sync: true });
  const isText = format === 'text' || (format === 'auto' && isatty(standardError));
  return pino(
    {
      name,
      level,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: label => ({ level: label }) },
      redact: {
        paths: secretNames.flatMap(field => [field, `*.${field}`, `*.*.${field}`]),
        censor: '[redacted]',
      },
      serializers: { err: pino.stdSerializers.err, cause: pino.stdSerializers.err },
      base: { name, pid: process.pid },
    },
    isText ? { write: line => lines.write(formatLogLine(line)) } : lines,
  );
}
