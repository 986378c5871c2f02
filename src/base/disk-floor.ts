/**
 * How much of a disk stays free for what must always be written: the registry, revocations, ends of runs. What can be large or
 * many – objects, contents, lines of logs – asks here first.
 */
import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Clock } from './clock.js';
import { RollcallError } from './errors.js';

export interface DiskSpace {
  readonly freeBytes: number;
  readonly totalBytes: number;
}

export interface DiskFloorOptions {
  readonly folder: string;
  /** Defaults to 256 MiB, or a twentieth of a disk that is smaller than 5 GiB. */
  readonly minFreeBytes?: number | undefined;
  readonly clock: Pick<Clock, 'elapsed'>;
  /** Defaults to what the system says of the disk of a folder. */
  readonly readSpace?: (folder: string) => Promise<DiskSpace>;
}

const defaultMinFreeBytes = 256 * 1024 * 1024;
const defaultMinFreeShare = 1 / 20;
/** A look at the disk holds so long, ms, and for so many bytes. */
const looksEveryMs = 100;
const looksEveryBytes = 4 * 1024 * 1024;

export class DiskFloor {
  readonly #options: DiskFloorOptions;
  #look: { readonly at: number; readonly isFree: Promise<boolean> } | undefined;
  #bytesSince = 0;

  constructor(options: DiskFloorOptions) {
    this.#options = options;
  }

  /** Whether so many bytes may be written. STORE_UNAVAILABLE when the disk cannot be asked. */
  isFree(bytes: number): Promise<boolean> {
    const now = this.#options.clock.elapsed();
    this.#bytesSince += bytes;
    const isOld = !this.#look || now - this.#look.at >= looksEveryMs || this.#bytesSince > looksEveryBytes;
    if (this.#look && !isOld) return this.#look.isFree;
    this.#bytesSince = bytes;
    const isFree = this.#readIsFree();
    this.#look = { at: now, isFree };
    return isFree;
  }

  /** STORE_FULL when so many bytes may not be written now. */
  async require(bytes: number): Promise<void> {
    if (await this.isFree(bytes)) return;
    throw new RollcallError('STORE_FULL', 'the disk is nearly full: nothing large is taken', {
      hint: 'free space on the disk that holds the data folder',
    });
  }

  async #readIsFree(): Promise<boolean> {
    const { folder, minFreeBytes, readSpace = readSpaceOf } = this.#options;
    try {
      const { freeBytes, totalBytes } = await readSpace(folder);
      const min = minFreeBytes ?? Math.min(defaultMinFreeBytes, totalBytes * defaultMinFreeShare);
      return freeBytes >= min;
    } catch (error) {
      throw new RollcallError('STORE_UNAVAILABLE', 'the disk does not say how full it is', { cause: error });
    }
  }
}

/** Of the nearest folder that is there yet. */
async function readSpaceOf(folder: string): Promise<DiskSpace> {
  const { bavail, blocks, bsize } = await statfs(folder).catch(() => statfs(dirname(folder)));
  return { freeBytes: bavail * bsize, totalBytes: blocks * bsize };
}
