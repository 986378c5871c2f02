/**
 * The objects of one run on this node, in three buckets: the app, contents of messages, and contents of answers. What is not
 * here is fetched from the link, as often as it takes.
 */
import { isRollcallError, RollcallError } from '../../base/errors.js';
import { isDigest, type Manifest } from '../../objects/manifest.js';
import type { ObjectBucket } from '../../objects/object-store.js';
import type { Deliver } from '../../protocol/generated/rollcall/v1/link.js';
import { inlineContentOf, objectDigestOf } from './message-body.js';
import { fetchObject } from './object-transfer.js';
import type { RunContext } from './run-context.js';

/** The owner of a bucket on this node. */
export type LocalParty = 'app' | 'in' | 'out';

export interface FetchedObject {
  readonly manifest: Manifest;
  readonly bucket: ObjectBucket;
}

/** How often the link may send something that is not the object. */
const maxInvalidReplies = 3;

export class RunObjects {
  readonly #run: bigint;
  readonly #context: RunContext;

  constructor(run: bigint, context: RunContext) {
    this.#run = run;
    this.#context = context;
  }

  async bucket(party: LocalParty): Promise<ObjectBucket> {
    return (await this.#context.objects()).bucket(this.#run.toString(), party);
  }

  /** NOT_FOUND when the link will never have it. */
  async fetch(digest: string, party: LocalParty, signal: AbortSignal): Promise<FetchedObject> {
    const bucket = await this.bucket(party);
    if (!isDigest(digest)) throw new RollcallError('NOT_FOUND', 'invalid digest of an object');
    const here = await this.#context.persist(() => bucket.find(digest), signal);
    return { manifest: here ?? (await this.#fetchInto(bucket, digest, signal)), bucket };
  }

  /** The content of a message. Undefined when the link does not have its object any more. */
  async content(deliver: Deliver, signal: AbortSignal): Promise<Uint8Array | FetchedObject | undefined> {
    const digest = objectDigestOf(deliver);
    if (digest === undefined) return inlineContentOf(deliver);
    try {
      const fetched = await this.fetch(digest, 'in', signal);
      // `retainContent` was called before the object was here, and holds it only from now on.
      fetched.bucket.retain(digest);
      await fetched.bucket.release(digest);
      return fetched;
    } catch (error) {
      if (isLost(error)) return undefined;
      throw error;
    }
  }

  /** Until `releaseContent`: several messages may carry the same object. */
  retainContent(deliver: Deliver): void {
    const digest = objectDigestOf(deliver);
    if (digest === undefined) return;
    void this.bucket('in')
      .then(bucket => bucket.retain(digest))
      .catch(() => undefined);
  }

  releaseContent(deliver: Deliver): void {
    const digest = objectDigestOf(deliver);
    if (digest === undefined) return;
    void this.bucket('in')
      .then(bucket => bucket.release(digest))
      .catch(() => undefined);
  }

  async #fetchInto(bucket: ObjectBucket, digest: string, signal: AbortSignal): Promise<Manifest> {
    const { link, transferSlots } = this.#context;
    const run = this.#run;
    let invalidReplies = 0;
    const isFinal = (error: unknown): boolean =>
      isLost(error) || (isRollcallError(error, 'PROTOCOL_INVALID') && ++invalidReplies >= maxInvalidReplies);
    try {
      return await link.persist(
        ({ objects }) =>
          transferSlots.use(() => fetchObject({ objects, run, digest, bucket, signal }), signal),
        isFinal,
        signal,
      );
    } catch (error) {
      if (isFinal(error)) throw new RollcallError('NOT_FOUND', 'the link does not have it', { cause: error });
      throw error;
    }
  }
}

/** It can never be had. */
export function isLost(error: unknown): boolean {
  return isRollcallError(error, 'NOT_FOUND');
}
