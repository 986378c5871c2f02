/**
 * One side of a connection that carries frames, over an open socket. Frames are handled one after the other: while
 * the handler of one runs, the next waits, and nothing more is read from the socket. Frames sent within one turn of
 * the event loop leave in one write. Both sides use it: the link reads NodeFrames and sends LinkFrames, the agent the
 * other way round.
 */
import type { Duplex } from 'node:stream';
import { RollcallError, toRollcallError } from '../base/errors.js';
import { encodeLength, FrameReader } from './frames.js';

/** The encoding of frames of one direction; a message type of the generated code. */
export interface FrameCodec<Frame> {
  encode(frame: Frame): { finish(): Uint8Array };
  decode(bytes: Uint8Array): Frame;
}

export interface FrameStreamOptions<In, Out> {
  readonly socket: Duplex;
  readonly incoming: FrameCodec<In>;
  readonly outgoing: FrameCodec<Out>;
  /** The maximum length of a received frame, bytes. */
  readonly maxFrameBytes: number;
  /** The maximum of bytes that wait for a peer that does not read; beyond it the connection is destroyed. */
  readonly maxQueuedBytes: number;
}

export interface FrameHandlers<In> {
  /** Called for each frame in order; waits for its promise, if any. An error goes to `failed`. */
  frame(frame: In): Promise<void> | undefined;
  /** The peer has closed its side, between two frames. */
  ended(): void;
  /** A frame could not be read, or its handler failed. Nothing more is read. */
  failed(error: unknown): void;
}

/** Waiting frames up to this size are copied into one buffer, bytes; the socket gathers larger ones. */
const maxCopiedBytes = 16 * 1024;

export class FrameStream<In, Out> {
  readonly #socket: Duplex;
  readonly #options: FrameStreamOptions<In, Out>;
  readonly #reader: FrameReader;
  #handlers: FrameHandlers<In> | undefined;
  #outbox: Uint8Array[] = [];
  #outboxBytes = 0;
  #isFlushing = false;
  #isBusy = false;
  #isOver = false;
  #isEnded = false;
  #hasPeerEnded = false;

  constructor(options: FrameStreamOptions<In, Out>) {
    this.#options = options;
    this.#socket = options.socket;
    this.#reader = new FrameReader(options.maxFrameBytes);
  }

  /** Starts reading. To be called once. */
  serve(handlers: FrameHandlers<In>): void {
    this.#handlers = handlers;
    this.#socket.on('data', (chunk: Buffer) => {
      if (this.#isOver) return;
      this.#reader.add(chunk);
      this.#read();
    });
    this.#socket.on('end', () => {
      this.#hasPeerEnded = true;
      if (!this.#isBusy) this.#endRead();
    });
  }

  /** The maximum length of a frame from now on, bytes. */
  set maxFrameBytes(bytes: number) {
    this.#reader.maxBytes = bytes;
  }

  /** Returns false when the peer reads more slowly than this side sends; drained() resolves when it may continue. */
  send(frame: Out): boolean {
    if (this.#isEnded || this.#socket.destroyed) return true;
    const message = this.#options.outgoing.encode(frame).finish();
    const length = encodeLength(message.length);
    this.#outbox.push(length, message);
    this.#outboxBytes += length.length + message.length;
    if (this.#queuedBytes > this.#options.maxQueuedBytes) {
      this.destroy();
      return true;
    }
    if (!this.#isFlushing) {
      this.#isFlushing = true;
      process.nextTick(() => this.#flush());
    }
    return this.#queuedBytes < this.#socket.writableHighWaterMark;
  }

  /** Resolves when little waits to be sent, or the connection has ended. */
  drained(): Promise<void> {
    this.#flush();
    return new Promise(resolve => {
      const done = (): void => {
        this.#socket.off('drain', done).off('close', done);
        resolve();
      };
      if (this.#socket.writableNeedDrain && !this.#socket.destroyed)
        this.#socket.on('drain', done).on('close', done);
      else resolve();
    });
  }

  /** Sends the waiting frames, then closes this side. Nothing is sent after it. */
  end(): void {
    if (this.#isEnded) return;
    this.#flush();
    this.#isEnded = true;
    if (!this.#socket.destroyed) this.#socket.end();
  }

  /** Stops reading: later bytes are discarded. */
  stopReading(): void {
    this.#isOver = true;
    this.#socket.resume();
  }

  destroy(): void {
    this.#isOver = true;
    this.#socket.destroy();
  }

  get #queuedBytes(): number {
    return this.#outboxBytes + this.#socket.writableLength;
  }

  #flush(): void {
    this.#isFlushing = false;
    if (this.#outbox.length === 0) return;
    const [parts, bytes] = [this.#outbox, this.#outboxBytes];
    this.#outbox = [];
    this.#outboxBytes = 0;
    if (this.#socket.destroyed) return;
    if (bytes <= maxCopiedBytes) {
      this.#socket.write(Buffer.concat(parts, bytes));
      return;
    }
    this.#socket.cork();
    for (const part of parts) this.#socket.write(part);
    this.#socket.uncork();
  }

  #read(): void {
    try {
      while (!this.#isOver) {
        const bytes = this.#reader.next();
        if (bytes === undefined) break;
        const work = this.#handlers?.frame(this.#decode(bytes));
        if (work) {
          this.#waitFor(work);
          return;
        }
      }
    } catch (error) {
      this.#fail(error);
      return;
    }
    if (this.#hasPeerEnded) this.#endRead();
  }

  /** Pauses the socket while the handler of a frame runs. */
  #waitFor(work: Promise<void>): void {
    this.#isBusy = true;
    this.#socket.pause();
    work.then(
      () => {
        this.#isBusy = false;
        this.#read();
        this.#readOn();
      },
      (error: unknown) => this.#fail(error),
    );
  }

  #readOn(): void {
    if (!this.#isBusy) this.#socket.resume();
  }

  #decode(bytes: Buffer): In {
    try {
      return this.#options.incoming.decode(bytes);
    } catch (cause) {
      throw new RollcallError('PROTOCOL_INVALID', 'a frame that cannot be decoded', { cause });
    }
  }

  #endRead(): void {
    if (this.#isOver) return;
    if (this.#reader.isBetweenFrames) this.#handlers?.ended();
    else this.#fail(new RollcallError('PROTOCOL_INVALID', 'the connection ended within a frame'));
  }

  #fail(thrown: unknown): void {
    if (this.#isOver) return;
    this.stopReading();
    this.#handlers?.failed(toRollcallError(thrown));
  }
}
