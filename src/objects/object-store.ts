/**
 * Objects on the disk, below one folder, in rooms: one for each party of a run ("server", "app", or a node id), which alone
 * writes there. Who may write and read where is for others to decide; a run's objects go with it.
 *
 *     <run>/<party>/chunks/<digest>     <run>/<party>/<digest of the manifest>
 *
 * Failures of the disk are STORE_FULL and STORE_UNAVAILABLE. What a run takes on the disk is bounded, and memory holds pieces of
 * objects, never an object.
 */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { DiskFloor } from '../base/disk-floor.js';
import { RollcallError, systemErrorCode } from '../base/errors.js';
import { storeFailure } from '../store/failure.js';
import { chunkBytes, type Manifest } from './manifest.js';
import { createRoom, type Account, type ChunkWriter, type Room } from './bucket.js';

export type { ChunkWriter } from './bucket.js';

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
  const runs = new Map<string, Run>();

  function runOf(name: string): Run {
    let run = runs.get(name);
    if (!run)
      runs.set(name, (run = createRun(join(folder, name), mostRunBytes, bytes => floor.require(bytes))));
    return run;
  }

  return {
    room: (run, party) => createObjectRoom(runOf(requireName(run)), requireName(party)),
    async removeRun(name) {
      const run = runOf(requireName(name));
      await run.remove();
      if (runs.get(name) === run) runs.delete(name);
    },
    listRuns: () => listFolder(folder),
  };
}

function isName(text: string): boolean {
  return /^[0-9a-z]{1,32}$/.test(text);
}

function requireName(text: string): string {
  if (!isName(text)) throw new RollcallError('CONFIG_INVALID', 'this is no name of a run or of a party');
  return text;
}

async function listFolder(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).filter(isName);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return [];
    throw storeFailure(error);
  }
}

interface Run {
  roomOf(party: string): Room;
  /** Does work when what lies on the disk is known. NOT_FOUND once the run is removed. */
  work<T>(work: () => Promise<T>): Promise<T>;
  /** STORE_FULL while the disk is nearly full. */
  requireRoom(bytes: number): Promise<void>;
  /** Twice is one promise, unless it fails. */
  remove(): Promise<void>;
}

function createRun(folder: string, mostBytes: number, requireRoom: Run['requireRoom']): Run {
  const rooms = new Map<string, Room>();
  const loaded = new Set<string>();
  const space = new RunSpace(mostBytes);
  const working = new Set<Promise<unknown>>();
  let loading: Promise<void> | undefined;
  let removing: Promise<void> | undefined;

  function roomOf(party: string): Room {
    let room = rooms.get(party);
    if (!room) rooms.set(party, (room = createRoom(join(folder, party), space.account(party))));
    return room;
  }

  /** All rooms: the bound is for all of them together. */
  async function load(): Promise<void> {
    for (const party of await listFolder(folder)) {
      if (loaded.has(party)) continue;
      await roomOf(party).load();
      loaded.add(party);
    }
  }

  async function work<T>(doIt: () => Promise<T>): Promise<T> {
    if (removing) throw new RollcallError('NOT_FOUND', 'the run is over');
    const mine = (async () => {
      loading ??= load();
      await loading.catch((error: unknown) => {
        loading = undefined;
        throw error;
      });
      return doIt();
    })();
    working.add(mine);
    try {
      return await mine;
    } catch (error) {
      throw storeFailure(error);
    } finally {
      working.delete(mine);
    }
  }

  async function remove(): Promise<void> {
    await Promise.allSettled(working);
    await rm(folder, { recursive: true, force: true });
  }

  return {
    roomOf,
    work,
    requireRoom,
    remove: () =>
      (removing ??= remove().catch((error: unknown) => {
        removing = undefined;
        throw storeFailure(error);
      })),
  };
}

/** What one node may not take is left for the other nodes and for the server half: at most as much as it leaves to the nodes. */
const nodesShare = 3 / 4;

/** What the objects of a run take, and whose they are. */
class RunSpace {
  readonly #mostBytes: number;
  #usedBytes = 0;
  #nodesBytes = 0;

  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes;
  }

  account(party: string): Account {
    const isNode = /^\d/.test(party);
    let ownBytes = 0;
    const add = (bytes: number): void => {
      this.#usedBytes += bytes;
      ownBytes += bytes;
      if (isNode) this.#nodesBytes += bytes;
    };
    const check = (bytes: number): void => {
      if (this.#usedBytes + bytes > this.#mostBytes)
        throw tooLarge(`the objects of this run would take more than ${this.#mostBytes} bytes`);
      const leftBytes = this.#mostBytes * nodesShare - this.#nodesBytes - bytes;
      if (isNode && ownBytes + bytes > leftBytes)
        throw tooLarge('the objects of this node would take more of the run than they leave to other nodes');
    };
    return {
      check,
      take(bytes) {
        check(bytes);
        add(bytes);
      },
      note: add,
      giveBack: bytes => add(-bytes),
    };
  }
}

function tooLarge(message: string): RollcallError {
  return new RollcallError('STORE_FULL', message, {
    hint: 'the operator of the link or of the node may give runs more: --object-space',
  });
}

function createObjectRoom(run: Run, party: string): ObjectRoom {
  const room = run.roomOf(party);

  async function beginChunk(manifest: Manifest, index: number): Promise<ChunkWriter> {
    const writer = await run.work(() => room.beginChunk(manifest, index));
    return {
      write: bytes => run.work(() => writer.write(bytes)),
      finish: () => run.work(() => writer.finish()),
      // Also when the run is over, which has taken the file with it.
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
        await run.requireRoom(manifest.sizeBytes);
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
