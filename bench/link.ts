/**
 * A link under measurement: the built command as a process of its own, on the level store, with an operator
 * connected.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Metadata } from '@grpc/grpc-js';
import type { Node, NodeEvent } from '../src/protocol/generated/rollcall/v1/control.js';
import type { ControlCalls } from '../test/harness/control-calls.js';
import { connectOperator, operatorFlags, prepareOperator } from '../test/harness/operator.js';
import { probe, startProgram, untilListening, type Program } from './programs.js';
import { now, sleep } from './usage.js';
import { freePort, trustDomain, type Workplace } from './workplace.js';

export interface BenchLink {
  readonly program: Program;
  readonly dataDir: string;
  readonly nodePort: number;
  readonly controlPort: number;
  readonly control: ControlCalls;
  /** From the start of the process until both ports took connections, ms. */
  readonly openedMs: number;
  /** Waits for a line of the log; gives its time, ms since 1970. */
  logged(message: string): Promise<number>;
  stop(signal?: NodeJS.Signals): Promise<void>;
}

export interface LinkPlan {
  /** Of the data folder; an old one is opened again. */
  readonly name: string;
  readonly ports?: { readonly node: number; readonly control: number };
  readonly more?: readonly string[];
  /** Server halves of apps run, as its children. */
  readonly hostsApps?: boolean;
}

/** The caps on connections without a session would measure the bench, which comes from one address. */
const caps = ['--max-connections', '20000', '--max-connections-per-address', '20000'];

/** An object of 1 GiB is held by its server half. */
const hosting = ['--isolation', 'subprocess', '--app-memory', '6GiB'];

let profiles = 0;

export async function startLink(place: Workplace, plan: LinkPlan): Promise<BenchLink> {
  const dataDir = await place.subfolder(plan.name);
  const ports = plan.ports ?? { node: await freePort(), control: await freePort() };
  const token = await prepareOperator(dataDir);
  const logFile = join(place.folder, `${plan.name}-${profiles}.log`);
  const startedAt = now();
  const program = startProgram(
    process.execPath,
    [
      ...nodeFlags(place, plan.name),
      ...[place.linkCommand, 'link', '--data-dir', dataDir],
      ...['--node-address', `127.0.0.1:${ports.node}`, '--control-address', `127.0.0.1:${ports.control}`],
      ...['--ssl-ca-certfile', place.caFile, '--ssl-certfile', place.serverCertificateFile],
      ...[
        '--ssl-keyfile',
        place.serverKeyFile,
        '--trust-domain',
        trustDomain,
        ...operatorFlags,
        ...(plan.more ?? caps),
        ...(plan.hostsApps ? hosting : []),
      ],
    ],
    { logFile },
  );
  await untilListening(ports.control, program).catch((error: unknown) => {
    throw new Error(`the link did not start: ${readFileSync(logFile, 'utf8').slice(-2000)}`, {
      cause: error,
    });
  });
  await untilListening(ports.node, program);
  const openedMs = now() - startedAt;
  const control = connectOperator(`127.0.0.1:${ports.control}`, token, place.ca);
  return {
    program,
    dataDir,
    nodePort: ports.node,
    controlPort: ports.control,
    control,
    openedMs,
    logged: message => untilLogged(logFile, message),
    async stop(signal) {
      control.close();
      await program.stop(signal);
    },
  };
}

/** A link that is profiled writes its profile when it stops; each one has a file of its own. */
function nodeFlags({ profileFolder }: Workplace, name: string): string[] {
  profiles += 1;
  const measuring = ['--expose-gc', `--import=${probe}`];
  if (profileFolder === undefined) return measuring;
  const file = `link-${name}-${profiles}.cpuprofile`;
  return [...measuring, '--cpu-prof', `--cpu-prof-dir=${profileFolder}`, `--cpu-prof-name=${file}`];
}

async function untilLogged(file: string, message: string): Promise<number> {
  for (;;) {
    const line = existsSync(file) && readFileSync(file, 'utf8').split('\n').find(isIt);
    if (line) return Date.parse((JSON.parse(line) as { time: string }).time);
    await sleep(20);
  }
  function isIt(line: string): boolean {
    return line.includes(`"msg":${JSON.stringify(message)}`);
  }
}

/** Registers keys as fast as the link takes them. */
export async function registerAll(link: BenchLink, keys: readonly Uint8Array[]): Promise<Node[]> {
  const nodes: Node[] = [];
  const waiting = keys.entries();
  const work = async (): Promise<void> => {
    for (const [position, key] of waiting) {
      const publicKey = Buffer.from(key);
      nodes[position] = await link.control.registerNode({ publicKey, name: '', labels: {}, again: false });
    }
  };
  await Promise.all(Array.from({ length: 64 }, work));
  return nodes;
}

export interface Shown {
  /** When the operator saw the node get this status, earlier or later, ms on the clock of all processes. */
  until(id: bigint, status: number): Promise<number>;
  /** Forgets the recorded times. */
  clear(): void;
  stop(): void;
}

/** The times at which a watching operator sees changes of nodes. Resolves when the watch is on. */
export async function watchNodes({ control }: BenchLink): Promise<Shown> {
  const seen = new Map<string, number>();
  const waiting = new Map<string, (at: number) => void>();
  const call = control.client.watchNodes({ snapshot: false }, control.metadata);
  call.on('error', () => undefined);
  call.on('data', ({ node }: NodeEvent) => {
    if (!node) return;
    const at = now();
    const key = `${node.id} ${node.status}`;
    seen.set(key, at);
    waiting.get(key)?.(at);
  });
  await new Promise<void>(resolve => call.once('metadata', (_: Metadata) => resolve()));
  return {
    until(id, status) {
      const key = `${id} ${status}`;
      const at = seen.get(key);
      return at === undefined ? new Promise(resolve => waiting.set(key, resolve)) : Promise.resolve(at);
    },
    clear() {
      seen.clear();
      waiting.clear();
    },
    stop: () => call.cancel(),
  };
}
