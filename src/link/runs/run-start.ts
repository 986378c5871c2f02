/**
 * Starts of runs. The archive is stored first; then one commit adds the record, its position in the order of runs and the
 * caller's idempotency key. A commit that is reported as failed may have been stored. Such a start is in doubt: its archive is
 * kept until the store works again and shows whether the run exists.
 */
import { sha256Hex } from '../../base/hash.js';
import { isRollcallError, RollcallError, toRollcallError } from '../../base/errors.js';
import type { Clock } from '../../base/clock.js';
import type { Random } from '../../base/random.js';
import { randomNodeId } from '../../identity/node-id.js';
import { manifestOf, readChunkOf } from '../../objects/manifest.js';
import type { ObjectStore } from '../../objects/object-store.js';
import type { Change, Key, Store, Value } from '../../store/store.js';
import { expectTenant } from '../tenant-mark.js';
import type { Audit } from '../audit/audit.js';
import { acceptApp, type AcceptedApp, type NewRun } from './accept-app.js';
import { isPassing } from '../../store/retry.js';
import { numberOfKey, openRunKey, runKey, runOrderKey, runOrderPrefix, startKey } from './run-keys.js';
import { appParty } from './run-buckets.js';
import { decodeRunRecord, encodeRunRecord, noCounts, type RunApp, type RunRecord } from './run-record.js';

export interface RunStartOptions {
  readonly store: Store;
  readonly audit: Audit;
  readonly clock: Clock;
  readonly random: Random;
  readonly objects: ObjectStore;
  /** Rejects if this tenant can have no run, or no further one beside the `starting` ones. */
  readonly admit: (tenant: string, starting: number) => Promise<void>;
  /** Opens a run that is on the disk. */
  readonly adopt: (record: RunRecord) => Promise<void>;
  readonly find: (tenant: string, id: bigint) => Promise<RunRecord | undefined>;
}

/** The idempotency key of a start, which makes a repeated request return the first run. */
interface Claim {
  readonly hash: string;
  readonly key: Key;
  /** SHA-256 of the app, its signer and the settings, hex. */
  readonly content: string;
}

/** Deletes a key that never exists: once this commit succeeds, no commit that failed before can become visible any more. */
const probe: Change = { type: 'delete', key: 'runs/probe' };

export class RunStarter {
  readonly #options: RunStartOptions;
  /** Tenants of the runs whose first commit failed, by run. */
  readonly #doubtful = new Map<bigint, string>();
  /** Tenants of the starts in progress, one entry for each start. */
  readonly #starting: string[] = [];
  #settling: Promise<void> | undefined;

  constructor(options: RunStartOptions) {
    this.#options = options;
  }

