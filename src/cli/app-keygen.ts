/** `rollcall app keygen`: the key an author signs apps with. */
import { resolve, join } from 'node:path';
import { RollcallError } from '../base/errors.js';
import { isThere, makeSecretFolder, writeWholeFile } from '../base/secret-file.js';
import { formatOpensshPrivate, formatOpensshPublic } from '../identity/openssh.js';
import { generatePrivateKey } from '../identity/private-key.js';
import { printDone, printFacts, printJson } from './access/showing.js';
import { exitCodes } from './failure.js';
import { configFolder } from './profile.js';
import { printHint, type Shell } from './shell.js';
import type { Environment } from './terminal.js';

export interface AppKeyFlags {
  readonly output?: string;
  readonly json?: boolean;
}

/** The default path of the key. */
export function appKeyPath(environment: Environment): string {
  return join(configFolder(environment), 'app-key');
}

/** Both files or none; FILE_EXISTS when one of them is there. */
export async function makeAppKey(shell: Shell, { output, json }: AppKeyFlags): Promise<number> {
  const path = output === undefined ? appKeyPath(shell.environment) : resolve(output);
  const publicPath = `${path}.pub`;
  if (output === undefined) await makeSecretFolder(configFolder(shell.environment));
  for (const each of [path, publicPath]) await refuseExisting(each);
  const key = generatePrivateKey('P-256');
  const { fingerprint } = key.publicKey;
  await writeWholeFile(path, formatOpensshPrivate(key, 'rollcall app key'));
  await writeWholeFile(publicPath, formatOpensshPublic(key.publicKey, 'rollcall app key'), { mode: 0o644 });
  if (json) {
    printJson(shell, { privateKey: path, publicKey: publicPath, fingerprint });
    return exitCodes.done;
  }
  printDone(shell, 'App key made.');
  printFacts(shell, [
    ['Private key', path],
    ['Public key', publicPath],
    ['Fingerprint', fingerprint],
  ]);
  printHint(shell, 'it says who made an app: keep the one, give the .pub file to those who run nodes');
  return exitCodes.done;
}

async function refuseExisting(path: string): Promise<void> {
  if (!(await isThere(path))) return;
  throw new RollcallError('FILE_EXISTS', `${path} exists already`, {
    hint: 'apps signed with it would not be trusted any more: give another file with --output',
  });
}
