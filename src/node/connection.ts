/**
 * One verified TLS connection to the link, and the frames on it. TLS 1.3 only; the server's chain must end at a given root
 * and its certificate must be for the host or the IP address that was asked for. A connection is one TCP connection:
 * when it is gone it is gone, nothing reconnects by itself.
 */
import type { X509Certificate } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { connect, isIP, type Socket } from 'node:net';
import { createSecureContext, type ConnectionOptions } from 'node:tls';
import type { Clock } from '../base/clock.js';
import { isRollcallError, RollcallError } from '../base/errors.js';
import { withRouteHint, type Route } from '../base/proxy.js';
import type { Address } from '../base/settings.js';
import { deferred, onAbort } from '../base/wait.js';
import { trustServer } from '../identity/server-trust.js';
import { FrameStream } from '../protocol/frame-stream.js';
import { LinkFrame, NodeFrame } from '../protocol/generated/rollcall/v1/link.js';
import { fromLinkError } from '../protocol/link-error.js';
import { limits, wireProtocol } from '../protocol/limits.js';
import { describeTlsFailure } from './connection-error.js';
import { FirstHop } from './first-hop.js';
import { HandshakeFailure, secure, type Secured } from './secure.js';

export interface ConnectionRequest {
  readonly address: Address;
  /** Straight to the address unless given. */
  readonly route?: Route | undefined;
  /** PEM, one certificate each; at least one. */
  readonly serverRoots: readonly string[];
  /** The node's certificate, PEM, with its private key, PEM; none before it has enrolled. */
  readonly certificate?: { readonly leaf: string; readonly key: string } | undefined;
  /** For everything until the connection can be used, ms. */
  readonly timeoutMs: number;
  readonly clock: Clock;
  /** Gives up at once. */
  readonly signal?: AbortSignal | undefined;
}

export type SentFrame = NonNullable<NodeFrame['frame']>;
export type ReceivedFrame = NonNullable<LinkFrame['frame']>;
type FrameListener = (frame: ReceivedFrame) => void;

/** Bytes that wait for a link that does not read; it is taken for gone with more. */
const maxQueuedBytes = 64 * 1024 * 1024;

export class LinkConnection {
  /** The channel binding of this connection (RFC 9266), 32 bytes. */
  readonly exporter: Buffer;
  readonly peerCertificate: X509Certificate;
  /** Resolves when the socket is closed, by either side. */
  readonly closed: Promise<void>;
  /** Resolves when nothing more comes: with what the link said, or how the connection was lost. */
  readonly over: Promise<RollcallError>;
  readonly #stream: FrameStream<LinkFrame, NodeFrame>;
  readonly #clock: Clock;
  readonly #listeners = new Set<FrameListener>();
  #error: RollcallError | undefined;

  constructor({ socket, exporter, peerCertificate }: Secured, clock: Clock) {
    this.exporter = exporter;
    this.peerCertificate = peerCertificate;
    this.#clock = clock;
    this.#stream = new FrameStream({
      socket,
      incoming: LinkFrame,
      outgoing: NodeFrame,
      maxFrameBytes: limits.messageBytes,
      maxQueuedBytes,
    });
    const over = deferred<RollcallError>();
    const closed = deferred();
    this.over = over.promise;
    this.closed = closed.promise;
    const finish = (error: RollcallError): void => over.resolve((this.#error ??= error));
    socket.once('close', () => {
      finish(lost());
      closed.resolve();
    });
    this.#stream.serve({
      frame: ({ frame }) => {
        if (frame?.$case === 'error') finish(fromLinkError(frame.value));
        else if (frame) for (const listener of this.#listeners) listener(frame);
        return undefined;
      },
      ended: () => {
        finish(lost());
        this.#stream.end();
      },
      failed: error => {
        finish(unreadable(error));
        this.destroy();
      },
    });
  }

  /** Gives false when frames wait to be read by the link. Does nothing on a connection that is over. */
  send(frame: SentFrame): boolean {
    return this.#error !== undefined || this.#stream.send({ frame });
  }

  /** Resolves when no frame waits any more, or the connection is gone. */
  drained(): Promise<void> {
    return this.#stream.drained();
  }

  /** Each frame from now on but errors, until the function it gives is called. */
  listen(listener: FrameListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Lets what was written get out, then closes; the socket is cut if that takes longer than half a second. */
  async close(): Promise<void> {
    this.#stream.stopReading();
    this.#stream.end();
    const cut = this.#clock.after(500, () => this.destroy());
    await this.closed;
    cut.cancel();
  }

  destroy(): void {
    this.#stream.destroy();
  }
}

