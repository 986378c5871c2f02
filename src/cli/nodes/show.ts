/** `rollcall nodes show NODE`: everything the link knows of one node. */
import type { Node, Transition } from '../../protocol/generated/rollcall/v1/control.js';
import { statusName } from '../../protocol/node-status.js';
import type { ControlFlags } from '../control-options.js';
import { formatElapsed, formatLabels, formatMoment, toJson } from '../format.js';
import { paintOf, type Shell } from '../shell.js';
import { plainText } from '../../base/text.js';
import type { Paint } from '../terminal.js';
import { asking, pages } from './with-link.js';
import { nodeJson, transitionJson } from '../../protocol/node-json.js';
import { statusShade } from './status-shade.js';
import { printJson, printTable } from '../access/showing.js';
import type { Column, Row } from '../table.js';
import { pageSize, parseLimit } from './arguments.js';

export interface ShowFlags extends ControlFlags {
  readonly json?: boolean;
}

export async function showNode(shell: Shell, name: string, flags: ShowFlags): Promise<number> {
  return asking(shell, flags, async (nodes, progress) => {
    const node = await nodes.get(name);
    progress.clear();
    const text = flags.json ? `${toJson(nodeJson(node), 2)}\n` : describe(node, shell.now(), paintOf(shell));
    shell.stdout.write(text);
    return undefined;
  });
}

/** One `Name  value` line for each thing that is known. */
function describe(node: Node, nowMs: number, paint: Paint): string {
  const lines = facts(node, nowMs).filter(([, value]) => value !== '');
  const width = Math.max(...lines.map(([name]) => name.length));
  return lines
    .map(([name, value]) => {
      const shade = name === 'Status' ? statusShade(value) : undefined;
      return `${paint('dim', name.padEnd(width))}  ${paint(shade, plainText(value))}\n`;
    })
    .join('');
}

function facts(node: Node, nowMs: number): readonly (readonly [string, string])[] {
  const moment = (ms: bigint) => (ms === 0n ? '' : formatMoment(ms));
  const since = moment(node.sinceMs);
  return [
    ['Node ID', String(node.id)],
    ['Name', node.name],
    ['Owner', node.owner === '' ? '<none>' : node.owner],
    ['Status', statusName(node.status)],
    ['Since', since === '' ? '' : `${since} (${formatElapsed(nowMs - Number(node.sinceMs))})`],
    ['Reason', node.reason],
    ['Fingerprint', node.fingerprint],
    ['Labels', formatLabels(node.labels)],
    ['Address', node.address],
    ['Agent', node.agentVersion],
    ['Certificate ends', moment(node.certificateExpiresAtMs)],
    ['Registered', moment(node.registeredAtMs)],
    ['Tenant', node.tenant],
  ];
}

interface HistoryFlags extends ControlFlags {
  readonly limit?: string;
  readonly json?: boolean;
}

const columns: readonly Column[] = [
  { header: 'When', minWidth: 20 },
  { header: 'Status', minWidth: 7, shade: statusShade },
  { header: 'Reason', clipTo: 10 },
  { header: 'Address', dropRank: 1 },
  { header: 'Detail', clipTo: 10, dropRank: 2 },
];

/** A node's history is bounded by the link's retention, so it is shown whole. */
/** `rollcall nodes history NODE`: what a node's status was, since when and why, newest first. */
export async function showHistory(shell: Shell, node: string, flags: HistoryFlags): Promise<number> {
  const limit = parseLimit(flags.limit);
  return asking(shell, flags, async (nodes, progress) => {
    const transitions: Transition[] = [];
    const listed = pages(
      limit,
      async (pageToken, max) => {
        const answer = await nodes.historyPage(node, { pageToken, pageSize: max });
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
