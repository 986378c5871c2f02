/** The words for the status of a node. */
import { NodeStatus } from './generated/rollcall/v1/control.js';

export const nodeStatuses = {
  created: NodeStatus.NODE_STATUS_CREATED,
  online: NodeStatus.NODE_STATUS_ONLINE,
  offline: NodeStatus.NODE_STATUS_OFFLINE,
  revoked: NodeStatus.NODE_STATUS_REVOKED,
  pending: NodeStatus.NODE_STATUS_PENDING,
  quarantined: NodeStatus.NODE_STATUS_QUARANTINED,
} as const;

const statuses = new Map<string, NodeStatus>(Object.entries(nodeStatuses));

/** The statuses that a filter accepts. */
export const statusWords = [...statuses.keys()];

const wordsByStatus = new Map([...statuses].map(([word, status]) => [status, word]));

/** `online`, `offline`, …; a status newer than this program is `unknown (7)`. */
export function statusName(status: NodeStatus): string {
  return wordsByStatus.get(status) ?? `unknown (${status})`;
}

/** The status of a word, or undefined. */
export function findStatus(word: string): NodeStatus | undefined {
  return statuses.get(word);
}
