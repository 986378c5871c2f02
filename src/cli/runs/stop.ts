/** `rollcall runs stop RUN`: ends a run, and says how it ended. */
import { printDone, printJson } from '../access/showing.js';
import type { Shell } from '../shell.js';
import { askingRuns, findRunId, type AskFlags } from './with-link.js';
import { runJson, runWord } from './run-view.js';

/** One that is over already stays as it is, and that is said. */
export async function stopRun(shell: Shell, typed: string, flags: AskFlags): Promise<number> {
  return askingRuns(shell, flags, async ({ runs, progress }) => {
    const run = await runs.stop(await findRunId(runs, typed));
    progress.clear();
    if (flags.json) printJson(shell, runJson(run));
    else if (runWord(run) === 'stopped') printDone(shell, `Run ${run.id} is stopped.`);
    else printDone(shell, `Run ${run.id} was over already: ${runWord(run)}.`);
    return undefined;
  });
}
