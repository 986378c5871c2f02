/**
 * Frames on a Unix socket, as docs/app-host-protocol.md has them: a JSON head with one member, which names the frame, and a body of
 * bytes. What comes is bounded before it is read; what goes waits in the socket, and anyone who sends much asks how much does.
 */
import type { Socket } from 'node:net';
import { RollcallError, toRollcallError } from '../../base/errors.js';

export interface Frame {
  readonly name: string;
  readonly value: Readonly<Record<string, unknown>>;
  readonly body: Buffer;
}

export interface FrameConnection {
  /** Gives false when so much waits to be written that the sender should wait for `drained`. Nothing on a closed one. */
  send(name: string, value: object, body?: Uint8Array | readonly Uint8Array[]): boolean;
  /** Resolves when little waits any more, or the connection is closed. */
  drained(): Promise<void>;
  /** Frames come to the last listener that was set; none are read before there is one. */
  onFrame(listener: (frame: Frame) => void): void;
  /** Called once, at once when it is closed already. */
  onClose(listener: () => void): void;
  /** Reads no more until everybody who paused it has resumed it; a holder does so for itself alone. */
  pause(holder?: object): void;
  resume(holder?: object): void;
  /** Says why, and closes; what comes meanwhile is passed over. */
  bye(message: string): void;
  /** Takes frames of every size from now on, where it was made to take short ones first. */
  allowLongFrames(): void;
  destroy(): void;
  readonly closed: boolean;
}

export interface FrameLimits {
  readonly headBytes: number;
  readonly bodyBytes: number;
}

export const frameLimits: FrameLimits = { headBytes: 1024 * 1024, bodyBytes: 1024 * 1024 + 64 * 1024 };
const prefixBytes = 8;
/** More than this waiting to be written is much. */
const highWaterBytes = 4 * 1024 * 1024;

export function encodeFrame(name: string, value: object, bodyBytes = 0): Buffer {
  const head = Buffer.from(JSON.stringify({ [name]: value }));
  if (head.length > frameLimits.headBytes || bodyBytes > frameLimits.bodyBytes)
    throw new RollcallError('REQUEST_INVALID', `a frame "${name}" would be too long`);
  const prefix = Buffer.alloc(prefixBytes);
  prefix.writeUInt32LE(head.length, 0);
  prefix.writeUInt32LE(bodyBytes, 4);
  return Buffer.concat([prefix, head]);
}

/** Takes bytes as they come and gives whole frames, one by one. PROTOCOL_INVALID for an invalid frame, or one longer than the limits of now. */
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
      if (headBytes > limits.headBytes || bodyBytes > limits.bodyBytes) throw malformed('it is too long');
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
    throw malformed('its head is no JSON', error);
  }
  if (isObject(head)) {
    const [[name, value] = ['', undefined], ...more] = Object.entries(head);
    if (name !== '' && more.length === 0 && isObject(value)) return { name, value };
  }
  throw malformed('its head is no object with one member');
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function malformed(what: string, cause?: unknown): RollcallError {
  return new RollcallError('PROTOCOL_INVALID', `this is no frame of an app host: ${what}`, { cause });
}

/** Speaks frames on a connected socket, which belongs to it from then on. The limits of the first frames may be narrower. */
export function createFrameConnection(
  socket: Socket,
  firstLimits: FrameLimits = frameLimits,
): FrameConnection {
  let limits = firstLimits;
  const read = createFrameReader(() => limits);
  const closeListeners: (() => void)[] = [];
  const pauses = new Set<object>();
  let listener: ((frame: Frame) => void) | undefined;
  let closed = false;
  let isLeaving = false;

  function bye(message: string): void {
    if (closed) return;
    isLeaving = true;
    send('bye', { message });
    socket.end();
    socket.destroySoon();
  }

  function send(name: string, value: object, body: Uint8Array | readonly Uint8Array[] = []): boolean {
    if (closed || socket.destroyed || !socket.writable) return true;
    const parts = body instanceof Uint8Array ? [body] : body;
    const bodyBytes = parts.reduce((sum, part) => sum + part.byteLength, 0);
    // What is too long throws before anything is held back.
    const head = encodeFrame(name, value, bodyBytes);
    // Frames of one turn of the event loop leave in one write.
    socket.cork();
    process.nextTick(() => socket.uncork());
    socket.write(head);
    for (const part of parts) if (part.byteLength > 0) socket.write(part);
    return socket.writableLength < highWaterBytes;
  }

  const hasLeft = (): boolean => isLeaving;

  function take(bytes: Buffer): void {
    try {
      for (const frame of hasLeft() ? [] : read(bytes)) {
        listener?.(frame);
        if (hasLeft()) return;
      }
    } catch (error) {
      bye(toRollcallError(error).message);
      socket.destroySoon();
    }
  }

  socket.setNoDelay(true);
  socket.on('error', () => undefined);
  socket.on('close', () => {
    closed = true;
    for (const each of closeListeners.splice(0)) each();
  });

  return {
    send,
    async drained() {
      while (!closed && socket.writableLength >= highWaterBytes) {
        await new Promise<void>(resolve => {
          const goOn = (): void => {
            socket.off('drain', goOn).off('close', goOn);
            resolve();
          };
          socket.on('drain', goOn).on('close', goOn);
        });
      }
    },
    onFrame(next) {
      const isFirst = listener === undefined;
      listener = next;
      if (isFirst) socket.on('data', take);
    },
    onClose(call) {
      if (closed) call();
      else closeListeners.push(call);
    },
    pause(holder = pauses) {
      pauses.add(holder);
      socket.pause();
    },
    resume(holder = pauses) {
      pauses.delete(holder);
      if (pauses.size === 0) socket.resume();
    },
    bye,
    allowLongFrames: () => void (limits = frameLimits),
    destroy: () => void socket.destroy(),
    get closed() {
      return closed;
    },
  };
}
