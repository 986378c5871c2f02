/** The frame of every command about runs: settings, connection, progress, and closing. */
import type { HttpTarget } from '../../control-client/http-target.js';
import { openRuns, type Runs } from '../../control-client/runs.js';
import type { TokenSource } from '../../control-client/tokens.js';
import { openControlSettings, type ControlFlags } from '../control-options.js';
import { exitCodes, usageError } from '../failure.js';
import { startProgress, type Progress } from '../progress.js';
import { warnOn, type Shell } from '../shell.js';
import { latest, parseRunId } from './arguments.js';

export interface AskFlags extends ControlFlags {
  readonly json?: boolean;
}

export interface Asked {
  readonly runs: Runs;
  readonly progress: Progress;
  readonly target: HttpTarget;
  readonly tokens: TokenSource;
}

/** Asks the link the flags name; the connection is closed and the progress gone however it ends. */
export async function askingRuns(
  shell: Shell,
  flags: ControlFlags,
  ask: (asked: Asked) => Promise<number | undefined>,
): Promise<number> {
  const { target, tokens } = await openControlSettings(flags, shell.environment, warnOn(shell));
  const runs = openRuns(target, tokens);
  const progress = startProgress(shell, `waiting for ${target.addressText}`);
  try {
    return (await ask({ runs, progress, target, tokens })) ?? exitCodes.done;
  } finally {
    progress.clear();
    runs.close();
  }
}

/** The run that was meant by what was typed. */
export async function findRunId(runs: Runs, typed: string): Promise<bigint> {
  if (typed !== latest) return parseRunId(typed);
  const [newest] = (await runs.listPage({ pageSize: 1 })).runs;
  if (newest) return newest.id;
  throw usageError('there is no run yet', 'start one with rollcall run DIR');
}
