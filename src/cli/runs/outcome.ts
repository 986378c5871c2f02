/** How a run ended, as a sentence: good news where the answer goes, bad news where mistakes are told. */
import { RollcallError } from '../../base/errors.js';
import type { Run } from '../../protocol/generated/rollcall/v1/runs.js';
import { printDone, printFacts } from '../access/showing.js';
import { reportFailure } from '../failure.js';
import { toJson } from '../format.js';
import type { Shell } from '../shell.js';
import { describeMessages, elapsedOf, parseOr, runWord } from './run-view.js';

/** A result that does not fit on two lines is printed only on request. */
const maxResultLength = 160;

function describeResult({ id, resultJson }: Run): string {
  const text = toJson(parseOr(resultJson));
  return text.length <= maxResultLength
    ? text
    : `rollcall runs show ${id} shows it (${text.length} characters)`;
}

export function printOutcome(shell: Shell, run: Run): void {
  const word = runWord(run);
  if (word === 'completed') {
    printDone(shell, `Run ${run.id} completed in ${elapsedOf(run, shell.now())}: ${describeMessages(run)}.`);
    if (run.resultJson !== '') printFacts(shell, [['Result', describeResult(run)]]);
    return;
  }
  const why = run.reason === '' || run.reason === word ? '' : `: ${run.reason}`;
  const isStopped = word === 'stopped';
  const sentence = `run ${run.id} ${isStopped ? 'was stopped' : word}${why}`;
  reportFailure(
    shell,
    new RollcallError('RUN_REFUSED', sentence.replaceAll(/\s+/g, ' '), {
      hint: isStopped ? undefined : `rollcall runs logs ${run.id} shows what it said`,
    }),
  );
}
