/** `--check-config`: everything that can be looked at without starting, and all that is wrong with it at once. */
import { access, constants, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Clock } from '../base/clock.js';
import { fileError, RollcallError, systemErrorCode, toRollcallError, withHint } from '../base/errors.js';
import type { Random } from '../base/random.js';
import type { Collected } from '../base/settings.js';
import { readSecretFile, readSmallFile, unlessMissing, type Warn } from '../base/secret-file.js';
import { setupCodeFile } from './access/login/first-admin.js';
import { tokenKeyFileName } from './access/tokens/keys.js';
import { openAuthority } from './authority/authority.js';
import { namesServerFiles, serverSettings, type LinkConfig } from './config.js';
import type { linkSettings } from './settings.js';
import { loadServerIdentity } from './doors/tls/server-identity.js';

export interface CheckOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** Its value in the environment. */
  readonly keyPassphrase?: string | undefined;
}

/**
 * Throws one CONFIG_INVALID that lists every problem, one a line: those of the settings, and what the good ones lead to. Gives
 * warnings, a sentence each. Writes nothing.
 */
export async function checkLink(
  { values: config, problems: found }: Collected<typeof linkSettings>,
  { clock, random, keyPassphrase }: CheckOptions,
): Promise<readonly string[]> {
  const warned: string[] = [];
  const warn: Warn = (message, hint) => warned.push(withHint({ message, hint }));
  const { 'data-dir': folder } = config;
  const checks = await Promise.allSettled([
    checkServerFiles(config, keyPassphrase, clock.now()),
    ...(folder === undefined
      ? []
      : [
          checkAuthority(config, folder, clock, random, warn),
          checkFolder(resolve(folder)),
          checkSecret(join(folder, 'authority.key'), 'authority key'),
          checkSecret(join(folder, tokenKeyFileName), 'file of token keys'),
          checkSecret(join(folder, setupCodeFile), 'setup code'),
        ]),
  ]);
  const problems = [...found, ...problemsOf(checks)];
  if (problems.length > 0) throw new RollcallError('CONFIG_INVALID', problems.join('\n'));
  const [server] = checks;
  return [...(server.status === 'fulfilled' ? server.value : []), ...warned];
}

/** Judged together when all are named; otherwise those that are named must be there. Gives warnings. */
async function checkServerFiles(
  config: Partial<LinkConfig>,
  keyPassphrase: string | undefined,
  now: number,
): Promise<readonly string[]> {
  if (namesServerFiles(config))
    return (await loadServerIdentity({ ...serverSettings(config, keyPassphrase), now })).warnings;
  const { 'ssl-certfile': certificate, 'ssl-keyfile': key, 'ssl-ca-certfile': roots } = config;
  const reads = await Promise.allSettled([
    certificate === undefined ? undefined : readSmallFile(certificate, 'server certificate'),
    key === undefined ? undefined : readSecretFile(key, 'server key'),
    roots === undefined ? undefined : readSmallFile(roots, 'server roots'),
  ]);
  const problems = problemsOf(reads);
  if (problems.length > 0) throw new RollcallError('CONFIG_INVALID', problems.join('\n'));
  return [];
}

function problemsOf(results: readonly PromiseSettledResult<unknown>[]): readonly string[] {
  return results.flatMap(result =>
    result.status === 'rejected' ? [withHint(toRollcallError(result.reason))] : [],
  );
}

/** The link's own authority is made at the first start; one that was given must be there. */
async function checkAuthority(
  config: Partial<LinkConfig>,
  folder: string,
  clock: Clock,
  random: Random,
  warn: Warn,
): Promise<void> {
  const { 'authority-certfile': certificateFile, 'authority-keyfile': keyFile } = config;
  if (certificateFile === undefined || keyFile === undefined) return;
  const trustDomain = config['trust-domain'] ?? 'check.invalid';
  await openAuthority({ folder, certificateFile, keyFile, trustDomain, clock, random, warn });
}

/** The folder, or the nearest one above it that is there, must be one that can be written to. */
async function checkFolder(path: string): Promise<void> {
  try {
    if (!(await stat(path)).isDirectory())
      throw new RollcallError('CONFIG_INVALID', `${path} is not a folder`);
    await access(path, constants.W_OK | constants.X_OK);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT' && dirname(path) !== path) return checkFolder(dirname(path));
    throw fileError('write to', path, error);
  }
}

async function checkSecret(path: string, what: string): Promise<void> {
  await unlessMissing(readSecretFile(path, what));
}
