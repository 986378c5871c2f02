/**
 * The storage of a node's runs: the journal and the objects. Both are opened when they are needed; a node without runs has
 * neither. What is there belongs to one node, and is forgotten when the key of this machine is registered as another node.
 */
import { mkdtemp, rename, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '../../base/clock.js';
import { DiskFloor } from '../../base/disk-floor.js';
import { isRollcallError, systemErrorCode } from '../../base/errors.js';
import type { Lifecycle } from '../../base/lifecycle.js';
import type { Log } from '../../base/log.js';
import { createObjectStore, type ObjectStore } from '../../objects/object-store.js';
import { createMemoryStore } from '../../store/memory.js';
import type { Store } from '../../store/store.js';
import { EntryLog } from './entry-log.js';
import { Journal } from './journal.js';

export interface RunStorageOptions {
  /** Without a folder everything is forgotten with this process. */
  readonly folder?: string | undefined;
  /** The store of the journal; defaults to a database in that folder, or memory. */
  readonly openStore?: (() => Promise<Store>) | undefined;
  /** Maximum for the objects of one run on the disk. */
  readonly objectBytes: number;
  /** Free space that runs leave on the disk, bytes; undefined for the default of DiskFloor. */
  readonly minFreeBytes: number | undefined;
  readonly clock: Clock;
  readonly log: Log;
}

export class RunStorage {
  readonly #options: RunStorageOptions;
  readonly #lifecycle: Lifecycle;
  #owner: bigint | undefined;
  #journal: Journal | undefined;
  #opening: Promise<Journal> | undefined;
  #objects: Promise<ObjectStore> | undefined;

  /** The lifecycle closes what is opened here. */
  constructor(options: RunStorageOptions, lifecycle: Lifecycle) {
    this.#options = options;
    this.#lifecycle = lifecycle;
  }

  /** The node all of this belongs to, once a session has told. */
  get owner(): bigint | undefined {
    return this.#owner;
  }

  belongTo(nodeId: bigint): void {
    this.#owner = nodeId;
  }

  /** The journal, when it is open. */
  get openedJournal(): Journal | undefined {
    return this.#journal;
  }

  /** Opens the journal, or gives the open one. A failure is not remembered. */
  journal(): Promise<Journal> {
    return (this.#opening ??= this.#openJournal());
  }

  objects(): Promise<ObjectStore> {
    return (this.#objects ??= this.#openObjects());
  }

  /** Opens what an earlier process left. Gives the names of the runs that have objects. */
  async load(): Promise<readonly string[]> {
    const { folder } = this.#options;
    if (folder === undefined) return [];
    if (await exists(join(folder, 'runs'))) await this.journal();
    return (await exists(join(folder, 'objects'))) ? (await this.objects()).listRuns() : [];
  }

  /** Empties the open journal when it belongs to another node; then gives true. */
  async claim(nodeId: bigint): Promise<boolean> {
    return (await this.#journal?.claim(nodeId.toString())) ?? false;
  }

  /** Nothing of the run is kept. */
  async forgetRun(run: bigint): Promise<void> {
    await this.#opening?.catch(() => undefined);
    await this.#journal?.forgetRun(run);
    if (this.#objects) await (await this.#objects).removeRun(run.toString());
  }

  async forgetObjects(): Promise<void> {
    const objects = await this.objects();
    for (const run of await objects.listRuns()) await objects.removeRun(run);
  }

  /** Resolves when the journal is not being opened any more. */
  async settled(): Promise<void> {
    await Promise.allSettled([this.#opening]);
  }

  async #openJournal(): Promise<Journal> {
    const { folder } = this.#options;
    let opened: Store | undefined;
    try {
      opened = await this.#openStore();
      const journal = await Journal.open(opened, new EntryLog(folder && join(folder, 'runs-entered')));
      if (this.#owner !== undefined) await journal.claim(this.#owner.toString());
      this.#lifecycle.onClose(() => journal.close());
      this.#journal = journal;
      return journal;
    } catch (error) {
      this.#opening = undefined;
      await opened?.close();
      throw error;
    }
  }

  /** A damaged database is set aside: the link sends again what it still wants. */
  async #openStore(): Promise<Store> {
    const { openStore, folder, log } = this.#options;
    if (openStore) return openStore();
    if (folder === undefined) return createMemoryStore();
    const path = join(folder, 'runs');
    const { openLevelStore } = await import('../../store/level.js');
    try {
      return await openLevelStore(path);
    } catch (error) {
      if (!isDamaged(error)) throw error;
      const aside = `${path}.damaged`;
      await rm(aside, { recursive: true, force: true });
      await rename(path, aside);
      log.warn({ aside }, 'the journal of runs is damaged and was set aside');
      return openLevelStore(path);
    }
  }

  async #openObjects(): Promise<ObjectStore> {
    const { folder, objectBytes, minFreeBytes, clock } = this.#options;
    const openIn = (path: string): ObjectStore =>
      createObjectStore({
        folder: path,
        maxRunBytes: objectBytes,
        floor: new DiskFloor({ folder: path, minFreeBytes, clock }),
      });
    if (folder !== undefined) return openIn(join(folder, 'objects'));
    const temporary = await mkdtemp(join(tmpdir(), 'rollcall-node-'));
    this.#lifecycle.onClose(() => rm(temporary, { recursive: true, force: true }));
    return openIn(temporary);
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return false;
    throw error;
  }
}

/** The store wraps the error of the database, and the cause of that one has the code. */
function isDamaged(error: unknown): boolean {
  const cause = isRollcallError(error, 'STORE_UNAVAILABLE') ? error.cause : undefined;
  return cause instanceof Error && systemErrorCode(cause.cause) === 'LEVEL_CORRUPTION';
}
