/**
 * A connection through an HTTP proxy (RFC 9110 §9.3.6): asks by CONNECT, and gives the socket once the proxy has agreed.
 * The proxy passes bytes on unchanged, so TLS of the caller and its channel binding work through it.
 * The name of the link is the proxy's to look up.
 */
import { connect, isIP, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import type { Clock } from './clock.js';
import { isRollcallError, RollcallError, systemErrorCode } from './errors.js';
import type { HttpProxy } from './proxy.js';
import { formatAddress, type Address } from './settings.js';
import { unreachable } from './unreachable.js';
import { visibleText } from './text.js';

export interface TunnelRequest {
  readonly proxy: HttpProxy;
  /** The destination. */
  readonly link: Address;
  /** Until the proxy has agreed, ms. */
  readonly timeoutMs: number;
  readonly clock: Clock;
}

/** Of an answer, with all its headers. */
const maxHeadBytes = 16 * 1024;

/** LINK_UNREACHABLE, with a sentence that says whether the proxy or the link could not be reached, and why. */
export function openTunnel(request: TunnelRequest): Promise<Socket> {
  const { host, port } = request.proxy.address;
  return tunnelOver(connect({ host, port }), request);
}

/** The same over a connection to the proxy that is there or being made. It is destroyed when there is no tunnel. */
export async function tunnelOver(raw: Socket, request: TunnelRequest): Promise<Socket> {
  const { proxy, timeoutMs, clock } = request;
  // Stays for good: a socket without a handler takes the process down.
  raw.on('error', () => undefined);
  const late = clock.after(timeoutMs, () => raw.destroy(lateAnswer(proxy)));
  try {
    const socket = proxy.isSecure ? await secure(raw, proxy) : raw;
    socket.write(formatConnect(request));
    checkAnswer(await readFinalHead(socket, proxy), request);
    return socket;
  } catch (error) {
    const cause: unknown = raw.errored ?? error;
    raw.destroy();
    throw isRollcallError(cause) ? cause : unreachable(`the proxy ${proxy.url}`, cause);
  } finally {
    late.cancel();
  }
}

/** The proxy did not answer in time. */
export function lateAnswer({ url }: HttpProxy): RollcallError {
  return new RollcallError('LINK_UNREACHABLE', `the proxy ${url} has not answered in time`, {
    hint: 'it may be waiting for the link: can the proxy reach it?',
  });
}

function formatConnect({ proxy: { authorization }, link }: TunnelRequest): string {
  const target = formatAddress(link);
  const lines = [`CONNECT ${target} HTTP/1.1`, `Host: ${target}`];
  if (authorization !== undefined) lines.push(`Proxy-Authorization: ${authorization}`);
  return `${lines.join('\r\n')}\r\n\r\n`;
}

/** TLS with the proxy itself. Nothing is written before it is verified: the request may hold a password. */
async function secure(raw: Socket, { address: { host }, roots, url, names }: HttpProxy): Promise<TLSSocket> {
  const socket = connectTls({
    socket: raw,
    host,
    ...(isIP(host) === 0 && { servername: host }),
    ...(roots !== undefined && { ca: roots }),
    ALPNProtocols: ['http/1.1'],
  });
  raw.once('close', () => socket.destroy());
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('secureConnect', resolve);
      socket.on('error', reject);
      socket.once('close', () => reject(closedEarly()));
    });
    return socket;
  } catch (error) {
    const code = systemErrorCode(error) ?? '';
    if (raw.errored || code === 'ECONNRESET') throw error;
    const isOtherProtocol = /^(?:ERR_SSL|EPROTO)/.test(code);
    throw new RollcallError(
      'LINK_UNREACHABLE',
      isOtherProtocol
        ? `what answers at ${url} does not speak TLS`
        : `cannot verify the proxy ${url}: its certificate is refused (${code})`,
      {
        hint: isOtherProtocol ? 'is it an http:// proxy?' : `give its roots by ${names.roots}`,
        cause: error,
      },
    );
  }
}

