/**
 * HTTP/1.1 on the control port, on sockets that the listener owns. Every route states its access in the table of rules;
 * the doorkeeper lets a request in before anything of its body is read (rest-call.ts). The server never listens by itself,
 * so it must be told once that it does: otherwise Node.js does not enforce its own timeouts.
 */
import { randomBytes } from 'node:crypto';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { Duplex, Readable } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import fastify, {
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  type FastifySchema,
} from 'fastify';
import { RollcallError, toRollcallError } from '../../../base/errors.js';
import type { Log } from '../../../base/log.js';
import type { Origin, Principal } from '../../access/principal.js';
import { routeRules, type RouteName } from '../access-table.js';
import { logFault, publicError } from '../public-error.js';
import type { Connection } from '../tls/connection.js';
import { sendProblem } from './problem.js';
import { RestCall, type RestCallOptions } from './rest-call.js';
import { compileSchema } from './schema-check.js';
import type { Schema } from './schemas.js';
import { parseStrictJson } from '../../../tokens/strict-json.js';

/** What a route gets: what was sent, and who sent it. */
export interface Exchange {
  readonly body: unknown;
  readonly parameters: Readonly<Record<string, string>>;
  readonly query: Readonly<Record<string, string>>;
  readonly headers: IncomingHttpHeaders;
  /** Undefined where nobody has to say who they are. */
  readonly principal: Principal | undefined;
  readonly origin: Origin;
  /** DER of the certificate the connection came with. */
  readonly certificate: Uint8Array | undefined;
  /** Anything but 200 and JSON. */
  readonly reply: FastifyReply;
  /** For an answer that lasts: it is cut once the right to it is gone. */
  readonly hold: (answer: Readable) => Readable;
}

export interface Route {
  /** What it is for, in Markdown: for docs/reference/rest.md. */
  readonly does: string;
  readonly schema?: FastifySchema;
  /** Gives the body of the answer. */
  readonly answer: (exchange: Exchange) => unknown;
  /** Says an error in another form than a problem document. */
  readonly sendError?: (reply: FastifyReply, error: RollcallError) => void;
}

export type Routes = Readonly<Record<RouteName, Route>>;

export interface RestDoor {
  serve(socket: TLSSocket, connection: Connection): void;
  close(): Promise<void>;
}

export interface RestDoorOptions extends RestCallOptions {
  readonly routes: Routes;
  readonly log: Log;
}

export const maxBodyBytes = 64 * 1024;
/** From the last answer on a connection to its end, whatever the peer still sends, ms. */
const lingerMs = 500;

