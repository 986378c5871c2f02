/** Records ⇄ the messages of the control service. */
import { RollcallError } from '../../../base/errors.js';
import {
  ControlService,
  NodeEvent,
  type NodeStatus,
  type Node,
  type Transition,
} from '../../../protocol/generated/rollcall/v1/control.js';
import { nodeStatuses } from '../../../protocol/node-status.js';
import {
  nodeStatusNames,
  type HistoryEntry,
  type NodeRecord,
  type NodeStatusName,
} from '../../registry/node-record.js';

export function statusOf(wire: NodeStatus): NodeStatusName {
  const status = nodeStatusNames.find(name => nodeStatuses[name] === wire);
  if (status) return status;
  throw new RollcallError('REQUEST_INVALID', 'unknown node status', {
    hint: `known: ${nodeStatusNames.join(', ')}`,
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
    status: nodeStatuses[record.status],
    sinceMs: BigInt(record.sinceAt),
    reason: record.reason,
    registeredAtMs: BigInt(record.registeredAt),
    address: record.address,
    agentVersion: record.agentVersion,
    certificateExpiresAtMs: BigInt(record.current?.notAfter ?? 0),
  };
}

/** One change is sent to many readers: the event of a record is made and encoded once. */
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
    status: nodeStatuses[entry.status],
    reason: entry.reason,
    detail: entry.detail,
    address: entry.address,
  };
}
