/**
 * How a command fails: `error:` and `hint:` lines on standard error, lower case, no stack traces, and the exit code.
 * The one place that knows which error is which exit code.
 */
import { isRollcallError, RollcallError, toRollcallError, type ErrorCode } from '../base/errors.js';
import { plainText } from '../base/text.js';
import { paintFor } from './terminal.js';
import type { Shell } from './shell.js';
import { StatedByLink } from '../control-client/diagnosis.js';

/** 4 is the agent's own: its node was revoked. */
export const exitCodes = { done: 0, refused: 1, usage: 2, unreachable: 3, stopped: 5 } as const;

const unreachable: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['LINK_UNREACHABLE', 'LINK_UNVERIFIED']);

function isUsage(code: ErrorCode): boolean {
  return code === 'CONFIG_INVALID' || code === 'REQUEST_INVALID' || /^(KEY|FILE)_/.test(code);
}

/** 1 refused, 2 usage (only for what was found on this side), 3 cannot reach. */
export function exitCodeOf(error: RollcallError): number {
  if (unreachable.has(error.code)) return exitCodes.unreachable;
  return !(error instanceof StatedByLink) && isUsage(error.code) ? exitCodes.usage : exitCodes.refused;
}

/** Prints an error, one `error:` line for each line of its message (one line for what a link states), and gives the exit code. */
export function reportFailure(shell: Shell, thrown: unknown, about?: string): number {
  const error = toRollcallError(thrown);
  const paint = paintFor(shell.stderr, shell.environment);
  const prefix = about === undefined ? '' : `${plainText(about)}: `;
  const lines = error instanceof StatedByLink ? [error.message] : error.message.split('\n');
  for (const line of lines) {
    const shown = plainText(line);
    // An indented line points at something in the one before, so it keeps its columns.
    if (line.startsWith('  ')) shell.stderr.write(`${' '.repeat(line.search(/\S|$/))}${shown}\n`);
    else if (shown !== '') shell.stderr.write(`${paint('red', 'error:')} ${prefix}${shown}\n`);
  }
  const hint = error.hint ?? unexpectedHint(shell, thrown);
  if (hint !== undefined) shell.stderr.write(`${paint('dim', 'hint:')} ${plainText(hint)}\n`);
  return exitCodeOf(error);
}

/** A fault of this program is told in one line, with the trace only for who asks. */
function unexpectedHint({ environment, stderr }: Shell, thrown: unknown): string | undefined {
  if (isRollcallError(thrown)) return undefined;
  if ((environment['ROLLCALL_DEBUG'] ?? '') === '') return 'set ROLLCALL_DEBUG=1 to see where';
  stderr.write(`${thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown)}\n`);
  return undefined;
}

/** A mistake in what was typed; exit code 2. */
export function usageError(message: string, hint?: string): RollcallError {
  return new RollcallError('REQUEST_INVALID', message, { hint });
}
