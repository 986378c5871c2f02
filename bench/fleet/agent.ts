/** A light agent: its keys, its certificate, and how it gets a connection. */
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls, createSecureContext, type SecureContext, type TLSSocket } from 'node:tls';
import { toPem } from '../../src/base/pem.js';
import { curves, type Curve } from '../../src/identity/curve.js';

export interface Issued {
  /** DER; shown without its issuer, to every subject. */
  readonly certificate: Uint8Array;
  readonly key: KeyObject;
}

export interface LightAgent {
  readonly curve: Curve;
  /** SPKI DER of the node key. */
  readonly spki: Buffer;
  readonly key: KeyObject;
  /** Of the last certificate; 0 for none. */
  generation: bigint;
  /** Its certificate and session key, once it has them. */
  issued: Issued | undefined;
  /** Made of these. */
  context: SecureContext | undefined;
  socket: TLSSocket | undefined;
  /** When it was last cut off, ms; undefined while it is not. */
  goneAt: number | undefined;
  /** When it last came online, ms. */
  onlineAt: number;
  /** Returns by itself. */
  persists: boolean;
}

const namedCurves = { 'P-256': 'prime256v1', 'P-384': 'secp384r1' } as const;

export function makeAgent(curve: Curve): LightAgent {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: namedCurves[curve] });
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  if (!spki.subarray(0, curves[curve].spkiPrefix.length).equals(curves[curve].spkiPrefix)) {
    throw new Error('a key that is not in its canonical form');
  }
  return {
    curve,
    spki,
    key: privateKey,
    generation: 0n,
    issued: undefined,
    context: undefined,
    socket: undefined,
    goneAt: undefined,
    onlineAt: 0,
    persists: false,
  };
}

/**
 * Made once for each certificate, which takes as long as a handshake does: thousands of machines would share that work
 * out, and here it would take the server's place on the processor.
 */
export function prepareContext(agent: LightAgent): void {
  if (agent.context || !agent.issued) return;
  const { certificate, key } = agent.issued;
  agent.context = createSecureContext({
    cert: toPem(certificate),
    key: key.export({ type: 'pkcs8', format: 'pem' }),
    minVersion: 'TLSv1.3',
  });
}

const anonymous = createSecureContext({ minVersion: 'TLSv1.3' });

export interface TlsWish {
  readonly port: number;
  readonly protocol?: string;
  /** Without one: no certificate is shown. */
  readonly context?: SecureContext | undefined;
  /** Speaks on the plain socket first. */
  readonly prepare?: ((socket: Socket) => Promise<void>) | undefined;
}

/**
 * A connection after its handshake. The server's certificate is not verified: whether nodes do that is for the tests;
 * here it would only take CPU from the server that is measured.
 */
export async function openTls({ port, protocol, context, prepare }: TlsWish): Promise<TLSSocket> {
  const socket = connectTcp({ host: '127.0.0.1', port, noDelay: true });
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  socket.on('error', () => socket.destroy());
  await prepare?.(socket);
  return new Promise((resolve, reject) => {
    const tls = connectTls({
      socket,
      rejectUnauthorized: false,
      secureContext: context ?? anonymous,
      ...(protocol !== undefined && { ALPNProtocols: [protocol] }),
    });
    tls.once('secureConnect', () => {
      tls.removeListener('close', lost);
      tls.on('error', () => tls.destroy());
      resolve(tls);
    });
    const lost = (error?: unknown): void => {
      tls.destroy();
      reject(error instanceof Error ? error : new Error('closed during the handshake'));
    };
    tls.once('error', lost);
    tls.once('close', lost);
  });
}
