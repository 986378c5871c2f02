/** `rollcall nodes history NODE`: what a node's status was, since when and why, newest first. */
import type { Transition } from '../../protocol/generated/rollcall/v1/control.js';
import { statusName } from '../../control-client/node-status.js';
import type { ControlFlags } from '../control-options.js';
import { formatMoment, toJson } from '../format.js';
import { isSeen, paintOf, type Shell } from '../shell.js';
import { formatTable, type Column, type Row } from '../table.js';
import { pageSize, parseLimit } from './arguments.js';
import { asking, pages } from './asking.js';
import { statusShade, transitionJson } from './node-view.js';

export interface HistoryFlags extends ControlFlags {
  readonly limit?: string;
  readonly json?: boolean;
}

const columns: readonly Column[] = [
  { header: 'When', least: 20 },
  { header: 'Status', least: 7, shade: statusShade },
  { header: 'Reason' },
  { header: 'Address' },
  { header: 'Detail' },
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
    const text = flags.json
      ? `${toJson(transitions.map(transitionJson), 2)}\n`
      : formatTable(columns, transitions.map(transitionRow), { box: isSeen(shell), paint: paintOf(shell) });
    shell.stdout.write(text);
    return undefined;
  });
}

function transitionRow({ atMs, status, reason, address, detail }: Transition): Row {
  return [formatMoment(atMs), statusName(status), reason, address, detail];
}
