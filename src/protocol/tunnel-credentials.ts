/**
 * gRPC through an HTTP proxy: grpc-js connects to the proxy, and these credentials request a tunnel before the
 * wrapped credentials begin TLS with the link. The proxy support of grpc-js itself is off everywhere: it uses
 * environment variables only, waits for ever, and supports no https:// proxy.
 */
import type { Socket } from 'node:net';
import { ChannelCredentials } from '@grpc/grpc-js';

type CreateConnector = ChannelCredentials['_createSecureConnector'];

export class TunnelCredentials extends ChannelCredentials {
  readonly #inner: ChannelCredentials;
  readonly #openTunnel: (raw: Socket) => Promise<Socket>;

  /** `openTunnel` gets the TCP connection to the proxy. */
  constructor(inner: ChannelCredentials, openTunnel: (raw: Socket) => Promise<Socket>) {
    super();
    this.#inner = inner;
    this.#openTunnel = openTunnel;
  }

  override _isSecure(): boolean {
    return this.#inner._isSecure();
  }

  override _equals(other: ChannelCredentials): boolean {
    return this === other;
  }

  override _createSecureConnector(...given: Parameters<CreateConnector>): ReturnType<CreateConnector> {
    const connector = this.#inner._createSecureConnector(...given);
    return {
      waitForReady: () => connector.waitForReady(),
      connect: async raw => connector.connect(await this.#openTunnel(raw)),
      getCallCredentials: () => connector.getCallCredentials(),
      destroy: () => connector.destroy(),
    };
  }
}
