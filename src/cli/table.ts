/**
 * Tables. On a terminal a heavy box around the head and a light one around the body, as Python's rich draws its
 * HEAVY_HEAD, never wider than the terminal: columns are cut and left out, and where no box fits, each row becomes a
 * block of `name  value` lines; elsewhere plain columns two spaces apart, where an empty cell is `-`, so
 * that `awk -F '  +'` works. Widths are decided once, from the first rows, so that a table of any length can be written
 * as it comes; a later cell that is wider pushes its own row as far as there is room.
 */
import { plainText } from '../base/text.js';
import { formatFacts } from './wrap.js';
import { clipText, displayWidth, type Paint, type Shade } from './terminal.js';

export interface Column {
  readonly header: string;
  /** The narrowest the column gets, but for `clipTo`. */
  readonly minWidth?: number;
  /** The width to keep free while not all rows are known, where there is room. */
  readonly roomy?: number;
  /** The colour of a cell, by its text. */
  readonly shade?: (text: string) => Shade | undefined;
  /** Too wide for the terminal, its texts are cut to no less than this. Without it they are shown whole. */
  readonly clipTo?: number;
  /** Too wide for the terminal, the column with the lowest rank is left out first. Without one it stays. */
  readonly dropRank?: number;
}

export type Row = readonly string[];

export interface TableStyle {
  readonly box: boolean;
  readonly paint: Paint;
  /** Columns of the terminal; unbounded without it. */
  readonly maxWidth?: number | undefined;
}

/** The parts of a table, each ending with a line break or empty. */
export interface Table {
  head(): string;
  rows(rows: readonly Row[]): string;
  foot(): string;
  /** Headers of the columns that the terminal is too narrow for. */
  readonly leftOut: readonly string[];
}

/** A column that is shown: where its cells are in a row, and how wide it is. */
interface Place {
  readonly column: Column;
  readonly index: number;
  readonly width: number;
}

/** The width that a box adds to each cell: a rule and a space on both sides. */
const cellFrame = 3;

function boxWidth(widths: readonly number[]): number {
  return widths.reduce((sum, width) => sum + width + cellFrame, 1);
}

/** As wide as the widest of these cells; while more rows are to come, as its usual ones. */
function naturalWidth(column: Column, index: number, rows: readonly Row[], complete: boolean): number {
  let widest = Math.max(displayWidth(column.header), column.minWidth ?? 0);
  if (!complete) widest = Math.max(widest, column.roomy ?? 0);
  for (const row of rows) widest = Math.max(widest, displayWidth(row[index] ?? ''));
  return widest;
}

/** Leaves out and narrows columns until the box fits. What must stay whole may still be wider than the terminal. */
function fitPlaces(
  columns: readonly Column[],
  rows: readonly Row[],
  { maxWidth }: TableStyle,
  complete: boolean,
): Place[] {
  const placed = (isComplete: boolean): Place[] =>
    columns.map((column, index) => {
      return { column, index, width: naturalWidth(column, index, rows, isComplete) };
    });
  const wanted = placed(complete);
  if (maxWidth === undefined || boxWidth(wanted.map(({ width }) => width)) <= maxWidth) return wanted;
  for (let places = placed(true); ;) {
    const fitted = narrow(places, boxWidth(places.map(({ width }) => width)) - maxWidth);
    const leaving = fitted ? undefined : firstToLeave(places);
    if (!leaving) return fitted ?? places.map(place => ({ ...place, width: narrowest(place) }));
    places = places.filter(place => place !== leaving);
  }
}

function narrowest({ column: { clipTo }, width }: Place): number {
  return Math.min(width, clipTo ?? width);
}

/** Takes `excess` from the columns that may be cut, always from the widest; undefined when that is not enough. */
function narrow(places: readonly Place[], excess: number): Place[] | undefined {
  const widths = places.map(({ width }) => width);
  for (let left = excess; left > 0; left -= 1) {
    const cuttable = places.map((place, at) =>
      (widths[at] ?? 0) > narrowest(place) ? (widths[at] ?? 0) : 0,
    );
    const widest = Math.max(...cuttable);
    if (widest === 0) return undefined;
    widths[cuttable.indexOf(widest)] = widest - 1;
  }
  return places.map((place, at) => ({ ...place, width: widths[at] ?? 0 }));
}

