/** The words of the state machine (node-machine.ts): what happens to a node, and what comes of it. */
import type { RollcallError } from '../../base/errors.js';
import type { Actor, AuditEvent } from '../audit/audit.js';
import type { CertificateReference, HistoryEntry, NodeRecord } from './node-record.js';
import type { OfflineReason, StatusReason } from './offline-reasons.js';
import { cleanText } from '../../base/text.js';

/** A second session of an online node: the same agent moving to a new connection, or somebody taking over. */
export type Takeover = 'handover' | 'replaced';

export type NodeEvent =
  | {
      readonly type: 'issued';
      readonly at: number;
      readonly certificate: CertificateReference;
      /** The generation the node says it remembers; 0 for none. */
      readonly rememberedGeneration: bigint;
      readonly address: string;
      readonly agentVersion: string;
    }
  | {
      readonly type: 'connected';
      readonly at: number;
      readonly session: bigint;
      readonly certificateFingerprint: string;
      readonly address: string;
      readonly agentVersion: string;
      readonly takeover: Takeover;
    }
  | {
      readonly type: 'closed';
      readonly at: number;
      readonly session: bigint;
      readonly reason: OfflineReason;
      readonly detail: string;
    }
  | { readonly type: 'revoked'; readonly at: number; readonly by: Actor; readonly comment: string }
  | { readonly type: 'link-restarted'; readonly at: number };

export interface Changed {
  readonly outcome: 'changed';
  readonly record: NodeRecord;
  readonly history?: HistoryEntry;
  readonly audit: readonly AuditEvent[];
}

export type Decision =
  | Changed
  | { readonly outcome: 'unchanged' }
  | { readonly outcome: 'refused'; readonly error: RollcallError };

export type EventOf<T extends NodeEvent['type']> = Extract<NodeEvent, { type: T }>;

/** A change of status, or one that is told like it. */
export interface Transition {
  readonly at: number;
  readonly reason: StatusReason;
  /** For people; empty when there is nothing more to say. */
  readonly detail?: string;
  readonly changes?: Partial<NodeRecord>;
  readonly audit: Omit<AuditEvent, 'subject'>;
}

/** The next version, with an entry in its history that shows the address the node has then. */
export function transition(
  record: NodeRecord,
  { at, reason, detail = '', changes, audit }: Transition,
): Changed {
  const next: NodeRecord = {
    ...record,
    ...changes,
    reason,
    version: record.version + 1,
    transitions: record.transitions + 1,
  };
  return {
    outcome: 'changed',
    record: next,
    history: {
      at,
      status: next.status,
      reason: next.reason,
      detail: cleanText(detail, 512),
      address: next.address,
      version: next.version,
    },
    audit: [{ ...audit, subject: `${record.id}` }],
  };
}

/** The record without these. */
export function without<K extends 'session' | 'current' | 'next'>(
  record: NodeRecord,
  ...names: K[]
): Omit<NodeRecord, K> {
  return Object.fromEntries(Object.entries(record).filter(([name]) => !names.includes(name as K))) as Omit<
    NodeRecord,
    K
  >;
}

/** Several changes together. */
export interface Folded {
  readonly record: NodeRecord;
  readonly history: readonly HistoryEntry[];
  readonly audit: readonly AuditEvent[];
}

export function addChange(folded: Folded, { record, history, audit }: Changed): Folded {
  return {
    record,
    history: history ? [...folded.history, history] : folded.history,
    audit: [...folded.audit, ...audit],
  };
}
