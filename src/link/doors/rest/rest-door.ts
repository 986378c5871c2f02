/**
 * HTTP/1.1 on the control port, on sockets that the listener owns. Every route states its access in the table of rules;
 * the doorkeeper lets a request in before anything of its body is read. The server never listens by itself, so it must
 * be told once that it does: otherwise Node.js does not enforce its own timeouts.
 */
import { randomBytes } from 'node:crypto';
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import { TLSSocket } from 'node:tls';
import fastify, { type FastifyReply, type FastifyRequest, type FastifySchema } from 'fastify';
import { RollcallError, toRollcallError } from '../../../base/errors.js';
import type { Log } from '../../../base/log.js';
import type { Origin, Principal } from '../../access/principal.js';
import { routeRules, type RouteName } from '../access-table.js';
import type { Doorkeeper } from '../doorkeeper.js';
import { readBodies } from './bodies.js';
import { sendProblem } from './problem.js';
import { compileSchema } from './schema-check.js';
import type { Schema } from './schemas.js';

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
}

export interface Route {
  readonly schema?: FastifySchema;
  /** Gives the body of the answer. */
  readonly answer: (exchange: Exchange) => unknown;
  /** Says an error in another form than a problem document. */
  readonly sendError?: (reply: FastifyReply, error: RollcallError) => void;
}

export type Routes = Readonly<Record<RouteName, Route>>;

export interface RestDoor {
  serve(socket: TLSSocket): void;
  close(): Promise<void>;
}

export interface RestDoorOptions {
  readonly routes: Routes;
  readonly doorkeeper: Doorkeeper;
  readonly log: Log;
}

const largestBodyBytes = 64 * 1024;

export async function openRestDoor({ routes, doorkeeper, log }: RestDoorOptions): Promise<RestDoor> {
  const server = createServer({
    headersTimeout: 5_000,
    requestTimeout: 10_000,
    keepAliveTimeout: 5_000,
    connectionsCheckingInterval: 1_000,
    maxHeaderSize: 16_384,
  });
  server.maxRequestsPerSocket = 1_000;
  const app = fastify({
    bodyLimit: largestBodyBytes,
    genReqId: () => randomBytes(8).toString('hex'),
    requestIdHeader: false,
    routerOptions: { maxParamLength: 300 },
    exposeHeadRoutes: true,
    return503OnClosing: false,
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
    done();
  });
  app.addHook('onSend', (request, reply, _, done) => {
    // Whoever has more to say than it took to answer is cut off, not listened to.
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
    const admitted = new WeakMap<FastifyRequest, Principal | undefined>();
    /** Whoever is not let in is told of by the doorkeeper, and is nobody known from then on. */
    async function admit(request: FastifyRequest, reply: FastifyReply, again: boolean): Promise<void> {
      admitted.delete(request);
      const credentials = {
        authorization: routeRules[name].access === 'open' ? undefined : request.headers.authorization,
        origin: originOf(request, reply),
        certificate: certificateOf(request),
      };
      admitted.set(request, await doorkeeper.admit(routeRules[name], credentials, again));
    }
    app.route({
      method,
      url,
      schema: route.schema ?? {},
      errorHandler(thrown, request, reply) {
        const error = errorOf(thrown);
        doorkeeper.tellRefused(admitted.get(request), error);
        if (route.sendError) route.sendError(reply, error);
        else sendProblem(reply, error, log);
      },
      onRequest: (request, reply) => admit(request, reply, false),
      // The body may have been held back: what counts is what its sender may do now.
      async preHandler(request, reply) {
        if (request.body !== undefined && admitted.get(request)) await admit(request, reply, true);
      },
      handler: async (request, reply) =>
        route.answer({
          body: request.body,
          parameters: request.params as Record<string, string>,
          query: request.query as Record<string, string>,
          headers: request.headers,
          principal: admitted.get(request),
          origin: originOf(request, reply),
          certificate: certificateOf(request),
          reply,
        }),
    });
  }
  await app.ready();
  server.emit('listening');

  return {
    serve: socket => void server.emit('connection', socket),
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

/** Of the socket alone: whatever a header says of where somebody comes from, anybody can say. */
function originOf(request: FastifyRequest, { raw }: FastifyReply): Origin {
  const address = (request.socket.remoteAddress ?? 'unknown').replace(/^::ffff:/, '');
  return {
    address,
    requestId: request.id,
    userAgent: (request.headers['user-agent'] ?? '').slice(0, 200),
    // Made when somebody asks for it: most requests are answered at once.
    get signal() {
      return signalOf(raw);
    },
  };
}

const signals = new WeakMap<ServerResponse, AbortSignal>();

/** Fires when the connection goes before the answer was sent. */
function signalOf(response: ServerResponse): AbortSignal {
  const known = signals.get(response);
  if (known) return known;
  const controller = new AbortController();
  const hangUp = (): void =>
    controller.abort(new RollcallError('LOGIN_REFUSED', 'the caller has hung up before the answer'));
  if (response.destroyed) hangUp();
  else response.once('close', () => response.writableFinished || hangUp());
  signals.set(response, controller.signal);
  return controller.signal;
}

function certificateOf({ socket }: FastifyRequest): Uint8Array | undefined {
  return socket instanceof TLSSocket ? socket.getPeerX509Certificate()?.raw : undefined;
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
