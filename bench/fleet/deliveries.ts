/**
 * The handling of a message by a light agent: it reads the object, if any, and answers at once. The times of the
 * message and of the object are kept until the bench reads them.
 */
import { createHash } from 'node:crypto';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import { encodeContent } from '../../src/app/content.js';
import { chunkLengthOf, parseManifest, type Manifest } from '../../src/objects/manifest.js';
import { NodeFrame, type LinkFrame } from '../../src/protocol/generated/rollcall/v1/link.js';
import { now } from '../usage.js';
import { paths } from '../bare/methods.js';
import type { LightAgent } from './agent.js';
import { openFrames, type FrameConnection, type Said } from './frames.js';
import type { GrpcConnection } from './http2.js';
import { limits, protocolVersions } from '../../src/protocol/limits.js';
import type { Delivered, ObjectReading } from './orders.js';

type Deliver = Extract<NonNullable<LinkFrame['frame']>, { $case: 'deliver' }>['value'];

let lagMs: number[] = [];
let readings: ObjectReading[] = [];

/** Since the last time. */
export function takeDelivered(): Delivered {
  const delivered = { lagMs, readings };
  lagMs = [];
  readings = [];
  return delivered;
}

const answered = Buffer.concat(encodeContent({}));
const nothing = new Uint8Array();

/** The manifest, or bytes of the next chunk. */
export interface ReadPiece {
  readonly manifest: Uint8Array;
  readonly bytes: Uint8Array;
}

/** Reads an object; `take` gets its manifest first and then its bytes in order. */
export interface ObjectReader {
  read(run: bigint, digest: Buffer, take: (piece: ReadPiece) => boolean): void;
}

export interface Answering {
  readonly reply: (frame: Said) => void;
  readonly objects: ObjectReader;
}

/** The sender put the moment into the group, in nanoseconds; a message without one only warms up. */
export function handle(deliver: Deliver, { reply, objects }: Answering): void {
  const enteredAt = now();
  const { run, message, group, body } = deliver;
  if (/^\d+$/.test(group)) lagMs.push(enteredAt - Number(group) / 1e6);
  const answer = (): void => {
    const content = { body: { $case: 'content' as const, value: answered } };
    reply({ $case: 'reply', value: { run, message, outcome: { $case: 'body', value: content } } });
  };
  if (body?.body?.$case === 'object')
    objects.read(run, body.body.value.digest, createHasher(enteredAt, answer));
  else answer();
}

/** Bytes are hashed, compared chunk by chunk, and let go. Gives true when the object is whole. */
function createHasher(startedAt: number, done: () => void): (piece: ReadPiece) => boolean {
  let manifest: Manifest | undefined;
  let chunk = 0;
  let leftBytes = 0;
  let hash = createHash('sha256');
  return piece => {
    if (!manifest) {
      manifest = parseManifest(Buffer.from(piece.manifest));
      leftBytes = chunkLengthOf(manifest, 0);
      return false;
    }
    hash.update(piece.bytes);
    leftBytes -= piece.bytes.length;
    if (leftBytes > 0) return false;
    if (hash.digest('hex') !== manifest.chunks[chunk]) throw new Error('a chunk is not what its name says');
    chunk += 1;
    hash = createHash('sha256');
    if (chunk < manifest.chunks.length) {
      leftBytes = chunkLengthOf(manifest, chunk);
      return false;
    }
    readings.push({ startedAt, endedAt: now(), sizeBytes: manifest.sizeBytes });
    done();
    return true;
  };
}

export function readByGrpc(
  connection: GrpcConnection,
  run: bigint,
  digest: Buffer,
  take: (piece: ReadPiece) => boolean,
): void {
  const value = { transfer: 1, run, digest, fromChunk: 0, pieces: 0 };
  const first = NodeFrame.encode({ frame: { $case: 'readObject', value } }).finish();
  let isWhole = false;
  const listener = {
    message(encoded: Buffer) {
      isWhole = take(pieceOf(encoded).piece);
    },
    ended() {
      if (!isWhole) throw new Error('an object broke off');
    },
  };
  connection.open({ path: paths.read, first, isWhole: true }, listener);
}

/** Reads objects over one connection beside that of the session, which it opens when the first is asked for. */
export class FrameObjects implements ObjectReader {
  readonly #agent: LightAgent;
  readonly #port: number;
  readonly #transfers = new Map<number, { readonly take: (piece: ReadPiece) => boolean; taken: number }>();
  readonly #waiting: (() => void)[] = [];
  #connection: Promise<FrameConnection> | undefined;
  #next = 1;

  constructor(agent: LightAgent, port: number) {
    this.#agent = agent;
    this.#port = port;
  }

  read(run: bigint, digest: Buffer, take: (piece: ReadPiece) => boolean): void {
    if (this.#transfers.size >= limits.transfersPerConnection) {
      this.#waiting.push(() => this.read(run, digest, take));
      return;
    }
    const transfer = this.#next++;
    this.#transfers.set(transfer, { take, taken: 0 });
    this.#connection ??= this.#open();
    void this.#connection.then(connection =>
      connection.say({
        $case: 'readObject',
        value: { transfer, run, digest, fromChunk: 0, pieces: limits.piecesAhead },
      }),
    );
  }

  close(): void {
    void this.#connection?.then(({ socket }) => socket.destroy()).catch(() => undefined);
  }

  async #open(): Promise<FrameConnection> {
    const connection: FrameConnection = await openFrames(this.#port, this.#agent.context, message =>
      this.#hear(connection, message),
    );
    connection.say({ $case: 'openObjects', value: { protocolVersion: protocolVersions[0] } });
    return connection;
  }

  #hear(connection: FrameConnection, message: Buffer): void {
    const { field, piece } = pieceOf(message);
    if (field === errorField || field === transferErrorField) throw new Error('an object broke off');
    if (field !== manifestField && field !== pieceField) return;
    const transfer = this.#transfers.get(piece.transfer);
    if (!transfer) throw new Error('a piece of no transfer');
    if (transfer.take(piece)) {
      this.#transfers.delete(piece.transfer);
      this.#waiting.shift()?.();
      return;
    }
    if (field === manifestField) return;
    transfer.taken += 1;
    const pieces = limits.piecesAhead / 2;
    if (transfer.taken % pieces === 0)
      connection.say({ $case: 'takePieces', value: { transfer: piece.transfer, pieces } });
  }
}

/** Of LinkFrame. */
const [errorField, manifestField, pieceField, transferErrorField] = [12, 14, 15, 19];

/** The member of a LinkFrame, and the position of a piece in it. */
function pieceOf(message: Buffer): {
  readonly field: number;
  readonly piece: ReadPiece & { readonly transfer: number };
} {
  const reader = new BinaryReader(message);
  const [field] = reader.tag();
  const value = message.subarray(message.length - reader.uint32());
  return { field, piece: readPiece(value, field === manifestField ? { manifest: 2 } : { bytes: 3 }) };
}

/** A piece whose bytes are a view of the received chunk: the generated decoder copies them. */
function readPiece(
  encoded: Buffer,
  fields: { readonly manifest?: number; readonly bytes?: number },
): ReadPiece & { readonly transfer: number } {
  const reader = new BinaryReader(encoded);
  const piece = { transfer: 0, manifest: nothing as Uint8Array, bytes: nothing as Uint8Array };
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (field === fields.manifest) piece.manifest = reader.bytes();
    else if (field === fields.bytes) piece.bytes = reader.bytes();
    else if (field === 1 && type === WireType.Varint) piece.transfer = reader.uint32();
    else reader.skip(type);
  }
  return piece;
}
