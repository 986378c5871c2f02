/**
 * A link that dies and starts again: all its nodes come back at once, by themselves, after the waits of the agent. The
 * caps are the link's own here, so that what it does with a crowd counts.
 */
import { startBare } from '../bare/bare.js';
import type { Figure, Measured } from '../figures.js';
import type { Stage } from '../stage.js';
import { cpuMs, now } from '../usage.js';
import type { Row } from './row.js';

export const reconnectRow: Row = {
  name: 'reconnect',
  about: '5,000 nodes are back after the link was killed and started again',
  run: measureReturns,
};

async function measureReturns(stage: Stage): Promise<Figure[]> {
  const { place } = stage;
  const count = place.isQuick ? 30 : 5_000;
  const rounds = place.isQuick ? 1 : 5;
  const ours = await returnsToLink(stage, count, rounds);
  const min = await returnsToBare(stage, count, 1);
  return [
    {
      id: 'reconnect.half',
      title: `${count} nodes after kill and start of the link: half of them online again`,
      unit: 'ms',
      samples: ours.half,
      beside: { 'bare grpc-js': { samples: min.half } },
    },
    {
      id: 'reconnect.all',
      title: `${count} nodes after kill and start of the link: all of them online again`,
      unit: 'ms',
      samples: ours.all,
      cpuMs: ours.cpu,
      beside: { 'bare grpc-js': { samples: min.all, cpuMs: min.cpu } satisfies Measured },
      note: 'from SIGKILL on, which the start follows at once; CPU is for each node; agents and server share the cores',
    },
  ];
}

interface Returns {
  readonly half: number[];
  readonly all: number[];
  readonly cpu: number[];
}

async function returnsToLink(stage: Stage, count: number, rounds: number): Promise<Returns> {
  const { fleet, place } = stage;
  const everyone = { crew: 'link', from: 0, to: count };
  await stage.enrolled(count);
  await stage.stopLink();
  await stage.link();
  await fleet.connect(everyone);
  await fleet.persist(everyone);
  const returns: Returns = { half: [], all: [], cpu: [] };
  for (let round = 0; round < rounds; round += 1) {
    place.progress(`reconnect: ${count} nodes, round ${round + 1} of ${rounds}`);
    const killedAt = now();
    await stage.stopLink('SIGKILL');
    const link = await stage.link('default');
    const times = await fleet.back({ ...everyone, since: killedAt });
    note(returns, times, killedAt, cpuMs(link.program.pid));
  }
  await fleet.leave(everyone);
  await stage.stopLink();
  return returns;
}

async function returnsToBare(stage: Stage, count: number, rounds: number): Promise<Returns> {
  const { fleet, place } = stage;
  const everyone = { crew: 'beside-reconnect', from: 0, to: count };
  let bare = await startBare(place, stage.authorityFile);
  await stage.certified(everyone.crew, count, 'bare', bare.nodePort);
  await fleet.connect(everyone);
  await fleet.persist(everyone);
  const returns: Returns = { half: [], all: [], cpu: [] };
  for (let round = 0; round < rounds; round += 1) {
    place.progress(`reconnect: bare grpc-js, round ${round + 1} of ${rounds}`);
    const killedAt = now();
    await bare.program.stop('SIGKILL');
    bare = await startBare(place, stage.authorityFile);
    await fleet.aim({ crew: everyone.crew, dialect: 'bare', port: bare.nodePort });
    const times = await fleet.back({ ...everyone, since: killedAt });
    note(returns, times, killedAt, cpuMs(bare.program.pid));
  }
  await fleet.leave(everyone);
  await bare.program.stop('SIGKILL');
  return returns;
}

function note(returns: Returns, times: readonly number[], killedAt: number, usedMs: number): void {
  const waits = times.map(at => at - killedAt).sort((one, other) => one - other);
  returns.half.push(waits[Math.floor(waits.length / 2)] ?? Number.NaN);
  returns.all.push(waits.at(-1) ?? Number.NaN);
  returns.cpu.push(usedMs / waits.length);
}
