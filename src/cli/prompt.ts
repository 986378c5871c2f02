/** Asks the person at the terminal. What is secret is not shown; without a terminal nothing is asked. */
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { readSecretFile } from '../base/secret-file.js';
import { usageError } from './failure.js';
import { warnOn, type Shell } from './shell.js';

/** Throws where nobody can be asked; `instead` says how to give it there. */
export function requirePerson(shell: Shell, question: string, instead: string): void {
  if (!process.stdin.isTTY || shell.stderr.isTTY !== true)
    throw usageError(`cannot ask for the ${question} here`, instead);
}

/** Reads text that is typed at the terminal. */
export async function ask(
  shell: Shell,
  question: string,
  instead: string,
  isSecret = false,
): Promise<string> {
  requirePerson(shell, question, instead);
  shell.stderr.write(`${question}: `);
  const silent = new Writable({ write: (_, __, done) => done() });
  const lines = createInterface({
    input: process.stdin,
    output: isSecret ? silent : shell.stderr,
    // Written anew when a character is taken back.
    prompt: `${question}: `,
    terminal: true,
  });
  try {
    return await new Promise<string>((resolve, reject) => {
      lines.once('line', resolve);
      lines.once('close', () => reject(usageError('nothing was typed')));
      lines.once('SIGINT', () => reject(usageError('given up')));
    });
  } finally {
    // With its own listeners still on: they are what stops it from showing what is typed next.
    lines.close();
    if (isSecret) shell.stderr.write('\n');
  }
}

/** From the file where one is given, otherwise from the terminal. */
export async function askSecret(
  shell: Shell,
  question: string,
  file: string | undefined,
  instead: string,
): Promise<string> {
  if (file === undefined) return ask(shell, question, instead, true);
  const bytes = await readSecretFile(file, `${question} file`, 4096, warnOn(shell));
  const [line = ''] = bytes.toString('utf8').split('\n');
  return line.replace(/\r$/, '');
}
