/** Finds the nodes of a tenant that are online and have given labels, for server halves; waits until there are enough. */
import type { Clock, Timer } from '../../base/clock.js';
import { RollcallError } from '../../base/errors.js';
import { onAbort, sleep } from '../../base/wait.js';
import type { NodeRecord } from '../registry/node-record.js';
import type { Registry } from '../registry/registry.js';

export interface FoundNode {
  readonly id: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

export interface NodeCriteria {
  readonly min: number;
  readonly labels: Readonly<Record<string, string>>;
  /** Infinity for no bound. */
  readonly timeoutMs: number;
}

/**
 * Resolves when at least `min` nodes match; rejects with DEADLINE_EXCEEDED after the timeout. While it waits, it calls `onWaiting`
 * with the number of matching nodes, at once and then each minute.
 */
export type FindNodes = (
  criteria: NodeCriteria,
  signal: AbortSignal,
  onWaiting?: (count: number) => void,
) => Promise<FoundNode[]>;

export interface NodeFinderOptions {
  readonly registry: Pick<Registry, 'listNodes' | 'watchNodes'>;
  readonly tenant: string;
  readonly clock: Clock;
}

/** Maximum number of nodes in one answer. */
const maxNodes = 10_000;
/** The longest delay of a timer, ms. A longer timeout is no timeout: it exceeds 24 days. */
const maxWaitMs = 2 ** 31 - 1;
/** Bound of the ids, names and labels in one frame. */
const pageCharacters = 256 * 1024;
/** Nodes often connect many at a time: waits for more of them before it answers, ms. */
const settleMs = 20;
/** The index is dropped after this time without a search, ms. */
const idleMs = 60_000;
/** Interval between two reports of waiting, ms. */
export const waitingEveryMs = 60_000;

interface Online extends Omit<FoundNode, 'id'> {
  readonly id: bigint;
}

/** A search that waits until enough nodes match. */
interface Search {
  readonly criteria: NodeCriteria;
  /** The number of nodes that match now. */
  count: number;
  wake(): void;
}

/**
 * An index of the online nodes of a tenant, shared by all searches of all its runs. It follows the changes of the nodes: a node
 * that connects is compared with each waiting search, and no other node is looked at.
 */
export class NodeFinder {
  readonly #options: NodeFinderOptions;
  readonly #nodes = new Map<bigint, Online>();
  readonly #searches = new Set<Search>();
  /** Nodes that changed while the index is built: records that are read then may be older. */
  #changed: Set<bigint> | undefined;
  #building: Promise<void> | undefined;
  #stopWatching: () => void = () => undefined;
  #users = 0;
  #idle: Timer | undefined;

  constructor(options: NodeFinderOptions) {
    this.#options = options;
  }

  readonly find: FindNodes = async (criteria, signal, onWaiting) => {
    this.#users += 1;
    this.#idle?.cancel();
    try {
      await (this.#building ??= this.#build());
      return await this.#wait(criteria, signal, onWaiting);
    } finally {
      this.#users -= 1;
      if (this.#users === 0) this.#idle = this.#options.clock.after(idleMs, () => this.close());
    }
  };

  /** Drops the index; the next search builds it again. */
  close(): void {
    this.#idle?.cancel();
    this.#stopWatching();
    this.#nodes.clear();
    this.#building = undefined;
  }

  async #build(): Promise<void> {
    const { registry, tenant } = this.#options;
    const changed = new Set<bigint>();
    this.#changed = changed;
    this.#stopWatching = registry.watchNodes(tenant, node => this.#take(node));
    try {
      let pageToken = '';
      do {
        const page = await registry.listNodes(tenant, { statuses: ['online'], pageSize: 1000, pageToken });
        for (const node of page.nodes) if (!changed.has(node.id)) this.#nodes.set(node.id, node);
        pageToken = page.nextPageToken;
      } while (pageToken !== '');
    } catch (error) {
      this.close();
      throw error;
    } finally {
      this.#changed = undefined;
    }
  }

  #take(node: NodeRecord): void {
    this.#changed?.add(node.id);
    const before = this.#nodes.get(node.id);
    const { id, name, labels } = node;
    const after = node.status === 'online' ? { id, name, labels } : undefined;
    if (after) this.#nodes.set(id, after);
    else this.#nodes.delete(id);
    for (const search of this.#searches) {
      const { criteria } = search;
      search.count +=
        (after && matches(after, criteria) ? 1 : 0) - (before && matches(before, criteria) ? 1 : 0);
      if (search.count >= criteria.min) search.wake();
    }
  }

  async #wait(
    criteria: NodeCriteria,
    signal: AbortSignal,
    onWaiting?: (count: number) => void,
  ): Promise<FoundNode[]> {
    const { clock } = this.#options;
    const search: Search = { criteria, count: this.#count(criteria), wake: () => undefined };
    const wake = (): void => search.wake();
    const lateAt = clock.elapsed() + criteria.timeoutMs;
    const late = criteria.timeoutMs <= maxWaitMs ? clock.after(criteria.timeoutMs, wake) : undefined;
    const forget = onAbort(signal, wake);
    this.#searches.add(search);
    let reporting: Timer | undefined;
    const report = (): void => {
      onWaiting?.(search.count);
      reporting = clock.after(waitingEveryMs, report);
    };
    try {
      while (search.count < criteria.min) {
        if (clock.elapsed() >= lateAt) throw tooFew(search.count, criteria.min);
        signal.throwIfAborted();
        if (!reporting) report();
        await new Promise<void>(resolve => (search.wake = resolve));
        if (search.count >= criteria.min) await sleep(clock, settleMs);
      }
      return this.#collect(criteria);
    } finally {
      this.#searches.delete(search);
      late?.cancel();
      reporting?.cancel();
      forget();
    }
  }

  #count(criteria: NodeCriteria): number {
    let count = 0;
    for (const node of this.#nodes.values()) if (matches(node, criteria)) count += 1;
    return count;
  }

  /** The matching nodes, sorted by id. */
  #collect(criteria: NodeCriteria): FoundNode[] {
    const found = [...this.#nodes.values()].filter(node => matches(node, criteria));
    found.sort((one, other) => (one.id < other.id ? -1 : 1));
    return found.slice(0, maxNodes).map(({ id, name, labels }) => ({ id: `${id}`, name, labels }));
  }
}

function matches({ labels }: Pick<Online, 'labels'>, criteria: NodeCriteria): boolean {
  for (const name in criteria.labels)
    if (!Object.hasOwn(labels, name) || labels[name] !== criteria.labels[name]) return false;
  return true;
}

/** Splits the nodes into pages that fit into a frame; yields one empty page if there are no nodes. */
export function* pagesOf(
  nodes: readonly FoundNode[],
): Generator<{ readonly page: FoundNode[]; readonly isLast: boolean }> {
  let page: FoundNode[] = [];
  let characters = 0;
  for (const node of nodes) {
    const length = JSON.stringify(node).length;
    if (characters + length > pageCharacters) {
      yield { page, isLast: false };
      page = [];
      characters = 0;
    }
    page.push(node);
    characters += length;
  }
  yield { page, isLast: true };
}

function tooFew(found: number, min: number): RollcallError {
  return new RollcallError(
    'DEADLINE_EXCEEDED',
    `expected ${min} matching nodes online, found ${found} within the timeout`,
  );
}
