/** The hashes of entries that follow one another: 32 bytes each, so that a log of a million entries takes 32 MB. */

const hashBytes = 32;
const hashesInBlock = 4096;

export interface HashList {
  /** Adds the hash (64 hex digits) of the next entry. */
  add(hash: string): void;
  /** The hash of an entry by its number, or undefined. */
  at(seq: number): string | undefined;
}

/** `first` is the number of the first entry that is added. */
export function createHashList(first: number): HashList {
  const blocks: Buffer[] = [];
  let count = 0;
  return {
    add(hash) {
      const place = count % hashesInBlock;
      if (place === 0) blocks.push(Buffer.alloc(hashesInBlock * hashBytes));
      blocks.at(-1)?.write(hash, place * hashBytes, 'hex');
      count += 1;
    },
    at(seq) {
      const index = seq - first;
      if (index < 0 || index >= count) return undefined;
      const start = (index % hashesInBlock) * hashBytes;
      return blocks[Math.floor(index / hashesInBlock)]?.toString('hex', start, start + hashBytes);
    },
  };
}
