/** The node port by hand: a TLS connection, the bytes that a test writes on it, and every frame that comes back. */
import type { TLSSocket } from 'node:tls';
import { exporterBytes, exporterLabel } from '../../src/identity/binding.js';
import type { PrivateKey } from '../../src/identity/private-key.js';
import { encodeLength, FrameReader } from '../../src/protocol/frames.js';
import type { Challenge, Hello, Proof } from '../../src/protocol/generated/rollcall/v1/enrollment.js';
import { LinkFrame, NodeFrame, type Ready } from '../../src/protocol/generated/rollcall/v1/link.js';
import { defaultTenant, limits } from '../../src/protocol/limits.js';

export type Heard = NonNullable<LinkFrame['frame']>;

export interface Ended {
  /** Of the error frame; empty when there was none. */
  readonly code: string;
  /** Every byte that came after the last challenge that was taken, in order, as hex. */
  readonly heard: string;
}

export class RawFrames {
  readonly tls: TLSSocket;
  /** Resolves when the link has sent the reason of the end, or the connection is over. */
  readonly ended: Promise<Ended>;
  /** Every frame that came, oldest first. */
  readonly heard: Heard[] = [];
  readonly #frames: Heard[] = [];
  readonly #chunks: Buffer[] = [];
  readonly #reader = new FrameReader(limits.messageBytes);
  #finish: (ended: Ended) => void = () => undefined;
  #wake: () => void = () => undefined;
  #isOver = false;

  constructor(tls: TLSSocket) {
    this.tls = tls;
    this.ended = new Promise(resolve => (this.#finish = resolve));
    tls.on('error', () => undefined);
    tls.on('data', (chunk: Buffer) => this.#hear(chunk));
    tls.on('close', () => this.#end(''));
  }

  /** Bytes as they are. */
  write(bytes: Uint8Array): void {
    this.tls.write(bytes);
  }

  /** Messages in frames, all in one write. */
  send(...messages: readonly Uint8Array[]): void {
    this.write(Buffer.concat(messages.map(framed)));
  }

  /** The next frame of the link; rejects when the connection ends before it. */
  async next(): Promise<Heard> {
    for (;;) {
      const frame = this.#frames.shift();
      if (frame) return frame;
      if (this.#isOver) throw new Error(`the connection ended: ${(await this.ended).code}`);
      await new Promise<void>(resolve => (this.#wake = resolve));
    }
  }

  async challenge(): Promise<Challenge> {
    const frame = await this.next();
    if (frame.$case !== 'challenge') throw new Error(`${frame.$case} and no challenge`);
    this.#chunks.length = 0;
    return frame.value;
  }

  /** The binding of a proof to this connection. */
  exporter(): Buffer {
    return this.tls.exportKeyingMaterial(exporterBytes, exporterLabel, Buffer.alloc(0));
  }

  destroy(): void {
    this.tls.destroy();
  }

  #hear(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#reader.add(chunk);
    for (let bytes = this.#reader.next(); bytes !== undefined; bytes = this.#reader.next()) {
      const { frame } = LinkFrame.decode(bytes);
      if (frame) {
        this.heard.push(frame);
        this.#frames.push(frame);
      }
      if (frame?.$case === 'error') this.#end(frame.value.code);
    }
    this.#wake();
  }

  #end(code: string): void {
    this.#isOver = true;
    this.#finish({ code, heard: Buffer.concat(this.#chunks).toString('hex') });
    this.#wake();
  }
}

/** The frame around a message. */
export function framed(message: Uint8Array): Buffer {
  return Buffer.concat([encodeLength(message.length), message]);
}

export function helloBytes(key: PrivateKey, changes: Partial<Hello> = {}): Uint8Array {
  const value: Hello = {
    protocolVersions: [1],
    tenant: defaultTenant,
    publicKey: key.publicKey.spki,
    bindingType: 'tls-exporter',
    agentVersion: 'raw',
    nodeClockMs: BigInt(Date.now()),
    trustDomain: '',
    ...changes,
  };
  return NodeFrame.encode({ frame: { $case: 'hello', value } }).finish();
}

export function proofBytes(value: Proof): Uint8Array {
  return NodeFrame.encode({ frame: { $case: 'proof', value } }).finish();
}

export function readyBytes(changes: Partial<Ready> = {}): Uint8Array {
  const value = { protocolVersion: 1, agentVersion: 'raw', nodeClockMs: 0n, runs: [], ...changes };
  return NodeFrame.encode({ frame: { $case: 'ready', value } }).finish();
}
