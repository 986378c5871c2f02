/** The audit log of a tenant as lines to take away and check elsewhere; the form is in src/audit-log/export-line.ts. */
import { encodeCheckpoint } from '../../audit-log/checkpoint.js';
import { encodeEntry } from '../../audit-log/entry.js';
import { encodeDamaged, encodeHeader } from '../../audit-log/export-line.js';
import { padded } from '../../store/keys.js';
import type { Key, Store, Value } from '../../store/store.js';

import { checkpointsOf, decodeCheckpoint, decodeEntry, logOf, newestNumber, numberOf } from './stored-log.js';

export interface ExportOptions {
  readonly store: Store;
  readonly tenant: string;
  readonly trustDomain: string;
  /** Of the key that signs checkpoints. */
  readonly publicKeyPem: string;
}

const atOnce = 500;

/**
 * Lines without line ends. What the log holds when the first is asked for is all there will be; a caller who wants its
 * end covered makes a checkpoint first. Something damaged in the store is a line that says so.
 *
 * Every checkpoint goes along, also those of entries that are not there: one of an entry after the last shows that the
 * log was cut, one of the entry before the first stands for what retention took away.
 */
export async function* exportLines(options: ExportOptions): AsyncGenerator<string> {
  const { store, tenant, trustDomain, publicKeyPem } = options;
  // Looked up first: one that is of a later entry than the log has then did not come about while it was read.
  const lastCheckpoint = await newestNumber(store, checkpointsOf(tenant));
  const to = await newestNumber(store, logOf(tenant));
  const from = await oldestSeq(store, tenant);
  yield encodeHeader({ tenant, trustDomain, publicKeyPem, from, to: Math.max(to, from - 1) });
  yield* numbered(store, logOf(tenant), from, to, value => {
    const entry = decodeEntry(value);
    return entry && encodeEntry(entry);
  });
  yield* numbered(store, checkpointsOf(tenant), 1, lastCheckpoint, value => {
    const checkpoint = decodeCheckpoint(value);
    return checkpoint && encodeCheckpoint(checkpoint);
  });
}

async function oldestSeq(store: Store, tenant: string): Promise<number> {
  const prefix = logOf(tenant);
  const [oldest] = await store.list({ prefix, limit: 1 });
  return oldest ? Math.max(1, numberOf(prefix, oldest)) : 1;
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
