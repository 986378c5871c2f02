/** An object that a node writes: its manifest, then the chunks that are missing, piece by piece and in order. */
import { RollcallError } from '../../../base/errors.js';
import { chunkLengthOf, parseManifest, type Manifest } from '../../../objects/manifest.js';
import type { ChunkWriter, ObjectBucket } from '../../../objects/object-store.js';
import { limits } from '../../../protocol/limits.js';

export class ObjectUpload {
  readonly #bucket: ObjectBucket;
  readonly #manifest: Manifest;
  #missing: readonly number[] = [];
  #writing: { readonly writer: ChunkWriter; leftBytes: number } | undefined;
  #isOver = false;

  constructor(bucket: ObjectBucket, manifestBytes: Buffer) {
    this.#bucket = bucket;
    this.#manifest = parseManifest(manifestBytes);
  }

  /** Gives the chunks that are missing; with none the object is stored. */
  async begin(): Promise<readonly number[]> {
    this.#missing = await this.#bucket.begin(this.#manifest);
    if (this.#missing.length === 0) await this.#bucket.finish(this.#manifest);
    return this.#missing;
  }

  /** Takes the next piece; gives true when the object is stored. */
  async take(chunk: number, bytes: Buffer): Promise<boolean> {
    if (chunk !== this.#missing[0])
      throw new RollcallError('PROTOCOL_INVALID', `chunk ${chunk} is not the next one`);
    if (bytes.length < 1 || bytes.length > limits.pieceBytes)
      throw new RollcallError('PROTOCOL_INVALID', `a piece has 1 to ${limits.pieceBytes} bytes`);
    this.#writing ??= await this.#beginChunk(chunk);
    await this.#writing.writer.write(bytes);
    this.#writing.leftBytes -= bytes.length;
    if (this.#writing.leftBytes > 0) return false;
    await this.#writing.writer.finish();
    this.#writing = undefined;
    this.#missing = this.#missing.slice(1);
    if (this.#missing.length > 0) return false;
    await this.#bucket.finish(this.#manifest);
    return true;
  }

  /** Gives up what is not whole; whole chunks stay. */
  async discard(): Promise<void> {
    this.#isOver = true;
    await this.#writing?.writer.discard();
  }

  async #beginChunk(chunk: number): Promise<{ writer: ChunkWriter; leftBytes: number }> {
    const writer = await this.#bucket.beginChunk(this.#manifest, chunk);
    // Given up while this was under way.
    if (this.#isOver) await writer.discard();
    return { writer, leftBytes: chunkLengthOf(this.#manifest, chunk) };
  }
}
