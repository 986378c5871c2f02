/**
 * Pages of nodes in the order of their ids, filtered. One call looks at a bounded number of records and may give a
 * short or even empty page with a token to go on from.
 */
import type { Store } from '../../store/store.js';
import { idOfKey, nodeKey, nodePrefix, statusKey, statusPrefix } from './node-keys.js';
import { decodeNodeRecord, nodeStatusNames, type NodeRecord, type NodeStatusName } from './node-record.js';
import { checkPageSize, makePageToken, readPageToken } from './page-token.js';
import type { PresenceOverlay } from './presence-overlay.js';

export interface NodeQuery {
  /** Every status when empty or absent. */
  readonly statuses?: readonly NodeStatusName[] | undefined;
  /** All of them must be on the node. */
  readonly labels?: Readonly<Record<string, string>> | undefined;
  /** Part of the name, the id, the fingerprint or a label, whatever the case. */
  readonly text?: string | undefined;
  /** Only nodes of this owner, registered from then on. */
  readonly owner?: { readonly name: string; readonly since: number } | undefined;
  /** 1 to 1000, 100 by default. */
  readonly pageSize?: number | undefined;
  readonly pageToken?: string | undefined;
}

export interface NodePage {
  readonly nodes: NodeRecord[];
  /** Empty on the last page. */
  readonly nextPageToken: string;
}

const maxScanned = 20_000;
const batchSize = 500;

interface Batch {
  /** Ascending. */
  readonly records: readonly NodeRecord[];
  /** The last id that was looked at; undefined at the end of the nodes. */
  readonly last: bigint | undefined;
}

/** Looks at `limit` nodes after an id. */
type Source = (after: bigint, limit: number) => Promise<Batch>;

function allNodes(store: Store, tenant: string): Source {
  return async (after, limit) => {
    const entries = await store.list({ prefix: nodePrefix(tenant), after: nodeKey(tenant, after), limit });
    const records = entries.map(({ value }) => decodeNodeRecord(value));
    return { records, last: records.length === limit ? records.at(-1)?.id : undefined };
  };
}

/** By the status index; nodes whose status waits in the overlay are looked at whatever their stored one is. */
function nodesByStatus(
  store: Store,
  tenant: string,
  statuses: readonly NodeStatusName[],
  overlay: PresenceOverlay,
): Source {
  async function idsOf(status: NodeStatusName, after: bigint, limit: number): Promise<bigint[]> {
    const entries = await store.list({
      prefix: statusPrefix(tenant, status),
      after: statusKey(tenant, status, after),
      limit,
    });
    return entries.map(({ key }) => idOfKey(key));
  }

  return async (after, limit) => {
    const indexed = await Promise.all(statuses.map(status => idsOf(status, after, limit)));
    const waiting = overlay.idsOf(tenant).filter(id => id > after);
    // Each list holds its own first ones, so the first ones of all are among them.
    const ids = [...new Set([...indexed.flat(), ...waiting])]
      .sort((one, other) => (one < other ? -1 : 1))
      .slice(0, limit);
    const values = await Promise.all(ids.map(id => store.get(nodeKey(tenant, id))));
    const records = values.flatMap(value => (value ? [decodeNodeRecord(value)] : []));
    return { records, last: ids.length === limit ? ids.at(-1) : undefined };
  };
}

function hasText({ id, name, fingerprint, labels }: NodeRecord, text: string): boolean {
  const places = [name, `${id}`, fingerprint, ...Object.entries(labels).map(pair => pair.join('='))];
  return places.some(place => place.toLowerCase().includes(text));
}

function hasLabels(node: NodeRecord, labels: Readonly<Record<string, string>>): boolean {
  return Object.entries(labels).every(
    ([key, value]) => Object.hasOwn(node.labels, key) && node.labels[key] === value,
  );
}

type Filter = (node: NodeRecord) => boolean;

function filterOf(statuses: readonly NodeStatusName[], { labels = {}, text = '', owner }: NodeQuery): Filter {
  const wanted = text.toLowerCase();
  return node =>
    (statuses.length === 0 || statuses.includes(node.status)) &&
    (owner === undefined || (node.owner === owner.name && node.registeredAt >= owner.since)) &&
    hasLabels(node, labels) &&
    (wanted === '' || hasText(node, wanted));
}

/** The query in one spelling: a token continues the same query only. */
function askedOf(tenant: string, statuses: readonly NodeStatusName[], query: NodeQuery) {
  const { labels = {}, text = '', owner } = query;
  return [
    'nodes',
    tenant,
    statuses,
    Object.entries(labels).sort(([one], [other]) => (one < other ? -1 : 1)),
    text,
    owner?.name ?? '',
  ];
}

export async function listNodes(
  store: Store,
  overlay: PresenceOverlay,
  tenant: string,
  query: NodeQuery,
): Promise<NodePage> {
  const size = checkPageSize(query.pageSize);
  const statuses = nodeStatusNames.filter(status => query.statuses?.includes(status));
  const asked = askedOf(tenant, statuses, query);
  const matches = filterOf(statuses, query);
  const source =
    statuses.length === 0 ? allNodes(store, tenant) : nodesByStatus(store, tenant, statuses, overlay);
  const nodes: NodeRecord[] = [];
  let after = readPageToken(asked, query.pageToken) ?? 0n;
  // One more than the page shows whether there is another; a filter that drops most wants more at once.
  const limit = hasFilter(query) ? batchSize : size + 1;
  for (let scanned = 0; scanned < maxScanned; scanned += limit) {
    const { records, last } = await source(after, limit);
    for (const stored of records) {
      const node = overlay.view(stored);
      if (matches(node)) {
        if (nodes.length === size) return { nodes, nextPageToken: makePageToken(asked, after) };
        nodes.push(node);
      }
      after = stored.id;
    }
    if (last === undefined) return { nodes, nextPageToken: '' };
    after = last;
  }
  return { nodes, nextPageToken: makePageToken(asked, after) };
}

function hasFilter({ labels = {}, text = '', owner }: NodeQuery): boolean {
  return text !== '' || owner !== undefined || Object.keys(labels).length > 0;
}
