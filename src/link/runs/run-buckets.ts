/** The objects of one run, by the party that writes them: its app, its server half, or a node. */
import type { ObjectBucket, ObjectStore } from '../../objects/object-store.js';

/** The party that owns the archive of the app. */
export const appParty = 'app';
/** The party of the server half. */
export const serverParty = 'server';

export class RunBuckets {
  readonly #objects: Pick<ObjectStore, 'bucket'>;
  readonly #run: bigint;
  readonly #opened = new Map<string, ObjectBucket>();

  constructor(objects: Pick<ObjectStore, 'bucket'>, run: bigint) {
    this.#objects = objects;
    this.#run = run;
  }

  of(party: string): ObjectBucket {
    let bucket = this.#opened.get(party);
    if (!bucket) this.#opened.set(party, (bucket = this.#objects.bucket(`${this.#run}`, party)));
    return bucket;
  }

  retain(party: string, digest: string): void {
    this.of(party).retain(digest);
  }

  /** Ignores a failure: the object is removed with the run at the latest. */
  release(party: string, digest: string): void {
    void this.of(party)
      .release(digest)
      .catch(() => undefined);
  }
}
