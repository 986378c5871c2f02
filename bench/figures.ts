/**
 * The measurements of the bench, as numbers: samples of ours, of a bare grpc-js server doing the same work, and of
 * peers, all from one run. The median is the common case; the 99th percentile is taken by nearest rank on the bad
 * side, so with fewer than a hundred samples it is the worst one.
 */

/** Ours are under no name of their own; these are the ones beside. */
export type Beside = 'bare grpc-js' | 'nats' | 'mosquitto' | 'node itself' | 'baseline';

export interface Figure {
  /** `connect.cpu.1000`: the key for `--compare`. */
  readonly id: string;
  readonly title: string;
  readonly unit: 'ms' | '/s' | 'MiB/s' | 'KiB' | 'MiB' | 'core';
  readonly samples: readonly number[];
  /** CPU of the process that is measured, ms for each operation. */
  readonly cpuMs?: readonly number[] | undefined;
  readonly beside?: Partial<Readonly<Record<Beside, Measured>>> | undefined;
  readonly budget?: Budget | undefined;
  /** A note needed to read the figure. */
  readonly note?: string | undefined;
}

export interface Measured {
  readonly samples: readonly number[];
  readonly cpuMs?: readonly number[] | undefined;
}

/** A bound on the median or the 99th percentile. */
export type Budget =
  | { readonly max: number; readonly of?: 'median' | 'p99' }
  | { readonly min: number; readonly of?: 'median' | 'p99' }
  | { readonly max: number; readonly p99Most: number }
  /** So many times the median of a bare grpc-js server. */
  | { readonly timesBare: number };

export interface Summary {
  readonly runs: number;
  readonly median: number;
  readonly p99: number;
  readonly min: number;
  readonly max: number;
  readonly cpuMs?: number | undefined;
}

/** More of these is better. */
export function isRate(unit: Figure['unit']): boolean {
  return unit.endsWith('/s');
}

export function summarise({ samples, cpuMs }: Measured, unit: Figure['unit']): Summary {
  return {
    runs: samples.length,
    median: median(samples),
    p99: isRate(unit) ? percentile(samples, 1) : percentile(samples, 99),
    min: Math.min(...samples),
    max: Math.max(...samples),
    ...(cpuMs && cpuMs.length > 0 && { cpuMs: median(cpuMs) }),
  };
}

export function median(samples: readonly number[]): number {
  const sorted = [...samples].sort((one, other) => one - other);
  const middle = sorted.length / 2;
  const upper = sorted[Math.floor(middle)] ?? Number.NaN;
  return Number.isInteger(middle) ? ((sorted[middle - 1] ?? Number.NaN) + upper) / 2 : upper;
}

/** By nearest rank. */
export function percentile(samples: readonly number[], percent: number): number {
  const sorted = [...samples].sort((one, other) => one - other);
  const rank = Math.max(1, Math.ceil((percent / 100) * sorted.length));
  return sorted[rank - 1] ?? Number.NaN;
}

export interface Verdict {
  /** As the table shows it. */
  readonly text: string;
  readonly isMet: boolean;
}

export function judge({ budget, samples, unit, beside }: Figure): Verdict | undefined {
  if (!budget) return undefined;
  const ours = summarise({ samples }, unit);
  if ('timesBare' in budget) {
    const bare = beside?.['bare grpc-js'];
    if (!bare) return undefined;
    const max = budget.timesBare * median(bare.samples);
    return { text: `≤ bare × ${budget.timesBare}`, isMet: ours.median <= max };
  }
  if ('p99Most' in budget) {
    const { max, p99Most } = budget;
    return { text: `≤ ${max}, p99 ≤ ${p99Most}`, isMet: ours.median <= max && ours.p99 <= p99Most };
  }
  const of = budget.of ?? 'median';
  const prefix = of === 'p99' ? 'p99 ' : '';
  return 'max' in budget
    ? { text: `${prefix}≤ ${budget.max}`, isMet: ours[of] <= budget.max }
    : { text: `${prefix}≥ ${budget.min}`, isMet: ours[of] >= budget.min };
}
