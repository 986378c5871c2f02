/** A route of the REST door, and the request that it answers. */
import type { IncomingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import type { FastifyReply, FastifySchema } from 'fastify';
import { RollcallError } from '../../../base/errors.js';
import type { Origin, Principal } from '../../access/principal.js';
import type { RouteName } from '../access-table.js';

/** A request, its sender, and the means to answer it. */
export interface Exchange {
  readonly body: unknown;
  readonly parameters: Readonly<Record<string, string>>;
  readonly query: Readonly<Record<string, string>>;
  readonly headers: IncomingHttpHeaders;
  /** Undefined where the rule requires nobody to authenticate. */
  readonly principal: Principal | undefined;
  readonly origin: Origin;
  /** DER of the certificate the connection came with. */
  readonly certificate: Uint8Array | undefined;
  /** For every answer but 200 with JSON. */
  readonly reply: FastifyReply;
  /** Ties a lasting answer to the right to it, and cuts it once that is gone. */
  readonly hold: (answer: Readable) => Readable;
}

export interface Route {
  /** Its purpose, in Markdown, for docs/reference/rest.md. */
  readonly does: string;
  readonly schema?: FastifySchema;
  /** Gives the body of the answer. */
  readonly answer: (exchange: Exchange) => unknown;
  /** Sends an error in another form than a problem document. */
  readonly sendError?: (reply: FastifyReply, error: RollcallError) => void;
}

export type Routes = Readonly<Record<RouteName, Route>>;

/** The principal of a route whose rule requires one. */
export function known(principal: Exchange['principal']): Principal {
  if (principal) return principal;
  throw new RollcallError('INTERNAL', 'the request has no principal');
}

/** A number in the query; REQUEST_INVALID for anything else. */
export function readNumber({ query }: Exchange, name: string): number | undefined {
  const said = query[name];
  if (said === undefined) return undefined;
  if (/^\d{1,15}$/.test(said)) return Number(said);
  throw new RollcallError('REQUEST_INVALID', `${name} must be a whole number`);
}
