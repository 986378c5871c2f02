/**
 * Keeps the keys that sign tokens in their file, and every change of them in the audit log. A change is one: its event
 * is there exactly when its keys count, although the file and the store cannot be written at once. The next set is
 * written beside the present one; the commit of the event, with the number of the set, makes it count; then the file is
 * tidied. Whatever comes in between, the store says which of the two sets counts.
 *
 * When the commit fails, it may have been written all the same. The present set stays in use then, and which it is, is
 * looked up before the next change and at the next start.
 */
import { defaultTenant } from '../../../protocol/limits.js';
import type { Log } from '../../../base/log.js';
import type { Random } from '../../../base/random.js';
import { createKeyedQueue } from '../../../base/keyed-queue.js';
import type { Actor, Audit, AuditEvent } from '../../audit/audit.js';
import type { Key, StopWatching, Store } from '../../../store/store.js';
import { decide, isStoreFailure, putRecord, readRecord, type Grounds } from '../records.js';
import {
  readKeyFile,
  refreshSecretBytes,
  writeKeyFile,
  type TokenKeyFile,
  type TokenKeySet,
} from './key-file.js';
import type { TokenKey } from './key.js';
import { kids, type Rotation, type TokenKeyInfo } from './key-set.js';

export interface RotateOptions {
  /** Only the key that signs for it; undefined for all. A key of ES256 or RS256 is shared with other audiences. */
  readonly audience?: string | undefined;
  /**
   * The keys before, the waiting one among them, are not trusted any more, from now on: every token signed with them is
   * refused. The new key signs at once.
   */
  readonly dropOld?: boolean | undefined;
  /** The next key signs at once, however short it has been published: verifiers that have not fetched it refuse its tokens. */
  readonly now?: boolean | undefined;
}

/** The actor of a change of keys. */
export interface KeyAsker {
  readonly by: Actor;
  readonly grounds?: Grounds;
}

export interface KeyChange<T> {
  /** The very same list when nothing changes. */
  readonly keys: readonly TokenKey[];
  readonly result: T;
  /** Tells of the change. */
  readonly event: AuditEvent;
  readonly grounds?: Grounds | undefined;
}

export interface TokenKeyVaultOptions {
  /** Of the file. */
  readonly path: string;
  readonly store: Store;
  readonly audit: Audit;
  readonly random: Random;
  readonly log: Log;
}

/** Which set of keys counts. */
interface GenerationRecord {
  readonly generation: number;
}

const generationKey: Key = 'access/token-keys';

/** Opens the file, or makes one without keys. See readKeyFile for its errors. */
export async function openTokenKeyVault(options: TokenKeyVaultOptions): Promise<TokenKeyVault> {
  const { path, store, random, log } = options;
  const stored = (await readRecord<GenerationRecord>(store, generationKey))?.generation ?? 0;
  const found = await readKeyFile(path);
  const file = found ?? { refreshSecret: random(refreshSecretBytes), generation: stored, keys: [] };
  if (!found) await writeKeyFile(path, file);
  if (![file.generation, file.next?.generation].includes(stored)) {
    log.warn(
      { file: file.generation, store: stored },
      'the token keys and the store are not of the same moment: was one of them brought back from a backup?',
    );
  }
  const vault = new TokenKeyVault(options, file);
  await vault.tidy();
  return vault;
}

export class TokenKeyVault {
  readonly #options: TokenKeyVaultOptions;
  readonly #inTurn = createKeyedQueue();
  #file: TokenKeyFile;
  /** The highest number that was given to a set. */
  #highest: number;
  readonly #listeners = new Set<() => void>();
  /** The file holds what it should. */
  #isTidy = true;

  constructor(options: TokenKeyVaultOptions, file: TokenKeyFile) {
    this.#options = options;
    this.#file = file;
    this.#highest = Math.max(file.generation, file.next?.generation ?? 0);
  }

  get refreshSecret(): Buffer {
    return this.#file.refreshSecret;
  }

