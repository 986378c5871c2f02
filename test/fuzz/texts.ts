/** Changes text word by word and line by line, with a dictionary of what the format knows; and byte by byte. */
import fc from 'fast-check';
import { changeBytes, pick, steps, type Step } from './bytes.js';

type Change = (parts: string[], at: number, value: number, words: readonly string[]) => void;

const changes: readonly Change[] = [
  (parts, at, value, words) => void parts.splice(at, 1, pick(words, value)),
  (parts, at, value, words) => void parts.splice(at, 0, pick(words, value)),
  (parts, at) => void parts.splice(at, 1),
  (parts, at) => void parts.splice(at, 0, parts[at] ?? ''),
  (parts, at, value) => {
    const other = value % parts.length;
    [parts[at], parts[other]] = [parts[other] ?? '', parts[at] ?? ''];
  },
  (parts, at, value, words) => {
    const times = value % 29 === 0 ? 5_000 : value % 50;
    parts.splice(at, 0, pick(words, value).repeat(times));
  },
];

/** Words, and what stands between them. */
const boundary = /(\s+|[=:,;"'#{}[\]()/.@<>&*!|-])/;

function changeWords(text: string, list: readonly Step[], words: readonly string[]): string {
  const parts = text.split(boundary).filter(part => part !== '');
  for (const { kind, at, value } of list) {
    if (parts.length === 0) parts.push('');
    pick(changes, kind)(parts, at % parts.length, value, words);
  }
  return parts.join('');
}

/** A sample after some steps by words, then some by bytes. */
export function changedTexts(samples: readonly string[], words: readonly string[]): fc.Arbitrary<Buffer> {
  const pool = samples.map(text => Buffer.from(text));
  const byBytes = fc.oneof({ weight: 2, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: steps });
  return fc
    .tuple(fc.noBias(fc.nat()), steps, byBytes)
    .map(([sample, wordSteps, byteSteps]) =>
      changeBytes(Buffer.from(changeWords(pick(samples, sample), wordSteps, words)), byteSteps, pool),
    );
}
