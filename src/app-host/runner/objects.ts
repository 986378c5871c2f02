/**
 * Contents above 64 KiB, on one connection of a runner: read from the other side and written to it, in chunks that are checked
 * one by one. A content is in memory once, as the arrays of the app; chunks are views of it wherever that can be.
 */
import { RollcallError } from '../../base/errors.js';
import { createTurns } from '../../base/keyed-queue.js';
import {
  chunkBytes,
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

export interface ObjectTransfer {
  /** True for a frame about objects, which it took. */
  take(frame: Frame): boolean;
  /** All of it. NOT_FOUND when it is lost, PROTOCOL_INVALID when it is not what its name says, LINK_UNREACHABLE when closed. */
  read(object: ObjectName): Promise<Buffer>;
  /** Resolves when it is on the other side's disk. REQUEST_INVALID when it is refused, LINK_UNREACHABLE when closed. */
  write(manifest: Manifest, parts: readonly Uint8Array[]): Promise<void>;
}

interface Waiting {
  readonly resolve: (frame: Frame) => void;
  readonly reject: (error: Error) => void;
}

/** Chunks that are asked for and have not come. */
const chunksInFlight = 4;

/** PROTOCOL_INVALID for what names no object. */
export function parseObjectName(value: unknown): ObjectName {
  const { digest, sizeBytes } = (value ?? {}) as Partial<Record<string, unknown>>;
  if (typeof digest === 'string' && isDigest(digest) && typeof sizeBytes === 'number')
    return { digest, sizeBytes };
  throw malformed('a name of it is none');
}

export function createObjectTransfer(connection: FrameConnection): ObjectTransfer {
  const waiting = new Map<string, Waiting>();
  const inTurn = createTurns();

  /** `key`: the frame that is waited for, and what of which object. */
  function waitFor(key: string): Promise<Frame> {
    return new Promise((resolve, reject) => {
      if (connection.closed) reject(closed());
      else waiting.set(key, { resolve, reject });
    });
  }

  function ask(name: string, value: object, key: string, body?: Uint8Array): Promise<Frame> {
    const answer = waitFor(key);
    connection.send(name, value, body);
    return answer;
  }

  function rejectAll(error: Error, isMeant: (key: string) => boolean = () => true): void {
    for (const [key, { reject }] of waiting) {
      if (!isMeant(key)) continue;
      waiting.delete(key);
      reject(error);
    }
  }

  function settle(key: string, frame: Frame): void {
    const waits = waiting.get(key);
    waiting.delete(key);
    waits?.resolve(frame);
  }

  async function readManifest({ digest, sizeBytes }: ObjectName): Promise<Manifest> {
    const { body } = await ask('get', { digest }, `manifest ${digest}`);
    const manifest = parseManifest(body);
    if (manifest.digest !== digest || manifest.sizeBytes !== sizeBytes)
      throw malformed('its manifest is that of another');
    return manifest;
  }

  async function readChunks(manifest: Manifest, into: Buffer): Promise<void> {
    const { digest, chunks } = manifest;
    let next = 0;
    const readOn = async (): Promise<void> => {
      for (let chunk = next++; chunk < chunks.length; chunk = next++) {
        const { body } = await ask('get', { digest, chunk }, `chunk ${digest} ${chunk}`);
        if (body.length !== chunkLengthOf(manifest, chunk) || digestOfChunk(body) !== chunks[chunk])
          throw malformed(`its chunk ${chunk} is another`);
        body.copy(into, chunk * chunkBytes);
      }
    };
    const lanes = Array.from({ length: chunksInFlight }, readOn);
    // All have stopped before the first failure is told, so that nothing of it comes into the next read.
    const failed = (await Promise.allSettled(lanes)).find(lane => lane.status === 'rejected');
    if (failed) throw failed.reason;
  }

  async function writeNow(manifest: Manifest, parts: readonly Uint8Array[]): Promise<void> {
    const { digest } = manifest;
    const stored = waitFor(`stored ${digest}`);
    // It may fail while nobody looks.
    stored.catch(() => undefined);
    const answer = await Promise.race([ask('put', { digest }, `wants ${digest}`, manifest.bytes), stored]);
    for (const chunk of answer.name === 'wants' ? parseChunks(answer.value['chunks'], manifest) : []) {
      connection.send('chunk', { digest, chunk }, readChunkOf(parts, chunk));
      await connection.drained();
      if (!waiting.has(`stored ${digest}`)) break;
    }
    await stored;
    waiting.delete(`wants ${digest}`);
  }

  connection.onClose(() => rejectAll(closed()));
  return {
    take(frame) {
      const { name, value } = frame;
      const digest = String(value['digest']);
      switch (name) {
        case 'manifest':
        case 'wants':
        case 'stored':
          settle(`${name} ${digest}`, frame);
          return true;
        case 'chunk':
          settle(`chunk ${digest} ${String(value['chunk'])}`, frame);
          return true;
        case 'lost':
          rejectAll(lost(), key => key === `manifest ${digest}` || key.startsWith(`chunk ${digest} `));
          return true;
        case 'refused':
          rejectAll(
            refused(String(value['message'])),
            key => key === `wants ${digest}` || key === `stored ${digest}`,
          );
          return true;
        default:
          return false;
      }
    },
    read: object =>
      inTurn(`read ${object.digest}`, async () => {
        const manifest = await readManifest(object);
        const all = allocate(manifest.sizeBytes);
        await readChunks(manifest, all);
        return all;
      }),
    write: (manifest, parts) => inTurn('write', () => writeNow(manifest, parts)),
  };
}

/** Memory of its own, so that arrays may look into it; every octet is written before anyone reads it. */
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
