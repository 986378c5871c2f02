/**
 * Frames on a stream of bytes: a length of four bytes, big-endian, then that many bytes of one protobuf message
 * (docs/protocol.md). The length does not count itself. A frame above the current limit is refused by its length,
 * before a byte of it is stored.
 */
import { RollcallError } from '../base/errors.js';

export const lengthBytes = 4;

/** The length prefix. */
export function encodeLength(length: number): Buffer {
  const bytes = Buffer.allocUnsafe(lengthBytes);
  bytes.writeUInt32BE(length);
  return bytes;
}

/**
 * Takes chunks of bytes and returns complete frames. A frame within one chunk is a view of it; any other is assembled
 * once, in a buffer of its length.
 */
export class FrameReader {
  /** The maximum length of a frame from now on, bytes; raised when the peer is authenticated. */
  maxBytes: number;

  #chunk: Buffer = Buffer.alloc(0);
  #at = 0;
  /** The received part of an incomplete length. */
  readonly #length = Buffer.alloc(lengthBytes);
  #lengthHas = 0;
  /** The received part of an incomplete frame. */
  #partial: Buffer | undefined;
  #partialHas = 0;

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  /** Adds the next chunk. Only after next() returned `undefined`: the previous chunk must be used up. */
  add(chunk: Buffer): void {
    if (this.#at < this.#chunk.length) throw new Error('the previous chunk was not read to its end');
    this.#chunk = chunk;
    this.#at = 0;
  }

  /** The message of the next frame; undefined until more bytes come. Throws PROTOCOL_INVALID. */
  next(): Buffer | undefined {
    if (this.#partial) return this.#fill(this.#partial);
    const length = this.#readLength();
    if (length === undefined) return undefined;
    if (length > this.maxBytes)
      throw new RollcallError(
        'PROTOCOL_INVALID',
        `a frame of ${length} bytes; at most ${this.maxBytes} are allowed here`,
      );
    const end = this.#at + length;
    if (end <= this.#chunk.length) {
      const message = this.#chunk.subarray(this.#at, end);
      this.#at = end;
      return message;
    }
    this.#partial = Buffer.allocUnsafe(length);
    this.#partialHas = 0;
    return this.#fill(this.#partial);
  }

  /** True between two frames: no frame is incomplete. */
  get isBetweenFrames(): boolean {
    return this.#lengthHas === 0 && !this.#partial && this.#at === this.#chunk.length;
  }

  #readLength(): number | undefined {
    if (this.#lengthHas === 0 && this.#at + lengthBytes <= this.#chunk.length) {
      const length = this.#chunk.readUInt32BE(this.#at);
      this.#at += lengthBytes;
      return length;
    }
    const taken = this.#chunk.copy(this.#length, this.#lengthHas, this.#at);
    this.#at += taken;
    this.#lengthHas += taken;
    if (this.#lengthHas < lengthBytes) return undefined;
    this.#lengthHas = 0;
    return this.#length.readUInt32BE();
  }

  #fill(partial: Buffer): Buffer | undefined {
    const taken = this.#chunk.copy(partial, this.#partialHas, this.#at);
    this.#at += taken;
    this.#partialHas += taken;
    if (this.#partialHas < partial.length) return undefined;
    this.#partial = undefined;
    return partial;
  }
}
