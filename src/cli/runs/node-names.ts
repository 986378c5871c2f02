/** The names of the nodes that say something in a log, each asked for once; who may not see nodes reads their ids. */
import { isRollcallError } from '../../base/errors.js';
import type { Nodes } from '../../control-client/nodes.js';

export type NodeNames = (id: bigint) => Promise<string>;

export function createNodeNames(nodes: Pick<Nodes, 'get'>): NodeNames {
  const known = new Map<bigint, string>();
  // Each refusal is told of in the audit log: one is enough.
  let isRefused = false;
  return async id => {
    const name = known.get(id);
    if (name !== undefined || isRefused) return name ?? `${id}`;
    try {
      const node = await nodes.get(id);
      known.set(id, node.name === '' ? `${id}` : node.name);
    } catch (error) {
      isRefused = isRollcallError(error, 'NOT_ALLOWED');
      // A node that is gone has no name any more; a link that is gone may come back.
      if (isRollcallError(error, 'NODE_NOT_FOUND')) known.set(id, `${id}`);
    }
    return known.get(id) ?? `${id}`;
  };
}
