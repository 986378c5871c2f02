/**
 * The one file that uses what grpc-js marks with an underscore: credentials that do TLS themselves, so that the agent
 * has the exporter of its own connection (RFC 9266), full errors, and one connection per channel. The version of
 * grpc-js is pinned exactly, and a test says when this must be looked at again.
 *
 * A second attempt to connect is refused before it opens a socket: a new connection has another exporter and may have
 * another peer, so it must never happen behind the back of anyone who holds this one.
 */
import { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { CallCredentials, ChannelCredentials } from '@grpc/grpc-js';
import { exporterBytes, exporterLabel } from '../identity/binding.js';
import { RollcallError } from '../base/errors.js';

type CreateConnector = ChannelCredentials['_createSecureConnector'];
type Connector = ReturnType<CreateConnector>;
type Connected = Awaited<ReturnType<Connector['connect']>>;

/** A finished handshake: the server is verified, chain and name. */
export interface Secured {
  readonly socket: TLSSocket;
  /** 32 bytes that both ends of this connection know and nobody else. */
  readonly exporter: Buffer;
  readonly peerCertificate: X509Certificate;
}

/** Why a handshake failed, and the certificate that was shown, if it came that far; it is not to be trusted. */
export interface HandshakeFailure {
  readonly error: Error;
  readonly shown: X509Certificate | undefined;
}

export class TlsCredentials extends ChannelCredentials {
  readonly #options: ConnectionOptions;
  readonly #stopping = new AbortController();
  #claimed = false;
  /** Set when the handshake was finished. */
  secured: Secured | undefined;
  /** Set when it failed; a failure to reach the peer at all is not known here. */
  failure: HandshakeFailure | undefined;

  constructor(options: ConnectionOptions) {
    super();
    this.#options = options;
  }

  override _isSecure(): boolean {
    return true;
  }

  override _equals(other: ChannelCredentials): boolean {
    return this === other;
  }

  override _createSecureConnector(...[, , callCredentials]: Parameters<CreateConnector>): Connector {
    return {
      // Called before the TCP connection is made.
      waitForReady: () => this.#claim(),
      connect: raw => this.#secure(raw),
      getCallCredentials: () => callCredentials ?? CallCredentials.createEmpty(),
      destroy: () => undefined,
    };
  }

  /** For the TCP connection below: aborted by destroy(). */
  get signal(): AbortSignal {
    return this.#stopping.signal;
  }

  /** Drops the connection at once, in whatever state it is; none is made any more. */
  destroy(): void {
    this.#stopping.abort();
    this.secured?.socket.destroy();
  }

  #claim(): Promise<void> {
    if (this.#claimed || this.signal.aborted)
      return Promise.reject(new Error('this channel had its one connection'));
    this.#claimed = true;
    return Promise.resolve();
  }

  #secure(raw: Socket): Promise<Connected> {
    return new Promise((resolve, reject) => {
      let shown: X509Certificate | undefined;
      const fail = (error: Error) => {
        // Later errors are those of a connection that was used.
        if (!this.secured) this.failure ??= { error, shown };
        reject(error);
      };
      const socket = connectTls({ ...this.#options, socket: raw });
      // grpc-js lets go of a connection without a call, and from Node.js 24 on that reaches the socket: a process that
      // waits for the end of such a connection would just end. Anyone who opened it holds it until it is closed.
      socket.unref = () => socket;
      // Before the verdict: an expired certificate is gone with the socket, and its dates help anyone who reads the error.
      // Not by getPeerX509Certificate(): on a client each call takes the certificate out of the chain, and the check of the
      // name that follows would find none.
      socket.prependOnceListener('secure', () => (shown = readShown(socket)));
      // Stays for good: a socket without a handler takes the process down.
      socket.on('error', fail);
      socket.once('close', () => fail(new Error('closed during the handshake')));
      socket.once('secureConnect', () => {
        try {
          this.secured = readSecured(socket);
          resolve({ socket, secure: true });
        } catch (error) {
          socket.destroy(error as Error);
        }
      });
    });
  }
}

function readShown(socket: TLSSocket): X509Certificate | undefined {
  // Typed as always there; an empty object when the peer showed none.
  const { raw } = socket.getPeerCertificate() as { raw?: Buffer };
  return raw && new X509Certificate(raw);
}

function readSecured(socket: TLSSocket): Secured {
  const peerCertificate = socket.getPeerX509Certificate();
  // What `rejectUnauthorized` has made sure of; checked again because everything else rests on it.
  if (!socket.authorized || !peerCertificate) throw new Error('the peer was not verified');
  if (socket.alpnProtocol !== 'h2') {
    throw new RollcallError('PROTOCOL_INVALID', 'what answers there is no link: it does not speak HTTP/2');
  }
  const exporter = socket.exportKeyingMaterial(exporterBytes, exporterLabel, Buffer.alloc(0));
  return { socket, exporter, peerCertificate };
}
