/** What every command about access does around its questions: settings, progress, and one HTTP request after another. */
import { isRollcallError } from '../../base/errors.js';
import { askHttp, type HttpQuestion } from '../control-http.js';
import { openControlSettings, type ControlFlags } from '../control-options.js';
import { StatedByLink, usageError } from '../failure.js';
import { startProgress } from '../progress.js';
import type { Shell } from '../shell.js';

/** The flags of every command here. */
export interface AskFlags extends ControlFlags {
  readonly json?: boolean;
}

/** Asks once and gives the JSON of the answer. */
export type Ask = <T>(method: HttpQuestion['method'], path: string, body?: unknown) => Promise<T>;

/** The link that the flags name. Nothing is printed while a question is open but the progress. */
export async function openAsk(shell: Shell, flags: ControlFlags): Promise<Ask> {
  const { token, tokenPath, ...target } = await openControlSettings(flags, shell.environment);
  const refusedHint = `the token came from ${tokenPath}; log in again with rollcall login, or give one for the link at ${target.addressText}`;
  return async <T>(method: HttpQuestion['method'], path: string, body?: unknown): Promise<T> => {
    const progress = startProgress(shell, `waiting for ${target.addressText}`);
    try {
      return await askHttp<T>(target, { method, path, token, body });
    } catch (error) {
      throw isRollcallError(error, 'TOKEN_REFUSED') ? new StatedByLink(error, refusedHint) : error;
    } finally {
      progress.clear();
    }
  };
}

/** The path of one thing, whatever its name: `/v1/users/anna`. `what` is "user". */
export function pathOf(room: string, what: string, name: string): string {
  if (name === '') throw usageError(`the ${what} wants a name`, `rollcall ${room} list shows them`);
  return `/v1/${room}/${encodeURIComponent(name)}`;
}
