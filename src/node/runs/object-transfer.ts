/**
 * Objects between the link and this node's disk, piece by piece. Everything is checked: the manifest against the digest that was
 * asked for, each chunk against the manifest. Chunks that have come stay, also when the connection breaks: the next attempt goes
 * on after them. Rejects with the error that the link stated, LINK_UNREACHABLE when the connection was lost or `signal` was
 * aborted, PROTOCOL_INVALID when what came is not the object, and with the failures of the disk.
 */
import type { ClientDuplexStream, ClientReadableStream } from '@grpc/grpc-js';
import { RollcallError } from '../../base/errors.js';
import { onAbort } from '../../base/wait.js';
import { chunkLengthOf, parseManifest, type Manifest } from '../../objects/manifest.js';
import type { ChunkWriter, ObjectBucket } from '../../objects/object-store.js';
import type {
  ObjectPiece,
  ObjectsClient,
  WriteObjectRequest,
  WriteObjectResponse,
} from '../../protocol/generated/rollcall/v1/link.js';
import { limits } from '../../protocol/limits.js';
import { openCall, toCallFailure } from '../connection-error.js';

export interface TransferOptions {
  readonly client: Pick<ObjectsClient, 'read' | 'write'>;
  readonly run: bigint;
  /** Where the object is on this node. */
  readonly bucket: ObjectBucket;
  readonly signal?: AbortSignal | undefined;
}

type ReadCall = ClientReadableStream<ObjectPiece>;
type WriteCall = ClientDuplexStream<WriteObjectRequest, WriteObjectResponse>;

/** Reads an object from the link; resolves when the object is on this disk. */
export async function fetchObject(options: TransferOptions & { readonly digest: string }): Promise<Manifest> {
  const found = await options.bucket.find(options.digest);
  if (found) return found;
  // The manifest tells which chunks are here already; what is sent may then have to begin further on.
  for (let from = 0; ;) {
    const fetched = await fetchFrom(options, from);
    if (typeof fetched !== 'number') return fetched;
    from = fetched;
  }
}

/** Gives the chunk to begin with instead, when those before it are here already. */
function fetchFrom(
  { client, run, digest, bucket, signal }: TransferOptions & { readonly digest: string },
  from: number,
): Promise<Manifest | number> {
  const request = { run, digest: Buffer.from(digest, 'hex'), fromChunk: from };
  return during(
    openCall(() => client.read(request)),
    signal,
    async call => {
      const pieces = messagesOf<ObjectPiece>(call, 'the link ended the object too early');
      const manifest = checkManifest(await pieces(), digest);
      const missing = await bucket.begin(manifest);
      const first = missing[0] ?? manifest.chunks.length;
      if (first > from && missing.length > 0) return first;
      const wanted = new Set(missing);
      const last = missing.at(-1) ?? -1;
      for (let index = from; index <= last; index++) {
        const writer = wanted.has(index) ? await bucket.beginChunk(manifest, index) : undefined;
        await takeChunk(pieces, index, chunkLengthOf(manifest, index), writer);
      }
      await bucket.finish(manifest);
      return manifest;
    },
  );
}

function checkManifest({ manifest: bytes }: ObjectPiece, digest: string): Manifest {
  const manifest = parseManifest(bytes);
  if (manifest.digest !== digest) throw invalidReply('it sent another object');
  return manifest;
}

/** Without a writer the chunk is passed over. */
async function takeChunk(
  pieces: () => Promise<ObjectPiece>,
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
export function sendObject({
  client,
  run,
  manifest,
  bucket,
  signal,
}: TransferOptions & { readonly manifest: Manifest }): Promise<void> {
  return during(
    openCall(() => client.write()),
    signal,
    async call => {
      const answers = messagesOf<WriteObjectResponse>(call, 'the link ended the object without an answer');
      const send = createSender(call);
      await send({ run, manifest: manifest.bytes });
      const { missingChunks, isStored } = await answers();
      if (isStored) return;
      await sendChunks(send, { bucket, manifest }, checkMissing(missingChunks, manifest));
      call.end();
      if (!(await answers()).isStored) throw invalidReply('it has not stored the object');
    },
  );
}

async function sendChunks(
  send: (request: WriteObjectRequest) => Promise<boolean>,
  { bucket, manifest }: { readonly bucket: ObjectBucket; readonly manifest: Manifest },
  chunks: readonly number[],
): Promise<void> {
  const none = Buffer.alloc(0);
  for (const chunk of chunks) {
    for await (const bytes of bucket.readPieces(manifest, chunk, limits.pieceBytes)) {
      // The answer says why it is over.
      if (!(await send({ run: 0n, manifest: none, piece: { manifest: none, chunk, bytes } }))) return;
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

/** Maximum of pieces that wait to be sent. */
const maxWaiting = 2;

/** Sends, and waits while more than a few messages wait to be sent. Gives false when the call is over. */
function createSender(call: WriteCall): (request: WriteObjectRequest) => Promise<boolean> {
  let waiting = 0;
  let over = false;
  let goOn = (): void => undefined;
  const isOn = (): boolean => !over && call.writable;
  call.once('status', () => {
    over = true;
    goOn();
  });
  return async request => {
    if (!isOn()) return false;
    waiting += 1;
    call.write(request, () => {
      waiting -= 1;
      goOn();
    });
    while (waiting > maxWaiting && isOn()) await new Promise<void>(resolve => (goOn = resolve));
    return isOn();
  };
}

/** Works with a call and ends it, however the work ends. */
async function during<Call extends ReadCall | WriteCall, Result>(
  call: Call,
  signal: AbortSignal | undefined,
  work: (call: Call) => Promise<Result>,
): Promise<Result> {
  const stop = (): void => call.cancel();
  // The next read of a message rejects with the error; a call without a listener for it would end the process.
  call.on('error', () => undefined);
  const forget = onAbort(signal, stop);
  try {
    return await work(call);
  } catch (error) {
    throw toCallFailure(error);
  } finally {
    forget();
    stop();
  }
}

/** Gives the messages one by one, as fast as they are asked for. */
function messagesOf<Message>(
  call: AsyncIterable<unknown> & { cancel(): void },
  whenOver: string,
): () => Promise<Message> {
  const messages = call[Symbol.asyncIterator]() as AsyncIterator<Message, undefined>;
  return async () => {
    const next = await messages.next();
    if (next.done === true) throw invalidReply(whenOver);
    return next.value;
  };
}

function invalidReply(what: string): RollcallError {
  return new RollcallError('PROTOCOL_INVALID', `invalid reply of the link: ${what}`);
}
