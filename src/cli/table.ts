/**
 * Tables. On a terminal a heavy box around the head and a light one around the body, as Python's rich draws its
 * HEAVY_HEAD; elsewhere plain columns two spaces apart, where an empty cell is `-`, so that `awk -F '  +'` works.
 * Widths are decided once, from the first rows, so that a table of any length can be written as it comes; a later
 * cell that is wider pushes its own row and hides nothing.
 */
import { displayWidth, plainText, type Paint, type Shade } from './terminal.js';

export interface Column {
  readonly header: string;
  /** The narrowest the column gets. */
  readonly least?: number;
  /** The width to keep free while not all rows are known. */
  readonly roomy?: number;
  /** The colour of a cell, by its text. */
  readonly shade?: (text: string) => Shade | undefined;
}

export type Row = readonly string[];

export interface TableStyle {
  readonly box: boolean;
  readonly paint: Paint;
}

/** The parts of a table, each ending with a line break or empty. */
export interface Table {
  head(): string;
  rows(rows: readonly Row[]): string;
  foot(): string;
}

/** How wide each column is. `complete` says that `rows` are all there will be. */
function columnWidths(columns: readonly Column[], rows: readonly Row[], complete = true): number[] {
  return columns.map((column, index) => {
    let widest = Math.max(displayWidth(column.header), column.least ?? 0);
    if (!complete) widest = Math.max(widest, column.roomy ?? 0);
    for (const row of rows) widest = Math.max(widest, displayWidth(row[index] ?? ''));
    return widest;
  });
}

function padEnd(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - displayWidth(text)));
}

function center(text: string, width: number): string {
  const left = Math.floor(Math.max(0, width - displayWidth(text)) / 2);
  return padEnd(' '.repeat(left) + text, width);
}

/** A table whose widths come from `sample`: all rows, or the first of them. */
export function createTable(
  columns: readonly Column[],
  sample: readonly Row[],
  { box, paint }: TableStyle,
  complete = true,
): Table {
  const clean = cleanRows(columns, sample, box);
  const widths = columnWidths(columns, clean, complete);
  return box ? boxTable(columns, widths, paint) : plainTable(columns, widths);
}

/** The whole table as one text. */
export function formatTable(columns: readonly Column[], rows: readonly Row[], style: TableStyle): string {
  const table = createTable(columns, rows, style);
  return table.head() + table.rows(rows) + table.foot();
}

function cleanRows(columns: readonly Column[], rows: readonly Row[], box: boolean): string[][] {
  return rows.map(row =>
    columns.map((_column, index) => {
      const text = plainText(row[index] ?? '');
      return text === '' && !box ? '-' : text;
    }),
  );
}

function boxTable(columns: readonly Column[], widths: readonly number[], paint: Paint): Table {
  const rule = (left: string, bar: string, cross: string, right: string) =>
    left + widths.map(width => bar.repeat(width + 2)).join(cross) + right + '\n';
  const headers = columns.map((column, index) => ` ${center(column.header, widths[index] ?? 0)} `);
  return {
    head: () =>
      rule('┏', '━', '┳', '┓') +
      `┃${headers.map(header => paint('bold', header)).join('┃')}┃\n` +
      rule('┡', '━', '╇', '┩'),
    rows: rows =>
      cleanRows(columns, rows, true)
        .map(row => {
          const cells = row.map((text, index) => {
            const space = ' '.repeat(Math.max(0, (widths[index] ?? 0) - displayWidth(text)));
            return ` ${paint(columns[index]?.shade?.(text), text)}${space} `;
          });
          return `│${cells.join('│')}│\n`;
        })
        .join(''),
    foot: () => rule('└', '─', '┴', '┘'),
  };
}

function plainTable(columns: readonly Column[], widths: readonly number[]): Table {
  const line = (cells: readonly string[]) =>
    cells
      .map((text, index) => padEnd(text, widths[index] ?? 0))
      .join('  ')
      .trimEnd() + '\n';
  return {
    head: () => line(columns.map(column => column.header)),
    rows: rows => cleanRows(columns, rows, false).map(line).join(''),
    foot: () => '',
  };
}
