/**
 * Checks an exported audit log, by someone who need not trust who gave it to them. Without anything kept, it shows that
 * the entries follow from one another and that the key in the export signed the checkpoints; anyone who holds the export
 * could have made both. A checkpoint or public key that was kept elsewhere is what makes it proof.
 *
 * Pure and streaming: of each entry 32 bytes are kept, of each checkpoint a finding. Damaged lines are findings, never
 * errors.
 */
import { RollcallError } from '../base/errors.js';
import { readPublicKey } from '../identity/key-file.js';
import type { PublicKey } from '../identity/public-key.js';
import { createChainCheck } from './chain.js';
import type { Checkpoint } from './checkpoint.js';
import { isSeq, type AuditEntry } from './entry.js';
import { parseExportLine, type DamagedLine, type ExportHeader } from './export-line.js';
import {
  beheaded,
  judgeCheckpoint,
  rewritten,
  truncated,
  type CheckpointFinding,
  type Problem,
  type Scene,
} from './judgement.js';

export type { CheckpointFinding, Problem, ProblemKind } from './judgement.js';

export interface VerifyOptions {
  /** One that the operator kept elsewhere. */
  readonly keptCheckpoint?: Checkpoint | undefined;
  /** The key the operator kept, in any form a public key file may have. */
  readonly publicKeyPem?: string | undefined;
}

/** The origin of the key: the caller, a fingerprint in a kept checkpoint, or the export alone. */
export type KeySource = 'given' | 'kept checkpoint' | 'export';

export interface ExportReport {
  /** No problems. */
  readonly ok: boolean;
  readonly tenant: string;
  readonly trustDomain: string;
  /** Entries read, damaged ones too. */
  readonly entries: number;
  /**
   * The link took away the entries up to this one: the log says so, and a checkpoint of this entry holds. 0 for a log
   * that is whole.
   */
  readonly trimmedTo: number;
  /** Numbers of the first and last entry, 0 when there is none. */
  readonly first: number;
  readonly last: number;
  readonly key: { readonly fingerprint: string; readonly source: KeySource } | undefined;
  readonly checkpoints: readonly CheckpointFinding[];
  /** Whether the checkpoint that was kept holds; undefined when none was given. */
  readonly kept: CheckpointFinding | undefined;
  /** A checkpoint that holds covers the entries up to this one; 0 for none. */
  readonly vouchedTo: number;
  /** The errors, the first broken entry first. */
  readonly problems: readonly Problem[];
}

type Lines = AsyncIterable<string> | Iterable<string>;

const keptWords = 'the checkpoint that was kept';

/** Reads every line and says what holds. Only a `publicKeyPem` that is no P-256 key throws: KEY_UNSUPPORTED. */
export async function verifyExport(lines: Lines, options: VerifyOptions = {}): Promise<ExportReport> {
  const givenKey = options.publicKeyPem === undefined ? undefined : parseKey(options.publicKeyPem);
  let reading: Reading | undefined;
  let number = 0;
  for await (const text of lines) {
    number += 1;
    if (text === '' || text === '\r') continue;
    if (reading) {
      await readLine(reading, text, number);
      continue;
    }
    const parsed = parseExportLine(text);
    if (parsed.type !== 'header')
      return noExport(`line ${number} is not the header of an exported audit log`);
    reading = startReading(parsed.header, givenKey, options.keptCheckpoint);
  }
  return reading ? conclude(reading, options.keptCheckpoint) : noExport('there is nothing in the export');
}

interface Reading extends Scene {
  readonly source: KeySource;
  readonly findings: CheckpointFinding[];
  /** The newest entry that retention has deleted, as the link recorded it. */
  trimmedTo: number;
  /** Of lines that are neither entry nor checkpoint. */
  readonly strays: Problem[];
}

function startReading(
  header: ExportHeader,
  givenKey: PublicKey | undefined,
  kept: Checkpoint | undefined,
): Reading {
  const key = givenKey ?? findKey(header.publicKeyPem);
  const source = givenKey
    ? 'given'
    : kept && kept.keyFingerprint === key?.fingerprint
      ? 'kept checkpoint'
      : 'export';
  const before = kept?.seq === header.from - 1 ? kept.hash : undefined;
  return {
    header,
    key,
    source,
    chain: createChainCheck(header.from, before),
    findings: [],
    trimmedTo: 0,
    strays: [],
  };
}

function parseKey(pem: string): PublicKey {
  const key = readPublicKey(Buffer.from(pem));
  if (key.curve === 'P-256') return key;
  throw new RollcallError('KEY_UNSUPPORTED', 'this is no key of an audit log: those are on P-256', {
    hint: 'the key is in the first line of an export that you trust',
  });
}

function findKey(pem: string): PublicKey | undefined {
  try {
    return parseKey(pem);
  } catch {
    return undefined;
  }
}

async function readLine(reading: Reading, text: string, number: number): Promise<void> {
  const { chain, findings, strays } = reading;
  const line = parseExportLine(text);
  if (line.type === 'entry' && findings.length === 0) {
    chain.add(line.entry);
    reading.trimmedTo = Math.max(reading.trimmedTo, trimmedBy(line.entry));
  } else if (line.type === 'checkpoint') {
    findings.push(await judgeCheckpoint(line.checkpoint, reading));
  } else if (line.type === 'damaged' && belongsToEntries(reading, line)) {
    chain.addDamaged(line.found, number, line.seq);
  } else if (strays.length < maxStrays) {
    const found =
      line.type === 'damaged' ? line.found : `a${line.type === 'entry' ? 'n entry' : ' header'} out of place`;
    strays.push({ kind: 'damaged', sentence: `line ${number} is ${found}` });
  }
}

