/**
 * How often a handler was entered with each message, in a file of lines. A line is written before the handler is entered. A kill
 * of the agent does not lose it, because the system has each line when the write returns. A power cut may lose it: no line waits
 * for the disk, which would delay every handler by half a millisecond. The answer waits for the disk.
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

/** A larger file is written anew, without the forgotten entries. */
const compactBytes = 1024 * 1024;
const linePattern = /^([+-]) (\d{1,20})(?: (\d{1,16}))?$/;

export class EntryLog {
  readonly #path: string | undefined;
  readonly #runs = new Map<bigint, Map<number, number>>();
  #file: number | undefined;
  #size = 0;
  #compactAt = compactBytes;

  /** Without a path the log is kept in memory only. STORE_FULL and STORE_UNAVAILABLE for a file that cannot be opened. */
  constructor(path?: string) {
    this.#path = path;
    if (path === undefined) return;
    this.#file = trying(() => openSync(path, 'a+', 0o600));
    const text = trying(() => readFileSync(path, 'latin1'));
    this.#size = text.length;
    for (const line of text.split('\n')) this.#apply(line);
    // A power cut may have left half a line, which must not become part of the next one.
    if (text !== '' && !text.endsWith('\n')) this.#compact();
  }

  /** Runs with a message that was entered and is not forgotten. */
  runs(): readonly bigint[] {
    return [...this.#runs.keys()];
  }

  times(run: bigint, message: number): number {
    return this.#runs.get(run)?.get(message) ?? 0;
  }

  /** Counts even when the file cannot be written, and throws then: STORE_FULL, STORE_UNAVAILABLE. */
  enter(run: bigint, message: number): void {
    this.#count(run, message);
    this.#append(`+ ${run} ${message}\n`);
  }

  /** A line that cannot be written is left out; the message is forgotten again later. */
  forget(run: bigint, message: number): void {
    if (this.#drop(run, message)) this.#appendForgotten(`- ${run} ${message}\n`);
  }

  forgetRun(run: bigint): void {
    if (this.#runs.delete(run)) this.#appendForgotten(`- ${run}\n`);
  }

  clear(): void {
    this.#runs.clear();
    trying(() => this.#empty());
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }

  #apply(line: string): void {
    const [, sign, run, message] = linePattern.exec(line) ?? [];
    if (run === undefined) return;
    if (sign === '+' && message !== undefined) this.#count(BigInt(run), Number(message));
    else if (message === undefined) this.#runs.delete(BigInt(run));
    else this.#drop(BigInt(run), Number(message));
  }

  #count(run: bigint, message: number): void {
    const messages = this.#runs.get(run) ?? new Map<number, number>();
    this.#runs.set(run, messages);
    messages.set(message, (messages.get(message) ?? 0) + 1);
  }

  #drop(run: bigint, message: number): boolean {
    const messages = this.#runs.get(run);
    const wasThere = messages?.delete(message) ?? false;
    if (messages?.size === 0) this.#runs.delete(run);
    return wasThere;
  }

  #append(line: string): void {
    if (this.#file === undefined) return;
    const open = this.#file;
    trying(() => writeSync(open, line));
    this.#size += line.length;
    if (this.#size > this.#compactAt) this.#compact();
  }

  #appendForgotten(line: string): void {
    try {
      if (this.#runs.size === 0) this.#empty();
      else this.#append(line);
    } catch {
      // The entry stays in the file a little longer.
    }
  }

  #empty(): void {
    if (this.#file === undefined || this.#size === 0) return;
    ftruncateSync(this.#file, 0);
    this.#size = 0;
  }

  #compact(): void {
    const path = this.#path;
    if (path === undefined) return;
    const draft = `${path}.new`;
    const lines = [...this.#runs].flatMap(([run, messages]) =>
      [...messages].map(([message, times]) => `+ ${run} ${message}\n`.repeat(times)),
    );
    const text = lines.join('');
    trying(() => {
      const next = openSync(draft, 'w', 0o600);
      writeFileSync(next, text);
      fsyncSync(next);
      closeSync(next);
      renameSync(draft, path);
      if (this.#file !== undefined) closeSync(this.#file);
      this.#file = openSync(path, 'a', 0o600);
    });
    this.#size = text.length;
    this.#compactAt = Math.max(compactBytes, 4 * this.#size);
  }
}

function trying<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw storeFailure(error);
  }
}
