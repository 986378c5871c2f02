/**
 * One verified TLS connection to the link, and the gRPC services on it. TLS 1.3 only; the server's chain must end
 * at a given root and its certificate must be for the host or the IP address that was asked for. A connection is one
 * TCP connection: when it is gone it is gone, nothing reconnects by itself.
 */
import type { X509Certificate } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { createSecureContext, type ConnectionOptions } from 'node:tls';
import { connectivityState, type ChannelOptions, type Client } from '@grpc/grpc-js';
import type { Clock } from '../base/clock.js';
import { isRollcallError, RollcallError } from '../base/errors.js';
import { withRouteHint, type Route } from '../base/proxy.js';
import { formatAddress, type Address } from '../base/settings.js';
import { deferred, onAbort } from '../base/wait.js';
import { trustServer } from '../identity/server-trust.js';
import { EnrollmentClient } from '../protocol/generated/rollcall/v1/enrollment.js';
import { LinkClient, ObjectsClient } from '../protocol/generated/rollcall/v1/link.js';
import { limits } from '../protocol/limits.js';
import { describeTlsFailure } from './connection-error.js';
import { FirstHop } from './first-hop.js';
import { targetOf } from './one-address.js';
import { TlsCredentials, type Secured } from './tls-credentials.js';

export interface ConnectionRequest {
  readonly address: Address;
  /** Straight to the address unless given. */
  readonly route?: Route | undefined;
  /** PEM, one certificate each; at least one. */
  readonly serverRoots: readonly string[];
  /** The node's certificate, PEM, with its private key, PEM; none before it has enrolled. */
  readonly certificate?: { readonly chain: string; readonly key: string } | undefined;
  /** For everything until the connection can be used, ms. */
  readonly timeoutMs: number;
  readonly clock: Clock;
  /** Gives up at once. */
  readonly signal?: AbortSignal | undefined;
}

export interface LinkConnection {
  readonly enrollment: EnrollmentClient;
  readonly link: LinkClient;
  readonly objects: ObjectsClient;
  /** The channel binding of this connection (RFC 9266), 32 bytes. */
  readonly exporter: Buffer;
  readonly peerCertificate: X509Certificate;
  /** Resolves when the socket is closed, by either side. */
  readonly closed: Promise<void>;
  /** Lets what was written get out, then closes; the socket is cut if that takes longer than half a second. */
  close(): Promise<void>;
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
    try {
      // One silent address must not use up the time of the others.
      return await openTo(
        host,
        hop,
        tls,
        request,
        Math.ceil(Math.max(leftMs, 1) / (hosts.length - position)),
      );
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
      ...(certificate && { cert: certificate.chain, key: certificate.key }),
    }),
    ALPNProtocols: ['h2'],
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

/** No retries, no proxies of grpc-js, no shared sockets, no reconnecting: what is said on this channel goes over this socket. */
function channelOptions(address: Address): ChannelOptions {
  // grpc-js would try again after this; by then the channel is long closed. It must stay far below what timers can do.
  const neverMs = 3_600_000;
  return {
    'grpc.default_authority': formatAddress(address),
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_retries': 0,
    'grpc.enable_http_proxy': 0,
    'grpc.enable_channelz': 0,
    'grpc.service_config_disable_resolution': 1,
    'grpc.initial_reconnect_backoff_ms': neverMs,
    'grpc.max_reconnect_backoff_ms': neverMs,
    'grpc.max_receive_message_length': limits.messageBytes,
    'grpc.max_send_message_length': limits.messageBytes,
  };
}

async function openTo(
  host: string,
  hop: FirstHop,
  tls: ConnectionOptions,
  request: ConnectionRequest,
  timeoutMs: number,
): Promise<LinkConnection> {
  const { address, clock, signal } = request;
  const secured = new TlsCredentials(tls);
  const credentials = hop.wrap(secured, timeoutMs, clock);
  const { target, options } = targetOf({ host, port: hop.address.port }, secured.signal);
  const enrollment = new EnrollmentClient(target, credentials, { ...channelOptions(address), ...options });
  const channel = enrollment.getChannel();
  const late = stopAfter(clock, timeoutMs, signal, hop);
  try {
    await Promise.race([reachReady(channel), late.promise]);
    if (!secured.secured) throw new Error('no connection');
  } catch (error) {
    const explained = isRollcallError(error) ? error : await explain(enrollment, secured, hop, clock);
    enrollment.close();
    secured.destroy();
    throw explained;
  } finally {
    late.cancel();
  }
  const link = new LinkClient(target, credentials, { channelOverride: channel });
  const objects = new ObjectsClient(target, credentials, { channelOverride: channel });
  return connectionOn(secured.secured, { enrollment, link, objects }, clock);
}

function connectionOn(
  { socket, exporter, peerCertificate }: Secured,
  services: Pick<LinkConnection, 'enrollment' | 'link' | 'objects'>,
  clock: Clock,
): LinkConnection {
  const { enrollment } = services;
  const closed = new Promise<void>(resolve => {
    if (socket.closed) resolve();
    else socket.once('close', () => resolve());
  });
  // Frees the channel when the other side closed.
  void closed.then(() => enrollment.close());
  return {
    ...services,
    exporter,
    peerCertificate,
    closed,
    async close() {
      enrollment.close();
      const cut = clock.after(500, () => socket.destroy());
      await closed;
      cut.cancel();
    },
  };
}

/** Resolves when the channel has its connection, rejects when it could not get one. */
function reachReady(channel: ReturnType<Client['getChannel']>): Promise<void> {
  return new Promise((resolve, reject) => {
    const look = () => {
      const state = channel.getConnectivityState(true);
      if (state === connectivityState.READY) resolve();
      else if (state === connectivityState.TRANSIENT_FAILURE || state === connectivityState.SHUTDOWN) {
        reject(new Error('the channel has no connection'));
      } else channel.watchConnectivityState(state, Infinity, look);
    };
    look();
  });
}

/** grpc-js tells why a TCP connection failed only to a call that wanted it. */
async function explain(
  client: EnrollmentClient,
  { failure }: TlsCredentials,
  hop: FirstHop,
  clock: Clock,
): Promise<RollcallError> {
  if (isRollcallError(hop.refusal)) return hop.refusal;
  if (failure) return describeTlsFailure(failure, hop.place, clock.now());
  const details = await new Promise<string>(resolve => {
    client.enroll().on('error', (error: { details?: string }) => resolve(error.details ?? ''));
  });
  return hop.unreachable(details, details);
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
