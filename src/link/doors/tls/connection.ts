/**
 * One accepted connection, from the first byte to the last: what is known about the peer, and the ways to end it.
 * The identity of the peer is decided above; here it is only "has a session or a token" or not, which the caps and
 * deadlines of the listener go by.
 */
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Clock } from '../../../base/clock.js';
import { RollcallError } from '../../../base/errors.js';
import { networkOf } from '../../../base/network.js';
import { endPointBinding, exporterLabel, exporterBytes } from '../../../identity/binding.js';

export class Connection {
  /** Without the `::ffff:` of an IPv4 peer on an IPv6 socket. */
  readonly remoteAddress: string;
  /** The party that the peer counts as until it is known. */
  readonly network: string;
  /** Both ends of the connection: `address port address port`. */
  readonly fourTuple: string;
  readonly acceptedAt: number;
  /** Set once the TLS handshake is done. */
  tls: TLSSocket | undefined;
  /** How the protocol spoken here asks the peer to leave; set by the door that serves the connection. */
  farewell: (() => void) | undefined;
  /** How it makes a peer that is there send something; undefined where it cannot. */
  ping: (() => void) | undefined;

  readonly #raw: Socket;
  readonly #clock: Clock;
  readonly #onStanding: (connection: Connection) => void;
  #authenticated = false;
  #calls = 0;
  #idleSince: number;
  #refusedAt: number | undefined;
  #isRetired = false;
  #retiredAt: number | undefined;

  /** `onStanding` hears when `authenticated` changes. */
  constructor(raw: Socket, clock: Clock, onStanding: (connection: Connection) => void) {
    this.#raw = raw;
    this.#clock = clock;
    this.#onStanding = onStanding;
    this.acceptedAt = clock.elapsed();
    this.#idleSince = this.acceptedAt;
    this.remoteAddress = (raw.remoteAddress ?? 'unknown').replace(/^::ffff:/, '');
    this.network = networkOf(this.remoteAddress);
    this.fourTuple = fourTupleOf(raw);
  }

  secured(tls: TLSSocket): void {
    this.tls = tls;
    this.#idleSince = this.#clock.elapsed();
  }

  /** The DER of the certificate whose key signed the handshake, never one that only came along in the chain. */
  get peerCertificate(): Buffer | undefined {
    return this.tls?.getPeerX509Certificate()?.raw;
  }

  /** The same where it must come alone: CERTIFICATE_REFUSED for a chain, which would stay in memory with the connection. */
  get peerLeaf(): Buffer | undefined {
    const certificate = this.tls?.getPeerX509Certificate();
    if (!certificate?.issuerCertificate) return certificate?.raw;
    throw new RollcallError('CERTIFICATE_REFUSED', 'the connection carries a chain of certificates', {
      hint: 'send the node certificate alone: the link knows its issuer',
    });
  }

  /** RFC 9266: what both ends, and nobody else, can compute about this connection. */
  exporterBinding(): Buffer {
    return this.#secure().exportKeyingMaterial(exporterBytes, exporterLabel, Buffer.alloc(0));
  }

  /** RFC 5929 §4: the hash of the certificate this side presented on this connection. */
  endPointBinding(): Buffer {
    const own = this.#secure().getX509Certificate();
    if (!own) throw new Error('no certificate of our own on this connection');
    return endPointBinding(own.raw);
  }

  /** Node port: a session is open. Control port: a call with a valid token was made, and its holder still has it. */
  get authenticated(): boolean {
    return this.#authenticated;
  }

  set authenticated(value: boolean) {
    if (value === this.#authenticated) return;
    this.#authenticated = value;
    if (!value) this.#idleSince = this.#clock.elapsed();
    this.#onStanding(this);
  }

  get calls(): number {
    return this.#calls;
  }

  callOpened(): void {
    this.#calls += 1;
  }

  callClosed(): void {
    this.#calls -= 1;
    if (this.#calls === 0) this.#idleSince = this.#clock.elapsed();
  }

  /** A call was refused: an honest peer goes away by itself now, any other is asked to leave soon. */
  refused(): void {
    this.#refusedAt ??= this.#clock.elapsed();
  }

  /**
   * Asks the peer to leave: what it has asked is answered, what it asks from now on it must ask on another connection.
   * Whether it does is for the listener to see.
   */
  retire(): void {
    if (this.#isRetired) return;
    this.#isRetired = true;
    if (!this.farewell) {
      this.destroy();
      return;
    }
    this.farewell();
    // Once the words have left.
    setImmediate(() => (this.#retiredAt = this.#clock.elapsed()));
  }

  /** Milliseconds since the peer was asked to leave. */
  retiredMs(): number | undefined {
    return this.#retiredAt === undefined ? undefined : this.#clock.elapsed() - this.#retiredAt;
  }

  /** Received so far: a peer that is there and was pinged has sent something. */
  get bytesRead(): number {
    return this.#raw.bytesRead;
  }

  /** Calls once, when the socket is closed. */
  onClosed(listener: () => void): void {
    if (this.#raw.closed) listener();
    else this.#raw.once('close', listener);
  }

  /** Milliseconds without anything that justifies the connection; undefined while something does. */
  idleMs(): number | undefined {
    return this.authenticated ? undefined : this.quietMs();
  }

  /** Milliseconds without a call, known peer or not; undefined while there is one. */
  quietMs(): number | undefined {
    return this.#calls > 0 ? undefined : this.#clock.elapsed() - this.#idleSince;
  }

  /** Milliseconds since the first refusal, if the peer has not come to anything better since. */
  refusedMs(): number | undefined {
    if (this.authenticated || this.#refusedAt === undefined) return undefined;
    return this.#clock.elapsed() - this.#refusedAt;
  }

  /**
   * Lets what was just written leave, then destroys. Nothing the peer sends is acted on any more. Resolves when the
   * socket is closed.
   */
  endSoon(): Promise<void> {
    const closed = new Promise<void>(resolve => this.onClosed(resolve));
    setImmediate(() => setImmediate(() => this.destroy()));
    return closed;
  }

  destroy(): void {
    this.tls?.destroy();
    this.#raw.destroy();
  }

  get destroyed(): boolean {
    return this.#raw.destroyed;
  }

  #secure(): TLSSocket {
    if (!this.tls) throw new Error('the handshake is not done');
    return this.tls;
  }
}

interface Ends {
  readonly localAddress?: string | undefined;
  readonly localPort?: number | undefined;
  readonly remoteAddress?: string | undefined;
  readonly remotePort?: number | undefined;
}

/** Both ends of a connection as one key. The remote end alone would not do: two local addresses can share it. */
export function fourTupleOf(ends: Ends): string {
  return `${ends.localAddress ?? ''} ${ends.localPort ?? ''} ${ends.remoteAddress ?? ''} ${ends.remotePort ?? ''}`;
}
