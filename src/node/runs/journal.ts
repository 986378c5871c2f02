/**
 * Keeps what a node owes the link, so that no crash loses it: the answer to each message until the link has it, the state of each run,
 * in one commit with the answer of the handler that left it so, and how often a handler was entered with a message, in a file of
 * its own (entry-log.ts). An index is in memory; contents are read when they are needed.
 *
 *     owner                           the node all of this belongs to
 *     run/<run>/answer/<message>      one letter for the kind, and the rest
 *     run/<run>/state                 empty: the run has a state; listing runs then reads no large values
 *     state/<run>                     a content of src/app/content.ts
 */
import { RollcallError } from '../../base/errors.js';
import { isMessageErrorCode, type MessageErrorCode } from '../../app/message-error.js';
import { pagesBelow } from '../../store/pages.js';
import { padded } from '../../store/keys.js';
import { prepareStore } from '../../store/schema.js';
import type { Change, Key, Store } from '../../store/store.js';
import { EntryLog } from './entry-log.js';

export type Answer =
  | { readonly kind: 'content'; readonly content: Uint8Array }
  | { readonly kind: 'object'; readonly digest: string; readonly sizeBytes: number }
  | { readonly kind: 'error'; readonly code: MessageErrorCode; readonly message: string };

interface KnownRun {
  /** With the digest of the object, for those that are one. */
  readonly answered: Map<number, string | undefined>;
  hasState: boolean;
}

const ownerKey: Key = 'owner';
const allRuns: Key = 'run/';
const allStates: Key = 'state/';
const runPrefix = (run: bigint): Key => `${allRuns}${run}/`;
const answerKey = (run: bigint, message: number): Key => `${runPrefix(run)}answer/${padded(message, 16)}`;
const hasStateKey = (run: bigint): Key => `${runPrefix(run)}state`;
const stateKey = (run: bigint): Key => `${allStates}${run}`;
const keyPattern = /^run\/(\d{1,20})\/(?:answer\/(\d{16})|state)$/;
const pageSize = 256;
/** A page is read into memory, and a state may have 16 MiB. */
const statesPerPage = 4;
const inOrder = (one: number, other: number): number => one - other;

export class Journal {
  readonly #store: Store;
  readonly #entries: EntryLog;
  readonly #known = new Map<bigint, KnownRun>();

  /** Reads what is there; the store belongs to the journal from then on. */
  static async open(store: Store, entries: EntryLog = new EntryLog()): Promise<Journal> {
    await prepareStore(store);
    const journal = new Journal(store, entries);
    for await (const page of pagesBelow(store, allRuns, pageSize))
      for (const { key, value } of page) journal.#remember(key, value);
    return journal;
  }

  private constructor(store: Store, entries: EntryLog) {
    this.#store = store;
    this.#entries = entries;
  }

  /** Forgets everything unless it belongs to this owner, who has it from then on. True when something was forgotten. */
  async claim(owner: string): Promise<boolean> {
    const before = await this.#store.get(ownerKey);
    if (before && Buffer.from(before).toString('latin1') === owner) return false;
    const hadAny = this.#known.size > 0 || this.#entries.runs().length > 0;
    this.#known.clear();
    this.#entries.clear();
    await this.#deleteAll(allRuns);
    await this.#deleteAll(allStates, statesPerPage);
    await this.#store.commit([{ type: 'put', key: ownerKey, value: Buffer.from(owner, 'latin1') }]);
    return hadAny;
  }

