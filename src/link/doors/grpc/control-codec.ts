/** Records ⇄ the messages of the control service. */
import { RollcallError } from '../../../base/errors.js';
import {
  ControlService,
  NodeEvent,
  NodeStatus,
  type Node,
  type Transition,
} from '../../../protocol/generated/rollcall/v1/control.js';
import type { HistoryEntry, NodeRecord, NodeStatusName } from '../../registry/node-record.js';

const toWire: Readonly<Record<NodeStatusName, NodeStatus>> = {
  pending: NodeStatus.NODE_STATUS_PENDING,
  created: NodeStatus.NODE_STATUS_CREATED,
  online: NodeStatus.NODE_STATUS_ONLINE,
  offline: NodeStatus.NODE_STATUS_OFFLINE,
  revoked: NodeStatus.NODE_STATUS_REVOKED,
  quarantined: NodeStatus.NODE_STATUS_QUARANTINED,
};

export function statusOf(wire: NodeStatus): NodeStatusName {
  for (const [name, status] of Object.entries(toWire)) {
    if (status === wire) return name as NodeStatusName;
  }
  throw new RollcallError('REQUEST_INVALID', 'an unknown node status', {
    hint: `known: ${Object.keys(toWire).join(', ')}`,
  });
}

export function toNode(record: NodeRecord): Node {
  return {
    id: record.id,
    tenant: record.tenant,
    name: record.name,
    owner: record.owner,
    labels: { ...record.labels },
    publicKey: record.spki,
    fingerprint: record.fingerprint,
    status: toWire[record.status],
    sinceMs: BigInt(record.sinceAt),
    reason: record.reason,
    registeredAtMs: BigInt(record.registeredAt),
    address: record.address,
    agentVersion: record.agentVersion,
    certificateExpiresAtMs: BigInt(record.current?.notAfter ?? 0),
  };
}

/** One change is told to many: the event of a record is made once, and written down once. */
const events = new WeakMap<NodeRecord, NodeEvent>();
const encodings = new WeakMap<NodeEvent, Buffer>();

export function toNodeEvent(record: NodeRecord): NodeEvent {
  const event = events.get(record) ?? { node: toNode(record) };
  events.set(record, event);
  return event;
}

export function encodeEvent(event: NodeEvent): Buffer {
  const bytes = encodings.get(event) ?? Buffer.from(NodeEvent.encode(event).finish());
  encodings.set(event, bytes);
  return bytes;
}

/** The service of operators, whose events are encoded as above. */
export const controlService = {
  ...ControlService,
  watchNodes: { ...ControlService.watchNodes, responseSerialize: encodeEvent },
};

export function toTransition(entry: HistoryEntry): Transition {
  return {
    atMs: BigInt(entry.at),
    status: toWire[entry.status],
    reason: entry.reason,
    detail: entry.detail,
    address: entry.address,
  };
}
