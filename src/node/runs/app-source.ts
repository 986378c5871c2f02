/**
 * Gets the app of a run, when this node runs it: app-trust.ts decides before a byte is fetched, and the fetched files must have
 * the digest that the decision was about. The app of the node's own folder is packed anew for every run, so that the decision is
 * about the files that run.
 */
import { isRollcallError, RollcallError, toRollcallError } from '../../base/errors.js';
import { visibleText } from '../../base/text.js';
import { archiveBytes, packArchive, readArchive, type PackedApp } from '../../app-package/app-archive.js';
import { languageOf, type AppManifest } from '../../app-package/app-manifest.js';
import type { Language } from '../../app-host/hosting/hosting.js';
import { loadPublicKeyFile } from '../../identity/key-file.js';
import type { Manifest } from '../../objects/manifest.js';
import type { ObjectBucket } from '../../objects/object-store.js';
import type { Assign, ObjectReference } from '../../protocol/generated/rollcall/v1/link.js';
import type { SignerFile } from '../config.js';
import { decideTrust, type AppClaim, type TrustedSigner, type TrustRules } from './app-trust.js';

export interface NodeApp {
  readonly name: string;
  readonly version: string;
  /** Path of the node half. */
  readonly entry: string;
  readonly language: Language;
  readonly archiveBytes: number;
  /** In pieces of at most 1 MiB. */
  readArchive(): AsyncIterable<Buffer>;
}

export type FoundApp =
  | { readonly kind: 'app'; readonly app: NodeApp; readonly by: 'local' | 'signer' | 'any' }
  | { readonly kind: 'refused'; readonly reason: string };

/** Fetches an object of the link; rejects when it cannot be had. */
export type FetchArchive = (reference: {
  readonly digest: string;
  readonly sizeBytes: number;
}) => Promise<{ readonly manifest: Manifest; readonly bucket: ObjectBucket }>;

export interface AppSource {
  /** Whether any app would be run. */
  readonly isOpen: boolean;
  /** Rejects when the archive cannot be fetched. */
  find(assign: Assign, fetch: FetchArchive): Promise<FoundApp>;
}

export interface AppSourceOptions {
  readonly signers: readonly SignerFile[];
  /** A folder that holds an app. */
  readonly folder?: string | undefined;
  readonly any: boolean;
}

const pieceBytes = 1024 * 1024;

/** Reads the keys and the folder once, so that errors in them are reported at the start. */
export async function openAppSource({ signers, folder, any }: AppSourceOptions): Promise<AppSource> {
  const trusted = await Promise.all(signers.map(loadSigner));
  if (folder !== undefined) await packArchive(folder);
  let lastLocal: PackedApp | undefined;
  return {
    isOpen: any || folder !== undefined || trusted.length > 0,
    async find(assign, fetch) {
      let local: PackedApp | undefined;
      try {
        if (folder !== undefined) local = shareWith(lastLocal, await packArchive(folder));
        lastLocal = local;
      } catch (error) {
        return refused(`the node's own app cannot be packed: ${visibleText(toRollcallError(error).message)}`);
      }
      const rules: TrustRules = {
        signers: trusted,
        local: local && { ...local.app.manifest, digest: local.app.digest },
        any,
      };
      const claim = claimOf(assign);
      const decision = await decideTrust(rules, claim);
      if (!decision.trusted) return { kind: 'refused', reason: decision.reason };
      if (decision.by === 'local' && local)
        return { kind: 'app', app: appOf(local.app.manifest, inMemory(local.archive)), by: 'local' };
      return fetchApp(claim, assign.archive, fetch, decision.by);
    },
  };
}

/** All runs of one app share its archive in memory. */
function shareWith(last: PackedApp | undefined, now: PackedApp): PackedApp {
  return last?.app.digest === now.app.digest ? last : now;
}

async function loadSigner({ file, lowestVersion }: SignerFile): Promise<TrustedSigner> {
  const key = await loadPublicKeyFile(file);
  if (key.curve === 'P-256') return { key, lowestVersion };
  throw new RollcallError(
    'KEY_UNSUPPORTED',
    `${file}: expected an app key on P-256, found a key on ${key.curve}`,
    {
      hint: 'the author makes one with rollcall app keygen, and hands out its .pub',
    },
  );
}

function claimOf({ appName, appVersion, appDigest, signer, signature }: Assign): AppClaim {
  return { name: appName, version: appVersion, digest: appDigest.toString('hex'), signer, signature };
}

async function fetchApp(
  claim: AppClaim,
  reference: ObjectReference | undefined,
  fetch: FetchArchive,
  by: 'local' | 'signer' | 'any',
): Promise<FoundApp> {
  if (!reference || reference.sizeBytes > BigInt(archiveBytes)) return refused('its archive is too large');
  const { manifest, bucket } = await fetch({
    digest: reference.digest.toString('hex'),
    sizeBytes: Number(reference.sizeBytes),
  });
  if (manifest.sizeBytes > archiveBytes) return refused('its archive is too large');
  const stored: Archive = { sizeBytes: manifest.sizeBytes, read: () => readChunks(manifest, bucket) };
  try {
    const pieces: Buffer[] = [];
    for await (const piece of stored.read()) pieces.push(piece);
    const found = readArchive(Buffer.concat(pieces));
    if (manifest.sizeBytes !== Number(reference.sizeBytes))
      return refused('its archive is not as long as was said');
    if (found.digest !== claim.digest || found.manifest.name !== claim.name)
      return refused('its files are not those that were signed');
    return { kind: 'app', app: appOf(found.manifest, stored), by };
  } catch (error) {
    if (!isRollcallError(error, 'REQUEST_INVALID')) throw error;
    return refused(visibleText(toRollcallError(error).message));
  }
}

interface Archive {
  readonly sizeBytes: number;
  read(): AsyncIterable<Buffer>;
}

function appOf({ name, version, node }: AppManifest, archive: Archive): NodeApp {
  return {
    name,
    version,
    entry: node,
    language: languageOf(node),
    archiveBytes: archive.sizeBytes,
    readArchive: () => archive.read(),
  };
}

function inMemory(archive: Buffer): Archive {
  return {
    sizeBytes: archive.length,
    async *read() {
      for (let at = 0; at < archive.length; at += pieceBytes)
        yield await Promise.resolve(archive.subarray(at, at + pieceBytes));
    },
  };
}

async function* readChunks(manifest: Manifest, bucket: ObjectBucket): AsyncGenerator<Buffer> {
  for (const index of manifest.chunks.keys()) yield bucket.readChunk(manifest, index);
}

function refused(reason: string): FoundApp {
  return { kind: 'refused', reason };
}
