/**
 * The log of one run: lines in the order in which they came, counted from 1 without gaps, on the disk before whoever sent
 * them hears so. Lines that come while others are being written go together.
 *
 * A log is bounded, and so is the share of each party: what a node says takes nothing from the server half, from the link's own
 * lines, or all from other nodes, because a node may hold a quarter of what the nodes have left. Who is past its share is told so
 * once, in the log, and costs nothing more.
 */
import type { DiskFloor } from '../../base/disk-floor.js';
import type { Clock } from '../../base/clock.js';
import type { Change, Store } from '../../store/store.js';
import { isPassing, untilRetry } from '../../store/retry.js';
import { numberOfKey, runLogHeadKey, runLogKey, runLogPrefix } from './run-keys.js';
import { decodeLogEntry, encodeLogEntry, type RunLogEntry } from './run-record.js';
import { cleanText } from '../../base/text.js';

/** Who says a line: the link, the server half, or a node by its id. */
export type LogParty = 'link' | 'server' | bigint;

export type LogLine = Pick<RunLogEntry, 'at' | 'level' | 'text'>;

export interface RunLogOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly tenant: string;
  readonly run: bigint;
  readonly floor: Pick<DiskFloor, 'isFree'>;
  readonly onChange: () => void;
}

export const logLimits = {
  /** Of all parties together. */
  lines: 100_000,
  /** Kept for the link, and for the server half beside that. */
  linkLines: 1_000,
  serverLines: 25_000,
  /** One node may hold so much of what the nodes have left. */
  nodeShare: 1 / 4,
  /** Characters of a line. */
  textLength: 4_096,
  /** What waits in memory: of the server half, and of all nodes together. */
  serverWaitingBytes: 2 * 1024 * 1024,
  nodesWaitingBytes: 6 * 1024 * 1024,
} as const;
const maxLinesAtOnce = 500;
/** What a line costs besides its text. */
const lineOverheadBytes = 64;
const levels: ReadonlySet<string> = new Set(['debug', 'info', 'warn', 'error', 'stdout', 'stderr']);

interface Waiting {
  readonly party: LogParty;
  readonly lines: readonly LogLine[];
  readonly bytes: number;
  readonly serverSequence: number | undefined;
  resolve(): void;
}

interface Head {
  readonly lines: number;
  /** Of nodes, among them. */
  readonly nodeLines: number;
  readonly serverSequence: number;
}

async function readHead(store: Store, tenant: string, run: bigint): Promise<Head> {
  const value = await store.get(runLogHeadKey(tenant, run));
  if (!value) return { lines: 0, nodeLines: 0, serverSequence: 0 };
  const head = JSON.parse(Buffer.from(value).toString()) as Omit<Head, 'nodeLines'> & Partial<Head>;
  // A log from before there were shares: who said its lines is not known.
  return { nodeLines: head.lines, ...head };
}

/** Lines of a log that are on the disk, those after a number. */
export async function readRunLog(
  store: Store,
  tenant: string,
  run: bigint,
  after: number,
  limit: number,
): Promise<RunLogEntry[]> {
  const prefix = runLogPrefix(tenant, run);
  const entries = await store.list({ prefix, after: runLogKey(tenant, run, after), limit });
  return entries.map(({ key, value }) => decodeLogEntry(Number(numberOfKey(key)), value));
}

export async function openRunLog(options: RunLogOptions): Promise<RunLog> {
  return new RunLog(options, await readHead(options.store, options.tenant, options.run));
}

/** What one commit makes of the log. */
interface Draft {
  head: Head;
  readonly entries: Omit<RunLogEntry, 'number'>[];
  readonly nodeLines: Map<bigint, number>;
  readonly full: LogParty[];
  readonly told: LogParty[];
}

export class RunLog {
  readonly #options: RunLogOptions;
  #head: Head;
  /** Lines of each node since this process has the log. */
  readonly #nodeLines = new Map<bigint, number>();
  /** Those of whom nothing more is kept. */
  readonly #full = new Set<LogParty>();
  /** How many lines of whom were lost and not told of. */
  readonly #lost = new Map<LogParty, number>();
  readonly #waiting: Waiting[] = [];
  readonly #waitingBytes = new Map<LogParty, number>();
  #nodesWaitingBytes = 0;
  #writing: Promise<void> | undefined;
  #isClosed = false;

