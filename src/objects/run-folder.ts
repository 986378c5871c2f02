/**
 * The buckets of one run, and the end of all of them. What an earlier process left is counted before the first work, because
 * the limit is for all buckets together; and a run is removed only when no work is under way in it.
 */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { DiskFloor } from '../base/disk-floor.js';
import { RollcallError, systemErrorCode } from '../base/errors.js';
import { storeFailure } from '../store/failure.js';
import { Bucket } from './bucket.js';
import { RunSpace } from './run-space.js';

export class RunFolder {
  readonly #path: string;
  readonly #space: RunSpace;
  readonly #floor: Pick<DiskFloor, 'require'>;
  readonly #buckets = new Map<string, Bucket>();
  readonly #loaded = new Set<string>();
  readonly #working = new Set<Promise<unknown>>();
  #loading: Promise<void> | undefined;
  #removing: Promise<void> | undefined;

  constructor(path: string, maxBytes: number, floor: Pick<DiskFloor, 'require'>) {
    this.#path = path;
    this.#space = new RunSpace(maxBytes);
    this.#floor = floor;
  }

  bucket(party: string): Bucket {
    let bucket = this.#buckets.get(party);
    if (!bucket) {
      bucket = new Bucket(join(this.#path, party), this.#space.account(party));
      this.#buckets.set(party, bucket);
    }
    return bucket;
  }

  /** Works with a bucket. NOT_FOUND once the run is removed. */
  async work<T>(work: () => Promise<T>): Promise<T> {
    if (this.#removing) throw new RollcallError('NOT_FOUND', 'the run is over');
    const mine = this.#loadThen(work);
    this.#working.add(mine);
    try {
      return await mine;
    } catch (error) {
      throw storeFailure(error);
    } finally {
      this.#working.delete(mine);
    }
  }

  /** STORE_FULL while the disk is nearly full. */
  requireSpace(bytes: number): Promise<void> {
    return this.#floor.require(bytes);
  }

  /** Twice is one promise, unless it fails. */
  remove(): Promise<void> {
    return (this.#removing ??= this.#remove().catch((error: unknown) => {
      this.#removing = undefined;
      throw storeFailure(error);
    }));
  }

  async #loadThen<T>(work: () => Promise<T>): Promise<T> {
    this.#loading ??= this.#load();
    await this.#loading.catch((error: unknown) => {
      this.#loading = undefined;
      throw error;
    });
    return work();
  }

  async #load(): Promise<void> {
    for (const party of await listNames(this.#path)) {
      if (this.#loaded.has(party)) continue;
      await this.bucket(party).load();
      this.#loaded.add(party);
    }
  }

  async #remove(): Promise<void> {
    await Promise.allSettled(this.#working);
    await rm(this.#path, { recursive: true, force: true });
  }
}

/** Names of runs and of parties. */
export function isName(text: string): boolean {
  return /^[0-9a-z]{1,32}$/.test(text);
}

/** The names in a folder of runs or of parties; empty when there is no such folder. */
export async function listNames(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).filter(isName);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return [];
    throw storeFailure(error);
  }
}
