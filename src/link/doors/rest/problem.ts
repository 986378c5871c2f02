/** How an error is said over HTTP: RFC 9457, with the same code as everywhere else. */
import type { FastifyReply } from 'fastify';
import type { RollcallError } from '../../../base/errors.js';
import type { Log } from '../../../base/log.js';
import { statusTable } from '../../../protocol/status.js';
import { logFault, publicError } from '../public-error.js';

/** By the status of its code unless another is given. */
export function sendProblem(reply: FastifyReply, thrown: RollcallError, log: Log, status?: number): void {
  logFault(log, thrown, 'a request');
  const error = publicError(thrown);
  const { http } = statusTable[error.code];
  sendHeaders(reply, error);
  const document = {
    type: 'about:blank',
    status: status ?? http,
    title: error.message,
    code: error.code,
    detail: error.hint,
  };
  void reply
    .code(status ?? http)
    .type('application/problem+json')
    .send(`${JSON.stringify(document)}\n`);
}

/** The headers that an answer of 401 or 429 must have beside its body (RFC 6750 §3, RFC 6585 §4). */
export function sendHeaders(reply: FastifyReply, { code, retryAfterMs }: RollcallError): void {
  if (statusTable[code].http === 401) void reply.header('www-authenticate', 'Bearer');
  if (retryAfterMs !== undefined) void reply.header('retry-after', `${Math.ceil(retryAfterMs / 1000)}`);
}
