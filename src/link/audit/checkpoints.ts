/**
 * Checkpoints of the audit logs: the link's signed word, every so many events of a tenant, at close, and on request,
 * that the log was at this entry with this hash. They are kept for ever. The link learns of events by watching the store
 * after their commits, so it delays none and fails none; what the store does not take is logged and tried again.
 */
import { join } from 'node:path';
import { encodeCheckpoint, signCheckpoint, type Checkpoint } from '../../audit-log/checkpoint.js';
import { linkParty } from '../../audit-log/party.js';
import type { Clock, Timer } from '../../base/clock.js';
import { RollcallError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import type { Random } from '../../base/random.js';
import { createKeyedQueue } from '../../base/keyed-queue.js';
import { toSpkiPem, type PrivateKey, generatePrivateKey, toPkcs8Pem } from '../../identity/private-key.js';
import type { PublicKey } from '../../identity/public-key.js';
import { listTenants, padded, tenantOf } from '../../store/keys.js';
import type { Change, Expectation, Key, StopWatching, Store } from '../../store/store.js';
import type { Audit } from './audit.js';
import {
  checkpointsOf,
  decodeCheckpoint,
  logOf,
  newestBelow,
  newestNumber,
  readEnd,
  readStart,
} from './stored-log.js';
import { readSecretFile, unlessMissing, writeWholeFile } from '../../base/secret-file.js';
import { readPrivateKey } from '../../identity/key-file.js';

export interface CheckpointOptions {
  /** Holds the key; must be there. */
  readonly folder: string;
  readonly store: Store;
  readonly audit: Audit;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly trustDomain: string;
  /** Events of a tenant from one checkpoint to the next; defaults to 1,000. */
  readonly every?: number | undefined;
}

/** Numbers of entries. */
interface Progress {
  newest: number;
  /** The newest that a checkpoint by the present key is of. */
  vouched: number;
  /** Of the key before, until the log tells that there is another. */
  keyBefore?: string | undefined;
  /** The last try failed; the next is for the timer, not for every event. */
  isFailing: boolean;
}

/** A checkpoint that waits for a commit, with what it is put in place of. */
export interface Prepared {
  readonly checkpoint: Checkpoint;
  readonly changes: readonly Change[];
  readonly expectations: readonly Expectation[];
}

const retryEveryMs = 30_000;
const defaultEvery = 1000;
const auditKey = /^t\/[^/]+\/audit\/(\d{16})$/;

/** Opens the key and makes up for checkpoints that a crash prevented. Fails only for the key or a store that cannot be read. */
export async function openCheckpoints(options: CheckpointOptions): Promise<Checkpoints> {
  const checkpoints = new Checkpoints(options, await openCheckpointKey(options.folder, options.random));
  try {
    await checkpoints.recall();
  } catch (error) {
    checkpoints.stop();
    throw error;
  }
  return checkpoints;
}

export class Checkpoints {
  readonly #options: CheckpointOptions;
  readonly #key: PrivateKey;
  readonly #every: number;
  readonly #tenants = new Map<string, Progress>();
  readonly #underWay = new Set<string>();
  readonly #inTurn = createKeyedQueue();
  readonly #stopWatching: StopWatching;
  readonly #timer: Timer;
  #closing: Promise<void> | undefined;

  constructor(options: CheckpointOptions, key: PrivateKey) {
    const { store, clock, every = defaultEvery } = options;
    this.#options = options;
    this.#key = key;
    this.#every = every;
    this.#stopWatching = store.watch('t/', changes => this.#hear(changes));
    this.#timer = clock.every(retryEveryMs, () => void this.#makeUpFor(every));
  }

  /** Of the key that signs. */
  get publicKey(): PublicKey {
    return this.#key.publicKey;
  }

  /** The same as SubjectPublicKeyInfo PEM. */
  get publicKeyPem(): string {
    return toSpkiPem(this.#key.publicKey);
  }

  /** The newest checkpoint of a tenant; undefined when there is none yet. */
  async latest(tenant: string): Promise<Checkpoint | undefined> {
    const stored = await newestBelow(this.#options.store, checkpointsOf(tenant));
    return stored && decodeCheckpoint(stored.value);
  }

  /** Every checkpoint of a tenant, oldest first. */
  async list(tenant: string): Promise<Checkpoint[]> {
    const stored = await this.#options.store.list({ prefix: checkpointsOf(tenant) });
    return stored.flatMap(({ value }) => decodeCheckpoint(value) ?? []);
  }

  /**
   * One of the newest entry, made now if it is missing. NOT_FOUND for an empty log; INTERNAL when its end is damaged or
   * is not what a checkpoint said before.
   */
  make(tenant: string): Promise<Checkpoint> {
    return this.#inTurn(tenant, () => this.#makeNow(tenant));
  }

  /**
   * One of any entry, for a commit of the caller's. A word that was given before stays: when it is another one than would
   * be given now, INTERNAL says that the log was changed.
   */
  async prepare(tenant: string, seq: number, hash: string): Promise<Prepared> {
    const { store, clock, trustDomain } = this.#options;
    const key = checkpointsOf(tenant) + padded(seq, 16);
    const value = await store.get(key);
    const before = value && decodeCheckpoint(value);
    const expectations = [{ key, value }];
    if (before?.keyFingerprint === this.#key.publicKey.fingerprint) {
      if (before.hash !== hash) throw changedLog(seq);
      return { checkpoint: before, changes: [], expectations };
    }
    const at = Math.max(0, Math.floor(clock.now()));
    const checkpoint = signCheckpoint(this.#key, { trustDomain, tenant, seq, hash, at });
    const change: Change = { type: 'put', key, value: Buffer.from(encodeCheckpoint(checkpoint)) };
    return { checkpoint, changes: [change], expectations };
  }

  /** The checkpoints in the store. */
  async recall(): Promise<void> {
    for (const tenant of await listTenants(this.#options.store)) await this.#recallTenant(tenant);
    void this.#makeUpFor(this.#every);
  }

  /** One more for every tenant that has news. Never fails; belongs before the close of the store. */
  close(): Promise<void> {
    return (this.#closing ??= this.#closeAll());
  }

  /** Makes no more by itself. */
  stop(): void {
    this.#stopWatching();
    this.#timer.cancel();
  }

  async #closeAll(): Promise<void> {
    this.stop();
    await this.#makeUpFor(1);
  }

  async #recallTenant(tenant: string): Promise<void> {
    const progress = this.#progressOf(tenant);
    const checkpoint = await this.latest(tenant);
    progress.newest = Math.max(progress.newest, await newestNumber(this.#options.store, logOf(tenant)));
    if (checkpoint?.keyFingerprint === this.#key.publicKey.fingerprint) {
      progress.vouched = Math.min(checkpoint.seq, progress.newest);
      return;
    }
    if (!checkpoint) return;
    this.#options.log.warn(
      { tenant, keyBefore: checkpoint.keyFingerprint },
      'the audit log has a new key; older checkpoints are signed by the one before; keep its public half',
    );
    progress.keyBefore = checkpoint.keyFingerprint;
    await this.#tryToMake(tenant);
  }

  async #makeNow(tenant: string): Promise<Checkpoint> {
    const { store } = this.#options;
    await this.#tellOfKey(tenant);
    const { seq, hash } = await readEnd(store, tenant);
    const { checkpoint, changes, expectations } = await this.prepare(tenant, seq, hash);
    if (changes.length > 0) await store.commit(changes, expectations);
    const progress = this.#progressOf(tenant);
    progress.vouched = Math.max(progress.vouched, seq);
    return checkpoint;
  }

  /** In the log of every tenant that the key before has signed for; also stands in for it where entries were cut off. */
  async #tellOfKey(tenant: string): Promise<void> {
    const { store, audit } = this.#options;
    const progress = this.#progressOf(tenant);
    const { keyBefore } = progress;
    if (keyBefore === undefined) return;
    const start = await readStart(store, tenant);
    const standIn =
      start && start.seq > 1 ? await this.prepare(tenant, start.seq - 1, start.previous) : undefined;
    const detail = { key: this.#key.publicKey.fingerprint, before: keyBefore };
    const event = audit.auditChange(tenant, { type: 'audit.key-changed', by: linkParty, detail });
    await store.commit([...(standIn?.changes ?? []), event], standIn?.expectations);
    progress.keyBefore = undefined;
  }

  async #tryToMake(tenant: string): Promise<void> {
    const progress = this.#progressOf(tenant);
    try {
      await this.make(tenant);
      progress.isFailing = false;
    } catch (error) {
      progress.isFailing = true;
      this.#options.log.warn(
        { err: error, tenant },
        'could not make a checkpoint of the audit log; trying again later',
      );
    }
  }

  async #makeUpFor(min: number): Promise<void> {
    const behind = [...this.#tenants].filter(
      ([, { newest, vouched, keyBefore }]) => newest - vouched >= min || keyBefore !== undefined,
    );
    await Promise.all(behind.map(([tenant]) => this.#tryToMake(tenant)));
  }

  /** Called while a commit waits for it, so it counts and nothing more. */
  #hear(changes: readonly { readonly key: Key }[]): void {
    for (const { key: changed } of changes) {
      const match = auditKey.exec(changed);
      if (match) this.#count(tenantOf(changed), Number(match[1]));
    }
  }

  #count(tenant: string, seq: number): void {
    const progress = this.#progressOf(tenant);
    progress.newest = Math.max(progress.newest, seq);
    const isDue = progress.newest - progress.vouched >= this.#every;
    if (!isDue || progress.isFailing || this.#underWay.has(tenant)) return;
    this.#underWay.add(tenant);
    void this.#tryToMake(tenant).finally(() => this.#underWay.delete(tenant));
  }

  #progressOf(tenant: string): Progress {
    const progress = this.#tenants.get(tenant) ?? { newest: 0, vouched: 0, isFailing: false };
    this.#tenants.set(tenant, progress);
    return progress;
  }
}

function changedLog(seq: number): RollcallError {
  return new RollcallError(
    'INTERNAL',
    `the audit log was changed: entry ${seq} is not the one its checkpoint is of`,
    { hint: 'rollcall audit export FILE, then rollcall audit verify FILE, names what was changed' },
  );
}

/** Holds the key that signs checkpoints (P-256) and signs nothing else; operators keep its public half. 0600. */
const auditKeyFile = 'audit-key.pem';

/** Opens the key, making it when it is missing. Fails with CONFIG_INVALID, FILE_* or KEY_UNSUPPORTED for one that is not fit. */
async function openCheckpointKey(folder: string, random: Random): Promise<PrivateKey> {
  const path = join(folder, auditKeyFile);
  const bytes = await unlessMissing(readSecretFile(path, 'audit key'));
  if (!bytes) {
    const key = generatePrivateKey('P-256', random);
    await writeWholeFile(path, toPkcs8Pem(key));
    return key;
  }
  const key = readPrivateKey(bytes, undefined, path);
  if (key.publicKey.curve === 'P-256') return key;
  throw new RollcallError('CONFIG_INVALID', `${path} holds a key on ${key.publicKey.curve}; expected P-256`, {
    hint: 'bring the key back from a backup, or move the file away; the link then makes a new key',
  });
}
