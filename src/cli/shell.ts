/** The surroundings of a command: streams, environment, the clock, and a way to hear Ctrl-C. They are arguments, so that tests may bring their own. */
import { printWarning } from '../base/problem-lines.js';
import type { Warn } from '../base/secret-file.js';
import type { Pager } from './pager.js';
import type { Table, TableStyle } from './table.js';
import { isTerminal, paintFor, type Environment, type Output, type Paint } from './terminal.js';

/** How wide a terminal is that does not say it. */
export const defaultColumns = 80;

export interface Shell {
  readonly stdout: Output;
  readonly stderr: Output;
  readonly environment: Environment;
  /** The pager for a listing that is longer than the terminal is high; undefined to print without one. */
  openPager?(): Promise<Pager | undefined>;
  /** Milliseconds since 1970. */
  now(): number;
  /** Calls at the first Ctrl-C or SIGTERM; the function given back stops listening. */
  onInterrupt(listener: () => void): () => void;
}

/** Colours for standard output. */
export function paintOf(shell: Shell): Paint {
  return paintFor(shell.stdout, shell.environment);
}

/** True when a person reads standard output. */
export function isInteractive(shell: Shell): boolean {
  return isTerminal(shell.stdout, shell.environment);
}

/** How a table is drawn on standard output. */
export function tableStyleOf(shell: Shell): TableStyle {
  const box = isInteractive(shell);
  const { columns = 0 } = shell.stdout;
  return { box, paint: paintOf(shell), maxWidth: box ? columns || defaultColumns : undefined };
}

/** Says what of a table the terminal was too narrow for. */
export function printLeftOut(shell: Shell, { leftOut }: Pick<Table, 'leftOut'>): void {
  if (leftOut.length > 0)
    printHint(shell, `the terminal is too narrow for: ${leftOut.join(', ')}; --json has everything`);
}

/** Something worth knowing that is not the answer, on standard error. */
export function printHint(shell: Shell, text: string): void {
  shell.stderr.write(`${paintFor(shell.stderr, shell.environment)('dim', 'hint:')} ${text}\n`);
}

/** Tells of a secret file that others can read. */
export function warnOn({ stderr }: Shell): Warn {
  return (message, hint) => printWarning(stderr, { message, hint });
}

const interrupts = ['SIGINT', 'SIGTERM'] as const;

/** The shell this process runs in. */
export function systemShell(): Shell {
  return {
    stdout: process.stdout,
    stderr: process.stderr,
    environment: process.env,
    openPager: async () => (await import('./pager.js')).openPager(process.env),
    now: () => Date.now(),
    onInterrupt(listener) {
      for (const signal of interrupts) process.once(signal, listener);
      return () => {
        for (const signal of interrupts) process.off(signal, listener);
      };
    },
  };
}
