/** Real agents as processes: from their start until the operator is shown them online, from SIGKILL until offline. */
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { command } from '../../scripts/running.js';
import { systemClock } from '../../src/base/clock.js';
import { systemRandom } from '../../src/base/random.js';
import { generatePrivateKey, toPkcs8Pem, type PrivateKey } from '../../src/identity/private-key.js';
import { openConnection } from '../../src/node/connection.js';
import { enroll } from '../../src/node/enroll.js';
import { openSession } from '../../src/node/session.js';
import { NodeStatus } from '../../src/protocol/generated/rollcall/v1/control.js';
import { defaultTenant } from '../../src/protocol/limits.js';
import { startBare, type Bare } from '../bare/bare.js';
import type { Figure } from '../figures.js';
import { registerAll, startLink, watchNodes, type BenchLink, type Shown } from '../link.js';
import { startProgram, type Program } from '../programs.js';
import type { Stage } from '../stage.js';
import { cpuMs, now, sleep } from '../usage.js';
import type { Row } from './row.js';

export const agentRow: Row = {
  name: 'agent',
  about: 'an agent process: start → shown online, SIGKILL → shown offline',
  run: measureAgents,
};

interface Life {
  readonly onlineMs: number;
  readonly onlineCpuMs: number;
  readonly protocolMs: number;
  readonly offlineMs: number;
  readonly offlineCpuMs: number;
}

async function measureAgents(stage: Stage): Promise<Figure[]> {
  const { place } = stage;
  const runs = place.isQuick ? 2 : 10;
  const link = await startLink(place, { name: 'agents' });
  place.onClose(() => link.stop());
  const shown = await watchNodes(link);
  const bare = await startBare(place, stage.authorityFile, { tellsPresence: true });
  const enrolling: Life[] = [];
  const returning: Life[] = [];
  const min: Life[] = [];
  for (let run = 0; run < runs; run += 1) {
    const agent = await registerAgent(stage, link, `agent-${run}`);
    enrolling.push(await live(stage, agent, link, shown));
    returning.push(await live(stage, agent, link, shown));
    min.push(await liveBare(stage, bare, BigInt(run + 1)));
  }
  const warm = await measureProtocol(stage, link, place.isQuick ? 3 : 20);
  shown.stop();
  await link.stop();
  await bare.program.stop('SIGKILL');
  return figuresOf(enrolling, returning, min, warm);
}

function figuresOf(enrolling: Life[], returning: Life[], min: Life[], warm: number[]): Figure[] {
  const of = (lives: Life[], what: keyof Life): number[] => lives.map(life => life[what]);
  const bareStart = { samples: of(min, 'onlineMs'), cpuMs: of(min, 'onlineCpuMs') };
  const all = [...enrolling, ...returning];
  return [
    {
      id: 'agent.start.enroll',
      title: 'agent process start → shown online, with enrollment',
      unit: 'ms',
      samples: of(enrolling, 'onlineMs'),
      cpuMs: of(enrolling, 'onlineCpuMs'),
      beside: { 'bare grpc-js': bareStart },
      budget: { max: 400 },
      note: 'CPU is that of the agent; bare: connects with a certificate it has, enrolls nothing',
    },
    {
      id: 'agent.start.state',
      title: 'agent process start → shown online, with a state folder',
      unit: 'ms',
      samples: of(returning, 'onlineMs'),
      cpuMs: of(returning, 'onlineCpuMs'),
      beside: { 'bare grpc-js': bareStart },
    },
    {
      id: 'agent.protocol.cold',
      title: 'of which: enroll and connect, in the new process',
      unit: 'ms',
      samples: of(enrolling, 'protocolMs'),
      note: 'by the log of the agent, whole milliseconds; most of it is code that runs for the first time',
    },
    {
      id: 'agent.protocol.warm',
      title: 'of which: enroll and connect, in a process that has done it before',
      unit: 'ms',
      samples: warm,
      budget: { max: 30 },
    },
    {
      id: 'agent.killed',
      title: 'SIGKILL → shown offline',
      unit: 'ms',
      samples: of(all, 'offlineMs'),
      cpuMs: of(all, 'offlineCpuMs'),
      beside: { 'bare grpc-js': { samples: of(min, 'offlineMs'), cpuMs: of(min, 'offlineCpuMs') } },
      budget: { max: 50, of: 'p99' },
      note: 'CPU is that of the server; the link commits and tells the operator, bare only notices',
    },
  ];
}

export interface AgentFiles {
  readonly id: bigint;
  readonly name: string;
  readonly words: readonly string[];
}

export async function registerAgent(stage: Stage, link: BenchLink, name: string): Promise<AgentFiles> {
  const { place } = stage;
  const key = generatePrivateKey('P-256');
  const keyFile = join(place.folder, `${name}.key`);
  await writeFile(keyFile, toPkcs8Pem(key), { mode: 0o600 });
  const [node] = await registerAll(link, [key.publicKey.spki]);
  const words = [
    ...[command, 'node', '--link', `127.0.0.1:${link.nodePort}`, '--root-certificates', place.caFile],
    ...['--auth-private-key', keyFile, '--state-dir', await place.subfolder(`${name}-state`)],
  ];
  return { id: node?.id ?? 0n, name, words };
}

