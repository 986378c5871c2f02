/** Enrollments a second, each durable before its certificate leaves, each on a connection of its own. */
import { startBare } from '../bare/bare.js';
import type { Figure, Measured } from '../figures.js';
import type { Curve } from '../../src/identity/public-key.js';
import { registerAll, startLink } from '../link.js';
import type { Program } from '../programs.js';
import type { Stage } from '../stage.js';
import { cpuMs } from '../usage.js';
import type { Row } from './row.js';

export const enrollRow: Row = {
  name: 'enroll',
  about: 'durable enrollments a second, P-256 and P-384',
  run: measureEnrolling,
};

const curves: readonly Curve[] = ['P-256', 'P-384'];

async function measureEnrolling(stage: Stage): Promise<Figure[]> {
  const { place, fleet } = stage;
  const count = place.isQuick ? 50 : 1_000;
  const link = await startLink(place, { name: 'enroll' });
  place.onClose(() => link.stop());
  const bare = await startBare(place, stage.authorityFile);
  const figures: Figure[] = [];
  for (const curve of curves) {
    const crew = `enroll-${curve}`;
    await fleet.aim({ crew, dialect: 'rollcall', port: link.nodePort });
    await registerAll(link, await fleet.grow({ crew, count, curve }));
    const ours = await enrollRounds(stage, crew, count, link.program);
    await fleet.aim({ crew, dialect: 'bare', port: bare.openPort });
    const min = await enrollRounds(stage, crew, count, bare.program);
    figures.push({
      id: `enroll.${curve}`,
      title: `durable enrollments a second, ${curve}`,
      unit: '/s',
      ...ours,
      beside: { 'bare grpc-js': min },
      ...(curve === 'P-256' && { budget: { min: 600 } }),
      note: 'one TLS connection each; bare checks both signatures, issues and stores nothing',
    });
  }
  await link.stop();
  await bare.program.stop('SIGKILL');
  return figures;
}

/** The first round only warms both sides up. */
async function enrollRounds(
  { fleet, place }: Stage,
  crew: string,
  count: number,
  server: Program,
): Promise<Measured> {
  const rounds = place.isQuick ? 1 : 5;
  place.progress(`enroll: ${crew}, ${rounds + 1} times ${count}`);
  const samples: number[] = [];
  const cpu: number[] = [];
  for (let round = 0; round <= rounds; round += 1) {
    const cpuBefore = cpuMs(server.pid);
    const { wallMs } = await fleet.enroll({ crew, from: 0, to: count, inFlight: 64 });
    samples.push((count / wallMs) * 1000);
    cpu.push((cpuMs(server.pid) - cpuBefore) / count);
  }
  return { samples: samples.slice(1), cpuMs: cpu.slice(1) };
}
