/**
 * Contents too large for a frame: a large one for ten nodes, and many that are just too large, each for one of them.
 */
import { startBare } from '../bare/bare.js';
import { runBareJob } from '../bare/sending.js';
import type { Figure, Measured } from '../figures.js';
import type { ObjectReading } from '../fleet/orders.js';
import { registerAll, startLink } from '../link.js';
import { settledKib, type Program } from '../programs.js';
import { runJob, type JobConfig } from '../runs.js';
import type { Stage } from '../stage.js';
import { forgetPeak, peakKib, residentKib } from '../usage.js';
import type { Row } from './row.js';

export const objectsRow: Row = {
  name: 'objects',
  about: 'objects of a run: one of 1 GiB for 10 nodes, 1,000 of 64 KiB',
  run: measureObjects,
};

const nodes = 10;
const mebibyte = 1024 * 1024;
/** As an array in a content just too large for a frame. */
const manyBytes = 65 * 1024;

interface Sizes {
  readonly largeBytes: number;
  readonly largeRounds: number;
  readonly many: number;
  readonly manyRounds: number;
}

const full: Sizes = { largeBytes: 1024 * mebibyte, largeRounds: 1, many: 1_000, manyRounds: 3 };
const quick: Sizes = { largeBytes: 16 * mebibyte, largeRounds: 1, many: 50, manyRounds: 1 };

interface Round {
  /** From the first byte of the sender until all of it was on the disk, ms; 0 where nothing is stored. */
  readonly writtenMs: number;
  /** From then on until the last node had it, ms. */
  readonly readMs: number;
  /** Of the server, for all of it. */
  readonly cpuMs: number;
  /** The maximum that the server held, above its memory before, MiB. */
  readonly peakMib: number;
}

interface Measurements {
  readonly large: readonly Round[];
  readonly many: readonly Round[];
}

/** A server with ten nodes. */
interface Site {
  readonly name: string;
  readonly program: Program;
  readonly job: (config: JobConfig) => Promise<{ startedAt: number; endedAt: number; cpuMs: number }>;
}

async function measureObjects(stage: Stage): Promise<Figure[]> {
  const sizes = stage.place.isQuick ? quick : full;
  const ours = await measureLink(stage, sizes);
  const bare = await measureBare(stage, sizes);
  return figuresOf(sizes, ours, bare);
}

async function measureLink(stage: Stage, sizes: Sizes): Promise<Measurements> {
  const { place, fleet } = stage;
  const link = await startLink(place, { name: 'objects', hostsApps: true });
  place.onClose(() => link.stop());
  const crew = { crew: 'objects', from: 0, to: nodes };
  await fleet.aim({ ...crew, dialect: 'rollcall', port: link.nodePort });
  await registerAll(link, await fleet.grow({ ...crew, count: nodes, curve: 'P-256' }));
  await fleet.enroll(crew);
  await fleet.connect(crew);
  const { program } = link;
  const site: Site = { name: 'the link', program, job: config => runJob(place, link, config) };
  const measured = await measureSite(stage, sizes, site);
  await fleet.leave(crew);
  await link.stop();
  return measured;
}

async function measureBare(stage: Stage, sizes: Sizes): Promise<Measurements> {
  const { place, fleet } = stage;
  const bare = await startBare(place, stage.authorityFile, { isQuiet: true });
  const crew = { crew: 'objects-bare', from: 0, to: nodes };
  await stage.certified(crew.crew, nodes, 'bare', bare.nodePort);
  await fleet.connect(crew);
  const names = Array.from({ length: nodes }, (_, index) => `${index + 1}`);
  const { program } = bare;
  const site: Site = { name: 'bare grpc-js', program, job: config => runBareJob(bare, names, config) };
  const measured = await measureSite(stage, sizes, site);
  await program.stop('SIGKILL');
  return measured;
}

