/**
 * `rollcall.v1.Objects`: contents that do not fit into a frame, for connections that hold a session. Both directions go piece
 * by piece and as fast as the slower side: the link holds a few pieces of a stream, whatever the size of the object. A stream on
 * which nothing moves is ended, and so is one whose session is over; anyone who comes back goes on where it stopped.
 */
import type { ServerDuplexStream, ServerWritableStream } from '@grpc/grpc-js';
import type { Clock, Timer } from '../../../base/clock.js';
import { isRollcallError, RollcallError } from '../../../base/errors.js';
import type { Log } from '../../../base/log.js';
import { chunkLengthOf, digestBytes, parseManifest, type Manifest } from '../../../objects/manifest.js';
import type { ChunkWriter, ObjectBucket } from '../../../objects/object-store.js';
import type {
  ObjectPiece,
  ObjectsServer,
  ReadObjectRequest,
  WriteObjectRequest,
  WriteObjectResponse,
} from '../../../protocol/generated/rollcall/v1/link.js';
import { limits } from '../../../protocol/limits.js';
import type { NodeObjects } from '../../runs/messages/node-objects.js';
import type { Session } from '../../sessions/session.js';
import type { Connection } from '../tls/connection.js';
import { endCall, logFault } from './call-end.js';
import type { GrpcDoor } from './grpc-door.js';

type ReadCall = ServerWritableStream<ReadObjectRequest, ObjectPiece>;
type WriteCall = ServerDuplexStream<WriteObjectRequest, WriteObjectResponse>;

/** A peer that takes or sends no piece for so long is not there any more, or never meant to, ms. */
const stillMs = 30_000;
/** Pieces of a Read that wait to be sent. */
const maxWaiting = 2;

export interface ObjectsDoorOptions {
  readonly door: Pick<GrpcDoor, 'connectionOf'>;
  /** The live session on a connection. */
  readonly sessionOn: (connection: Connection) => Session | undefined;
  readonly objects: NodeObjects;
  readonly clock: Clock;
  readonly log: Log;
}

export function createObjectsDoor(options: ObjectsDoorOptions): ObjectsServer {
  const { door, sessionOn, objects, clock, log } = options;

  /** Gives the session that the call is made in, each time it is asked, or throws why there is none any more. */
  function sessionFor(call: ReadCall | WriteCall): () => Session {
    const connection = door.connectionOf(call);
    const session = sessionOn(connection);
    return () => {
      if (session && session.ended === undefined && sessionOn(connection) === session) return session;
      connection.refused();
      if (isRollcallError(session?.ended)) throw session.ended;
      throw new RollcallError('CERTIFICATE_REFUSED', 'objects are for connections that hold a session');
    };
  }

  function end(call: ReadCall | WriteCall, thrown: unknown, doing: string): void {
    if (!call.cancelled) logFault(log, thrown, doing);
    endCall<unknown, unknown>(call, thrown);
  }

  async function read(call: ReadCall): Promise<void> {
    const session = sessionFor(call);
    const { run, digest, fromChunk } = call.request;
    if (digest.length !== digestBytes) throw new RollcallError('PROTOCOL_INVALID', 'invalid digest');
    const { manifest, bucket } = await objects.read(session(), run, digest.toString('hex'));
    if (fromChunk > manifest.chunks.length)
      throw new RollcallError('PROTOCOL_INVALID', 'the object has fewer chunks');
    const send = createSender(call);
    await send({ manifest: manifest.bytes, chunk: 0, bytes: Buffer.alloc(0) });
    for (let chunk = fromChunk; chunk < manifest.chunks.length; chunk++) {
      for await (const bytes of bucket.readPieces(manifest, chunk, limits.pieceBytes)) {
        if (call.cancelled) return;
        session();
        await send({ manifest: Buffer.alloc(0), chunk, bytes });
      }
    }
    call.end();
  }

  /** Sends pieces and waits while more than a few wait: until some are taken, or the reader is gone. */
  function createSender(call: ReadCall): (piece: ObjectPiece) => Promise<void> {
    let waiting = 0;
    let goOn = (): void => undefined;
    call.on('cancelled', () => goOn());
    return async piece => {
      waiting += 1;
      call.write(piece, () => {
        waiting -= 1;
        goOn();
      });
      while (waiting > maxWaiting && !call.cancelled) {
        // Anyone who does not read cannot be told, and keeps what waits for it as long as it has a connection.
        const still = clock.after(stillMs, () => door.connectionOf(call).destroy());
        await new Promise<void>(resolve => (goOn = resolve));
        still.cancel();
      }
    };
  }

  function write(call: WriteCall): void {
    const session = sessionFor(call);
    const upload = createUpload(async ({ run }) => objects.write(session(), run));
    let still: Timer | undefined;
    let isOver = false;
    let hasEnded = false;

    const watch = (): void => {
      still?.cancel();
      still = clock.after(stillMs, () => finish(tooStill()));
    };
    const finish = (thrown?: unknown): void => {
      if (isOver) return;
      isOver = true;
      still?.cancel();
      upload.discard().catch((error: unknown) => logFault(log, error, 'giving up an object'));
      if (thrown === undefined) call.end();
      else end(call, thrown, 'writing an object');
    };
    const take = async (request: WriteObjectRequest): Promise<void> => {
      session();
      const answer = await upload.take(request);
      if (isOver) return;
      if (answer) call.write(answer);
      if (answer?.isStored) finish();
      else if (hasEnded) finish(endedEarly());
      else {
        watch();
        call.resume();
      }
    };

    call.on('cancelled', () => finish(endedEarly()));
    call.on('end', () => {
      hasEnded = true;
      // The last message may still be looked at: it comes before the end even so.
      if (!call.isPaused()) finish(endedEarly());
    });
    call.on('data', (request: WriteObjectRequest) => {
      if (isOver) return;
      // One piece at a time; while it is written, the writer waits for the link, not the link for the writer.
      call.pause();
      still?.cancel();
      take(request).catch(finish);
    });
    try {
      session();
      watch();
    } catch (error) {
      finish(error);
    }
  }

  return {
    read: call => void read(call).catch((error: unknown) => end(call, error, 'reading an object')),
    write,
  };
}

