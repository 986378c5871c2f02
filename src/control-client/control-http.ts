/** Asks the link over HTTP: TLS 1.3, verified against the given roots and the host that was named. */
import type { IncomingMessage } from 'node:http';
import { request, type RequestOptions } from 'node:https';
import { createInterface } from 'node:readline';
import { connect, type ConnectionOptions } from 'node:tls';
import { openTunnel, type TunnelRequest } from '../base/tunnel.js';
import { errorCodes, RollcallError, systemErrorCode } from '../base/errors.js';
import { trustServer } from '../identity/server-trust.js';
import { diagnose, StatedByLink } from './diagnosis.js';
import type { HttpTarget } from './http-target.js';
import { withToken, type TokenSource } from './tokens.js';
import { tunnelTo } from './tunnel.js';

export interface HttpQuestion {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly token?: string | undefined;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Sent as a form. */
  readonly form?: Readonly<Record<string, string | undefined>>;
  /** Gives up after so long without a sign, ms. */
  readonly withinMs?: number;
}

/** Asks with a token, and gives the JSON of the answer. */
export type Ask = <T>(method: HttpQuestion['method'], path: string, body?: unknown) => Promise<T>;

interface Received {
  readonly status: number;
  readonly body: Buffer;
}

const answerWithinMs = 30_000;
const maxAnswerBytes = 64 * 1024 * 1024;

export function createAsk(target: HttpTarget, tokens: TokenSource): Ask {
  return (method, path, body) => withToken(tokens, token => askHttp(target, { method, path, token, body }));
}

/** Gives the answer's JSON, or throws what the link stated or why it could not be asked. */
export async function askHttp<T>(target: HttpTarget, question: HttpQuestion): Promise<T> {
  const { status, body } = await exchange(target, question);
  const text = body.toString('utf8');
  const said = parse(text);
  if (status >= 200 && status < 300) return (said ?? {}) as T;
  throw statedBy(said, status);
}

/** The lines of an answer as they come, however long it is; given when the answer has begun. */
export async function openLines(target: HttpTarget, question: HttpQuestion): Promise<AsyncIterable<string>> {
  const response = await reached(target, begin(target, question));
  if (response.statusCode !== 200) {
    const { status, body } = await reached(target, collect(response));
    throw statedBy(parse(body.toString('utf8')), status);
  }
  // The silence of a link that was read from slowly is the reader's own.
  response.socket.setTimeout(0);
  return linesOf(target, question, response);
}

/** Read from the moment somebody wants the first: before that lines would be lost. */
async function* linesOf(
  target: HttpTarget,
  question: HttpQuestion,
  input: IncomingMessage,
): AsyncGenerator<string> {
  try {
    yield* createInterface({ input, crlfDelay: Infinity });
  } catch (error) {
    throw (await findRefusal(target, question)) ?? (await explain(target, error));
  }
}

/** HTTP has no words for why an answer was cut: what the link says to the same question now is why. */
async function findRefusal(target: HttpTarget, question: HttpQuestion): Promise<RollcallError | undefined> {
  try {
    const response = await begin(target, question);
    if (response.statusCode === 200) {
      response.destroy();
      return undefined;
    }
    const { status, body } = await collect(response);
    return statedBy(parse(body.toString('utf8')), status);
  } catch {
    return undefined;
  }
}

function exchange(target: HttpTarget, question: HttpQuestion): Promise<Received> {
  return reached(target, begin(target, question).then(collect));
}

/** Finds out the cause of a failed connection by asking once more. */
async function reached<T>(target: HttpTarget, asking: Promise<T>): Promise<T> {
  try {
    return await asking;
  } catch (error) {
    throw await explain(target, error);
  }
}

async function explain(target: HttpTarget, error: unknown): Promise<RollcallError> {
  if (error instanceof RollcallError) return error;
  return diagnose(target, systemErrorCode(error) ?? 'the connection failed');
}

/** Sends the question; resolves when the answer begins. */
function begin(
  target: HttpTarget,
  { method, path, token, body, form, withinMs = answerWithinMs }: HttpQuestion,
): Promise<IncomingMessage> {
  const { address } = target;
  const tls = trustServer(address.host, target.roots);
  const tunnel = tunnelTo(target, withinMs);
  const content = contentOf(body, form);
  return new Promise((resolve, reject) => {
    const asked = request(
      {
        host: address.host,
        port: address.port,
        path,
        method,
        ...tls,
        timeout: withinMs,
        ...(tunnel ? { createConnection: connectOver(tunnel, tls, withinMs) } : { agent: false }),
        headers: {
          ...(token !== undefined && { authorization: `Bearer ${token}` }),
          ...(content && { 'content-type': content.type, 'content-length': content.bytes.length }),
        },
      },
      resolve,
    );
    asked.on('timeout', () => asked.destroy(new Error('no answer in time')));
    asked.on('error', reject);
    asked.end(content?.bytes);
  });
}

/** For a request without an agent: that would see to the time limit itself. */
function connectOver(
  tunnel: TunnelRequest,
  tls: ConnectionOptions,
  withinMs: number,
): NonNullable<RequestOptions['createConnection']> {
  return (_, done) => {
    openTunnel(tunnel).then(
      socket => done(null, connect({ ...tls, socket }).setTimeout(withinMs)),
      // Typed as if there were a socket then as well.
      (error: unknown) => (done as (error: Error) => void)(error as Error),
    );
    return undefined;
  };
}

async function collect(response: IncomingMessage): Promise<Received> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > maxAnswerBytes) throw new Error('the answer is too long');
    chunks.push(chunk);
  }
  return { status: response.statusCode ?? 0, body: Buffer.concat(chunks) };
}

function contentOf(
  body: unknown,
  form: HttpQuestion['form'],
): { readonly type: string; readonly bytes: Buffer } | undefined {
  if (form) {
    const fields = Object.entries(form).filter((field): field is [string, string] => field[1] !== undefined);
    return {
      type: 'application/x-www-form-urlencoded',
      bytes: Buffer.from(new URLSearchParams(fields).toString()),
    };
  }
  return body === undefined
    ? undefined
    : { type: 'application/json', bytes: Buffer.from(JSON.stringify(body)) };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** A problem document (RFC 9457) or an OAuth error (RFC 6749 §5.2): both carry the code. */
function statedBy(said: unknown, status: number): RollcallError {
  const { code, title, detail, error_description: described, hint } = (said ?? {}) as Record<string, unknown>;
  const known = errorCodes.find(each => each === code);
  const message = [title, described].find((each): each is string => typeof each === 'string');
  const advice = [detail, hint].find((each): each is string => typeof each === 'string');
  if (known && message !== undefined)
    return new StatedByLink(new RollcallError(known, message, { hint: advice }));
  return new RollcallError('LINK_UNREACHABLE', `what answers there is not a link of ours (HTTP ${status})`, {
    hint: 'nodes use 9092 and operators 9093 unless the link was told otherwise',
  });
}
