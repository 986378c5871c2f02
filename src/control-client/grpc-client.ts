/**
 * gRPC to the link, for every service alike: TLS 1.3, verified against the given roots and the host that was named, with the
 * token in every call. Every failure comes out as one error that says what to do.
 */
import { isIP } from 'node:net';
import { createSecureContext } from 'node:tls';
import {
  credentials,
  Metadata,
  type CallOptions,
  type ChannelCredentials,
  type ChannelOptions,
  type ClientUnaryCall,
  type ServiceError,
} from '@grpc/grpc-js';
import { formatAddress } from '../base/settings.js';
import { tunnelOver } from '../base/tunnel.js';
import { TunnelCredentials } from '../protocol/tunnel-credentials.js';
import { trustServer } from '../identity/server-trust.js';
import { answerWithinMs, explain } from './grpc-failure.js';
import type { HttpTarget } from './http-target.js';
import { withToken, type TokenSource } from './tokens.js';
import { tunnelTo } from './tunnel.js';

/** A page of a thousand nodes with many labels fits well. */
const maxAnswerBytes = 64 * 1024 * 1024;

/** Nothing is sent before the first call. */
export function openGrpcClient<C>(
  Client: new (address: string, credentials: ChannelCredentials, options: ChannelOptions) => C,
  target: HttpTarget,
): C {
  const tunnel = tunnelTo(target);
  const secure = secureCredentials(target);
  const options = channelOptions(target);
  if (!tunnel) return new Client(`dns:${target.addressText}`, secure, options);
  const tunnelled = new TunnelCredentials(secure, raw => tunnelOver(raw, tunnel));
  return new Client(`dns:${formatAddress(tunnel.proxy.address)}`, tunnelled, {
    ...options,
    'grpc.default_authority': target.addressText,
  });
}

/** A method that asks one question, bound to its client. */
export type Unary<Q, A> = (
  request: Q,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, answer: A) => void,
) => ClientUnaryCall;

/** Makes a question of a method that is bound to its client. */
export type Asking = <Q, A>(call: Unary<Q, A>) => (request: Q) => Promise<A>;

export function createAsking(target: HttpTarget, tokens: TokenSource): Asking {
  return call => request =>
    withToken(tokens, async token => {
      try {
        return await askOnce(call, request, token);
      } catch (error) {
        throw await explain(error as ServiceError, target);
      }
    });
}

function askOnce<Q, A>(call: Unary<Q, A>, request: Q, token: string): Promise<A> {
  return new Promise<A>((resolve, reject) => {
    call(request, bearer(token), { deadline: Date.now() + answerWithinMs }, (error, answer) => {
      if (error) reject(error);
      else resolve(answer);
    });
  });
}

export function bearer(token: string): Metadata {
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${token}`);
  return metadata;
}

function secureCredentials({ address, roots }: HttpTarget): ChannelCredentials {
  const trust = trustServer(address.host, roots);
  // Checked against the host that was named: for an IP another server name is sent (see channelOptions).
  const { checkServerIdentity } = trust;
  return credentials.createFromSecureContext(createSecureContext(trust), { checkServerIdentity });
}

function channelOptions({ address, route }: HttpTarget): ChannelOptions {
  return {
    'grpc.max_receive_message_length': maxAnswerBytes,
    // By variables of the environment alone: a proxy that is set up for browsing has no business here unless a setting says so.
    'grpc.enable_http_proxy': 0,
    // Only calls that the link says it has not begun are made again by that: no method has a policy that asks for more.
    'grpc.enable_retries': 1,
    'grpc.service_config_disable_resolution': 1,
    // Anyone who waits for a link that restarts asks again soon; left alone it would wait two minutes in the end.
    'grpc.initial_reconnect_backoff_ms': 250,
    'grpc.max_reconnect_backoff_ms': 2_000,
    // A cut cable must end a watch.
    'grpc.keepalive_time_ms': 20_000,
    'grpc.keepalive_timeout_ms': 5_000,
    // RFC 6066 §3 allows no IP as the server name, and Node.js warns about one; the link pays no attention to it.
    ...(isIP(address.host) !== 0 && { 'grpc.ssl_target_name_override': 'link.invalid' }),
    // Otherwise it would be the name of the proxy.
    ...(isIP(address.host) === 0 && route?.proxy && { 'grpc.ssl_target_name_override': address.host }),
  };
}
