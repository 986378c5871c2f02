/** The first hop of a connection: the link itself, or a proxy that opens a tunnel to it. */
import type { Socket } from 'node:net';
import type { Clock } from '../base/clock.js';
import { RollcallError } from '../base/errors.js';
import type { Route } from '../base/proxy.js';
import { formatAddress, type Address } from '../base/settings.js';
import { lateAnswer, tunnelOver } from '../base/tunnel.js';
import { unreachable } from '../base/unreachable.js';

export class FirstHop {
  /** The address that TCP connects to. */
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

  /** Leads to the link over a TCP connection to the first hop. */
  async pass(raw: Socket, timeoutMs: number, clock: Clock): Promise<Socket> {
    const proxy = this.#proxy;
    if (!proxy) return raw;
    try {
      const socket = await tunnelOver(raw, { proxy, link: this.#link, timeoutMs, clock });
      this.#isPassed = true;
      return socket;
    } catch (error) {
      this.refusal = error;
      throw error;
    }
  }

  /** TCP did not get there. */
  unreachable(cause: unknown): RollcallError {
    return unreachable(this.#proxy ? `the proxy ${this.#proxy.url}` : `the link at ${this.place}`, cause);
  }

  /** The time is up. */
  late(): RollcallError {
    if (this.#proxy && !this.#isPassed) return lateAnswer(this.#proxy);
    return new RollcallError('LINK_UNREACHABLE', `cannot reach the link at ${this.place}: no answer in time`);
  }
}
