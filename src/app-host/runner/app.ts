/**
 * An app on the disk of its runner, in a folder of its own that others cannot look into: its files, and beside them what makes
 * `rollcall/app` the very module that the runner has. It imports the entry and tells what is wrong in the author's words.
 */
import { existsSync, rmSync } from 'node:fs';
import { mkdir, mkdtemp, realpath, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { readArchive } from '../../app-package/app-archive.js';
import { isNodeHalf, isServerHalf, type NodeHalf, type ServerHalf } from '../../app/app.js';
import { RollcallError } from '../../base/errors.js';
import { describeFailure, placeOf } from './failure.js';
import { findSyntaxError } from './syntax.js';

export interface AppFolder {
  /** The folder of the app's files, absolute and without links. */
  readonly path: string;
  /** Of the app, with `/`. */
  readonly files: readonly string[];
  /** At once, so that it may be called when the process ends. */
  remove(): void;
}

/** REQUEST_INVALID for an invalid archive. */
export async function unpackApp(archive: Buffer): Promise<AppFolder> {
  const { files } = readArchive(archive);
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'rollcall-app-')));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  try {
    const path = join(folder, 'app');
    await mkdir(path, { mode: 0o700 });
    for (const file of files) {
      await mkdir(dirname(join(path, file.path)), { recursive: true, mode: 0o700 });
      await writeFile(join(path, file.path), file.content, { flag: 'wx', mode: 0o600 });
    }
    await mkdir(join(folder, 'node_modules'));
    await symlink(findPackageRoot(import.meta.dirname), join(folder, 'node_modules', 'rollcall'));
    // The app's own declaration of its modules takes precedence.
    await writeFile(join(folder, 'package.json'), '{ "type": "module" }\n');
    return { path, files: files.map(file => file.path), remove };
  } catch (error) {
    remove();
    throw error;
  }
}

function findPackageRoot(folder: string): string {
  const above = dirname(folder);
  return existsSync(join(folder, 'package.json')) || above === folder ? folder : findPackageRoot(above);
}

export async function loadServerHalf(folder: AppFolder, entry: string): Promise<ServerHalf> {
  const half = await importDefault(folder, entry);
  if (isServerHalf(half)) return half;
  throw unusable(`${entry} has no server half for its default export: export default serverApp(…)`);
}

export async function loadNodeHalf(folder: AppFolder, entry: string): Promise<NodeHalf> {
  const half = await importDefault(folder, entry);
  if (isNodeHalf(half)) return half;
  throw unusable(`${entry} has no node half for its default export: export default nodeApp({…})`);
}

async function importDefault(folder: AppFolder, entry: string): Promise<unknown> {
  if (!folder.files.includes(entry)) throw unusable(`${entry} is not in the app`);
  try {
    const loaded = (await import(pathToFileURL(join(folder.path, entry)).href)) as { default?: unknown };
    return loaded.default;
  } catch (error) {
    const thrownAt = placeOf(error, folder.path);
    const place =
      error instanceof SyntaxError && thrownAt === ''
        ? await findSyntaxError(folder.path, entry, folder.files)
        : thrownAt;
    throw unusable(describeFailure(error, folder.path, { prefix: `${entry} cannot be loaded: `, place }));
  }
}

function unusable(message: string): RollcallError {
  return new RollcallError('REQUEST_INVALID', message);
}
