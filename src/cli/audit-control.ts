/** The frame of every `audit` command that asks a link: settings, progress, and an exit code. */
import { openAudit, type AuditSource } from '../control-client/audit.js';
import { openControlSettings, type ControlFlags } from './control-options.js';
import { exitCodes } from './failure.js';
import { startProgress, type Progress } from './progress.js';
import { warnOn, type Shell } from './shell.js';

/** Asks the link the flags name; what it opened is closed, and the progress gone, however it ends. */
export type AskAudit = (
  shell: Shell,
  flags: ControlFlags,
  ask: (source: AuditSource, progress: Pick<Progress, 'say' | 'clear'>) => Promise<number | undefined>,
) => Promise<number>;

export const askAudit: AskAudit = async (shell, flags, ask) => {
  const { target, tokens } = await openControlSettings(flags, shell.environment, warnOn(shell));
  const progress = startProgress(shell, `waiting for ${target.addressText}`);
  try {
    return (await ask(openAudit(target, tokens), progress)) ?? exitCodes.done;
  } finally {
    progress.clear();
  }
};
