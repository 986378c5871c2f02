/**
 * Objects on the disk, below one folder, in rooms: one for each party of a run ("server", "app", or a node id), which alone
 * writes there. Who may write and read where is for others to decide; a run's objects go with it.
 *
 *     <run>/<party>/chunks/<digest>     <run>/<party>/<digest of the manifest>
 *
 * Failures of the disk are STORE_FULL and STORE_UNAVAILABLE. What a run takes on the disk is bounded, and memory holds pieces of
 * objects, never an object.
 */
import { join } from 'node:path';
import type { DiskFloor } from '../base/disk-floor.js';
import { RollcallError } from '../base/errors.js';
import { storeFailure } from '../store/failure.js';
import type { ChunkWriter } from './draft-writer.js';
import { chunkBytes, type Manifest } from './manifest.js';
import { isName, listNames, RunFolder } from './run-folder.js';

export type { ChunkWriter } from './draft-writer.js';

export interface ObjectRoom {
  /** An object that is stored and whole. */
  find(digest: string): Promise<Manifest | undefined>;
  /** NOT_FOUND when it is not there, INTERNAL when it is damaged. */
  readChunk(manifest: Manifest, index: number): Promise<Buffer>;
  /**
   * The same in pieces of at most so many bytes, for whoever reads slowly. The last piece comes only when all of them
   * together are the chunk.
   */
  readPieces(manifest: Manifest, index: number, pieceBytes: number): AsyncGenerator<Buffer, void>;
  /**
   * Begins an object or goes on with it: gives the chunks that are missing, each once. Without any it still has to be
   * finished. STORE_FULL when the run has no room for it.
   */
  begin(manifest: Manifest): Promise<readonly number[]>;
  /** PROTOCOL_INVALID when the bytes are not that chunk. */
  writeChunk(manifest: Manifest, index: number, bytes: Uint8Array): Promise<void>;
  /** The same for whoever has it in pieces. */
  beginChunk(manifest: Manifest, index: number): Promise<ChunkWriter>;
  /** The object is on the disk when this resolves. PROTOCOL_INVALID when chunks are missing. */
  finish(manifest: Manifest): Promise<void>;
  /** Counted in memory. */
  retain(digest: string): void;
  /**
   * When all who retained it have released it, the object is deleted, with the chunks that no other one has; unless it was
   * begun anew and is still to be retained.
   */
  release(digest: string): Promise<void>;
}

export interface ObjectStore {
  /** CONFIG_INVALID for names that are none: 1 to 32 of a-z and 0-9. */
  room(run: string, party: string): ObjectRoom;
  /** Everything of a run. Whoever still reads or writes there is told NOT_FOUND. */
  removeRun(run: string): Promise<void>;
  listRuns(): Promise<string[]>;
}

export interface ObjectStoreOptions {
  /** Made when it is needed. */
  readonly folder: string;
  /** STORE_FULL beyond, for each run. Small files count for 64 KiB. */
  readonly mostRunBytes: number;
  /** STORE_FULL for what is begun while the disk is nearly full. */
  readonly floor: Pick<DiskFloor, 'require'>;
}

export function createObjectStore(options: ObjectStoreOptions): ObjectStore {
  const { folder, mostRunBytes, floor } = options;
  const runs = new Map<string, RunFolder>();

  function runOf(name: string): RunFolder {
    let run = runs.get(name);
    if (!run) runs.set(name, (run = new RunFolder(join(folder, name), mostRunBytes, floor)));
    return run;
  }

  return {
    room: (run, party) => createObjectRoom(runOf(requireName(run)), requireName(party)),
    async removeRun(name) {
      const run = runOf(requireName(name));
      await run.remove();
      if (runs.get(name) === run) runs.delete(name);
    },
    listRuns: () => listNames(folder),
  };
}

function requireName(text: string): string {
  if (!isName(text)) throw new RollcallError('CONFIG_INVALID', 'this is no name of a run or of a party');
  return text;
}

/** A bucket as others see it: every call goes through the run, which may be removed at any time. */
function createObjectRoom(run: RunFolder, party: string): ObjectRoom {
  const room = run.bucket(party);

  async function beginChunk(manifest: Manifest, index: number): Promise<ChunkWriter> {
    const writer = await run.work(() => room.beginChunk(manifest, index));
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
    const pieces = room.readPieces(manifest, index, pieceBytes);
    for (;;) {
      const { value } = await run.work(() => pieces.next());
      if (value === undefined) return;
      yield value;
    }
  }

  return {
    find: digest => run.work(() => room.find(digest)),
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
        return room.begin(manifest);
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
    finish: manifest => run.work(() => room.finish(manifest)),
    retain: digest => room.retain(digest),
    release: digest => run.work(() => room.release(digest)),
  };
}
