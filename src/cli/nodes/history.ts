/** `rollcall nodes history NODE`: what a node's status was, since when and why, newest first. */
import type { Transition } from '../../protocol/generated/rollcall/v1/control.js';
import { statusName } from '../../control-client/node-status.js';
import type { ControlFlags } from '../control-options.js';
import { printJson, printTable } from '../access/showing.js';
import { formatMoment } from '../format.js';
import type { Shell } from '../shell.js';
import type { Column, Row } from '../table.js';
import { pageSize, parseLimit } from './arguments.js';
import { asking, pages } from './with-link.js';
import { statusShade, transitionJson } from './node-view.js';

export interface HistoryFlags extends ControlFlags {
  readonly limit?: string;
  readonly json?: boolean;
}

const columns: readonly Column[] = [
  { header: 'When', least: 20 },
  { header: 'Status', least: 7, shade: statusShade },
  { header: 'Reason', clipTo: 10 },
  { header: 'Address', dropRank: 1 },
  { header: 'Detail', clipTo: 10, dropRank: 2 },
];

/** A node's history is bounded by the link's retention, so it is shown whole. */
export async function showHistory(shell: Shell, node: string, flags: HistoryFlags): Promise<number> {
  const limit = parseLimit(flags.limit);
  return asking(shell, flags, async (nodes, progress) => {
    const transitions: Transition[] = [];
    const listed = pages(
      limit,
      async (pageToken, most) => {
        const answer = await nodes.historyPage(node, { pageToken, pageSize: most });
        return { items: answer.transitions, nextPageToken: answer.nextPageToken };
      },
      pageSize,
    );
    for await (const { items } of listed) transitions.push(...items);
    progress.clear();
    if (flags.json) printJson(shell, transitions.map(transitionJson));
    else printTable(shell, columns, transitions.map(transitionRow));
    return undefined;
  });
}

function transitionRow({ atMs, status, reason, address, detail }: Transition): Row {
  return [formatMoment(atMs), statusName(status), reason, address, detail];
}
