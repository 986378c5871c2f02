/**
 * Contents above 64 KiB, on one connection of a runner: read from the other side and written to it, in chunks that are checked
 * one by one. A content is in memory once, as the arrays of the app; its chunks are views of them where possible.
 */
import { RollcallError } from '../../base/errors.js';
import { createKeyedQueue } from '../../base/keyed-queue.js';
import { chunkBytes } from '../../objects/limits.js';
import {
  chunkLengthOf,
  digestOfChunk,
  isDigest,
  parseManifest,
  readChunkOf,
  type Manifest,
} from '../../objects/manifest.js';
import type { Frame, FrameConnection } from '../wire/frames.js';

export interface ObjectName {
  /** Hex. */
  readonly digest: string;
  readonly sizeBytes: number;
}

interface Waiting {
  readonly resolve: (frame: Frame) => void;
  readonly reject: (error: Error) => void;
}

/** Chunks that were requested and have not come. */
const maxChunksInFlight = 4;

/** PROTOCOL_INVALID for what names no object. */
export function parseObjectName(value: unknown): ObjectName {
  const { digest, sizeBytes } = (value ?? {}) as Partial<Record<string, unknown>>;
  if (typeof digest === 'string' && isDigest(digest) && typeof sizeBytes === 'number')
    return { digest, sizeBytes };
  throw malformed('invalid name');
}

export class ObjectTransfer {
  readonly #connection: FrameConnection;
  /** By the frame that is waited for, and of which object. */
  readonly #waiting = new Map<string, Waiting>();
  readonly #inTurn = createKeyedQueue();

  constructor(connection: FrameConnection) {
    this.#connection = connection;
    connection.onClose(() => this.#rejectAll(closed()));
  }

  /** True for a frame about objects, which it took. */
  take(frame: Frame): boolean {
    const { name, value } = frame;
    const digest = String(value['digest']);
    switch (name) {
      case 'manifest':
      case 'wants':
      case 'stored':
        this.#settle(`${name} ${digest}`, frame);
        return true;
      case 'chunk':
        this.#settle(`chunk ${digest} ${String(value['chunk'])}`, frame);
        return true;
      case 'lost':
        this.#rejectAll(lost(), key => key === `manifest ${digest}` || key.startsWith(`chunk ${digest} `));
        return true;
      case 'refused':
        this.#rejectAll(
          refused(String(value['message'])),
          key => key === `wants ${digest}` || key === `stored ${digest}`,
        );
        return true;
      default:
        return false;
    }
  }

  /** All of it. NOT_FOUND when it is lost, PROTOCOL_INVALID when it is not what its name says, LINK_UNREACHABLE when closed. */
  read(object: ObjectName): Promise<Buffer> {
    return this.#inTurn(`read ${object.digest}`, async () => {
      const manifest = await this.#readManifest(object);
      const all = allocate(manifest.sizeBytes);
      await this.#readChunks(manifest, all);
      return all;
    });
  }

  /** Resolves when it is on the other side's disk. REQUEST_INVALID when it is refused, LINK_UNREACHABLE when closed. */
  write(manifest: Manifest, parts: readonly Uint8Array[]): Promise<void> {
    return this.#inTurn('write', () => this.#write(manifest, parts));
  }

  #waitFor(key: string): Promise<Frame> {
    return new Promise((resolve, reject) => {
      if (this.#connection.closed) reject(closed());
      else this.#waiting.set(key, { resolve, reject });
    });
  }

  #request(name: string, value: object, key: string, body?: Uint8Array): Promise<Frame> {
    const answer = this.#waitFor(key);
    this.#connection.send(name, value, body);
    return answer;
  }

  #settle(key: string, frame: Frame): void {
    const waiting = this.#waiting.get(key);
    this.#waiting.delete(key);
    waiting?.resolve(frame);
  }

  #rejectAll(error: Error, isMeant: (key: string) => boolean = () => true): void {
    for (const [key, { reject }] of this.#waiting) {
      if (!isMeant(key)) continue;
      this.#waiting.delete(key);
      reject(error);
    }
  }

  async #readManifest({ digest, sizeBytes }: ObjectName): Promise<Manifest> {
    const { body } = await this.#request('get', { digest }, `manifest ${digest}`);
    const manifest = parseManifest(body);
    if (manifest.digest !== digest || manifest.sizeBytes !== sizeBytes)
      throw malformed('its manifest is that of another');
    return manifest;
  }

  async #readChunks(manifest: Manifest, into: Buffer): Promise<void> {
    const { digest, chunks } = manifest;
    let next = 0;
    const readOn = async (): Promise<void> => {
      for (let chunk = next++; chunk < chunks.length; chunk = next++) {
        const { body } = await this.#request('get', { digest, chunk }, `chunk ${digest} ${chunk}`);
        if (body.length !== chunkLengthOf(manifest, chunk) || digestOfChunk(body) !== chunks[chunk])
          throw malformed(`its chunk ${chunk} is another`);
        body.copy(into, chunk * chunkBytes);
      }
    };
    const lanes = Array.from({ length: maxChunksInFlight }, readOn);
    // All lanes have stopped before the first failure is told, so that none of their chunks comes into the next read.
    const failed = (await Promise.allSettled(lanes)).find(lane => lane.status === 'rejected');
    if (failed) throw failed.reason;
  }

  async #write(manifest: Manifest, parts: readonly Uint8Array[]): Promise<void> {
    const { digest } = manifest;
    const stored = this.#waitFor(`stored ${digest}`);
    // It may fail before anything awaits it.
    stored.catch(() => undefined);
    const wants = this.#request('put', { digest }, `wants ${digest}`, manifest.bytes);
    const answer = await Promise.race([wants, stored]);
    for (const chunk of answer.name === 'wants' ? parseChunks(answer.value['chunks'], manifest) : []) {
      this.#connection.send('chunk', { digest, chunk }, readChunkOf(parts, chunk));
      await this.#connection.drained();
      if (!this.#waiting.has(`stored ${digest}`)) break;
    }
    await stored;
    this.#waiting.delete(`wants ${digest}`);
  }
}

/** Memory that nothing else shares, so that arrays may be views of it; every octet is written before it is read. */
function allocate(sizeBytes: number): Buffer {
  try {
    return Buffer.allocUnsafeSlow(sizeBytes);
  } catch (cause) {
    throw new RollcallError('REQUEST_INVALID', `a content of ${sizeBytes} bytes does not fit in memory`, {
      cause,
    });
  }
}

function parseChunks(value: unknown, manifest: Manifest): readonly number[] {
  const isChunk = (each: unknown): boolean => typeof each === 'number' && manifest.chunks[each] !== undefined;
  if (Array.isArray(value) && value.length <= manifest.chunks.length && value.every(isChunk))
    return value as number[];
  throw malformed('chunks are wanted that it does not have');
}

function closed(): RollcallError {
  return new RollcallError('LINK_UNREACHABLE', 'the connection was closed while a content travelled');
}

function lost(): RollcallError {
  return new RollcallError('NOT_FOUND', 'the content cannot be had any more');
}

function refused(message: string): RollcallError {
  return new RollcallError('REQUEST_INVALID', `the content was refused: ${message}`);
}

function malformed(what: string): RollcallError {
  return new RollcallError('PROTOCOL_INVALID', `this is no object of a content: ${what}`);
}
