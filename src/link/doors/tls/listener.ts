/**
 * The listener that owns TLS: accepts sockets, holds the caps before any TLS work, does the handshake (TLS 1.3, no
 * tickets, so no resumption), keeps the deadlines, and hands finished connections on. Because it owns the sockets, the
 * binding, the peer's certificate and the power to cut a peer off at once are here, whatever protocol runs above.
 *
 * TLS begins with the peer's first byte: a socket that says nothing has no TLS state, and the first bytes, given to TLS
 * from here, do not make it keep a buffer of 64 KiB for each connection.
 *
 * A connection counts against the caps only while it has no session: a hospital sits behind one address. At a cap the
 * oldest such connection of the same network makes room once it is stale, so that held sockets do not shut honest peers
 * out; otherwise the new one is refused.
 */
import { createServer, type Server, type Socket } from 'node:net';
import {
  createServer as createTlsServer,
  type SecureContextOptions,
  type Server as TlsServer,
  type TLSSocket,
} from 'node:tls';
import { readFileSync } from 'node:fs';
import { RollcallError, systemErrorCode } from '../../../base/errors.js';
import { allAddresses, formatAddress, type Address } from '../../../base/settings.js';
import type { Clock, Timer } from '../../../base/clock.js';
import type { Log } from '../../../base/log.js';
import { Connection, fourTupleOf } from './connection.js';
import { PendingConnections, type Caps } from './pending-connections.js';
import { secure } from './server-context.js';

export interface Deadlines {
  /** From accept to the end of the handshake, ms. */
  readonly handshakeMs: number;
  /** Without a session and without an open call, ms. */
  readonly idleMs: number;
  /** From a refusal until the peer is asked to leave, and from there until it is cut off, ms. */
  readonly afterRefusalMs: number;
}

export type HandshakeOutcome = 'done' | 'failed' | 'timeout' | 'refused';

export interface ListenerOptions {
  readonly address: Address;
  readonly context: SecureContextOptions;
  readonly requestCertificate: boolean;
  /** Chooses among the protocols the peer offers; undefined refuses the handshake. */
  readonly chooseProtocol: (offered: readonly string[]) => string | undefined;
  readonly caps: Caps;
  readonly deadlines: Deadlines;
  readonly clock: Clock;
  readonly log: Log;
  readonly onHandshake: (outcome: HandshakeOutcome, remoteAddress: string) => void;
  /** The peer offers no protocol that is spoken here. */
  readonly onOtherProtocol?: (remoteAddress: string) => void;
  readonly onConnection: (connection: Connection, socket: TLSSocket) => void;
}

const sweepEveryMs = 500;
/** A connection without a session that has been there this long may be pushed out at a cap, ms. */
const staleMs = 2_000;

export class Listener {
  readonly #options: ListenerOptions;
  readonly #pending: PendingConnections;
  readonly #byEnds = new Map<string, Connection>();
  readonly #tlsServer: TlsServer;
  readonly #server: Server;
  readonly #sweep: Timer;

