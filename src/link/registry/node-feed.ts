/**
 * Changes of nodes for however many listen: the store is heard once and each record is read once, whatever the number of
 * listeners.
 */
import type { StopWatching } from '../../store/store.js';
import type { NodeRecord } from './node-record.js';
import type { Registry } from './registry.js';

type Listener = (node: NodeRecord) => void;

export class NodeFeed {
  readonly #registry: Pick<Registry, 'watchNodes'>;
  readonly #listeners = new Map<string, Set<Listener>>();
  #stop: StopWatching | undefined;

  constructor(registry: Pick<Registry, 'watchNodes'>) {
    this.#registry = registry;
  }

  /** Calls with each node of the tenant that has changed, the very same record for every listener. */
  listen(tenant: string, listener: Listener): StopWatching {
    const listeners = this.#listeners.get(tenant) ?? new Set();
    this.#listeners.set(tenant, listeners.add(listener));
    this.#stop ??= this.#registry.watchNodes(undefined, node => this.#tell(node));
    return () => {
      if (!listeners.delete(listener) || listeners.size > 0) return;
      this.#listeners.delete(tenant);
      if (this.#listeners.size > 0) return;
      this.#stop?.();
      this.#stop = undefined;
    };
  }

  #tell(node: NodeRecord): void {
    for (const listener of [...(this.#listeners.get(node.tenant) ?? [])]) listener(node);
  }
}
