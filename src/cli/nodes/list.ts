/** `rollcall nodes list`: every node, or those asked for, page by page, so that a large fleet is shown as it comes. */
import type { Node } from '../../protocol/generated/rollcall/v1/control.js';
import type { ControlFlags } from '../control-options.js';
import { formatCount, toJson } from '../format.js';
import { isSeen, printHint, printLeftOut, tableStyleOf, type Shell } from '../shell.js';
import { createTable, type Table } from '../table.js';
import { pageSize, parseLabels, parseLimit, parseStatuses } from './arguments.js';
import { asking, meantWords, pages } from './asking.js';
import { nodeColumns, nodeJson, nodeRow } from './node-view.js';
import { usageError } from '../failure.js';

export interface ListFlags extends ControlFlags {
  readonly status?: readonly string[];
  readonly label?: readonly string[];
  readonly text?: string;
  readonly wide?: boolean;
  readonly json?: boolean;
  readonly limit?: string;
}

/** Writes a listing as its pages come. */
interface Listing {
  add(nodes: readonly Node[], isLast: boolean): void;
}

export async function listNodes(shell: Shell, typed: string[], flags: ListFlags): Promise<number> {
  const [extra] = meantWords(shell, typed);
  if (extra !== undefined)
    throw usageError(`nodes list takes no "${extra}"`, `to search, use --text ${extra}`);
  const filter = {
    statuses: parseStatuses(flags.status),
    labels: parseLabels(flags.label),
    text: flags.text ?? '',
  };
  const limit = parseLimit(flags.limit);
  const listing = flags.json ? jsonListing(shell) : tableListing(shell, flags.wide ?? false);

  return asking(shell, flags, async (known, progress) => {
    let count = 0;
    const listed = pages(
      limit,
      async (pageToken, most) => {
        const answer = await known.listPage({ ...filter, pageToken, pageSize: most });
        return { items: answer.nodes, nextPageToken: answer.nextPageToken };
      },
      pageSize,
    );
    for await (const { items, isLast } of listed) {
      progress.clear();
      listing.add(items, isLast);
      count += items.length;
      // Where the rows themselves go by, they are the progress.
      if (!isLast && !isSeen(shell)) progress.say(`${formatCount(count, 'node')} so far`);
    }
    const isFiltered = filter.statuses.length > 0 || flags.label !== undefined || filter.text !== '';
    if (count === 0 && !flags.json) printHint(shell, emptyHint(isFiltered));
    return undefined;
  });
}

function emptyHint(isFiltered: boolean): string {
  return isFiltered
    ? 'no node is like that'
    : 'no node is registered yet; register one with rollcall nodes register KEY.pub';
}

function tableListing(shell: Shell, wide: boolean): Listing {
  const nowMs = shell.now();
  const columns = nodeColumns(wide);
  let table: Table | undefined;
  return {
    add(nodes, isLast) {
      const rows = nodes.map(node => nodeRow(node, nowMs, wide));
      if (!table) {
        table = createTable(columns, rows, tableStyleOf(shell), isLast);
        shell.stdout.write(table.head());
      }
      shell.stdout.write(table.rows(rows) + (isLast ? table.foot() : ''));
      if (isLast) printLeftOut(shell, table);
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
    },
  };
}
