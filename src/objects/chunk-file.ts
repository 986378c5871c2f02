/**
 * Chunks as files. They are read and written piece by piece, and nothing is kept open in between: a thousand slow readers cost
 * neither memory nor descriptors. What is read is the chunk or fails; what is written becomes a chunk by a rename, when it is
 * one.
 */
import { createHash } from 'node:crypto';
import { appendFile, open, rename, rm } from 'node:fs/promises';
import { RollcallError, systemErrorCode } from '../base/errors.js';

/** A chunk by its digest and its length. */
export interface ChunkName {
  readonly digest: string;
  readonly lengthBytes: number;
}

/** What is read or written at once: opening the file costs as much as the bytes do. */
const stretchBytes = 240 * 1024;

/**
 * The bytes of a chunk, in pieces of at most `pieceBytes`. The last piece comes only when all of them together are the
 * chunk, so nobody ever has a whole chunk that is damaged. NOT_FOUND without the file, INTERNAL when it is damaged.
 */
export async function* readChunkFile(
  path: string,
  { digest, lengthBytes }: ChunkName,
  pieceBytes: number,
): AsyncGenerator<Buffer, void> {
  const hash = createHash('sha256');
  const aheadBytes = Math.max(pieceBytes, stretchBytes);
  for (let at = 0; at < lengthBytes;) {
    const stretch = await readAt(path, at, Math.min(aheadBytes, lengthBytes - at));
    hash.update(stretch);
    at += stretch.length;
    const isDamaged = stretch.length === 0 || (at === lengthBytes && hash.digest('hex') !== digest);
    if (isDamaged) throw damaged(digest);
    for (let from = 0; from < stretch.length; from += pieceBytes)
      yield stretch.subarray(from, from + pieceBytes);
  }
}

async function readAt(path: string, position: number, lengthBytes: number): Promise<Buffer> {
  const handle = await open(path, 'r').catch((error: unknown) => {
    if (systemErrorCode(error) === 'ENOENT')
      throw new RollcallError('NOT_FOUND', 'a chunk of the object is not there', { cause: error });
    throw error;
  });
  try {
    const buffer = Buffer.allocUnsafeSlow(lengthBytes);
    const { bytesRead } = await handle.read(buffer, 0, lengthBytes, position);
    return buffer.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}

function damaged(digest: string): RollcallError {
  return new RollcallError('INTERNAL', 'a chunk of the object is damaged', {
    cause: new Error(`chunk ${digest} on the disk is not what was written`),
  });
}

export interface ChunkDraft {
  /** One at a time. PROTOCOL_INVALID for more than the chunk has. */
  append(bytes: Uint8Array): Promise<void>;
  /** PROTOCOL_INVALID when what was appended is not the chunk. Not synced. */
  keepAs(path: string): Promise<void>;
  /** Twice does nothing. */
  discard(): Promise<void>;
}

/** A chunk that is being written, in a file of its own at `path`. */
export function createChunkDraft(path: string, { digest, lengthBytes }: ChunkName): ChunkDraft {
  const hash = createHash('sha256');
  // Of its own, and no list of what came: a small piece may keep a large buffer of the network alive.
  let stretch: Buffer | undefined;
  let filledBytes = 0;
  let totalBytes = 0;

  async function flush(): Promise<void> {
    if (!stretch || filledBytes === 0) return;
    const bytes = stretch.subarray(0, filledBytes);
    filledBytes = 0;
    await appendFile(path, bytes, { mode: 0o600 });
  }

  return {
    async append(bytes) {
      if (totalBytes + bytes.length > lengthBytes) throw notTheChunk('it is too long');
      totalBytes += bytes.length;
      hash.update(bytes);
      stretch ??= Buffer.allocUnsafeSlow(Math.min(stretchBytes, lengthBytes));
      for (let at = 0; at < bytes.length;) {
        const piece = bytes.subarray(at, at + stretch.length - filledBytes);
        stretch.set(piece, filledBytes);
        filledBytes += piece.length;
        at += piece.length;
        if (filledBytes === stretch.length) await flush();
      }
    },
    async keepAs(target) {
      if (totalBytes !== lengthBytes) throw notTheChunk('it is too short');
      if (hash.digest('hex') !== digest) throw notTheChunk('its digest is another');
      await flush();
      stretch = undefined;
      await rename(path, target);
    },
    async discard() {
      stretch = undefined;
      await rm(path, { force: true });
    },
  };
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
