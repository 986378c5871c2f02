/** The audit log of a tenant as lines to take away and check elsewhere; the form is in src/audit-log/export-line.ts. */
import { encodeCheckpoint } from '../../audit-log/checkpoint.js';
import { encodeEntry } from '../../audit-log/entry.js';
import { encodeDamaged, encodeHeader } from '../../audit-log/export-line.js';
import { padded } from '../../store/keys.js';
import type { Key, Store, Value } from '../../store/store.js';

import { checkpointsOf, decodeCheckpoint, decodeEntry, logOf, newestSeq, numberOf } from './stored-log.js';

export interface ExportOptions {
  readonly store: Store;
  readonly tenant: string;
  readonly trustDomain: string;
  /** Of the key that signs checkpoints. */
  readonly publicKeyPem: string;
  /** The number of the first entry; the oldest unless told. */
  readonly from?: number | undefined;
}

const atOnce = 500;

/**
 * Lines without line ends. What the log holds when the first is asked for is all there will be; whoever wants its end
 * vouched for makes a checkpoint first. Something damaged in the store is a line that says so.
 */
export async function* exportLines(options: ExportOptions): AsyncGenerator<string> {
  const { store, tenant, trustDomain, publicKeyPem } = options;
  const to = await newestSeq(store, tenant);
  const from = Math.max(1, options.from ?? (await oldestSeq(store, tenant)));
  yield encodeHeader({ tenant, trustDomain, publicKeyPem, from, to: Math.max(to, from - 1) });
  yield* numbered(store, logOf(tenant), from, to, value => {
    const entry = decodeEntry(value);
    return entry && encodeEntry(entry);
  });
  yield* numbered(store, checkpointsOf(tenant), from, to, value => {
    const checkpoint = decodeCheckpoint(value);
    return checkpoint && encodeCheckpoint(checkpoint);
  });
}

async function oldestSeq(store: Store, tenant: string): Promise<number> {
  const prefix = logOf(tenant);
  const [oldest] = await store.list({ prefix, limit: 1 });
  return oldest ? numberOf(prefix, oldest) : 1;
}

/** A line for each value from one number to another, both included, a few at a time. */
async function* numbered(
  store: Store,
  prefix: Key,
  from: number,
  to: number,
  encode: (value: Value) => string | undefined,
): AsyncGenerator<string> {
  const end = prefix + padded(to, 16);
  for (let after = prefix + padded(from - 1, 16); ;) {
    const some = await store.list({ prefix, after, limit: atOnce });
    for (const { key, value } of some) {
      if (key > end) return;
      yield encode(value) ?? encodeDamaged(value);
      after = key;
    }
    if (some.length < atOnce) return;
  }
}
