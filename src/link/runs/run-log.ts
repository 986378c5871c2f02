/**
 * The log of one run: lines in the order in which they came, counted from 1 without gaps, on the disk before whoever sent
 * them hears so. Lines that come while others are being written go together.
 */
import type { Clock } from '../../base/clock.js';
import type { Change, Store } from '../../store/store.js';
import { cleanText } from '../audit/clean-text.js';
import { isPassing, untilRetry } from './passing-failure.js';
import { numberOfKey, runLogHeadKey, runLogKey, runLogPrefix } from './run-keys.js';
import { decodeLogEntry, encodeLogEntry, type RunLogEntry } from './run-record.js';

export type LogLine = Omit<RunLogEntry, 'number'>;

export interface RunLog {
  /** Resolves when the lines are on the disk, or nothing is kept any more. `serverSequence`: of the last of them, where the server half counts. */
  append(lines: readonly LogLine[], serverSequence?: number): Promise<void>;
  /** How many lines there are. */
  count(): number;
  /** Of the last line of the server half that is on the disk. */
  serverSequence(): number;
  /** Nothing more is taken or tried again; resolves when nothing is being written. */
  close(): Promise<void>;
}

export interface RunLogOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly tenant: string;
  readonly run: bigint;
  readonly onChange: () => void;
}

export const logLimits = { lines: 100_000, textLength: 4_096, waiting: 5_000 } as const;
const mostAtOnce = 500;
const levels: ReadonlySet<string> = new Set(['debug', 'info', 'warn', 'error', 'stdout', 'stderr', 'link']);

interface Waiting {
  readonly lines: readonly LogLine[];
  readonly serverSequence: number | undefined;
  resolve(): void;
}

interface Head {
  readonly lines: number;
  readonly serverSequence: number;
}

async function readHead(store: Store, tenant: string, run: bigint): Promise<Head> {
  const value = await store.get(runLogHeadKey(tenant, run));
  return value ? (JSON.parse(Buffer.from(value).toString()) as Head) : { lines: 0, serverSequence: 0 };
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
  const { store, clock, tenant, run, onChange } = options;
  let { lines: count, serverSequence } = await readHead(store, tenant, run);
  const waiting: Waiting[] = [];
  let waitingLines = 0;
  let lost = 0;
  let writing: Promise<void> | undefined;
  let closed = false;

  function bounded(lines: readonly LogLine[], from: number): readonly LogLine[] {
    const left = logLimits.lines - from;
    if (left <= 0) return [];
    const told = lost > 0 ? [linkLine(clock, `${lost} lines were lost: too many came at once`)] : [];
    const all = [...told, ...lines];
    return all.length < left
      ? all
      : [...all.slice(0, left - 1), linkLine(clock, 'the log of this run is full: nothing more is kept')];
  }

  async function write(batch: readonly Waiting[]): Promise<void> {
    const lostBefore = lost;
    const lines = bounded(
      batch.flatMap(each => each.lines),
      count,
    );
    const changes: Change[] = lines.map((line, index) => ({
      type: 'put',
      key: runLogKey(tenant, run, count + 1 + index),
      value: encodeLogEntry({ ...line, number: 0 }),
    }));
    const head: Head = {
      lines: count + lines.length,
      serverSequence: batch.reduce((last, each) => Math.max(last, each.serverSequence ?? 0), serverSequence),
    };
    changes.push({ type: 'put', key: runLogHeadKey(tenant, run), value: Buffer.from(JSON.stringify(head)) });
    await store.commit(changes);
    lost -= lostBefore;
    count = head.lines;
    serverSequence = head.serverSequence;
  }

  async function writeAll(): Promise<void> {
    // Lines of the same turn belong together.
    await Promise.resolve();
    while (waiting.length > 0) {
      const batch = takeBatch();
      try {
        await write(batch);
      } catch (error) {
        waiting.unshift(...batch);
        waitingLines += linesOf(batch);
        if (closed || !isPassing(error)) throw error;
        await untilRetry(clock);
        continue;
      }
      for (const each of batch) each.resolve();
      onChange();
    }
  }

  function start(): void {
    writing ??= writeAll()
      .catch(() => {
        for (const each of waiting.splice(0)) each.resolve();
        waitingLines = 0;
      })
      .finally(() => {
        writing = undefined;
        if (waiting.length > 0) start();
      });
  }

  function takeBatch(): Waiting[] {
    let lines = 0;
    const batch: Waiting[] = [];
    for (let next = waiting[0]; next && lines < mostAtOnce; next = waiting[0]) {
      lines += next.lines.length;
      batch.push(next);
      waiting.shift();
    }
    waitingLines -= lines;
    return batch;
  }

  return {
    append(lines, sequence) {
      if (closed) return Promise.resolve();
      if (waitingLines > logLimits.waiting) {
        lost += lines.length;
        return Promise.resolve();
      }
      return new Promise(resolve => {
        waiting.push({ lines: lines.map(clean), serverSequence: sequence, resolve });
        waitingLines += lines.length;
        start();
      });
    },
    count: () => count,
    serverSequence: () => serverSequence,
    async close() {
      closed = true;
      await writing;
    },
  };
}

function linesOf(batch: readonly Waiting[]): number {
  return batch.reduce((sum, each) => sum + each.lines.length, 0);
}

export function linkLine(clock: Clock, text: string): LogLine {
  return { at: clock.now(), node: 0n, level: 'link', text };
}

/** What an app writes is shown on terminals, line by line. */
function clean({ at, node, level, text }: LogLine): LogLine {
  return {
    at: Number.isSafeInteger(at) && at >= 0 ? at : 0,
    node,
    level: levels.has(level) ? level : 'info',
    text: cleanText(text, logLimits.textLength),
  };
}
