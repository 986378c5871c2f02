/** How a program that cannot go on says why, where nobody has a terminal to draw on. */
import type { RollcallError } from './errors.js';
import { withoutControls } from './text.js';

/** One `error:` line for each problem, then the hint; indented lines belong to the one before and keep their columns. */
export function printProblems(
  stderr: { write(text: string): unknown },
  { message, hint }: Pick<RollcallError, 'message' | 'hint'>,
): void {
  for (const line of message.split('\n')) {
    const shown = withoutControls(line);
    stderr.write(line.startsWith('  ') ? `${shown}\n` : `error: ${shown}\n`);
  }
  if (hint !== undefined) stderr.write(`hint: ${withoutControls(hint)}\n`);
}

/** Something that is better mended, where the program goes on. */
export function printWarning(
  stderr: { write(text: string): unknown },
  { message, hint }: { readonly message: string; readonly hint: string },
): void {
  stderr.write(`warning: ${withoutControls(message)}\nhint: ${withoutControls(hint)}\n`);
}
