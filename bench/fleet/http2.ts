/**
 * One gRPC call over a connection of its own, with just enough HTTP/2 (RFC 9113) for that: no header is compressed by
 * us, none is read of the answer. A full HTTP/2 stack in the fleet would cost as much CPU as the server that is
 * measured, and on a small machine the two share it.
 */
import type { TLSSocket } from 'node:tls';

export interface GrpcStream {
  /** One message. */
  write(message: Uint8Array): void;
}

export interface GrpcListener {
  message(bytes: Buffer): void;
  /** The server ended the call; the connection may go on. */
  ended(): void;
}

const frameType = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goAway: 7 } as const;
const flag = { end: 0x1, ack: 0x1, endHeaders: 0x4, padded: 0x8 } as const;
const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const streamId = 1;

function frame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** HPACK literals without indexing and without Huffman coding (RFC 7541 §6.2.2). */
function requestHeaders(path: string): Buffer {
  const text = (value: string): Buffer => Buffer.concat([Buffer.of(value.length), Buffer.from(value)]);
  return Buffer.concat([
    Buffer.of(0x83, 0x87), // :method POST, :scheme https
    ...[Buffer.of(0x04), text(path), Buffer.of(0x01), text('localhost')],
    ...[Buffer.of(0x0f, 0x10), text('application/grpc')], // content-type
    ...[Buffer.of(0x00), text('te'), text('trailers')],
  ]);
}

const openings = new Map<string, Buffer>();

function openingOf(path: string): Buffer {
  const known = openings.get(path);
  if (known) return known;
  const opening = Buffer.concat([
    preface,
    frame(frameType.settings, 0, 0, Buffer.alloc(0)),
    frame(frameType.headers, flag.endHeaders, streamId, requestHeaders(path)),
  ]);
  openings.set(path, opening);
  return opening;
}

/** Opens the call with its first message, all in one write. */
export function openGrpcStream(
  socket: TLSSocket,
  path: string,
  first: Uint8Array,
  listener: GrpcListener,
): GrpcStream {
  let unread: Buffer = Buffer.alloc(0);
  let body: Buffer = Buffer.alloc(0);

  function readFrames(bytes: Buffer): void {
    unread = unread.length === 0 ? bytes : Buffer.concat([unread, bytes]);
    while (unread.length >= 9) {
      const end = 9 + unread.readUIntBE(0, 3);
      if (unread.length < end) return;
      const [type = 0, flags = 0] = unread.subarray(3, 5);
      const payload = unread.subarray(9, end);
      unread = unread.subarray(end);
      readFrame(type, flags, payload);
    }
  }

  function readFrame(type: number, flags: number, payload: Buffer): void {
    if (type === frameType.settings && !(flags & flag.ack)) answer(frameType.settings, Buffer.alloc(0));
    else if (type === frameType.ping && !(flags & flag.ack)) answer(frameType.ping, payload);
    else if (type === frameType.data) readMessages(payload);
    const isLast = (type === frameType.headers || type === frameType.data) && flags & flag.end;
    if (isLast || type === frameType.reset || type === frameType.goAway) listener.ended();
  }

  function answer(type: number, payload: Uint8Array): void {
    if (socket.writable) socket.write(frame(type, flag.ack, 0, payload));
  }

  /** A gRPC message: one octet of flags, four of length, the bytes. */
  function readMessages(payload: Buffer): void {
    body = body.length === 0 ? Buffer.from(payload) : Buffer.concat([body, payload]);
    while (body.length >= 5) {
      const end = 5 + body.readUInt32BE(1);
      if (body.length < end) return;
      const message = body.subarray(5, end);
      body = body.subarray(end);
      listener.message(message);
    }
  }

  socket.on('data', readFrames);
  socket.write(Buffer.concat([openingOf(path), messageFrame(first)]));
  return {
    write(message) {
      if (socket.writable) socket.write(messageFrame(message));
    },
  };
}

function messageFrame(message: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return frame(frameType.data, 0, streamId, Buffer.concat([head, message]));
}
