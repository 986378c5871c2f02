/**
 * HTTP/1.1 on the control port, on sockets that the listener owns: /healthz (the process answers), /readyz (the store
 * answers) and, with the token, /metrics. The server never listens by itself, so it must be told once that it does:
 * otherwise Node.js does not enforce its own timeouts.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { toRollcallError } from '../../../base/errors.js';
import { statusTable } from '../../../protocol/status.js';

export interface HealthDoorOptions {
  /** Rejects when the link cannot serve. */
  readonly ready: () => Promise<void>;
  readonly metrics: () => Promise<{ readonly type: string; readonly body: string }>;
  /** Throws TOKEN_REFUSED. */
  readonly checkToken: (authorization: string | undefined, remoteAddress: string) => void;
}

export interface HealthDoor {
  serve(socket: TLSSocket): void;
  close(): void;
}

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

type Route = (request: IncomingMessage) => Promise<Answer>;

export function createHealthDoor(options: HealthDoorOptions): HealthDoor {
  const routes: Readonly<Record<string, Route>> = {
    '/healthz': () => Promise.resolve(plain(200, 'ok\n')),
    '/readyz': async () => {
      await options.ready();
      return plain(200, 'ready\n');
    },
    '/metrics': async request => {
      options.checkToken(request.headers.authorization, request.socket.remoteAddress ?? 'unknown');
      const { type, body } = await options.metrics();
      return { status: 200, type, body };
    },
  };

  const server = createServer(
    {
      headersTimeout: 5_000,
      requestTimeout: 10_000,
      keepAliveTimeout: 5_000,
      connectionsCheckingInterval: 1_000,
      maxHeaderSize: 8_192,
    },
    (request, response) => {
      // No route takes a body: whoever sends one is answered and cut off, not listened to.
      if (hasBody(request)) response.shouldKeepAlive = false;
      request.resume();
      answer(request)
        .catch((error: unknown) => problem(error))
        .then(
          result => send(request, response, result),
          () => response.destroy(),
        );
    },
  );
  server.maxRequestsPerSocket = 1_000;
  // Otherwise Node.js asks for the body by itself.
  server.on('checkContinue', (request, response) => void server.emit('request', request, response));
  server.emit('listening');

  async function answer(request: IncomingMessage): Promise<Answer> {
    const route = routes[(request.url ?? '').split('?', 1)[0] ?? ''];
    if (!route) return plain(404, 'there is nothing here; try /healthz, /readyz or /metrics\n');
    if (request.method !== 'GET' && request.method !== 'HEAD') return plain(405, 'only GET and HEAD\n');
    return route(request);
  }

  return {
    serve: socket => void server.emit('connection', socket),
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}

function plain(status: number, body: string): Answer {
  return { status, type: 'text/plain; charset=utf-8', body };
}

/** An RFC 9457 problem document. */
function problem(thrown: unknown): Answer {
  const error = toRollcallError(thrown);
  const status = statusTable[error.code].http;
  const document = {
    type: 'about:blank',
    status,
    title: error.message,
    code: error.code,
    detail: error.hint,
  };
  return { status, type: 'application/problem+json', body: `${JSON.stringify(document)}\n` };
}

function send(request: IncomingMessage, response: ServerResponse, { status, type, body }: Answer): void {
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...(status === 405 && { allow: 'GET, HEAD' }),
    ...(status === 401 && { 'www-authenticate': 'Bearer' }),
  });
  response.end(request.method === 'HEAD' ? undefined : body);
}