  /** Runs of which anything is kept. */
  runs(): readonly bigint[] {
    return [...new Set([...this.#known.keys(), ...this.#entries.runs()])];
  }

  /** Messages whose answer the link may not have, in order. */
  answered(run: bigint): readonly number[] {
    return [...(this.#known.get(run)?.answered.keys() ?? [])].sort(inOrder);
  }

  isAnswered(run: bigint, message: number): boolean {
    return this.#known.get(run)?.answered.has(message) ?? false;
  }

  /** Digest of the object that is the answer, when it is one. */
  objectOf(run: bigint, message: number): string | undefined {
    return this.#known.get(run)?.answered.get(message);
  }

  /** How often a handler was entered with the message. */
  timesEntered(run: bigint, message: number): number {
    return this.#entries.times(run, message);
  }

  /** Written down when it returns. Throws when it could not be written, and counts all the same. */
  enter(run: bigint, message: number): void {
    this.#entries.enter(run, message);
  }

  /** Keeps the answer, with the state when that has changed, in one commit. */
  async answer(run: bigint, message: number, answer: Answer, state?: Uint8Array): Promise<void> {
    const changes: Change[] = [{ type: 'put', key: answerKey(run, message), value: encodeAnswer(answer) }];
    if (state) {
      changes.push({ type: 'put', key: stateKey(run), value: state });
      changes.push({ type: 'put', key: hasStateKey(run), value: Buffer.alloc(0) });
    }
    await this.#store.commit(changes);
    const found = this.#knownRun(run);
    found.answered.set(message, answer.kind === 'object' ? answer.digest : undefined);
    found.hasState ||= state !== undefined;
  }

  async findAnswer(run: bigint, message: number): Promise<Answer | undefined> {
    const value = await this.#store.get(answerKey(run, message));
    return value && decodeAnswer(value);
  }

  /** The state with the last answer that changed it. */
  findState(run: bigint): Promise<Uint8Array | undefined> {
    return this.#store.get(stateKey(run));
  }

  /** Nothing of the message is kept. */
  async forget(run: bigint, message: number): Promise<void> {
    this.#entries.forget(run, message);
    if (!this.#known.get(run)?.answered.delete(message)) return;
    this.#dropIfEmpty(run);
    await this.#store.commit([{ type: 'delete', key: answerKey(run, message) }]);
  }

  /** Nothing of the run is kept. */
  async forgetRun(run: bigint): Promise<void> {
    this.#known.delete(run);
    this.#entries.forgetRun(run);
    await this.#store.commit([{ type: 'delete', key: stateKey(run) }]);
    await this.#deleteAll(runPrefix(run));
    // An answer that was being written when this began has counted itself since.
    this.#known.delete(run);
  }

  async close(): Promise<void> {
    await this.#store.close();
    this.#entries.close();
  }

  #knownRun(run: bigint): KnownRun {
    const found = this.#known.get(run) ?? {
      answered: new Map<number, string | undefined>(),
      hasState: false,
    };
    this.#known.set(run, found);
    return found;
  }

  #remember(key: Key, value: Uint8Array): void {
    const [, run, message] = keyPattern.exec(key) ?? [];
    if (run === undefined) return;
    const found = this.#knownRun(BigInt(run));
    if (message === undefined) found.hasState = true;
    else found.answered.set(Number(message), digestOf(value));
  }

  #dropIfEmpty(run: bigint): void {
    const found = this.#known.get(run);
    if (found && !found.hasState && found.answered.size === 0) this.#known.delete(run);
  }

  async #deleteAll(prefix: Key, limit = pageSize): Promise<void> {
    for (;;) {
      const page = await this.#store.list({ prefix, limit });
      if (page.length === 0) return;
      await this.#store.commit(page.map(({ key }) => ({ type: 'delete', key })));
    }
  }
}

function digestOf(value: Uint8Array): string | undefined {
  if (value[0] !== 'o'.charCodeAt(0)) return undefined;
  const answer = decodeAnswer(value);
  return answer.kind === 'object' ? answer.digest : undefined;
}

export function encodeAnswer(answer: Answer): Buffer {
  if (answer.kind === 'content') return Buffer.concat([Buffer.from('c'), answer.content]);
  const { kind, ...rest } = answer;
  return Buffer.from(`${kind === 'object' ? 'o' : 'e'}${JSON.stringify(rest)}`);
}

/** INTERNAL for what `encodeAnswer` would not write. */
export function decodeAnswer(value: Uint8Array): Answer {
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  const letter = bytes.toString('latin1', 0, 1);
  if (letter === 'c') return { kind: 'content', content: bytes.subarray(1) };
  try {
    const rest = JSON.parse(bytes.toString('utf8', 1)) as Readonly<Record<string, unknown>>;
    const { digest, sizeBytes, code, message } = rest;
    if (letter === 'o' && typeof digest === 'string' && typeof sizeBytes === 'number')
      return { kind: 'object', digest, sizeBytes };
    if (letter === 'e' && typeof code === 'string' && isMessageErrorCode(code) && typeof message === 'string')
      return { kind: 'error', code, message };
  } catch {
    // The error below tells it.
  }
  throw new RollcallError('INTERNAL', 'an answer in the journal of the node is damaged');
}
