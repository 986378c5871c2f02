/**
 * What a light agent does with a message: it reads the object, if there is one, and answers at once. When a message was
 * entered and how an object was read is kept until it is asked for.
 */
import { createHash } from 'node:crypto';
import { BinaryReader } from '@bufbuild/protobuf/wire';
import { encodeContent } from '../../src/app/content.js';
import { chunkLengthOf, parseManifest, type Manifest } from '../../src/objects/manifest.js';
import {
  NodeFrame,
  ReadObjectRequest,
  type LinkFrame,
} from '../../src/protocol/generated/rollcall/v1/link.js';
import { now } from '../usage.js';
import type { GrpcConnection, GrpcStream } from './http2.js';
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
const readPath = '/rollcall.v1.Objects/Read';

/** The sender put the moment into the group, in nanoseconds; what has none there only warms up. */
export function handle(deliver: Deliver, connection: GrpcConnection, session: GrpcStream): void {
  const enteredAt = now();
  const { run, message, group, body } = deliver;
  if (/^\d+$/.test(group)) lagMs.push(enteredAt - Number(group) / 1e6);
  const answer = (): void => {
    const content = { body: { $case: 'content' as const, value: answered } };
    const value = { run, message, outcome: { $case: 'body' as const, value: content } };
    session.write(NodeFrame.encode({ frame: { $case: 'reply', value } }).finish());
  };
  if (body?.body?.$case === 'object') readObject(connection, run, body.body.value.digest, enteredAt, answer);
  else answer();
}

/** By the same call as the agent makes. Bytes are hashed, compared chunk by chunk, and let go. */
function readObject(
  connection: GrpcConnection,
  run: bigint,
  digest: Buffer,
  startedAt: number,
  done: () => void,
): void {
  const first = ReadObjectRequest.encode({ run, digest, fromChunk: 0 }).finish();
  let manifest: Manifest | undefined;
  let chunk = 0;
  let leftBytes = 0;
  let hash = createHash('sha256');

  function take(bytes: Uint8Array): void {
    if (!manifest) throw new Error('an object began without its manifest');
    hash.update(bytes);
    leftBytes -= bytes.length;
    if (leftBytes > 0) return;
    if (hash.digest('hex') !== manifest.chunks[chunk]) throw new Error('a chunk is not what its name says');
    chunk += 1;
    hash = createHash('sha256');
    if (chunk < manifest.chunks.length) leftBytes = chunkLengthOf(manifest, chunk);
  }

  const listener = {
    message(encoded: Buffer) {
      const piece = readPiece(encoded);
      if (manifest) take(piece.bytes);
      else {
        manifest = parseManifest(piece.manifest);
        leftBytes = chunkLengthOf(manifest, 0);
      }
    },
    ended() {
      if (!manifest || chunk < manifest.chunks.length) throw new Error('an object broke off');
      readings.push({ startedAt, endedAt: now(), sizeBytes: manifest.sizeBytes });
      done();
    },
  };
  connection.open({ path: readPath, first, isWhole: true }, listener);
}

/** An ObjectPiece whose bytes look into what came: the generated decoder copies them. */
function readPiece(encoded: Buffer): { readonly manifest: Uint8Array; readonly bytes: Uint8Array } {
  const reader = new BinaryReader(encoded);
  const piece: Record<'manifest' | 'bytes', Uint8Array> = { manifest: nothing, bytes: nothing };
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (field === 1) piece.manifest = reader.bytes();
    else if (field === 3) piece.bytes = reader.bytes();
    else reader.skip(type);
  }
  return piece;
}
