/**
 * Runs a target: many inputs made from a seed, each given to a parser of untrusted input and compared with the
 * promises of that parser. A failure is shrunk and reported with the seed and the input, ready for the corpus.
 */
import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import type { Test } from 'tap';
import { isRollcallError, type ErrorCode, type RollcallError } from '../../src/base/errors.js';

export interface Target {
  /** The parser's name; corpus entries and failures are filed under it. */
  readonly name: string;
  readonly inputs: fc.Arbitrary<Buffer>;
  /** Throws when the parser broke a promise; otherwise returns the outcome as a word. */
  readonly check: (input: Buffer) => string | Promise<string>;
  /** Outcomes without which a run of some length shows nothing: the inputs would all have died at the gate. */
  readonly reaches: readonly string[];
  /** The cost of an input, as a divisor of the number of inputs; 1 by default. */
  readonly weight?: number;
}

/** Fixed, so that a run can be had again; another one explores further. */
const seed = Number(process.env['ROLLCALL_FUZZ_SEED'] ?? 20_310_101);

/** How many inputs a target gets in a long run. */
export const manyInputs = Number(process.env['ROLLCALL_FUZZ_INPUTS'] ?? 100_000);

/** Runs a target with this many inputs and returns the outcomes. */
export async function fuzz(t: Test, target: Target, inputs: number): Promise<string> {
  const outcomes = new Map<string, number>();
  const start = performance.now();
  const property = fc.asyncProperty(target.inputs, async input => {
    const outcome = await target.check(input);
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  });
  const result = await withoutTraces(() =>
    fc.check(property, { seed, numRuns: Math.ceil(inputs / (target.weight ?? 1)) }),
  );
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  const counts = [...outcomes].sort(([, one], [, other]) => other - one).map(pair => pair.join(' '));
  const report = `${target.name}: ${result.numRuns} inputs, ${seconds} s: ${counts.join(', ')}`;
  if (result.failed) t.fail(await failureOf(target, result));
  else if (result.numRuns < 200 || target.reaches.every(outcome => outcomes.has(outcome))) t.pass(report);
  else t.fail(`${report}; wanted among them ${target.reaches.join(', ')}`);
  return report;
}

/** Most inputs are refused, and where each error came from would take more time than all the parsing. */
async function withoutTraces<T>(work: () => Promise<T>): Promise<T> {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    return await work();
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

async function failureOf(target: Target, result: fc.RunDetails<[Buffer]>): Promise<string> {
  const [input = Buffer.of()] = result.counterexample ?? [];
  const error = await Promise.resolve(input)
    .then(target.check)
    .then(
      outcome => `the second time: ${outcome}; at first: ${String(result.errorInstance)}`,
      (thrown: unknown) => (thrown instanceof Error ? thrown.stack : String(thrown)),
    );
  return [
    `${target.name}, ROLLCALL_FUZZ_SEED=${seed}, path ${result.counterexamplePath ?? ''}`,
    `as text ${JSON.stringify(input.toString())}`,
    `as hex ${input.toString('hex')}`,
    error ?? '',
  ].join('\n');
}

interface Kept {
  readonly target: string;
  readonly note: string;
  readonly text?: string;
  readonly hex?: string;
  /** How often the text or the bytes are repeated; once by default. */
  readonly times?: number;
}

/** Gives each target the inputs that were kept for it. */
export async function replayCorpus(t: Test, targets: readonly Target[]): Promise<void> {
  const folder = new URL('corpus/', import.meta.url);
  const byName = new Map(targets.map(target => [target.name, target]));
  for (const file of readdirSync(folder)
    .filter(name => name.endsWith('.json'))
    .sort()) {
    const kept = JSON.parse(readFileSync(new URL(file, folder), 'utf8')) as readonly Kept[];
    for (const entry of kept) {
      const target = byName.get(entry.target);
      if (target) await t.resolves(replay(target, entry), `${entry.target}: ${entry.note}`);
      else t.fail(`${file}: no target ${entry.target}`);
    }
  }
}

async function replay(target: Target, { text, hex, times = 1 }: Kept): Promise<void> {
  const part = text === undefined ? Buffer.from(hex ?? '', 'hex') : Buffer.from(text);
  await target.check(Buffer.concat(Array.from({ length: times }, () => part)));
}

/** The result of a parser, or its refusal. Any other error, or one with another code, is a failure of the parser. */
export function tried<T>(
  parse: () => T,
  ...codes: readonly ErrorCode[]
): { readonly value: T } | { readonly refusal: RollcallError } {
  try {
    return { value: parse() };
  } catch (error) {
    if (!isRollcallError(error) || !codes.includes(error.code)) throw error;
    checkWords(error.message);
    checkWords(error.hint ?? '');
    return { refusal: error };
  }
}

/** Messages contain no control characters; only configuration errors have several lines. */
export function checkWords(words: string): void {
  demand(
    !/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\p{Cs}]/u.test(words),
    `controls in ${JSON.stringify(words)}`,
  );
}

export function demand(holds: boolean, promise: string): asserts holds {
  if (!holds) throw new Error(`broken promise: ${promise}`);
}
