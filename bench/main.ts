/**
 * Measures the promises of the link, on this machine, beside a bare grpc-js server and the servers that are
 * installed. See bench/README.md for the method.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { Figure } from './figures.js';
import { describeMachine, formatComparison, formatTable, reportOf, type Report } from './report.js';
import { startProgram } from './programs.js';
import { agentRow } from './rows/agent.js';
import { attacksRow } from './rows/attacks.js';
import { connectRow } from './rows/connect.js';
import { enrollRow } from './rows/enroll.js';
import { idleRow } from './rows/idle.js';
import { objectsRow } from './rows/objects.js';
import { reconnectRow } from './rows/reconnect.js';
import { registryRow } from './rows/registry.js';
import { revokeRow } from './rows/revoke.js';
import type { Row } from './rows/row.js';
import { runsRow } from './rows/runs.js';
import { stoppedRow } from './rows/stopped.js';
import { tokensRow } from './rows/tokens.js';
import { createStage, type Stage } from './stage.js';
import { openWorkplace, type Workplace } from './workplace.js';

const rows: readonly Row[] = [
  agentRow,
  stoppedRow,
  revokeRow,
  enrollRow,
  connectRow,
  idleRow,
  reconnectRow,
  registryRow,
  tokensRow,
  runsRow,
  objectsRow,
  attacksRow,
];

const rowLimitMs = 15 * 60_000;

const usage = `usage: npm run bench -- [--quick] [--only ROW]... [--json FILE] [--compare OLD.json] [--cpu-prof DIR] [--baseline DIR] [--busy]

  --quick         small sizes, for trying out the bench; the figures are meaningless
  --only ROW      run only this row; may be repeated
  --json FILE     also write the results to this file
  --compare FILE  compare them with those of an earlier run
  --cpu-prof DIR  write a .cpuprofile of every link there; this slows the links down
  --baseline DIR  another checkout, built: the row attacks also measures its link
  --busy          a second program uses every core beside, so that all subjects wait for the processor

Rows:
${rows.map(({ name, about }) => `  ${name.padEnd(14)}  ${about}`).join('\n')}
`;

interface Wishes {
  readonly isQuick: boolean;
  readonly rows: readonly Row[];
  readonly jsonFile: string | undefined;
  readonly old: Report | undefined;
  readonly profileFolder: string | undefined;
  readonly baselineCommand: string | undefined;
  readonly isBusy: boolean;
}

/** Undefined when help was asked for. */
async function readWishes(): Promise<Wishes | undefined> {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      only: { type: 'string', multiple: true },
      json: { type: 'string' },
      compare: { type: 'string' },
      'cpu-prof': { type: 'string' },
      baseline: { type: 'string' },
      busy: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return undefined;
  const unknown = values.only?.find(name => !rows.some(row => row.name === name));
  if (unknown !== undefined) throw new Error(`there is no row ${unknown}; --help lists them`);
  const isWanted = ({ name, isLong }: Row): boolean =>
    values.only?.includes(name) ?? !(values.quick && isLong);
  const profileFolder = values['cpu-prof'] === undefined ? undefined : resolve(values['cpu-prof']);
  if (profileFolder !== undefined) mkdirSync(profileFolder, { recursive: true });
  return {
    isQuick: values.quick,
    rows: rows.filter(isWanted),
    jsonFile: values.json,
    // Read before an hour is spent on a run that cannot be compared.
    old:
      values.compare === undefined
        ? undefined
        : (JSON.parse(await readFile(values.compare, 'utf8')) as Report),
    profileFolder,
    isBusy: values.busy,
    baselineCommand: values.baseline && resolve(values.baseline, 'dist/src/cli/main.js'),
  };
}

interface Measurements {
  readonly figures: Figure[];
  /** Rows that could not be measured. */
  readonly failed: string[];
}

async function measure(wishes: Wishes, keep: (place: Workplace) => void): Promise<Measurements> {
  const figures: Figure[] = [];
  const failed: string[] = [];
  let stage: Stage | undefined;
  for (const row of wishes.rows) {
    stage ??= await openStage(wishes, keep);
    const { place } = stage;
    place.progress(`${row.name}: ${row.about}`);
    try {
      figures.push(...(await withinTime(row.run(stage))));
    } catch (error) {
      // A failed row does not end the others: they begin anew, with nothing of it still running.
      failed.push(row.name);
      console.error(`error: the row ${row.name} failed:`, error);
      await place.close();
      stage = undefined;
    }
  }
  return { figures, failed };
}

async function openStage(wishes: Wishes, keep: (place: Workplace) => void): Promise<Stage> {
  const place = await openWorkplace(wishes);
  keep(place);
  if (wishes.isBusy) keepBusy(place);
  return createStage(place);
}

/** One process for each core, which does nothing but use it. */
function keepBusy(place: Workplace): void {
  for (let core = 0; core < availableParallelism(); core += 1) {
    const program = startProgram(process.execPath, ['-e', 'for (;;);'], {
      logFile: join(place.folder, 'busy.log'),
    });
    place.onClose(() => program.stop('SIGKILL'));
  }
}

/** A row that hangs has failed. */
function withinTime<T>(running: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const late = (): void => reject(new Error(`not done after ${rowLimitMs / 60_000} minutes`));
    const timer = setTimeout(late, rowLimitMs);
    running.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

async function main(): Promise<number> {
  const wishes = await readWishes();
  if (!wishes) {
    console.log(usage);
    return 0;
  }
  const machine = describeMachine();
  let place: Workplace | undefined;
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => void place?.close().finally(() => process.exit(1)));
  }
  try {
    const { figures, failed } = await measure(wishes, opened => (place = opened));
    const report = reportOf(figures, machine, wishes.isQuick);
    console.log(`\n${formatTable(report)}`);
    if (wishes.old) console.log(formatComparison(report, wishes.old));
    if (wishes.jsonFile !== undefined)
      await writeFile(wishes.jsonFile, `${JSON.stringify(report, undefined, 2)}\n`);
    return failed.length === 0 ? 0 : 1;
  } finally {
    await place?.close();
  }
}

main().then(
  code => process.exit(code),
  (error: unknown) => {
    console.error(`error: ${error instanceof Error ? error.message : String(error)}`);
    process.exit(2);
  },
);