  constructor(options: ListenerOptions) {
    this.#options = options;
    this.#pending = new PendingConnections(usableCaps(options));
    this.#tlsServer = createTlsServer({
      ...secure(options.context),
      requestCert: options.requestCertificate,
      rejectUnauthorized: false,
      handshakeTimeout: options.deadlines.handshakeMs,
      ALPNCallback: ({ protocols }) => options.chooseProtocol(protocols),
    });
    this.#server = createServer({ noDelay: true }, raw => this.#accept(raw));
    this.#tlsServer.on('secureConnection', socket => this.#onSecure(socket));
    this.#tlsServer.on('tlsClientError', (error, socket) => this.#onFailure(error, socket));
    this.#sweep = options.clock.every(sweepEveryMs, () => this.#endOverdue());
  }

  /** Binds; resolves with the address it really has. */
  listen(): Promise<Address> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', error => reject(cannotListen(this.#options.address, error)));
      const { host, port: wanted } = this.#options.address;
      // Without a host Node.js listens on all addresses, of IPv6 as well where there is one.
      const where = host === allAddresses ? {} : { host };
      this.#server.listen({ ...where, port: wanted, backlog: 4096 }, () => {
        this.#server.removeAllListeners('error');
        this.#server.on('error', error => this.#options.log.error({ err: error }, 'the listener failed'));
        const bound = this.#server.address();
        const isKnown = typeof bound === 'object' && bound !== null;
        resolve({
          host: isKnown && host === allAddresses ? bound.address : host,
          port: isKnown ? bound.port : wanted,
        });
      });
    });
  }

  /** Certificates for handshakes from now on; live connections stay as they are. Throws and keeps the old ones when these are unusable. */
  reload(context: SecureContextOptions): void {
    this.#tlsServer.setSecureContext(secure(context));
  }

  /** The live connection with these ends. */
  find(ends: Parameters<typeof fourTupleOf>[0]): Connection | undefined {
    return this.#byEnds.get(fourTupleOf(ends));
  }

  /** Takes no new connections. */
  stopAccepting(): void {
    this.#server.close();
  }

  /** Destroys every connection; resolves when the port is free. */
  close(): Promise<void> {
    return new Promise(resolve => {
      this.#sweep.cancel();
      for (const connection of this.#byEnds.values()) connection.destroy();
      if (this.#server.listening) this.#server.close(() => resolve());
      else resolve();
    });
  }

  #accept(raw: Socket): void {
    raw.on('error', () => raw.destroy());
    const { clock, onHandshake } = this.#options;
    const connection = new Connection(raw, clock, changed => this.#onStanding(changed));
    if (this.#byEnds.has(connection.fourTuple) || !this.#makeRoom(connection.network)) {
      onHandshake('refused', connection.remoteAddress);
      raw.destroy();
      return;
    }
    this.#pending.add(connection);
    this.#byEnds.set(connection.fourTuple, connection);
    raw.once('close', () => this.#forget(connection));
    raw.once('data', first => {
      raw.pause();
      raw.unshift(first);
      this.#tlsServer.emit('connection', raw);
    });
  }

  #onSecure(socket: TLSSocket): void {
    const { onHandshake, onConnection } = this.#options;
    // An error after the handshake (a forged client certificate leaves one) is an event of the peer, not of ours.
    socket.on('error', () => socket.destroy());
    const connection = this.#byEnds.get(fourTupleOf(socket));
    if (!connection || connection.tls || connection.destroyed) {
      socket.destroy();
      return;
    }
    connection.secured(socket);
    socket.once('close', () => connection.destroy());
    onHandshake('done', connection.remoteAddress);
    onConnection(connection, socket);
  }

  #onFailure(error: NodeJS.ErrnoException, socket: TLSSocket): void {
    const { log, onHandshake, onOtherProtocol } = this.#options;
    const remoteAddress = this.#byEnds.get(fourTupleOf(socket))?.remoteAddress ?? 'unknown';
    log.debug({ remoteAddress, code: error.code }, 'TLS handshake failed');
    if (error.code?.endsWith('NO_APPLICATION_PROTOCOL')) onOtherProtocol?.(remoteAddress);
    onHandshake(error.code === 'ERR_TLS_HANDSHAKE_TIMEOUT' ? 'timeout' : 'failed', remoteAddress);
    socket.destroy();
  }

  #onStanding(connection: Connection): void {
    if (connection.authenticated) this.#pending.delete(connection);
    else if (this.#byEnds.get(connection.fourTuple) === connection) this.#pending.add(connection);
  }

  #forget(connection: Connection): void {
    this.#pending.delete(connection);
    if (this.#byEnds.get(connection.fourTuple) === connection) this.#byEnds.delete(connection.fourTuple);
  }

  /** Gives whether one more connection may come from this network. */
  #makeRoom(network: string): boolean {
    const first = this.#pending.evictFor(network);
    if (!first) return true;
    if (this.#options.clock.elapsed() - first.acceptedAt < staleMs) return false;
    first.destroy();
    this.#forget(first);
    return true;
  }

  #endOverdue(): void {
    const { clock, deadlines } = this.#options;
    const now = clock.elapsed();
    for (const connection of this.#pending) {
      if (!connection.tls) {
        if (now - connection.acceptedAt > deadlines.handshakeMs) connection.destroy();
      } else if ((connection.retiredMs() ?? 0) > deadlines.afterRefusalMs) connection.destroy();
      else if (isOverdue(connection, deadlines)) connection.retire();
    }
  }
}

function isOverdue(connection: Connection, { afterRefusalMs, idleMs }: Deadlines): boolean {
  return (connection.refusedMs() ?? 0) > afterRefusalMs || (connection.idleMs() ?? 0) > idleMs;
}

function usableCaps({ caps, log }: ListenerOptions): Caps {
  const limit = descriptorLimit();
  const usable = capsWithin(caps, limit);
  if (usable !== caps)
    log.warn({ limit, caps, usable }, 'the limit of open files is low: fewer connections without a session');
  return usable;
}

function cannotListen(address: Address, error: Error): RollcallError {
  const reasons: Readonly<Record<string, string>> = {
    EADDRINUSE: 'another process listens there',
    EACCES: 'that port is not for this user',
    EADDRNOTAVAIL: 'that is no address of this machine',
  };
  const code = systemErrorCode(error) ?? error.message;
  return new RollcallError(
    'CONFIG_INVALID',
    `cannot listen at ${formatAddress(address)}: ${reasons[code] ?? code}`,
    {
      hint: 'choose other addresses with --node-address and --control-address',
      cause: error,
    },
  );
}

/**
 * Of the file descriptors: a connection is one, and without any nobody gets in, no operator, no node with a session, and
 * the store cannot open its files. The two ports' connections without a session may have half of them together.
 */
const shareOfPort = 4;

/** How many descriptors this process may have open; Infinity where the system does not say (it is read from /proc). */
function descriptorLimit(): number {
  try {
    const [, soft] = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
    return soft === undefined ? Infinity : Number(soft);
  } catch {
    return Infinity;
  }
}

/** The caps that hold for one port under this limit; one address keeps its share of the total. */
function capsWithin(caps: Caps, limit: number): Caps {
  const total = Math.min(caps.total, Math.max(1, Math.floor(limit / shareOfPort)));
  if (total === caps.total) return caps;
  return { total, perAddress: Math.max(1, Math.ceil((caps.perAddress * total) / caps.total)) };
}
