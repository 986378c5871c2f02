/**
 * The one writer every back-end shares. Commits wait in a queue; a loop takes what has gathered as one group, checks
 * each commit's expectations in order (through what the group has already changed), and writes the group as one
 * synced batch, so that a thousand concurrent commits cost one fsync. Only then does anybody hear of it: watchers
 * first, then the callers, in commit order.
 *
 * When the batch fails, every commit of the group fails and no cache remembers it. Such a commit may still be found
 * once the disk is well again (see backend.ts), so a caller that tries again reads again first; and the next group is
 * judged only then.
 */
import { RollcallError } from '../base/errors.js';
import type { Backend } from './backend.js';
import { storeFailure } from './failure.js';
import { padded } from './keys.js';
import type { Change, Expectation, Key, Store, Value, StopWatching } from './store.js';

const maxGroupCommits = 1024;
const keyPattern = /^[\x20-\x7e]+$/;

interface Commit {
  readonly changes: readonly Change[];
  readonly expectations: readonly Expectation[];
  resolve(): void;
  reject(error: unknown): void;
}

/** Changes that are about to be written: values (undefined: deleted) and the new heads of logs. */
interface Layer {
  readonly values: Map<Key, Value | undefined>;
  readonly heads: Map<Key, Head>;
}

function createLayer(): Layer {
  return { values: new Map(), heads: new Map() };
}

function addLayer(lower: Layer, upper: Layer): void {
  for (const [key, value] of upper.values) lower.values.set(key, value);
  for (const [log, head] of upper.heads) lower.heads.set(log, head);
}

function isSame(one: Value | undefined, other: Value | undefined): boolean {
  if (one === undefined || other === undefined) return one === other;
  return Buffer.compare(one, other) === 0;
}

function closedError(): RollcallError {
  return new RollcallError('STORE_UNAVAILABLE', 'the store of the link is closed');
}

/** The changes of one commit, or the error that keeps it out of its group. */
type Staged = Layer | { readonly error: unknown };

/** Makes a store of a back-end, which belongs to it from then on. */
export function createStore(backend: Backend): Store {
  const writer = new Writer(backend);
  return {
    get: key => writer.read(() => backend.get(key)),
    list: range => writer.read(() => (range.limit === 0 ? [] : backend.list(range))),
    commit: (changes, expectations = []) => writer.commit(changes, expectations),
    watch: (prefix, listener) => writer.watch(prefix, listener),
    close: () => writer.close(),
  };
}

