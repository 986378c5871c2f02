/**
 * The one way a node changes: read its record, let the state machine decide, commit the next version with its
 * history entry and audit events on condition that the record is still what was read; when it is not, once more.
 * The events of one node take turns, so that what waits in the overlay is written exactly once.
 */
import { isRollcallError, RollcallError } from '../../base/errors.js';
import type { Clock } from '../../base/clock.js';
import { createTurns } from '../../base/keyed-queue.js';
import type { Actor, Audit } from '../audit/audit.js';
import type { Change, Expectation, Store } from '../../store/store.js';
import { expectTenant } from '../tenant-mark.js';
import { planDeletion } from './deletion.js';
import { trimHistory, type HistoryBounds } from './history.js';
import { historyKey, nodeKey, recordChanges } from './node-keys.js';
import { decodeNodeRecord, encodeHistoryEntry, type NodeRecord } from './node-record.js';
import type { PresenceEvent, PresenceOverlay, WaitingEvent, WaitingNode } from './presence-overlay.js';
import { addChange, type Folded, type NodeEvent } from './node-events.js';
import { decide, decideAll } from './node-machine.js';

/** Only somebody outside this process can make a second try necessary. */
const maxTries = 10;
/** Nodes in the overlay whose records could not be read. */
const maxUnread = 1000;

export interface Outcome {
  readonly record: NodeRecord;
  readonly changed: boolean;
}

export interface Transitions {
  /** Applies the event made from the record as it truly is. Throws the refusal, or NODE_NOT_FOUND. */
  apply(
    node: WaitingNode,
    makeEvent: (record: NodeRecord) => NodeEvent | Promise<NodeEvent>,
  ): Promise<Outcome>;
  /** Applies a coming or going; when the store does not take it, it waits in the overlay. A failing read denies. */
  applyPresence(node: WaitingNode, event: PresenceEvent): Promise<Outcome>;
  /** The same, but a failing read makes it wait too. Gives whether it made a difference, as far as is known. */
  applyClosing(node: WaitingNode, event: PresenceEvent): Promise<boolean>;
  /**
   * Applies a revocation. It holds although the store cannot be read or written; the failure is then thrown, by every
   * revocation until it is stored. LINK_BUSY when too many wait whose nodes could not be read.
   */
  applyRevocation(node: WaitingNode, event: Extract<NodeEvent, { type: 'revoked' }>): Promise<Outcome>;
  /**
   * Deletes a node that is stored as revoked, with its history and its indexes; gives it as it was. REQUEST_INVALID for one
   * that is not revoked: nothing of a node that may connect is forgotten.
   */
  remove(node: WaitingNode, by: Actor): Promise<NodeRecord>;
  /** Writes what waits in the overlay; rejects when the store does not take it. */
  writeWaiting(node: WaitingNode): Promise<void>;
}

export interface TransitionOptions {
  readonly store: Store;
  readonly audit: Audit;
  readonly clock: Clock;
  readonly overlay: PresenceOverlay;
  readonly bounds: HistoryBounds;
  /** Something waits in the overlay. */
  readonly onWaiting: () => void;
  /** A commit failed that may be found written later. */
  readonly onDoubt: () => void;
}

interface Prepared {
  /** The record as it was read; where something begins, also that the tenant is there. */
  readonly expectations: readonly Expectation[];
  readonly before: NodeRecord;
  readonly after: Folded;
  /** The event makes a difference. */
  readonly changed: boolean;
  /** There is something to write: the event's, or what waits in the overlay. */
  readonly unwritten: boolean;
}

/** True when the store itself is in trouble, in contrast to what was asked of it. */
export function isStoreFailure(error: unknown): boolean {
  return isRollcallError(error, 'STORE_UNAVAILABLE') || isRollcallError(error, 'STORE_FULL');
}

/** Whether a node gets or opens something by it. What ends something goes on in a deleted tenant. */
function isBeginning({ type }: NodeEvent): boolean {
  return type === 'issued' || type === 'connected';
}

export function nodeNotFound(): RollcallError {
  return new RollcallError('NODE_NOT_FOUND', 'there is no such node', {
    hint: '`rollcall nodes list` shows the nodes',
  });
}

/** The changes that make this version of the record, tell the history and tell the audit log. */
export function changesOf(audit: Audit, before: NodeRecord | undefined, after: Folded): Change[] {
  const { tenant, id, transitions } = after.record;
  const first = transitions - after.history.length + 1;
  return [
    ...recordChanges(before, after.record),
    ...after.history.map((entry, index): Change => {
      return { type: 'put', key: historyKey(tenant, id, first + index), value: encodeHistoryEntry(entry) };
    }),
    ...after.audit.map(event => audit.auditChange(tenant, event)),
  ];
}

