/** `--check-config`: everything that can be looked at without starting, and all that is wrong with it at once. */
import { access, constants, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Clock } from '../base/clock.js';
import { fileError, RollcallError, systemErrorCode, toRollcallError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import { readSecretFile, unlessMissing, type Warn } from '../base/secret-file.js';
import { setupCodeFile } from './access/login/first-admin.js';
import { tokenKeyFileName } from './access/tokens/keys.js';
import { openAuthority } from './authority/authority.js';
import { serverSettings, type UsableLinkConfig } from './config.js';
import { loadServerIdentity } from './doors/tls/server-identity.js';

export interface CheckOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** What the environment holds for it. */
  readonly keyPassphrase?: string | undefined;
}

/** Throws one CONFIG_INVALID that lists every problem, one a line; gives warnings, a sentence each. Writes nothing. */
export async function checkLink(
  config: UsableLinkConfig,
  { clock, random, keyPassphrase }: CheckOptions,
): Promise<readonly string[]> {
  const warned: string[] = [];
  const warn: Warn = (message, hint) => warned.push(`${message} (${hint})`);
  const [identity, ...others] = await Promise.allSettled([
    loadServerIdentity({ ...serverSettings(config, keyPassphrase), now: clock.now() }),
    checkAuthority(config, clock, random, warn),
    checkFolder(resolve(config['data-dir'])),
    checkSecret(join(config['data-dir'], 'authority.key'), 'authority key'),
    checkSecret(join(config['data-dir'], tokenKeyFileName), 'file of token keys'),
    checkSecret(join(config['data-dir'], setupCodeFile), 'setup code'),
  ]);
  const problems = [identity, ...others].flatMap(check =>
    check.status === 'rejected' ? [describe(check.reason)] : [],
  );
  if (problems.length > 0) throw new RollcallError('CONFIG_INVALID', problems.join('\n'));
  return [...(identity.status === 'fulfilled' ? identity.value.warnings : []), ...warned];
}

function describe(reason: unknown): string {
  const { message, hint } = toRollcallError(reason);
  return hint === undefined ? message : `${message} (${hint})`;
}

/** The link's own authority is made at the first start; one that was given must be there. */
async function checkAuthority(
  config: UsableLinkConfig,
  clock: Clock,
  random: Random,
  warn: Warn,
): Promise<void> {
  const { 'authority-certfile': certificateFile, 'authority-keyfile': keyFile, 'data-dir': folder } = config;
  if (certificateFile === undefined) return;
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