export async function openRestDoor(options: RestDoorOptions): Promise<RestDoor> {
  const { routes, doorkeeper, log } = options;
  const connections = new WeakMap<object, Connection>();
  const calls = new WeakMap<FastifyRequest, RestCall>();
  /** A peer that is cut off while it still sends may lose the answer that came before: so it is not listened to, but waited for. */
  const ending = new WeakSet<Duplex>();
  function endSoftly(socket: Duplex, lastWords?: string): void {
    if (ending.has(socket) || socket.destroyed) return;
    ending.add(socket);
    socket.end(lastWords);
    options.clock.after(lingerMs, () => socket.destroy());
  }
  const server = createServer({
    // A little before the listener's deadline for idle connections: a peer is told, not cut off.
    headersTimeout: 4_000,
    requestTimeout: 10_000,
    keepAliveTimeout: 4_000,
    connectionsCheckingInterval: 1_000,
    maxHeaderSize: 16_384,
  });
  server.maxRequestsPerSocket = 1_000;
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
      sendProblem(reply.headers(headersFor(request)).header('connection', 'close'), nothingHere(), log);
    },
    // Typed for the compiler it would bring along.
    schemaController: {
      compilersFactory: { buildValidator: (() => checkOf) as never, buildSerializer: () => () => asJson },
    },
    serverFactory(handler) {
      server.on('request', handler);
      // Otherwise Node.js asks for the body by itself.
      server.on('checkContinue', (request, response) => void server.emit('request', request, response));
      return server;
    },
  });
  readBodies(app);

  app.addHook('onRequest', (request, reply, done) => {
    void reply.headers(headersFor(request));
    const connection = connections.get(request.socket);
    if (connection) calls.set(request, new RestCall(options, connection, request, reply));
    done(connection ? undefined : new RollcallError('INTERNAL', 'the connection is not known'));
  });
  app.addHook('preSerialization', (request, _, payload, done) => {
    try {
      calls.get(request)?.requireReader();
      done(null, payload);
    } catch (error) {
      done(toRollcallError(error));
    }
  });
  app.addHook('onSend', (request, reply, _, done) => {
    // Anyone who has more to say than it took to answer is cut off, not listened to.
    if (!request.raw.complete) void reply.header('connection', 'close');
    done();
  });
  app.setErrorHandler((thrown, _, reply) => sendProblem(reply, errorOf(thrown), log));
  const methodsAt = methodsByPath(Object.keys(routes));
  app.setNotFoundHandler(({ url }, reply) => {
    const methods = methodsAt(url.split('?', 1)[0] ?? '').join(', ');
    if (methods === '') sendProblem(reply, nothingHere(), log);
    else sendProblem(reply.header('allow', methods), wrongMethod(methods), log, 405);
  });

  for (const [name, route] of Object.entries(routes) as [RouteName, Route][]) {
    const [method = '', url = ''] = name.split(' ');
    app.route({
      method,
      url,
      schema: route.schema ?? {},
      errorHandler(thrown, request, reply) {
        const error = errorOf(thrown);
        doorkeeper.auditRefusal(calls.get(request)?.principal, error);
        if (route.sendError) {
          logFault(log, error, 'a request');
          route.sendError(reply, publicError(error));
        } else sendProblem(reply, error, log);
      },
      onRequest: request => callOf(request).admit(routeRules[name]),
      // The body may have been held back: what counts is what its sender may do now.
      async preHandler(request) {
        const call = callOf(request);
        if (request.body !== undefined && call.principal) await call.admit(routeRules[name], 'again');
      },
      async handler(request, reply) {
        const call = callOf(request);
        const { principal, origin, certificate } = call;
        return await route.answer({
          body: request.body,
          parameters: request.params as Record<string, string>,
          query: request.query as Record<string, string>,
          headers: request.headers,
          ...{ principal, origin, certificate, reply },
          hold: answer => call.hold(answer),
        });
      },
    });
  }
  await app.ready();
  server.emit('listening');
  function callOf(request: FastifyRequest): RestCall {
    const call = calls.get(request);
    if (call) return call;
    throw new RollcallError('INTERNAL', 'the request did not pass the door');
  }

  return {
    serve(socket, connection) {
      connections.set(socket, connection);
      // By which Node.js ends a connection after its last answer.
      socket.destroySoon = () => endSoftly(socket);
      server.emit('connection', socket);
    },
    async close() {
      server.closeAllConnections();
      await app.close().catch(() => undefined);
    },
  };
}

/** Of every answer. */
function headersFor({ id }: FastifyRequest): Record<string, string> {
  return { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff', 'x-request-id': id };
}

/** To what is no HTTP, or did not come in time. */
function answerTo({ code }: { readonly code?: string }): string {
  const statuses: Readonly<Record<string, string>> = {
    HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
    HPE_CHUNK_EXTENSIONS_OVERFLOW: '413 Payload Too Large',
    ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
  };
  return `HTTP/1.1 ${statuses[code ?? ''] ?? '400 Bad Request'}\r\nConnection: close\r\n\r\n`;
}

function nothingHere(): RollcallError {
  return new RollcallError('NOT_FOUND', 'there is nothing here', { hint: 'see /healthz, /auth and /v1' });
}

function wrongMethod(methods: string): RollcallError {
  return new RollcallError('REQUEST_INVALID', `this takes ${methods} only`);
}

/** What a path is there for, from the names of the routes. */
function methodsByPath(names: readonly string[]): (path: string) => string[] {
  const routes = names.map(name => {
    const [method = '', pattern = ''] = name.split(' ');
    const source = pattern.replaceAll('.', '\\.').replaceAll(/:\w+/g, '[^/]+');
    return { methods: method === 'GET' ? ['GET', 'HEAD'] : [method], path: new RegExp(`^${source}$`) };
  });
  return asked => routes.filter(({ path }) => path.test(asked)).flatMap(({ methods }) => methods);
}

/** As fastify wants it: a check gives true, or the error. */
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
function errorOf(thrown: unknown): RollcallError {
  const { statusCode, message, validation } = thrown as {
    statusCode?: number;
    message?: string;
    validation?: unknown;
  };
  if (thrown instanceof RollcallError || statusCode === undefined || statusCode >= 500)
    return toRollcallError(thrown);
  const what =
    validation === undefined
      ? (message ?? 'the request is not valid')
      : `the request is not valid: ${message}`;
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
    throw new RollcallError('REQUEST_INVALID', 'the body is not JSON, or says something twice');
  }
}

function parseForm(body: Buffer): unknown {
  const fields = [...new URLSearchParams(body.toString('utf8'))];
  const form = Object.fromEntries(fields);
  if (Object.keys(form).length === fields.length) return form;
  throw new RollcallError('REQUEST_INVALID', 'a field is there twice');
}