  /** Resolves when the run is on the disk: to a new one, or to that of an earlier start with the same idempotency key. */
  async start(wanted: NewRun): Promise<RunRecord> {
    const app = await acceptApp(wanted);
    const claim = claimOf(wanted, app);
    await this.settle();
    const before = await this.#findBefore(wanted.tenant, claim);
    if (before) return before;
    const { tenant } = wanted;
    await this.#options.admit(tenant, this.#starting.filter(each => each === tenant).length);
    this.#starting.push(tenant);
    try {
      const id = randomNodeId(this.#options.random);
      const record = await this.#store(id, wanted, app, claim);
      if (record.id === id) await this.#adopt(record);
      return record;
    } finally {
      this.#starting.splice(this.#starting.indexOf(tenant), 1);
    }
  }

  isInDoubt(id: bigint): boolean {
    return this.#doubtful.has(id);
  }

  /** Finds out which starts in doubt were stored; rejects while the store fails. */
  settle(): Promise<void> {
    if (this.#doubtful.size === 0 && !this.#settling) return Promise.resolve();
    this.#settling ??= this.#settleAll().finally(() => (this.#settling = undefined));
    return this.#settling;
  }

  async #settleAll(): Promise<void> {
    const { store, objects } = this.#options;
    const doubtful = [...this.#doubtful];
    await store.commit([probe]);
    for (const [id, tenant] of doubtful) {
      const value = await store.get(runKey(tenant, id));
      this.#doubtful.delete(id);
      if (value) await this.#adopt(decodeRunRecord(value));
      else await objects.removeRun(`${id}`);
    }
  }

  /** Opens a stored run, now or once the store works again: its caller need not repeat the start. */
  async #adopt(record: RunRecord): Promise<void> {
    try {
      await this.#options.adopt(record);
    } catch (error) {
      if (!isPassing(error)) throw error;
      this.#doubtful.set(record.id, record.tenant);
    }
  }

  async #store(id: bigint, wanted: NewRun, app: AcceptedApp, claim: Claim | undefined): Promise<RunRecord> {
    const { objects } = this.#options;
    let stored: RunRecord | undefined;
    try {
      const archive = await this.#keepArchive(id, wanted.archive);
      const draft = this.#draft(id, wanted, app, archive, claim);
      stored = await this.#commit(draft, wanted, claim).catch((error: unknown) => {
        if (!isPassing(error)) throw error;
        this.#doubtful.set(id, wanted.tenant);
        throw inDoubt(error);
      });
      return stored;
    } finally {
      const isKept = stored?.id === id || this.isInDoubt(id);
      if (!isKept) await objects.removeRun(`${id}`).catch(() => undefined);
    }
  }

  async #keepArchive(id: bigint, archive: Buffer): Promise<RunApp['archive']> {
    const manifest = manifestOf([archive]);
    const bucket = this.#options.objects.bucket(`${id}`, appParty);
    for (const index of await bucket.begin(manifest)) {
      await bucket.writeChunk(manifest, index, readChunkOf([archive], index));
    }
    await bucket.finish(manifest);
    bucket.retain(manifest.digest);
    return { digest: manifest.digest, sizeBytes: manifest.sizeBytes };
  }

  #draft(
    id: bigint,
    wanted: NewRun,
    { manifest, signer, config }: AcceptedApp,
    archive: RunApp['archive'],
    claim: Claim | undefined,
  ): RunRecord {
    return {
      id,
      tenant: wanted.tenant,
      app: {
        name: manifest.name,
        version: manifest.version,
        digest: wanted.appDigest,
        serverEntry: manifest.server,
        nodeEntry: manifest.node,
        signer: signer.spki.toString('base64'),
        signerFingerprint: signer.fingerprint,
        signature: Buffer.from(wanted.signature).toString('base64'),
        archive,
      },
      status: 'pending',
      reason: 'pending',
      startedBy: wanted.startedBy,
      config,
      order: 0,
      createdAt: this.#options.clock.now(),
      ...{ startingAt: 0, runningAt: 0, finishedAt: 0, counts: noCounts, result: '' },
      ...(claim && { startHash: claim.hash }),
    };
  }

  /** Simultaneous starts get different positions; of two with the same key, the second returns the run of the first. */
  async #commit(draft: RunRecord, { by }: NewRun, claim: Claim | undefined): Promise<RunRecord> {
    const { store, audit } = this.#options;
    const { id, tenant, app } = draft;
    const detail = { app: app.name, version: app.version, digest: app.digest, signer: app.signerFingerprint };
    for (;;) {
      const ofTenant = await expectTenant(store, tenant);
      const record = { ...draft, order: await this.#nextOrder(tenant) };
      const orderKey = runOrderKey(tenant, record.order);
      const changes: Change[] = [
        { type: 'put', key: runKey(tenant, id), value: encodeRunRecord(record) },
        { type: 'put', key: orderKey, value: Buffer.from(`${id}`) },
        { type: 'put', key: openRunKey(id), value: Buffer.from(tenant) },
        audit.auditChange(tenant, { type: 'run.started', subject: `${id}`, by, detail }),
      ];
      if (claim) changes.push({ type: 'put', key: claim.key, value: encodeClaimed(id, claim) });
      const free = [orderKey, openRunKey(id), ...(claim ? [claim.key] : [])];
      try {
        await store.commit(changes, [ofTenant, ...free.map(key => ({ key, value: undefined }))]);
        return record;
      } catch (error) {
        if (!isRollcallError(error, 'STORE_CONFLICT')) throw error;
      }
      const before = await this.#findBefore(tenant, claim);
      if (before) return before;
    }
  }

  async #nextOrder(tenant: string): Promise<number> {
    const { store, clock } = this.#options;
    const [last] = await store.list({ prefix: runOrderPrefix(tenant), reverse: true, limit: 1 });
    return Math.max(clock.now(), last ? Number(numberOfKey(last.key)) + 1 : 0);
  }

  /** The run that was started with this key. Rejects with IDEMPOTENCY_KEY_REUSED if its app or settings differ. */
  async #findBefore(tenant: string, claim: Claim | undefined): Promise<RunRecord | undefined> {
    const value = claim && (await this.#options.store.get(claim.key));
    if (!value) return undefined;
    const { run, content } = decodeClaimed(value);
    if (content !== claim.content)
      throw new RollcallError('IDEMPOTENCY_KEY_REUSED', 'this idempotency key was used for another run', {
        hint: 'send the same app and settings again, or choose a new key',
      });
    const record = await this.#options.find(tenant, run);
    if (record) return record;
    throw new RollcallError('INTERNAL', 'the run of an idempotency key is missing');
  }
}

function claimOf(wanted: NewRun, { config, signer }: AcceptedApp): Claim | undefined {
  const { tenant, idempotency, appName, appVersion, appDigest } = wanted;
  if (!idempotency) return undefined;
  const hash = hashOf([idempotency.caller, idempotency.key]);
  const settings = Object.entries(config).sort(([one], [other]) => (one < other ? -1 : 1));
  // Without the signature: the same app signed twice has two signatures.
  const content = hashOf([appName, appVersion, appDigest, signer.fingerprint, settings]);
  return { hash, key: startKey(tenant, hash), content };
}

function hashOf(parts: readonly unknown[]): string {
  return sha256Hex(JSON.stringify(parts));
}

function encodeClaimed(run: bigint, { content }: Claim): Buffer {
  return Buffer.from(JSON.stringify({ run: `${run}`, content }));
}

function decodeClaimed(value: Value): { readonly run: bigint; readonly content: string } {
  const { run, content } = JSON.parse(Buffer.from(value).toString()) as Record<'run' | 'content', string>;
  return { run: BigInt(run), content };
}

function inDoubt(error: unknown): RollcallError {
  const { code, message } = toRollcallError(error);
  return new RollcallError(code, message, {
    hint: 'the run may have been started: repeat the start with the same idempotency key, or see `rollcall runs list`',
    cause: error,
  });
}