/** Enough to see what happened to a file. */
const maxStrays = 10;

function belongsToEntries({ header, chain, findings }: Reading, { isSigned }: DamagedLine): boolean {
  return !isSigned && findings.length === 0 && chain.count() < header.to - header.from + 1;
}

async function conclude(reading: Reading, keptCheckpoint: Checkpoint | undefined): Promise<ExportReport> {
  const { header, key, source, chain, findings } = reading;
  const kept = keptCheckpoint && (await judgeKept(reading, keptCheckpoint));
  const vouching = [...findings, ...(kept ? [kept] : [])].filter(({ finding }) => finding === 'holds');
  const vouchedTo = newestOf(vouching);
  const before = header.from - 1;
  const beheading = before === 0 ? undefined : judgeBeginning(reading, before, vouching);
  const broken = chain.broken();
  const problems = [
    ...(broken ? [broken] : []),
    ...(beheading ? [beheading] : []),
    ...endProblems(reading, kept),
    ...(key
      ? []
      : [{ kind: 'bad header' as const, sentence: 'the public key in the header cannot be read' }]),
    ...(kept?.problem ? [kept.problem] : []),
    ...firstOfEach(findings, vouchedTo),
    ...reading.strays,
  ];
  return {
    ok: problems.length === 0,
    tenant: header.tenant,
    trustDomain: header.trustDomain,
    entries: chain.count(),
    trimmedTo: beheading ? 0 : before,
    first: chain.first(),
    last: chain.last(),
    key: key && { fingerprint: key.fingerprint, source },
    checkpoints: findings,
    kept,
    vouchedTo,
    problems,
  };
}

/** The number up to which an entry says that the link took entries away, 0 for any other entry. */
function trimmedBy({ type, by, detail }: AuditEntry): number {
  const to = detail['to'];
  const isTrim = type === 'audit.trimmed' && typeof by === 'object' && by.kind === 'link';
  return isTrim && isSeq(to) ? to : 0;
}

/** A log that begins late must say so itself, or anybody could cut it off after any checkpoint. */
function judgeBeginning(
  { trimmedTo }: Reading,
  before: number,
  vouching: readonly CheckpointFinding[],
): Problem | undefined {
  if (trimmedTo !== before) {
    const told = trimmedTo === 0 ? 'of none' : `only of entries up to ${trimmedTo}`;
    return beheaded(before, `the log tells ${told} that its link took away`);
  }
  if (vouching.some(({ seq }) => seq === before)) return undefined;
  return beheaded(before, `no checkpoint of entry ${before} that holds stands for them`);
}

async function judgeKept(reading: Reading, kept: Checkpoint): Promise<CheckpointFinding> {
  const { chain } = reading;
  const found = await judgeCheckpoint(kept, reading, keptWords);
  if (found.finding === 'other key' && chain.hashAt(kept.seq) !== undefined) {
    // A kept checkpoint is believed without its signature.
    return chain.hashAt(kept.seq) === kept.hash ? found : overwritten(kept, found);
  }
  return found;
}

function overwritten({ seq }: Checkpoint, found: CheckpointFinding): CheckpointFinding {
  const sentence = `${rewritten(seq, keptWords)}; ${found.problem?.sentence ?? ''}`;
  return { ...found, finding: 'rewritten', problem: { kind: 'rewritten', seq, sentence } };
}

function newestOf(findings: readonly CheckpointFinding[]): number {
  return findings.reduce((newest, { seq }) => Math.max(newest, seq), 0);
}

/** Whether the log ends where the header, the newest checkpoint and the one that was kept say it goes on to. */
function endProblems({ header, chain, findings }: Reading, kept: CheckpointFinding | undefined): Problem[] {
  const last = Math.max(chain.last(), header.from - 1);
  const newest = newestOf(findings.filter(({ finding }) => finding === 'not compared'));
  if (kept && kept.finding !== 'other log' && kept.seq > last) {
    return [truncated(last, kept.seq, `${keptWords} is of`)];
  }
  if (newest > last) return [truncated(last, newest, 'its newest checkpoint is of')];
  if (header.to > last) return [truncated(last, header.to, 'its header says')];
  if (header.to === last) return [];
  return [
    { kind: 'bad header', sentence: `the header says entry ${header.to} is the last; there are later ones` },
  ];
}

/**
 * The first problem of each kind. A checkpoint by another key takes nothing away where a later one holds: that one
 * covers the same entries.
 */
function firstOfEach(findings: readonly CheckpointFinding[], vouchedTo: number): Problem[] {
  const first = new Map<string, Problem>();
  for (const { finding, seq, problem } of findings) {
    if (!problem || first.has(finding)) continue;
    if (finding !== 'other key' || seq > vouchedTo) first.set(finding, problem);
  }
  return [...first.values()];
}

function noExport(sentence: string): ExportReport {
  return {
    ok: false,
    tenant: '',
    trustDomain: '',
    entries: 0,
    trimmedTo: 0,
    first: 0,
    last: 0,
    key: undefined,
    checkpoints: [],
    kept: undefined,
    vouchedTo: 0,
    problems: [{ kind: 'bad header', sentence }],
  };
}