async function measureSite(stage: Stage, sizes: Sizes, site: Site): Promise<Measurements> {
  const large: JobConfig = { job: 'object', nodes, 'size-bytes': sizes.largeBytes };
  const many: JobConfig = { job: 'objects', nodes, messages: sizes.many, 'size-bytes': manyBytes };
  const warming: JobConfig = { ...many, messages: 50 };
  await measureRound(stage, site, warming);
  const rounds = { large: [] as Round[], many: [] as Round[] };
  for (let at = 0; at < sizes.manyRounds; at += 1) rounds.many.push(await measureRound(stage, site, many));
  for (let at = 0; at < sizes.largeRounds; at += 1) rounds.large.push(await measureRound(stage, site, large));
  return rounds;
}

async function measureRound(
  { place, fleet }: Stage,
  { name, program, job }: Site,
  config: JobConfig,
): Promise<Round> {
  const { messages = 1, 'size-bytes': sizeBytes = 0 } = config;
  place.progress(`objects: ${name}, ${messages} of ${(sizeBytes / mebibyte).toFixed(2)} MiB`);
  await settledKib(program, true, place.isQuick);
  await fleet.delivered({});
  forgetPeak(program.pid);
  const beforeKib = residentKib(program.pid);
  const { startedAt, endedAt, cpuMs } = await job(config);
  const { readings } = await fleet.delivered({});
  const readFrom = Math.min(...readings.map((reading: ObjectReading) => reading.startedAt));
  return {
    writtenMs: readFrom - startedAt,
    readMs: endedAt - readFrom,
    cpuMs,
    peakMib: (peakKib(program.pid) - beforeKib) / 1024,
  };
}

function figuresOf({ largeBytes, many }: Sizes, ours: Measurements, bare: Measurements): Figure[] {
  const largeMib = largeBytes / mebibyte;
  const what = `one object of ${largeMib} MiB for ${nodes} nodes`;
  const reading = ({ large }: Measurements): Measured => ({
    samples: large.map(({ readMs }) => ((largeMib * nodes) / readMs) * 1000),
    cpuMs: large.map(({ cpuMs }) => cpuMs / largeMib / nodes),
  });
  const whole = ({ many: rounds }: Measurements): Measured => ({
    samples: rounds.map(({ writtenMs, readMs }) => (many / (writtenMs + readMs)) * 1000),
    cpuMs: rounds.map(({ cpuMs }) => cpuMs / many),
  });
  const peak = (rounds: readonly Round[]): Measured => ({ samples: rounds.map(({ peakMib }) => peakMib) });
  return [
    {
      id: 'objects.large.write',
      title: `${what}: server half → on the disk of the link`,
      unit: 'MiB/s',
      samples: ours.large.map(({ writtenMs }) => (largeMib / writtenMs) * 1000),
      note: 'hashed by the server half and again by the link, and synced',
    },
    {
      id: 'objects.large.read',
      title: `${what}: link → all nodes, together`,
      unit: 'MiB/s',
      ...reading(ours),
      beside: { 'bare grpc-js': reading(bare) },
      note: 'CPU is that of the server for each MiB that was sent, for the link with its share of writing; the fleet, which hashes all of it, has one core for ten nodes; bare sends from memory',
    },
    {
      id: 'objects.large.memory',
      title: `${what}: the most memory the server held, above what it had before`,
      unit: 'MiB',
      ...peak(ours.large),
      beside: { 'bare grpc-js': peak(bare.large) },
    },
    {
      id: 'objects.many.rate',
      title: `objects of ${manyBytes / 1024} KiB a second: stored, read by a node, answered`,
      unit: '/s',
      ...whole(ours),
      beside: { 'bare grpc-js': whole(bare) },
      note: `${many} of them for ${nodes} nodes; each one is a chunk and a manifest, synced one after the other; bare stores nothing`,
    },
    {
      id: 'objects.many.memory',
      title: `${many} objects of ${manyBytes / 1024} KiB: the most memory the server held, above what it had before`,
      unit: 'MiB',
      ...peak(ours.many),
      beside: { 'bare grpc-js': peak(bare.many) },
    },
  ];
}