function closedEarly(): Error {
  return Object.assign(new Error('closed'), { code: 'ECONNRESET' });
}

interface Head {
  readonly status: number;
  readonly reason: string;
  readonly fields: string;
}

/** The first answer that is not interim (1xx). */
async function readFinalHead(socket: Socket, proxy: HttpProxy): Promise<Head> {
  for (;;) {
    const text = await readHead(socket, proxy);
    const [line = '', status = '', reason = ''] = /^HTTP\/1\.\d (\d{3})(?: (.*))?\r?\n/.exec(text) ?? [];
    if (line === '') throw noProxy(proxy);
    if (!status.startsWith('1')) return { status: Number(status), reason, fields: text.slice(line.length) };
  }
}

/** Takes the head of an answer off the socket, and no byte more: what follows belongs to the tunnel. */
function readHead(socket: Socket, proxy: HttpProxy): Promise<string> {
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    const settle = (act: () => void): void => {
      socket.off('readable', onReadable).off('error', onError).off('close', onClose);
      act();
    };
    const onError = (error: Error) => settle(() => reject(error));
    const onClose = () => settle(() => reject(received.length > 0 ? noProxy(proxy) : closedEarly()));
    const onReadable = () => {
      for (let chunk = read(socket); chunk !== null; chunk = read(socket)) {
        received = Buffer.concat([received, chunk]);
        const end = /\r?\n\r?\n/.exec(received.toString('latin1'));
        const length = end ? end.index + end[0].length : received.length;
        if (length > maxHeadBytes) {
          settle(() => reject(noProxy(proxy)));
          return;
        }
        if (!end) continue;
        if (received.length > length) socket.unshift(received.subarray(length));
        settle(() => resolve(received.toString('latin1', 0, length)));
        return;
      }
    };
    socket.on('readable', onReadable).on('error', onError).on('close', onClose);
  });
}

/** Untyped in Node.js: without an encoding it is a buffer. */
function read(socket: Socket): Buffer | null {
  return socket.read() as Buffer | null;
}

function noProxy({ url }: HttpProxy): RollcallError {
  return new RollcallError('LINK_UNREACHABLE', `what answers at ${url} is not an HTTP proxy`, {
    hint: 'check host and port, and whether it is an http:// or an https:// proxy',
  });
}

/** Any 2xx opens the tunnel, whatever its fields say of a body. */
function checkAnswer({ status, reason, fields }: Head, { proxy, link }: TunnelRequest): void {
  if (status >= 200 && status < 300) return;
  const said = visibleText(`${status} ${Buffer.from(reason, 'latin1').toString('utf8')}`, 100).trimEnd();
  const target = formatAddress(link);
  if (status >= 500 && status !== 501) {
    throw new RollcallError('LINK_UNREACHABLE', `the proxy ${proxy.url} cannot reach ${target}: ${said}`, {
      hint: 'is the link running, and can the proxy reach it?',
    });
  }
  // RFC 9110 §15.5.8 wants 407; tinyproxy answers a wrong password with 401.
  const wantsCredentials = status === 407 || status === 401;
  const hint = wantsCredentials
    ? credentialsHint(proxy, fields)
    : `ask for CONNECT to ${target} to be allowed there: many proxies allow port 443 alone`;
  throw new RollcallError('LINK_UNREACHABLE', `the proxy ${proxy.url} refuses ${target}: ${said}`, { hint });
}

function credentialsHint({ authorization, names }: HttpProxy, fields: string): string {
  const schemes = [...fields.matchAll(/^(?:Proxy|WWW)-Authenticate:[ \t]*([\w-]+)/gim)].map(
    ([, name = '']) => name,
  );
  if (schemes.length > 0 && !schemes.some(scheme => scheme.toLowerCase() === 'basic'))
    return `it asks for ${visibleText(schemes.join(', '), 60)}, and only Basic is supported`;
  return authorization === undefined
    ? `it asks for a user and a password: give user:password by ${names.credentials}`
    : `it does not take the user and the password of ${names.credentials}`;
}
