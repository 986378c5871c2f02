/** `rollcall run DIR`: packs an app, signs it with the author's key, starts it, and with --stream stays until it is over. */
import { resolve } from 'node:path';
import { packArchive } from '../../app-package/app-archive.js';
import { signApp } from '../../app-package/app-signature.js';
import { isRollcallError, RollcallError } from '../../base/errors.js';
import { createAsk } from '../../control-client/control-http.js';
import { askMe } from '../../control-client/own-account.js';
import type { RunStart } from '../../control-client/runs.js';
import { loadPrivateKeyFile } from '../../identity/key-file.js';
import type { PrivateKey } from '../../identity/private-key.js';
import type { Run } from '../../protocol/generated/rollcall/v1/runs.js';
import { appKeyPath } from '../app-keygen.js';
import { printDone, printJson } from '../access/showing.js';
import { usageError } from '../failure.js';
import { isMissing } from '../profile.js';
import { ask as askPerson } from '../prompt.js';
import { printHint, warnOn, type Shell } from '../shell.js';
import { parseSettings } from './arguments.js';
import { askingRuns, type AskFlags, type Asked } from './with-link.js';
import { runJson } from './run-view.js';
import { streamRun } from './stream.js';

export interface StartFlags extends AskFlags {
  readonly set?: readonly string[];
  readonly config?: string;
  readonly stream?: boolean;
  readonly detach?: boolean;
  readonly appKey?: string;
  readonly tenant?: string;
  readonly idempotencyKey?: string;
}

/** Everything that can be wrong on this side is found before the link is asked. */
export async function startRun(shell: Shell, folder: string, flags: StartFlags): Promise<number> {
  if (flags.config !== undefined)
    throw usageError(
      'run reads no configuration file (-c)',
      'a setting of the app is given as --set NAME=VALUE',
    );
  if (flags.stream && flags.detach) throw usageError('--stream and --detach cannot be given together');
  const packed = await packArchive(resolve(folder));
  const { manifest, digest } = packed.app;
  const config = parseSettings(flags.set, manifest.config);
  const key = await loadAppKey(shell, flags.appKey);
  const app: RunStart = {
    appName: manifest.name,
    appVersion: manifest.version,
    appDigest: digest,
    signer: key.publicKey.spki,
    signature: signApp(key, { name: manifest.name, version: manifest.version, digest }),
    archive: packed.archive,
    config,
    ...(flags.idempotencyKey !== undefined && { idempotencyKey: flags.idempotencyKey }),
  };
  return askingRuns(shell, flags, async asked => {
    if (flags.tenant !== undefined) await requireTenant(asked, flags.tenant);
    const run = await send(asked, app);
    if (flags.stream) return streamRun(shell, asked, run, flags.json ?? false);
    printStarted(shell, run, flags.json ?? false);
    return undefined;
  });
}

async function loadAppKey(shell: Shell, given: string | undefined): Promise<PrivateKey> {
  const path = given === undefined ? appKeyPath(shell.environment) : resolve(given);
  const passphrase = (): Promise<string> =>
    askPerson(shell, 'passphrase of the app key', 'give a key without a passphrase with --app-key', true);
  try {
    return await loadPrivateKeyFile(path, { passphrase, warn: warnOn(shell) });
  } catch (error) {
    if (!isRollcallError(error, 'FILE_UNREADABLE') || !isMissing(error.cause)) throw error;
    throw new RollcallError('FILE_UNREADABLE', `there is no app key at ${path}`, {
      hint: 'make one with rollcall app keygen, or name another with --app-key',
      cause: error,
    });
  }
}

/** A run goes to the tenant of who asks, whatever anybody says; so what is said must be that. */
async function requireTenant({ target, tokens }: Asked, wanted: string): Promise<void> {
  const { tenant } = await askMe(createAsk(target, tokens));
  if (tenant === wanted) return;
  throw usageError(
    `the user who is logged in belongs to the tenant ${tenant}, not to ${wanted}`,
    'log in as somebody of that tenant: rollcall login --tenant; or leave --tenant out',
  );
}

async function send({ runs, progress }: Asked, app: RunStart): Promise<Run> {
  const size = formatMebibytes(app.archive.length);
  const onProgress = (sentBytes: number): void =>
    progress.say(`sending the app: ${formatMebibytes(sentBytes)} of ${size} MiB`);
  const run = await runs.start({ ...app, onProgress });
  progress.clear();
  return run;
}

function formatMebibytes(bytes: number): string {
  return (bytes / (1024 * 1024)).toFixed(1);
}

function printStarted(shell: Shell, run: Run, json: boolean): void {
  if (json) printJson(shell, runJson(run));
  else {
    printDone(shell, `Run ${run.id} started.`);
    printHint(shell, `follow it with rollcall runs logs ${run.id} --follow`);
  }
}
