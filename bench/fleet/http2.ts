/**
 * gRPC calls over a connection of an agent's own, with just enough HTTP/2 (RFC 9113) for that: no header is compressed by
 * us, none is read of the answer. A full HTTP/2 stack in the fleet would cost as much CPU as the server that is
 * measured, and on a small machine the two share it.
 */
import type { TLSSocket } from 'node:tls';

export interface GrpcStream {
  /** One message. */
  write(message: Uint8Array): void;
}

export interface GrpcListener {
  /** The bytes are good until it returns. */
  message(bytes: Buffer): void;
  /** The server ended the call; the connection may go on. */
  ended(): void;
}

export interface GrpcCall {
  readonly path: string;
  /** The first message. */
  readonly first: Uint8Array;
  /** It is the only one, too. */
  readonly isWhole?: boolean;
}

export interface GrpcConnection {
  /** Opens a call with its first message, all in one write. */
  open(call: GrpcCall, listener: GrpcListener): GrpcStream;
}

const frameType = {
  data: 0,
  headers: 1,
  reset: 3,
  settings: 4,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
} as const;
const flag = { end: 0x1, ack: 0x1, endHeaders: 0x4 } as const;
const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
/** Received bytes are returned to the server's window at this size: half of the window, as Node.js does it. */
const windowStepBytes = 32 * 1024;

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

const connectionOpening = Buffer.concat([preface, frame(frameType.settings, 0, 0, Buffer.alloc(0))]);
const headersOf = new Map<string, Buffer>();

function openingOf(path: string, stream: number): Buffer {
  let headers = headersOf.get(path);
  if (!headers) headersOf.set(path, (headers = requestHeaders(path)));
  return frame(frameType.headers, flag.endHeaders, stream, headers);
}

/** A call on a connection that has no other. */
export function openGrpcStream(
  socket: TLSSocket,
  path: string,
  first: Uint8Array,
  listener: GrpcListener,
): GrpcStream {
  return openGrpcConnection(socket).open({ path, first }, listener);
}

interface OpenFrame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  /** Bytes of its payload that have not come. */
  left: number;
  readonly parts: Buffer[];
}

interface OpenCall {
  readonly listener: GrpcListener;
  readonly read: (payload: Buffer) => void;
  /** Not given back yet, bytes. */
  taken: number;
}

/** Speaks HTTP/2 on a connected socket from the first call on. */
export function openGrpcConnection(socket: TLSSocket): GrpcConnection {
  const calls = new Map<number, OpenCall>();
  let lastStream = -1;
  /** The received part of the head of the next frame. */
  let head: Buffer = Buffer.alloc(0);
  let current: OpenFrame | undefined;
  let taken = 0;

  function readBytes(bytes: Buffer): void {
    let rest = bytes;
    while (rest.length > 0) {
      if (current) rest = readPayload(current, rest);
      else {
        head = head.length === 0 ? rest : Buffer.concat([head, rest]);
        if (head.length < 9) return;
        rest = head.subarray(9);
        const [type = 0, flags = 0] = head.subarray(3, 5);
        current = { type, flags, stream: head.readUInt32BE(5), left: head.readUIntBE(0, 3), parts: [] };
        head = Buffer.alloc(0);
        if (current.left === 0) finish(current);
      }
    }
  }

  /** Gives what follows the frame. Data is handed on as it comes; of other frames there is never much. */
  function readPayload(open: OpenFrame, bytes: Buffer): Buffer {
    const part = bytes.subarray(0, open.left);
    open.left -= part.length;
    if (open.type === frameType.data) readData(open.stream, part);
    else open.parts.push(part);
    if (open.left === 0) finish(open);
    return bytes.subarray(part.length);
  }

  function finish({ type, flags, stream, parts }: OpenFrame): void {
    current = undefined;
    if (type === frameType.settings && !(flags & flag.ack)) answer(frameType.settings, Buffer.alloc(0));
    else if (type === frameType.ping && !(flags & flag.ack)) answer(frameType.ping, Buffer.concat(parts));
    const isLast = (type === frameType.headers || type === frameType.data) && flags & flag.end;
    if (isLast || type === frameType.reset) end(stream);
    if (type === frameType.goAway) for (const each of [...calls.keys()]) end(each);
  }

  function answer(type: number, payload: Uint8Array): void {
    if (socket.writable) socket.write(frame(type, flag.ack, 0, payload));
  }

  function readData(stream: number, payload: Buffer): void {
    taken = giveBack(0, taken + payload.length);
    const call = calls.get(stream);
    if (!call) return;
    call.taken = giveBack(stream, call.taken + payload.length);
    call.read(payload);
  }

  /** Returns the bytes that are not yet given back to the window. */
  function giveBack(stream: number, bytes: number): number {
    if (bytes < windowStepBytes || !socket.writable) return bytes;
    const increment = Buffer.alloc(4);
    increment.writeUInt32BE(bytes);
    socket.write(frame(frameType.windowUpdate, 0, stream, increment));
    return 0;
  }

  function end(stream: number): void {
    const call = calls.get(stream);
    calls.delete(stream);
    call?.listener.ended();
  }

  socket.on('data', readBytes);
  return {
    open({ path, first, isWhole = false }, listener) {
      const isFirst = lastStream < 0;
      const stream = (lastStream += 2);
      calls.set(stream, { listener, read: createMessageReader(listener), taken: 0 });
      if (socket.writable)
        socket.write(
          Buffer.concat([
            ...(isFirst ? [connectionOpening] : []),
            openingOf(path, stream),
            messageFrame(stream, first, isWhole),
          ]),
        );
      return {
        write(message) {
          if (socket.writable) socket.write(messageFrame(stream, message, false));
        },
      };
    },
  };
}

/** A gRPC message: one octet of flags, four of length, the bytes. Parts of one are put together once, when it is there. */
function createMessageReader(listener: GrpcListener): (payload: Buffer) => void {
  let parts: Buffer[] = [];
  let length = 0;
  return payload => {
    parts.push(payload);
    length += payload.length;
    while (length >= 5) {
      let [head = payload] = parts;
      if (head.length < 5) parts = [(head = Buffer.concat(parts))];
      const end = 5 + head.readUInt32BE(1);
      if (length < end) return;
      const all = parts.length === 1 ? head : Buffer.concat(parts);
      parts = all.length > end ? [all.subarray(end)] : [];
      length -= end;
      listener.message(all.subarray(5, end));
    }
  };
}

function messageFrame(stream: number, message: Uint8Array, isLast: boolean): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return frame(frameType.data, isLast ? flag.end : 0, stream, Buffer.concat([head, message]));
}
