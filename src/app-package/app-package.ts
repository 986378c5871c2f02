/**
 * An app as it travels: the list of its files, each by its digest. The digest of the list names the app: the same files
 * give the same digest on every machine, whatever their times, owners and order on the disk. Files whose name begins
 * with a dot stay at home; what could lead out of the folder (symbolic links) or is no file is refused.
 */
import { constants, type Dirent } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { sha256Hex } from '../base/hash.js';
import { fileError, RollcallError } from '../base/errors.js';
import { encodeFields } from '../identity/fields.js';
import { isPathInside, manifestFile, parseAppManifest, type AppManifest } from './app-manifest.js';

export interface AppFile {
  /** With `/`, below the folder. */
  readonly path: string;
  /** SHA-256 of the content, hex. */
  readonly digest: string;
  readonly sizeBytes: number;
}

export interface AppPackage {
  readonly manifest: AppManifest;
  /** In the order of their paths' bytes. */
  readonly files: readonly AppFile[];
  /** SHA-256 of the list, hex. */
  readonly digest: string;
  readonly sizeBytes: number;
}

export interface PackLimits {
  readonly files: number;
  readonly bytes: number;
}

export const packLimits: PackLimits = { files: 2_000, bytes: 64 * 1024 * 1024 };
const listLabel = 'rollcall app list v1';
/** Of `app.json`. */
export const manifestBytes = 64 * 1024;

/** Nothing is kept of the files' content. REQUEST_INVALID for a folder that is no app. */
export function packApp(folder: string, limits: PackLimits = packLimits): Promise<AppPackage> {
  return readApp(folder, limits, () => undefined);
}

/** Reads every file once, in the order of the list, and gives its content to `take`. */
export async function readApp(
  folder: string,
  limits: PackLimits,
  take: (content: Buffer) => void,
): Promise<AppPackage> {
  const paths = await listPaths(folder, limits);
  const files: AppFile[] = [];
  let sizeBytes = 0;
  let manifest: AppManifest | undefined;
  for (const path of paths) {
    const left = limits.bytes - sizeBytes;
    const content = await readFile(join(folder, path), path, path === manifestFile ? manifestBytes : left);
    if (path === manifestFile) manifest = parseAppManifest(content.toString('utf8'));
    sizeBytes += content.length;
    if (sizeBytes > limits.bytes) throw tooLarge(limits.bytes);
    files.push({ path, digest: sha256(content), sizeBytes: content.length });
    take(content);
  }
  if (!manifest) throw notAnApp(`there is no ${manifestFile} in it`, 'every app has one');
  for (const entry of [manifest.server, manifest.node]) {
    if (!paths.includes(entry))
      throw notAnApp(`${entry} is not there`, `${manifestFile} names it as an entry`);
  }
  return { manifest, files, digest: digestOf(manifest, files), sizeBytes };
}

/** The digest that names an app with these files; independent of the order they are given in. */
export function digestOf(
  { name, version }: Pick<AppManifest, 'name' | 'version'>,
  files: readonly AppFile[],
): string {
  const inOrder = [...files].sort((one, other) => comparePaths(one.path, other.path));
  const fields = inOrder.flatMap(({ path, digest, sizeBytes }) => [
    path,
    Buffer.from(digest, 'hex'),
    BigInt(sizeBytes),
  ]);
  return sha256(encodeFields([listLabel, name, version, ...fields]));
}

async function listPaths(folder: string, limits: PackLimits): Promise<string[]> {
  const paths: string[] = [];
  const folders = [''];
  for (let below = folders.pop(); below !== undefined; below = folders.pop()) {
    for (const entry of await listFolder(folder, below)) {
      const path = below === '' ? entry.name : `${below}/${entry.name}`;
      if (entry.name.startsWith('.')) continue;
      if (!isPathInside(path))
        throw notAnApp(`the name of ${JSON.stringify(path)} cannot travel`, nameAdvice);
      if (entry.isDirectory()) folders.push(path);
      else if (entry.isFile()) paths.push(path);
      else
        throw notAnApp(
          `${path} is no plain file`,
          'links, pipes and devices cannot travel; copy the content',
        );
    }
    if (paths.length + folders.length > limits.files)
      throw notAnApp(`it holds more than ${limits.files} files`, 'leave out what a run does not need');
  }
  requireApart(paths);
  return paths.sort(comparePaths);
}

const nameAdvice = 'at most 255 bytes, no backslash and nothing invisible';

function requireApart(paths: readonly string[]): void {
  const twins = findTwins(paths);
  if (twins)
    throw notAnApp(`${twins[0]} and ${twins[1]} are one file on some machines`, 'rename one of them');
}

/** Two paths that cannot both be there on a disk that does not tell large letters from small ones. */
export function findTwins(paths: readonly string[]): readonly [string, string] | undefined {
  const fold = (path: string): string => path.normalize('NFC').toLowerCase();
  const seen = new Map<string, string>();
  for (const path of paths) {
    const twin = seen.get(fold(path));
    if (twin !== undefined) return [twin, path];
    seen.set(fold(path), path);
  }
  for (const path of paths) {
    for (let end = path.lastIndexOf('/'); end > 0; end = path.lastIndexOf('/', end - 1)) {
      const file = seen.get(fold(path.slice(0, end)));
      if (file !== undefined) return [file, path];
    }
  }
  return undefined;
}

async function listFolder(folder: string, below: string): Promise<Dirent[]> {
  try {
    return await readdir(join(folder, below), { withFileTypes: true });
  } catch (error) {
    throw fileError('read', below === '' ? folder : below, error);
  }
}

/** A file that became a link since it was listed is not followed, one that grew is refused. */
async function readFile(path: string, shown: string, maxBytes: number): Promise<Buffer> {
  try {
    const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const { size } = await handle.stat();
      if (size > maxBytes) throw tooLarge(maxBytes, shown);
      const content = await handle.readFile();
      if (content.length > maxBytes) throw tooLarge(maxBytes, shown);
      return content;
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw fileError('read', shown, error);
  }
}

/** By their bytes. */
export function comparePaths(one: string, other: string): number {
  return Buffer.compare(Buffer.from(one), Buffer.from(other));
}

export function sha256(content: Uint8Array): string {
  return sha256Hex(content);
}

function notAnApp(what: string, hint: string): RollcallError {
  return new RollcallError('REQUEST_INVALID', `this folder is no app: ${what}`, { hint });
}

function tooLarge(bytes: number, path?: string): RollcallError {
  const what = path === undefined ? 'the app is' : `with ${path} the app is`;
  return new RollcallError('REQUEST_INVALID', `${what} too large: ${bytes} bytes are left`, {
    hint: 'big data does not travel with an app: nodes have their own, and messages carry the rest',
  });
}
