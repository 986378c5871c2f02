/**
 * The objects that one party of a run has written, on the disk. Objects of a bucket share their chunks. A manifest is written
 * last, after its chunks are synced: after a crash, an object that has a manifest is complete.
 *
 * Memory holds one entry for each chunk, never contents, and only the manifests of the few objects that were begun last.
 */
import { isRollcallError, RollcallError } from '../base/errors.js';
import { createKeyedQueue } from '../base/keyed-queue.js';
import { BegunObjects } from './begun-objects.js';
import { BucketFolder } from './bucket-folder.js';
import { ChunkDraft, readChunkFile, type ChunkName } from './chunk-file.js';
import { DraftWriter, type ChunkWriter } from './draft-writer.js';
import { chunkBytes } from './limits.js';
import { chunkDigestOf, chunkLengthOf, distinctChunks, type Manifest } from './manifest.js';

/** The space that the objects of a run take on the disk. */
export interface Account {
  /** STORE_FULL when that is too much; then nothing was taken. */
  take(bytes: number): void;
  /** STORE_FULL when `take` would fail now. */
  check(bytes: number): void;
  /** Counts what is there already, without a limit. */
  note(bytes: number): void;
  giveBack(bytes: number): void;
}

interface Chunk {
  readonly sizeBytes: number;
  /**
   * found: an earlier process left it, and nobody has read it since. checked: its content matches its name. gone: a
   * manifest still names it, and its file was removed.
   */
  state: 'found' | 'checked' | 'synced' | 'gone';
  /** Objects with a manifest that have it. */
  uses: number;
}

/** For checking chunks that were found. */
const checkPieceBytes = 256 * 1024;
/** Every file counts for at least this much: small ones cost names, blocks and memory. */
const minFileBytes = 64 * 1024;
const costOf = (sizeBytes: number): number => Math.max(sizeBytes, minFileBytes);

export class Bucket {
  readonly #folder: BucketFolder;
  readonly #account: Account;
  readonly #chunks = new Map<string, Chunk>();
  readonly #retained = new Map<string, number>();
  readonly #begun = new BegunObjects();
  readonly #turns = createKeyedQueue();
  #drafts = 0;

  constructor(path: string, account: Account) {
    this.#folder = new BucketFolder(path);
    this.#account = account;
  }

  /** Once, before anything else: counts what an earlier process left. */
  async load(): Promise<void> {
    const chunks = await this.#folder.listChunks();
    const manifests = await this.#folder.listManifests();
    for (const { digest, sizeBytes } of chunks) {
      this.#chunks.set(digest, { sizeBytes, state: 'found', uses: 0 });
      this.#account.note(costOf(sizeBytes));
    }
    for (const manifest of manifests) {
      this.#account.note(costOf(manifest.sizeBytes));
      this.#countUses(manifest.chunks);
    }
  }

  async find(digest: string): Promise<Manifest | undefined> {
    const manifest = await this.#folder.readManifest(digest);
    if (!manifest) return undefined;
    const isWhole = manifest.chunks.every((chunk, index) => this.#has(chunk, chunkLengthOf(manifest, index)));
    return isWhole ? manifest : undefined;
  }

  async *readPieces(manifest: Manifest, index: number, pieceBytes: number): AsyncGenerator<Buffer, void> {
    const name = chunkNameOf(manifest, index);
    try {
      yield* readChunkFile(this.#folder.chunkPath(name.digest), name, pieceBytes);
    } catch (error) {
      // The next writer of this object is then asked for the chunk again.
      const chunk = this.#chunks.get(name.digest);
      if (chunk && chunk.state !== 'gone') chunk.state = 'found';
      throw error;
    }
  }

  begin(manifest: Manifest): Promise<readonly number[]> {
    return this.#inTurn(async () => {
      const missing = await this.#findMissing(manifest);
      // Better now than after all but the last chunk was sent.
      const costs = missing.map(index => costOf(chunkLengthOf(manifest, index)));
      if (missing.length > 0)
        this.#account.check(costs.reduce((sum, cost) => sum + cost, costOf(manifest.bytes.length)));
      this.#begun.add(manifest);
      return missing;
    });
  }

