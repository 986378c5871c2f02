/**
 * Lines that the node half of one run has logged, on their way to the link: gathered for a moment, sent in frames, kept until
 * the link has them, and sent again on the next session. A half that logs more than the link takes loses its oldest lines, and
 * a line says how many. They are in memory only: a crash of the agent loses those that the link does not have.
 */
import type { Clock, Timer } from '../../base/clock.js';
import { clipToBytes } from '../../base/text.js';
import type { LogLine } from '../../protocol/generated/rollcall/v1/link.js';
import { limits } from '../../protocol/limits.js';
import type { LinkHolder } from './link-holder.js';

export const runLogLimits = {
  lines: 2_000,
  bytes: 4 * 1024 * 1024,
  lineBytes: 16 * 1024,
  gatherMs: 20,
} as const;
/** Bytes of a line in a frame besides its text. */
const lineOverheadBytes = 64;

interface Line {
  readonly sequence: number;
  readonly at: number;
  readonly level: string;
  readonly text: string;
  readonly bytes: number;
}

export interface RunLogsOptions {
  readonly run: bigint;
  readonly link: LinkHolder;
  readonly clock: Clock;
  /** Of the first line. */
  readonly firstSequence: number;
}

export class RunLogs {
  readonly #options: RunLogsOptions;
  readonly #lines: Line[] = [];
  #bytes = 0;
  #nextSequence: number;
  /** Lines below this have been sent on the present session. */
  #unsentFrom = 0;
  #dropped = 0;
  /** The first line, when it tells of dropped ones. */
  #marker: Line | undefined;
  #timer: Timer | undefined;
  #waitsForLink = false;

  constructor(options: RunLogsOptions) {
    this.#options = options;
    this.#nextSequence = options.firstSequence;
  }

  add(at: number, level: string, text: string): void {
    this.#push(lineOf(this.#nextSequence++, at, level, clipToBytes(text, runLogLimits.lineBytes)));
    this.#timer ??= this.#options.clock.after(runLogLimits.gatherMs, () => this.flush());
  }

  /** Sends what waits now; after `sendAgain` also the lines that were sent on an earlier session. */
  flush(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    const { run, link } = this.#options;
    const { live } = link;
    if (!live || this.#waitsForLink) return;
    for (let batch = this.#nextBatch(); batch.length > 0; batch = this.#nextBatch()) {
      const [first] = batch;
      this.#unsentFrom = (batch.at(-1)?.sequence ?? 0) + 1;
      const value = { run, sequence: BigInt(first?.sequence ?? 0), lines: batch.map(toWire) };
      if (live.send({ $case: 'log', value })) continue;
      this.#waitsForLink = true;
      void live.drained().then(() => {
        this.#waitsForLink = false;
        this.flush();
      });
      return;
    }
  }

  /** There is a new session: nothing of what was sent counts as sent. */
  sendAgain(): void {
    this.#unsentFrom = 0;
    this.#waitsForLink = false;
  }

  /** The link has all up to this one. */
  taken(sequence: number): void {
    while (this.#lines[0] && this.#lines[0].sequence <= sequence) this.#remove();
    if (this.#marker !== this.#lines[0]) this.#marker = undefined;
  }

  close(): void {
    this.#timer?.cancel();
    this.#lines.length = 0;
  }

  #push(line: Line): void {
    this.#lines.push(line);
    this.#bytes += line.bytes;
    while (this.#lines.length > runLogLimits.lines || this.#bytes > runLogLimits.bytes) this.#dropOldest();
  }

  /** The line that says how many were dropped takes the place of the last one. */
  #dropOldest(): void {
    if (this.#marker) this.#remove();
    else this.#dropped = 0;
    const oldest = this.#remove();
    if (!oldest) return;
    this.#dropped += 1;
    const text = `${this.#dropped} lines were dropped here on the node`;
    this.#marker = lineOf(oldest.sequence, oldest.at, 'warn', text);
    this.#lines.unshift(this.#marker);
    this.#bytes += this.#marker.bytes;
  }

  #remove(): Line | undefined {
    const first = this.#lines.shift();
    this.#bytes -= first?.bytes ?? 0;
    return first;
  }

  /** Lines without a gap in their numbers that fit into one frame. */
  #nextBatch(): Line[] {
    const lines = this.#lines;
    const from = lines.findIndex(({ sequence }) => sequence >= this.#unsentFrom);
    if (from < 0) return [];
    let size = 0;
    let end = from;
    const maxEnd = Math.min(lines.length, from + limits.logLinesPerFrame);
    for (; end < maxEnd; end++) {
      const line = lines[end];
      size += line?.bytes ?? 0;
      if (size > limits.pieceBytes && end > from) break;
      if (end > from && line?.sequence !== (lines[end - 1]?.sequence ?? 0) + 1) break;
    }
    return lines.slice(from, end);
  }
}

function lineOf(sequence: number, at: number, level: string, text: string): Line {
  return { sequence, at, level, text, bytes: Buffer.byteLength(text) + lineOverheadBytes };
}

function toWire({ at, level, text }: Line): LogLine {
  return { atMs: BigInt(at), level, text };
}
