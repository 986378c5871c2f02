/** What a connection reaches first: the link itself, or a proxy that opens a tunnel to it. */
import type { Socket } from 'node:net';
import type { ChannelCredentials } from '@grpc/grpc-js';
import type { Clock } from '../base/clock.js';
import { RollcallError } from '../base/errors.js';
import type { Route } from '../base/proxy.js';
import { formatAddress, type Address } from '../base/settings.js';
import { lateAnswer, tunnelOver } from '../base/tunnel.js';
import { unreachable } from '../base/unreachable.js';
import { TunnelCredentials } from '../protocol/tunnel-credentials.js';

export class FirstHop {
  /** Where TCP goes. */
  readonly address: Address;
  /** The link as messages name it, with the way to it. */
  readonly place: string;
  /** Why the proxy, once reached, opened no tunnel. */
  refusal: unknown;
  readonly #link: Address;
  readonly #proxy: Route['proxy'];
  #isPassed: boolean;

  constructor(link: Address, { proxy }: Route = {}) {
    this.#link = link;
    this.#proxy = proxy;
    this.#isPassed = proxy === undefined;
    this.address = proxy?.address ?? link;
    this.place = proxy ? `${formatAddress(link)} through the proxy ${proxy.url}` : formatAddress(link);
  }

  /** Credentials that open the tunnel, if there is one to open, before those that are given are used. */
  wrap(credentials: ChannelCredentials, timeoutMs: number, clock: Clock): ChannelCredentials {
    const proxy = this.#proxy;
    if (!proxy) return credentials;
    return new TunnelCredentials(credentials, async (raw): Promise<Socket> => {
      try {
        const socket = await tunnelOver(raw, { proxy, link: this.#link, timeoutMs, clock });
        this.#isPassed = true;
        return socket;
      } catch (error) {
        this.refusal = error;
        throw error;
      }
    });
  }

  /** TCP did not get there; the reason is a system error code, in `cause` or in `text`. */
  unreachable(cause: unknown, text?: string): RollcallError {
    return unreachable(
      this.#proxy ? `the proxy ${this.#proxy.url}` : `the link at ${this.place}`,
      cause,
      text,
    );
  }

  /** The time is up. */
  late(): RollcallError {
    if (this.#proxy && !this.#isPassed) return lateAnswer(this.#proxy);
    return new RollcallError('LINK_UNREACHABLE', `cannot reach the link at ${this.place}: no answer in time`);
  }
}
