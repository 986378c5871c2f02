/** The cost of a thousand idle nodes that only ping: every server is idle at the same time. */
import type { Beside, Figure, Measured } from '../figures.js';
import type { RunningSubject, Stage } from '../stage.js';
import { crewOf, startSubject, subjectNames, type SubjectName } from '../subjects.js';
import { cpuMs, now, sleep } from '../usage.js';
import type { Row } from './row.js';

export const idleRow: Row = {
  name: 'idle',
  about: 'server CPU while 1,000 nodes are idle',
  run: measureIdling,
};

/** All of them ping or are pinged every 9 s, so a window holds each node once. */
const windowMs = 9_000;
const quickWindowMs = 2_000;

async function measureIdling(stage: Stage): Promise<Figure[]> {
  const { place, fleet } = stage;
  const count = place.isQuick ? 30 : 1_000;
  const windows = place.isQuick ? 1 : 5;
  const servers = new Map<SubjectName, RunningSubject>();
  for (const name of subjectNames) {
    const crew = crewOf(name, false);
    const server = await startSubject(stage, name, crew, count);
    if (!server) continue;
    servers.set(name, server);
    await fleet.connect({ crew, from: 0, to: count });
  }
  // Work left from connecting is done by then.
  await sleep(place.isQuick ? 100 : 5_000);
  const cores = await watchIdling(stage, servers, windows);
  for (const [name, server] of servers) {
    await fleet.leave({ crew: crewOf(name, false), from: 0, to: count });
    await server.stop();
  }
  const { rollcall = [], ...others } = Object.fromEntries(cores) as Partial<Record<SubjectName, number[]>>;
  const beside = Object.entries(others).map(([name, samples]) => [name, { samples }]);
  return [
    {
      id: 'idle.cpu',
      title: `server CPU, ${count} idle nodes`,
      unit: 'core',
      samples: rollcall,
      beside: Object.fromEntries(beside) as Partial<Record<Beside, Measured>>,
      budget: { max: 0.01 },
      note: 'each node is heard every 9 s: pings of the server (mosquitto: of the client)',
    },
  ];
}

async function watchIdling(
  { place }: Stage,
  servers: ReadonlyMap<SubjectName, RunningSubject>,
  windows: number,
): Promise<Map<SubjectName, number[]>> {
  const cores = new Map<SubjectName, number[]>([...servers.keys()].map(name => [name, []]));
  for (let window = 0; window < windows; window += 1) {
    place.progress(`idle: ${[...servers.keys()].join(', ')}, window ${window + 1} of ${windows}`);
    const startedAt = now();
    const before = new Map([...servers].map(([name, { program }]) => [name, cpuMs(program.pid)]));
    await sleep(place.isQuick ? quickWindowMs : windowMs);
    for (const [name, { program }] of servers) {
      const used = cpuMs(program.pid) - (before.get(name) ?? 0);
      cores.get(name)?.push(used / (now() - startedAt));
    }
  }
  return cores;
}
