/** `rollcall users password` and `second-factor`: how somebody comes in, oneself most of all. */
import type { OwnAccount } from '../../control-client/own-account.js';
import { exitCodes, usageError } from '../failure.js';
import { ask as askPerson } from '../prompt.js';
import { printHint, type Shell } from '../shell.js';
import { plainText } from '../../base/text.js';
import { openAccess, type AskFlags } from './with-link.js';
import { askNewPassword, askOwnPassword } from './passwords.js';
import { printDone, printJson } from './showing.js';
import { userJson } from './users.js';

export interface PasswordFlags extends AskFlags {
  readonly passwordFile?: string;
  readonly oldPasswordFile?: string;
}

/** An admin sets the password of another user; one's own needs the old one first. */
export async function changePassword(
  shell: Shell,
  name: string | undefined,
  flags: PasswordFlags,
): Promise<number> {
  return name === undefined ? changeOwnPassword(shell, flags) : resetPassword(shell, name, flags);
}

async function changeOwnPassword(shell: Shell, flags: PasswordFlags): Promise<number> {
  const { account } = await openAccess(shell, flags);
  const old = await askOwnPassword(shell, flags.oldPasswordFile, '--old-password-file');
  const fresh = await askNewPassword(shell, flags.passwordFile);
  await account.changePassword(old, fresh);
  if (flags.json) printJson(shell, { changed: true });
  else printDone(shell, 'Password changed; every login has ended.');
  printHint(shell, 'log in again, here too: rollcall login');
  return exitCodes.done;
}

async function resetPassword(shell: Shell, name: string, flags: PasswordFlags): Promise<number> {
  if (flags.oldPasswordFile !== undefined)
    throw usageError('--old-password-file is for the own password', 'leave out the name, or the flag');
  const { users } = await openAccess(shell, flags);
  const password = await askNewPassword(shell, flags.passwordFile);
  const user = await users.change(name, { password });
  if (flags.json) printJson(shell, userJson(user));
  else printDone(shell, `Password of ${user.name} set; every login has ended.`);
  return exitCodes.done;
}

export interface SecondFactorFlags extends AskFlags {
  readonly passwordFile?: string;
}

export async function setSecondFactor(shell: Shell, word: string, flags: SecondFactorFlags): Promise<number> {
  if (word !== 'on' && word !== 'off') throw usageError(`second-factor takes "on" or "off", not "${word}"`);
  const { account } = await openAccess(shell, flags);
  await (word === 'on' ? putOn(shell, account, flags) : takeOff(shell, account, flags));
  return exitCodes.done;
}

/** Questions go to standard error, so that the recovery codes alone can go into a file. */
async function putOn(shell: Shell, account: OwnAccount, flags: SecondFactorFlags): Promise<void> {
  const { secret, uri } = await account.proposeSecondFactor();
  shell.stderr.write('Put this into an authenticator app, as text or as a QR code:\n');
  shell.stderr.write(`   secret  ${plainText(secret)}\n   URI     ${plainText(uri)}\n`);
  const code = await askPerson(shell, 'code that the app shows', 'run this at a terminal');
  const password = await askOwnPassword(shell, flags.passwordFile);
  const proof = { secret, code: code.trim(), password };
  const { recoveryCodes } = await account.confirmSecondFactor(proof);
  if (flags.json) printJson(shell, { secondFactor: true, recoveryCodes });
  else {
    for (const each of recoveryCodes) shell.stdout.write(`${plainText(each)}\n`);
    shell.stderr.write('✅ The second factor is on.\n');
  }
  printHint(
    shell,
    'these recovery codes are shown this once; each lets you in once without the app: keep them apart from it',
  );
}

async function takeOff(shell: Shell, account: OwnAccount, flags: SecondFactorFlags): Promise<void> {
  const password = await askOwnPassword(shell, flags.passwordFile);
  await account.removeSecondFactor(password);
  if (flags.json) printJson(shell, { secondFactor: false });
  else printDone(shell, 'The second factor is off.');
}
