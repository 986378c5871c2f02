/** Revocation while a thousand nodes are live: of one, many times, then of all that are left. */
import type { ControlCalls } from '../../test/harness/control-calls.js';
import { connectOperator } from '../../test/harness/operator.js';
import { startBare } from '../bare/bare.js';
import type { Figure, Measured } from '../figures.js';
import { registerAll, startLink, type BenchLink } from '../link.js';
import { measurePeerRevocations } from '../peers/revocations.js';
import type { Program } from '../programs.js';
import type { Stage } from '../stage.js';
import { cpuMs, now, sleep } from '../usage.js';
import type { Row } from './row.js';

export const revokeRow: Row = {
  name: 'revoke',
  about: 'revoke one of 1,000 live nodes → its socket closed; revoke all 1,000',
  run: measureRevocations,
};

/** One at a time in each round. */
const singly = 20;

interface Round {
  /** From the operator's request to the end that the peer sees, ms. */
  readonly seenMs: number[];
  /** From the durable commit to the last socket closed, as the link states, ms. */
  readonly closedMs: number[];
  /** From the operator's request to its answer, ms. */
  readonly answeredMs: number[];
  readonly cpuMs: number;
  readonly allMs: number;
  readonly allCpuMs: number;
}

async function measureRevocations(stage: Stage): Promise<Figure[]> {
  const { place } = stage;
  const count = place.isQuick ? 30 : 1_000;
  const rounds = place.isQuick ? 1 : 5;
  const link = await startLink(place, { name: 'revoke' });
  place.onClose(() => link.stop());
  const ours: Round[] = [];
  for (let round = 0; round < rounds; round += 1) ours.push(await revokeFleet(stage, link, count, round));
  await link.stop();
  const bare: Round[] = [];
  for (let round = 0; round < rounds; round += 1) bare.push(await revokeBareFleet(stage, count, round));
  const peers = await measurePeerRevocations(stage, count);
  return figuresOf(ours, bare, peers, count);
}

function figuresOf(
  ours: Round[],
  bare: Round[],
  peers: Partial<Record<'nats' | 'mosquitto', Measured>>,
  count: number,
): Figure[] {
  const cpu = (rounds: Round[]): number[] => rounds.map(round => round.cpuMs);
  const seen = (rounds: Round[]): Measured => ({
    samples: rounds.flatMap(round => round.seenMs),
    cpuMs: cpu(rounds),
  });
  const all = (rounds: Round[]): Measured => ({
    samples: rounds.map(round => round.allMs),
    cpuMs: rounds.map(round => round.allCpuMs),
  });
  return [
    {
      id: 'revoke.one.seen',
      title: `revoke one of ${count} live: request → the peer sees its socket closed`,
      unit: 'ms',
      ...seen(ours),
      beside: { 'bare grpc-js': seen(bare), ...peers },
      budget: { max: 20, of: 'p99' },
      note: 'the link commits durably first; bare ends the stream and cannot close the socket; nats and mosquitto: the user is taken out of the configuration, then SIGHUP',
    },
    {
      id: 'revoke.one.closed',
      title: 'of which: durable commit → socket closed, in the link',
      unit: 'ms',
      samples: ours.flatMap(round => round.closedMs),
      budget: { max: 20, of: 'p99' },
    },
    {
      id: 'revoke.one.answered',
      title: 'the same: request → answer to the operator',
      unit: 'ms',
      samples: ours.flatMap(round => round.answeredMs),
      beside: { 'bare grpc-js': { samples: bare.flatMap(round => round.answeredMs) } },
    },
    {
      id: 'revoke.all',
      title: `revoke the other ${count - singly} at once: first request → last peer out`,
      unit: 'ms',
      ...all(ours),
      beside: { 'bare grpc-js': all(bare) },
      note: 'CPU is for each node',
    },
  ];
}

async function revokeFleet(stage: Stage, link: BenchLink, count: number, round: number): Promise<Round> {
  const { fleet, place } = stage;
  const crew = `revoke-${round}`;
  place.progress(`revoke: round ${round + 1}, ${count} nodes`);
  await fleet.aim({ crew, dialect: 'rollcall', port: link.nodePort });
  const nodes = await registerAll(link, await fleet.grow({ crew, count, curve: 'P-256' }));
  await fleet.enroll({ crew, from: 0, to: count, inFlight: 64 });
  await fleet.connect({ crew, from: 0, to: count });
  const names = nodes.map(({ id }) => `${id}`);
  return revokeEach(stage, crew, names, link.control, link.program);
}

async function revokeBareFleet(stage: Stage, count: number, round: number): Promise<Round> {
  const { place, fleet } = stage;
  const bare = await startBare(place, stage.authorityFile);
  const control = connectOperator(`127.0.0.1:${bare.openPort}`, 'none', place.ca);
  await stage.certified('revoke-bare', count, 'bare', bare.nodePort);
  place.progress(`revoke: bare grpc-js, round ${round + 1}`);
  await fleet.connect({ crew: 'revoke-bare', from: 0, to: count });
  const names = Array.from({ length: count }, (_, index) => `${index + 1}`);
  const result = await revokeEach(stage, 'revoke-bare', names, control, bare.program);
  control.close();
  await bare.program.stop('SIGKILL');
  return result;
}

async function revokeEach(
  { fleet }: Stage,
  crew: string,
  names: readonly string[],
  control: ControlCalls,
  server: Program,
): Promise<Round> {
  const seenMs: number[] = [];
  const closedMs: number[] = [];
  const answeredMs: number[] = [];
  await sleep(500);
  const cpuBefore = cpuMs(server.pid);
  for (const [index, node] of names.slice(0, singly).entries()) {
    const startedAt = now();
    const { closedAfterUs } = await control.revokeNode({ node, comment: 'bench' });
    answeredMs.push(now() - startedAt);
    closedMs.push(Number(closedAfterUs) / 1000);
    const [goneAt = Number.NaN] = await fleet.gone({ crew, from: index, to: index + 1 });
    seenMs.push(goneAt - startedAt);
    await sleep(25);
  }
  const cpuBetween = cpuMs(server.pid);
  const startedAt = now();
  const rest = names.slice(singly);
  await Promise.all(rest.map(node => control.revokeNode({ node, comment: 'bench' })));
  const gone = await fleet.gone({ crew, from: singly, to: names.length });
  return {
    seenMs,
    closedMs,
    answeredMs,
    cpuMs: (cpuBetween - cpuBefore) / singly,
    allMs: Math.max(...gone) - startedAt,
    allCpuMs: (cpuMs(server.pid) - cpuBetween) / rest.length,
  };
}
