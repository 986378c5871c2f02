/**
 * Changes valid samples step by step, without knowing what they are: flips, cuts, repeats, splices, NULs, lengths that
 * lie. A step is three numbers, so that a failing list of steps can be shrunk.
 */
import fc from 'fast-check';

export interface Step {
  /** The kind of change, modulo the number of kinds. */
  readonly kind: number;
  /** The position, modulo the number of positions. */
  readonly at: number;
  /** The bytes to use. */
  readonly value: number;
}

const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.noBias(fc.nat()),
  at: fc.noBias(fc.nat()),
  value: fc.noBias(fc.nat()),
});

/** Often one, seldom many: most changes end in a refusal, and what comes after it is not reached. */
export const steps: fc.Arbitrary<readonly Step[]> = fc.oneof(
  { weight: 3, arbitrary: fc.array(step, { maxLength: 1 }) },
  { weight: 2, arbitrary: fc.array(step, { maxLength: 2 }) },
  { weight: 1, arbitrary: fc.array(step, { maxLength: 8 }) },
);

/** No parser here takes more, except files, which have limits of their own. */
const longest = 128 * 1024;

const hex = (text: string) => Buffer.from(text, 'hex');
const fragments: readonly Buffer[] = [
  ...['00', 'ff', '7f', '80', '0000', 'ffffffff', '7fffffff', '80000000', '00000000'].map(hex),
  ...['0a', '0d0a', '20', '09', 'efbbbf', 'fffe', 'c080', 'eda080', 'f09f9880', 'e280ae', '1b5b324a'].map(
    hex,
  ),
  // Lengths: DER's long and indefinite ones, a varint of five and one of ten bytes; a start of a group.
  ...['84ffffffff', '8400000001', '3080', '0a8080808010', 'ffffffffffffffffff01', '0b', '0c'].map(hex),
];

/** Of a list that is not empty. */
export function pick<T>(list: readonly T[], number: number): T {
  const found = list[number % list.length];
  if (found === undefined) throw new Error('an empty list');
  return found;
}

function splice(bytes: Buffer, at: number, removed: number, ...inserted: readonly Buffer[]): Buffer {
  return Buffer.concat([bytes.subarray(0, at), ...inserted, bytes.subarray(at + removed)]);
}

type Change = (bytes: Buffer, at: number, value: number, pool: readonly Buffer[]) => Buffer;

const changes: readonly Change[] = [
  (bytes, at, value) => splice(bytes, at, 1, Buffer.of((bytes[at] ?? 0) ^ (1 << (value % 8)))),
  (bytes, at, value) => splice(bytes, at, 1, Buffer.of(value & 0xff)),
  (bytes, at, value) => splice(bytes, at, 0, pick(fragments, value)),
  (bytes, at, value) => splice(bytes, at, pick(fragments, value).length, pick(fragments, value)),
  (bytes, at, value) => splice(bytes, at, 1 + (value % 40)),
  (bytes, at, value) => splice(bytes, at, 0, bytes.subarray(at, at + 1 + (value % 40))),
  (bytes, at) => bytes.subarray(0, at),
  (bytes, at) => bytes.subarray(at),
  (bytes, at, value, pool) => {
    const other = pick(pool, value);
    return Buffer.concat([bytes.subarray(0, at), other.subarray(value % (other.length + 1))]);
  },
  (bytes, at, value, pool) => splice(bytes, at, 0, pick(pool, value)),
  (bytes, _at, value) => Buffer.concat([bytes, pick(fragments, value)]),
  (bytes, at, value) => {
    const unit = bytes.subarray(at, at + 1 + (value % 3));
    // Deep nesting and great sizes, but not in every input: they cost the most.
    const times = value % 31 === 0 ? 10_000 : value % 200;
    return splice(bytes, at, 0, ...Array.from({ length: times }, () => unit));
  },
];

/** The bytes after the steps; `pool` are other samples to splice with. */
export function changeBytes(bytes: Buffer, list: readonly Step[], pool: readonly Buffer[] = [bytes]): Buffer {
  return list.reduce<Buffer>((current, { kind, at, value }) => {
    const changed = pick(changes, kind)(current, at % (current.length + 1), value, pool);
    return changed.subarray(0, longest);
  }, bytes);
}

/** A sample after some steps. */
export function changedBytes(samples: readonly Buffer[]): fc.Arbitrary<Buffer> {
  return fc
    .tuple(fc.noBias(fc.nat()), steps)
    .map(([sample, list]) => changeBytes(pick(samples, sample), list, samples));
}
