/**
 * The sources of a private key's passphrase: a file, an environment variable, a prompt without an echo. Never an
 * argument: every user of a machine can read the arguments of every process.
 */
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { RollcallError } from '../base/errors.js';
import { readSecretFile, type Warn } from '../base/secret-file.js';
import { nonEmpty } from '../base/settings.js';

export interface PassphraseSources {
  /** Called for a file that a platform has mounted readable by all. */
  readonly warn?: Warn | undefined;
  /** Path of a file private to its owner; its first line is the passphrase. */
  readonly file?: string | undefined;
  /** The value of an environment variable, read by the program's entry. */
  readonly environment?: string | undefined;
  /** An interactive terminal; absent when the program runs unattended. */
  readonly terminal?: PassphraseTerminal | undefined;
}

export interface PassphraseTerminal {
  readonly input: NodeJS.ReadableStream;
  readonly output: NodeJS.WritableStream;
  /** The text of the prompt: `passphrase of node-key: `. */
  readonly question: string;
}

/** The passphrase callback of loadPrivateKeyFile: the first available source, or undefined without any. */
export function createPassphraseSource(sources: PassphraseSources): (() => Promise<string>) | undefined {
  const { file, terminal, warn } = sources;
  const environment = nonEmpty(sources.environment);
  if (file !== undefined) return () => readPassphraseFile(file, warn);
  if (environment !== undefined) return () => Promise.resolve(environment);
  return terminal && (() => askPassphrase(terminal));
}

async function readPassphraseFile(path: string, warn: Warn | undefined): Promise<string> {
  const text = (await readSecretFile(path, 'passphrase file', 4096, warn)).toString('utf8');
  return text.split(/\r?\n/, 1)[0] ?? '';
}

/** Asks once without an echo. KEY_PASSPHRASE when the user cancels (Ctrl-C, Ctrl-D). */
export function askPassphrase({ input, output, question }: PassphraseTerminal): Promise<string> {
  // readline edits the line and would echo it: its output is discarded.
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input, output: nowhere, terminal: true, historySize: 0 });
  output.write(question);
  return new Promise<string>((resolve, reject) => {
    lines.once('line', resolve);
    lines.once('SIGINT', () => lines.close());
    lines.once('close', () => reject(new RollcallError('KEY_PASSPHRASE', 'no passphrase was given')));
  }).finally(() => {
    output.write('\n');
    lines.close();
  });
}
