/**
 * Deals the digits out to nodes: `npm run digits:split -- --parts 2 --out datasets`. Every digit goes to exactly one part, and there
 * to learn from (`train.csv`) or to be measured on (`holdout.csv`, every fifth). The same seed deals them out in the same way.
 */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { as } from '../../src/base/settings.js';
import { createRandom } from './app/network.js';
import { readArgument, runAsScript } from './as-script.js';

const usage = `usage: npm run digits:split -- [--parts N] [--out DIR]

Writes DIR/part_1/train.csv, DIR/part_1/holdout.csv, DIR/part_2/train.csv and so on, and says what each node is to be told.

  --parts N    how many nodes there will be, 1 to 100 (default 2)
  --out DIR    where to write (default datasets)
  --help       show this
`;

const source = join(import.meta.dirname, 'data/digits.csv.gz');
const seed = 1998;
const holdoutEvery = 5;
const unzip = promisify(gunzip);

export interface DigitsPart {
  readonly folder: string;
  /** How many digits there are in each of its two files. */
  readonly train: number;
  readonly holdout: number;
  /** The node configuration of its node. */
  readonly nodeConfig: string;
}

/** Writes the parts over what an earlier call with as many parts wrote. */
export async function splitDigits({ parts, out }: { parts: number; out: string }): Promise<DigitsPart[]> {
  const text = (await unzip(await readFile(source))).toString('utf8');
  const [header = '', ...rows] = text.trimEnd().split('\n');
  shuffle(rows, createRandom(seed));
  await refuseLeftovers(out, parts);
  const dealt = Array.from({ length: parts }, (_, part) => rows.filter((_row, at) => at % parts === part));
  return Promise.all(dealt.map((own, part) => writePart(join(out, `part_${part + 1}`), header, own)));
}

async function writePart(folder: string, header: string, rows: readonly string[]): Promise<DigitsPart> {
  const holdout = rows.filter((_, at) => at % holdoutEvery === 0);
  const train = rows.filter((_, at) => at % holdoutEvery !== 0);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'train.csv'), `${[header, ...train].join('\n')}\n`);
  await writeFile(join(folder, 'holdout.csv'), `${[header, ...holdout].join('\n')}\n`);
  return {
    folder,
    train: train.length,
    holdout: holdout.length,
    nodeConfig: `dataset-path=${JSON.stringify(folder)}`,
  };
}

function shuffle(rows: string[], random: () => number): void {
  for (let last = rows.length - 1; last > 0; last -= 1) {
    const other = Math.floor(random() * (last + 1));
    [rows[last], rows[other]] = [rows[other] ?? '', rows[last] ?? ''];
  }
}

/** Parts of another division would hold digits that are in the new parts too. */
async function refuseLeftovers(out: string, parts: number): Promise<void> {
  const names = await readdir(out).catch(() => []);
  const left = names.filter(name => Number(/^part_(\d+)$/.exec(name)?.[1] ?? 0) > parts);
  if (left.length > 0)
    throw new Error(`there is ${left.join(', ')} in ${out}, from another division: remove it first`);
}

await runAsScript(import.meta.url, usage, async argv => {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      parts: { type: 'string', default: '2' },
      out: { type: 'string', default: 'datasets' },
    },
  });
  const parts = readArgument('--parts', as.integer(1, 100), values.parts);
  for (const { folder, train, holdout, nodeConfig } of await splitDigits({ parts, out: values.out }))
    console.log(`${folder}: ${train} to learn from, ${holdout} held out; --node-config '${nodeConfig}'`);
});
