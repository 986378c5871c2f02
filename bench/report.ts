/** The report of the bench: a table for people, JSON for the next run to compare with. */
import { cpus, loadavg, release } from 'node:os';
import { judge, summarise, type Figure, type Summary } from './figures.js';

export interface Report {
  readonly at: string;
  readonly isQuick: boolean;
  readonly machine: {
    readonly processor: string;
    readonly cores: number;
    readonly kernel: string;
    readonly node: string;
    /** Over the last minute, before the bench began; it means little unless the machine is quiet. */
    readonly load: number;
  };
  readonly figures: readonly ReportedFigure[];
}

interface ReportedFigure extends Omit<Figure, 'samples' | 'cpuMs' | 'beside' | 'budget'> {
  readonly ours: Summary;
  readonly beside: Readonly<Record<string, Summary>>;
  /** Medians, ours to theirs. */
  readonly ratios: Readonly<Record<string, number>>;
  readonly budget?: string;
  readonly isMet?: boolean;
}

/** To be asked before the bench makes its own load. */
export function describeMachine(): Report['machine'] {
  return {
    processor: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    kernel: release(),
    node: process.version,
    load: loadavg()[0] ?? 0,
  };
}

export function reportOf(figures: readonly Figure[], machine: Report['machine'], isQuick: boolean): Report {
  return { at: new Date().toISOString(), isQuick, machine, figures: figures.map(reported) };
}

function reported(figure: Figure): ReportedFigure {
  const { id, title, unit, note } = figure;
  const ours = summarise(figure, unit);
  const verdict = judge(figure);
  const beside = Object.entries(figure.beside ?? {}).map(
    ([name, measured]) => [name, summarise(measured, unit)] as const,
  );
  return {
    id,
    title,
    unit,
    ...(note !== undefined && { note }),
    ours,
    beside: Object.fromEntries(beside),
    ratios: Object.fromEntries(beside.map(([name, { median }]) => [name, ours.median / median])),
    ...(verdict && { budget: verdict.text, isMet: verdict.isMet }),
  };
}

/** Three digits that count. */
export function shortNumber(value: number | undefined): string {
  if (value === undefined || Number.isNaN(value)) return '–';
  if (!Number.isFinite(value)) return 'never';
  if (Math.abs(value) >= 100) return value.toFixed(0);
  if (value === 0) return '0';
  return value.toPrecision(Math.abs(value) >= 1 ? 3 : 2);
}

const heads = ['', 'runs', 'median', 'p99', 'CPU ms', 'budget', 'beside: median (p99), CPU ms, ours to it'];

export function formatTable({ figures, machine, isQuick }: Report): string {
  const rows = figures.map(({ title, unit, ours, beside, ratios, budget, isMet }) => [
    `${title}, ${unit}`,
    `${ours.runs}`,
    shortNumber(ours.median),
    shortNumber(ours.p99),
    shortNumber(ours.cpuMs),
    budget === undefined ? '' : `${budget} ${isMet ? '✓' : '✗'}`,
    Object.entries(beside)
      .map(([name, theirs]) => `${name} ${describeBeside(theirs, ratios[name])}`)
      .join('; '),
  ]);
  const widths = heads.map((head, column) =>
    Math.max(head.length, ...rows.map(row => row[column]?.length ?? 0)),
  );
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) => pad(cell, widths[column] ?? 0, column))
      .join('  ')
      .trimEnd();
  const notes = figures.flatMap(({ id, note }) => (note === undefined ? [] : [`${id}: ${note}`]));
  const { processor, cores, node, load } = machine;
  const place = `${cores} × ${processor}, Node.js ${node}, load ${load.toFixed(1)} before`;
  const sizes = isQuick ? ' – QUICK: small sizes, meaningless figures' : '';
  return [`${place}${sizes}`, '', line(heads), ...rows.map(line), '', ...notes, ''].join('\n');
}

function describeBeside({ median, p99, cpuMs }: Summary, ratio: number | undefined): string {
  const cpu = cpuMs === undefined ? '' : `, ${shortNumber(cpuMs)}`;
  return `${shortNumber(median)} (${shortNumber(p99)})${cpu}, ×${shortNumber(ratio)}`;
}

/** Numbers to the right; the last column as it comes. */
function pad(cell: string, width: number, column: number): string {
  if (column === heads.length - 1) return cell;
  return column === 0 || column === 5 ? cell.padEnd(width) : cell.padStart(width);
}

/** New to old, line by line, for the figures that both have. */
export function formatComparison(fresh: Report, old: Report): string {
  const lines = fresh.figures.flatMap(({ id, unit, ours }) => {
    const before = old.figures.find(figure => figure.id === id && figure.unit === unit)?.ours;
    if (!before) return [];
    const times = (name: 'median' | 'p99'): string =>
      `${name} ${shortNumber(before[name])} → ${shortNumber(ours[name])} (×${shortNumber(ours[name] / before[name])})`;
    const cpu =
      ours.cpuMs === undefined || before.cpuMs === undefined
        ? ''
        : `, CPU ms ${shortNumber(before.cpuMs)} → ${shortNumber(ours.cpuMs)} (×${shortNumber(ours.cpuMs / before.cpuMs)})`;
    return [`${id}, ${unit}: ${times('median')}, ${times('p99')}${cpu}`];
  });
  const unlike = fresh.isQuick === old.isQuick ? '' : ' – one of the two is a quick run';
  return [`new to old (${old.at})${unlike}`, ...lines, ''].join('\n');
}
