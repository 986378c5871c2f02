/** `rollcall runs logs RUN`: what a run has said, and with --follow what it says until it is over. */
import { exitCodes } from '../failure.js';
import { parseLimit } from '../nodes/arguments.js';
import type { Shell } from '../shell.js';
import { parseAfter } from './arguments.js';
import { askingRuns, findRunId, type AskFlags, type Asked } from './with-link.js';
import { followRun } from './follow.js';
import { createLogPrinter, type LogPrinter } from './log-printer.js';
import { printOutcome } from './outcome.js';
import { outcomeCode } from './run-view.js';

export interface LogsFlags extends AskFlags {
  readonly follow?: boolean;
  readonly after?: string;
  readonly limit?: string;
}

export async function printLogs(shell: Shell, typed: string, flags: LogsFlags): Promise<number> {
  const range = { after: parseAfter(flags.after), limit: parseLimit(flags.limit) };
  return askingRuns(shell, flags, async asked => {
    const run = await findRunId(asked.runs, typed);
    const printer = createLogPrinter(shell, asked, { json: flags.json ?? false });
    try {
      if (flags.follow)
        return await follow(shell, asked, printer, { run, json: flags.json ?? false, ...range });
      for await (const { entry } of asked.runs.log(run, withoutUndefined(range))) {
        asked.progress.clear();
        if (entry) await printer.entry(entry);
      }
      return undefined;
    } finally {
      printer.end();
    }
  });
}

interface Range {
  readonly after: number;
  readonly limit: number | undefined;
}

function withoutUndefined({ after, limit }: Range): { after: number; limit?: number } {
  return limit === undefined ? { after } : { after, limit };
}

async function follow(
  shell: Shell,
  { runs, progress }: Asked,
  printer: LogPrinter,
  { run, json, ...range }: Range & { readonly run: bigint; readonly json: boolean },
): Promise<number> {
  const ending = new AbortController();
  const forget = shell.onInterrupt(() => ending.abort());
  try {
    const ended = await followRun({
      runs,
      run,
      ...range,
      signal: ending.signal,
      onEntry: entry => {
        progress.clear();
        return printer.entry(entry);
      },
      onRun: now => {
        progress.clear();
        printer.run(now);
      },
      onLost: () => printer.lost(),
    });
    printer.end();
    if (!ended) return exitCodes.done;
    if (!json) printOutcome(shell, ended);
    return outcomeCode(ended);
  } finally {
    forget();
  }
}