export function createTransitions(options: TransitionOptions): Transitions {
  const { store, audit, clock, overlay, bounds, onWaiting, onDoubt } = options;
  const inTurn = createTurns();

  async function prepare(
    { tenant, id }: WaitingNode,
    makeEvent?: (record: NodeRecord) => NodeEvent | Promise<NodeEvent>,
  ): Promise<Prepared> {
    const key = nodeKey(tenant, id);
    const value = await store.get(key);
    if (!value) throw nodeNotFound();
    const before = decodeNodeRecord(value);
    const folded = decideAll(before, overlay.eventsOf(tenant, id));
    const expectations: Expectation[] = [{ key, value }];
    const unchanged = {
      expectations,
      before,
      after: folded,
      changed: false,
      unwritten: folded.record !== before,
    };
    if (!makeEvent) return unchanged;
    const event = await makeEvent(folded.record);
    const decision = decide(folded.record, event);
    if (decision.outcome === 'refused') throw decision.error;
    if (decision.outcome === 'unchanged') return unchanged;
    if (isBeginning(event)) expectations.push(await expectTenantOf(tenant));
    return { expectations, before, after: addChange(folded, decision), changed: true, unwritten: true };
  }

  /** A node hears of its deleted tenant what it will hear once the sweep has revoked it. */
  async function expectTenantOf(tenant: string): Promise<Expectation> {
    return expectTenant(store, tenant).catch((error: unknown) => {
      if (!isRollcallError(error, 'NOT_FOUND')) throw error;
      throw new RollcallError('NODE_REVOKED', 'the tenant of this node was deleted');
    });
  }

  async function commit({ expectations, before, after }: Prepared): Promise<void> {
    const { tenant, id } = after.record;
    const old = after.history.length === 0 ? [] : await trimHistory(store, after.record, clock.now(), bounds);
    const changes = [...changesOf(audit, before, after), ...old];
    const write = () => store.commit(changes, expectations);
    try {
      await (overlay.eventsOf(tenant, id).length === 0 ? write() : overlay.settle(tenant, id, write));
    } catch (error) {
      if (isStoreFailure(error)) onDoubt();
      throw error;
    }
  }

  /** Commits what `prepare` gives; `keep` may take over when the store does not take it. */
  async function run(
    preparing: () => Promise<Prepared>,
    keep?: (prepared: Prepared, failure: unknown) => void,
  ): Promise<Outcome> {
    for (let tries = 1; ; tries++) {
      const prepared = await preparing();
      const outcome = { record: prepared.after.record, changed: prepared.changed };
      if (!prepared.unwritten) return outcome;
      try {
        await commit(prepared);
        return outcome;
      } catch (error) {
        if (isRollcallError(error, 'STORE_CONFLICT') && tries < maxTries) continue;
        if (!keep || !isStoreFailure(error)) throw error;
        keep(prepared, error);
        return outcome;
      }
    }
  }

  function runPresence(node: WaitingNode, event: PresenceEvent): Promise<Outcome> {
    return run(
      () => prepare(node, () => event),
      prepared => keepWaiting(node, event, prepared),
    );
  }

  function runRevocation(
    node: WaitingNode,
    event: Extract<NodeEvent, { type: 'revoked' }>,
  ): Promise<Outcome> {
    return run(
      () =>
        prepare(node, () => event).catch((failure: unknown) => {
          if (isStoreFailure(failure)) keepUnread(node, event);
          throw failure;
        }),
      (prepared, failure) => {
        keepWaiting(node, event, prepared);
        throw failure;
      },
    );
  }

  function keepWaiting(node: WaitingNode, event: WaitingEvent, { before, after, changed }: Prepared): void {
    if (!changed) return;
    overlay.add(node, event, before, after.record);
    onWaiting();
  }

  /** Nobody knows yet whether there is such a node. */
  function keepUnread(node: WaitingNode, event: WaitingEvent): void {
    if (overlay.countUnread() >= maxUnread && overlay.eventsOf(node.tenant, node.id).length === 0)
      throw new RollcallError(
        'LINK_BUSY',
        `at most ${maxUnread} revocations wait while the store cannot be read`,
        {
          hint: 'mend the store of the link first',
        },
      );
    overlay.add(node, event);
    onWaiting();
  }

  async function close(node: WaitingNode, event: PresenceEvent): Promise<boolean> {
    try {
      return (await runPresence(node, event)).changed;
    } catch (error) {
      if (!isStoreFailure(error) && !isRollcallError(error, 'STORE_CONFLICT')) throw error;
      overlay.add(node, event);
      onWaiting();
      return true;
    }
  }

  async function writeWaiting(node: WaitingNode): Promise<void> {
    try {
      await run(() => prepare(node));
    } catch (error) {
      if (isStoreFailure(error) || isRollcallError(error, 'STORE_CONFLICT')) throw error;
    }
    // Written, or there is nothing it could be written to.
    overlay.drop(node.tenant, node.id);
  }

  async function remove({ tenant, id }: WaitingNode, by: Actor): Promise<NodeRecord> {
    for (let tries = 1; ; tries++) {
      const stored = await store.get(nodeKey(tenant, id));
      if (!stored) throw nodeNotFound();
      const record = decodeNodeRecord(stored);
      if (record.status !== 'revoked')
        throw new RollcallError('REQUEST_INVALID', 'this node is not revoked', { hint: 'revoke it first' });
      const { changes, expectations } = await planDeletion(store, record);
      const { name, fingerprint } = record;
      const detail = { fingerprint, ...(name !== '' && { name }) };
      const event = audit.auditChange(tenant, { type: 'node.deleted', subject: `${id}`, by, detail });
      try {
        await store.commit(
          [...changes, event],
          [{ key: nodeKey(tenant, id), value: stored }, ...expectations],
        );
        return record;
      } catch (error) {
        if (isStoreFailure(error)) onDoubt();
        if (!isRollcallError(error, 'STORE_CONFLICT') || tries >= maxTries) throw error;
      }
    }
  }

  const keyOf = ({ tenant, id }: WaitingNode) => nodeKey(tenant, id);
  return {
    apply: (node, makeEvent) => inTurn(keyOf(node), () => run(() => prepare(node, makeEvent))),
    applyPresence: (node, event) => inTurn(keyOf(node), () => runPresence(node, event)),
    applyClosing: (node, event) => inTurn(keyOf(node), () => close(node, event)),
    applyRevocation: (node, event) => inTurn(keyOf(node), () => runRevocation(node, event)),
    remove: (node, by) => inTurn(keyOf(node), () => remove(node, by)),
    writeWaiting: node => inTurn(keyOf(node), () => writeWaiting(node)),
  };
}
