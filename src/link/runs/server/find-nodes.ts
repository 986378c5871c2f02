/** Which nodes a server half may send to: those of its tenant that are online, once there are enough of them. */
import type { Clock, Timer } from '../../../base/clock.js';
import { RollcallError } from '../../../base/errors.js';
import { onAbort, sleep } from '../../../base/wait.js';
import type { NodeRecord } from '../../registry/node-record.js';
import type { Registry } from '../../registry/registry.js';

export interface FoundNode {
  readonly id: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

export interface NodeWish {
  readonly min: number;
  readonly labels: Readonly<Record<string, string>>;
  /** Infinity for no bound. */
  readonly timeoutMs: number;
}

/**
 * Resolves when there are enough; DEADLINE_EXCEEDED when there are not in time. Until then `onWaiting` hears how many fit,
 * at first and each minute.
 */
export type FindNodes = (
  wish: NodeWish,
  signal: AbortSignal,
  onWaiting?: (count: number) => void,
) => Promise<FoundNode[]>;

export interface NodeFinderOptions {
  readonly registry: Pick<Registry, 'listNodes' | 'watchNodes'>;
  readonly tenant: string;
  readonly clock: Clock;
}

/** At most so many in one answer. */
const maxNodes = 10_000;
/** Timers take no more, ms; nobody waits longer than a link runs. */
const maxWaitMs = 2 ** 31 - 1;
/** Of the labels and names in one frame. */
const pageCharacters = 256 * 1024;
/** Nodes come in crowds: one answer for many of them, ms. */
const settleMs = 20;
/** The index is dropped when nobody has searched for so long, ms. */
const idleMs = 60_000;
/** How often somebody who waits hears how many there are, ms. */
export const waitingEveryMs = 60_000;

interface Online extends Omit<FoundNode, 'id'> {
  readonly id: bigint;
}

/** Somebody who waits until enough nodes fit. */
interface Search {
  readonly wish: NodeWish;
  /** How many fit now. */
  count: number;
  wake(): void;
}

/**
 * Which nodes of a tenant are online, kept up to date by their changes, for all searches of all its runs: a node that comes
 * costs each search that waits a look at its labels, and no look at any other node.
 */
export class NodeFinder {
  readonly #options: NodeFinderOptions;
  readonly #nodes = new Map<bigint, Online>();
  readonly #searches = new Set<Search>();
  /** Changed while the index is made: what is read then may be older. */
  #changed: Set<bigint> | undefined;
  #making: Promise<void> | undefined;
  #stopWatching: () => void = () => undefined;
  #users = 0;
  #idle: Timer | undefined;

  constructor(options: NodeFinderOptions) {
    this.#options = options;
  }

  readonly find: FindNodes = async (wish, signal, onWaiting) => {
    this.#users += 1;
    this.#idle?.cancel();
    try {
      await (this.#making ??= this.#make());
      return await this.#wait(wish, signal, onWaiting);
    } finally {
      this.#users -= 1;
      if (this.#users === 0) this.#idle = this.#options.clock.after(idleMs, () => this.close());
    }
  };

  /** Forgets the index; the next search makes it anew. */
  close(): void {
    this.#idle?.cancel();
    this.#stopWatching();
    this.#nodes.clear();
    this.#making = undefined;
  }

  async #make(): Promise<void> {
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
      const { wish } = search;
      search.count += (after && fits(after, wish) ? 1 : 0) - (before && fits(before, wish) ? 1 : 0);
      if (search.count >= wish.min) search.wake();
    }
  }

  async #wait(
    wish: NodeWish,
    signal: AbortSignal,
    onWaiting?: (count: number) => void,
  ): Promise<FoundNode[]> {
    const { clock } = this.#options;
    const search: Search = { wish, count: this.#count(wish), wake: () => undefined };
    const wake = (): void => search.wake();
    const lateAt = clock.elapsed() + wish.timeoutMs;
    const late = wish.timeoutMs <= maxWaitMs ? clock.after(wish.timeoutMs, wake) : undefined;
    const forget = onAbort(signal, wake);
    this.#searches.add(search);
    let telling: Timer | undefined;
    const tell = (): void => {
      onWaiting?.(search.count);
      telling = clock.after(waitingEveryMs, tell);
    };
    try {
      while (search.count < wish.min) {
        if (clock.elapsed() >= lateAt) throw tooFew(search.count, wish.min);
        signal.throwIfAborted();
        if (!telling) tell();
        await new Promise<void>(resolve => (search.wake = resolve));
        if (search.count >= wish.min) await sleep(clock, settleMs);
      }
      return this.#collect(wish);
    } finally {
      this.#searches.delete(search);
      late?.cancel();
      telling?.cancel();
      forget();
    }
  }

  #count(wish: NodeWish): number {
    let count = 0;
    for (const node of this.#nodes.values()) if (fits(node, wish)) count += 1;
    return count;
  }

  /** In the order of their ids. */
  #collect(wish: NodeWish): FoundNode[] {
    const found = [...this.#nodes.values()].filter(node => fits(node, wish));
    found.sort((one, other) => (one.id < other.id ? -1 : 1));
    return found.slice(0, maxNodes).map(({ id, name, labels }) => ({ id: `${id}`, name, labels }));
  }
}

function fits({ labels }: Pick<Online, 'labels'>, wish: NodeWish): boolean {
  for (const name in wish.labels)
    if (!Object.hasOwn(labels, name) || labels[name] !== wish.labels[name]) return false;
  return true;
}

/** As many at a time as a frame holds; one page, which is empty, for none. */
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
  return new RollcallError('DEADLINE_EXCEEDED', `${found} of ${min} nodes were online in time`);
}
