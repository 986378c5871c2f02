/** An unauthenticated peer, with a TLS connection of its own making and arbitrary bytes to send on it. */
import { once } from 'node:events';
import { connect as connectHttp2, type IncomingHttpHeaders, type OutgoingHttpHeaders } from 'node:http2';
import { connect as connectTcp, createServer, type AddressInfo, type Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { wireProtocol } from '../../src/protocol/limits.js';
import { readFrames, type ReceivedFrame } from './http2-frames.js';

export interface StrangerOptions {
  readonly port: number;
  /** Its address: attackers are not at 127.0.0.1, where the honest are. */
  readonly from: string;
  readonly tls?: ConnectionOptions;
}

export interface Stranger {
  readonly socket: TLSSocket;
  /** Every byte it has received. */
  readonly received: () => Buffer;
  readonly frames: () => ReceivedFrame[];
  /** Resolves when the connection is gone, by either side. */
  readonly closed: Promise<void>;
}

/** A TCP connection that is read from, so that its end is noticed. */
export async function openTcp({ port, from }: StrangerOptions): Promise<Socket> {
  const socket = connectTcp({ host: '127.0.0.1', port, localAddress: from });
  socket.on('error', () => undefined);
  socket.resume();
  await settled(socket, 'connect');
  return socket;
}

/** Resolves when the handshake is done or has failed: then `socket` is destroyed. */
export async function openStranger({ port, from, tls = {} }: StrangerOptions): Promise<Stranger> {
  const raw = connectTcp({ host: '127.0.0.1', port, localAddress: from });
  raw.on('error', () => undefined);
  const socket = connectTls({ socket: raw, rejectUnauthorized: false, ALPNProtocols: ['h2'], ...tls });
  const parts: Buffer[] = [];
  // An alert after the handshake does not end a socket by itself.
  socket.on('error', () => socket.destroy());
  socket.on('data', (part: Buffer) => parts.push(part));
  const received = (): Buffer => Buffer.concat(parts);
  await settled(socket, 'secureConnect');
  return { socket, received, frames: () => readFrames(received()), closed: gone(socket) };
}

/** Resolves when it is closed. */
export async function gone(socket: Socket): Promise<void> {
  if (!socket.closed) await new Promise(resolve => socket.once('close', resolve));
}

/** Resolves with the event or with the end of the socket. */
async function settled(socket: Socket, event: string): Promise<void> {
  await new Promise<void>(resolve => socket.once(event, resolve).once('close', () => resolve()));
}

/** Writes for as long as the other side takes it; resolves when the connection is gone. */
export async function pour(socket: Socket, part: Buffer): Promise<void> {
  const more = (): void => {
    // One part at a time, so that everything else in this process gets a turn.
    if (!socket.destroyed && socket.write(part)) setImmediate(more);
  };
  socket.on('drain', more);
  more();
  await gone(socket);
}

/** Writes a little now and then; resolves when the connection is gone. */
export async function drip(socket: Socket, part: Buffer): Promise<void> {
  const timer = setInterval(() => void socket.write(part), 400);
  await gone(socket);
  clearInterval(timer);
}

export type Answer = Readonly<Record<string, string>>;

/** Asks one thing by a real HTTP/2 client: headers and trailers of the answer, `{}` when there was none. */
export async function ask(
  options: StrangerOptions,
  headers: OutgoingHttpHeaders,
  body?: Buffer,
): Promise<Answer> {
  const { socket } = await openStranger({ ...options });
  const session = connectHttp2('https://localhost', { createConnection: () => socket });
  session.on('error', () => undefined);
  const stream = session.request(
    { ':method': 'POST', 'content-type': 'application/grpc', te: 'trailers', ...headers },
    { endStream: false },
  );
  const found: Record<string, string> = {};
  const note = (fields: IncomingHttpHeaders): void => {
    for (const [name, value] of Object.entries(fields)) found[name] = String(value);
  };
  stream
    .on('error', () => undefined)
    .on('response', note)
    .on('trailers', note)
    .resume();
  if (body) stream.write(body);
  await new Promise(resolve => stream.once('end', resolve).once('close', resolve));
  session.destroy();
  return found;
}

/** The ClientHello of a TLS client with these options, sent to a silent listener. */
export async function clientHello(options: ConnectionOptions = {}): Promise<Buffer> {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  const speaker = connectTls({ port, ALPNProtocols: [wireProtocol], minVersion: 'TLSv1.3', ...options });
  speaker.on('error', () => undefined);
  const [socket] = (await once(listener, 'connection')) as [Socket];
  const [hello] = (await once(socket, 'data')) as [Buffer];
  speaker.destroy();
  socket.destroy();
  listener.close();
  return hello;
}

/** The hello with the contents of some extensions replaced, added, or taken out (RFC 8446 §4.1.2). */
export function withExtensions(hello: Buffer, changes: Readonly<Record<number, Buffer | undefined>>): Buffer {
  // Record 5, handshake 4, version 2, random 32; then session id, cipher suites, compression.
  let at = 43;
  at += 1 + hello.readUInt8(at);
  at += 2 + hello.readUInt16BE(at);
  at += 1 + hello.readUInt8(at);
  const found = new Map<number, Buffer>();
  for (let next = at + 2; next < hello.length;) {
    const length = hello.readUInt16BE(next + 2);
    found.set(hello.readUInt16BE(next), hello.subarray(next + 4, next + 4 + length));
    next += 4 + length;
  }
  for (const [type, content] of Object.entries(changes)) {
    if (content) found.set(Number(type), content);
    else found.delete(Number(type));
  }
  const extensions = [...found].flatMap(([type, content]) => [uint16(type), uint16(content.length), content]);
  const list = Buffer.concat(extensions);
  const body = Buffer.concat([hello.subarray(9, at), uint16(list.length), list]);
  const size = uint16(body.length);
  return Buffer.concat([hello.subarray(0, 3), uint16(body.length + 4), Buffer.of(1, 0), size, body]);
}

function uint16(value: number): Buffer {
  return Buffer.of(value >> 8, value & 0xff);
}

/** Contents of the server_name extension with one name (RFC 6066 §3). */
export function serverName(name: Buffer): Buffer {
  return Buffer.concat([uint16(name.length + 3), Buffer.of(0), uint16(name.length), name]);
}

/** Contents of the ALPN extension (RFC 7301 §3.1). */
export function protocolNames(names: readonly Buffer[]): Buffer {
  const list = Buffer.concat(names.flatMap(name => [Buffer.of(name.length), name]));
  return Buffer.concat([uint16(list.length), list]);
}
