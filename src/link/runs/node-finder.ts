/** Which nodes a server half may send to: those of its tenant that are online, once there are enough of them. */
import type { Clock } from '../../base/clock.js';
import { RollcallError } from '../../base/errors.js';
import type { Registry } from '../registry/registry.js';

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

/** Resolves when there are enough; DEADLINE_EXCEEDED when there are not in time. */
export type FindNodes = (wish: NodeWish, signal: AbortSignal) => Promise<FoundNode[]>;

/** At most so many in one answer. */
const mostNodes = 10_000;
/** Timers take no more, ms; nobody waits longer than a link runs. */
const longestWaitMs = 2 ** 31 - 1;
/** Of the labels and names in one frame. */
const pageCharacters = 256 * 1024;
/** Nodes come in crowds: one look for many of them, ms. */
const settleMs = 20;

export function createFindNodes(
  registry: Pick<Registry, 'listNodes' | 'watchNodes'>,
  tenant: string,
  clock: Clock,
): FindNodes {
  async function look(labels: NodeWish['labels']): Promise<FoundNode[]> {
    const found: FoundNode[] = [];
    let pageToken = '';
    do {
      const page = await registry.listNodes(tenant, {
        statuses: ['online'],
        labels,
        pageSize: 1000,
        pageToken,
      });
      found.push(...page.nodes.map(({ id, name, labels: all }) => ({ id: `${id}`, name, labels: all })));
      pageToken = page.nextPageToken;
    } while (pageToken !== '' && found.length < mostNodes);
    return found.slice(0, mostNodes);
  }

  return async ({ min, labels, timeoutMs }, signal) => {
    const news = { hasChanged: false, isLate: false, tell: (): void => undefined };
    const stop = registry.watchNodes(tenant, () => {
      news.hasChanged = true;
      news.tell();
    });
    const wake = (): void => news.tell();
    const late =
      timeoutMs <= longestWaitMs
        ? clock.after(timeoutMs, () => {
            news.isLate = true;
            wake();
          })
        : undefined;
    signal.addEventListener('abort', wake);
    try {
      for (;;) {
        news.hasChanged = false;
        const found = await look(labels);
        if (found.length >= min) return found;
        if (isSo(news, 'isLate')) throw tooFew(found.length, min);
        signal.throwIfAborted();
        if (!isSo(news, 'hasChanged')) await new Promise<void>(resolve => (news.tell = resolve));
        await new Promise<void>(resolve => void clock.after(settleMs, resolve));
      }
    } finally {
      stop();
      late?.cancel();
      signal.removeEventListener('abort', wake);
    }
  };
}

/** It may have become so while something else was waited for. */
function isSo<K extends string>(news: Readonly<Record<K, boolean>>, what: K): boolean {
  return news[what];
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
