/** gRPC by hand over a TLS socket of the test, for requests that no client library sends. */
import { connect, type ClientHttp2Session, type IncomingHttpHeaders } from 'node:http2';
import type { TLSSocket } from 'node:tls';
import { NodeFrame } from '../../src/protocol/generated/rollcall/v1/link.js';

export interface RawCall {
  /** The first message of the answer. */
  readonly message: Promise<Buffer>;
  /** How the call ended. */
  readonly status: Promise<{ readonly grpc: string; readonly code: string; readonly text: string }>;
  write(bytes: Buffer): void;
}

export interface RawHttp2 {
  readonly session: ClientHttp2Session;
  call(path: string, body: Buffer, headers?: Record<string, string>): RawCall;
  destroy(): void;
}

export function connectHttp2(socket: TLSSocket): RawHttp2 {
  socket.on('error', () => undefined);
  const session = connect('https://localhost', { createConnection: () => socket });
  session.on('error', () => undefined);
  return {
    session,
    call(path, body, headers = {}) {
      const stream = session.request({
        ':method': 'POST',
        ':path': path,
        'content-type': 'application/grpc',
        te: 'trailers',
        ...headers,
      });
      stream.on('error', () => undefined);
      const message = new Promise<Buffer>(resolve => stream.once('data', resolve));
      const status = new Promise<{ grpc: string; code: string; text: string }>(resolve => {
        const read = (fields: IncomingHttpHeaders): void => {
          const text = (name: string): string => fields[name]?.toString() ?? '';
          if (fields['grpc-status'] === undefined) return;
          resolve({
            grpc: text('grpc-status'),
            code: text('rollcall-code'),
            text: decodeURI(text('grpc-message')),
          });
        };
        stream.on('response', read);
        stream.on('trailers', read);
      });
      stream.write(body);
      return { message, status, write: bytes => void stream.write(bytes) };
    },
    destroy: () => void setImmediate(() => session.destroy()),
  };
}

/** A gRPC message: one octet of flags, four of length, the bytes. */
export function framed(bytes: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

export function readyFrame(): Buffer {
  const value = { protocolVersion: 1, agentVersion: 'raw', nodeClockMs: 0n, runs: [] };
  return framed(NodeFrame.encode({ frame: { $case: 'ready', value } }).finish());
}
