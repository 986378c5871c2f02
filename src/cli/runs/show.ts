/** `rollcall runs show RUN`: everything the link knows of one run. */
import type { Run } from '../../protocol/generated/rollcall/v1/runs.js';
import { formatMoment, toJson } from '../format.js';
import { printJson, printDone } from '../access/showing.js';
import { paintOf, type Shell } from '../shell.js';
import { plainText } from '../../base/text.js';
import type { Paint } from '../terminal.js';
import { askingRuns, findRunId, type AskFlags } from './with-link.js';
import { describeMessages, elapsedOf, isFinished, parseOr, runJson, runShade, runWord } from './run-view.js';

export async function showRun(shell: Shell, typed: string, flags: AskFlags): Promise<number> {
  return askingRuns(shell, flags, async ({ runs, progress }) => {
    const run = await runs.get(await findRunId(runs, typed));
    progress.clear();
    if (flags.json) printJson(shell, runJson(run));
    else shell.stdout.write(describe(run, shell.now(), paintOf(shell)));
    return undefined;
  });
}

/** One `Name  value` line for each thing that is known, and the result below them. */
function describe(run: Run, nowMs: number, paint: Paint): string {
  const lines = facts(run, nowMs).filter(([, value]) => value !== '');
  const width = Math.max(...lines.map(([name]) => name.length));
  const shown = lines.map(([name, value]) => {
    const shade = name === 'Status' ? runShade(value) : undefined;
    return `${paint('dim', name.padEnd(width))}  ${paint(shade, plainText(value))}\n`;
  });
  return shown.join('') + describeResult(run, width, paint);
}

/** Pretty, and set in below its name. */
function describeResult({ resultJson }: Run, width: number, paint: Paint): string {
  if (resultJson === '') return '';
  const lines = toJson(parseOr(resultJson), 2).split('\n');
  const indent = ' '.repeat(width + 2);
  return `${paint('dim', 'Result'.padEnd(width))}  ${lines.join(`\n${indent}`)}\n`;
}

function facts(run: Run, nowMs: number): readonly (readonly [string, string])[] {
  const moment = (ms: bigint) => (ms === 0n ? '' : formatMoment(ms));
  const finished = moment(run.finishedAtMs);
  return [
    ['Run ID', `${run.id}`],
    ['App', `${run.appName} ${run.appVersion}`],
    ['Digest', run.appDigest.toString('hex')],
    ['Signer', run.signer],
    ['Status', runWord(run)],
    ['Reason', run.reason],
    ['Started by', run.startedBy],
    ['Tenant', run.tenant],
    ['Created', moment(run.createdAtMs)],
    ['Starting', moment(run.startingAtMs)],
    ['Running', moment(run.runningAtMs)],
    ['Finished', finished],
    [isFinished(run) ? 'Took' : 'For', elapsedOf(run, nowMs)],
    ['Messages', describeMessages(run)],
    ['Log lines', `${run.logLines}`],
    ['Settings', describeSettings(run)],
  ];
}

function describeSettings({ configJson }: Run): string {
  const config = parseOr(configJson);
  if (typeof config !== 'object' || config === null) return '';
  return Object.entries(config)
    .map(([name, value]) => `${name}=${String(value)}`)
    .join(' ');
}

/** One that is over already stays as it is, and that is said. */
/** `rollcall runs stop RUN`: ends a run, and says how it ended. */
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
