/** Checks an app before a run of it is stored: its archive matches its digest, its signature is valid, its settings have the right types. */
import { readArchive } from '../../app-package/app-archive.js';
import type { AppManifest, ConfigValue } from '../../app-package/app-manifest.js';
import { isSignedBy } from '../../app-package/app-signature.js';
import { isRollcallError, RollcallError } from '../../base/errors.js';
import { parseSpki, type PublicKey } from '../../identity/public-key.js';
import type { Actor } from '../audit/audit.js';

export interface NewRun {
  readonly tenant: string;
  readonly appName: string;
  readonly appVersion: string;
  /** Hex. */
  readonly appDigest: string;
  /** SPKI DER. */
  readonly signer: Uint8Array;
  readonly signature: Uint8Array;
  /** src/app-package/app-archive.ts */
  readonly archive: Buffer;
  /** Settings that override the defaults of the app. */
  readonly config: Readonly<Record<string, ConfigValue>>;
  readonly startedBy: string;
  readonly by: Actor;
  /** Chosen by the caller: two starts with the same key are one run. */
  readonly idempotency?: { readonly caller: string; readonly key: string };
}

export interface AcceptedApp {
  readonly manifest: AppManifest;
  readonly signer: PublicKey;
  readonly config: Readonly<Record<string, ConfigValue>>;
}

/** Throws REQUEST_INVALID or KEY_UNSUPPORTED. */
export async function acceptApp(run: NewRun): Promise<AcceptedApp> {
  const { appName: name, appVersion: version, appDigest: digest } = run;
  const archive = readArchiveOf(run.archive);
  const { manifest } = archive;
  if (archive.digest !== digest || manifest.name !== name || manifest.version !== version)
    throw new RollcallError(
      'REQUEST_INVALID',
      'the archive does not match the digest, name or version of the app',
      {
        hint: 'start the run again; if it happens again, the archive is modified on its way',
      },
    );
  const signer = parseSpki(run.signer);
  if (!(await isSignedBy(signer, { name, version, digest }, run.signature)))
    throw new RollcallError('REQUEST_INVALID', 'invalid signature of the app', {
      hint: 'sign the app with a key that `rollcall app keygen` has made',
    });
  return { manifest, signer, config: mergeConfig(manifest, run.config) };
}

/** Reports an invalid archive as the caller's mistake. */
function readArchiveOf(archive: Buffer): ReturnType<typeof readArchive> {
  try {
    return readArchive(archive);
  } catch (error) {
    if (!isRollcallError(error)) throw error;
    throw new RollcallError('REQUEST_INVALID', error.message, { hint: error.hint, cause: error });
  }
}

/** The settings are sent to nodes in one frame. */
const maxConfigBytes = 64 * 1024;

function mergeConfig(manifest: AppManifest, given: NewRun['config']): Record<string, ConfigValue> {
  for (const [name, value] of Object.entries(given)) {
    const defaults = Object.hasOwn(manifest.config, name) ? manifest.config[name] : undefined;
    if (defaults === undefined)
      throw new RollcallError('REQUEST_INVALID', `${manifest.name} has no setting "${name}"`, {
        hint: `it has ${Object.keys(manifest.config).join(', ') || 'none'}`,
      });
    if (typeof value !== typeof defaults)
      throw new RollcallError('REQUEST_INVALID', `the setting "${name}" must be a ${typeof defaults}`);
  }
  const merged = { ...manifest.config, ...given };
  if (Buffer.byteLength(JSON.stringify(merged)) > maxConfigBytes)
    throw new RollcallError(
      'REQUEST_INVALID',
      `the settings of a run must have at most ${maxConfigBytes} bytes`,
    );
  return merged;
}
