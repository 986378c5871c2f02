/** Passwords for others and new ones: from a file, or typed twice; never from the command line. */
import { usageError } from '../failure.js';
import { ask, askSecret } from '../prompt.js';
import type { Shell } from '../shell.js';

const instead = 'give --password-file FILE';

/** A password to be set. What is typed is typed twice, for nobody sees it. */
export async function askNewPassword(shell: Shell, file: string | undefined): Promise<string> {
  if (file !== undefined) return askSecret(shell, 'new password', file, instead);
  const typed = await ask(shell, 'new password', instead, true);
  if ((await ask(shell, 'new password again', instead, true)) === typed) return typed;
  throw usageError('the two were not the same', 'nothing was changed; try again');
}

/** The password that one has. `flag` names the file that may hold it. */
export function askOwnPassword(
  shell: Shell,
  file: string | undefined,
  flag = '--password-file',
): Promise<string> {
  return askSecret(shell, 'password', file, `give ${flag} FILE`);
}
