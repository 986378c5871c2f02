/** HTTP/2 frames by hand (RFC 9113 §4, RFC 7541 §6.2.2), for what no library would send. */

export const frameType = {
  data: 0,
  headers: 1,
  rstStream: 3,
  settings: 4,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

export const flag = { endStream: 0x1, endHeaders: 0x4, ack: 0x1 } as const;

export const clientPreface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

export function frame(
  type: number,
  flags: number,
  stream: number,
  payload: Buffer = Buffer.alloc(0),
): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

export function settings(entries: readonly (readonly [id: number, value: number])[] = []): Buffer {
  const payload = Buffer.alloc(entries.length * 6);
  entries.forEach(([id, value], position) => {
    payload.writeUInt16BE(id, position * 6);
    payload.writeUInt32BE(value, position * 6 + 2);
  });
  return frame(frameType.settings, 0, 0, payload);
}

export function windowUpdate(stream: number, by: number): Buffer {
  return frame(frameType.windowUpdate, 0, stream, uint32(by));
}

export function resetStream(stream: number, code = 8): Buffer {
  return frame(frameType.rstStream, 0, stream, uint32(code));
}

/** DATA frames of at most the size every peer takes. */
export function dataFrames(stream: number, content: Buffer): Buffer {
  const count = Math.ceil(content.length / 16_384);
  return Buffer.concat(
    Array.from({ length: count }, (_, position) =>
      frame(frameType.data, 0, stream, content.subarray(position * 16_384, (position + 1) * 16_384)),
    ),
  );
}

export type HeaderPairs = readonly (readonly [name: string, value: string | Buffer])[];

/** A header block of literals that touch no table: any bytes may stand in names and values. */
export function headerBlock(pairs: HeaderPairs): Buffer {
  return Buffer.concat(
    pairs.flatMap(([name, value]) => {
      const octets = typeof value === 'string' ? Buffer.from(value, 'latin1') : value;
      return [
        Buffer.of(0),
        integer(name.length),
        Buffer.from(name, 'latin1'),
        integer(octets.length),
        octets,
      ];
    }),
  );
}

export function headers(stream: number, pairs: HeaderPairs, flags: number = flag.endHeaders): Buffer {
  return frame(frameType.headers, flags, stream, headerBlock(pairs));
}

/** The headers of a gRPC call, with some replaced or added. */
export function grpcHeaders(path: string, changes: Readonly<Record<string, string>> = {}): HeaderPairs {
  return Object.entries({
    ':method': 'POST',
    ':scheme': 'https',
    ':authority': 'localhost',
    ':path': path,
    'content-type': 'application/grpc',
    te: 'trailers',
    ...changes,
  });
}

export interface ReceivedFrame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

/** The whole frames in what was received. */
export function readFrames(bytes: Buffer): ReceivedFrame[] {
  const found: ReceivedFrame[] = [];
  let at = 0;
  while (bytes.length - at >= 9) {
    const end = at + 9 + bytes.readUIntBE(at, 3);
    if (end > bytes.length) break;
    found.push({
      type: bytes.readUInt8(at + 3),
      flags: bytes.readUInt8(at + 4),
      stream: bytes.readUInt32BE(at + 5) & 0x7fffffff,
      payload: bytes.subarray(at + 9, end),
    });
    at = end;
  }
  return found;
}

function uint32(value: number): Buffer {
  const octets = Buffer.alloc(4);
  octets.writeUInt32BE(value >>> 0);
  return octets;
}

/** An HPACK integer with a prefix of seven bits (RFC 7541 §5.1), its highest bit clear: no Huffman. */
function integer(value: number): Buffer {
  if (value < 127) return Buffer.of(value);
  const octets = [127];
  let rest = value - 127;
  for (; rest >= 128; rest = Math.floor(rest / 128)) octets.push((rest % 128) + 128);
  octets.push(rest);
  return Buffer.from(octets);
}
