/**
 * Messages of a run: from the server half of an app, through its app host and the link, to nodes and back. On the way
 * each of them is on the disk twice; beside, a bare server forwards messages, and forgets them.
 */
import { closeSync, fdatasyncSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { NodeStatus } from '../../src/protocol/generated/rollcall/v1/control.js';
import { startBare, type Bare } from '../bare/bare.js';
import { runBareJob } from '../bare/sending.js';
import type { Figure, Measured } from '../figures.js';
import { registerAll, startLink, watchNodes, type BenchLink } from '../link.js';
import { startProgram, type Program } from '../programs.js';
import { benchApp, runJob, type JobConfig } from '../runs.js';
import type { Stage } from '../stage.js';
import { now } from '../usage.js';
import { registerAgent, startBareAgent } from './agent.js';
import type { Row } from './row.js';

export const runsRow: Row = {
  name: 'runs',
  about: 'messages of a run with 1,000 nodes: latency, how many a second, empty rounds',
  run: measureRuns,
};

interface Sizes {
  readonly nodes: number;
  readonly rounds: number;
  /** In each round, at a steady pace. */
  readonly paced: number;
  /** In each round, at once. */
  readonly saturating: number;
  readonly roundNodes: readonly number[];
  readonly emptyRounds: number;
}

const full: Sizes = {
  nodes: 1_000,
  rounds: 3,
  paced: 5_000,
  saturating: 20_000,
  roundNodes: [2, 10, 100],
  emptyRounds: 100,
};
const quick: Sizes = {
  nodes: 20,
  rounds: 1,
  paced: 200,
  saturating: 500,
  roundNodes: [2, 10, 20],
  emptyRounds: 5,
};
const rate = 500;

/** A link with nodes, or a bare server with theirs: runs a job and returns the result of its server half. */
type Doing = <Result>(config: JobConfig) => Promise<Result>;

interface Latency {
  readonly enteredMs: number[];
  readonly replyMs: number[];
  /** For each message. */
  readonly cpuMs: number[];
}

interface Measurements {
  readonly latency: Latency;
  readonly saturated: Measured;
  /** By the number of nodes. */
  readonly rounds: ReadonlyMap<number, Measured>;
  /** With two processes. */
  readonly agents: Measured;
}

async function measureRuns(stage: Stage): Promise<Figure[]> {
  const { place } = stage;
  const sizes = place.isQuick ? quick : full;
  const syncMs = measureDisk(join(place.folder, 'disk'), place.isQuick ? 50 : 500);
  const ours = await measureLink(stage, sizes);
  const bare = await measureBare(stage, sizes);
  return figuresOf(sizes, ours, bare, syncMs);
}

/** The time of one small synced append on an idle disk. */
function measureDisk(path: string, times: number): number[] {
  const file = openSync(path, 'a', 0o600);
  const bytes = Buffer.alloc(256, 'x');
  const samples: number[] = [];
  for (let at = 0; at < times; at += 1) {
    const startedAt = now();
    writeSync(file, bytes);
    fdatasyncSync(file);
    samples.push(now() - startedAt);
  }
  closeSync(file);
  return samples;
}

async function measureLink(stage: Stage, sizes: Sizes): Promise<Measurements> {
  const { place, fleet } = stage;
  const link = await startLink(place, { name: 'runs', hostsApps: true });
  place.onClose(() => link.stop());
  const crew = { crew: 'runs', from: 0, to: sizes.nodes };
  await fleet.aim({ ...crew, dialect: 'rollcall', port: link.nodePort });
  await registerAll(link, await fleet.grow({ ...crew, count: sizes.nodes, curve: 'P-256' }));
  await fleet.enroll({ ...crew, inFlight: 64 });
  await fleet.connect(crew);
  const job: Doing = config => runJob(place, link, config);
  const measured = await measureWithFleet(stage, sizes, 'the link', job);
  await fleet.leave(crew);
  const agents = await measureWithAgents(stage, sizes, link, job);
  await link.stop();
  return { ...measured, agents };
}

async function measureBare(stage: Stage, sizes: Sizes): Promise<Measurements> {
  const { place, fleet } = stage;
  const bare = await startBare(place, stage.authorityFile, { isQuiet: true, tellsPresence: true });
  const crew = { crew: 'runs-bare', from: 0, to: sizes.nodes };
  await stage.certified(crew.crew, sizes.nodes, 'bare', bare.nodePort);
  await fleet.connect(crew);
  const names = Array.from({ length: sizes.nodes }, (_, index) => `${index + 1}`);
  const job: Doing = config => runBareJob(bare, names.slice(0, config.nodes), config);
  const measured = await measureWithFleet(stage, sizes, 'bare grpc-js', job);
  await fleet.leave(crew);
  const agents = await measureWithBareAgents(stage, sizes, bare);
  await bare.program.stop('SIGKILL');
  return { ...measured, agents };
}

async function measureWithFleet(
  { place, fleet }: Stage,
  sizes: Sizes,
  whose: string,
  job: Doing,
): Promise<Omit<Measurements, 'agents'>> {
  const { nodes, emptyRounds } = sizes;
  const latency: Latency = { enteredMs: [], replyMs: [], cpuMs: [] };
  for (let round = 0; round < sizes.rounds; round += 1) {
    place.progress(`runs: ${whose}, ${sizes.paced} messages at ${rate} a second, round ${round + 1}`);
    await fleet.delivered({});
    const done = await job<{ replyUs: number[]; cpuMs: number }>({
      ...{ job: 'latency', nodes, messages: sizes.paced, rate },
    });
    latency.replyMs.push(...done.replyUs.map(us => us / 1000));
    latency.cpuMs.push(done.cpuMs);
    latency.enteredMs.push(...(await fleet.delivered({})).lagMs);
  }
  place.progress(`runs: ${whose}, ${sizes.rounds + 1} times ${sizes.saturating} messages at once`);
  const messages = sizes.saturating;
  const saturating: JobConfig = { job: 'saturated', nodes, messages, rounds: sizes.rounds + 1 };
  // The first one only warms up.
  const saturated = (await job<Round[]>(saturating)).slice(1);
  const rounds = new Map<number, Measured>();
  for (const count of sizes.roundNodes) {
    place.progress(`runs: ${whose}, ${emptyRounds} empty rounds with ${count} nodes`);
    rounds.set(count, await measureRounds(job, count, emptyRounds));
  }
  return {
    latency,
    rounds,
    saturated: {
      samples: saturated.map(({ wallMs }) => (messages / wallMs) * 1000),
      cpuMs: saturated.map(({ cpuMs }) => cpuMs),
    },
  };
}

interface Round {
  readonly wallMs: number;
  readonly cpuMs: number;
}

/** The first few only warm up. */
async function measureRounds(job: Doing, nodes: number, rounds: number): Promise<Measured> {
  const warming = 5;
  const done = (await job<Round[]>({ job: 'round', nodes, rounds: warming + rounds })).slice(warming);
  return { samples: done.map(({ wallMs }) => wallMs), cpuMs: done.map(({ cpuMs }) => cpuMs) };
}

/** The real agent, with the node half in a process of its own. */
async function measureWithAgents(
  stage: Stage,
  { emptyRounds }: Sizes,
  link: BenchLink,
  job: Doing,
): Promise<Measured> {
  const { place } = stage;
  place.progress(`runs: ${emptyRounds} empty rounds with 2 real agents`);
  const shown = await watchNodes(link);
  const agents: Program[] = [];
  for (const name of ['runs-agent-1', 'runs-agent-2']) {
    const { id, words } = await registerAgent(stage, link, name);
    const hosting = ['--isolation', 'subprocess', '--app', benchApp];
    const logFile = join(place.folder, `${name}.log`);
    const program = startProgram(process.execPath, [...words, ...hosting], { logFile });
    place.onClose(() => program.stop());
    agents.push(program);
    await shown.until(id, NodeStatus.NODE_STATUS_ONLINE);
  }
  shown.stop();
  const measured = await measureRounds(job, agents.length, emptyRounds);
  await Promise.all(agents.map(agent => agent.stop()));
  return measured;
}

async function measureWithBareAgents(
  stage: Stage,
  { nodes, emptyRounds }: Sizes,
  bare: Bare,
): Promise<Measured> {
  const names = [nodes + 1, nodes + 2].map(id => `${id}`);
  const agents: Program[] = [];
  for (const name of names) {
    agents.push(await startBareAgent(stage, bare, BigInt(name)));
    await bare.until('online', name);
  }
  const measured = await measureRounds(config => runBareJob(bare, names, config), names.length, emptyRounds);
  await Promise.all(agents.map(agent => agent.stop('SIGKILL')));
  return measured;
}

function figuresOf(sizes: Sizes, ours: Measurements, bare: Measurements, syncMs: number[]): Figure[] {
  const { nodes, roundNodes } = sizes;
  const entered = ({ latency }: Measurements): Measured => ({
    samples: latency.enteredMs,
    cpuMs: latency.cpuMs,
  });
  const emptyRound = (count: number): Figure => ({
    id: `runs.round.${count}`,
    title: `empty round with ${count} nodes: all are asked, all have answered`,
    unit: 'ms',
    ...(ours.rounds.get(count) ?? { samples: [] }),
    beside: { 'bare grpc-js': bare.rounds.get(count) ?? { samples: [] } },
  });
  return [
    {
      id: 'runs.latency.entered',
      title: `send in the server half → message at the node, ${nodes} nodes, ${rate} messages a second`,
      unit: 'ms',
      ...entered(ours),
      beside: { 'bare grpc-js': entered(bare) },
      budget: { max: 0.5, p99Most: 5 },
      note: 'each message is synced to the disk before it leaves the link; bare stores nothing. CPU is for each message with its reply',
    },
    {
      id: 'runs.latency.disk',
      title: 'of which the disk takes: one small append, synced, by a program that does nothing else',
      unit: 'ms',
      samples: syncMs,
    },
    {
      id: 'runs.latency.reply',
      title: 'the same: send → reply in the server half',
      unit: 'ms',
      samples: ours.latency.replyMs,
      beside: { 'bare grpc-js': { samples: bare.latency.replyMs } },
      note: 'the reply is synced to the disk, too',
    },
    {
      id: 'runs.saturated',
      title: `messages a second, send → reply taken, ${nodes} nodes`,
      unit: '/s',
      ...ours.saturated,
      beside: { 'bare grpc-js': bare.saturated },
      note: 'fleet, server half and server share the machine; CPU is that of the server for each message. Bare: 1,000 without a reply at once',
    },
    ...roundNodes.map(emptyRound),
    {
      id: 'runs.round.agents',
      title: 'empty round with 2 real agents, each with its node half in a process of its own',
      unit: 'ms',
      ...ours.agents,
      beside: { 'bare grpc-js': bare.agents },
      note: 'the agent has the reply on its disk before it is sent; bare: an agent of 20 lines gives back what it gets',
    },
  ];
}
