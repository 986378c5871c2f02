/**
 * `rollcall run … --stream`: the log of the run as it comes, and its outcome as the exit code. Ctrl-C leaves the run alone and ends the
 * command; a second one soon after stops the run.
 */
import type { Run } from '../../protocol/generated/rollcall/v1/runs.js';
import { printDone } from '../access/showing.js';
import { exitCodes } from '../failure.js';
import { toJson } from '../format.js';
import { printHint, type Shell } from '../shell.js';
import type { Asked } from './with-link.js';
import { followRun } from './follow.js';
import { createLogPrinter } from './log-printer.js';
import { printOutcome } from './outcome.js';
import { outcomeCode, runJson } from './run-view.js';

/** In which a second Ctrl-C means the run, ms. */
const secondWithinMs = 2_000;

export async function streamRun(shell: Shell, asked: Asked, run: Run, json: boolean): Promise<number> {
  const interrupts = hearInterrupts(shell);
  const printer = createLogPrinter(shell, asked, { json, wrap: entry => ({ entry }) });
  try {
    if (json) printRunLine(shell, run);
    else printDone(shell, `Run ${run.id} started.`);
    const ended = await followRun({
      runs: asked.runs,
      run: run.id,
      signal: interrupts.first,
      onEntry: entry => printer.entry(entry),
      onRun: now => printer.run(now),
      onLost: () => printer.lost(),
    });
    printer.end();
    if (ended) return finish(shell, ended, json);
    return await leave(shell, asked, run, { interrupts, json });
  } finally {
    printer.end();
    interrupts.forget();
  }
}

interface Leaving {
  readonly interrupts: Interrupts;
  readonly json: boolean;
}

async function leave(shell: Shell, asked: Asked, run: Run, { interrupts, json }: Leaving): Promise<number> {
  printHint(
    shell,
    `detaching; the run goes on (rollcall runs logs ${run.id} --follow); Ctrl-C again within 2 s stops it`,
  );
  if (!(await interrupts.secondWithin(secondWithinMs))) return exitCodes.done;
  printHint(shell, 'stopping the run');
  return finish(shell, await asked.runs.stop(run.id), json);
}

function finish(shell: Shell, run: Run, json: boolean): number {
  if (json) printRunLine(shell, run);
  else printOutcome(shell, run);
  return outcomeCode(run);
}

function printRunLine(shell: Shell, run: Run): void {
  shell.stdout.write(`${toJson({ run: runJson(run) })}\n`);
}

interface Interrupts {
  /** Aborted by the first Ctrl-C. */
  readonly first: AbortSignal;
  /** Whether there was, or is within that time, another. */
  secondWithin(ms: number): Promise<boolean>;
  forget(): void;
}

function hearInterrupts(shell: Shell): Interrupts {
  const first = new AbortController();
  let hearSecond = (): void => undefined;
  const second = new Promise<boolean>(resolve => (hearSecond = () => resolve(true)));
  let forget = shell.onInterrupt(() => {
    const forgetFirst = forget;
    // Before anything else: unheard, the next one would end this process.
    forget = shell.onInterrupt(hearSecond);
    forgetFirst();
    first.abort();
  });
  return {
    first: first.signal,
    async secondWithin(ms) {
      let timer: NodeJS.Timeout | undefined;
      const silence = new Promise<boolean>(resolve => (timer = setTimeout(() => resolve(false), ms)));
      const isSecond = await Promise.race([second, silence]);
      clearTimeout(timer);
      return isSecond;
    },
    forget: () => forget(),
  };
}
