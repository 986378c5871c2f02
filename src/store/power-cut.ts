/**
 * A store for tests that does what disks do at their worst: at a power cut it forgets everything that was not
 * synced, it refuses to read or write when told to, and it lets a write take as long as the test likes.
 */
import type { Backend, Operation } from './backend.js';
import { createOrderedMap, type OrderedMap } from './ordered-map.js';
import type { Store } from './store.js';
import { createStore } from './writer.js';

export interface PowerCutStore {
  /** The store of the present; after a cut, the one that `cut` gave. */
  readonly store: Store;
  /**
   * Cuts the power: what was not synced is gone, the old store is dead, and a new one opens on what remains. A batch
   * that was held just then is lost, or whole when `keepHeld` is set: both can happen. Nothing is held any more.
   */
  cut(options?: { readonly keepHeld?: boolean }): Store;
  /**
   * Lets every write fail with this error, until called with undefined. With `kept` the batch is found all the same,
   * as after a sync that failed once the bytes had reached the log: at once, or, with `later`, once the disk is well.
   */
  failWrites(error: Error | undefined, options?: { readonly kept?: boolean | 'later' }): void;
  failReads(error: Error | undefined): void;
  /** Holds writes until the function it gives is called, or the next hold or cut. */
  hold(): () => void;
  /** Synced batches so far. */
  syncs(): number;
}

interface Fault {
  writes: { readonly error: Error; readonly kept: boolean | 'later' } | undefined;
  reads: Error | undefined;
  gate: Promise<void> | undefined;
  open: () => void;
  syncs: number;
}

interface Disk {
  readonly backend: Backend;
  /** The content after a power cut. */
  remains(keepHeld: boolean): OrderedMap;
}

function createDisk(synced: OrderedMap, fault: Fault): Disk {
  // The content as the running system sees it, as through the page cache.
  const seen = synced.copy();
  let unsynced: Operation[] = [];
  /** In the log, and not seen before that is read again. */
  let later: Operation[] = [];
  let held: readonly Operation[] = [];
  let dead = false;

  function refuse(): void {
    if (dead) throw new Error('the power is off');
    if (fault.reads) throw fault.reads;
  }

  function sync(): void {
    synced.apply(unsynced);
    unsynced = [];
    fault.syncs += 1;
  }

  async function write(operations: readonly Operation[], options: { readonly sync: boolean }): Promise<void> {
    held = operations;
    await fault.gate;
    held = [];
    if (dead) throw new Error('the power is off');
    const failing = fault.writes;
    if (failing?.kept === 'later') later.push(...operations);
    else if (!failing || failing.kept) {
      seen.apply(operations);
      unsynced.push(...operations);
      if (options.sync) sync();
    }
    if (failing) throw failing.error;
  }

  return {
    backend: {
      get(key) {
        refuse();
        return seen.get(key);
      },
      list(range) {
        refuse();
        return seen.list(range);
      },
      write,
      mend() {
        if (later.length === 0) return Promise.resolve();
        if (fault.writes) return Promise.reject(fault.writes.error);
        seen.apply(later);
        unsynced.push(...later);
        later = [];
        sync();
        return Promise.resolve();
      },
      close: () => sync(),
    },
    remains(keepHeld) {
      dead = true;
      synced.apply(later);
      if (keepHeld) synced.apply(held);
      return synced.copy();
    },
  };
}

export function createPowerCutStore(): PowerCutStore {
  const fault: Fault = {
    writes: undefined,
    reads: undefined,
    gate: undefined,
    open: () => undefined,
    syncs: 0,
  };
  let disk = createDisk(createOrderedMap(), fault);
  let store = createStore(disk.backend);
  return {
    get store() {
      return store;
    },
    cut({ keepHeld = false } = {}) {
      disk = createDisk(disk.remains(keepHeld), fault);
      store = createStore(disk.backend);
      fault.open();
      return store;
    },
    failWrites(error, { kept = false } = {}) {
      fault.writes = error && { error, kept };
    },
    failReads(error) {
      fault.reads = error;
    },
    hold() {
      fault.open();
      fault.gate = new Promise(resolve => {
        fault.open = () => {
          fault.gate = undefined;
          resolve();
        };
      });
      return fault.open;
    },
    syncs: () => fault.syncs,
  };
}
