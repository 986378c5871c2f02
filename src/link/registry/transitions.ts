/**
 * The one way a node changes: read its record, let the state machine decide, commit the next version with its
 * history entry and audit events on condition that the record is still what was read; when it is not, once more.
 * The events of one node take turns, so that what waits in the overlay is written exactly once.
 */
import { isRollcallError, RollcallError } from '../../base/errors.js';
import type { Clock } from '../../base/clock.js';
import { createKeyedQueue } from '../../base/keyed-queue.js';
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

/** Only a writer outside this process can make a second try necessary. */
const maxTries = 10;
/** Nodes in the overlay whose records could not be read. */
const maxUnread = 1000;

export interface Outcome {
  readonly record: NodeRecord;
  readonly changed: boolean;
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

type MakeEvent = (record: NodeRecord) => NodeEvent | Promise<NodeEvent>;
type RevokedEvent = Extract<NodeEvent, { type: 'revoked' }>;

export class Transitions {
  readonly #options: TransitionOptions;
  readonly #inTurn = createKeyedQueue();

  constructor(options: TransitionOptions) {
    this.#options = options;
  }

  /** Applies the event made from the record as it truly is. Throws the refusal, or NODE_NOT_FOUND. */
  apply(node: WaitingNode, makeEvent: MakeEvent): Promise<Outcome> {
    return this.#inTurn(keyOf(node), () => this.#run(() => this.#prepare(node, makeEvent)));
  }

  /** Applies a coming or going; when the store does not take it, it waits in the overlay. A failing read denies. */
  applyPresence(node: WaitingNode, event: PresenceEvent): Promise<Outcome> {
    return this.#inTurn(keyOf(node), () => this.#runPresence(node, event));
  }

  /** The same, but a failing read makes it wait too. Gives whether it made a difference, as far as is known. */
  applyClosing(node: WaitingNode, event: PresenceEvent): Promise<boolean> {
    return this.#inTurn(keyOf(node), () => this.#close(node, event));
  }

  /**
   * Applies a revocation. It holds although the store cannot be read or written; the failure is then thrown, by every
   * revocation until it is stored. LINK_BUSY when too many wait whose nodes could not be read.
   */
  applyRevocation(node: WaitingNode, event: RevokedEvent): Promise<Outcome> {
    return this.#inTurn(keyOf(node), () => this.#runRevocation(node, event));
  }

  /**
   * Deletes a node that is stored as revoked, with its history and its indexes; gives it as it was. REQUEST_INVALID for one
   * that is not revoked: nothing of a node that may connect is forgotten.
   */
  remove(node: WaitingNode, by: Actor): Promise<NodeRecord> {
    return this.#inTurn(keyOf(node), () => this.#remove(node, by));
  }

  /** Writes what waits in the overlay; rejects when the store does not take it. */
  writeWaiting(node: WaitingNode): Promise<void> {
    return this.#inTurn(keyOf(node), () => this.#writeWaiting(node));
  }

  async #prepare({ tenant, id }: WaitingNode, makeEvent?: MakeEvent): Promise<Prepared> {
    const { store, overlay } = this.#options;
    const key = nodeKey(tenant, id);
    const value = await store.get(key);
    if (!value) throw nodeNotFound();
    const before = decodeNodeRecord(value);
    const after = decideAll(before, overlay.eventsOf(tenant, id));
    const expectations: Expectation[] = [{ key, value }];
    const unchanged = { expectations, before, after, changed: false, unwritten: after.record !== before };
    if (!makeEvent) return unchanged;
    const event = await makeEvent(after.record);
    const decision = decide(after.record, event);
    if (decision.outcome === 'refused') throw decision.error;
    if (decision.outcome === 'unchanged') return unchanged;
    if (isBeginning(event)) expectations.push(await expectTenantOf(store, tenant));
    return { expectations, before, after: addChange(after, decision), changed: true, unwritten: true };
  }

  async #commit({ expectations, before, after }: Prepared): Promise<void> {
    const { store, audit, clock, overlay, bounds, onDoubt } = this.#options;
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

