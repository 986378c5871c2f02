/**
 * An app in one piece: the list of its files and their content one after the other, as docs/app-host-protocol.md describes it. The
 * same files make the same bytes. What is read comes from others: an archive is taken only if packing would have written it.
 */
import { RollcallError } from '../base/errors.js';
import { isPathInside, manifestFile, parseAppManifest, type AppManifest } from './app-manifest.js';
import {
  comparePaths,
  digestOf,
  findTwins,
  manifestBytes,
  packLimits,
  readApp,
  sha256,
  type AppFile,
  type AppPackage,
  type PackLimits,
} from './app-package.js';

export interface PackedApp {
  readonly app: AppPackage;
  readonly archive: Buffer;
}

export interface ArchivedFile extends AppFile {
  /** Looks into the archive. */
  readonly content: Buffer;
}

export interface UnpackedApp {
  readonly manifest: AppManifest;
  readonly files: readonly ArchivedFile[];
  /** Names the app, hex: see `digestOf`. */
  readonly digest: string;
}

const lengthBytes = 4;
const listBytes = 1024 * 1024;
/** The largest archive there is. */
export const archiveBytes = lengthBytes + listBytes + packLimits.bytes;

/** Reads every file of the folder once. REQUEST_INVALID for a folder that is no app. */
export async function packArchive(folder: string, limits: PackLimits = packLimits): Promise<PackedApp> {
  const contents: Buffer[] = [];
  const app = await readApp(folder, limits, content => contents.push(content));
  const list = spell(app.files);
  const length = Buffer.alloc(lengthBytes);
  length.writeUInt32LE(list.length);
  return { app, archive: Buffer.concat([length, list, ...contents]) };
}

/** REQUEST_INVALID for what `packArchive` would not have written. */
export function readArchive(archive: Buffer, limits: PackLimits = packLimits): UnpackedApp {
  if (archive.length < lengthBytes) throw damaged('it ends too soon');
  const end = lengthBytes + archive.readUInt32LE();
  if (end - lengthBytes > listBytes || end > archive.length) throw damaged('the length of its list is wrong');
  const list = parseList(archive.subarray(lengthBytes, end), limits);
  const files = cutFiles(list, archive.subarray(end), limits);
  const manifest = readManifest(files);
  return { manifest, files, digest: digestOf(manifest, files) };
}

function spell(files: readonly AppFile[]): Buffer {
  return Buffer.from(
    JSON.stringify(files.map(({ path, digest, sizeBytes }) => ({ path, digest, sizeBytes }))),
  );
}

function parseList(bytes: Buffer, limits: PackLimits): readonly AppFile[] {
  let list: unknown;
  try {
    list = JSON.parse(bytes.toString('utf8'));
  } catch (error) {
    throw damaged('its list is no JSON', error);
  }
  if (!Array.isArray(list) || !list.every(isAppFile)) throw damaged('its list does not name files');
  if (list.length > limits.files) throw damaged(`it holds more than ${limits.files} files`);
  if (!spell(list).equals(bytes)) throw damaged('its list is spelled in another way than ours');
  if (list.some((file, index) => index > 0 && comparePaths(list[index - 1]?.path ?? '', file.path) >= 0))
    throw damaged('its list is not in order');
  const twins = findTwins(list.map(file => file.path));
  if (twins) throw damaged(`${twins[0]} and ${twins[1]} are one file on some machines`);
  return list;
}

function isAppFile(value: unknown): value is AppFile {
  const { path, digest, sizeBytes } = (value ?? {}) as Partial<Record<string, unknown>>;
  return (
    typeof path === 'string' &&
    isPathInside(path) &&
    !path.split('/').some(part => part.startsWith('.')) &&
    typeof digest === 'string' &&
    /^[0-9a-f]{64}$/.test(digest) &&
    Number.isSafeInteger(sizeBytes) &&
    (sizeBytes as number) >= 0
  );
}

function cutFiles(list: readonly AppFile[], contents: Buffer, limits: PackLimits): ArchivedFile[] {
  const sizeBytes = list.reduce((sum, file) => sum + file.sizeBytes, 0);
  if (sizeBytes > limits.bytes) throw damaged(`its files have more than ${limits.bytes} bytes`);
  if (sizeBytes !== contents.length)
    throw damaged(sizeBytes > contents.length ? 'it ends too soon' : 'something follows it');
  let at = 0;
  return list.map(file => {
    const content = contents.subarray(at, (at += file.sizeBytes));
    if (sha256(content) !== file.digest) throw damaged(`${file.path} has another content than its list says`);
    return { ...file, content };
  });
}

function readManifest(files: readonly ArchivedFile[]): AppManifest {
  const found = files.find(file => file.path === manifestFile);
  if (!found) throw damaged(`there is no ${manifestFile} in it`);
  if (found.sizeBytes > manifestBytes) throw damaged(`${manifestFile} is too large`);
  const manifest = parseAppManifest(found.content.toString('utf8'));
  for (const entry of [manifest.server, manifest.node]) {
    if (!files.some(file => file.path === entry))
      throw damaged(`${entry}, which ${manifestFile} names as an entry, is not there`);
  }
  return manifest;
}

function damaged(what: string, cause?: unknown): RollcallError {
  return new RollcallError('REQUEST_INVALID', `this is no archive of an app: ${what}`, {
    cause,
    hint: 'pack the app again',
  });
}