async function live(stage: Stage, agent: AgentFiles, link: BenchLink, shown: Shown): Promise<Life> {
  shown.clear();
  const logFile = join(stage.place.folder, `${agent.name}-${process.hrtime.bigint()}.log`);
  const startedAt = now();
  const program = startProgram(process.execPath, agent.words, { logFile });
  const onlineMs = (await shown.until(agent.id, NodeStatus.NODE_STATUS_ONLINE)) - startedAt;
  const onlineCpuMs = cpuMs(program.pid);
  await sleep(100);
  const offline = await kill(program, link.program, () =>
    shown.until(agent.id, NodeStatus.NODE_STATUS_OFFLINE),
  );
  return { onlineMs, onlineCpuMs, protocolMs: protocolMsOf(logFile), ...offline };
}

async function kill(program: Program, server: Program, until: () => Promise<number>) {
  const cpuBefore = cpuMs(server.pid);
  const killedAt = now();
  program.process.kill('SIGKILL');
  const offlineMs = (await until()) - killedAt;
  const offlineCpuMs = cpuMs(server.pid) - cpuBefore;
  await program.exited;
  return { offlineMs, offlineCpuMs };
}

/** From the line that says the agent starts, when everything is loaded and read, to the one that says it is online. */
function protocolMsOf(logFile: string): number {
  const lines = readFileSync(logFile, 'utf8').trim().split('\n');
  const at = (message: string): number => {
    const line = lines.find(each => each.includes(`"msg":"${message}"`));
    return line === undefined ? Number.NaN : Date.parse((JSON.parse(line) as { time: string }).time);
  };
  return at('online') - at('node agent starts');
}

export async function startBareAgent(stage: Stage, bare: Bare, id: bigint): Promise<Program> {
  const { place, authority } = stage;
  const key = generatePrivateKey('P-256');
  const { certificate } = authority.issue({ nodeId: id, publicKey: key.publicKey.spki });
  const file = (end: string): string => join(place.folder, `bare-${id}.${end}`);
  await writeFile(file('crt'), toCertificatePem(certificate));
  await writeFile(file('key'), toPkcs8Pem(key), { mode: 0o600 });
  const program = join(import.meta.dirname, '../bare/agent.js');
  const words = [program, `${bare.nodePort}`, place.caFile, file('crt'), file('key')];
  return startProgram(process.execPath, words, { logFile: file('log') });
}

function toCertificatePem(der: Buffer): string {
  return `-----BEGIN CERTIFICATE-----\n${der.toString('base64')}\n-----END CERTIFICATE-----\n`;
}

async function liveBare(stage: Stage, bare: Bare, id: bigint): Promise<Life> {
  bare.clear();
  const startedAt = now();
  const program = await startBareAgent(stage, bare, id);
  const onlineMs = (await bare.until('online', `${id}`)) - startedAt;
  const onlineCpuMs = cpuMs(program.pid);
  await sleep(100);
  const offline = await kill(program, bare.program, () => bare.until('offline', `${id}`));
  return { onlineMs, onlineCpuMs, protocolMs: Number.NaN, ...offline };
}

/** The work of the agent on the wire, in this process: connect, enroll, connect with the certificate, be welcomed. */
async function measureProtocol(stage: Stage, link: BenchLink, runs: number): Promise<number[]> {
  const samples: number[] = [];
  const keys = Array.from({ length: runs + 2 }, () => generatePrivateKey('P-256'));
  await registerAll(
    link,
    keys.map(key => key.publicKey.spki),
  );
  for (const key of keys) samples.push(await enrollAndConnect(stage, link, key));
  return samples.slice(2);
}

async function enrollAndConnect({ place }: Stage, link: BenchLink, privateKey: PrivateKey): Promise<number> {
  const clock = systemClock;
  const address = { host: '127.0.0.1', port: link.nodePort };
  const shared = { address, serverRoots: [place.ca], timeoutMs: 10_000, clock };
  const startedAt = now();
  const first = await openConnection(shared);
  const secrets = { privateKey, tenant: defaultTenant, generation: 0n, random: systemRandom };
  const { certificateChain, sessionKey } = await enroll({ ...secrets, connection: first, clock });
  const certificate = { leaf: certificateChain[0] ?? '', key: sessionKey };
  const second = await openConnection({ ...shared, certificate });
  const session = await openSession({
    connection: second,
    objects: { begin: () => Promise.reject(new Error('there are no objects')) },
    clock,
    onServerRoots: () => undefined,
  });
  const tookMs = now() - startedAt;
  await Promise.all([first.close(), session.close().then(() => second.close())]);
  return tookMs;
}
