/** What every command about access does around its questions: settings, and the progress while one is open. */
import { createAdministration, type Administration } from '../../control-client/administration.js';
import { createAsk, type Ask } from '../../control-client/control-http.js';
import { createOwnAccount, type OwnAccount } from '../../control-client/own-account.js';
import { openControlSettings, type ControlFlags } from '../control-options.js';
import { startProgress } from '../progress.js';
import { warnOn, type Shell } from '../shell.js';

/** The flags of every command here. */
export interface AskFlags extends ControlFlags {
  readonly json?: boolean;
}

/** What the link that the flags name may be asked. Nothing is printed while a question is open but the progress. */
export async function openAccess(
  shell: Shell,
  flags: ControlFlags,
): Promise<Administration & { readonly account: OwnAccount }> {
  const { target, tokens } = await openControlSettings(flags, shell.environment, warnOn(shell));
  const askLink = createAsk(target, tokens);
  const ask: Ask = async (...question) => {
    const progress = startProgress(shell, `waiting for ${target.addressText}`);
    try {
      return await askLink(...question);
    } finally {
      progress.clear();
    }
  };
  return { ...createAdministration(ask), account: createOwnAccount(ask) };
}
