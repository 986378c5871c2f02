/** `rollcall runs list`: runs, newest first, page by page. */
import type { Run } from '../../protocol/generated/rollcall/v1/runs.js';
import { formatCount, toJson } from '../format.js';
import { parseLimit } from '../nodes/arguments.js';
import { pages } from '../nodes/with-link.js';
import { isInteractive, printHint, printLeftOut, tableStyleOf, type Shell } from '../shell.js';
import { createTable, type Table } from '../table.js';
import { parseRunStatuses } from './arguments.js';
import { askingRuns, type AskFlags } from './with-link.js';
import { runColumns, runJson, runRow } from './run-view.js';

export interface ListFlags extends AskFlags {
  readonly status?: readonly string[];
  readonly limit?: string;
}

/** Writes a listing as its pages come. */
type Listing = (runs: readonly Run[], isLast: boolean) => void;

export async function listRuns(shell: Shell, flags: ListFlags): Promise<number> {
  const statuses = parseRunStatuses(flags.status);
  const limit = parseLimit(flags.limit);
  const list = flags.json ? jsonListing(shell) : tableListing(shell);
  return askingRuns(shell, flags, async ({ runs, progress }) => {
    let count = 0;
    const listed = pages(limit, async (pageToken, pageSize) => {
      const answer = await runs.listPage({ statuses, pageToken, pageSize });
      return { items: answer.runs, nextPageToken: answer.nextPageToken };
    });
    for await (const { items, isLast } of listed) {
      progress.clear();
      list(items, isLast);
      count += items.length;
      if (!isLast && !isInteractive(shell)) progress.say(`${formatCount(count, 'run')} so far`);
    }
    if (count === 0 && !flags.json)
      printHint(shell, statuses.length > 0 ? 'no run matches' : 'no run yet: rollcall run DIR starts one');
    return undefined;
  });
}

function tableListing(shell: Shell): Listing {
  const nowMs = shell.now();
  let table: Table | undefined;
  return (runs, isLast) => {
    const rows = runs.map(run => runRow(run, nowMs));
    if (!table) {
      table = createTable(runColumns, rows, tableStyleOf(shell), isLast);
      shell.stdout.write(table.head());
    }
    shell.stdout.write(table.rows(rows) + (isLast ? table.foot() : ''));
    if (isLast) printLeftOut(shell, table);
  };
}

/** One JSON array, a run a line. */
function jsonListing(shell: Shell): Listing {
  let separator = '[\n';
  return (runs, isLast) => {
    for (const run of runs) {
      shell.stdout.write(`${separator}  ${toJson(runJson(run))}`);
      separator = ',\n';
    }
    if (isLast) shell.stdout.write(separator === '[\n' ? '[]\n' : '\n]\n');
  };
}