/** Opens a connection; LINK_UNREACHABLE or LINK_UNVERIFIED, with a sentence that says which and why. */
export async function openConnection(request: ConnectionRequest): Promise<LinkConnection> {
  const hop = new FirstHop(request.address, request.route);
  try {
    return await openToAny(hop, tlsOptions(request), request);
  } catch (error) {
    throw isRollcallError(error) && request.route ? withRouteHint(error, request.route) : error;
  }
}

async function openToAny(
  hop: FirstHop,
  tls: ConnectionOptions,
  request: ConnectionRequest,
): Promise<LinkConnection> {
  const startedAt = request.clock.elapsed();
  const hosts = await findHosts(hop, request);
  let failure: unknown;
  for (const [position, host] of hosts.entries()) {
    const leftMs = request.timeoutMs - (request.clock.elapsed() - startedAt);
    // One silent address must not use up the time of the others.
    const shareMs = Math.ceil(Math.max(leftMs, 1) / (hosts.length - position));
    try {
      return new LinkConnection(await openTo(host, hop, tls, request, shareMs), request.clock);
    } catch (error) {
      if (!isRollcallError(failure, 'LINK_UNVERIFIED')) failure = error;
      // Another address is the same proxy.
      if (request.signal?.aborted || hop.refusal) break;
    }
  }
  throw failure;
}

function tlsOptions({ address, serverRoots, certificate }: ConnectionRequest): ConnectionOptions {
  // A root may have been accepted because another one signed it: then it is no self-signed end of a chain.
  const trust = trustServer(address.host, serverRoots);
  return {
    ...trust,
    secureContext: createSecureContext({
      ...trust,
      ...(certificate && { cert: certificate.leaf, key: certificate.key }),
    }),
    ALPNProtocols: [wireProtocol],
  };
}

async function findHosts(hop: FirstHop, { timeoutMs, clock, signal }: ConnectionRequest): Promise<string[]> {
  const { host } = hop.address;
  if (isIP(host) !== 0) return [host];
  const late = stopAfter(clock, timeoutMs, signal, hop);
  try {
    const found = await Promise.race([lookup(host, { all: true }), late.promise]);
    return found.map(each => each.address);
  } catch (error) {
    throw isRollcallError(error) ? error : hop.unreachable(error);
  } finally {
    late.cancel();
  }
}

async function openTo(
  host: string,
  hop: FirstHop,
  tls: ConnectionOptions,
  { clock, signal }: ConnectionRequest,
  timeoutMs: number,
): Promise<Secured> {
  const raw = connect({ host, port: hop.address.port, noDelay: true });
  const late = stopAfter(clock, timeoutMs, signal, hop);
  try {
    await Promise.race([connected(raw, hop), late.promise]);
    const socket = await Promise.race([hop.pass(raw, timeoutMs, clock), late.promise]);
    return await Promise.race([secure(socket, tls), late.promise]);
  } catch (error) {
    raw.destroy();
    if (!(error instanceof HandshakeFailure)) throw error;
    const failure = { error: error.cause as Error, shown: error.shown };
    throw describeTlsFailure(failure, hop.place, clock.now());
  } finally {
    late.cancel();
  }
}

function connected(raw: Socket, hop: FirstHop): Promise<void> {
  return new Promise((resolve, reject) => {
    raw.once('connect', resolve);
    // Stays for good: a socket without a handler takes the process down.
    raw.on('error', error => reject(hop.unreachable(error)));
  });
}

/** Rejects after the time or when the signal says so, until it is cancelled. */
function stopAfter(
  clock: Clock,
  timeoutMs: number,
  signal: AbortSignal | undefined,
  hop: FirstHop,
): { readonly promise: Promise<never>; cancel(): void } {
  const failed = deferred<never>();
  failed.promise.catch(() => undefined);
  const timer = clock.after(timeoutMs, () => failed.reject(hop.late()));
  const forget = onAbort(signal, () =>
    failed.reject(
      new RollcallError('LINK_UNREACHABLE', `cannot reach the link at ${hop.place}: told to stop`),
    ),
  );
  return {
    promise: failed.promise,
    cancel() {
      timer.cancel();
      forget();
    },
  };
}

function lost(): RollcallError {
  return new RollcallError('LINK_UNREACHABLE', 'the connection to the link was lost');
}

function unreadable(cause: unknown): RollcallError {
  return new RollcallError(
    'PROTOCOL_INVALID',
    'the server answered with something that is not the protocol of a link',
    { cause },
  );
}
