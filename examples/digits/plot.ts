/**
 * Draws the accuracy of a run by round: `npm run digits:plot -- result.json --out accuracy.svg`. The JSON is what
 * `rollcall runs show ID --json` prints, or the result of the run alone. The picture follows the reader's light or dark scheme.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { runAsScript, UsageError } from './as-script.js';

const usage = `usage: npm run digits:plot -- RESULT.json [--out FILE]

Draws the accuracy by round. RESULT.json is what "rollcall runs show ID --json" prints.

  --out FILE   where to write the SVG (default accuracy.svg)
  --help       show this
`;

export interface Round {
  readonly round: number;
  /** 0 to 1. */
  readonly accuracy: number;
  readonly loss: number;
}

/** Throws an Error that says what is missing. */
export function readRounds(text: string): Round[] {
  const rounds = findRounds(JSON.parse(text));
  if (!Array.isArray(rounds) || rounds.length === 0 || !rounds.every(isRound))
    throw new Error('this is no result of a run of digits: it has no "rounds" with an accuracy each');
  return rounds;
}

/** A run has its result among other facts. */
function findRounds(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  if ('rounds' in value) return value.rounds;
  return 'result' in value ? findRounds(value.result) : undefined;
}

function isRound(value: unknown): value is Round {
  if (typeof value !== 'object' || value === null) return false;
  const { round, accuracy, loss } = value as Partial<Record<string, unknown>>;
  const isAccuracy = typeof accuracy === 'number' && accuracy >= 0 && accuracy <= 1;
  return Number.isSafeInteger(round) && isAccuracy && typeof loss === 'number';
}

const width = 760;
const height = 420;
const frame = { left: 76, right: width - 36, top: 92, bottom: height - 64 } as const;

const style = `
    text { font: 13px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; fill: #57606a }
    .paper { fill: #ffffff } .grid { stroke: #d8dee4 } .axis { stroke: #8c959f }
    .line { fill: none; stroke: #0969da; stroke-width: 2.5; stroke-linejoin: round }
    .area { fill: #0969da; opacity: 0.08 } .dot { fill: #ffffff; stroke: #0969da; stroke-width: 2.5 }
    .heading { font-size: 19px; font-weight: 600; fill: #1f2328 } .value { font-weight: 600; fill: #1f2328 }
    .value { paint-order: stroke; stroke: #ffffff; stroke-width: 4; stroke-linejoin: round }
    @media (prefers-color-scheme: dark) {
      text { fill: #9198a1 } .paper { fill: #0d1117 } .grid { stroke: #262c36 } .axis { stroke: #656c76 }
      .line { stroke: #58a6ff } .area { fill: #58a6ff } .dot { fill: #0d1117; stroke: #58a6ff }
      .heading, .value { fill: #f0f6fc } .value { stroke: #0d1117 }
    }`;

/** A whole SVG document. */
export function drawAccuracy(rounds: readonly Round[]): string {
  const scale = createScale(rounds);
  const points = rounds.map(({ round, accuracy }) => `${scale.x(round)},${scale.y(accuracy)}`);
  const [first = ''] = points[0]?.split(',') ?? [];
  const [last = ''] = points.at(-1)?.split(',') ?? [];
  const final = percent(rounds.at(-1)?.accuracy ?? 0, 1);
  const count = rounds.length === 1 ? '1 round' : `${rounds.length} rounds`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-labelledby="heading">
  <title id="heading">Accuracy by round: ${final} after ${count}</title>
  <style>${style}
  </style>
  <rect class="paper" width="${width}" height="${height}" rx="8"/>
  ${label(frame.left, 40, 'Accuracy by round', { kind: 'heading', anchor: 'start' })}
  ${label(frame.left, 64, `Handwritten digits that no node has trained on: ${final} right after ${count}`, { anchor: 'start' })}
  ${scale.levels.map(level => drawLevel(level, scale.y(level))).join('\n  ')}
  <path class="axis" d="M${frame.left} ${frame.bottom}H${frame.right}"/>
  ${scale.ticks.map(round => label(scale.x(round), frame.bottom + 24, String(round))).join('\n  ')}
  ${label((frame.left + frame.right) / 2, height - 16, 'round')}
  <polygon class="area" points="${first},${frame.bottom} ${points.join(' ')} ${last},${frame.bottom}"/>
  <polyline class="line" points="${points.join(' ')}"/>
  ${rounds.map((round, at) => drawPoint(round, scale, at === rounds.length - 1 || rounds.length <= 10)).join('\n  ')}
</svg>
`;
}

interface Scale {
  /** Accuracies with a line across. */
  readonly levels: readonly number[];
  /** Rounds with a number below. */
  readonly ticks: readonly number[];
  x(round: number): number;
  y(accuracy: number): number;
}

/** From the ten below the lowest accuracy up to 100 %. */
function createScale(rounds: readonly Round[]): Scale {
  const lowest = Math.min(...rounds.map(({ accuracy }) => accuracy));
  const floor = Math.min(Math.floor(lowest * 10), 9) / 10;
  const step = 1 - floor > 0.35 ? 0.1 : 0.05;
  const numbers = rounds.map(({ round }) => round);
  const [from, to] = [Math.min(...numbers), Math.max(...numbers)];
  const every = Math.ceil(rounds.length / 15);
  const inset = 34;
  const roomX = frame.right - frame.left - 2 * inset;
  return {
    levels: Array.from({ length: Math.round((1 - floor) / step) + 1 }, (_, at) => floor + at * step),
    ticks: numbers.filter((_, at) => at % every === 0),
    x: round =>
      tenth(frame.left + inset + (to === from ? roomX / 2 : ((round - from) / (to - from)) * roomX)),
    y: accuracy => tenth(frame.bottom - ((accuracy - floor) / (1 - floor)) * (frame.bottom - frame.top)),
  };
}

function drawLevel(level: number, y: number): string {
  return `<path class="grid" d="M${frame.left} ${y}H${frame.right}"/>${label(frame.left - 12, y + 4.5, percent(level, 0), { anchor: 'end' })}`;
}

function drawPoint({ round, accuracy, loss }: Round, scale: Scale, hasLabel: boolean): string {
  const [x, y] = [scale.x(round), scale.y(accuracy)];
  const hint = `round ${round}: ${percent(accuracy, 1)}, loss ${loss.toFixed(3)}`;
  const dot = `<circle class="dot" cx="${x}" cy="${y}" r="4.5"><title>${hint}</title></circle>`;
  return hasLabel ? `${dot}${label(x, y - 15, percent(accuracy, 1), { kind: 'value' })}` : dot;
}

function label(
  x: number,
  y: number,
  text: string,
  { kind, anchor = 'middle' }: { kind?: 'heading' | 'value'; anchor?: 'start' | 'middle' | 'end' } = {},
): string {
  const classes = kind === undefined ? '' : ` class="${kind}"`;
  return `<text x="${tenth(x)}" y="${tenth(y)}" text-anchor="${anchor}"${classes}>${text}</text>`;
}

function percent(share: number, digits: number): string {
  return `${(100 * share).toFixed(digits)} %`;
}

function tenth(value: number): number {
  return Math.round(value * 10) / 10;
}

await runAsScript(import.meta.url, usage, async argv => {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: { out: { type: 'string', default: 'accuracy.svg' } },
  });
  const [file, ...more] = positionals;
  if (file === undefined || more.length > 0) throw new UsageError('give one file: the result of a run');
  await writeFile(values.out, drawAccuracy(readRounds(await readFile(file, 'utf8'))));
  console.log(`wrote ${values.out}`);
});