class Writer {
  readonly #backend: Backend;
  readonly #heads = new HeadCache();
  readonly #watchers = new Watchers();
  readonly #queue: Commit[] = [];
  #running: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  constructor(backend: Backend) {
    this.#backend = backend;
  }

  async read<T>(reading: () => T | Promise<T>): Promise<T> {
    if (this.#closing) throw closedError();
    try {
      return await reading();
    } catch (error) {
      throw storeFailure(error);
    }
  }

  commit(changes: readonly Change[], expectations: readonly Expectation[]): Promise<void> {
    if (this.#closing) return Promise.reject(closedError());
    return new Promise((resolve, reject) => {
      this.#queue.push({ changes, expectations, resolve, reject });
      this.#running ??= this.#run();
    });
  }

  watch(prefix: Key, listener: Listener): StopWatching {
    if (this.#closing) throw closedError();
    return this.#watchers.add(prefix, listener);
  }

  close(): Promise<void> {
    return (this.#closing ??= this.#close());
  }

  async #run(): Promise<void> {
    // Commits called in the same turn belong together.
    await Promise.resolve();
    while (this.#queue.length > 0) await this.#writeGroup(this.#queue.splice(0, maxGroupCommits));
    this.#running = undefined;
  }

  async #writeGroup(commits: readonly Commit[]): Promise<void> {
    const group = createLayer();
    const outcomes: { readonly commit: Commit; readonly staged: Staged }[] = [];
    try {
      // Expectations are judged by the true content, also where a batch that failed is found after all.
      await this.#backend.mend?.();
      for (const commit of commits) outcomes.push({ commit, staged: await this.#stage(commit, group) });
      if (group.values.size > 0) await this.#backend.write([...group.values], { sync: true });
    } catch (error) {
      this.#heads.clear();
      const failure = storeFailure(error);
      for (const commit of commits) commit.reject(failure);
      return;
    }
    for (const [log, head] of group.heads) this.#heads.set(log, head);
    for (const { commit, staged } of outcomes) {
      if ('error' in staged) {
        commit.reject(staged.error);
      } else {
        this.#watchers.notify(staged.values);
        commit.resolve();
      }
    }
  }

  async #stage(commit: Commit, group: Layer): Promise<Staged> {
    try {
      await this.#checkExpectations(commit.expectations, group);
      const draft = createLayer();
      for (const change of commit.changes) await this.#stageChange(change, draft, group);
      addLayer(group, draft);
      return draft;
    } catch (error) {
      return { error: storeFailure(error) };
    }
  }

  async #checkExpectations(expectations: readonly Expectation[], group: Layer): Promise<void> {
    for (const { key, value } of expectations) {
      const found = group.values.has(key) ? group.values.get(key) : await this.#backend.get(key);
      if (!isSame(found, value)) {
        throw new RollcallError('STORE_CONFLICT', 'somebody else changed this at the same time; try again', {
          cause: new Error(`expectation failed for ${key}`),
        });
      }
    }
  }

  async #stageChange(change: Change, draft: Layer, group: Layer): Promise<void> {
    if (change.type !== 'append') {
      if (!keyPattern.test(change.key)) throw new TypeError('a key is printable ASCII text');
      draft.values.set(change.key, change.type === 'put' ? change.value : undefined);
      return;
    }
    const { log } = change;
    const head =
      draft.heads.get(log) ??
      group.heads.get(log) ??
      this.#heads.get(log) ??
      (await readHead(this.#backend, log));
    const next = { number: head.number + 1, value: change.value(head.value) };
    draft.heads.set(log, next);
    draft.values.set(log + padded(next.number, 16), next.value);
  }

  async #close(): Promise<void> {
    await this.#running;
    this.#watchers.clear();
    await this.#backend.close();
  }
}

/**
 * The newest entry of a log, from which the next is made. A log is written by `append` alone; its old entries may be
 * deleted, its newest never, or it would count from 1 again.
 */
interface Head {
  /** 0 for a log without entries. */
  readonly number: number;
  readonly value: Value | undefined;
}

const maxCachedHeads = 1024;

/** Reads the head of a log; INTERNAL when something else lies where its entries belong. */
async function readHead(backend: Backend, log: Key): Promise<Head> {
  // Entries begin with a digit, and ":" comes right after "9": a log below this one is not in the way.
  const [entry] = await backend.list({ prefix: log, after: `${log}:`, reverse: true, limit: 1 });
  if (!entry) return { number: 0, value: undefined };
  const digits = entry.key.slice(log.length);
  if (!/^\d{16}$/.test(digits)) throw new RollcallError('INTERNAL', 'a log of the store is damaged');
  return { number: Number(digits), value: entry.value };
}

/** The heads of the logs written last. */
class HeadCache {
  readonly #heads = new Map<Key, Head>();

  get(log: Key): Head | undefined {
    return this.#heads.get(log);
  }

  set(log: Key, head: Head): void {
    this.#heads.delete(log);
    this.#heads.set(log, head);
    for (const oldest of this.#heads.keys()) {
      if (this.#heads.size <= maxCachedHeads) break;
      this.#heads.delete(oldest);
    }
  }

  clear(): void {
    this.#heads.clear();
  }
}

type Listener = Parameters<Store['watch']>[1];

class Watchers {
  readonly #watches = new Set<{ readonly prefix: Key; readonly listener: Listener }>();

  add(prefix: Key, listener: Listener): StopWatching {
    const watch = { prefix, listener };
    this.#watches.add(watch);
    return () => void this.#watches.delete(watch);
  }

  /** Calls each listener with what one commit changed below its prefix. */
  notify(values: ReadonlyMap<Key, Value | undefined>): void {
    for (const { prefix, listener } of [...this.#watches]) {
      const changes = [];
      for (const [key, value] of values) if (key.startsWith(prefix)) changes.push({ key, value });
      if (changes.length > 0) callListener(listener, changes);
    }
  }

  clear(): void {
    this.#watches.clear();
  }
}

/** A listener that throws causes a warning and disturbs no other. */
function callListener(listener: Listener, changes: Parameters<Listener>[0]): void {
  try {
    listener(changes);
  } catch (error) {
    process.emitWarning(error instanceof Error ? error : new Error(String(error)));
  }
}
