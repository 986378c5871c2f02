/** HTTP/1.1 on a control port, as any client would send it. */
import { Agent, request } from 'node:https';
import type { IncomingHttpHeaders } from 'node:http';
import type { Test } from 'tap';

export interface RestRequest {
  readonly token?: string | undefined;
  readonly json?: unknown;
  readonly form?: Readonly<Record<string, string>>;
  /** The body unchanged, as JSON unless headers state another type. */
  readonly raw?: string | Buffer;
  readonly headers?: Readonly<Record<string, string>>;
  /** The address to come from, 127.0.0.1 by default. */
  readonly from?: string;
  /** A client certificate. */
  readonly certificate?: { readonly cert: string; readonly key: string };
}

export interface RestAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  /** Undefined for what is no JSON. */
  readonly json: unknown;
  /** Members of the JSON that are strings. */
  readonly fields: Readonly<Record<string, string>>;
}

/** `line` is a method and a path. */
export type AskRest = (line: string, request?: RestRequest) => Promise<RestAnswer>;

export function restCalls(t: Pick<Test, 'teardown'>, port: number, ca: string): AskRest {
  const agent = new Agent({ keepAlive: true });
  t.teardown(() => agent.destroy());
  return (line, asked = {}) => {
    const [method = '', path = ''] = line.split(' ');
    const { type, body } = bodyOf(asked);
    const headers = {
      ...(asked.token !== undefined && { authorization: `Bearer ${asked.token}` }),
      ...(body !== undefined && { 'content-type': type, 'content-length': Buffer.byteLength(body) }),
      ...asked.headers,
    };
    const where = { host: '127.0.0.1', port, ca, agent, localAddress: asked.from ?? '127.0.0.1' };
    const ask = (): Promise<RestAnswer> =>
      new Promise((resolve, reject) => {
        const outgoing = request({ ...where, ...asked.certificate, method, path, headers }, response => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk)).on('error', reject);
          response.on('end', () => {
            const text = Buffer.concat(chunks).toString();
            const json = parse(text);
            const fields = (json ?? {}) as Record<string, string>;
            resolve({ status: response.statusCode ?? 0, headers: response.headers, text, json, fields });
          });
        });
        // A connection that was kept may be closed when it is used again: a test moves the clock by hours at once.
        const failed = (error: Error): void =>
          outgoing.reusedSocket ? void ask().then(resolve, reject) : reject(error);
        outgoing.on('error', failed).end(body);
      });
    return ask();
  };
}

function bodyOf({ json, form, raw }: RestRequest): { type: string; body: string | Buffer | undefined } {
  if (form) {
    return { type: 'application/x-www-form-urlencoded', body: new URLSearchParams(form).toString() };
  }
  return { type: 'application/json', body: json === undefined ? raw : JSON.stringify(json) };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
