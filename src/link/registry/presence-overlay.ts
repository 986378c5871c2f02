/**
 * Presence stays true when the store does not take it. Comings and goings that could not be written wait here, are
 * laid over everything that is read, and are written once the store is well (presence-retry.ts). A revocation
 * waits here too: it holds at once, though anyone who asked is told that it is not durable yet. Registrations and
 * certificates do not wait: they are in the store or they are not.
 */
import { nodeKey } from './node-keys.js';
import type { NodeRecord, NodeStatusName } from './node-record.js';
import type { NodeEvent } from './node-events.js';
import { decideAll } from './node-machine.js';

export type PresenceEvent = Extract<NodeEvent, { type: 'connected' | 'closed' }>;
export type WaitingEvent = PresenceEvent | Extract<NodeEvent, { type: 'revoked' }>;

export interface WaitingNode {
  readonly tenant: string;
  readonly id: bigint;
}

interface Waiting extends WaitingNode {
  readonly events: readonly WaitingEvent[];
  /** The status that lies in the store and the one that is true, as far as known. */
  readonly stored: NodeStatusName | undefined;
  readonly seen: NodeStatusName | undefined;
}

/** More are forgotten, the oldest first: who comes and goes this often is described by the last times. */
const maxEvents = 16;

/** A node as it is shown while its revocation is in the memory of this process alone. */
const notStored = 'revoked, not stored yet';

export interface PresenceOverlay {
  /** Remembers an event; `before` is the stored record and `after` what is true now, where they are known. */
  add(node: WaitingNode, event: WaitingEvent, before?: NodeRecord, after?: NodeRecord): void;
  eventsOf(tenant: string, id: bigint): readonly WaitingEvent[];
  /** Forgets what is written. */
  drop(tenant: string, id: bigint): void;
  /** The record as it truly is. */
  view(record: NodeRecord): NodeRecord;
  /** Runs a commit that writes this node's events; until it ends, what the store's watch tells is true as it is. */
  settle(tenant: string, id: bigint, commit: () => Promise<void>): Promise<void>;
  isSettling(tenant: string, id: bigint): boolean;
  /** Ids of a tenant that have something waiting, ascending. */
  idsOf(tenant: string): bigint[];
  /** Statuses of a tenant that differ from the stored ones. */
  differences(tenant: string): { readonly stored: NodeStatusName; readonly seen: NodeStatusName }[];
  all(): WaitingNode[];
  /** How many nodes have something waiting whose stored status is not known. */
  countUnread(): number;
  /** Calls with each record, of this tenant or of all, that came to differ from the stored one. */
  watch(tenant: string | undefined, listener: (record: NodeRecord) => void): () => void;
}

export function createPresenceOverlay(): PresenceOverlay {
  const waiting = new Map<string, Waiting>();
  const settling = new Set<string>();
  const watches = new Set<{
    readonly tenant: string | undefined;
    readonly listener: (record: NodeRecord) => void;
  }>();

  const eventsOf = (tenant: string, id: bigint): readonly WaitingEvent[] =>
    waiting.size === 0 ? [] : (waiting.get(nodeKey(tenant, id))?.events ?? []);
  const ofTenant = (tenant: string): Waiting[] =>
    waiting.size === 0 ? [] : [...waiting.values()].filter(each => each.tenant === tenant);

  return {
    add({ tenant, id }, event, before, after) {
      const key = nodeKey(tenant, id);
      const known = waiting.get(key);
      // Nothing comes after a revocation, and no number of later events may push it out.
      const isRevoked = known?.events.at(-1)?.type === 'revoked';
      waiting.set(key, {
        tenant,
        id,
        events: isRevoked ? known.events : [...(known?.events ?? []), event].slice(-maxEvents),
        stored: before?.status ?? known?.stored,
        seen: after?.status ?? known?.seen,
      });
      if (!after) return;
      for (const watch of [...watches]) if ((watch.tenant ?? tenant) === tenant) watch.listener(after);
    },
    eventsOf,
    drop: (tenant, id) => void waiting.delete(nodeKey(tenant, id)),
    view(record) {
      const events = eventsOf(record.tenant, record.id);
      if (events.length === 0) return record;
      const seen = decideAll(record, events).record;
      return seen.status === 'revoked' && record.status !== 'revoked' ? { ...seen, reason: notStored } : seen;
    },
    async settle(tenant, id, commit) {
      const key = nodeKey(tenant, id);
      settling.add(key);
      try {
        await commit();
        waiting.delete(key);
      } finally {
        settling.delete(key);
      }
    },
    isSettling: (tenant, id) => settling.has(nodeKey(tenant, id)),
    idsOf: tenant =>
      ofTenant(tenant)
        .map(({ id }) => id)
        .sort((one, other) => (one < other ? -1 : 1)),
    differences: tenant =>
      ofTenant(tenant).flatMap(({ stored, seen }) =>
        stored !== undefined && seen !== undefined && stored !== seen ? [{ stored, seen }] : [],
      ),
    all: () => [...waiting.values()],
    countUnread() {
      let count = 0;
      for (const { stored } of waiting.values()) if (stored === undefined) count += 1;
      return count;
    },
    watch(tenant, listener) {
      const watch = { tenant, listener };
      watches.add(watch);
      return () => void watches.delete(watch);
    },
  };
}
