/**
 * Objects between the link and this node's disk, piece by piece. Everything is checked: the manifest against the digest that was
 * asked for, each chunk against the manifest. Chunks that have come stay, also when the connection breaks: the next attempt goes
 * on after them. Rejects with the error that the link stated, LINK_UNREACHABLE when the connection was lost or `signal` was
 * aborted, PROTOCOL_INVALID when what came is not the object, and with the failures of the disk.
 */
import { RollcallError } from '../../base/errors.js';
import { chunkLengthOf, parseManifest, type Manifest } from '../../objects/manifest.js';
import type { ChunkWriter, ObjectBucket } from '../../objects/object-store.js';
import { limits } from '../../protocol/limits.js';
import type { ObjectsLink, Transfer, TransferFrame } from '../object-connection.js';

export interface TransferOptions {
  readonly objects: ObjectsLink;
  readonly run: bigint;
  /** The bucket of the object on this node. */
  readonly bucket: ObjectBucket;
  readonly signal?: AbortSignal | undefined;
}

/** Reads an object from the link; resolves when the object is on this disk. */
export async function fetchObject(options: TransferOptions & { readonly digest: string }): Promise<Manifest> {
  const found = await options.bucket.find(options.digest);
  if (found) return found;
  // The manifest tells which chunks are here already; the next transfer may then begin further on.
  for (let from = 0; ;) {
    const fetched = await during(options, transfer => fetchFrom(transfer, options, from));
    if (typeof fetched !== 'number') return fetched;
    from = fetched;
  }
}

/** Gives the chunk to begin with instead, when those before it are here already. */
async function fetchFrom(
  transfer: Transfer,
  { run, digest, bucket }: TransferOptions & { readonly digest: string },
  from: number,
): Promise<Manifest | number> {
  const value = {
    transfer: transfer.number,
    run,
    digest: Buffer.from(digest, 'hex'),
    fromChunk: from,
    pieces: limits.piecesAhead,
  };
  transfer.send({ $case: 'readObject', value });
  const manifest = parseManifest((await nextOf(transfer, 'manifest')).manifest);
  if (manifest.digest !== digest) throw invalidReply('it sent another object');
  const missing = await bucket.begin(manifest);
  const first = missing[0] ?? manifest.chunks.length;
  if (first > from && missing.length > 0) return first;
  const wanted = new Set(missing);
  const pieces = piecesOf(transfer);
  for (let index = from; index <= (missing.at(-1) ?? -1); index++) {
    const writer = wanted.has(index) ? await bucket.beginChunk(manifest, index) : undefined;
    await takeChunk(pieces, index, chunkLengthOf(manifest, index), writer);
  }
  await bucket.finish(manifest);
  return manifest;
}

interface ChunkPiece {
  readonly chunk: number;
  readonly bytes: Buffer;
}

/** Gives the pieces one by one, and asks for more when half of those that were asked for have been taken. */
function piecesOf(transfer: Transfer): () => Promise<ChunkPiece> {
  const pieces = limits.piecesAhead / 2;
  let taken = 0;
  return async () => {
    const piece = await nextOf(transfer, 'piece');
    taken += 1;
    if (taken % pieces === 0)
      transfer.send({ $case: 'takePieces', value: { transfer: transfer.number, pieces } });
    return piece;
  };
}

/** Without a writer the chunk is passed over. */
async function takeChunk(
  pieces: () => Promise<ChunkPiece>,
  index: number,
  lengthBytes: number,
  writer: ChunkWriter | undefined,
): Promise<void> {
  try {
    for (let left = lengthBytes; left > 0;) {
      const { chunk, bytes } = await pieces();
      if (chunk !== index || bytes.length < 1 || bytes.length > left)
        throw invalidReply('a piece of the object is not the next one');
      await writer?.write(bytes);
      left -= bytes.length;
    }
    await writer?.finish();
  } finally {
    await writer?.discard();
  }
}

/** Writes an object of this disk to the link; resolves when the object is on the link's disk. */
export function sendObject(options: TransferOptions & { readonly manifest: Manifest }): Promise<void> {
  const { run, manifest, bucket } = options;
  return during(options, async transfer => {
    transfer.send({
      $case: 'writeObject',
      value: { transfer: transfer.number, run, manifest: manifest.bytes },
    });
    const answer = await transfer.next();
    if (answer.$case === 'stored') return;
    if (answer.$case !== 'missingChunks') throw invalidReply('it does not say which chunks are missing');
    const { chunks, pieces } = answer.value;
    await sendChunks(transfer, { bucket, manifest }, checkMissing(chunks, manifest), pieces);
    for (let last = await transfer.next(); last.$case !== 'stored'; last = await transfer.next())
      if (last.$case !== 'takePieces') throw invalidReply('it has not stored the object');
  });
}

async function sendChunks(
  transfer: Transfer,
  { bucket, manifest }: { readonly bucket: ObjectBucket; readonly manifest: Manifest },
  chunks: readonly number[],
  allowed: number,
): Promise<void> {
  let left = allowed;
  for (const chunk of chunks) {
    for await (const bytes of bucket.readPieces(manifest, chunk, limits.pieceBytes)) {
      while (left === 0) left += (await nextOf(transfer, 'takePieces')).pieces;
      left -= 1;
      transfer.send({ $case: 'piece', value: { transfer: transfer.number, chunk, bytes } });
    }
  }
}

function checkMissing(missing: readonly number[], { chunks }: Manifest): readonly number[] {
  const isList = missing.every(
    (index, at) => index < chunks.length && (at === 0 || index > (missing[at - 1] ?? index)),
  );
  if (!isList || missing.length === 0) throw invalidReply('invalid list of missing chunks');
  return missing;
}

/** Works with a transfer and ends it, however the work ends. */
async function during<Result>(
  { objects, signal }: TransferOptions,
  work: (transfer: Transfer) => Promise<Result>,
): Promise<Result> {
  const transfer = await objects.begin(signal);
  try {
    return await work(transfer);
  } finally {
    transfer.end();
  }
}

type ValueOf<Case extends TransferFrame['$case']> = Extract<TransferFrame, { $case: Case }>['value'];

async function nextOf<Case extends TransferFrame['$case']>(
  transfer: Transfer,
  due: Case,
): Promise<ValueOf<Case>> {
  const frame = await transfer.next();
  if (frame.$case !== due) throw invalidReply(`expected ${due}, found ${frame.$case}`);
  return frame.value as ValueOf<Case>;
}

function invalidReply(what: string): RollcallError {
  return new RollcallError('PROTOCOL_INVALID', `invalid reply of the link: ${what}`);
}
