/**
 * The one logger file. Structured lines by pino; what could be a secret is redacted by path as a second line of
 * defence, the first being that nobody passes one.
 */
import { pino, type DestinationStream } from 'pino';

export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof logLevels)[number];

type Fields = Record<string, unknown>;

/** What the rest of the house may do with a logger. */
export interface Log {
  trace(fields: Fields, message: string): void;
  debug(fields: Fields, message: string): void;
  info(fields: Fields, message: string): void;
  warn(fields: Fields, message: string): void;
  error(fields: Fields, message: string): void;
  child(fields: Fields): Log;
}

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
];

export interface LogOptions {
  readonly level: LogLevel;
  /** The `name` field of every line. */
  readonly name: string;
  /** Where lines go; standard error unless told. */
  readonly destination?: DestinationStream;
}

export function createLog({ level, name, destination }: LogOptions): Log {
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
    destination ?? pino.destination({ fd: 2, sync: true }),
  );
}
