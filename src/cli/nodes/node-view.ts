/** A node as the command shows it: the words for its status, its table cells. Pure. */
import { statusName } from '../../protocol/node-status.js';
import { NodeStatus, type Node } from '../../protocol/generated/rollcall/v1/control.js';
import { formatElapsed, formatLabels, formatMoment } from '../format.js';
import type { Column, Row } from '../table.js';
import type { Shade } from '../terminal.js';

const statusShades: Partial<Record<string, Shade>> = {
  created: 'dim',
  online: 'green',
  offline: 'yellow',
  revoked: 'red',
  pending: 'dim',
  quarantined: 'red',
};

export function statusShade(name: string): Shade | undefined {
  return statusShades[name];
}

/** The statuses of a listing without revoked nodes. */
export const allButRevoked: readonly NodeStatus[] = [
  NodeStatus.NODE_STATUS_PENDING,
  NodeStatus.NODE_STATUS_CREATED,
  NodeStatus.NODE_STATUS_ONLINE,
  NodeStatus.NODE_STATUS_OFFLINE,
  NodeStatus.NODE_STATUS_QUARANTINED,
];

const columns: readonly Column[] = [
  { header: 'Node ID', minWidth: 20 },
  { header: 'Name', roomy: 24, clipTo: 8 },
  { header: 'Owner', minWidth: 6, clipTo: 6, dropRank: 2 },
  { header: 'Status', minWidth: 7, roomy: 11, shade: statusShade },
  { header: 'Elapsed', minWidth: 8, roomy: 12, dropRank: 1 },
  { header: 'Status Changed @', minWidth: 20, dropRank: 4 },
];

const wideColumns: readonly Column[] = [
  ...columns,
  { header: 'Reason', roomy: 20, clipTo: 10 },
  { header: 'Address', roomy: 21, dropRank: 3 },
  { header: 'Labels', clipTo: 8, dropRank: 5 },
];

export function nodeColumns(wide: boolean): readonly Column[] {
  return wide ? wideColumns : columns;
}

/** The cells of a node; one that was never seen has no moment to show. */
export function nodeRow(node: Node, nowMs: number, wide: boolean): Row {
  const isSeen = statusName(node.status) !== 'created';
  const row = [
    String(node.id),
    node.name,
    node.owner === '' ? '<none>' : node.owner,
    statusName(node.status),
    isSeen ? formatElapsed(nowMs - Number(node.sinceMs)) : '',
    isSeen ? formatMoment(node.sinceMs) : 'N/A',
  ];
  return wide ? [...row, node.reason, node.address, formatLabels(node.labels)] : row;
}
