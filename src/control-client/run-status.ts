/** The words for how a run is. */
import { RunOutcome, RunStatus, type Run } from '../protocol/generated/rollcall/v1/runs.js';

const statuses = new Map([
  ['pending', RunStatus.RUN_STATUS_PENDING],
  ['starting', RunStatus.RUN_STATUS_STARTING],
  ['running', RunStatus.RUN_STATUS_RUNNING],
  ['finished', RunStatus.RUN_STATUS_FINISHED],
]);

/** The statuses one can ask for. */
export const runStatusWords = [...statuses.keys()];

const wordsByStatus = new Map([...statuses].map(([word, status]) => [status, word]));

const wordsByOutcome = new Map([
  [RunOutcome.RUN_OUTCOME_COMPLETED, 'completed'],
  [RunOutcome.RUN_OUTCOME_FAILED, 'failed'],
  [RunOutcome.RUN_OUTCOME_STOPPED, 'stopped'],
]);

/** `pending`, `starting`, `running` or `finished`; one that is newer than this program is `unknown (7)`. */
export function runStatusName(status: RunStatus): string {
  return wordsByStatus.get(status) ?? `unknown (${status})`;
}

/** `completed`, `failed` or `stopped`; undefined while it is not over. */
export function runOutcomeName({ status, outcome }: Pick<Run, 'status' | 'outcome'>): string | undefined {
  if (status !== RunStatus.RUN_STATUS_FINISHED) return undefined;
  return wordsByOutcome.get(outcome) ?? `unknown (${outcome})`;
}

/** The status a word stands for, or undefined. */
export function findRunStatus(word: string): RunStatus | undefined {
  return statuses.get(word);
}
