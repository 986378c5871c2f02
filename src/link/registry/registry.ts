/**
 * The nodes of the link: who is registered, what each one's status is, since when and why. Every change is one commit
 * with its history entry and audit event, conditional on the record it was decided from, so that of a revocation and
 * anything that races it the revocation wins. When the store fails, presence stays true in memory (presence-overlay.ts).
 */
import type { Clock } from '../../base/clock.js';
import { isRollcallError, RollcallError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import type { Random } from '../../base/random.js';
import { listTenants } from '../../store/keys.js';
import type { Reads, StopWatching, Store } from '../../store/store.js';
import type { Actor, Audit } from '../audit/audit.js';
import { listHistory, type HistoryPage, type HistoryQuery } from './history.js';
import { createNodeCounter, noNodes, type NodeCounter, type NodeCounts } from './node-count.js';
import type { Takeover } from './node-events.js';
import { listNodes, type NodePage, type NodeQuery } from './node-list.js';
import { NodeLookup } from './node-lookup.js';
import { decideAll, refusalOf } from './node-machine.js';
import {
  nodeStatusNames,
  type CertificateReference,
  type KnownCertificate,
  type NodeRecord,
} from './node-record.js';
import { NodeWatchers, type NodeListener } from './node-watchers.js';
import { forEachOfStatus } from './nodes-of-status.js';
import type { OfflineReason } from './offline-reasons.js';
import { createPresenceOverlay } from './presence-overlay.js';
import { createPresenceRetry, type PresenceRetry } from './presence-retry.js';
import { Registration, type RegistrationRequest } from './registration.js';
import { nodeNotFound, Transitions } from './transitions.js';

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
  /** History entries kept of each node; defaults to 1000. */
  readonly historyLimit?: number;
  /** Days they are kept; defaults to 90. */
  readonly historyDays?: number;
}

/** The claims of a node that has proved its key. */
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
  /** Its effect on a session that holds the node online now; defaults to `replaced`. */
  readonly takeover?: Takeover;
}

/** Makes the certificate of this generation for the node as it now is. May be called again after a conflict. */
export type Issue = (
  record: NodeRecord,
  generation: bigint,
) => CertificateReference | Promise<CertificateReference>;

/** The actor and the reason of a revocation. */
export interface RevokedBy {
  readonly by: Actor;
  readonly comment: string;
}

const dayMs = 86_400_000;

export class Registry {
  readonly #options: RegistryOptions;
  readonly #overlay = createPresenceOverlay();
  readonly #counter: NodeCounter;
  readonly #transitions: Transitions;
  readonly #retry: PresenceRetry;
  readonly #lookup: NodeLookup;
  readonly #watchers: NodeWatchers;
  readonly #registration: Registration;

