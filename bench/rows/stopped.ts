/** Agents that are connected and do not answer: SIGSTOP, as a machine that hangs or a cable that is cut. */
import { NodeStatus } from '../../src/protocol/generated/rollcall/v1/control.js';
import { startBare } from '../bare/bare.js';
import type { Figure } from '../figures.js';
import { startLink, watchNodes } from '../link.js';
import { startProgram, type Program } from '../programs.js';
import type { Stage } from '../stage.js';
import { now, sleep } from '../usage.js';
import { registerAgent, startBareAgent } from './agent.js';
import type { Row } from './row.js';
import { join } from 'node:path';

export const stoppedRow: Row = {
  name: 'stopped',
  about: 'SIGSTOP → shown offline; ten agents, half a minute',
  isLong: true,
  run: measureStopped,
};

const agents = 10;
/** The moments are spread over more than the time between two pings. */
const apartMs = 1_100;
/** HTTP/2 keepalive of grpc-js as eager as our pings; it is off unless it is asked for. */
const keepAlive = { keepAliveMs: 9_000, keepAliveTimeoutMs: 4_000 };

async function measureStopped(stage: Stage): Promise<Figure[]> {
  const { place } = stage;
  const link = await startLink(place, { name: 'stopped' });
  place.onClose(() => link.stop());
  const bare = await startBare(place, stage.authorityFile, { ...keepAlive, tellsPresence: true });
  const shown = await watchNodes(link);
  const waits: Promise<number>[] = [];
  const bareWaits: Promise<number>[] = [];
  const programs: Program[] = [];
  for (let index = 0; index < agents; index += 1) {
    const name = `stopped-${index}`;
    const agent = await registerAgent(stage, link, name);
    const logFile = join(place.folder, `${name}.log`);
    const program = startProgram(process.execPath, agent.words, { logFile });
    await shown.until(agent.id, NodeStatus.NODE_STATUS_ONLINE);
    const id = BigInt(index + 1);
    const min = await startBareAgent(stage, bare, id);
    await bare.until('online', `${id}`);
    programs.push(program, min);
    await sleep(apartMs);
    waits.push(freeze(program, shown.until(agent.id, NodeStatus.NODE_STATUS_OFFLINE)));
    bareWaits.push(freeze(min, bare.until('offline', `${id}`)));
  }
  const samples = await Promise.all(waits);
  const besides = await Promise.all(bareWaits);
  await Promise.all(programs.map(program => program.stop('SIGKILL')));
  shown.stop();
  await link.stop();
  await bare.program.stop('SIGKILL');
  return [
    {
      id: 'agent.stopped',
      title: 'SIGSTOP → shown offline',
      unit: 'ms',
      samples,
      beside: { 'bare grpc-js': { samples: besides } },
      budget: { max: 15_000, of: 'p99' },
      note: 'bare has keepalive set to 9 s and 4 s; without, it never notices',
    },
  ];
}

async function freeze(program: Program, offline: Promise<number>): Promise<number> {
  const at = now();
  program.process.kill('SIGSTOP');
  return (await offline) - at;
}
