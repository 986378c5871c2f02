/**
 * HTTP/1.1 on the control port, on sockets that the listener owns. Every route states its access in the table of rules;
 * the doorkeeper accepts a request before anything of its body is read (rest-call.ts).
 */
import type { Server } from 'node:http';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { RollcallError, toRollcallError } from '../../../base/errors.js';
import type { Log } from '../../../base/log.js';
import { routeRules, type RouteName } from '../access-table.js';
import { logFault, publicError } from '../public-error.js';
import type { Connection } from '../tls/connection.js';
import { createHttpApp, createHttpServer, errorOf, headersFor, notFound } from './http-app.js';
import { sendProblem } from './problem.js';
import type { Route, Routes } from './route.js';
import { RestCall, type RestCallOptions } from './rest-call.js';

export interface RestDoorOptions extends RestCallOptions {
  readonly routes: Routes;
  readonly log: Log;
}

/** From the last answer on a connection to its end, whatever the peer still sends, ms. */
const lingerMs = 500;

export class RestDoor {
  readonly #options: RestDoorOptions;
  readonly #server: Server = createHttpServer();
  readonly #app: FastifyInstance;
  readonly #connections = new WeakMap<object, Connection>();
  readonly #calls = new WeakMap<FastifyRequest, RestCall>();
  readonly #ending = new WeakSet<Duplex>();

  private constructor(options: RestDoorOptions) {
    this.#options = options;
    const { log } = options;
    this.#app = createHttpApp({
      server: this.#server,
      endSoftly: (socket, lastWords) => this.#endSoftly(socket, lastWords),
      log,
    });
  }

  static async open(options: RestDoorOptions): Promise<RestDoor> {
    const door = new RestDoor(options);
    door.#addHooks();
    door.#answerUnknownPaths();
    for (const [name, route] of Object.entries(options.routes) as [RouteName, Route][])
      door.#addRoute(name, route);
    await door.#app.ready();
    // The server never listens by itself, and Node.js enforces its timeouts from this event on.
    door.#server.emit('listening');
    return door;
  }

  serve(socket: TLSSocket, connection: Connection): void {
    this.#connections.set(socket, connection);
    // Node.js ends a connection by this method after its last answer.
    socket.destroySoon = () => this.#endSoftly(socket);
    this.#server.emit('connection', socket);
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await this.#app.close().catch(() => undefined);
  }

  /**
   * A peer that is cut off while it still sends may lose the answer that came before. So the socket is ended first, and
   * destroyed a moment later.
   */
  #endSoftly(socket: Duplex, lastWords?: string): void {
    if (this.#ending.has(socket) || socket.destroyed) return;
    this.#ending.add(socket);
    socket.end(lastWords);
    this.#options.clock.after(lingerMs, () => socket.destroy());
  }

  #addHooks(): void {
    this.#app.addHook('onRequest', (request, reply, done) => {
      void reply.headers(headersFor(request));
      const connection = this.#connections.get(request.socket);
      if (connection) this.#calls.set(request, new RestCall(this.#options, connection, request, reply));
      done(connection ? undefined : new RollcallError('INTERNAL', 'the connection is not known'));
    });
    this.#app.addHook('preSerialization', (request, _, payload, done) => {
      try {
        this.#calls.get(request)?.requireReader();
        done(null, payload);
      } catch (error) {
        done(toRollcallError(error));
      }
    });
    this.#app.addHook('onSend', (request, reply, _, done) => {
      // The rest of a body that the answer did not wait for is not read: the connection ends instead.
      if (!request.raw.complete) void reply.header('connection', 'close');
      done();
    });
  }

  #answerUnknownPaths(): void {
    const { routes, log } = this.#options;
    const methodsAt = methodsByPath(Object.keys(routes));
    this.#app.setErrorHandler((thrown, _, reply) => sendProblem(reply, errorOf(thrown), log));
    this.#app.setNotFoundHandler(({ url }, reply) => {
      const methods = methodsAt(url.split('?', 1)[0] ?? '').join(', ');
      if (methods === '') sendProblem(reply, notFound(), log);
      else sendProblem(reply.header('allow', methods), wrongMethod(methods), log, 405);
    });
  }

  #addRoute(name: RouteName, route: Route): void {
    const [method = '', url = ''] = name.split(' ');
    this.#app.route({
      method,
      url,
      schema: route.schema ?? {},
      errorHandler: (thrown, request, reply) => this.#refuse(route, thrown, request, reply),
      onRequest: request => this.#callOf(request).admit(routeRules[name]),
      // The body may have come late: the rights of its sender now are decisive.
      preHandler: async request => {
        const call = this.#callOf(request);
        if (request.body !== undefined && call.principal) await call.admit(routeRules[name], 'again');
      },
      handler: async (request, reply) => {
        const call = this.#callOf(request);
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

  #refuse(route: Route, thrown: unknown, request: FastifyRequest, reply: FastifyReply): void {
    const { doorkeeper, log } = this.#options;
    const error = errorOf(thrown);
    doorkeeper.auditRefusal(this.#calls.get(request)?.principal, error);
    if (route.sendError) {
      logFault(log, error, 'a request');
      route.sendError(reply, publicError(error));
    } else sendProblem(reply, error, log);
  }

  #callOf(request: FastifyRequest): RestCall {
    const call = this.#calls.get(request);
    if (call) return call;
    throw new RollcallError('INTERNAL', 'the request did not pass the door');
  }
}

function wrongMethod(methods: string): RollcallError {
  return new RollcallError('REQUEST_INVALID', `method must be ${methods}`);
}

/** Gives the methods of a path, from the names of the routes. */
function methodsByPath(names: readonly string[]): (path: string) => string[] {
  const routes = names.map(name => {
    const [method = '', pattern = ''] = name.split(' ');
    const source = pattern.replaceAll('.', '\\.').replaceAll(/:\w+/g, '[^/]+');
    return { methods: method === 'GET' ? ['GET', 'HEAD'] : [method], path: new RegExp(`^${source}$`) };
  });
  return asked => routes.filter(({ path }) => path.test(asked)).flatMap(({ methods }) => methods);
}
