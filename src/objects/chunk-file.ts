/**
 * Chunks as files. They are read and written piece by piece. Only a few files stay open in between, so that a thousand slow
 * readers cost neither memory nor descriptors. A read gives the chunk or fails; a draft becomes a chunk by a rename, once its
 * digest fits.
 */
import { createHash } from 'node:crypto';
import { appendFile, open, rename, rm, type FileHandle } from 'node:fs/promises';
import { RollcallError, systemErrorCode } from '../base/errors.js';

/** A chunk by its digest and its length. */
export interface ChunkName {
  readonly digest: string;
  readonly lengthBytes: number;
}

/** Read or written at once: opening the file costs as much as the bytes do. */
const stretchBytes = 240 * 1024;
/** Files that stay open while their reader takes the pieces; further ones are opened for each stretch. */
const maxHeldFiles = 64;
let heldFiles = 0;

/**
 * The bytes of a chunk, in pieces of at most `pieceBytes`. The last piece comes only when all of them together are the
 * chunk, so no reader ever has a whole chunk that is damaged. NOT_FOUND without the file, INTERNAL when it is damaged.
 */
export async function* readChunkFile(
  path: string,
  { digest, lengthBytes }: ChunkName,
  pieceBytes: number,
): AsyncGenerator<Buffer, void> {
  const hash = createHash('sha256');
  const aheadBytes = Math.max(pieceBytes, stretchBytes);
  const file = new ChunkFile(path, lengthBytes > aheadBytes);
  try {
    for (let at = 0; at < lengthBytes;) {
      const stretch = await file.read(at, Math.min(aheadBytes, lengthBytes - at));
      hash.update(stretch);
      at += stretch.length;
      const isDamaged = stretch.length === 0 || (at === lengthBytes && hash.digest('hex') !== digest);
      if (isDamaged) throw damaged(digest);
      for (let from = 0; from < stretch.length; from += pieceBytes)
        yield stretch.subarray(from, from + pieceBytes);
    }
  } finally {
    await file.close();
  }
}

/** A file that is read in stretches, and stays open between them while not too many others do. */
class ChunkFile {
  readonly #path: string;
  readonly #isLong: boolean;
  #held: FileHandle | undefined;

  constructor(path: string, isLong: boolean) {
    this.#path = path;
    this.#isLong = isLong;
  }

  /** NOT_FOUND without the file; fewer bytes at its end. */
  async read(position: number, lengthBytes: number): Promise<Buffer> {
    const handle = this.#held ?? (await openChunk(this.#path));
    try {
      const buffer = Buffer.allocUnsafeSlow(lengthBytes);
      const { bytesRead } = await handle.read(buffer, 0, lengthBytes, position);
      return buffer.subarray(0, bytesRead);
    } finally {
      if (!this.#held) await this.#holdOrClose(handle);
    }
  }

  async close(): Promise<void> {
    if (!this.#held) return;
    heldFiles -= 1;
    await this.#held.close();
  }

  async #holdOrClose(handle: FileHandle): Promise<void> {
    if (!this.#isLong || heldFiles >= maxHeldFiles) {
      await handle.close();
      return;
    }
    heldFiles += 1;
    this.#held = handle;
  }
}

async function openChunk(path: string): Promise<FileHandle> {
  return open(path, 'r').catch((error: unknown) => {
    if (systemErrorCode(error) === 'ENOENT')
      throw new RollcallError('NOT_FOUND', 'a chunk of the object is not there', { cause: error });
    throw error;
  });
}

function damaged(digest: string): RollcallError {
  return new RollcallError('INTERNAL', 'a chunk of the object is damaged', {
    cause: new Error(`chunk ${digest} on the disk is not what was written`),
  });
}

/** A chunk that is being written, in a file of its own at `path`. One call at a time. */
export class ChunkDraft {
  readonly #path: string;
  readonly #name: ChunkName;
  readonly #hash = createHash('sha256');
  // Copies the pieces: a small piece may keep a large network buffer alive.
  #stretch: Buffer | undefined;
  #filledBytes = 0;
  #totalBytes = 0;

  constructor(path: string, name: ChunkName) {
    this.#path = path;
    this.#name = name;
  }

  /** PROTOCOL_INVALID for more than the chunk has. */
  async append(bytes: Uint8Array): Promise<void> {
    const { lengthBytes } = this.#name;
    if (this.#totalBytes + bytes.length > lengthBytes) throw notTheChunk('it is too long');
    this.#totalBytes += bytes.length;
    this.#hash.update(bytes);
    const stretch = (this.#stretch ??= Buffer.allocUnsafeSlow(Math.min(stretchBytes, lengthBytes)));
    for (let at = 0; at < bytes.length;) {
      const piece = bytes.subarray(at, at + stretch.length - this.#filledBytes);
      stretch.set(piece, this.#filledBytes);
      this.#filledBytes += piece.length;
      at += piece.length;
      if (this.#filledBytes === stretch.length) await this.#flush();
    }
  }

  /** PROTOCOL_INVALID when what was appended is not the chunk. Not synced. */
  async keepAs(target: string): Promise<void> {
    if (this.#totalBytes !== this.#name.lengthBytes) throw notTheChunk('it is too short');
    if (this.#hash.digest('hex') !== this.#name.digest) throw notTheChunk('its digest is another');
    await this.#flush();
    this.#stretch = undefined;
    await rename(this.#path, target);
  }

  /** Twice does nothing. */
  async discard(): Promise<void> {
    this.#stretch = undefined;
    await rm(this.#path, { force: true });
  }

  async #flush(): Promise<void> {
    if (!this.#stretch || this.#filledBytes === 0) return;
    const bytes = this.#stretch.subarray(0, this.#filledBytes);
    this.#filledBytes = 0;
    await appendFile(this.#path, bytes, { mode: 0o600 });
  }
}

function notTheChunk(why: string): RollcallError {
  return new RollcallError('PROTOCOL_INVALID', `these bytes are not the chunk: ${why}`);
}

/** Puts a file, or the names in a folder, on the disk. */
export async function syncPath(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
