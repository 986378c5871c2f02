/**
 * The connections that nothing justifies yet: no session, no valid token. They alone count against the caps and meet
 * the deadlines, so this keeps just them, in order of arrival, whatever the number of live sessions.
 */
import type { Connection } from './connection.js';

export interface Caps {
  /** Connections without a session, in total. */
  readonly total: number;
  /** The same, from one network. */
  readonly perAddress: number;
}

export interface Crowd extends Iterable<Connection> {
  readonly size: number;
  add(connection: Connection): void;
  delete(connection: Connection): void;
  /** The connection that must go before one more may come from this network; undefined when there is room. */
  inTheWay(network: string): Connection | undefined;
}

export function createCrowd(caps: Caps): Crowd {
  const all = new Set<Connection>();
  const byNetwork = new Map<string, Set<Connection>>();

  const oldest = (of: Iterable<Connection> | undefined): Connection | undefined => {
    for (const first of of ?? []) return first;
    return undefined;
  };

  return {
    [Symbol.iterator]: () => all[Symbol.iterator](),
    get size() {
      return all.size;
    },
    add(connection) {
      all.add(connection);
      const near = byNetwork.get(connection.network) ?? new Set();
      byNetwork.set(connection.network, near.add(connection));
    },
    delete(connection) {
      all.delete(connection);
      const near = byNetwork.get(connection.network);
      near?.delete(connection);
      if (near?.size === 0) byNetwork.delete(connection.network);
    },
    inTheWay(network) {
      const near = byNetwork.get(network);
      if (near && near.size >= caps.perAddress) return oldest(near);
      return all.size >= caps.total ? oldest(all) : undefined;
    },
  };
}
