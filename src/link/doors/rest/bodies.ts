/** The bodies that are read: JSON and forms; nothing else, and no member or field twice. */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { RollcallError } from '../../../base/errors.js';
import { parseStrictJson } from '../../../tokens/strict-json.js';

export function readBodies(app: FastifyInstance): void {
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
