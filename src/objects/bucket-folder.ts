/**
 * The files of one bucket: chunks below `chunks/`, named by their digests, and beside that folder the manifest of each whole
 * object. This class reads, writes and removes files; bucket.ts decides which.
 */
import { lstat, mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { isRollcallError, systemErrorCode } from '../base/errors.js';
import { writeWholeFile } from '../base/secret-file.js';
import { syncPath } from './chunk-file.js';
import { distinctChunks, isDigest, parseManifest, type Manifest } from './manifest.js';

export interface StoredChunk {
  readonly digest: string;
  readonly sizeBytes: number;
}

export interface StoredManifest {
  readonly sizeBytes: number;
  /** Digests of its chunks, each once. */
  readonly chunks: readonly string[];
}

/** Bounds the open file operations while a large bucket is listed. */
const lstatsAtOnce = 32;

export class BucketFolder {
  readonly #path: string;
  readonly #chunksPath: string;
  #made: Promise<void> | undefined;

  constructor(path: string) {
    this.#path = path;
    this.#chunksPath = join(path, 'chunks');
  }

  /** Creates the folders and syncs their names, once; a failure is not remembered. */
  make(): Promise<void> {
    return (this.#made ??= this.#makeFolders().catch((error: unknown) => {
      this.#made = undefined;
      throw error;
    }));
  }

  async #makeFolders(): Promise<void> {
    await mkdir(this.#chunksPath, { recursive: true, mode: 0o700 });
    for (const above of [this.#path, dirname(this.#path), dirname(dirname(this.#path))])
      await syncPath(above);
  }

  chunkPath(digest: string): string {
    return join(this.#chunksPath, digest);
  }

  /** A draft lies beside the chunks, so that keeping it is a rename. */
  draftPath(name: string): string {
    return join(this.#chunksPath, name);
  }

  /** Removes the drafts that an earlier process left. */
  async listChunks(): Promise<StoredChunk[]> {
    const names = await listNames(this.#chunksPath);
    await removeDrafts(this.#chunksPath, names);
    const digests = names.filter(isDigest);
    const chunks: StoredChunk[] = [];
    for (let at = 0; at < digests.length; at += lstatsAtOnce) {
      const some = digests.slice(at, at + lstatsAtOnce);
      const sizes = await Promise.all(some.map(async digest => (await lstat(this.chunkPath(digest))).size));
      for (const [index, digest] of some.entries()) chunks.push({ digest, sizeBytes: sizes[index] ?? 0 });
    }
    return chunks;
  }

  /** Removes the drafts that an earlier process left, and passes over damaged manifests. */
  async listManifests(): Promise<StoredManifest[]> {
    const names = (await listNames(this.#path)).filter(name => name !== 'chunks');
    await removeDrafts(this.#path, names);
    const manifests: StoredManifest[] = [];
    for (const digest of names.filter(isDigest)) {
      const manifest = await this.readManifest(digest);
      if (manifest)
        manifests.push({
          sizeBytes: manifest.bytes.length,
          chunks: [...distinctChunks(manifest).keys()],
        });
    }
    return manifests;
  }

  /** Undefined when there is no manifest, or it is damaged. */
  async readManifest(digest: string): Promise<Manifest | undefined> {
    if (!isDigest(digest)) return undefined;
    try {
      const manifest = parseManifest(await readFile(this.#manifestPath(digest)));
      return manifest.digest === digest ? manifest : undefined;
    } catch (error) {
      if (systemErrorCode(error) === 'ENOENT' || isRollcallError(error)) return undefined;
      throw error;
    }
  }

  async writeManifest({ digest, bytes }: Manifest): Promise<void> {
    await writeWholeFile(this.#manifestPath(digest), bytes, { overwrite: true });
  }

  async removeManifest(digest: string): Promise<void> {
    await rm(this.#manifestPath(digest), { force: true });
  }

  async removeChunk(digest: string): Promise<void> {
    await rm(this.chunkPath(digest), { force: true });
  }

  async syncChunks(digests: readonly string[]): Promise<void> {
    for (const digest of digests) await syncPath(this.chunkPath(digest));
    if (digests.length > 0) await syncPath(this.#chunksPath);
  }

  #manifestPath(digest: string): string {
    return join(this.#path, digest);
  }
}

/** Empty when there is no such folder. */
async function listNames(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return [];
    throw error;
  }
}

async function removeDrafts(folder: string, names: readonly string[]): Promise<void> {
  for (const name of names) if (!isDigest(name)) await rm(join(folder, name), { force: true });
}