  /** The keys in use. */
  get keys(): readonly TokenKey[] {
    return this.#file.keys;
  }

  /** Changes follow one another. Durable when it resolves; when it rejects, the keys are as they were. */
  change<T>(plan: (keys: readonly TokenKey[]) => Promise<KeyChange<T>>): Promise<T> {
    return this.#inTurn('change', async () => {
      await this.#settle();
      const { keys, result, event, grounds } = await plan(this.#file.keys);
      if (keys === this.#file.keys) return result;
      const next = { generation: await this.#newGeneration(), keys };
      const staged = { ...this.#file, next };
      await writeKeyFile(this.#options.path, staged);
      this.#file = staged;
      await this.#commit(next, event, grounds);
      await this.#count(next);
      return result;
    });
  }

  /** Calls after each change, once other keys count. */
  watch(listener: () => void): StopWatching {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Finishes what an earlier change left behind, and waits for one that is under way. */
  tidy(): Promise<void> {
    return this.#inTurn('change', async () => {
      await this.#settle();
      if (!this.#isTidy) await this.#replace(this.#file);
    });
  }

  async #commit({ generation }: TokenKeySet, event: AuditEvent, grounds?: Grounds): Promise<void> {
    const { store, audit } = this.#options;
    const committing = decide(store, async reads => {
      await grounds?.(reads);
      await reads.get(generationKey);
      return {
        changes: [putRecord(generationKey, { generation }), audit.auditChange(defaultTenant, event)],
        result: undefined,
      };
    });
    await committing.catch(async (error: unknown) => {
      if (!isStoreFailure(error)) await this.#replace({ ...this.#file, next: undefined });
      throw error;
    });
  }

  /** Finds out what became of a change whose commit failed. */
  async #settle(): Promise<void> {
    const { next } = this.#file;
    if (!next) return;
    const stored = await readRecord<GenerationRecord>(this.#options.store, generationKey);
    const counts = stored?.generation === next.generation;
    if (counts) await this.#count(next);
    else await this.#replace({ ...this.#file, next: undefined });
  }

  /** This set counts from now on, the one before no more. */
  async #count(set: TokenKeySet): Promise<void> {
    const replacing = this.#replace({ refreshSecret: this.#file.refreshSecret, ...set });
    for (const listener of this.#listeners) listener();
    await replacing;
  }

  /** The store has decided already: a file that cannot be written now is written later. */
  async #replace(file: TokenKeyFile): Promise<void> {
    this.#file = file;
    try {
      await writeKeyFile(this.#options.path, file);
      this.#isTidy = true;
    } catch (error) {
      this.#isTidy = false;
      this.#options.log.warn({ err: error }, 'the file of token keys could not be tidied; trying again');
    }
  }

  /** Never one that was used before, whatever became of that. */
  async #newGeneration(): Promise<number> {
    const stored = await readRecord<GenerationRecord>(this.#options.store, generationKey);
    this.#highest = Math.max(this.#highest, stored?.generation ?? 0) + 1;
    return this.#highest;
  }
}

/** The audit event of a rotation: which keys were made, sign from when, still verify, and were dropped. */
export function auditOf(
  { made, signing, retired, dropped }: Rotation,
  { audience = '', dropOld = false }: RotateOptions,
  { by, grounds }: KeyAsker,
): Pick<KeyChange<unknown>, 'event' | 'grounds'> {
  const names = (keys: readonly TokenKeyInfo[]): string => kids(keys).join(' ');
  const from = Math.max(0, ...signing.map(({ signsAt }) => signsAt ?? 0));
  const detail = {
    ...{ audience, dropOld, made: names(made), signing: names(signing) },
    ...{ signsFrom: from === 0 ? '' : new Date(from).toISOString() },
    ...{ retired: names(retired), dropped: names(dropped) },
  };
  return { event: { type: 'keys.rotated', by, detail }, grounds };
}
