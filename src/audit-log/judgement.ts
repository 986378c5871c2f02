/** Compares a checkpoint with the entries that were read: whether it holds, or how it differs. */
import type { PublicKey } from '../identity/public-key.js';
import type { BreakKind, ChainCheck } from './chain.js';
import { verifyCheckpoint, type Checkpoint } from './checkpoint.js';
import type { ExportHeader } from './export-line.js';

export type ProblemKind =
  | BreakKind
  | 'truncated'
  /** An entry is not the one a checkpoint is of, though the hashes fit one another. */
  | 'rewritten'
  | 'other key'
  | 'other log'
  | 'bad signature'
  | 'bad header';

export interface Problem {
  readonly kind: ProblemKind;
  /** The entry it is about, where there is one. */
  readonly seq?: number;
  /** One sentence, lower case. It may quote the export, so it is not fit for a terminal as it is. */
  readonly sentence: string;
}

export interface CheckpointFinding {
  readonly seq: number;
  readonly at: number;
  /** `not compared`: its signature is good, but its entry is not in the unbroken part of the export. */
  readonly finding:
    'holds' | 'not compared' | Extract<ProblemKind, 'rewritten' | `other ${string}` | 'bad signature'>;
  readonly problem?: Problem;
}

/** A checkpoint and the entry that it can be compared with. */
export interface Scene {
  readonly header: ExportHeader;
  /** Undefined when none can be read. */
  readonly key: PublicKey | undefined;
  readonly chain: ChainCheck;
}

/** Judges one checkpoint. `what` names it in sentences: "the checkpoint that was kept". */
export async function judgeCheckpoint(
  checkpoint: Checkpoint,
  { header, key, chain }: Scene,
  what = `the checkpoint of entry ${checkpoint.seq}`,
): Promise<CheckpointFinding> {
  const { seq, at, tenant, trustDomain, keyFingerprint } = checkpoint;
  const fail = (finding: 'rewritten' | 'other key' | 'other log' | 'bad signature', sentence: string) => {
    return { seq, at, finding, problem: { kind: finding, seq, sentence } };
  };
  if (tenant !== header.tenant || trustDomain !== header.trustDomain) {
    const sentence = `${what} is of another log: of tenant ${tenant} in ${trustDomain}`;
    return fail('other log', sentence);
  }
  if (keyFingerprint !== key?.fingerprint) {
    const wanted = key ? `not by ${key.fingerprint}` : 'and no key is known';
    return fail('other key', `${what} is signed by another key, ${keyFingerprint}, ${wanted}`);
  }
  if (!(await verifyCheckpoint(checkpoint, key))) {
    return fail('bad signature', `${what} was changed: its signature does not fit what it says`);
  }
  const hash = chain.hashAt(seq);
  if (hash === undefined) return { seq, at, finding: 'not compared' };
  if (hash === checkpoint.hash) return { seq, at, finding: 'holds' };
  return fail('rewritten', rewritten(seq, what));
}

export function rewritten(seq: number, what: string): string {
  return `entry ${seq} is not the one ${what} is of: it or one before it was changed and the hashes made anew`;
}

/** The beginning of the log is gone, and not because its link took it away. */
export function beheaded(before: number, why: string): Problem {
  const gone = before === 1 ? 'entry 1 is' : `entries 1 to ${before} are`;
  return { kind: 'missing', seq: 1, sentence: `${gone} missing, and ${why}` };
}

/** The end of the log was cut off, by what `witness` says the last entry is. */
export function truncated(last: number, end: number, witness: string): Problem {
  const seq = last + 1;
  const gone = seq === end ? `entry ${end} is` : `entries ${seq} to ${end} are`;
  const sentence = `the log is truncated: it ends at entry ${last}, ${witness} entry ${end}; ${gone} missing`;
  return { kind: 'truncated', seq, sentence };
}
