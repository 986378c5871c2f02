/**
 * An object is bytes, cut into chunks of 1 MiB, and named by the SHA-256 of a manifest that lists its size and its chunks.
 * With a checked manifest, each chunk can be checked by itself, as it comes. Pure; app hosts use it too.
 */
import { createHash, type Hash } from 'node:crypto';
import { sha256Hex } from '../base/hash.js';
import { RollcallError } from '../base/errors.js';
import { chunkBytes, maxChunks, maxObjectBytes } from './limits.js';

export const digestBytes = 32;
const sizeFieldBytes = 8;
export const maxManifestBytes = sizeFieldBytes + maxChunks * digestBytes;

export interface Manifest {
  /** SHA-256 of `bytes`, hex: the name of the object. */
  readonly digest: string;
  readonly sizeBytes: number;
  /** SHA-256 of each chunk, hex. */
  readonly chunks: readonly string[];
  /** The size (uint64, big-endian), and the chunks' SHA-256 one after the other. */
  readonly bytes: Buffer;
}

/** PROTOCOL_INVALID unless the chunks fit the size. */
export function makeManifest(sizeBytes: number, chunks: readonly string[]): Manifest {
  const bytes = Buffer.alloc(sizeFieldBytes + chunks.length * digestBytes);
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 1) throw malformed('an object has at least one byte');
  bytes.writeBigUInt64BE(BigInt(sizeBytes));
  for (const [index, digest] of chunks.entries()) {
    if (!isDigest(digest)) throw malformed('invalid digest');
    bytes.write(digest, sizeFieldBytes + index * digestBytes, 'hex');
  }
  return parseManifest(bytes);
}

/** PROTOCOL_INVALID for an invalid manifest. */
export function parseManifest(bytes: Uint8Array): Manifest {
  if (bytes.length > maxManifestBytes) throw malformed('it is too long');
  // A copy: what is checked here cannot be changed afterwards.
  const own = Buffer.from(bytes);
  const count = (own.length - sizeFieldBytes) / digestBytes;
  if (!Number.isInteger(count) || count < 1) throw malformed('its length does not fit a list of chunks');
  const size = own.readBigUInt64BE();
  if (size > BigInt(count * chunkBytes) || size <= BigInt((count - 1) * chunkBytes))
    throw malformed('its size does not fit the number of its chunks');
  const chunks = Array.from({ length: count }, (_, index) => {
    const start = sizeFieldBytes + index * digestBytes;
    return own.toString('hex', start, start + digestBytes);
  });
  const manifest = { digest: sha256(own), sizeBytes: Number(size), chunks, bytes: own };
  refuseTwoLengths(manifest);
  return manifest;
}

/** A last chunk that is shorter than the others cannot be one of them. */
function refuseTwoLengths(manifest: Manifest): void {
  const last = manifest.chunks.length - 1;
  if (chunkLengthOf(manifest, last) === chunkBytes) return;
  if (manifest.chunks.indexOf(manifest.chunks[last] ?? '') !== last)
    throw malformed('one chunk would have two lengths');
}

/** Bytes of the chunk. PROTOCOL_INVALID when there is no such chunk. */
export function chunkLengthOf(manifest: Pick<Manifest, 'sizeBytes' | 'chunks'>, index: number): number {
  requireChunk(manifest, index);
  return index < manifest.chunks.length - 1 ? chunkBytes : manifest.sizeBytes - index * chunkBytes;
}

/** Digest of the chunk. PROTOCOL_INVALID when there is no such chunk. */
export function chunkDigestOf(manifest: Pick<Manifest, 'chunks'>, index: number): string {
  return requireChunk(manifest, index);
}

function requireChunk({ chunks }: Pick<Manifest, 'chunks'>, index: number): string {
  const digest = chunks[index];
  if (digest === undefined)
    throw new RollcallError('PROTOCOL_INVALID', 'the object has no chunk of this number');
  return digest;
}

/** The first place of each chunk: one that comes several times is sent and stored once. */
export function distinctChunks({ chunks }: Pick<Manifest, 'chunks'>): Map<string, number> {
  const first = new Map<string, number>();
  for (const [index, digest] of chunks.entries()) if (!first.has(digest)) first.set(digest, index);
  return first;
}

/** SHA-256, hex. */
export function digestOfChunk(bytes: Uint8Array): string {
  return sha256(bytes);
}

export function isDigest(text: string): boolean {
  return /^[0-9a-f]{64}$/.test(text);
}

/** The manifest of all parts one after the other. REQUEST_INVALID when they are empty, or larger than an object can be. */
export function manifestOf(parts: readonly Uint8Array[]): Manifest {
  const sizeBytes = sizeOf(parts);
  if (sizeBytes < 1 || sizeBytes > maxObjectBytes)
    throw new RollcallError('REQUEST_INVALID', `an object has 1 to ${maxObjectBytes} bytes`);
  return makeManifest(sizeBytes, chunkDigestsOf(parts));
}

function chunkDigestsOf(parts: readonly Uint8Array[]): string[] {
  const digests: string[] = [];
  let hash: Hash = createHash('sha256');
  let filled = 0;
  const finishChunk = (): void => {
    digests.push(hash.digest('hex'));
    hash = createHash('sha256');
    filled = 0;
  };
  for (const part of parts) {
    for (let at = 0; at < part.length;) {
      const piece = part.subarray(at, at + chunkBytes - filled);
      hash.update(piece);
      at += piece.length;
      filled += piece.length;
      if (filled === chunkBytes) finishChunk();
    }
  }
  if (filled > 0) finishChunk();
  return digests;
}

/** One chunk of all parts one after the other: a view when it lies in one part, or else a copy. */
export function readChunkOf(parts: readonly Uint8Array[], index: number): Buffer {
  const pieces: Uint8Array[] = [];
  let skip = index * chunkBytes;
  let wanted = chunkBytes;
  for (const part of parts) {
    if (wanted === 0) break;
    const piece = part.subarray(skip, skip + wanted);
    skip = Math.max(0, skip - part.length);
    wanted -= piece.length;
    if (piece.length > 0) pieces.push(piece);
  }
  const [first, ...more] = pieces;
  if (!first) throw new RollcallError('PROTOCOL_INVALID', 'the object has no chunk of this number');
  return more.length === 0
    ? Buffer.from(first.buffer, first.byteOffset, first.length)
    : Buffer.concat(pieces, chunkBytes - wanted);
}

function sizeOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, part) => sum + part.length, 0);
}

function sha256(bytes: Uint8Array): string {
  return sha256Hex(bytes);
}

function malformed(what: string): RollcallError {
  return new RollcallError('PROTOCOL_INVALID', `invalid manifest of an object: ${what}`);
}
