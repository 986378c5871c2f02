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

export class PendingConnections implements Iterable<Connection> {
  readonly #caps: Caps;
  readonly #all = new Set<Connection>();
  readonly #byNetwork = new Map<string, Set<Connection>>();

  constructor(caps: Caps) {
    this.#caps = caps;
  }

  [Symbol.iterator](): Iterator<Connection> {
    return this.#all[Symbol.iterator]();
  }

  get size(): number {
    return this.#all.size;
  }

  add(connection: Connection): void {
    this.#all.add(connection);
    const near = this.#byNetwork.get(connection.network) ?? new Set();
    this.#byNetwork.set(connection.network, near.add(connection));
  }

  delete(connection: Connection): void {
    this.#all.delete(connection);
    const near = this.#byNetwork.get(connection.network);
    near?.delete(connection);
    if (near?.size === 0) this.#byNetwork.delete(connection.network);
  }

  /** The connection that must go before one more may come from this network; undefined when there is room. */
  evictFor(network: string): Connection | undefined {
    const near = this.#byNetwork.get(network);
    if (near && near.size >= this.#caps.perAddress) return oldest(near);
    return this.#all.size >= this.#caps.total ? oldest(this.#all) : undefined;
  }
}

function oldest(connections: Iterable<Connection>): Connection | undefined {
  for (const first of connections) return first;
  return undefined;
}