  constructor(options: RunLogOptions, head: Head) {
    this.#options = options;
    this.#head = head;
  }

  /**
   * Resolves when the lines are on the disk, or will not be kept. `serverSequence`: of the last of them, where the server half
   * counts.
   */
  append(party: LogParty, lines: readonly LogLine[], serverSequence?: number): Promise<void> {
    if (this.#isClosed) return Promise.resolve();
    // Before anything is done with them: whoever is past its share may not keep the link busy with more.
    if (this.#full.has(party) && serverSequence === undefined) return Promise.resolve();
    if (!this.#mayWait(party)) {
      this.#lose(party, lines.length);
      return Promise.resolve();
    }
    const kept = this.#full.has(party) ? [] : lines.map(line => clean(party, line));
    const bytes = kept.reduce((sum, { text }) => sum + text.length + lineOverheadBytes, 0);
    return new Promise(resolve => {
      this.#waiting.push({ party, lines: kept, bytes, serverSequence, resolve });
      this.#noteWaiting(party, bytes);
      this.#start();
    });
  }

  /** Whether nothing more of this party is kept. */
  isFull(party: LogParty): boolean {
    return this.#full.has(party);
  }

  /** How many lines there are. */
  count(): number {
    return this.#head.lines;
  }

  /** Of the last line of the server half that is on the disk. */
  serverSequence(): number {
    return this.#head.serverSequence;
  }

  /** Nothing more is taken or tried again; resolves when nothing is being written. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#writing;
  }

  /** Every party waits in room of its own; nodes share theirs, and one of them has as much as it leaves to the others. */
  #mayWait(party: LogParty): boolean {
    const own = this.#waitingBytes.get(party) ?? 0;
    if (party === 'link') return true;
    if (party === 'server') return own < logLimits.serverWaitingBytes;
    return own <= logLimits.nodesWaitingBytes - this.#nodesWaitingBytes;
  }

  #noteWaiting(party: LogParty, bytes: number): void {
    const left = (this.#waitingBytes.get(party) ?? 0) + bytes;
    if (left > 0) this.#waitingBytes.set(party, left);
    else this.#waitingBytes.delete(party);
    if (typeof party === 'bigint') this.#nodesWaitingBytes += bytes;
  }

  #lose(party: LogParty, count: number): void {
    if (count > 0) this.#lost.set(party, (this.#lost.get(party) ?? 0) + count);
  }

  #start(): void {
    this.#writing ??= this.#writeAll()
      .catch(() => {
        for (const each of this.#waiting.splice(0)) this.#finish(each);
      })
      .finally(() => {
        this.#writing = undefined;
        if (this.#waiting.length > 0) this.#start();
      });
  }

  #finish(done: Waiting): void {
    this.#noteWaiting(done.party, -done.bytes);
    done.resolve();
  }

