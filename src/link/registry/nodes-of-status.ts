/** Does something to every node of a status, many at a time: each may leave the status by it. */
import { isRollcallError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import { pagesBelow } from '../../store/pages.js';
import type { Store } from '../../store/store.js';
import { idOfKey, statusPrefix } from './node-keys.js';
import type { NodeStatusName } from './node-record.js';

const nodesAtOnce = 1000;

export interface NodesOfStatus {
  readonly tenant: string;
  readonly status: NodeStatusName;
  /** Asked before each page; false ends it. */
  readonly isWanted?: () => boolean;
}

/** Gives how many there were. A node whose record is damaged is logged and passed over. */
export async function forEachOfStatus(
  { store, log }: { readonly store: Store; readonly log: Log },
  { tenant, status, isWanted = () => true }: NodesOfStatus,
  act: (node: { readonly tenant: string; readonly id: bigint }) => Promise<unknown>,
): Promise<number> {
  const prefix = statusPrefix(tenant, status);
  let count = 0;
  if (!isWanted()) return count;
  for await (const entries of pagesBelow(store, prefix, nodesAtOnce)) {
    await Promise.all(
      entries.map(async ({ key }) => {
        const id = idOfKey(key);
        await act({ tenant, id }).catch((error: unknown) => {
          if (!isRollcallError(error, 'INTERNAL') && !isRollcallError(error, 'NODE_NOT_FOUND')) throw error;
          log.error({ err: error, nodeId: `${id}`, status }, 'a node of this status cannot be read');
        });
      }),
    );
    count += entries.length;
    if (!isWanted()) break;
  }
  return count;
}
