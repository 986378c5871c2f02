/**
 * The log of one run: lines in the order of their arrival, numbered from 1 without gaps. An append resolves when its lines are
 * on the disk. Lines that arrive while others are being written are written together. run-log-draft.ts bounds each party.
 */
import type { DiskFloor } from '../../base/disk-floor.js';
import type { Clock } from '../../base/clock.js';
import { isPassing, untilRetry } from '../../store/retry.js';
import type { Change, Store } from '../../store/store.js';
import { numberOfKey, runLogHeadKey, runLogKey, runLogPrefix } from './run-keys.js';
import {
  cleanLine,
  LogDraft,
  logLimits,
  type LogHead,
  type LogLine,
  type LogParty,
  type LogState,
  type PartyLines,
} from './run-log-draft.js';
import { decodeLogEntry, encodeLogEntry, type RunLogEntry } from './run-record.js';

export interface RunLogOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly tenant: string;
  readonly run: bigint;
  readonly floor: Pick<DiskFloor, 'isFree'>;
  readonly onChange: () => void;
}

const maxLinesAtOnce = 500;
/** Memory that a line needs besides its text. */
const lineOverheadBytes = 64;

interface Waiting extends PartyLines {
  readonly bytes: number;
  resolve(isSettled: boolean): void;
}

async function readHead(store: Store, tenant: string, run: bigint): Promise<LogHead> {
  const value = await store.get(runLogHeadKey(tenant, run));
  if (!value) return { lines: 0, nodeLines: 0, serverSequence: 0 };
  const head = JSON.parse(Buffer.from(value).toString()) as Omit<LogHead, 'nodeLines'> & Partial<LogHead>;
  // An older log has no count per party: all its lines count as lines of nodes.
  return { nodeLines: head.lines, ...head };
}

/** Lines that are on the disk and come after this number. */
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

export class RunLog {
  readonly #options: RunLogOptions;
  readonly #state: LogState;
  readonly #waiting: Waiting[] = [];
  readonly #waitingBytes = new Map<LogParty, number>();
  #nodesWaitingBytes = 0;
  #writing: Promise<void> | undefined;
  #isClosed = false;

  constructor(options: RunLogOptions, head: LogHead) {
    this.#options = options;
    this.#state = { head, nodeLines: new Map(), full: new Set(), lost: new Map() };
  }

  /**
   * Resolves to true when the lines are on the disk, or were dropped because the party has used up its share; to false if the
   * log was closed or the store failed: their sender must keep them. `serverSequence`: the server half's own number of the
   * last line.
   */
  append(party: LogParty, lines: readonly LogLine[], serverSequence?: number): Promise<boolean> {
    if (this.#isClosed) return Promise.resolve(false);
    // Checked before the lines are cleaned: a party whose share is full must not keep the link busy.
    if (this.#state.full.has(party) && serverSequence === undefined) return Promise.resolve(true);
    if (!this.#mayWait(party)) {
      this.#lose(party, lines.length);
      return Promise.resolve(true);
    }
    const kept = this.#state.full.has(party) ? [] : lines.map(line => cleanLine(party, line));
    const bytes = kept.reduce((sum, { text }) => sum + text.length + lineOverheadBytes, 0);
    return new Promise(resolve => {
      this.#waiting.push({ party, lines: kept, bytes, serverSequence, resolve });
      this.#noteWaiting(party, bytes);
      this.#start();
    });
  }

  /** Whether the share of this party is full. */
  isFull(party: LogParty): boolean {
    return this.#state.full.has(party);
  }

  /** The number of lines on the disk. */
  count(): number {
    return this.#state.head.lines;
  }

  /** The server half's own number of its last line on the disk. */
  serverSequence(): number {
    return this.#state.head.serverSequence;
  }

  /** Refuses further lines and retries nothing more; resolves when no write is in progress. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#writing;
  }

  /** Each party has its own bound in memory. The nodes share one, of which a node may use half of what the others leave. */
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
    const { lost } = this.#state;
    if (count > 0) lost.set(party, (lost.get(party) ?? 0) + count);
  }

  #start(): void {
    this.#writing ??= this.#writeAll()
      .catch(() => {
        for (const each of this.#waiting.splice(0)) this.#finish(each, false);
      })
      .finally(() => {
        this.#writing = undefined;
        if (this.#waiting.length > 0) this.#start();
      });
  }

  #finish(done: Waiting, isSettled: boolean): void {
    this.#noteWaiting(done.party, -done.bytes);
    done.resolve(isSettled);
  }

  async #writeAll(): Promise<void> {
    // Waits for the lines of the same turn, to write them together.
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
      for (const each of this.#waiting.splice(0, batch.length)) this.#finish(each, true);
      this.#options.onChange();
    }
  }

  #nextBatch(): readonly Waiting[] {
    let lines = 0;
    const end = this.#waiting.findIndex(each => (lines += each.lines.length) >= maxLinesAtOnce);
    return end === -1 ? [...this.#waiting] : this.#waiting.slice(0, end + 1);
  }

  async #write(batch: readonly Waiting[]): Promise<void> {
    const { store, clock, tenant, run, floor } = this.#options;
    const bytes = batch.reduce((sum, each) => sum + each.bytes, 0);
    const isFree = await floor.isFree(bytes);
    const draft = new LogDraft(this.#state, { isFree, now: clock.now() });
    for (const each of batch) draft.add(each);
    const first = this.#state.head.lines + 1;
    const changes: Change[] = draft.entries.map((entry, index) => ({
      type: 'put',
      key: runLogKey(tenant, run, first + index),
      value: encodeLogEntry({ ...entry, number: 0 }),
    }));
    const head = Buffer.from(JSON.stringify(draft.head));
    await store.commit([...changes, { type: 'put', key: runLogHeadKey(tenant, run), value: head }]);
    this.#apply(draft);
    if (!isFree) for (const { party, lines } of batch) if (party !== 'link') this.#lose(party, lines.length);
  }

  #apply({ head, nodeLines, full, reported }: LogDraft): void {
    this.#state.head = head;
    for (const [node, count] of nodeLines) this.#state.nodeLines.set(node, count);
    for (const party of full) this.#state.full.add(party);
    for (const party of reported) this.#state.lost.delete(party);
  }
}

/** A line whose author is the link. */
export function linkLine(clock: Clock, text: string): LogLine {
  return { at: clock.now(), level: 'link', text };
}
