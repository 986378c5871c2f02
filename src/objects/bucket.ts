/**
 * The objects that one party of a run has written, on the disk: chunks below `chunks/`, named by their digests and shared by
 * all objects of the room, and beside that folder the manifest of each object that is whole. A manifest is written last, when
 * all its chunks are synced: what has one is there after any crash.
 *
 * What is kept in memory is an entry for each chunk, never a content and never a manifest, except of the few objects that were
 * begun last.
 */
import { lstat, mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { isRollcallError, RollcallError, systemErrorCode } from '../base/errors.js';
import { writeWholeFile } from '../base/secret-file.js';
import { createTurns } from '../base/keyed-queue.js';
import { createChunkDraft, readChunkFile, syncPath, type ChunkDraft } from './chunk-file.js';
import {
  chunkBytes,
  chunkDigestOf,
  chunkLengthOf,
  distinctChunks,
  isDigest,
  parseManifest,
  type Manifest,
} from './manifest.js';

/** What the objects of a run take on the disk. */
export interface Account {
  /** STORE_FULL when that is too much; then nothing was taken. */
  take(bytes: number): void;
  /** STORE_FULL when `take` would fail now. */
  check(bytes: number): void;
  /** What is there already, however much. */
  note(bytes: number): void;
  giveBack(bytes: number): void;
}

/** A chunk on its way to the disk. */
export interface ChunkWriter {
  /** Pieces in order. PROTOCOL_INVALID for more than the chunk has. */
  write(bytes: Uint8Array): Promise<void>;
  /** It is there now. PROTOCOL_INVALID when these bytes are not the chunk. */
  finish(): Promise<void>;
  /** Leaves nothing behind. Does nothing after `finish`, or a second time. */
  discard(): Promise<void>;
}

export interface Room {
  load(): Promise<void>;
  find(digest: string): Promise<Manifest | undefined>;
  readPieces(manifest: Manifest, index: number, pieceBytes: number): AsyncGenerator<Buffer, void>;
  begin(manifest: Manifest): Promise<readonly number[]>;
  beginChunk(manifest: Manifest, index: number): Promise<ChunkWriter>;
  finish(manifest: Manifest): Promise<void>;
  retain(digest: string): void;
  release(digest: string): Promise<void>;
}

interface Chunk {
  readonly sizeBytes: number;
  /** Found: lies there since before this process, and was not looked at. Checked: is what its name says. */
  state: 'found' | 'checked' | 'synced' | 'gone';
  /** Objects with a manifest that have it. */
  uses: number;
}

/** An object that was begun and that nobody has retained since: a release of another one must not take its chunks. */
interface Begun {
  readonly manifest: Manifest;
  isStored: boolean;
  isRetained: boolean;
}

const mostBegun = 16;
/** For checking chunks that were found. */
const checkPieceBytes = 256 * 1024;
const lstatsAtOnce = 32;
/** Every file counts for so much at least: small ones cost names, blocks and memory. */
const leastFileBytes = 64 * 1024;
const costOf = (sizeBytes: number): number => Math.max(sizeBytes, leastFileBytes);

export function createRoom(folder: string, account: Account): Room {
  const chunksFolder = join(folder, 'chunks');
  const chunkPath = (digest: string): string => join(chunksFolder, digest);
  const manifestPath = (digest: string): string => join(folder, digest);
  const chunks = new Map<string, Chunk>();
  const retained = new Map<string, number>();
  const begun = new Map<string, Begun>();
  const turns = createTurns();
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => turns('room', work);
  let drafts = 0;
  let foldersMade: Promise<void> | undefined;

  async function load(): Promise<void> {
    const found = await findChunks();
    const manifests = await findManifests();
    for (const [digest, chunk] of found) {
      chunks.set(digest, chunk);
      account.note(costOf(chunk.sizeBytes));
    }
    for (const manifest of manifests) {
      account.note(costOf(manifest.bytes));
      for (const digest of manifest.chunks) countUse(digest, 1);
    }
  }

  async function findChunks(): Promise<[string, Chunk][]> {
    const names = await listNames(chunksFolder);
    await removeDrafts(chunksFolder, names);
    const digests = names.filter(isDigest);
    const found: [string, Chunk][] = [];
    for (let at = 0; at < digests.length; at += lstatsAtOnce) {
      const some = digests.slice(at, at + lstatsAtOnce);
      const sizes = await Promise.all(some.map(async digest => (await lstat(chunkPath(digest))).size));
      for (const [index, digest] of some.entries())
        found.push([digest, { sizeBytes: sizes[index] ?? 0, state: 'found', uses: 0 }]);
    }
    return found;
  }

  async function findManifests(): Promise<{ bytes: number; chunks: Iterable<string> }[]> {
    const names = (await listNames(folder)).filter(name => name !== 'chunks');
    await removeDrafts(folder, names);
    const found = [];
    for (const digest of names.filter(isDigest)) {
      const manifest = await readManifest(digest);
      if (manifest)
        found.push({ bytes: manifest.bytes.length, chunks: [...distinctChunks(manifest).keys()] });
    }
    return found;
  }

  function countUse(digest: string, by: number): void {
    const chunk = chunks.get(digest);
    if (chunk) chunk.uses += by;
  }

  /** Undefined without one, and for one that is damaged. */
  async function readManifest(digest: string): Promise<Manifest | undefined> {
    if (!isDigest(digest)) return undefined;
    try {
      const manifest = parseManifest(await readFile(manifestPath(digest)));
      return manifest.digest === digest ? manifest : undefined;
    } catch (error) {
      if (systemErrorCode(error) === 'ENOENT' || isRollcallError(error)) return undefined;
      throw error;
    }
  }

  function has(digest: string, lengthBytes: number): boolean {
    const chunk = chunks.get(digest);
    return chunk !== undefined && chunk.state !== 'gone' && chunk.sizeBytes === lengthBytes;
  }

  async function find(digest: string): Promise<Manifest | undefined> {
    const manifest = await readManifest(digest);
    if (!manifest) return undefined;
    const isWhole = manifest.chunks.every((chunk, index) => has(chunk, chunkLengthOf(manifest, index)));
    return isWhole ? manifest : undefined;
  }

  async function* readPieces(
    manifest: Manifest,
    index: number,
    pieceBytes: number,
  ): AsyncGenerator<Buffer, void> {
    const digest = chunkDigestOf(manifest, index);
    const lengthBytes = chunkLengthOf(manifest, index);
    try {
      yield* readChunkFile(chunkPath(digest), { digest, lengthBytes }, pieceBytes);
    } catch (error) {
      // Whoever has the object and begins it again makes it whole.
      const chunk = chunks.get(digest);
      if (chunk && chunk.state !== 'gone') chunk.state = 'found';
      throw error;
    }
  }

  /** Whether the chunk is there and is what its name says. What is not is removed. */
  async function isThere(digest: string, lengthBytes: number): Promise<boolean> {
    const chunk = chunks.get(digest);
    if (chunk?.state === 'found') await checkFound(digest, chunk);
    return has(digest, lengthBytes);
  }

  async function checkFound(digest: string, chunk: Chunk): Promise<void> {
    const name = { digest, lengthBytes: chunk.sizeBytes };
    try {
      if (chunk.sizeBytes < 1 || chunk.sizeBytes > chunkBytes)
        throw new RollcallError('INTERNAL', 'no chunk');
      await readToEnd(readChunkFile(chunkPath(digest), name, checkPieceBytes));
      chunk.state = 'checked';
    } catch (error) {
      if (!isRollcallError(error)) throw error;
      await removeChunk(digest, chunk);
    }
  }

  async function removeChunk(digest: string, chunk: Chunk): Promise<void> {
    await rm(chunkPath(digest), { force: true });
    account.giveBack(costOf(chunk.sizeBytes));
    if (chunk.uses > 0) chunk.state = 'gone';
    else chunks.delete(digest);
  }

  /** The first place of each chunk that is not there. */
  async function findMissing(manifest: Manifest): Promise<number[]> {
    const missing: number[] = [];
    for (const [digest, index] of distinctChunks(manifest))
      if (!(await isThere(digest, chunkLengthOf(manifest, index)))) missing.push(index);
    return missing;
  }

  async function begin(manifest: Manifest): Promise<readonly number[]> {
    const missing = await findMissing(manifest);
    // Better now than after all but the last chunk was sent.
    const costs = missing.map(index => costOf(chunkLengthOf(manifest, index)));
    if (missing.length > 0)
      account.check(costs.reduce((sum, cost) => sum + cost, costOf(manifest.bytes.length)));
    remember(manifest);
    return missing;
  }

  function remember(manifest: Manifest): void {
    const isStored = begun.get(manifest.digest)?.isStored ?? false;
    begun.delete(manifest.digest);
    begun.set(manifest.digest, { manifest, isStored, isRetained: false });
    const [oldest] = begun.keys();
    if (begun.size > mostBegun && oldest !== undefined) begun.delete(oldest);
  }

  async function beginChunk(manifest: Manifest, index: number): Promise<ChunkWriter> {
    const digest = chunkDigestOf(manifest, index);
    const lengthBytes = chunkLengthOf(manifest, index);
    await (foldersMade ??= makeFolders().catch((error: unknown) => {
      foldersMade = undefined;
      throw error;
    }));
    account.take(costOf(lengthBytes));
    const name = `draft-${++drafts}`;
    const draft = createChunkDraft(join(chunksFolder, name), { digest, lengthBytes });
    let isOver = false;
    const discard = async (): Promise<void> => {
      if (isOver) return;
      isOver = true;
      account.giveBack(costOf(lengthBytes));
      await draft.discard();
    };
    const finishDraft = async (): Promise<void> => {
      if (isOver) throw new RollcallError('PROTOCOL_INVALID', 'the chunk was given up');
      if (await inTurn(() => keepChunk(draft, { digest, lengthBytes }))) isOver = true;
      else await discard();
    };
    // In turn: a draft that is given up in the middle of a write must not come back.
    return {
      write: bytes => turns(name, async () => (isOver ? undefined : draft.append(bytes))),
      finish: () => turns(name, finishDraft),
      discard: () => turns(name, discard),
    };
  }

  async function makeFolders(): Promise<void> {
    await mkdir(chunksFolder, { recursive: true, mode: 0o700 });
    for (const above of [folder, dirname(folder), dirname(dirname(folder))]) await syncPath(above);
  }

  /** False when another writer was faster. */
  async function keepChunk(
    draft: ChunkDraft,
    { digest, lengthBytes }: { readonly digest: string; readonly lengthBytes: number },
  ): Promise<boolean> {
    if (await isThere(digest, lengthBytes)) return false;
    await draft.keepAs(chunkPath(digest));
    const uses = chunks.get(digest)?.uses ?? 0;
    chunks.set(digest, { sizeBytes: lengthBytes, state: 'checked', uses });
    return true;
  }

  async function finish(manifest: Manifest): Promise<void> {
    if ((await findMissing(manifest)).length > 0)
      throw new RollcallError('PROTOCOL_INVALID', 'chunks of the object are missing');
    await syncChunks(manifest);
    if (!(await readManifest(manifest.digest))) await writeManifest(manifest);
    const entry = begun.get(manifest.digest);
    if (entry?.isRetained) begun.delete(manifest.digest);
    else if (entry) entry.isStored = true;
  }

  async function syncChunks(manifest: Manifest): Promise<void> {
    const unsynced = [...distinctChunks(manifest).keys()].filter(
      digest => chunks.get(digest)?.state === 'checked',
    );
    for (const digest of unsynced) await syncPath(chunkPath(digest));
    if (unsynced.length > 0) await syncPath(chunksFolder);
    for (const digest of unsynced) {
      const chunk = chunks.get(digest);
      if (chunk) chunk.state = 'synced';
    }
  }

  async function writeManifest({ digest, bytes, chunks: of }: Manifest): Promise<void> {
    account.take(costOf(bytes.length));
    try {
      await writeWholeFile(manifestPath(digest), bytes, { overwrite: true });
    } catch (error) {
      account.giveBack(costOf(bytes.length));
      throw error;
    }
    for (const each of new Set(of)) countUse(each, 1);
  }

  function retain(digest: string): void {
    retained.set(digest, (retained.get(digest) ?? 0) + 1);
    const entry = begun.get(digest);
    if (entry?.isStored) begun.delete(digest);
    else if (entry) entry.isRetained = true;
  }

  async function release(digest: string): Promise<void> {
    const left = (retained.get(digest) ?? 0) - 1;
    if (left > 0) retained.set(digest, left);
    else {
      retained.delete(digest);
      await inTurn(() => removeUnlessWanted(digest));
    }
  }

  async function removeUnlessWanted(digest: string): Promise<void> {
    const entry = begun.get(digest);
    // Somebody has begun it again meanwhile, and will retain it.
    if (retained.has(digest) || (entry && !entry.isRetained)) return;
    begun.delete(digest);
    const stored = await readManifest(digest);
    if (stored) {
      await rm(manifestPath(digest), { force: true });
      account.giveBack(costOf(stored.bytes.length));
    }
    const kept = new Set([...begun.values()].flatMap(({ manifest }) => manifest.chunks));
    for (const each of new Set((stored ?? entry?.manifest)?.chunks)) {
      const chunk = chunks.get(each);
      if (!chunk) continue;
      if (stored) chunk.uses -= 1;
      if (chunk.uses > 0 || kept.has(each)) continue;
      if (chunk.state === 'gone') chunks.delete(each);
      else await removeChunk(each, chunk);
    }
  }

  return {
    load,
    find,
    readPieces,
    begin: manifest => inTurn(() => begin(manifest)),
    beginChunk,
    finish: manifest => inTurn(() => finish(manifest)),
    retain,
    release,
  };
}

async function readToEnd(pieces: AsyncGenerator<Buffer, void>): Promise<void> {
  while ((await pieces.next()).done !== true);
}

/** No names where there is no folder. */
async function listNames(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return [];
    throw error;
  }
}

/** What an earlier process was writing when it ended. */
async function removeDrafts(folder: string, names: readonly string[]): Promise<void> {
  for (const name of names) if (!isDigest(name)) await rm(join(folder, name), { force: true });
}
