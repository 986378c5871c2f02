/** The HTTP server of the REST door and its fastify: bounds and deadlines, bodies, and errors before any route is known. */
import { randomBytes } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { Duplex } from 'node:stream';
import fastify, { type FastifyInstance, type FastifyRequest } from 'fastify';
import { RollcallError, toRollcallError } from '../../../base/errors.js';
import type { Log } from '../../../base/log.js';
import { parseStrictJson } from '../../../tokens/strict-json.js';
import { sendProblem } from './problem.js';
import { compileSchema } from './schema-check.js';
import type { Schema } from './schemas.js';

export const maxBodyBytes = 64 * 1024;

export interface HttpAppOptions {
  readonly server: Server;
  readonly endSoftly: (socket: Duplex, lastWords: string) => void;
  readonly log: Log;
}

export function createHttpServer(): Server {
  const server = createServer({
    // A little before the listener's deadline for idle connections, so that the peer gets an answer before the end.
    headersTimeout: 4_000,
    requestTimeout: 10_000,
    keepAliveTimeout: 4_000,
    connectionsCheckingInterval: 1_000,
    maxHeaderSize: 16_384,
  });
  server.maxRequestsPerSocket = 1_000;
  return server;
}

export function createHttpApp({ server, endSoftly, log }: HttpAppOptions): FastifyInstance {
  const app = fastify({
    bodyLimit: maxBodyBytes,
    genReqId: () => randomBytes(8).toString('hex'),
    requestIdHeader: false,
    routerOptions: { maxParamLength: 300 },
    exposeHeadRoutes: true,
    return503OnClosing: false,
    clientErrorHandler(error, socket) {
      if (error.code === 'ECONNRESET') socket.destroy();
      else endSoftly(socket, answerTo(error));
    },
    // These run no hooks.
    frameworkErrors(_, request, reply) {
      sendProblem(reply.headers(headersFor(request)).header('connection', 'close'), notFound(), log);
    },
    // fastify types these for the compilers that it would bring along.
    schemaController: {
      compilersFactory: { buildValidator: (() => checkOf) as never, buildSerializer: () => () => asJson },
    },
    serverFactory(handler) {
      server.on('request', handler);
      // Without a listener Node.js asks for the body by itself.
      server.on('checkContinue', (request, response) => void server.emit('request', request, response));
      return server;
    },
  });
  readBodies(app);
  return app;
}

/** Headers of every answer. */
export function headersFor({ id }: FastifyRequest): Record<string, string> {
  return { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff', 'x-request-id': id };
}

/** Answers invalid HTTP, and requests that came too late. */
function answerTo({ code }: { readonly code?: string }): string {
  const statuses: Readonly<Record<string, string>> = {
    HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
    HPE_CHUNK_EXTENSIONS_OVERFLOW: '413 Payload Too Large',
    ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
  };
  return `HTTP/1.1 ${statuses[code ?? ''] ?? '400 Bad Request'}\r\nConnection: close\r\n\r\n`;
}

export function notFound(): RollcallError {
  return new RollcallError('NOT_FOUND', 'no such path', { hint: 'see /healthz, /auth and /v1' });
}

/** A check in the form of fastify: gives true, or the error. */
function checkOf({ schema, httpPart }: { schema: unknown; httpPart?: string }) {
  const check = compileSchema(schema as Schema, httpPart === 'querystring' ? 'the query' : 'the body');
  return (value: unknown): true | { error: Error } => {
    try {
      check(value);
      return true;
    } catch (error) {
      return { error: toRollcallError(error) };
    }
  };
}

function asJson(value: unknown): string {
  return JSON.stringify(value);
}

/** Errors of fastify are the caller's: a body too large, a type unknown, a schema not met. */
export function errorOf(thrown: unknown): RollcallError {
  const { statusCode, message, validation } = thrown as {
    statusCode?: number;
    message?: string;
    validation?: unknown;
  };
  if (thrown instanceof RollcallError || statusCode === undefined || statusCode >= 500)
    return toRollcallError(thrown);
  const what = validation === undefined ? (message ?? 'invalid request') : `invalid request: ${message}`;
  return new RollcallError('REQUEST_INVALID', what.slice(0, 300), { cause: thrown });
}

function readBodies(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  const parsed = (parse: (body: Buffer) => unknown) => (_: FastifyRequest, body: Buffer) =>
    Promise.resolve().then(() => parse(body));
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, parsed(parseJson));
  app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'buffer' }, parsed(parseForm));
}

function parseJson(body: Buffer): unknown {
  try {
    return parseStrictJson(body);
  } catch {
    throw new RollcallError('REQUEST_INVALID', 'the body must be JSON without duplicate keys');
  }
}

function parseForm(body: Buffer): unknown {
  const fields = [...new URLSearchParams(body.toString('utf8'))];
  const form = Object.fromEntries(fields);
  if (Object.keys(form).length === fields.length) return form;
  throw new RollcallError('REQUEST_INVALID', 'duplicate field in the form');
}