  /** Commits what `preparing` gives; `keep` may take over when the store does not take it. */
  async #run(
    preparing: () => Promise<Prepared>,
    keep?: (prepared: Prepared, failure: unknown) => void,
  ): Promise<Outcome> {
    for (let tries = 1; ; tries++) {
      const prepared = await preparing();
      const outcome = { record: prepared.after.record, changed: prepared.changed };
      if (!prepared.unwritten) return outcome;
      try {
        await this.#commit(prepared);
        return outcome;
      } catch (error) {
        if (isRollcallError(error, 'STORE_CONFLICT') && tries < maxTries) continue;
        if (!keep || !isStoreFailure(error)) throw error;
        keep(prepared, error);
        return outcome;
      }
    }
  }

  #runPresence(node: WaitingNode, event: PresenceEvent): Promise<Outcome> {
    return this.#run(
      () => this.#prepare(node, () => event),
      prepared => this.#keepWaiting(node, event, prepared),
    );
  }

  #runRevocation(node: WaitingNode, event: RevokedEvent): Promise<Outcome> {
    return this.#run(
      () =>
        this.#prepare(node, () => event).catch((failure: unknown) => {
          if (isStoreFailure(failure)) this.#keepUnread(node, event);
          throw failure;
        }),
      (prepared, failure) => {
        this.#keepWaiting(node, event, prepared);
        throw failure;
      },
    );
  }

  #keepWaiting(node: WaitingNode, event: WaitingEvent, { before, after, changed }: Prepared): void {
    if (!changed) return;
    this.#options.overlay.add(node, event, before, after.record);
    this.#options.onWaiting();
  }

  /** Whether there is such a node is not known yet. */
  #keepUnread(node: WaitingNode, event: WaitingEvent): void {
    const { overlay, onWaiting } = this.#options;
    if (overlay.countUnread() >= maxUnread && overlay.eventsOf(node.tenant, node.id).length === 0)
      throw new RollcallError(
        'LINK_BUSY',
        `at most ${maxUnread} revocations wait while the store cannot be read`,
        { hint: 'mend the store of the link first' },
      );
    overlay.add(node, event);
    onWaiting();
  }

  async #close(node: WaitingNode, event: PresenceEvent): Promise<boolean> {
    try {
      return (await this.#runPresence(node, event)).changed;
    } catch (error) {
      if (!isStoreFailure(error) && !isRollcallError(error, 'STORE_CONFLICT')) throw error;
      this.#options.overlay.add(node, event);
      this.#options.onWaiting();
      return true;
    }
  }

  async #writeWaiting(node: WaitingNode): Promise<void> {
    try {
      await this.#run(() => this.#prepare(node));
    } catch (error) {
      if (isStoreFailure(error) || isRollcallError(error, 'STORE_CONFLICT')) throw error;
    }
    // Written, or there is nothing it could be written to.
    this.#options.overlay.drop(node.tenant, node.id);
  }

  async #remove({ tenant, id }: WaitingNode, by: Actor): Promise<NodeRecord> {
    const { store, audit, onDoubt } = this.#options;
    const key = nodeKey(tenant, id);
    for (let tries = 1; ; tries++) {
      const value = await store.get(key);
      if (!value) throw nodeNotFound();
      const record = decodeNodeRecord(value);
      if (record.status !== 'revoked')
        throw new RollcallError('REQUEST_INVALID', 'this node is not revoked', { hint: 'revoke it first' });
      const { changes, expectations } = await planDeletion(store, record);
      const { name, fingerprint } = record;
      const detail = { fingerprint, ...(name !== '' && { name }) };
      const event = audit.auditChange(tenant, { type: 'node.deleted', subject: `${id}`, by, detail });
      try {
        await store.commit([...changes, event], [{ key, value }, ...expectations]);
        return record;
      } catch (error) {
        if (isStoreFailure(error)) onDoubt();
        if (!isRollcallError(error, 'STORE_CONFLICT') || tries >= maxTries) throw error;
      }
    }
  }
}

function keyOf({ tenant, id }: WaitingNode): string {
  return nodeKey(tenant, id);
}

/** A node is told of its deleted tenant what it is told once the sweep has revoked it. */
async function expectTenantOf(store: Store, tenant: string): Promise<Expectation> {
  return expectTenant(store, tenant).catch((error: unknown) => {
    if (!isRollcallError(error, 'NOT_FOUND')) throw error;
    throw new RollcallError('NODE_REVOKED', 'the tenant of this node was deleted');
  });
}
