/**
 * The state machine of a node, pure: a record and an event give the next record, what the history and the audit log
 * are told, or a refusal. Nothing else changes a node.
 *
 *   created → online ⇄ offline, and from anywhere → revoked, which is the end.
 *   pending and quarantined nodes get no certificate and no session.
 */
import type { AuditDetail } from '../../audit-log/entry.js';
import { linkParty, nodeParty } from '../../audit-log/party.js';
import { RollcallError } from '../../base/errors.js';
import type { Actor, AuditEvent } from '../audit/audit.js';
import {
  addChange,
  transition,
  without,
  type Changed,
  type Decision,
  type EventOf,
  type Folded,
  type NodeEvent,
} from './node-events.js';
import type { NodeRecord } from './node-record.js';
import { cleanText } from '../../base/text.js';

const unchanged: Decision = { outcome: 'unchanged' };

/** Why this node gets no certificate and no session, or undefined when it may. */
export function refusalOf({ status }: NodeRecord): RollcallError | undefined {
  switch (status) {
    case 'created':
    case 'online':
    case 'offline':
      return undefined;
    case 'pending':
      return new RollcallError('NODE_PENDING', 'this node waits for the approval of an operator');
    case 'quarantined':
      return new RollcallError(
        'NODE_QUARANTINED',
        'this node is quarantined until an operator releases it: two holders of its key were seen',
      );
    case 'revoked':
      return new RollcallError('NODE_REVOKED', 'this node was revoked by an operator');
  }
}

export type Registration = Pick<
  NodeRecord,
  'id' | 'tenant' | 'name' | 'owner' | 'labels' | 'spki' | 'fingerprint' | 'registeredAt'
>;

/** The beginning of a node. */
export function registeredNode(registration: Registration, by: Actor): Changed {
  const record: NodeRecord = {
    ...registration,
    status: 'created',
    sinceAt: registration.registeredAt,
    reason: 'registered',
    version: 0,
    transitions: 0,
    address: '',
    agentVersion: '',
    issuedGeneration: 0n,
    confirmedGeneration: 0n,
  };
  const { name, fingerprint } = registration;
  return transition(record, {
    at: record.registeredAt,
    reason: 'registered',
    audit: { type: 'node.registered', by, detail: { fingerprint, ...(name !== '' && { name }) } },
  });
}

/** Applies an event to a record. */
export function decide(record: NodeRecord, event: NodeEvent): Decision {
  switch (event.type) {
    case 'issued':
      return decideIssued(record, event);
    case 'connected':
      return decideConnected(record, event);
    case 'closed':
      return decideClosed(record, event);
    case 'revoked':
      return decideRevoked(record, event);
    case 'link-restarted':
      return decideRestarted(record, event);
  }
}

function decideIssued(record: NodeRecord, event: EventOf<'issued'>): Decision {
  const error = refusalOf(record);
  if (error) return { outcome: 'refused', error };
  const { certificate, rememberedGeneration, address, agentVersion } = event;
  const { generation, serial } = certificate;
  const said = { address, agentVersion, remembered: `${rememberedGeneration}` };
  const hasForgotten = rememberedGeneration === 0n && record.confirmedGeneration > 0n;
  const enrolled: AuditDetail = {
    ...said,
    generation: `${generation}`,
    serial,
    ...(hasForgotten && { note: 'generation-unknown' }),
  };
  const subject = `${record.id}`;
  const by = nodeParty(record);
  const audit: AuditEvent[] = [{ type: 'node.enrolled', subject, by, detail: enrolled }];
  if (isCloneSuspected(record, rememberedGeneration)) {
    const known = { confirmed: `${record.confirmedGeneration}`, issued: `${record.issuedGeneration}` };
    audit.push({ type: 'node.clone-suspected', subject, by: linkParty, detail: { ...said, ...known } });
  }
  const next = { ...record, next: certificate, issuedGeneration: generation, version: record.version + 1 };
  return { outcome: 'changed', record: next, audit };
}

/**
 * From the confirmed generation up to the last issued is honest, and so is no memory at all. To a node that was never
 * issued anything its key may remember what it was before, as a node that was revoked.
 */
