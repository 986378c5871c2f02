/**
 * Checks a chain of entries as they come by and names the first that does not fit, with what became of it: an entry
 * that is not where it belongs is missing until it is seen later on. Pure.
 */
import { firstPrevious, hashEntry, type AuditEntry } from './entry.js';

export type BreakKind = 'damaged' | 'changed' | 'missing' | 'reordered' | 'duplicated' | 'out of order';

export interface Break {
  readonly kind: BreakKind;
  /** The first entry that does not fit, or is not there. */
  readonly seq: number;
  /** One sentence, lower case. */
  readonly sentence: string;
}

export interface ChainCheck {
  add(entry: AuditEntry): void;
  /** A line where an entry belongs and none can be read. */
  addDamaged(found: string, line: number, seq: number | undefined): void;
  /** The first thing wrong; certain only once everything was added. */
  broken(): Break | undefined;
  /** The hash of an entry before the break; of the entry before the first one it is what the first one says. */
  hashAt(seq: number): string | undefined;
  /** Entries and damaged lines so far. */
  count(): number;
  /** The smallest number seen, 0 for none. */
  first(): number;
  /** The largest number seen, 0 for none. */
  last(): number;
}

/** `from` is the number the first entry should have; `before` the hash that entry should follow, when it is known. */
export function createChainCheck(from: number, before?: string): ChainCheck {
  const hashes = createHashList(from);
  let expected = from;
  let previous = from === 1 ? firstPrevious : before;
  let beforeFirst: string | undefined;
  let found: Break | undefined;
  let count = 0;
  let first = 0;
  let last = 0;

  function see(seq: number): void {
    first = first === 0 ? seq : Math.min(first, seq);
    last = Math.max(last, seq);
  }

  function check(entry: AuditEntry): Break | undefined {
    const { seq, hash } = entry;
    if (seq > expected) return missingBefore(expected, seq);
    if (seq < expected) {
      return hashes.at(seq) === hash && hashEntry(entry) === hash
        ? duplicated(seq)
        : outOfOrder(seq, expected);
    }
    if (hashEntry(entry) !== hash) return changed(seq);
    return entry.previous === (previous ?? entry.previous) ? undefined : unfitting(seq);
  }

  return {
    add(entry) {
      count += 1;
      see(entry.seq);
      if (found) {
        if (found.kind === 'missing' && entry.seq === found.seq) found = reordered(found.seq);
        return;
      }
      found = check(entry);
      if (found) return;
      beforeFirst ??= entry.previous;
      hashes.add(entry.hash);
      previous = entry.hash;
      expected += 1;
    },
    addDamaged(what, line, seq) {
      count += 1;
      if (seq !== undefined) see(seq);
      found ??= {
        kind: 'damaged',
        seq: expected,
        sentence: `entry ${expected} cannot be read: line ${line} is ${what}`,
      };
    },
    broken: () => found,
    hashAt: seq => (seq === from - 1 && seq > 0 ? beforeFirst : hashes.at(seq)),
    count: () => count,
    first: () => first,
    last: () => last,
  };
}

function missingBefore(seq: number, next: number): Break {
  const gap = next === seq + 1 ? `entry ${seq} is missing` : `entries ${seq} to ${next - 1} are missing`;
  return { kind: 'missing', seq, sentence: `${gap}: the next one is entry ${next}` };
}

function reordered(seq: number): Break {
  return { kind: 'reordered', seq, sentence: `entry ${seq} is reordered: it comes after a later one` };
}

function duplicated(seq: number): Break {
  return { kind: 'duplicated', seq, sentence: `entry ${seq} is duplicated: it is there twice` };
}

function outOfOrder(seq: number, expected: number): Break {
  const sentence = `entry ${seq} is out of order: it stands where entry ${expected} belongs`;
  return { kind: 'out of order', seq, sentence };
}

function changed(seq: number): Break {
  return { kind: 'changed', seq, sentence: `entry ${seq} was changed: its hash does not fit what it says` };
}

function unfitting(seq: number): Break {
  const sentence = `entry ${seq} was changed, or the one before it: it does not hold the hash of that one`;
  return { kind: 'changed', seq, sentence };
}

const hashBytes = 32;
const hashesInBlock = 4096;

interface HashList {
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