  async beginChunk(manifest: Manifest, index: number): Promise<ChunkWriter> {
    const name = chunkNameOf(manifest, index);
    const cost = costOf(name.lengthBytes);
    await this.#folder.make();
    this.#account.take(cost);
    const draft = new ChunkDraft(this.#folder.draftPath(`draft-${++this.#drafts}`), name);
    return new DraftWriter(draft, {
      keep: () => this.#inTurn(() => this.#keep(draft, name)),
      giveBack: () => this.#account.giveBack(cost),
    });
  }

  finish(manifest: Manifest): Promise<void> {
    return this.#inTurn(async () => {
      if ((await this.#findMissing(manifest)).length > 0)
        throw new RollcallError('PROTOCOL_INVALID', 'chunks of the object are missing');
      await this.#syncChunks(manifest);
      if (!(await this.#folder.readManifest(manifest.digest))) await this.#writeManifest(manifest);
      this.#begun.noteStored(manifest.digest);
    });
  }

  retain(digest: string): void {
    this.#retained.set(digest, (this.#retained.get(digest) ?? 0) + 1);
    this.#begun.noteRetained(digest);
  }

  async release(digest: string): Promise<void> {
    const left = (this.#retained.get(digest) ?? 0) - 1;
    if (left > 0) this.#retained.set(digest, left);
    else {
      this.#retained.delete(digest);
      await this.#inTurn(() => this.#removeUnlessWanted(digest));
    }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    return this.#turns('bucket', work);
  }

  #has(digest: string, lengthBytes: number): boolean {
    const chunk = this.#chunks.get(digest);
    return chunk !== undefined && chunk.state !== 'gone' && chunk.sizeBytes === lengthBytes;
  }

  #countUses(digests: Iterable<string>): void {
    for (const digest of digests) {
      const chunk = this.#chunks.get(digest);
      if (chunk) chunk.uses += 1;
    }
  }

  /** The first place of each chunk that is not there. */
  async #findMissing(manifest: Manifest): Promise<number[]> {
    const missing: number[] = [];
    for (const [digest, index] of distinctChunks(manifest))
      if (!(await this.#isThere(digest, chunkLengthOf(manifest, index)))) missing.push(index);
    return missing;
  }

  /** Whether the chunk is there with the content that its name promises. A damaged one is removed. */
  async #isThere(digest: string, lengthBytes: number): Promise<boolean> {
    const chunk = this.#chunks.get(digest);
    if (chunk?.state === 'found') await this.#checkFound(digest, chunk);
    return this.#has(digest, lengthBytes);
  }

  async #checkFound(digest: string, chunk: Chunk): Promise<void> {
    const name = { digest, lengthBytes: chunk.sizeBytes };
    try {
      if (chunk.sizeBytes < 1 || chunk.sizeBytes > chunkBytes)
        throw new RollcallError('INTERNAL', 'invalid size of a chunk');
      await readToEnd(readChunkFile(this.#folder.chunkPath(digest), name, checkPieceBytes));
      chunk.state = 'checked';
    } catch (error) {
      if (!isRollcallError(error)) throw error;
      await this.#removeChunk(digest, chunk);
    }
  }

  async #removeChunk(digest: string, chunk: Chunk): Promise<void> {
    await this.#folder.removeChunk(digest);
    this.#account.giveBack(costOf(chunk.sizeBytes));
    if (chunk.uses > 0) chunk.state = 'gone';
    else this.#chunks.delete(digest);
  }

  /** False when another writer was faster. */
  async #keep(draft: ChunkDraft, { digest, lengthBytes }: ChunkName): Promise<boolean> {
    if (await this.#isThere(digest, lengthBytes)) return false;
    await draft.keepAs(this.#folder.chunkPath(digest));
    const uses = this.#chunks.get(digest)?.uses ?? 0;
    this.#chunks.set(digest, { sizeBytes: lengthBytes, state: 'checked', uses });
    return true;
  }

  async #syncChunks(manifest: Manifest): Promise<void> {
    const unsynced = [...distinctChunks(manifest).keys()].filter(
      digest => this.#chunks.get(digest)?.state === 'checked',
    );
    await this.#folder.syncChunks(unsynced);
    for (const digest of unsynced) {
      const chunk = this.#chunks.get(digest);
      if (chunk) chunk.state = 'synced';
    }
  }

  async #writeManifest(manifest: Manifest): Promise<void> {
    const cost = costOf(manifest.bytes.length);
    this.#account.take(cost);
    try {
      await this.#folder.writeManifest(manifest);
    } catch (error) {
      this.#account.giveBack(cost);
      throw error;
    }
    this.#countUses(new Set(manifest.chunks));
  }

  async #removeUnlessWanted(digest: string): Promise<void> {
    if (this.#retained.has(digest) || this.#begun.awaitsRetain(digest)) return;
    const begun = this.#begun.take(digest);
    const stored = await this.#folder.readManifest(digest);
    if (stored) {
      await this.#folder.removeManifest(digest);
      this.#account.giveBack(costOf(stored.bytes.length));
    }
    const wanted = this.#begun.chunks();
    for (const each of new Set((stored ?? begun)?.chunks)) {
      const chunk = this.#chunks.get(each);
      if (!chunk) continue;
      if (stored) chunk.uses -= 1;
      if (chunk.uses > 0 || wanted.has(each)) continue;
      if (chunk.state === 'gone') this.#chunks.delete(each);
      else await this.#removeChunk(each, chunk);
    }
  }
}

/** PROTOCOL_INVALID when the object has no chunk of this number. */
function chunkNameOf(manifest: Manifest, index: number): ChunkName {
  return { digest: chunkDigestOf(manifest, index), lengthBytes: chunkLengthOf(manifest, index) };
}

async function readToEnd(pieces: AsyncGenerator<Buffer, void>): Promise<void> {
  while ((await pieces.next()).done !== true);
}
