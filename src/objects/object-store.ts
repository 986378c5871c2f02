/**
 * Objects on the disk, below one folder, in buckets: one for each party of a run ("server", "app", or a node id), which alone
 * writes there. The callers decide who may write and read where; the objects of a run are removed with it.
 *
 *     <run>/<party>/chunks/<digest>     <run>/<party>/<digest of the manifest>
 *
 * Failures of the disk are STORE_FULL and STORE_UNAVAILABLE. The space of a run on the disk is bounded, and memory holds pieces
 * of objects, never an object.
 */
import { join } from 'node:path';
import type { DiskFloor } from '../base/disk-floor.js';
import { RollcallError } from '../base/errors.js';
import { storeFailure } from '../store/failure.js';
import type { ChunkWriter } from './draft-writer.js';
import { chunkBytes } from './limits.js';
import { type Manifest } from './manifest.js';
import { isName, listNames, RunFolder } from './run-folder.js';

export type { ChunkWriter } from './draft-writer.js';

export interface ObjectBucket {
  /** Undefined unless the object is stored and whole. */
  find(digest: string): Promise<Manifest | undefined>;
  /** NOT_FOUND when it is not there, INTERNAL when it is damaged. */
  readChunk(manifest: Manifest, index: number): Promise<Buffer>;
  /**
   * The same in pieces of at most so many bytes, for slow readers. The last piece comes only when all of them together are the
   * chunk.
   */
  readPieces(manifest: Manifest, index: number, pieceBytes: number): AsyncGenerator<Buffer, void>;
  /**
   * Begins an object or goes on with it: gives the chunks that are missing, each once. An object without missing chunks still
   * has to be finished. STORE_FULL when it does not fit into the space of the run.
   */
  begin(manifest: Manifest): Promise<readonly number[]>;
  /** PROTOCOL_INVALID when the bytes are not that chunk. */
  writeChunk(manifest: Manifest, index: number, bytes: Uint8Array): Promise<void>;
  /** The same for a chunk that comes in pieces. */
  beginChunk(manifest: Manifest, index: number): Promise<ChunkWriter>;
  /** The object is on the disk when this resolves. PROTOCOL_INVALID when chunks are missing. */
  finish(manifest: Manifest): Promise<void>;
  /** Keeps the object until as many calls of `release`. Counted in memory only. */
  retain(digest: string): void;
  /**
   * The last release deletes the object, with the chunks that no other object has, unless another writer began it anew and has
   * yet to retain it.
   */
  release(digest: string): Promise<void>;
}

export interface ObjectStore {
  /** CONFIG_INVALID unless both names are 1 to 32 of a-z and 0-9. */
  bucket(run: string, party: string): ObjectBucket;
  /** Removes everything of a run. NOT_FOUND for those that still read or write there. */
  removeRun(run: string): Promise<void>;
  listRuns(): Promise<string[]>;
}

export interface ObjectStoreOptions {
  /** Created when it is needed. */
  readonly folder: string;
  /** Maximum for each run, STORE_FULL beyond. Small files count for 64 KiB. */
  readonly maxRunBytes: number;
  /** STORE_FULL for objects that are begun while the disk is nearly full. */
  readonly floor: Pick<DiskFloor, 'require'>;
}

export function createObjectStore(options: ObjectStoreOptions): ObjectStore {
  const { folder, maxRunBytes, floor } = options;
  const runs = new Map<string, RunFolder>();

  function runOf(name: string): RunFolder {
    let run = runs.get(name);
    if (!run) runs.set(name, (run = new RunFolder(join(folder, name), maxRunBytes, floor)));
    return run;
  }

  return {
    bucket: (run, party) => guardBucket(runOf(requireName(run)), requireName(party)),
    async removeRun(name) {
      const run = runOf(requireName(name));
      await run.remove();
      if (runs.get(name) === run) runs.delete(name);
    },
    listRuns: () => listNames(folder),
  };
}

function requireName(text: string): string {
  if (!isName(text)) throw new RollcallError('CONFIG_INVALID', 'invalid name of a run or of a party');
  return text;
}

/** A bucket as others see it: every call goes through the run, which may be removed at any time. */
function guardBucket(run: RunFolder, party: string): ObjectBucket {
  const bucket = run.bucket(party);

  async function beginChunk(manifest: Manifest, index: number): Promise<ChunkWriter> {
    const writer = await run.work(() => bucket.beginChunk(manifest, index));
    return {
      write: bytes => run.work(() => writer.write(bytes)),
      finish: () => run.work(() => writer.finish()),
      // Not through the run: a draft is discarded after the run is removed, too.
      discard: () =>
        writer.discard().catch((error: unknown) => {
          throw storeFailure(error);
        }),
    };
  }

  async function* readPieces(
    manifest: Manifest,
    index: number,
    pieceBytes: number,
  ): AsyncGenerator<Buffer, void> {
    const pieces = bucket.readPieces(manifest, index, pieceBytes);
    try {
      for (;;) {
        const { value } = await run.work(() => pieces.next());
        if (value === undefined) return;
        yield value;
      }
    } finally {
      // A reader that stops early leaves the file open otherwise.
      await pieces.return();
    }
  }

  return {
    find: digest => run.work(() => bucket.find(digest)),
    readPieces,
    async readChunk(manifest, index) {
      // One piece, unless the system gives less at a time.
      const pieces: Buffer[] = [];
      for await (const piece of readPieces(manifest, index, chunkBytes)) pieces.push(piece);
      return pieces.length === 1 && pieces[0] ? pieces[0] : Buffer.concat(pieces);
    },
    begin: manifest =>
      run.work(async () => {
        await run.requireSpace(manifest.sizeBytes);
        return bucket.begin(manifest);
      }),
    beginChunk,
    async writeChunk(manifest, index, bytes) {
      const writer = await beginChunk(manifest, index);
      try {
        await writer.write(bytes);
        await writer.finish();
      } finally {
        await writer.discard();
      }
    },
    finish: manifest => run.work(() => bucket.finish(manifest)),
    retain: digest => bucket.retain(digest),
    release: digest => run.work(() => bucket.release(digest)),
  };
}
