/** The effect of attacks on honest callers, here and, beside it, with the link of another checkout. */
import { measureAttack, type Attack } from '../attacks/attack.js';
import { measureLogins } from '../attacks/logins.js';
import { measureLogFlood } from '../attacks/logs.js';
import { silentSockets, unendingFrames } from '../attacks/strangers.js';
import { slowUploads } from '../attacks/uploads.js';
import { unreadWatches } from '../attacks/watches.js';
import type { Figure } from '../figures.js';
import type { Stage } from '../stage.js';
import { baselineOf, type Workplace } from '../workplace.js';
import type { Row } from './row.js';

type Measure = (place: Workplace) => Promise<Figure[]>;

const attacks: readonly Attack[] = [unreadWatches, slowUploads, unendingFrames, silentSockets];
const measures: readonly Measure[] = [
  ...attacks.map(
    (attack): Measure =>
      place =>
        measureAttack(place, attack),
  ),
  measureLogs,
  measureLogins,
];

export const attacksRow: Row = {
  name: 'attacks',
  about:
    'latency of honest operators and nodes under attack; --baseline DIR: beside the link of that checkout',
  isLong: true,
  async run({ place }: Stage) {
    const figures: Figure[] = [];
    for (const measure of measures) {
      const ours = await measure(place);
      const baseline = baselineOf(place);
      const theirs = baseline ? await measure(baseline) : [];
      figures.push(...ours.map(figure => withBaseline(figure, theirs)));
    }
    return figures;
  },
};

function withBaseline(figure: Figure, theirs: readonly Figure[]): Figure {
  const before = theirs.find(({ id }) => id === figure.id);
  if (!before) return figure;
  const { samples, cpuMs } = before;
  const notes = [figure.note, before.note === undefined ? undefined : `baseline: ${before.note}`];
  return {
    ...figure,
    beside: { baseline: { samples, ...(cpuMs && { cpuMs }) } },
    note: notes.filter(each => each !== undefined).join('. '),
  };
}

async function measureLogs(place: Workplace): Promise<Figure[]> {
  place.progress('logs: a node floods the log of a run with frames of empty lines');
  const flood = { lines: 39_000, textLength: 0, seconds: place.isQuick ? 2 : 10 };
  const { flooded, frames } = await measureLogFlood(place, flood);
  const figure = (id: string, title: string, samples: readonly number[]): Figure => ({
    ...{ id: `attack.logs.${id}`, title: `${title}, a node sends log frames of 39,000 empty lines` },
    ...{ unit: 'ms', samples, note: `${frames} frames were handed over` },
  });
  return [
    figure('healthz', 'operator who comes anew', flooded.healthzMs),
    figure('round-trip', 'round trip of another node', flooded.roundTripMs),
  ];
}
