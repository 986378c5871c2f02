/**
 * The nodes of the link: who is registered, what each one's status is, since when and why. Every change is one commit
 * with its history entry and audit event, conditional on the record it was decided from, so that of a revocation and
 * anything that races it the revocation wins. When the store fails, presence stays true in memory (presence-overlay.ts).
 */
import type { Clock } from '../../base/clock.js';
import { isRollcallError, RollcallError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import type { Random } from '../../base/random.js';
import { defaultTenant } from '../../protocol/limits.js';
import { findNodeId } from '../../identity/node-id.js';
import type { Actor, Audit } from '../audit/audit.js';
import { allTenants, listTenants } from '../../store/keys.js';
import type { Reads, StopWatching, Store } from '../../store/store.js';
import { listHistory, type HistoryPage, type HistoryQuery } from './history.js';
import { createNodeCounter, noNodes, type NodeCounts } from './node-count.js';
import { decodeId, fingerprintKey, homeKey, isHistoryKey, nameKey, nodeKey, isNodeKey } from './node-keys.js';
import { listNodes, type NodePage, type NodeQuery } from './node-list.js';
import { ambiguousNode, findIdsByPrefix } from './node-prefix.js';
import {
  decodeNodeRecord,
  nodeStatusNames,
  type CertificateReference,
  type NodeRecord,
} from './node-record.js';
import { forEachOfStatus } from './nodes-of-status.js';
import { createPresenceOverlay } from './presence-overlay.js';
import { createPresenceRetry } from './presence-retry.js';
import { createRegistration, type RegistrationRequest } from './registration.js';
import type { Takeover } from './node-events.js';
import { decideAll, refusalOf } from './node-machine.js';
import type { OfflineReason } from './offline-reasons.js';
import { createTransitions, nodeNotFound } from './transitions.js';
import { cleanText } from '../../base/text.js';

export type { HistoryPage, HistoryQuery } from './history.js';
export type { NodeCounts } from './node-count.js';
export type { NodePage, NodeQuery } from './node-list.js';
export type { HistoryEntry, NodeRecord } from './node-record.js';
export type { RegistrationRequest } from './registration.js';
export type { Takeover } from './node-events.js';

export interface RegistryOptions {
  readonly store: Store;
  readonly audit: Audit;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** History entries kept of each node, 1000 unless told. */
  readonly historyLimit?: number;
  /** Days they are kept, 90 unless told. */
  readonly historyDays?: number;
}

/** What a node said and where it said it, when it was proved. */
export interface IssueClaim {
  /** The generation of the last certificate it remembers; 0 for none. */
  readonly rememberedGeneration: bigint;
  readonly address: string;
  readonly agentVersion: string;
}

export interface SessionClaim {
  readonly session: bigint;
  /** SHA-256 of the certificate's DER, hex. */
  readonly certificateFingerprint: string;
  readonly address: string;
  readonly agentVersion: string;
  /** What it means for a session that holds the node online now; `replaced` unless told. */
  readonly takeover?: Takeover;
}

/** Makes the certificate of this generation for the node as it now is. May be called again after a conflict. */
export type Issue = (
  record: NodeRecord,
  generation: bigint,
) => CertificateReference | Promise<CertificateReference>;

export interface Registry {
  /**
   * NODE_ALREADY_REGISTERED, NODE_NAME_TAKEN, REQUEST_INVALID, or NOT_FOUND for the tenant, when refused. Durable when it
   * resolves.
   */
  registerNode(request: RegistrationRequest): Promise<NodeRecord>;
  /** `reads` may be those of a decision that goes by the record. */
  findNode(tenant: string, id: bigint, reads?: Reads): Promise<NodeRecord | undefined>;
  /** Where a node of this id is, or would be. */
  tenantOf(id: bigint): Promise<string>;
  /** The latest registration of the key. */
  findNodeByFingerprint(tenant: string, fingerprint: string): Promise<NodeRecord | undefined>;
  /** By id in decimal, `SHA256:…` fingerprint, or name; NODE_NOT_FOUND. */
  resolveNode(tenant: string, text: string): Promise<NodeRecord>;
  /** The same, or the one node of which this is the beginning; REQUEST_INVALID names several. */
  resolveNodeByPrefix(tenant: string, text: string): Promise<NodeRecord>;
  /** The same without reading the record; the id itself is given as it was said, whether there is such a node or not. */
  findNodeIdByText(tenant: string, text: string): Promise<bigint | undefined>;
  listNodes(tenant: string, query?: NodeQuery): Promise<NodePage>;
  /** Newest first. */
  listHistory(tenant: string, id: bigint, query?: HistoryQuery): Promise<HistoryPage>;
  /**
   * Gives the revoked record once that is durable; a second time changes nothing. When the store cannot be read or does
   * not take it (STORE_FULL, STORE_UNAVAILABLE) the node is revoked in memory all the same, each further call tries to
   * write it and fails like the first, and it is written as soon as the store is well.
   */
  revokeNode(
    tenant: string,
    id: bigint,
    by: { readonly by: Actor; readonly comment: string },
  ): Promise<NodeRecord>;
  /**
   * Revokes every node of a deleted tenant, in which none is registered any more. Stops between two pages when `isWanted`
   * gives false; called again, it goes on with the nodes that are left.
   */
  revokeAll(
    tenant: string,
    by: { readonly by: Actor; readonly comment: string },
    isWanted: () => boolean,
  ): Promise<void>;
  /**
   * Deletes a revoked node; gives it as it was. Its key and its name are free: the key is not registered here any more.
   * REQUEST_INVALID for a node that is not revoked.
   */
  deleteNode(tenant: string, id: bigint, by: Actor): Promise<NodeRecord>;
  /** Commits a certificate as the node's next before anybody sees it. NODE_REVOKED, NODE_PENDING, NODE_QUARANTINED. */
  issueCertificate(tenant: string, id: bigint, claim: IssueClaim, issue: Issue): Promise<NodeRecord>;
  /**
   * Makes the node online by this session. CERTIFICATE_REFUSED for a superseded certificate, NODE_REVOKED and so on.
   * A store that cannot be written does not keep a node out, one that cannot be read does.
   */
  openSession(tenant: string, id: bigint, claim: SessionClaim): Promise<NodeRecord>;
  /** Makes the node offline if this session holds it online; gives whether it did. Never fails for the store. */
  closeSession(
    tenant: string,
    id: bigint,
    session: bigint,
    why: { readonly reason: OfflineReason; readonly detail?: string },
  ): Promise<boolean>;
  /** At start: every node stored as online is offline since the link was last alive. Gives how many there were. */
  recover(aliveAt: number): Promise<number>;
  /** Calls with each node, of this tenant or of all, that has changed its status, or whose session was taken over. */
  watchNodes(tenant: string | undefined, listener: (record: NodeRecord) => void): StopWatching;
  /** By status. The first question of a tenant reads its index, seconds for a million nodes; later ones are free. */
  countNodes(tenant: string): Promise<NodeCounts>;
  /** Of all tenants together. */
  countAllNodes(): Promise<NodeCounts>;
  /** Tries once more to write what waits. The store stays open. */
  close(): Promise<void>;
}

function unknownNode(text: string, how: string): RollcallError {
  return new RollcallError('NODE_NOT_FOUND', `there is no node "${cleanText(text, 80)}"`, {
    hint: `${how}; \`rollcall nodes list\` shows them`,
  });
}

/** An agent that comes back with the certificate of a node that was deleted is to try with its key. */
function throwOfCertificate(error: unknown): never {
  if (!isRollcallError(error, 'NODE_NOT_FOUND')) throw error;
  throw new RollcallError(
    'CERTIFICATE_REFUSED',
    'this certificate is that of a node that is not registered here',
    {
      hint: 'enroll again, once the key is registered',
    },
  );
}

const dayMs = 86_400_000;

export function createRegistry(options: RegistryOptions): Registry {
  const { store, audit, clock, random, log, historyLimit = 1000, historyDays = 90 } = options;
  const overlay = createPresenceOverlay();
  const counter = createNodeCounter(store);
  const transitions = createTransitions({
    store,
    audit,
    clock,
    overlay,
    bounds: { limit: historyLimit, ageMs: historyDays * dayMs },
    onWaiting: () => retry.start(),
    onDoubt: () => counter.doubt(),
  });
  const retry = createPresenceRetry({ overlay, clock, log, write: node => transitions.writeWaiting(node) });
  const registerNode = createRegistration({
    ...{ store, audit, clock, random },
    async writeWaiting(node) {
      if (overlay.eventsOf(node.tenant, node.id).length > 0) await transitions.writeWaiting(node);
    },
    onDoubt: () => counter.doubt(),
  });

  const watchers = new Set<{
    readonly tenant: string | undefined;
    readonly listener: (record: NodeRecord) => void;
  }>();
  // One look at each change, however many want to hear of it.
  const stopWatching = store.watch(allTenants, changes => {
    // A commit that adds nothing to a history changed nothing that shows: it issued a certificate.
    if (watchers.size === 0 || !changes.some(({ key }) => isHistoryKey(key))) return;
    for (const { key, value } of changes) {
      if (!value || !isNodeKey(key)) continue;
      const stored = decodeNodeRecord(value);
      const { tenant, id } = stored;
      const record = overlay.isSettling(tenant, id) ? stored : overlay.view(stored);
      for (const watcher of [...watchers])
        if ((watcher.tenant ?? tenant) === tenant) tell(watcher.listener, record);
    }
  });

  /** One that throws disturbs no other. */
  function tell(listener: (record: NodeRecord) => void, record: NodeRecord): void {
    try {
      listener(record);
    } catch (error) {
      log.error({ err: error, nodeId: `${record.id}` }, 'a watcher of nodes failed');
    }
  }

  async function readNode(tenant: string, id: bigint, reads: Reads = store): Promise<NodeRecord | undefined> {
    const value = await reads.get(nodeKey(tenant, id));
    return value && decodeNodeRecord(value);
  }

  async function findNode(tenant: string, id: bigint, reads?: Reads): Promise<NodeRecord | undefined> {
    const record = await readNode(tenant, id, reads);
    return record && overlay.view(record);
  }

  async function findNodeIdByText(tenant: string, text: string): Promise<bigint | undefined> {
    const said = findNodeId(text);
    if (said !== undefined) return said;
    const isFingerprint = text.startsWith('SHA256:');
    const id = await store.get(isFingerprint ? fingerprintKey(tenant, text) : nameKey(tenant, text));
    return id && decodeId(id);
  }

  async function findByText(tenant: string, text: string): Promise<NodeRecord | undefined> {
    const id = await findNodeIdByText(tenant, text);
    return id === undefined ? undefined : findNode(tenant, id);
  }

  async function countNodes(tenant: string): Promise<NodeCounts> {
    const counts = await counter.count(tenant);
    for (const { stored, seen } of overlay.differences(tenant)) {
      counts[stored] -= 1;
      counts[seen] += 1;
    }
    return counts;
  }
  return {
    registerNode,
    findNode,
    async tenantOf(id) {
      const home = await store.get(homeKey(id));
      return home ? Buffer.from(home).toString() : defaultTenant;
    },
    async findNodeByFingerprint(tenant, fingerprint) {
      const id = await store.get(fingerprintKey(tenant, fingerprint));
      return id && findNode(tenant, decodeId(id));
    },
    findNodeIdByText,
    async resolveNode(tenant, text) {
      const record = await findByText(tenant, text);
      if (record) return record;
      throw unknownNode(text, 'name a node by its whole id, name or SHA256: fingerprint');
    },
    async resolveNodeByPrefix(tenant, text) {
      const record = await findByText(tenant, text);
      if (record) return record;
      const ids = await findIdsByPrefix(store, tenant, text);
      const found = await Promise.all(ids.map(id => findNode(tenant, id)));
      const nodes = found.filter(node => node !== undefined);
      if (nodes.length > 1) throw ambiguousNode(cleanText(text, 80), nodes);
      if (nodes[0]) return nodes[0];
      throw unknownNode(text, 'name a node by its id, its name or its SHA256: fingerprint');
    },
    listNodes: (tenant, query = {}) => listNodes(store, overlay, tenant, query),
    async listHistory(tenant, id, query = {}) {
      const record = await readNode(tenant, id);
      if (!record) throw nodeNotFound();
      return listHistory(store, record, decideAll(record, overlay.eventsOf(tenant, id)).history, query);
    },
    async revokeNode(tenant, id, { by, comment }) {
      const event = { type: 'revoked', at: clock.now(), by, comment } as const;
      return (await transitions.applyRevocation({ tenant, id }, event)).record;
    },
    async revokeAll(tenant, { by, comment }, isWanted) {
      for (const status of nodeStatusNames.filter(each => each !== 'revoked')) {
        await forEachOfStatus({ store, log }, { tenant, status, isWanted }, node =>
          transitions.applyRevocation(node, { type: 'revoked', at: clock.now(), by, comment }),
        );
      }
    },
    deleteNode: (tenant, id, by) => transitions.remove({ tenant, id }, by),
    async issueCertificate(tenant, id, claim, issue) {
      const { record } = await transitions.apply({ tenant, id }, async before => {
        const refusal = refusalOf(before);
        if (refusal) throw refusal;
        const generation = before.issuedGeneration + 1n;
        const certificate = { ...(await issue(before, generation)), generation };
        return { type: 'issued', at: clock.now(), certificate, ...claim };
      });
      return record;
    },
    async openSession(tenant, id, { takeover = 'replaced', ...claim }) {
      const event = { type: 'connected', at: clock.now(), takeover, ...claim } as const;
      return (await transitions.applyPresence({ tenant, id }, event).catch(throwOfCertificate)).record;
    },
    closeSession(tenant, id, session, { reason, detail = '' }) {
      const event = { type: 'closed', at: clock.now(), session, reason, detail } as const;
      return transitions.applyClosing({ tenant, id }, event);
    },
    async recover(aliveAt) {
      let count = 0;
      for (const tenant of await listTenants(store)) {
        count += await forEachOfStatus({ store, log }, { tenant, status: 'online' }, node =>
          transitions.apply(node, () => ({ type: 'link-restarted', at: aliveAt })),
        );
      }
      return count;
    },
    watchNodes(tenant, listener) {
      const watcher = { tenant, listener };
      watchers.add(watcher);
      const stopOverlay = overlay.watch(tenant, listener);
      return () => {
        watchers.delete(watcher);
        stopOverlay();
      };
    },
    countNodes,
    async countAllNodes() {
      const all = noNodes();
      for (const tenant of await listTenants(store)) {
        const counts = await countNodes(tenant);
        for (const status of nodeStatusNames) all[status] += counts[status];
      }
      return all;
    },
    async close() {
      await retry.close();
      stopWatching();
      counter.close();
    },
  };
}
