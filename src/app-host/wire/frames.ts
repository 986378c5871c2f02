/**
 * Frames on a Unix socket, as docs/app-host-protocol.md has them: a JSON head with one member, which names the frame, and a body of
 * bytes. Incoming frames are bounded before they are read; outgoing ones wait in the socket, and `send` reports when many do.
 */
import type { Socket } from 'node:net';
import { RollcallError, toRollcallError } from '../../base/errors.js';

export interface Frame {
  readonly name: string;
  readonly value: Readonly<Record<string, unknown>>;
  readonly body: Buffer;
}

export interface FrameLimits {
  readonly headBytes: number;
  readonly bodyBytes: number;
}

export const frameLimits: FrameLimits = { headBytes: 1024 * 1024, bodyBytes: 1024 * 1024 + 64 * 1024 };
const prefixBytes = 8;
/** From here on `send` asks its caller to wait. */
const highWaterBytes = 4 * 1024 * 1024;

export function encodeFrame(name: string, value: object, bodyBytes = 0): Buffer {
  const head = Buffer.from(JSON.stringify({ [name]: value }));
  if (head.length > frameLimits.headBytes || bodyBytes > frameLimits.bodyBytes)
    throw new RollcallError('REQUEST_INVALID', `frame "${name}" is too long`);
  const prefix = Buffer.alloc(prefixBytes);
  prefix.writeUInt32LE(head.length, 0);
  prefix.writeUInt32LE(bodyBytes, 4);
  return Buffer.concat([prefix, head]);
}

/** Takes bytes as they come and gives whole frames, one by one. PROTOCOL_INVALID for an invalid frame, or one beyond the present limits. */
export function createFrameReader(
  limitsOf: () => FrameLimits = () => frameLimits,
): (bytes: Buffer) => Generator<Frame, void> {
  let waiting: Buffer[] = [];
  let waitingBytes = 0;
  let wantedBytes = prefixBytes;

  function gather(): Buffer {
    const all = waiting.length === 1 && waiting[0] ? waiting[0] : Buffer.concat(waiting, waitingBytes);
    waiting = [all];
    return all;
  }

  return function* (bytes) {
    if (bytes.length > 0) waiting.push(bytes);
    waitingBytes += bytes.length;
    while (waitingBytes >= wantedBytes) {
      const all = gather();
      const headBytes = all.readUInt32LE(0);
      const bodyBytes = all.readUInt32LE(4);
      const limits = limitsOf();
      if (headBytes > limits.headBytes || bodyBytes > limits.bodyBytes) throw malformed('too long');
      const end = prefixBytes + headBytes + bodyBytes;
      wantedBytes = end;
      if (waitingBytes < end) break;
      const head = all.subarray(prefixBytes, prefixBytes + headBytes);
      // A copy: arrays of a content look into it, and must begin at a multiple of eight.
      const body = Buffer.from(new Uint8Array(all.subarray(prefixBytes + headBytes, end)).buffer);
      const frame = { ...parseHead(head), body };
      waiting = all.length > end ? [all.subarray(end)] : [];
      waitingBytes -= end;
      wantedBytes = prefixBytes;
      yield frame;
    }
  };
}