function endedEarly(): RollcallError {
  return new RollcallError('PROTOCOL_INVALID', 'the stream ended early');
}

function tooStill(): RollcallError {
  return new RollcallError('DEADLINE_EXCEEDED', 'nothing of the object moved in time');
}

interface Upload {
  /** Gives what is to be answered, if anything. */
  take(request: WriteObjectRequest): Promise<WriteObjectResponse | undefined>;
  /** Leaves no part of a chunk behind. */
  discard(): Promise<void>;
}

/** What a writer has told so far: the manifest first, then the missing chunks in order, piece by piece. */
function createUpload(bucketFor: (request: WriteObjectRequest) => Promise<ObjectBucket>): Upload {
  let object: { readonly bucket: ObjectBucket; readonly manifest: Manifest } | undefined;
  let missing: readonly number[] = [];
  let writing: { readonly writer: ChunkWriter; leftBytes: number } | undefined;
  let isOver = false;

  async function begin(request: WriteObjectRequest): Promise<WriteObjectResponse> {
    if (request.piece) throw new RollcallError('PROTOCOL_INVALID', 'the manifest comes first, alone');
    const manifest = parseManifest(request.manifest);
    const bucket = await bucketFor(request);
    object = { bucket, manifest };
    missing = await bucket.begin(manifest);
    return missing.length > 0 ? { missingChunks: [...missing], isStored: false } : finish();
  }

  async function finish(): Promise<WriteObjectResponse> {
    await object?.bucket.finish(object.manifest);
    return { missingChunks: [], isStored: true };
  }

  async function takePiece({ chunk, bytes }: ObjectPiece): Promise<WriteObjectResponse | undefined> {
    const [due] = missing;
    if (!object || chunk !== due) throw new RollcallError('PROTOCOL_INVALID', 'this chunk is not due');
    if (bytes.length < 1 || bytes.length > limits.pieceBytes)
      throw new RollcallError('PROTOCOL_INVALID', `a piece has 1 to ${limits.pieceBytes} bytes`);
    writing ??= await beginChunk(object.bucket, object.manifest, chunk);
    await writing.writer.write(bytes);
    writing.leftBytes -= bytes.length;
    if (writing.leftBytes > 0) return undefined;
    await writing.writer.finish();
    writing = undefined;
    missing = missing.slice(1);
    return missing.length > 0 ? undefined : finish();
  }

  async function beginChunk(bucket: ObjectBucket, manifest: Manifest, chunk: number) {
    const writer = await bucket.beginChunk(manifest, chunk);
    // Given up while this was under way.
    if (isOver) await writer.discard();
    return { writer, leftBytes: chunkLengthOf(manifest, chunk) };
  }

  return {
    take(request) {
      if (!object) return begin(request);
      if (!request.piece || request.manifest.length > 0 || request.piece.manifest.length > 0)
        throw new RollcallError('PROTOCOL_INVALID', 'after the manifest come pieces');
      return takePiece(request.piece);
    },
    async discard() {
      isOver = true;
      await writing?.writer.discard();
    },
  };
}
