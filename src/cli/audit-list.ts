/** `rollcall audit list`: what happened, newest first by default, page by page. */
import type { AuditEntry } from '../audit-log/entry.js';
import { formatParty } from '../audit-log/party.js';
import type { AuditPage, AuditQuery, AuditSource } from '../control-client/audit.js';
import type { AskAudit } from './audit-control.js';
import type { ControlFlags } from './control-options.js';
import { formatRfc3339 } from '../base/rfc3339.js';
import { formatLabels, formatMoment, toJson } from './format.js';
import { parseLimit } from './nodes/arguments.js';
import { printHint, printLeftOut, tableStyleOf, type Shell } from './shell.js';
import { createTable, type Column, type Row, type Table } from './table.js';
import { plainText } from '../base/text.js';
import type { Shade } from './terminal.js';
import { parseWhen } from './moment.js';

export interface AuditListFlags extends ControlFlags {
  readonly type?: string;
  readonly subject?: string;
  readonly by?: string;
  readonly since?: string;
  readonly until?: string;
  readonly limit?: string;
  readonly oldestFirst?: boolean;
  readonly wide?: boolean;
  readonly json?: boolean;
}

const defaultLimit = 50;
const pageSize = 1000;

export async function listAudit(shell: Shell, flags: AuditListFlags, ask: AskAudit): Promise<number> {
  const limit = parseLimit(flags.limit) ?? defaultLimit;
  const query = {
    newestFirst: !flags.oldestFirst,
    typePrefix: flags.type,
    subject: flags.subject,
    by: flags.by,
    since: parseWhen('--since', flags.since, shell.now()),
    until: parseWhen('--until', flags.until, shell.now()),
  };
  const listing = flags.json ? jsonListing(shell) : tableListing(shell, flags.wide ?? false);
  return ask(shell, flags, async (source, progress) => {
    const damaged: number[] = [];
    let count = 0;
    for await (const page of pagesOf(source, query, limit)) {
      progress.clear();
      damaged.push(...page.damaged);
      count += page.entries.length;
      listing.add(page.entries);
    }
    progress.clear();
    listing.end();
    if (count === 0 && !flags.json) printHint(shell, 'no event matches');
    if (damaged.length > 0) {
      const which = damaged.slice(0, 10).join(', ') + (damaged.length > 10 ? ', …' : '');
      printHint(shell, `damaged entries that cannot be shown: ${which}; rollcall audit verify says more`);
    }
    return undefined;
  });
}

async function* pagesOf(
  source: AuditSource,
  query: Omit<AuditQuery, 'limit' | 'from'>,
  limit: number,
): AsyncGenerator<AuditPage> {
  let left = limit;
  for (let from: number | undefined; ;) {
    const page = await source.listEvents({ ...query, from, limit: Math.min(left, pageSize) });
    const entries = page.entries.slice(0, left);
    yield { ...page, entries };
    left -= entries.length;
    if (left === 0 || page.next === undefined) return;
    from = page.next;
  }
}

const outcomeShades: Partial<Record<string, Shade>> = { refused: 'yellow', failed: 'red' };

const columns: readonly Column[] = [
  { header: 'Entry', minWidth: 5, roomy: 7, dropRank: 5 },
  { header: 'When', minWidth: 20 },
  { header: 'Event', roomy: 20, clipTo: 12 },
  { header: 'Outcome', minWidth: 7, shade: text => outcomeShades[text] },
  { header: 'By', roomy: 16, clipTo: 8 },
  { header: 'Subject', roomy: 20, clipTo: 10, dropRank: 4 },
];
const wideColumns: readonly Column[] = [
  ...columns,
  { header: 'Address', roomy: 15, dropRank: 2 },
  { header: 'Request', roomy: 16, dropRank: 1 },
  { header: 'Detail', clipTo: 12, dropRank: 3 },
];

function entryRow(entry: AuditEntry): Row {
  const { seq, at, type, outcome = 'done', subject, address = '', requestId = '' } = entry;
  const by = formatParty(entry.by);
  return [String(seq), formatMoment(at), type, outcome, by, subject, address, requestId, detailText(entry)];
}

function detailText({ detail }: AuditEntry): string {
  const texts = Object.entries(detail).map(([name, value]) => [plainText(name), String(value)] as const);
  return formatLabels(Object.fromEntries(texts));
}

/** The keys are always the same; what is not known is null. */
function entryJson(entry: AuditEntry): Record<string, unknown> {
  const { seq, at, type, outcome = 'done', subject, address, requestId, detail, previous, hash } = entry;
  const by = typeof entry.by === 'string' ? { kind: null, id: null, name: entry.by } : entry.by;
  return {
    seq,
    at: formatRfc3339(at) ?? null,
    type,
    outcome,
    by,
    subject: subject === '' ? null : subject,
    address: address ?? null,
    requestId: requestId ?? null,
    detail,
    previous,
    hash,
  };
}

interface Listing {
  add(entries: readonly AuditEntry[]): void;
  end(): void;
}

function tableListing(shell: Shell, wide: boolean): Listing {
  let table: Table | undefined;
  const begin = (rows: readonly Row[]): Table => {
    const begun = createTable(wide ? wideColumns : columns, rows, tableStyleOf(shell), false);
    shell.stdout.write(begun.head());
    return begun;
  };
  return {
    add(entries) {
      const rows = entries.map(entryRow);
      if (rows.length === 0) return;
      table ??= begin(rows);
      shell.stdout.write(table.rows(rows));
    },
    end() {
      table ??= begin([]);
      shell.stdout.write(table.foot());
      printLeftOut(shell, table);
    },
  };
}

/** One JSON array, an entry a line. */
function jsonListing(shell: Shell): Listing {
  let separator = '[\n';
  return {
    add(entries) {
      for (const entry of entries) {
        shell.stdout.write(`${separator}  ${toJson(entryJson(entry))}`);
        separator = ',\n';
      }
    },
    end: () => void shell.stdout.write(separator === '[\n' ? '[]\n' : '\n]\n'),
  };
}