  constructor(options: RegistryOptions) {
    const { store, audit, clock, random, log, historyLimit = 1000, historyDays = 90 } = options;
    const overlay = this.#overlay;
    const counter = createNodeCounter(store);
    const onDoubt = (): void => counter.doubt();
    const transitions = new Transitions({
      ...{ store, audit, clock, overlay, onDoubt },
      bounds: { limit: historyLimit, ageMs: historyDays * dayMs },
      onWaiting: () => this.#retry.start(),
    });
    this.#options = options;
    this.#counter = counter;
    this.#transitions = transitions;
    this.#retry = createPresenceRetry({ overlay, clock, log, write: node => transitions.writeWaiting(node) });
    this.#registration = new Registration({
      ...{ store, audit, clock, random, onDoubt },
      async writeWaiting(node) {
        if (overlay.eventsOf(node.tenant, node.id).length > 0) await transitions.writeWaiting(node);
      },
    });
    this.#lookup = new NodeLookup(store, overlay);
    this.#watchers = new NodeWatchers(store, overlay, log);
  }

  /**
   * NODE_ALREADY_REGISTERED, NODE_NAME_TAKEN, REQUEST_INVALID, or NOT_FOUND for the tenant, when refused. Durable when it
   * resolves.
   */
  registerNode(request: RegistrationRequest): Promise<NodeRecord> {
    return this.#registration.registerNode(request);
  }

  /** `reads` may be those of a decision that goes by the record. */
  findNode(tenant: string, id: bigint, reads?: Reads): Promise<NodeRecord | undefined> {
    return this.#lookup.find(tenant, id, reads);
  }

  /** The tenant of a node of this id, whether it exists or not. */
  tenantOf(id: bigint): Promise<string> {
    return this.#lookup.tenantOf(id);
  }

  /** The latest registration of the key. */
  findNodeByFingerprint(tenant: string, fingerprint: string): Promise<NodeRecord | undefined> {
    return this.#lookup.findByFingerprint(tenant, fingerprint);
  }

  /**
   * The current or next certificate of a node, by the SHA-256 of its DER in hex. It was stored before its node received
   * it, so a peer that has shown TLS the key of these very bytes is that node, and no signature needs to be verified.
   * Undefined for any other, and for one that was issued before this index was kept.
   */
  findCertificate(fingerprint: string): Promise<KnownCertificate | undefined> {
    return this.#lookup.findCertificate(fingerprint);
  }

  /** By id in decimal, `SHA256:…` fingerprint, or name; NODE_NOT_FOUND. */
  resolveNode(tenant: string, text: string): Promise<NodeRecord> {
    return this.#lookup.resolve(tenant, text);
  }

  /** The same, or the one node of which this is the beginning; REQUEST_INVALID names several. */
  resolveNodeByPrefix(tenant: string, text: string): Promise<NodeRecord> {
    return this.#lookup.resolveByPrefix(tenant, text);
  }

  /** The same without reading the record; the id itself is given as it was said, whether there is such a node or not. */
  findNodeIdByText(tenant: string, text: string): Promise<bigint | undefined> {
    return this.#lookup.findIdByText(tenant, text);
  }

  listNodes(tenant: string, query: NodeQuery = {}): Promise<NodePage> {
    return listNodes(this.#options.store, this.#overlay, tenant, query);
  }

  /** Newest first. */
  async listHistory(tenant: string, id: bigint, query: HistoryQuery = {}): Promise<HistoryPage> {
    const record = await this.#lookup.findStored(tenant, id);
    if (!record) throw nodeNotFound();
    const { history } = decideAll(record, this.#overlay.eventsOf(tenant, id));
    return listHistory(this.#options.store, record, history, query);
  }

  /**
   * Gives the revoked record once that is durable; a second time changes nothing. When the store cannot be read or does
   * not take it (STORE_FULL, STORE_UNAVAILABLE) the node is revoked in memory all the same, each further call tries to
   * write it and fails like the first, and it is written as soon as the store is well.
   */
  async revokeNode(tenant: string, id: bigint, { by, comment }: RevokedBy): Promise<NodeRecord> {
    const event = { type: 'revoked', at: this.#options.clock.now(), by, comment } as const;
    return (await this.#transitions.applyRevocation({ tenant, id }, event)).record;
  }

  /**
   * Revokes every node of a deleted tenant, in which none is registered any more. Stops between two pages when `isWanted`
   * gives false; called again, it goes on with the nodes that are left.
   */
  async revokeAll(tenant: string, { by, comment }: RevokedBy, isWanted: () => boolean): Promise<void> {
    const { store, clock, log } = this.#options;
    for (const status of nodeStatusNames.filter(each => each !== 'revoked')) {
      await forEachOfStatus({ store, log }, { tenant, status, isWanted }, node =>
        this.#transitions.applyRevocation(node, { type: 'revoked', at: clock.now(), by, comment }),
      );
    }
  }

  /**
   * Deletes a revoked node; gives it as it was. Its key and its name are free: the key is not registered here any more.
   * REQUEST_INVALID for a node that is not revoked.
   */
  deleteNode(tenant: string, id: bigint, by: Actor): Promise<NodeRecord> {
    return this.#transitions.remove({ tenant, id }, by);
  }

  /** Commits a certificate as the node's next before it is sent. NODE_REVOKED, NODE_PENDING, NODE_QUARANTINED. */
  async issueCertificate(tenant: string, id: bigint, claim: IssueClaim, issue: Issue): Promise<NodeRecord> {
    const { record } = await this.#transitions.apply({ tenant, id }, async before => {
      const refusal = refusalOf(before);
      if (refusal) throw refusal;
      const generation = before.issuedGeneration + 1n;
      const certificate = { ...(await issue(before, generation)), generation };
      return { type: 'issued', at: this.#options.clock.now(), certificate, ...claim };
    });
    return record;
  }

  /**
   * Makes the node online by this session. CERTIFICATE_REFUSED for a superseded certificate, NODE_REVOKED and so on.
   * A store that cannot be written does not keep a node out, one that cannot be read does.
   */
  async openSession(tenant: string, id: bigint, session: SessionClaim): Promise<NodeRecord> {
    const { takeover = 'replaced', ...claim } = session;
    const event = { type: 'connected', at: this.#options.clock.now(), takeover, ...claim } as const;
    return (await this.#transitions.applyPresence({ tenant, id }, event).catch(throwOfCertificate)).record;
  }

  /** Makes the node offline if this session holds it online; gives whether it did. Never fails for the store. */
  closeSession(
    tenant: string,
    id: bigint,
    session: bigint,
    { reason, detail = '' }: { readonly reason: OfflineReason; readonly detail?: string },
  ): Promise<boolean> {
    const event = { type: 'closed', at: this.#options.clock.now(), session, reason, detail } as const;
    return this.#transitions.applyClosing({ tenant, id }, event);
  }

  /** At start: every node stored as online is offline since the link was last alive. Gives how many there were. */
  async recover(aliveAt: number): Promise<number> {
    const { store, log } = this.#options;
    let count = 0;
    for (const tenant of await listTenants(store)) {
      count += await forEachOfStatus({ store, log }, { tenant, status: 'online' }, node =>
        this.#transitions.apply(node, () => ({ type: 'link-restarted', at: aliveAt })),
      );
    }
    return count;
  }

  /** Calls with each node, of this tenant or of all, that has changed its status, or whose session was taken over. */
  watchNodes(tenant: string | undefined, listener: NodeListener): StopWatching {
    return this.#watchers.watch(tenant, listener);
  }

  /** By status. The first question of a tenant reads its index, seconds for a million nodes; later ones are free. */
  async countNodes(tenant: string): Promise<NodeCounts> {
    const counts = await this.#counter.count(tenant);
    for (const { stored, seen } of this.#overlay.differences(tenant)) {
      counts[stored] -= 1;
      counts[seen] += 1;
    }
    return counts;
  }

  /** Of all tenants together. */
  async countAllNodes(): Promise<NodeCounts> {
    const all = noNodes();
    for (const tenant of await listTenants(this.#options.store)) {
      const counts = await this.countNodes(tenant);
      for (const status of nodeStatusNames) all[status] += counts[status];
    }
    return all;
  }

  /** Tries once more to write what waits. The store stays open. */
  async close(): Promise<void> {
    await this.#retry.close();
    this.#watchers.close();
    this.#counter.close();
  }
}

/** An agent that comes back with the certificate of a node that was deleted is to try with its key. */
function throwOfCertificate(error: unknown): never {
  if (!isRollcallError(error, 'NODE_NOT_FOUND')) throw error;
  throw new RollcallError(
    'CERTIFICATE_REFUSED',
    'this certificate is that of a node that is not registered here',
    { hint: 'enroll again, once the key is registered' },
  );
}
