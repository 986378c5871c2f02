/** Stores that behave as disks do on a bad day. */
import type { Clock } from '../../src/base/clock.js';
import { RollcallError } from '../../src/base/errors.js';
import type { Change, Expectation, Key, Store } from '../../src/store/store.js';

/** Every commit takes this long more, ms, by the clock; reads are as quick as ever, as they are on a slow disk. */
export function slowStore(store: Store, clock: Clock, delayMs: () => number): Store {
  const wait = (ms: number): Promise<void> =>
    ms === 0 ? Promise.resolve() : new Promise(resolve => void clock.after(ms, resolve));
  return {
    get: key => store.get(key),
    list: range => store.list(range),
    watch: (prefix, listener) => store.watch(prefix, listener),
    close: () => store.close(),
    async commit(changes, expectations) {
      await wait(delayMs());
      await store.commit(changes, expectations);
    },
  };
}

export interface PausingStore {
  readonly store: Store;
  /** The next commit is held once it has been called, after all that was read for it; later ones go through. */
  pause(): PausedCommit;
  /** Called for each commit before it is judged. */
  onCommit: ((changes: readonly Change[], expectations: readonly Expectation[]) => void) | undefined;
  /** Keys that were read one by one. */
  readonly reads: Set<Key>;
}

export interface PausedCommit {
  /** Resolves when a commit is held. */
  readonly held: Promise<void>;
  /** Lets it be judged by what the store holds now; when none is held, none will be. */
  resume(): void;
}

/** A store that stops between the reads that something was decided on and the commit that acts on it. */
export function pausingStore(store: Store): PausingStore {
  let next: { hold(): Promise<void> } | undefined;
  const pausing: PausingStore = {
    onCommit: undefined,
    reads: new Set(),
    pause() {
      let letGo = (): void => undefined;
      const resumed = new Promise<void>(resolve => (letGo = resolve));
      let arrive = (): void => undefined;
      const held = new Promise<void>(resolve => (arrive = resolve));
      const mine = {
        hold() {
          arrive();
          return resumed;
        },
      };
      next = mine;
      return {
        held,
        resume() {
          if (next === mine) next = undefined;
          letGo();
        },
      };
    },
    store: {
      get(key) {
        pausing.reads.add(key);
        return store.get(key);
      },
      list: range => store.list(range),
      watch: (prefix, listener) => store.watch(prefix, listener),
      close: () => store.close(),
      commit(changes, expectations = []) {
        pausing.onCommit?.(changes, expectations);
        const pause = next;
        next = undefined;
        const judge = (): Promise<void> => store.commit(changes, expectations);
        return pause ? pause.hold().then(judge) : judge();
      },
    },
  };
  return pausing;
}

/** A store on a disk with bad blocks: keys with `isBad` cannot be read. */
export function damagedStore(store: Store, isBad: (key: Key) => boolean): Store {
  return {
    get(key) {
      const failure = new RollcallError('STORE_UNAVAILABLE', 'the store of the link cannot be used now');
      return isBad(key) ? Promise.reject(failure) : store.get(key);
    },
    list: range => store.list(range),
    watch: (prefix, listener) => store.watch(prefix, listener),
    close: () => store.close(),
    commit: (changes, expectations) => store.commit(changes, expectations),
  };
}