  async #writeAll(): Promise<void> {
    // Lines of the same turn belong together.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const batch = this.#nextBatch();
      try {
        await this.#write(batch);
      } catch (error) {
        if (this.#isClosed || !isPassing(error)) throw error;
        await untilRetry(this.#options.clock);
        continue;
      }
      for (const each of this.#waiting.splice(0, batch.length)) this.#finish(each);
      this.#options.onChange();
    }
  }

  #nextBatch(): readonly Waiting[] {
    let lines = 0;
    const end = this.#waiting.findIndex(each => (lines += each.lines.length) >= maxLinesAtOnce);
    return end === -1 ? [...this.#waiting] : this.#waiting.slice(0, end + 1);
  }

  async #write(batch: readonly Waiting[]): Promise<void> {
    const { store, tenant, run, floor } = this.#options;
    const bytes = batch.reduce((sum, each) => sum + each.bytes, 0);
    const isFree = await floor.isFree(bytes);
    const draft: Draft = { head: this.#head, entries: [], nodeLines: new Map(), full: [], told: [] };
    for (const each of batch) this.#stage(draft, each, isFree);
    const first = this.#head.lines + 1;
    const changes: Change[] = draft.entries.map((entry, index) => ({
      type: 'put',
      key: runLogKey(tenant, run, first + index),
      value: encodeLogEntry({ ...entry, number: 0 }),
    }));
    const head = Buffer.from(JSON.stringify(draft.head));
    await store.commit([...changes, { type: 'put', key: runLogHeadKey(tenant, run), value: head }]);
    this.#head = draft.head;
    for (const [node, count] of draft.nodeLines) this.#nodeLines.set(node, count);
    for (const party of draft.full) this.#full.add(party);
    for (const party of draft.told) this.#lost.delete(party);
    if (!isFree) for (const { party, lines } of batch) if (party !== 'link') this.#lose(party, lines.length);
  }

  /** Adds what is kept of these lines. */
  #stage(draft: Draft, { party, lines, serverSequence = 0 }: Waiting, isFree: boolean): void {
    const { head } = draft;
    draft.head = { ...head, serverSequence: Math.max(head.serverSequence, serverSequence) };
    if (lines.length === 0 || draft.full.includes(party) || this.#full.has(party)) return;
    // What the link says of a run is little, and is what ends it.
    if (!isFree && party !== 'link') return;
    const room = this.#roomFor(draft, party);
    if (room <= 0) return;
    const lost = draft.told.includes(party) ? 0 : (this.#lost.get(party) ?? 0);
    if (lost > 0) draft.told.push(party);
    const told = lost > 0 ? [this.#note(`${lost} lines of ${nameOf(party)} were lost: ${whyLost}`)] : [];
    const said = lines.map(line => ({ ...line, node: typeof party === 'bigint' ? party : 0n }));
    const all = [...told, ...said];
    const isFull = all.length >= room;
    if (isFull) draft.full.push(party);
    const kept = isFull ? [...all.slice(0, room - 1), this.#note(fullText(party))] : all;
    draft.entries.push(...kept);
    draft.head = { ...draft.head, lines: head.lines + kept.length };
    if (typeof party !== 'bigint') return;
    draft.nodeLines.set(party, this.#linesOf(draft, party) + kept.length);
    draft.head = { ...draft.head, nodeLines: head.nodeLines + kept.length };
  }

  #linesOf(draft: Draft, node: bigint): number {
    return draft.nodeLines.get(node) ?? this.#nodeLines.get(node) ?? 0;
  }

  /** How many lines this party may add now. */
  #roomFor({ head, ...draft }: Draft, party: LogParty): number {
    const left = logLimits.lines - head.lines;
    if (party === 'link') return left;
    const besideLink = left - logLimits.linkLines;
    if (party === 'server') return besideLink;
    const ofNodes = logLimits.lines - logLimits.linkLines - logLimits.serverLines - head.nodeLines;
    const { nodeShare } = logLimits;
    // Each line that it adds also leaves one less.
    const share =
      (Math.min(ofNodes, besideLink) * nodeShare - this.#linesOf({ head, ...draft }, party)) /
      (1 + nodeShare);
    return Math.ceil(share);
  }

  #note(text: string): Omit<RunLogEntry, 'number'> {
    return { ...linkLine(this.#options.clock, text), node: 0n };
  }
}

const whyLost = 'too many came at once, or the disk was nearly full';

function nameOf(party: LogParty): string {
  return typeof party === 'bigint' ? `node ${party}` : `the ${party === 'server' ? 'server half' : party}`;
}

function fullText(party: LogParty): string {
  return `the share of ${nameOf(party)} in this log is full: nothing more of it is kept`;
}

export function linkLine(clock: Clock, text: string): LogLine {
  return { at: clock.now(), level: 'link', text };
}

/** What an app writes is shown on terminals, line by line. */
function clean(party: LogParty, { at, level, text }: LogLine): LogLine {
  return {
    at: Number.isSafeInteger(at) && at >= 0 ? at : 0,
    level: party === 'link' ? 'link' : levels.has(level) ? level : 'info',
    text: cleanText(text, logLimits.textLength),
  };
}
