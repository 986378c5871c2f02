/**
 * Objects that a runner has put: retained on its behalf until the answer that names them is settled, so that they are not
 * deleted in between, and released then.
 */
import type { ObjectBucket } from '../../objects/object-store.js';
import type { Answer } from './journal.js';
import { readReference } from './runner-frames.js';

export class RunnerObjects {
  readonly #bucket: ObjectBucket;
  readonly #put = new Set<string>();

  constructor(bucket: ObjectBucket) {
    this.#bucket = bucket;
  }

  retain(digest: string): void {
    if (this.#put.has(digest)) return;
    this.#put.add(digest);
    this.#bucket.retain(digest);
  }

  releaseAll(): void {
    for (const digest of this.#put) this.release(digest);
    this.#put.clear();
  }

  release(digest: string): void {
    void this.#bucket.release(digest).catch(() => undefined);
  }

  /** The answer that a frame names, retained once more; undefined for an object that is not there as named. */
  async findAnswer(object: unknown, body: Buffer): Promise<Answer | undefined> {
    const reference = body.length > 0 ? undefined : readReference(object);
    if (!reference) return undefined;
    const { digest } = reference;
    const manifest = await this.#bucket.find(digest);
    if (manifest?.sizeBytes !== reference.sizeBytes || !manifest) return undefined;
    this.#bucket.retain(digest);
    return { kind: 'object', digest, sizeBytes: manifest.sizeBytes };
  }
}
