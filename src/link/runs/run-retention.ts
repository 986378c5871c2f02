/** What goes with time: finished runs with their logs, a while after they were started. */
import { listTenants } from '../../store/keys.js';
import type { Store } from '../../store/store.js';
import { numberOfKey, runKey, runLogHeadKey, runLogPrefix, runOrderPrefix } from './run-keys.js';

const mostRuns = 500;
const mostAtOnce = 1_000;

/** Removes runs from before a moment, milliseconds since 1970; those that are not over stay. */
export async function removeOldRuns(
  store: Store,
  before: number,
  isOpen: (id: bigint) => boolean,
): Promise<void> {
  for (const tenant of await listTenants(store)) {
    const entries = await store.list({ prefix: runOrderPrefix(tenant), limit: mostRuns });
    for (const { key, value } of entries) {
      if (Number(numberOfKey(key)) >= before) break;
      const id = BigInt(Buffer.from(value).toString());
      if (!isOpen(id)) await removeRun(store, tenant, id, key);
    }
  }
}

async function removeRun(store: Store, tenant: string, id: bigint, orderKey: string): Promise<void> {
  for (;;) {
    const lines = await store.list({ prefix: runLogPrefix(tenant, id), limit: mostAtOnce });
    if (lines.length === 0) break;
    await store.commit(lines.map(({ key }) => ({ type: 'delete', key })));
  }
  const rest = [orderKey, runKey(tenant, id), runLogHeadKey(tenant, id)];
  await store.commit(rest.map(key => ({ type: 'delete', key })));
}
