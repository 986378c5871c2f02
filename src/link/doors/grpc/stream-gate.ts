/**
 * Only gRPC calls to methods of ours reach grpc-js, which would take GET for POST, `application/grpcfoo`
 * for gRPC, repeat a stranger's path in its answer, and unpack 2,500 compressed messages out of 60 kB at once. Nothing here
 * compresses, so a compressed message is refused too, announced or not.
 *
 * The one file that uses what grpc-js keeps to itself on the serving side. Its version is pinned exactly, and its
 * functions throw where grpc-js is not built as they expect.
 */
import {
  constants,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import { status as Status, type Server, type ServerInterceptor } from '@grpc/grpc-js';

type ServerCall = Parameters<ServerInterceptor>[1];
type StreamListener = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, ...rest: unknown[]) => void;
/** The headers that end a stream at once. */
type Answer = Readonly<Record<string, string | number>>;

export interface StreamGateOptions {
  readonly isMethod: (path: string) => boolean;
  readonly onRefused: (stream: ServerHttp2Stream) => void;
}

/** Stands before every stream of the server; once its injector is there and before it has connections. */
export function gateStreams(server: Server, { isMethod, onRefused }: StreamGateOptions): void {
  for (const http2Server of http2ServersOf(server)) {
    const listeners = http2Server.listeners('stream') as StreamListener[];
    const [forward] = listeners;
    if (!forward || listeners.length !== 1) throw new Error('grpc-js does not take streams as it used to');
    http2Server.removeAllListeners('stream');
    http2Server.on(
      'stream',
      (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, ...rest: unknown[]) => {
        const answer = answerTo(headers, isMethod);
        if (!answer) {
          forward(stream, headers, ...rest);
          return;
        }
        onRefused(stream);
        stream.on('error', () => undefined);
        // A stream can be reset before it is seen here.
        if (!stream.closed && !stream.destroyed) stream.respond(answer, { endStream: true });
      },
    );
  }
}

/**
 * Hears of every HTTP/2 session, and ends each after the read that it is in, never within. Node.js may end one from inside
 * its own parser, which that does not always outlive: a stranger could end the process.
 */
export function watchSessions(
  server: Server,
  onSession: (session: ServerHttp2Session) => void = () => undefined,
): void {
  for (const http2Server of http2ServersOf(server)) {
    http2Server.on('session', (session: ServerHttp2Session) => {
      const destroy = session.destroy.bind(session);
      session.destroy = (...reason) => void setImmediate(() => destroy(...reason));
      onSession(session);
    });
  }
}

/** The HTTP/2 stream of a call. */
export function streamOf(call: ServerCall): ServerHttp2Stream {
  const { stream } = call as ServerCall & { stream?: ServerHttp2Stream };
  if (typeof stream?.writableLength !== 'number' || typeof stream.close !== 'function')
    throw new Error('grpc-js does not keep the stream of a call as it used to');
  return stream;
}

/**
 * Hears of messages that grpc-js would take or answer in its own words: with any flag set (there is no compression
 * here) or longer than the limit. Nothing of the chunk they came in is acted on.
 */
export function watchMessages(call: ServerCall, onInvalid: (why: string) => void): void {
  const { decoder } = call as ServerCall & { decoder?: { write?: (data: Buffer) => Buffer[] } };
  const write = decoder?.write?.bind(decoder);
  if (!decoder || !write) throw new Error('grpc-js does not decode messages as it used to');
  decoder.write = data => {
    const messages = writeOr(write, data);
    if (messages?.every(message => message[0] === 0)) return messages;
    onInvalid(messages ? 'a compressed message, and nothing is compressed here' : 'a message is too long');
    return [];
  };
}

/** undefined when a message is longer than the limit. */
function writeOr(write: (data: Buffer) => Buffer[], data: Buffer): Buffer[] | undefined {
  try {
    return write(data);
  } catch {
    return undefined;
  }
}

/** The answer to a stream that is not a call to a method of ours; undefined lets it through. */
function answerTo(headers: IncomingHttpHeaders, isMethod: (path: string) => boolean): Answer | undefined {
  if (headers[':method'] !== 'POST')
    return { ':status': constants.HTTP_STATUS_METHOD_NOT_ALLOWED, allow: 'POST' };
  const type = headers['content-type'];
  if (type !== 'application/grpc' && type !== 'application/grpc+proto') {
    return { ':status': constants.HTTP_STATUS_UNSUPPORTED_MEDIA_TYPE };
  }
  if (!isMethod(headers[':path'] ?? '')) return unimplemented('there is no such method here');
  if ((headers['grpc-encoding'] ?? 'identity') === 'identity') return undefined;
  return { ...unimplemented('nothing is compressed here'), 'grpc-accept-encoding': 'identity' };
}

function unimplemented(message: string): Answer {
  return {
    ':status': constants.HTTP_STATUS_OK,
    'content-type': 'application/grpc',
    'grpc-status': Status.UNIMPLEMENTED,
    'grpc-message': message,
  };
}

function http2ServersOf(server: Server): Iterable<Http2Server> {
  const { http2Servers } = server as unknown as { http2Servers?: Map<Http2Server, unknown> };
  if (!(http2Servers instanceof Map) || http2Servers.size === 0)
    throw new Error('grpc-js does not keep its HTTP/2 servers as it used to');
  return http2Servers.keys();
}
