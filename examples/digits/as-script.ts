/** Shared by the scripts of this example: `--help`, and one line instead of a stack when something is wrong. */
import { isMainModule } from '../../scripts/main-module.js';

/** Does the work when this module is the program that was started; ends with 1 when it throws, 2 for odd arguments. */
export async function runAsScript(
  moduleUrl: string,
  usage: string,
  work: (argv: readonly string[]) => Promise<void>,
): Promise<void> {
  if (!isMainModule(moduleUrl)) return;
  const argv = process.argv.slice(2);
  if (argv.includes('--help')) {
    process.stdout.write(usage);
    return;
  }
  try {
    await work(argv);
  } catch (error) {
    const isUsage = error instanceof UsageError || isFromParseArgs(error);
    process.stderr.write(`error: ${(error as Error).message}\n${isUsage ? 'hint: see --help\n' : ''}`);
    process.exitCode = isUsage ? 2 : 1;
  }
}

/** Its message says which argument is odd, and what it wants. */
export class UsageError extends Error {}

/** Gives what `parse` makes of the argument. */
export function readArgument<T>(name: string, parse: (raw: unknown) => T, text: string): T {
  try {
    return parse(text);
  } catch (error) {
    throw new UsageError(`${name} ${(error as Error).message}`, { cause: error });
  }
}

function isFromParseArgs(error: unknown): boolean {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS_');
}
