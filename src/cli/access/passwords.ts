/** Passwords for others and new ones: from a file, or typed twice; never from the command line. */
import { isFitPassword, passwordRule } from '../../base/password-rule.js';
import { usageError } from '../failure.js';
import { ask, askSecret, requirePerson } from '../prompt.js';
import { printHint, type Shell } from '../shell.js';

const instead = 'give --password-file FILE';
/** As sudo has it. */
export const maxTries = 3;

/**
 * A password to be set. The rule is told first, and what is typed is typed twice, for nobody sees it; what is unfit or
 * not the same is asked for again, and nothing else.
 */
export async function askNewPassword(shell: Shell, file: string | undefined): Promise<string> {
  if (file !== undefined) return askSecret(shell, 'new password', file, instead);
  requirePerson(shell, 'new password', instead);
  printHint(shell, `${passwordRule}; a few words in a row are easy to remember and hard to guess`);
  for (let tries = 1; ; tries += 1) {
    const typed = await ask(shell, 'new password', instead, true);
    const problem = isFitPassword(typed)
      ? (await ask(shell, 'new password again', instead, true)) !== typed && 'the two were not the same'
      : passwordRule;
    if (problem === false) return typed;
    if (tries === maxTries) throw usageError(problem, 'nothing was changed; try again');
    printHint(shell, `${problem}; try again`);
  }
}

/** The password that one has. `flag` names the file that may hold it. */
export function askOwnPassword(
  shell: Shell,
  file: string | undefined,
  flag = '--password-file',
): Promise<string> {
  return askSecret(shell, 'password', file, `give ${flag} FILE`);
}
