/**
 * Lines that a node half of one run has logged, on their way to the link: gathered for a moment, sent in frames, kept until
 * the link has them, and sent again on the next session. A half that logs more than the link takes loses its oldest
 * lines, and a line says how many. In memory alone: what a crash of the agent loses of them is lost.
 */
import type { Clock, Timer } from '../../base/clock.js';
import type { LogLine } from '../../protocol/generated/rollcall/v1/link.js';
import { limits } from '../../protocol/limits.js';
import { clipText } from './clip-text.js';
import type { LinkHolder } from './link-holder.js';

export interface RunLogs {
  add(at: number, level: string, text: string): void;
  /** Sends what waits now; also lines that were sent on an earlier session, when it was told of a new one. */
  flush(): void;
  /** There is a new session: nothing of what was sent counts as sent. */
  sendAgain(): void;
  /** The link has all up to this one. */
  taken(sequence: number): void;
  close(): void;
}

export const runLogLimits = {
  lines: 2_000,
  bytes: 4 * 1024 * 1024,
  lineBytes: 16 * 1024,
  gatherMs: 20,
} as const;
/** What a line costs in a frame besides its text. */
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

export function createRunLogs({ run, link, clock, firstSequence }: RunLogsOptions): RunLogs {
  const lines: Line[] = [];
  let bytes = 0;
  let nextSequence = firstSequence;
  /** Lines below this have been sent on the session there is now. */
  let unsentFrom = 0;
  let dropped = 0;
  /** The first line, when it tells of dropped ones. */
  let marker: Line | undefined;
  let timer: Timer | undefined;
  let waitsForLink = false;

  function push(line: Line): void {
    lines.push(line);
    bytes += line.bytes;
    while (lines.length > runLogLimits.lines || bytes > runLogLimits.bytes) dropOldest();
  }

  /** The place of the last one that was dropped is taken by the line that says so. */
  function dropOldest(): void {
    if (marker) remove();
    else dropped = 0;
    const oldest = remove();
    if (!oldest) return;
    dropped += 1;
    marker = lineOf(oldest.sequence, oldest.at, 'warn', `${dropped} lines were dropped here on the node`);
    lines.unshift(marker);
    bytes += marker.bytes;
  }

  function remove(): Line | undefined {
    const first = lines.shift();
    bytes -= first?.bytes ?? 0;
    return first;
  }

  function flush(): void {
    timer?.cancel();
    timer = undefined;
    const { live } = link;
    if (!live || waitsForLink) return;
    for (let batch = nextBatch(); batch.length > 0; batch = nextBatch()) {
      const [first] = batch;
      unsentFrom = (batch.at(-1)?.sequence ?? 0) + 1;
      const value = { run, sequence: BigInt(first?.sequence ?? 0), lines: batch.map(toWire) };
      if (live.send({ $case: 'log', value })) continue;
      waitsForLink = true;
      void live.drained().then(() => {
        waitsForLink = false;
        flush();
      });
      return;
    }
  }

  /** Lines without a gap in their numbers that fit into one frame. */
  function nextBatch(): Line[] {
    const from = lines.findIndex(({ sequence }) => sequence >= unsentFrom);
    if (from < 0) return [];
    let size = 0;
    let end = from;
    const most = Math.min(lines.length, from + limits.logLinesPerFrame);
    for (; end < most; end++) {
      const line = lines[end];
      size += line?.bytes ?? 0;
      if (size > limits.pieceBytes && end > from) break;
      if (end > from && line?.sequence !== (lines[end - 1]?.sequence ?? 0) + 1) break;
    }
    return lines.slice(from, end);
  }

  return {
    add(at, level, text) {
      push(lineOf(nextSequence++, at, level, clipText(text, runLogLimits.lineBytes)));
      timer ??= clock.after(runLogLimits.gatherMs, flush);
    },
    flush,
    sendAgain() {
      unsentFrom = 0;
      waitsForLink = false;
    },
    taken(sequence) {
      while (lines[0] && lines[0].sequence <= sequence) remove();
      if (marker !== lines[0]) marker = undefined;
    },
    close() {
      timer?.cancel();
      lines.length = 0;
    },
  };
}

function lineOf(sequence: number, at: number, level: string, text: string): Line {
  return { sequence, at, level, text, bytes: Buffer.byteLength(text) + lineOverheadBytes };
}

function toWire({ at, level, text }: Line): LogLine {
  return { atMs: BigInt(at), level, text };
}
