/** TLS with the link over a TCP connection or a tunnel, until the link is verified: its chain and its name. */
import { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { RollcallError } from '../base/errors.js';
import { exporterBytes, exporterLabel } from '../identity/binding.js';
import { wireProtocol } from '../protocol/limits.js';
import { otherProtocolHint } from './connection-error.js';

/** A finished handshake with a verified link. */
export interface Secured {
  readonly socket: TLSSocket;
  /** 32 bytes that both ends of this connection know and nobody else (RFC 9266). */
  readonly exporter: Buffer;
  readonly peerCertificate: X509Certificate;
}

/** The handshake failed. */
export class HandshakeFailure extends Error {
  /** The certificate that was shown, if it came that far; it is not to be trusted. */
  readonly shown: X509Certificate | undefined;

  constructor(error: Error, shown: X509Certificate | undefined) {
    super(error.message, { cause: error });
    this.shown = shown;
  }
}

/** Rejects with a HandshakeFailure. The socket is destroyed then. */
export async function secure(raw: Socket, options: ConnectionOptions): Promise<Secured> {
  const socket = connectTls({ ...options, socket: raw });
  // Stays for good: a socket without a handler takes the process down.
  socket.on('error', () => undefined);
  let shown: X509Certificate | undefined;
  // Before the verdict: an expired certificate is gone with the socket, and its dates help to find the mistake. Not by
  // getPeerX509Certificate(): on a client each call takes the certificate out of the chain, and the check of the name that
  // follows would find none.
  socket.prependOnceListener('secure', () => (shown = readShown(socket)));
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('secureConnect', resolve);
      socket.once('error', reject);
      socket.once('close', () => reject(raw.errored ?? new Error('closed during the handshake')));
    });
    return readSecured(socket);
  } catch (error) {
    socket.destroy();
    raw.destroy();
    throw new HandshakeFailure(error as Error, shown);
  }
}

function readShown(socket: TLSSocket): X509Certificate | undefined {
  // Typed as always there; an empty object when the peer showed none.
  const { raw } = socket.getPeerCertificate() as { raw?: Buffer };
  return raw && new X509Certificate(raw);
}

function readSecured(socket: TLSSocket): Secured {
  const peerCertificate = socket.getPeerX509Certificate();
  // `rejectUnauthorized` has made sure of it; checked again because everything else rests on it.
  if (!socket.authorized || !peerCertificate) throw new Error('the peer was not verified');
  if (socket.alpnProtocol !== wireProtocol)
    throw new RollcallError('PROTOCOL_INVALID', `what answers there does not speak ${wireProtocol}`, {
      hint: otherProtocolHint,
    });
  const exporter = socket.exportKeyingMaterial(exporterBytes, exporterLabel, Buffer.alloc(0));
  return { socket, exporter, peerCertificate };
}