export function isCloneSuspected(record: NodeRecord, rememberedGeneration: bigint): boolean {
  if (rememberedGeneration === 0n || record.issuedGeneration === 0n) return false;
  return rememberedGeneration < record.confirmedGeneration || rememberedGeneration > record.issuedGeneration;
}

/** The record with the certificate it connected with as its current one; undefined when it is neither. */
function confirmCertificate(record: NodeRecord, fingerprint: string): NodeRecord | undefined {
  if (record.current?.fingerprint === fingerprint) return record;
  const { next } = record;
  if (next?.fingerprint !== fingerprint) return undefined;
  return { ...without(record, 'next'), current: next, confirmedGeneration: next.generation };
}

function decideConnected(record: NodeRecord, event: EventOf<'connected'>): Decision {
  const error = refusalOf(record);
  if (error) return { outcome: 'refused', error };
  if (record.session === event.session) return unchanged;
  const confirmed = confirmCertificate(record, event.certificateFingerprint);
  if (!confirmed) return { outcome: 'refused', error: supersededError() };
  return acceptSession(confirmed, event);
}

function acceptSession(record: NodeRecord, event: EventOf<'connected'>): Changed {
  const { at, session, takeover } = event;
  const address = cleanText(event.address, 128);
  const agentVersion = cleanText(event.agentVersion, 128);
  const by = nodeParty(record);
  const seen = { session, address, agentVersion };
  const detail = { address, agentVersion };
  if (record.status !== 'online') {
    return transition(record, {
      at,
      reason: 'connected',
      changes: { ...seen, status: 'online', sinceAt: at },
      audit: { type: 'node.connected', by, detail },
    });
  }
  if (takeover === 'handover') {
    return {
      outcome: 'changed',
      record: { ...record, ...seen, version: record.version + 1 },
      audit: [{ type: 'node.handed-over', subject: `${record.id}`, by, detail }],
    };
  }
  // It is online since it was: no change of status, but one to be told of.
  return transition(record, {
    at,
    reason: 'replaced',
    detail: `before at ${record.address}`,
    changes: seen,
    audit: { type: 'node.replaced', by, detail: { ...detail, before: record.address } },
  });
}

function supersededError(): RollcallError {
  return new RollcallError(
    'CERTIFICATE_REFUSED',
    'this certificate of the node was superseded by a newer one',
    {
      hint: 'enroll again; if this happens often, two machines hold this key',
    },
  );
}

function decideClosed(record: NodeRecord, event: EventOf<'closed'>): Decision {
  if (record.status !== 'online' || record.session !== event.session) return unchanged;
  const { at, reason, detail } = event;
  return transition(without(record, 'session'), {
    at,
    reason,
    detail,
    changes: { status: 'offline', sinceAt: at },
    audit: { type: 'node.closed', by: linkParty, detail: { reason, ...(detail !== '' && { detail }) } },
  });
}

function decideRestarted(record: NodeRecord, event: EventOf<'link-restarted'>): Decision {
  if (record.status !== 'online') return unchanged;
  // It may have connected after the link last said that it was alive.
  const at = Math.max(event.at, record.sinceAt);
  return transition(without(record, 'session'), {
    at,
    reason: 'link restarted',
    changes: { status: 'offline', sinceAt: at },
    audit: { type: 'node.link-restarted', by: linkParty },
  });
}

function decideRevoked(record: NodeRecord, event: EventOf<'revoked'>): Decision {
  if (record.status === 'revoked') return unchanged;
  const { at, by, comment } = event;
  return transition(without(record, 'session', 'current', 'next'), {
    at,
    reason: 'revoked',
    detail: comment,
    changes: { status: 'revoked', sinceAt: at },
    audit: {
      type: 'node.revoked',
      by,
      detail: { before: record.status, ...(comment !== '' && { comment }) },
    },
  });
}

/** Applies several events to a record, one after the other; those that are refused or change nothing are left out. */
export function decideAll(record: NodeRecord, events: readonly NodeEvent[]): Folded {
  return events.reduce<Folded>(
    (folded, event) => {
      const decision = decide(folded.record, event);
      return decision.outcome === 'changed' ? addChange(folded, decision) : folded;
    },
    { record, history: [], audit: [] },
  );
}
