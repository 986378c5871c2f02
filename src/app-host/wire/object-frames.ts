/**
 * Objects on the connection of a runner, for the side that hosts it: `get` is answered from what the run may read, `put` and
 * `chunk` go where it may write. Frames are dealt with one after the other, and no more are read meanwhile, so that neither
 * side's memory grows with an object. One object is written at a time: the next `put` gives the one before up; its chunks
 * stay where they are.
 */
import { RollcallError, toRollcallError } from '../../base/errors.js';
import { isDigest, parseManifest, type Manifest } from '../../objects/manifest.js';
import type { Frame, FrameConnection } from './frames.js';

/** The part of a bucket (src/objects/object-store.ts) that the frames need. */
export interface ObjectPort {
  find(digest: string): Promise<Manifest | undefined>;
  /** Checked against its digest. */
  readChunk(manifest: Manifest, index: number): Promise<Buffer>;
  /** Gives the chunks that are not there yet. */
  begin(manifest: Manifest): Promise<readonly number[]>;
  /** Checks it against its digest. */
  writeChunk(manifest: Manifest, index: number, bytes: Uint8Array): Promise<void>;
  /** All of it is on the disk when it resolves. */
  finish(manifest: Manifest): Promise<void>;
}

export interface ObjectsOfRunner {
  /** Only what the run may read. */
  readonly readable: (
    digest: string,
  ) => Promise<{ readonly manifest: Manifest; readonly bucket: Pick<ObjectPort, 'readChunk'> } | undefined>;
  readonly writable: Pick<ObjectPort, 'begin' | 'writeChunk' | 'finish'>;
  /** An object is there; it is told to the runner when this is done. */
  readonly onStored?: ((manifest: Manifest) => void | Promise<void>) | undefined;
}

interface Writing {
  readonly manifest: Manifest;
  readonly missing: Set<number>;
}

interface Conversation {
  writing: Writing | undefined;
  readonly waiting: (() => Promise<void>)[];
  isAtWork: boolean;
}

const conversations = new WeakMap<FrameConnection, Conversation>();

/** True when the frame was about an object; it is dealt with in its turn. */
export function handleObjectFrame(
  connection: FrameConnection,
  frame: Frame,
  objects: ObjectsOfRunner,
): boolean {
  const { name, value, body } = frame;
  if (name !== 'get' && name !== 'put' && name !== 'chunk') return false;
  const { digest, chunk } = value;
  if (typeof digest !== 'string' || !isDigest(digest) || !isChunkOf(name, chunk)) {
    connection.bye(`invalid frame "${name}"`);
    return true;
  }
  const conversation = conversationOf(connection);
  const work = {
    get: () => answerGet(connection, digest, chunk, objects),
    put: () => beginWriting(connection, conversation, digest, body, objects),
    chunk: () => takeChunk(connection, conversation, digest, chunk ?? 0, body, objects),
  };
  conversation.waiting.push(work[name]);
  if (!conversation.isAtWork) void doWaiting(connection, conversation);
  return true;
}

function isChunkOf(name: 'get' | 'put' | 'chunk', chunk: unknown): chunk is number | undefined {
  if (chunk === undefined) return name !== 'chunk';
  return name !== 'put' && typeof chunk === 'number' && Number.isSafeInteger(chunk) && chunk >= 0;
}

function conversationOf(connection: FrameConnection): Conversation {
  const found = conversations.get(connection) ?? { writing: undefined, waiting: [], isAtWork: false };
  conversations.set(connection, found);
  return found;
}

async function doWaiting(connection: FrameConnection, conversation: Conversation): Promise<void> {
  conversation.isAtWork = true;
  connection.pause(conversation);
  for (
    let work = conversation.waiting.shift();
    work && !connection.closed;
    work = conversation.waiting.shift()
  ) {
    await work();
    await connection.drained();
  }
  conversation.isAtWork = false;
  connection.resume(conversation);
}

async function answerGet(
  connection: FrameConnection,
  digest: string,
  chunk: number | undefined,
  { readable }: ObjectsOfRunner,
): Promise<void> {
  try {
    const found = await readable(digest);
    if (!found) connection.send('lost', { digest });
    else if (chunk === undefined) connection.send('manifest', { digest }, found.manifest.bytes);
    else connection.send('chunk', { digest, chunk }, await found.bucket.readChunk(found.manifest, chunk));
  } catch {
    // For any reason: the object is not available here.
    connection.send('lost', { digest });
  }
}

async function beginWriting(
  connection: FrameConnection,
  conversation: Conversation,
  digest: string,
  body: Buffer,
  objects: ObjectsOfRunner,
): Promise<void> {
  if (conversation.writing)
    refuse(connection, conversation.writing.manifest.digest, 'another object was begun');
  conversation.writing = undefined;
  await orRefuse(connection, conversation, digest, async () => {
    const manifest = parseManifest(body);
    if (manifest.digest !== digest) throw refusal('the manifest has another digest');
    const missing = await objects.writable.begin(manifest);
    conversation.writing = { manifest, missing: new Set(missing) };
    connection.send('wants', { digest, chunks: missing });
    if (missing.length === 0) await finishWriting(connection, conversation, manifest, objects);
  });
}

async function takeChunk(
  connection: FrameConnection,
  conversation: Conversation,
  digest: string,
  chunk: number,
  body: Buffer,
  objects: ObjectsOfRunner,
): Promise<void> {
  const { writing } = conversation;
  // Chunks of an object that was refused are on the way still.
  if (writing?.manifest.digest !== digest) return;
  await orRefuse(connection, conversation, digest, async () => {
    const { manifest, missing } = writing;
    if (!missing.has(chunk)) throw refusal('a chunk came that was not asked for');
    await objects.writable.writeChunk(manifest, chunk, body);
    missing.delete(chunk);
    if (missing.size === 0) await finishWriting(connection, conversation, manifest, objects);
  });
}

async function finishWriting(
  connection: FrameConnection,
  conversation: Conversation,
  manifest: Manifest,
  { writable, onStored }: ObjectsOfRunner,
): Promise<void> {
  await writable.finish(manifest);
  await onStored?.(manifest);
  conversation.writing = undefined;
  connection.send('stored', { digest: manifest.digest });
}

/** An object that cannot be written is given up, and the reason told. */
async function orRefuse(
  connection: FrameConnection,
  conversation: Conversation,
  digest: string,
  work: () => Promise<void>,
): Promise<void> {
  try {
    await work();
  } catch (error) {
    conversation.writing = undefined;
    refuse(connection, digest, toRollcallError(error).message);
  }
}

function refuse(connection: FrameConnection, digest: string, message: string): void {
  connection.send('refused', { digest, message });
}

function refusal(what: string): RollcallError {
  return new RollcallError('REQUEST_INVALID', what);
}
