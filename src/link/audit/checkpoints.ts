/**
 * Checkpoints of the audit logs: the link's signed word, every so many events of a tenant, at close, and on request,
 * that the log was at this entry with this hash. It learns of events by watching the store after their commits, so it
 * delays none and fails none; what the store does not take is logged and tried again.
 */
import { encodeCheckpoint, signCheckpoint, type Checkpoint } from '../../audit-log/checkpoint.js';
import type { Clock } from '../../base/clock.js';
import { RollcallError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import type { Random } from '../../base/random.js';
import { createTurns } from '../../base/turns.js';
import { toSpkiPem } from '../../identity/private-key.js';
import { listTenants, padded, tenantOf } from '../../store/keys.js';
import type { Key, Store } from '../../store/store.js';
import { checkpointsOf, decodeCheckpoint, newestBelow, newestSeq, readEnd } from './stored-log.js';
import { openCheckpointKey } from './checkpoint-key.js';

export interface Checkpoints {
  /** Of the key that signs: SubjectPublicKeyInfo PEM. */
  readonly publicKeyPem: string;
  /** The newest checkpoint of a tenant; undefined when there is none yet. */
  latest(tenant: string): Promise<Checkpoint | undefined>;
  /** Every checkpoint of a tenant, oldest first. */
  list(tenant: string): Promise<Checkpoint[]>;
  /** One of the newest entry, made now unless it is there. NOT_FOUND for an empty log, INTERNAL for a damaged end. */
  make(tenant: string): Promise<Checkpoint>;
  /** One more for every tenant that has news. Never fails; belongs before the close of the store. */
  close(): Promise<void>;
}

export interface CheckpointOptions {
  /** Holds the key; must be there. */
  readonly folder: string;
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly trustDomain: string;
  /** Events of a tenant from one checkpoint to the next; 1,000 unless told. */
  readonly every?: number | undefined;
}

/** Numbers of entries. */
interface Progress {
  newest: number;
  /** The newest that a checkpoint by the present key is of. */
  vouched: number;
  /** The last try failed; the next is for the timer, not for every event. */
  isFailing: boolean;
}

const retryEveryMs = 30_000;
const auditKey = /^t\/[^/]+\/audit\/(\d{16})$/;

function changedLog(seq: number): RollcallError {
  return new RollcallError(
    'INTERNAL',
    `the audit log was changed: entry ${seq} is not the one its checkpoint is of`,
  );
}

/** Opens the key and makes up for checkpoints that a crash prevented. Fails only for the key or a store that cannot be read. */
export async function openCheckpoints(options: CheckpointOptions): Promise<Checkpoints> {
  const { folder, store, clock, random, log, trustDomain, every = 1000 } = options;
  const { key, isNew } = await openCheckpointKey(folder, random);
  const ownFingerprint = key.publicKey.fingerprint;
  const tenants = new Map<string, Progress>();
  const underWay = new Set<string>();
  const inTurn = createTurns();
  let closing: Promise<void> | undefined;

  function progressOf(tenant: string): Progress {
    const progress = tenants.get(tenant) ?? { newest: 0, vouched: 0, isFailing: false };
    tenants.set(tenant, progress);
    return progress;
  }

  async function latest(tenant: string): Promise<Checkpoint | undefined> {
    const stored = await newestBelow(store, checkpointsOf(tenant));
    return stored && decodeCheckpoint(stored.value);
  }

  async function makeNow(tenant: string): Promise<Checkpoint> {
    const { seq, hash } = await readEnd(store, tenant);
    const place = checkpointsOf(tenant) + padded(seq, 16);
    const stored = await store.get(place);
    const before = stored && decodeCheckpoint(stored);
    const isOwn = before?.keyFingerprint === ownFingerprint;
    // The word that was given stays: it shows what happened.
    if (isOwn && before.hash !== hash) throw changedLog(seq);
    const at = Math.max(0, Math.floor(clock.now()));
    const checkpoint = isOwn ? before : signCheckpoint(key, { trustDomain, tenant, seq, hash, at });
    if (!isOwn) {
      const value = Buffer.from(encodeCheckpoint(checkpoint));
      await store.commit([{ type: 'put', key: place, value }], [{ key: place, value: stored }]);
    }
    const progress = progressOf(tenant);
    progress.vouched = Math.max(progress.vouched, seq);
    return checkpoint;
  }

  const make = (tenant: string) => inTurn(tenant, () => makeNow(tenant));

  async function tryToMake(tenant: string): Promise<void> {
    const progress = progressOf(tenant);
    try {
      await make(tenant);
      progress.isFailing = false;
    } catch (error) {
      progress.isFailing = true;
      log.warn({ err: error, tenant }, 'could not make a checkpoint of the audit log; trying again later');
    }
  }

  async function makeUpFor(least: number): Promise<void> {
    const behind = [...tenants].filter(([, { newest, vouched }]) => newest - vouched >= least);
    await Promise.all(behind.map(([tenant]) => tryToMake(tenant)));
  }

  /** Called while a commit waits for it, so it counts and nothing more. */
  function hear(changes: readonly { readonly key: Key }[]): void {
    for (const { key: changed } of changes) {
      const match = auditKey.exec(changed);
      if (match) count(tenantOf(changed), Number(match[1]));
    }
  }

  function count(tenant: string, seq: number): void {
    const progress = progressOf(tenant);
    progress.newest = Math.max(progress.newest, seq);
    const isDue = progress.newest - progress.vouched >= every;
    if (!isDue || progress.isFailing || underWay.has(tenant)) return;
    underWay.add(tenant);
    void tryToMake(tenant).finally(() => underWay.delete(tenant));
  }

  async function recall(tenant: string): Promise<void> {
    const progress = progressOf(tenant);
    const checkpoint = await latest(tenant);
    if (checkpoint?.keyFingerprint === ownFingerprint) progress.vouched = checkpoint.seq;
    progress.newest = Math.max(progress.newest, await newestSeq(store, tenant));
    if (checkpoint && isNew) {
      log.warn(
        { tenant },
        'the key of the audit log is new, older checkpoints are by another; keep its public half',
      );
    }
  }

  async function closeAll(): Promise<void> {
    stopWatching();
    timer.cancel();
    await makeUpFor(1);
  }

  const stopWatching = store.watch('t/', hear);
  const timer = clock.every(retryEveryMs, () => void makeUpFor(every));
  try {
    for (const tenant of await listTenants(store)) await recall(tenant);
  } catch (error) {
    stopWatching();
    timer.cancel();
    throw error;
  }
  void makeUpFor(every);

  return {
    publicKeyPem: toSpkiPem(key.publicKey),
    latest,
    async list(tenant) {
      const stored = await store.list({ prefix: checkpointsOf(tenant) });
      return stored.flatMap(({ value }) => decodeCheckpoint(value) ?? []);
    },
    make,
    close: () => (closing ??= closeAll()),
  };
}
