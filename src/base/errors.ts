/**
 * The one error class. Its code comes from a closed set (error-codes.ts); its message is public: it may be shown to
 * the one who caused it, says what is wrong and what to do, and never holds a secret. What only the log may see goes into
 * `cause`. How a code travels (gRPC status, HTTP status) is in src/protocol/status.ts.
 */
import type { ErrorCode } from './error-codes.js';
import { findFileCall, refusalOf } from './system-error.js';

export { errorCodes, type ErrorCode } from './error-codes.js';

export interface ErrorExtras {
  /** One sentence that says what to do; printed by the command as `hint:`. */
  readonly hint?: string | undefined;
  /** For the log alone, never for the caller. */
  readonly cause?: unknown;
  /** When it makes sense to try again, milliseconds from now. */
  readonly retryAfterMs?: number | undefined;
}

export class RollcallError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, extras: ErrorExtras = {}) {
    super(message, extras.cause === undefined ? undefined : { cause: extras.cause });
    this.name = 'RollcallError';
    this.code = code;
    this.hint = extras.hint;
    this.retryAfterMs = extras.retryAfterMs;
  }
}

/** True for a RollcallError, of the given code when one is given. */
export function isRollcallError(value: unknown, code?: ErrorCode): value is RollcallError {
  return value instanceof RollcallError && (code === undefined || value.code === code);
}

/** An error in one line: `message (hint)`. */
export function withHint({ message, hint }: Pick<RollcallError, 'message' | 'hint'>): string {
  return hint === undefined ? message : `${message} (${hint})`;
}

/**
 * The one conversion from unknown: a RollcallError stays, what the system says of a file is told as that, and anything
 * else becomes INTERNAL with itself as the cause.
 */
export function toRollcallError(value: unknown): RollcallError {
  if (value instanceof RollcallError) return value;
  const call = findFileCall(value);
  if (call) return fileError(call.doing, call.path, value);
  return new RollcallError('INTERNAL', 'something went wrong on this side', { cause: value });
}

/** The refusals that stand in the way of writing alone. */
const writeRefusals: ReadonlySet<string> = new Set(['EROFS', 'ENOSPC', 'EDQUOT', 'EFBIG', 'EXDEV']);

/**
 * The refusal of a file by the system as an error: `cannot write the token file /x: the disk is full`,
 * and a hint. `doing` begins with the verb; a RollcallError stays what it is.
 */
export function fileError(doing: string, path: string, error: unknown): RollcallError {
  if (error instanceof RollcallError) return error;
  const { code, reason, hint } = refusalOf(systemErrorCode(error) ?? 'for an unknown reason');
  if (code === 'EEXIST')
    return new RollcallError('FILE_EXISTS', `${path} exists already`, { hint, cause: error });
  const isReading = /^(read|look|list|open|use)\b/.test(doing) && !writeRefusals.has(code);
  // A file that is to be written need not exist, but its folder must.
  const why = code === 'ENOENT' && !isReading ? 'there is no such folder' : reason;
  return new RollcallError(
    isReading ? 'FILE_UNREADABLE' : 'FILE_UNWRITABLE',
    `cannot ${doing} ${path}: ${why}`,
    { hint, cause: error },
  );
}

/** An error of a file on this machine: its message names a path. */
export function isFileError(value: unknown): value is RollcallError {
  return value instanceof RollcallError && value.code.startsWith('FILE_');
}

/** The `code` of a Node.js system error such as ENOENT, or undefined. */
export function systemErrorCode(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null | undefined)?.code;
  return typeof code === 'string' ? code : undefined;
}
