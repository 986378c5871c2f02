/**
 * The output of a runner's process as lines for people: decoded whatever it is, nothing in it that a terminal would obey, and
 * bounded three ways. A long line is cut, lines beyond so many a second are only counted, and a runner that writes more
 * bytes a second than it may waits until the second is over, so that what it writes costs us little.
 */
import { StringDecoder } from 'node:string_decoder';
import type { Readable } from 'node:stream';
import type { Clock } from '../../base/clock.js';
import { visibleText } from '../../base/text.js';

export type OutputStream = 'stdout' | 'stderr';
export type OnOutput = (stream: OutputStream, text: string) => void;

export const outputLimits = { lineBytes: 4096, linesPerSecond: 1_000, bytesPerSecond: 2_097_152 } as const;
const secondMs = 1_000;
const newline = 0x0a;
/** Colours and the like (ECMA-48, CSI); what else a terminal would obey is shown as `?`. */
const controlSequence = /\x1b\[[0-?]*[ -/]*[@-~]/g;

/** Lines of a stream, each as soon as it ends; of a longer one the beginning, as soon as it is too long. */
export function createLineSplitter(onLine: (line: Buffer) => void): {
  take(bytes: Buffer): void;
  end(): void;
} {
  let begun: Buffer[] = [];
  let begunBytes = 0;
  let isSkipping = false;

  function add(bytes: Buffer): void {
    if (isSkipping || bytes.length === 0) return;
    begun.push(bytes);
    begunBytes += bytes.length;
    if (begunBytes <= outputLimits.lineBytes) return;
    finish();
    isSkipping = true;
  }

  function finish(): void {
    const line = Buffer.concat(begun, begunBytes);
    begun = [];
    begunBytes = 0;
    onLine(line);
  }

  return {
    take(bytes) {
      let from = 0;
      for (let to = bytes.indexOf(newline); to !== -1; to = bytes.indexOf(newline, from)) {
        add(bytes.subarray(from, to));
        if (!isSkipping) finish();
        isSkipping = false;
        from = to + 1;
      }
      // A copy, so that a short rest does not keep all of what was read.
      add(Buffer.from(bytes.subarray(from)));
    },
    end() {
      if (begunBytes > 0) finish();
    },
  };
}

/** One line, as a person may see it. */
export function showLine(line: Buffer): string {
  const isCut = line.length > outputLimits.lineBytes;
  // A decoder that is not ended leaves out the character that the cut went through.
  const decoded = isCut
    ? new StringDecoder('utf8').write(line.subarray(0, outputLimits.lineBytes))
    : line.toString('utf8');
  const shown = makeHarmless(decoded);
  return isCut ? `${shown}…` : shown;
}

/** Also for lines that came from another program, which may not have done it. */
export function makeHarmless(text: string): string {
  const plain = text.slice(0, outputLimits.lineBytes).replaceAll(controlSequence, '').replace(/\r$/, '');
  return visibleText(plain.replaceAll('\t', '  '), 2 * outputLimits.lineBytes);
}

/** Lets so many lines a second through and tells how many it did not. `end` tells what is left to tell. */
export function createLineLimit(
  clock: Clock,
  onOutput: OnOutput,
  maxPerSecond: number = outputLimits.linesPerSecond,
): { take(stream: OutputStream, show: () => string): void; end(): void } {
  let passed = 0;
  let leftOut = 0;
  let second: { cancel(): void } | undefined;

  function next(): void {
    second?.cancel();
    second = undefined;
    if (leftOut > 0)
      onOutput('stderr', `(${leftOut} more lines were left out: at most ${maxPerSecond} a second)`);
    passed = 0;
    leftOut = 0;
  }

  return {
    take(stream, show) {
      second ??= clock.after(secondMs, next);
      if (passed >= maxPerSecond) leftOut += 1;
      else {
        passed += 1;
        onOutput(stream, show());
      }
    },
    end: next,
  };
}

export interface OutputReader {
  /** Resolves when both streams are closed. */
  readonly ended: Promise<void>;
  /** Reads no more. Tells what is left to tell. */
  end(): void;
}

/** Reads what a process writes until both streams end. */
export function readOutput(
  streams: Readonly<Record<OutputStream, Readable>>,
  clock: Clock,
  onOutput: OnOutput,
): OutputReader {
  const both = Object.values(streams);
  const limit = createLineLimit(clock, onOutput);
  let bytes = 0;
  let second: { cancel(): void } | undefined;
  let isOver = false;

  function count(read: number): void {
    bytes += read;
    second ??= clock.after(secondMs, goOn);
    if (bytes > outputLimits.bytesPerSecond) for (const stream of both) stream.pause();
  }

  function goOn(): void {
    second = undefined;
    bytes = 0;
    for (const stream of both) stream.resume();
  }

  const splitters = Object.entries(streams).map(([name, stream]) => {
    const splitter = createLineSplitter(line => limit.take(name as OutputStream, () => showLine(line)));
    stream.on('data', (read: Buffer) => {
      splitter.take(read);
      count(read.length);
    });
    stream.on('error', () => undefined);
    return splitter;
  });

  function end(): void {
    if (isOver) return;
    isOver = true;
    second?.cancel();
    for (const stream of both) stream.destroy();
    for (const splitter of splitters) splitter.end();
    limit.end();
  }

  const closed = both.map(stream => new Promise<void>(resolve => void stream.once('close', () => resolve())));
  return { ended: Promise.all(closed).then(end), end };
}
