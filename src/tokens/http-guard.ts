/**
 * The verifier for the routes of another program: reads `authorization` and sets the claims on the request, or
 * answers 401 or 403 with a problem document (RFC 9457) and `WWW-Authenticate` (RFC 6750 §3). Frameworks are known by
 * their interface alone.
 */
import { RollcallError } from '../base/errors.js';
import { findBearer, getBearer } from './bearer.js';
import type { TokenClaims } from './claims.js';

/** A request of fastify, express or node:http. */
export interface GuardedRequest {
  readonly headers: { readonly authorization?: string | undefined };
  readonly socket?: unknown;
}

export interface GuardOptions {
  /** Accepts a request without `authorization`, which then has no principal. An invalid token is still refused. */
  readonly optional?: boolean;
  /** Checks the authenticated caller, with requirePermission and the like: its error is the answer. */
  readonly require?: (caller: TokenClaims | undefined) => unknown;
}

/** The claims that handlers find on an accepted request. */
export interface WithPrincipal {
  principal: TokenClaims;
}

/** The same where authentication is optional. */
export interface WithOptionalPrincipal {
  principal?: TokenClaims | undefined;
}

/** The members of fastify's reply that are used. */
export interface GuardedReply {
  code(status: number): unknown;
  header(name: string, value: string): unknown;
  send(body: unknown): unknown;
}

/** The members of the response of express and of node:http that are used. */
export interface GuardedResponse {
  statusCode: number;
  setHeader(name: string, value: string): unknown;
  end(body: string): unknown;
}

export type FastifyGuard = (request: GuardedRequest, reply: GuardedReply) => Promise<unknown>;
export type ExpressGuard = (
  request: GuardedRequest,
  response: GuardedResponse,
  next: (error?: unknown) => void,
) => void;

/** Verifies a token that was sent with this certificate (DER), if any. */
export type VerifyBearer = (token: string, certificate: Buffer | undefined) => Promise<TokenClaims>;

export function fastifyGuard(verify: VerifyBearer, options: GuardOptions): FastifyGuard {
  return async (request, reply) => {
    try {
      await admit(request, verify, options);
      return undefined;
    } catch (error) {
      const { status, headers, body } = answerTo(error, request);
      reply.code(status);
      for (const [name, value] of Object.entries(headers)) reply.header(name, value);
      reply.send(body);
      return reply;
    }
  };
}

export function expressGuard(verify: VerifyBearer, options: GuardOptions): ExpressGuard {
  return (request, response, next) => {
    admit(request, verify, options).then(
      () => next(),
      (error: unknown) => {
        const { status, headers, body } = answerTo(error, request);
        response.statusCode = status;
        for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
        response.end(body);
      },
    );
  };
}

async function admit(request: GuardedRequest, verify: VerifyBearer, options: GuardOptions): Promise<void> {
  const { authorization } = request.headers;
  const isAnonymous = options.optional === true && authorization === undefined;
  const caller = isAnonymous
    ? undefined
    : await verify(getBearer(authorization), certificateOf(request.socket));
  (request as GuardedRequest & WithOptionalPrincipal).principal = caller;
  await options.require?.(caller);
}

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

function answerTo(error: unknown, { headers }: GuardedRequest): Answer {
  if (!(error instanceof RollcallError))
    return problem(500, new RollcallError('INTERNAL', 'something went wrong on this side'));
  if (error.code === 'LINK_UNREACHABLE') return problem(503, error, { 'retry-after': '5' });
  if (error.code === 'NOT_ALLOWED') {
    const said = `Bearer error="insufficient_scope", error_description="${error.message}"`;
    return problem(403, error, { 'www-authenticate': said });
  }
  if (error.code !== 'TOKEN_REFUSED') return problem(500, error);
  // RFC 6750 §3.1: a request without a token gets the scheme and no error.
  const challenge =
    findBearer(headers.authorization) === undefined
      ? 'Bearer'
      : `Bearer error="invalid_token", error_description="${error.message}"`;
  return problem(401, error, { 'www-authenticate': challenge });
}

function problem(
  status: number,
  { code, message, hint }: RollcallError,
  headers: Answer['headers'] = {},
): Answer {
  return {
    status,
    headers: { ...headers, 'content-type': 'application/problem+json', 'cache-control': 'no-store' },
    body: JSON.stringify({ type: 'about:blank', status, title: message, code, detail: hint }),
  };
}

/** The certificate of the peer, if any; a thumbprint does not depend on whether it was trusted. */
function certificateOf(socket: unknown): Buffer | undefined {
  const tls = socket as { getPeerCertificate?: () => { raw?: unknown } | null } | null | undefined;
  const raw = tls?.getPeerCertificate?.()?.raw;
  return Buffer.isBuffer(raw) ? raw : undefined;
}