function parseHead(bytes: Buffer): Omit<Frame, 'body'> {
  let head: unknown;
  try {
    head = JSON.parse(bytes.toString('utf8'));
  } catch (error) {
    throw malformed('the head is not JSON', error);
  }
  if (isObject(head)) {
    const [[name, value] = ['', undefined], ...more] = Object.entries(head);
    if (name !== '' && more.length === 0 && isObject(value)) return { name, value };
  }
  throw malformed('the head must be an object with one member');
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function malformed(what: string, cause?: unknown): RollcallError {
  return new RollcallError('PROTOCOL_INVALID', `invalid frame: ${what}`, { cause });
}

/** Speaks frames on a connected socket, and owns it from then on. The limits of the first frames may be narrower. */
export class FrameConnection {
  readonly #socket: Socket;
  readonly #read: (bytes: Buffer) => Generator<Frame, void>;
  readonly #closeListeners: (() => void)[] = [];
  readonly #pauses = new Set<object>();
  readonly #kept: Frame[] = [];
  #limits: FrameLimits;
  #listener: ((frame: Frame) => void) | undefined;
  #isReading = false;
  #isClosed = false;
  #isLeaving = false;

  constructor(socket: Socket, firstLimits: FrameLimits = frameLimits) {
    this.#socket = socket;
    this.#limits = firstLimits;
    this.#read = createFrameReader(() => this.#limits);
    socket.setNoDelay(true);
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#isClosed = true;
      for (const each of this.#closeListeners.splice(0)) each();
    });
  }

  get closed(): boolean {
    return this.#isClosed;
  }

  /** Gives false when so much waits to be written that the sender should wait for `drained`. Ignored once closed. */
  send(name: string, value: object, body: Uint8Array | readonly Uint8Array[] = []): boolean {
    const socket = this.#socket;
    if (this.#isClosed || socket.destroyed || !socket.writable) return true;
    const parts = body instanceof Uint8Array ? [body] : body;
    const bodyBytes = parts.reduce((sum, part) => sum + part.byteLength, 0);
    // A frame that is too long throws before anything is held back.
    const head = encodeFrame(name, value, bodyBytes);
    socket.cork();
    socket.write(head);
    for (const part of parts) if (part.byteLength > 0) socket.write(part);
    socket.uncork();
    return socket.writableLength < highWaterBytes;
  }

  /** Resolves when little waits to be written, or the connection is closed. */
  async drained(): Promise<void> {
    const socket = this.#socket;
    while (!this.#isClosed && socket.writableLength >= highWaterBytes) {
      await new Promise<void>(resolve => {
        const goOn = (): void => {
          socket.off('drain', goOn).off('close', goOn);
          resolve();
        };
        socket.on('drain', goOn).on('close', goOn);
      });
    }
  }

  /**
   * Frames go to the last listener that was set, and none are read before the first. While it is undefined afterwards,
   * frames are kept for the next listener.
   */
  onFrame(listener: ((frame: Frame) => void) | undefined): void {
    this.#listener = listener;
    while (this.#listener && !this.#isLeaving) {
      const frame = this.#kept.shift();
      if (!frame) break;
      this.#listener(frame);
    }
    if (this.#isReading) return;
    this.#isReading = true;
    this.#socket.on('data', bytes => this.#take(bytes));
  }

  /** Called once, immediately if it is already closed. */
  onClose(listener: () => void): void {
    if (this.#isClosed) listener();
    else this.#closeListeners.push(listener);
  }

  /** Stops reading until every holder that paused it has resumed it. */
  pause(holder: object = this): void {
    this.#pauses.add(holder);
    this.#socket.pause();
  }

  resume(holder: object = this): void {
    this.#pauses.delete(holder);
    if (this.#pauses.size === 0) this.#socket.resume();
  }

  /** Sends the reason and closes; ignores frames that come meanwhile. */
  bye(message: string): void {
    if (this.#isClosed) return;
    this.#isLeaving = true;
    this.send('bye', { message });
    this.#socket.end();
    this.#socket.destroySoon();
  }

  /** Accepts frames of every size from now on, after the narrower limits of the first frames. */
  allowLongFrames(): void {
    this.#limits = frameLimits;
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #take(bytes: Buffer): void {
    if (this.#isLeaving) return;
    try {
      for (const frame of this.#read(bytes)) {
        if (this.#listener) this.#listener(frame);
        else this.#kept.push(frame);
        if (this.#hasLeft()) return;
      }
    } catch (error) {
      this.bye(toRollcallError(error).message);
      this.#socket.destroySoon();
    }
  }

  /** A method, since the compiler takes the field to be unchanged by a listener. */
  #hasLeft(): boolean {
    return this.#isLeaving;
  }
}
