/**
 * One small document over HTTPS, from the configured URL only: redirects are not followed, so that an answer cannot
 * send us to an internal address; time and size have limits.
 */
import type { IncomingMessage } from 'node:http';
import { get, type RequestOptions } from 'node:https';
import type { ConnectionOptions } from 'node:tls';
import type { Clock } from '../base/clock.js';
import { trustRoots } from '../identity/server-trust.js';

export interface FetchOptions {
  readonly url: URL;
  /** PEM; the system's own roots when undefined. */
  readonly rootCertificates?: string | Buffer | undefined;
  /** From the first packet to the last, ms. */
  readonly timeoutMs: number;
  readonly maxBytes: number;
  readonly clock: Clock;
}

/** Returns the body of a 200; any other response rejects with an Error. */
export function fetchDocument({
  url,
  rootCertificates,
  timeoutMs,
  maxBytes,
  clock,
}: FetchOptions): Promise<Buffer> {
  const options: RequestOptions & Pick<ConnectionOptions, 'ALPNProtocols'> = {
    // A connection of its own: there is one in several minutes.
    agent: false,
    ALPNProtocols: ['http/1.1'],
    headers: { accept: 'application/json' },
    ...(rootCertificates !== undefined && trustRoots(rootCertificates)),
  };
  return new Promise((resolve, reject) => {
    const request = get(url, options, response => {
      readBody(response, maxBytes).then(resolve, (error: unknown) => {
        reject(error instanceof Error ? error : new Error('no body', { cause: error }));
        request.destroy();
      });
    });
    const timer = clock.after(timeoutMs, () =>
      request.destroy(new Error(`no answer within ${timeoutMs} ms`)),
    );
    request.on('error', reject);
    request.on('close', () => timer.cancel());
  });
}

async function readBody(response: IncomingMessage, maxBytes: number): Promise<Buffer> {
  if (response.statusCode !== 200) throw new Error(`expected status 200, found ${response.statusCode ?? 0}`);
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of response as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > maxBytes) throw new Error(`more than ${maxBytes} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts);
}
