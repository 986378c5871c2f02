/**
 * How often a handler was entered with which message, in a file of lines that is written before the handler is. A kill does not
 * lose it, because the system has each line when the write returns; a power cut may, because no line waits for the disk:
 * a handler would otherwise be entered half a millisecond later, each time. Whoever answers waits for the disk, with
 * the answer.
 *
 *     + <run> <message>      entered once more
 *     - <run> <message>      forgotten
 *     - <run>                all of it forgotten
 */
import {
  closeSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  renameSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { storeFailure } from '../../store/failure.js';

export interface EntryLog {
  /** Those with a message that was entered and is not forgotten. */
  runs(): readonly bigint[];
  times(run: bigint, message: number): number;
  /** Counts even when the file cannot be written, and throws then: STORE_FULL, STORE_UNAVAILABLE. */
  enter(run: bigint, message: number): void;
  /** What cannot be written down here is forgotten again another time. */
  forget(run: bigint, message: number): void;
  forgetRun(run: bigint): void;
  clear(): void;
  close(): void;
}

/** A file that is larger is written anew with what is not forgotten. */
const compactBytes = 1024 * 1024;
const linePattern = /^([+-]) (\d{1,20})(?: (\d{1,16}))?$/;

/** Without a path it is kept in memory alone. */
export function openEntryLog(path?: string): EntryLog {
  const runs = new Map<bigint, Map<number, number>>();
  let file: number | undefined;
  let size = 0;
  let compactAt = compactBytes;
  if (path !== undefined) {
    file = trying(() => openSync(path, 'a+', 0o600));
    const text = trying(() => readFileSync(path, 'latin1'));
    size = text.length;
    for (const line of text.split('\n')) apply(line);
    // What a power cut left of a line must not become part of the next one.
    if (text !== '' && !text.endsWith('\n')) compact();
  }

  function apply(line: string): void {
    const [, sign, run, message] = linePattern.exec(line) ?? [];
    if (run === undefined) return;
    if (sign === '+' && message !== undefined) count(BigInt(run), Number(message));
    else if (message === undefined) runs.delete(BigInt(run));
    else drop(BigInt(run), Number(message));
  }

  function count(run: bigint, message: number, times = 1): void {
    const messages = runs.get(run) ?? new Map<number, number>();
    runs.set(run, messages);
    messages.set(message, (messages.get(message) ?? 0) + times);
  }

  function drop(run: bigint, message: number): boolean {
    const messages = runs.get(run);
    const wasThere = messages?.delete(message) ?? false;
    if (messages?.size === 0) runs.delete(run);
    return wasThere;
  }

  function append(line: string): void {
    if (file === undefined) return;
    const open = file;
    trying(() => writeSync(open, line));
    size += line.length;
    if (size > compactAt) compact();
  }

  function appendForgotten(line: string): void {
    try {
      if (runs.size === 0) empty();
      else append(line);
    } catch {
      // It stands there a little longer.
    }
  }

  function empty(): void {
    if (file === undefined || size === 0) return;
    ftruncateSync(file, 0);
    size = 0;
  }

  function compact(): void {
    if (path === undefined) return;
    const draft = `${path}.new`;
    const lines = [...runs].flatMap(([run, messages]) =>
      [...messages].map(([message, times]) => `+ ${run} ${message}\n`.repeat(times)),
    );
    const text = lines.join('');
    trying(() => {
      const next = openSync(draft, 'w', 0o600);
      writeFileSync(next, text);
      fsyncSync(next);
      closeSync(next);
      renameSync(draft, path);
      if (file !== undefined) closeSync(file);
      file = openSync(path, 'a', 0o600);
    });
    size = text.length;
    compactAt = Math.max(compactBytes, 4 * size);
  }

  return {
    runs: () => [...runs.keys()],
    times: (run, message) => runs.get(run)?.get(message) ?? 0,
    enter(run, message) {
      count(run, message);
      append(`+ ${run} ${message}\n`);
    },
    forget(run, message) {
      if (drop(run, message)) appendForgotten(`- ${run} ${message}\n`);
    },
    forgetRun(run) {
      if (runs.delete(run)) appendForgotten(`- ${run}\n`);
    },
    clear() {
      runs.clear();
      trying(empty);
    },
    close() {
      if (file !== undefined) closeSync(file);
      file = undefined;
    },
  };
}

function trying<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw storeFailure(error);
  }
}
