/**
 * The lines that one commit adds to the log of a run. The log is bounded, and each party has a share of it. Nodes cannot use the
 * shares of the server half and of the link. One node may hold at most a quarter of the room that the nodes have left, so that it
 * cannot crowd out the others. When a share is full, one line says so, and later lines of that party are dropped. Pure.
 */
import { cleanText } from '../../base/text.js';
import type { RunLogEntry } from './run-record.js';

/** The author of a line: the link, the server half, or a node by its id. */
export type LogParty = 'link' | 'server' | bigint;

export type LogLine = Pick<RunLogEntry, 'at' | 'level' | 'text'>;

export const logLimits = {
  /** Of all parties together. */
  lines: 100_000,
  /** Reserved for the link and for the server half. */
  linkLines: 1_000,
  serverLines: 25_000,
  /** Maximum share of one node in the room that the nodes have left. */
  nodeShare: 1 / 4,
  /** Characters of a line. */
  textLength: 4_096,
  /** Maximum size of the lines waiting in memory: of the server half, and of all nodes together. */
  serverWaitingBytes: 2 * 1024 * 1024,
  nodesWaitingBytes: 6 * 1024 * 1024,
} as const;

export interface LogHead {
  readonly lines: number;
  /** How many of them are from nodes. */
  readonly nodeLines: number;
  readonly serverSequence: number;
}

/** The state of a log. A draft does not change it: the log applies the draft once that is stored. */
export interface LogState {
  head: LogHead;
  /** Lines of each node since this process opened the log. */
  readonly nodeLines: Map<bigint, number>;
  /** Parties whose share is full. */
  readonly full: Set<LogParty>;
  /** Number of lines of each party that were lost and are not reported yet. */
  readonly lost: Map<LogParty, number>;
}

export interface PartyLines {
  readonly party: LogParty;
  readonly lines: readonly LogLine[];
  readonly serverSequence: number | undefined;
}

type Entry = Omit<RunLogEntry, 'number'>;

const levels: ReadonlySet<string> = new Set(['debug', 'info', 'warn', 'error', 'stdout', 'stderr']);
const whyLost = 'too many arrived at once, or the disk was nearly full';

export class LogDraft {
  readonly entries: Entry[] = [];
  readonly nodeLines = new Map<bigint, number>();
  /** Parties whose share this fills. */
  readonly full: LogParty[] = [];
  /** Parties whose lost lines this reports. */
  readonly reported: LogParty[] = [];
  readonly #before: LogState;
  readonly #isFree: boolean;
  readonly #now: number;
  #head: LogHead;

  /** `isFree`: whether the disk has room for these lines. */
  constructor(before: LogState, { isFree, now }: { readonly isFree: boolean; readonly now: number }) {
    this.#before = before;
    this.#head = before.head;
    this.#isFree = isFree;
    this.#now = now;
  }

  get head(): LogHead {
    return this.#head;
  }

  /** Adds the lines that fit into the share of their party. */
  add({ party, lines, serverSequence = 0 }: PartyLines): void {
    const head = this.#head;
    this.#head = { ...head, serverSequence: Math.max(head.serverSequence, serverSequence) };
    if (lines.length === 0 || this.full.includes(party) || this.#before.full.has(party)) return;
    // The lines of the link are few, and one of them says how the run ended.
    if (!this.#isFree && party !== 'link') return;
    const room = this.#roomFor(party);
    if (room <= 0) return;
    const said = lines.map(line => ({ ...line, node: typeof party === 'bigint' ? party : 0n }));
    const all = [...this.#reportLost(party), ...said];
    const isFull = all.length >= room;
    if (isFull) this.full.push(party);
    const kept = isFull ? [...all.slice(0, room - 1), this.#note(fullText(party))] : all;
    this.entries.push(...kept);
    this.#head = { ...this.#head, lines: head.lines + kept.length };
    if (typeof party !== 'bigint') return;
    this.nodeLines.set(party, this.#linesOf(party) + kept.length);
    this.#head = { ...this.#head, nodeLines: head.nodeLines + kept.length };
  }

  #reportLost(party: LogParty): readonly Entry[] {
    const lost = this.reported.includes(party) ? 0 : (this.#before.lost.get(party) ?? 0);
    if (lost === 0) return [];
    this.reported.push(party);
    return [this.#note(`${lost} lines of ${nameOf(party)} were lost: ${whyLost}`)];
  }

  #linesOf(node: bigint): number {
    return this.nodeLines.get(node) ?? this.#before.nodeLines.get(node) ?? 0;
  }

  /** The number of lines that this party may add now. */
  #roomFor(party: LogParty): number {
    const left = logLimits.lines - this.#head.lines;
    if (party === 'link') return left;
    const besideLink = left - logLimits.linkLines;
    if (party === 'server') return besideLink;
    const ofNodes = logLimits.lines - logLimits.linkLines - logLimits.serverLines - this.#head.nodeLines;
    const { nodeShare } = logLimits;
    // Each line that the node adds also reduces what is left.
    const share = (Math.min(ofNodes, besideLink) * nodeShare - this.#linesOf(party)) / (1 + nodeShare);
    return Math.ceil(share);
  }

  #note(text: string): Entry {
    return { at: this.#now, level: 'link', text, node: 0n };
  }
}

/** Makes a line of an app safe to print, as one line, on a terminal. */
export function cleanLine(party: LogParty, { at, level, text }: LogLine): LogLine {
  return {
    at: Number.isSafeInteger(at) && at >= 0 ? at : 0,
    level: party === 'link' ? 'link' : levels.has(level) ? level : 'info',
    text: cleanText(text, logLimits.textLength),
  };
}

function nameOf(party: LogParty): string {
  return typeof party === 'bigint' ? `node ${party}` : `the ${party === 'server' ? 'server half' : party}`;
}

function fullText(party: LogParty): string {
  return `the share of ${nameOf(party)} in this log is full: its later lines are dropped`;
}
