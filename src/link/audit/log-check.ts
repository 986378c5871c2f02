/**
 * Holds the audit logs against the checkpoints that are in the store, when the link starts: an entry that is not the one
 * a checkpoint is of, or is not there, means that somebody changed or cut the log while no link was looking. That is
 * told: an alert, and an event in the log itself. Every entry is looked at only by `rollcall audit verify`.
 */
import { verifyCheckpoint, type Checkpoint } from '../../audit-log/checkpoint.js';
import { hashEntry } from '../../audit-log/entry.js';
import { beheaded, rewritten, truncated, type Problem } from '../../audit-log/judgement.js';
import { linkParty } from '../../audit-log/party.js';
import type { Log } from '../../base/log.js';
import type { PublicKey } from '../../identity/public-key.js';
import { listTenants, padded } from '../../store/keys.js';
import type { Key, Store } from '../../store/store.js';
import type { Audit } from './audit.js';
import {
  checkpointsOf,
  decodeCheckpoint,
  decodeEntry,
  logOf,
  newestNumber,
  readStart,
} from './stored-log.js';

const atOnce = 500;

export interface LogCheckOptions {
  readonly store: Store;
  readonly audit: Audit;
  /** Something was found to be changed. */
  readonly onFault: (tenant: string, fault: string) => void;
  readonly log: Log;
  /** Of the key that signs checkpoints now. */
  readonly key: PublicKey;
}

/** Checks the logs of all tenants. Never fails: a store that cannot be read is told of by everything else. */
export async function checkLogs(options: LogCheckOptions): Promise<void> {
  const { store, log } = options;
  try {
    for (const tenant of await listTenants(store)) await checkLog(options, tenant);
  } catch (error) {
    log.warn({ err: error }, 'could not hold the audit logs against their checkpoints');
  }
}

async function checkLog(options: LogCheckOptions, tenant: string): Promise<void> {
  const { store, audit, onFault } = options;
  const problem = await findProblem(options, tenant);
  if (!problem) return;
  const { kind, seq = 0, sentence } = problem;
  onFault(tenant, sentence);
  const detail = { kind, entry: seq, fault: sentence };
  const event = { type: 'audit.fault-found', by: linkParty, outcome: 'failed', detail } as const;
  await store.commit([audit.auditChange(tenant, event)]);
}

/** The first thing that is wrong, by the oldest checkpoint that shows it. */
async function findProblem({ store, key }: LogCheckOptions, tenant: string): Promise<Problem | undefined> {
  const prefix = checkpointsOf(tenant);
  const last = await newestNumber(store, logOf(tenant));
  const start = await readStart(store, tenant);
  const before = (start?.seq ?? 1) - 1;
  if (before > 0 && !(await store.get(prefix + padded(before, 16))))
    return beheaded(before, `no checkpoint of entry ${before} stands for them`);
  // Checkpoints of entries that retention deleted cannot be compared, except the one that stands for them.
  let after: Key = prefix + padded(Math.max(0, before - 1), 16);
  for (;;) {
    const page = await store.list({ prefix, after, limit: atOnce });
    for (const { key: place, value } of page) {
      const checkpoint = decodeCheckpoint(value);
      const problem = checkpoint
        ? await judge(store, tenant, checkpoint, { last, start, key })
        : damaged(Number(place.slice(prefix.length)));
      if (problem) return problem;
      after = place;
    }
    if (page.length < atOnce) return undefined;
  }
}

interface Scene {
  readonly last: number;
  readonly start: Awaited<ReturnType<typeof readStart>>;
  readonly key: PublicKey;
}

async function judge(
  store: Store,
  tenant: string,
  checkpoint: Checkpoint,
  { last, start, key }: Scene,
): Promise<Problem | undefined> {
  const { seq, hash } = checkpoint;
  const what = `the checkpoint of entry ${seq}`;
  if (checkpoint.keyFingerprint === key.fingerprint && !(await verifyCheckpoint(checkpoint, key))) {
    const sentence = `${what} was changed: its signature does not fit what it says`;
    return { kind: 'bad signature', seq, sentence };
  }
  if (seq > last) return truncated(last, seq, 'a checkpoint is of');
  if (start && seq === start.seq - 1) {
    return start.previous === hash ? undefined : { kind: 'rewritten', seq, sentence: rewritten(seq, what) };
  }
  const value = await store.get(logOf(tenant) + padded(seq, 16));
  const entry = value && decodeEntry(value);
  if (entry?.hash === hash && hashEntry(entry) === hash) return undefined;
  if (entry) return { kind: 'rewritten', seq, sentence: rewritten(seq, what) };
  const sentence = `entry ${seq}, which a checkpoint is of, ${value ? 'cannot be read' : 'is missing'}`;
  return { kind: value ? 'damaged' : 'missing', seq, sentence };
}

function damaged(seq: number): Problem {
  return { kind: 'damaged', seq, sentence: `the checkpoint of entry ${seq} cannot be read` };
}
