/** `rollcall nodes list`: the nodes that may come, or those asked for, page by page, so that a large fleet is shown as it comes. */
import { statusName } from '../../protocol/node-status.js';
import type { Nodes } from '../../control-client/nodes.js';
import { NodeStatus, type Node } from '../../protocol/generated/rollcall/v1/control.js';
import type { ControlFlags } from '../control-options.js';
import { usageError } from '../failure.js';
import { formatCount, formatElapsed, formatLabels, formatMoment, toJson } from '../format.js';
import type { Pager } from '../pager.js';
import { isInteractive, paintOf, printHint, printLeftOut, tableStyleOf, type Shell } from '../shell.js';
import { createTable, type Column, type Row, type Table } from '../table.js';
import { pageSize, parseLabels, parseLimit, parseStatuses } from './arguments.js';
import { asking, meantWords, pages } from './with-link.js';
import { nodeJson } from '../../protocol/node-json.js';
import { statusShade } from './status-shade.js';

export interface ListFlags extends ControlFlags {
  readonly status?: readonly string[];
  readonly label?: readonly string[];
  readonly text?: string;
  readonly all?: boolean;
  readonly wide?: boolean;
  readonly json?: boolean;
  readonly limit?: string;
}

/** Writes a listing as its pages come. */
interface Listing {
  /** False once nobody reads on. */
  add(nodes: readonly Node[], isLast: boolean): Promise<boolean>;
  /** After the last page; `notes` are for a person. */
  end(notes: readonly string[]): Promise<void>;
}

export async function listNodes(shell: Shell, typed: string[], flags: ListFlags): Promise<number> {
  const [extra] = meantWords(shell, typed);
  if (extra !== undefined)
    throw usageError(`nodes list takes no "${extra}"`, `to search, use --text ${extra}`);
  const limit = parseLimit(flags.limit);
  const asked = parseStatuses(flags.status);
  const hidesRevoked = asked.length === 0 && !flags.all;
  const filter = {
    statuses: hidesRevoked ? allButRevoked : asked,
    labels: parseLabels(flags.label),
    text: flags.text ?? '',
  };
  const listing = flags.json ? jsonListing(shell) : tableListing(shell, flags.wide ?? false);

  return asking(shell, flags, async (known, progress) => {
    const counts = new Map<string, number>();
    let count = 0;
    const listed = pages(
      limit,
      async (pageToken, max) => {
        const answer = await known.listPage({ ...filter, pageToken, pageSize: max });
        return { items: answer.nodes, nextPageToken: answer.nextPageToken };
      },
      pageSize,
    );
    for await (const { items, isLast } of listed) {
      progress.clear();
      for (const node of items) {
        const status = statusName(node.status);
        counts.set(status, (counts.get(status) ?? 0) + 1);
      }
      count += items.length;
      if (!(await listing.add(items, isLast))) break;
      // Rows on the terminal show the progress themselves.
      if (!isLast && !isInteractive(shell)) progress.say(`${formatCount(count, 'node')} so far`);
    }
    const isHiding = !flags.json && hidesRevoked && (count === 0 || isInteractive(shell));
    const hidden =
      isHiding && (await hasRevoked(known, filter)) ? ['revoked nodes are hidden; --all shows them'] : [];
    await listing.end(count === 0 ? [] : [totalLine(counts, count, count === limit), ...hidden]);
    const isFiltered = asked.length > 0 || flags.label !== undefined || filter.text !== '';
    if (count === 0 && !flags.json) printHint(shell, hidden[0] ?? emptyHint(isFiltered));
    return undefined;
  });
}

async function hasRevoked(
  known: Nodes,
  filter: { labels: Record<string, string>; text: string },
): Promise<boolean> {
  const { nodes } = await known.listPage({
    ...filter,
    statuses: [NodeStatus.NODE_STATUS_REVOKED],
    pageSize: 1,
  });
  return nodes.length > 0;
}

/** `3 nodes: 2 online, 1 offline`. */
function totalLine(counts: ReadonlyMap<string, number>, count: number, isCut: boolean): string {
  const parts = [...counts].map(([status, each]) => `${each} ${status}`);
  return `${isCut ? `the first ${count}` : formatCount(count, 'node')}: ${parts.join(', ')}`;
}

function emptyHint(isFiltered: boolean): string {
  return isFiltered
    ? 'no node matches'
    : 'no node is registered yet; register one with rollcall nodes register KEY.pub';
}

function tableListing(shell: Shell, wide: boolean): Listing {
  const nowMs = shell.now();
  const columns = nodeColumns(wide);
  let table: Table | undefined;
  let pager: Pager | undefined;

  async function write(text: string): Promise<boolean> {
    if (pager) return pager.write(text);
    shell.stdout.write(text);
    return true;
  }

  return {
    async add(nodes, isLast) {
      const rows = nodes.map(node => nodeRow(node, nowMs, wide));
      let head = '';
      if (!table) {
        table = createTable(columns, rows, tableStyleOf(shell), isLast);
        head = table.head();
        // With the frame of the table and the lines below it.
        const height = shell.stdout.rows || Infinity;
        if (isInteractive(shell) && (!isLast || rows.length + 7 > height)) pager = await shell.openPager?.();
      }
      return write(head + table.rows(rows) + (isLast ? table.foot() : ''));
    },
    async end(notes) {
      const paint = paintOf(shell);
      if (isInteractive(shell)) await write(notes.map(note => `${paint('dim', note)}\n`).join(''));
      await pager?.end();
      if (table) printLeftOut(shell, table);
    },
  };
}

/** One JSON array, a node a line. */
function jsonListing(shell: Shell): Listing {
  let separator = '[\n';
  return {
    add(nodes, isLast) {
      for (const node of nodes) {
        shell.stdout.write(`${separator}  ${toJson(nodeJson(node))}`);
        separator = ',\n';
      }
      if (isLast) shell.stdout.write(separator === '[\n' ? '[]\n' : '\n]\n');
      return Promise.resolve(true);
    },
    end: () => Promise.resolve(),
  };
}

/** The statuses of a listing without revoked nodes. */
const allButRevoked: readonly NodeStatus[] = [
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