function firstToLeave(places: readonly Place[]): Place | undefined {
  const rankOf = ({ column: { dropRank = Infinity } }: Place): number => dropRank;
  const rank = Math.min(...places.map(rankOf));
  return rank === Infinity ? undefined : places.find(place => rankOf(place) === rank);
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
  style: TableStyle,
  complete = true,
): Table {
  const rows = cleanRows(sample, style.box);
  const places = fitPlaces(columns, rows, style, complete);
  if (!style.box) return plainTable(places);
  const { maxWidth = Infinity } = style;
  const isTooWide = boxWidth(places.map(({ width }) => width)) > maxWidth;
  return isTooWide ? factTable(columns, style) : boxTable(columns, places, style);
}

/** The whole table as one text. */
export function formatTable(columns: readonly Column[], rows: readonly Row[], style: TableStyle): string {
  const table = createTable(columns, rows, style);
  return table.head() + table.rows(rows) + table.foot();
}

function cleanRows(rows: readonly Row[], box: boolean): string[][] {
  return rows.map(row =>
    row.map(cell => {
      const text = plainText(cell);
      return text === '' && !box ? '-' : text;
    }),
  );
}

function boxTable(
  columns: readonly Column[],
  places: readonly Place[],
  { paint, maxWidth }: TableStyle,
): Table {
  const rule = (left: string, bar: string, cross: string, right: string) =>
    left + places.map(({ width }) => bar.repeat(width + 2)).join(cross) + right + '\n';
  const headers = places.map(({ column, width }) => ` ${center(clipText(column.header, width), width)} `);

  function line(row: readonly string[]): string {
    const texts = places.map(({ index }) => row[index] ?? '');
    const widths = places.map(({ width }, at) => Math.max(width, displayWidth(texts[at] ?? '')));
    const isTooWide = maxWidth !== undefined && boxWidth(widths) > maxWidth;
    const cells = places.map(({ column, width }, at) => {
      const whole = texts[at] ?? '';
      const text = isTooWide && column.clipTo !== undefined ? clipText(whole, width) : whole;
      // The colour goes by what the cell says, not by what of it is seen.
      return ` ${paint(column.shade?.(whole), text)}${' '.repeat(Math.max(0, width - displayWidth(text)))} `;
    });
    return `│${cells.join('│')}│\n`;
  }

  return {
    head: () =>
      rule('┏', '━', '┳', '┓') +
      `┃${headers.map(header => paint('bold', header)).join('┃')}┃\n` +
      rule('┡', '━', '╇', '┩'),
    rows: rows => cleanRows(rows, true).map(line).join(''),
    foot: () => rule('└', '─', '┴', '┘'),
    leftOut: columns
      .filter(column => !places.some(place => place.column === column))
      .map(({ header }) => header),
  };
}

/** For a terminal that no box fits: each row as `name  value` lines, with a line between rows. */
function factTable(columns: readonly Column[], style: TableStyle): Table {
  const block = (row: readonly string[]): string => {
    const facts = columns.map(
      ({ header, shade }, at) => [header, row[at] ?? '', shade?.(row[at] ?? '')] as const,
    );
    return `${formatFacts(
      facts.filter(([, value]) => value !== ''),
      style,
    )}\n`;
  };
  return {
    head: () => '',
    rows: rows => cleanRows(rows, true).map(block).join(''),
    foot: () => '',
    leftOut: [],
  };
}

function plainTable(places: readonly Place[]): Table {
  const line = (cellOf: (place: Place) => string) =>
    places
      .map(place => padEnd(cellOf(place), place.width))
      .join('  ')
      .trimEnd() + '\n';
  return {
    head: () => line(({ column }) => column.header),
    rows: rows =>
      cleanRows(rows, false)
        .map(row => line(({ index }) => row[index] ?? '-'))
        .join(''),
    foot: () => '',
    leftOut: [],
  };
}
