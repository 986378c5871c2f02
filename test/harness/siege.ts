/**
 * A link as a process of its own, with the tools for attacks and faults: an operator, honest nodes, raw peers, agents
 * as processes, and links and agents with a fault (fault-preload.js).
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { get } from 'node:https';
import { connect as connectTcp } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from 'node:tls';
import type { Test } from 'tap';
import { startRollcall, type Running, type RunningLink } from '../../scripts/running.js';
import type { AuditEntry } from '../../src/audit-log/entry.js';
import { isRollcallError } from '../../src/base/errors.js';
import { systemClock } from '../../src/base/clock.js';
import { formatOpensshPrivate } from '../../src/identity/openssh.js';
import type { PrivateKey } from '../../src/identity/private-key.js';
import { listEvents } from '../../src/link/audit/query.js';
import { storeFolder } from '../../src/link/link.js';
import { openLevelStore } from '../../src/store/level.js';
import { openConnection, type LinkConnection } from '../../src/node/connection.js';
import type { Enrollment } from '../../src/node/enroll.js';
import { defaultTenant, wireProtocol } from '../../src/protocol/limits.js';
import type { ControlCalls } from './control-calls.js';
import { connectOperator, operatorFlags, operatorTokenFile, prepareOperator } from './operator.js';
import { RawFrames } from './raw-frames.js';
import { connectHttp2, type RawHttp2 } from './raw-link.js';
import { enrollOn, makeFolder, newKey, sessionOn, writeCertificates, type LiveNode } from './test-link.js';

type TapTest = Pick<Test, 'equal'>;

/** See fault-preload.js. */
export interface Faults {
  readonly clockShiftMs?: number;
  readonly timersDueMs?: string;
  readonly crashAt?: number;
}

export interface SiegeOptions {
  /** Flags of the link. */
  readonly more?: readonly string[];
  /** The data folder; a folder beside the others by default. */
  readonly dataDir?: string;
}

export interface NodeOptions {
  readonly more?: readonly string[];
  /** A folder of its own by its name by default. */
  readonly stateDir?: string;
  /** host:port of what stands before the link. */
  readonly link?: string;
  readonly faults?: Faults;
}

type Credential = Pick<Enrollment, 'certificateChain' | 'sessionKey'>;

/** A peer that speaks HTTP/2 by hand. */
export interface RawPeer extends RawHttp2 {
  readonly tls: TLSSocket;
}

export interface RawOptions {
  /** The address it comes from. */
  readonly from?: string;
  readonly tls?: ConnectionOptions;
}

export interface Siege {
  readonly folder: string;
  readonly dataDir: string;
  readonly ca: string;
  link: RunningLink;
  control: ControlCalls;
  /** Starts a link on the ports of the one before, which must have ended. */
  restart(faults?: Faults): Promise<void>;
  /** The same, when it may well not come up: its end is the answer. */
  spawn(faults?: Faults): Running;
  startNode(name: string, key: PrivateKey, options?: NodeOptions): Promise<Running>;
  stateDir(name: string): string;
  register(key: PrivateKey): Promise<string>;
  connect(credential?: Credential): Promise<LinkConnection>;
  enroll(key: PrivateKey, generation?: bigint): Promise<Enrollment>;
  online(key: PrivateKey): Promise<LiveNode>;
  /** To the node port, from 127.0.0.1 and without a certificate by default. */
  raw(options?: RawOptions): Promise<RawFrames>;
  /** To the control port, in HTTP/2. */
  rawControl(): Promise<RawPeer>;
  /** The answer to a path of the control port. */
  http(path: string, headers?: Record<string, string>): Promise<{ status: number; body: string }>;
  /** Every line the links here have logged so far. */
  logged(): string[];
  /** Fails the test unless the link is alive and a new honest node can enroll. */
  honest(t: TapTest): Promise<void>;
  /** The audit log of a link that has ended. */
  audit(): Promise<AuditEntry[]>;
}

const preload = join(import.meta.dirname, 'fault-preload.js');

function environmentOf({ clockShiftMs, timersDueMs, crashAt }: Faults = {}): Record<string, string> {
  const faults = {
    ...(clockShiftMs !== undefined && { TEST_CLOCK_SHIFT_MS: `${clockShiftMs}` }),
    ...(timersDueMs !== undefined && { TEST_TIMERS_DUE_MS: timersDueMs }),
    ...(crashAt !== undefined && { TEST_CRASH_AT: `${crashAt}` }),
  };
  // The hooks that the test runner loads into every process are of no use here.
  return { NODE_OPTIONS: Object.keys(faults).length > 0 ? `--import=${preload}` : '', ...faults };
}

export const portOf = (address: string): number => Number(address.slice(address.lastIndexOf(':') + 1));

async function whenStarted(running: Running): Promise<RunningLink> {
  const line = await running.says('link started');
  const addressOf = (field: string): string => {
    const { host, port } = line[field] as { host: string; port: number };
    return `${host}:${port}`;
  };
  return { running, node: addressOf('nodeAddress'), control: addressOf('controlAddress') };
}

export async function openSiege(t: Test, options: SiegeOptions = {}): Promise<Siege> {
  const folder = await makeFolder(t);
  const { dataDir = join(folder, 'data'), more = [] } = options;
  const { ca } = await writeCertificates(folder);
  await mkdir(join(folder, 'state'));
  const token = await prepareOperator(dataDir);
  const links: Running[] = [];
  // The last lines of the link explain a failed test, and are printed nowhere else.
  t.teardown(() => {
    if (t.passing()) return;
    for (const { process: link, lines } of links.slice(-1)) {
      console.error(
        `${t.name}: the last link ended with ${link.exitCode ?? link.signalCode ?? 'nothing yet'}`,
      );
      for (const line of lines.slice(-15)) console.error(JSON.stringify(line));
    }
  });

  function spawnLink(ports: Pick<RunningLink, 'node' | 'control'>, faults?: Faults): Running {
    const flags = {
      'node-address': ports.node,
      'control-address': ports.control,
      'data-dir': dataDir,
      'ssl-ca-certfile': join(folder, 'ca.crt'),
      'ssl-certfile': join(folder, 'server.pem'),
      'ssl-keyfile': join(folder, 'server.key'),
      'log-level': 'debug',
    };
    const parts = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]);
    const running = startRollcall(['link', ...parts, ...operatorFlags, ...more], {
      environment: environmentOf(faults),
    });
    links.push(running);
    t.teardown(() => running.stop('SIGKILL'));
    return running;
  }

  async function operate(link: RunningLink): Promise<ControlCalls> {
    const operator = connectOperator(link.control, token, ca);
    t.teardown(() => operator.close());
    // A call fails with its first connection; a machine that is busy enough may miss the deadline of a handshake.
    await new Promise<void>((resolve, reject) => {
      operator.client.waitForReady(Date.now() + 60_000, error => (error ? reject(error) : resolve()));
    });
    return operator;
  }

  async function connect(credential?: Credential): Promise<LinkConnection> {
    const connection = await openConnection({
      address: { host: '127.0.0.1', port: portOf(siege.link.node) },
      serverRoots: [ca],
      ...(credential && {
        certificate: { leaf: credential.certificateChain[0] ?? '', key: credential.sessionKey },
      }),
      timeoutMs: 30_000,
      clock: systemClock,
    });
    t.teardown(() => connection.close());
    return connection;
  }

  async function enroll(key: PrivateKey, generation = 0n): Promise<Enrollment> {
    const connection = await connect();
    try {
      return await enrollOn(connection, key, generation);
    } finally {
      await connection.close();
    }
  }

  async function online(key: PrivateKey): Promise<LiveNode> {
    const enrollment = await enroll(key);
    const connection = await connect(enrollment);
    return { enrollment, connection, session: await sessionOn(connection) };
  }

  async function startNode(name: string, key: PrivateKey, node: NodeOptions = {}): Promise<Running> {
    const keyFile = join(folder, `${name}.key`);
    await writeFile(keyFile, formatOpensshPrivate(key, name), { mode: 0o600 });
    const parts = [
      ...['node', '--link', node.link ?? siege.link.node, '--root-certificates', join(folder, 'ca.crt')],
      ...['--auth-private-key', keyFile, '--state-dir', node.stateDir ?? siege.stateDir(name)],
      ...(node.more ?? []),
    ];
    const running = startRollcall(parts, { environment: environmentOf(node.faults) });
    t.teardown(() => running.stop('SIGKILL'));
    return running;
  }

  const first = await whenStarted(spawnLink({ node: '127.0.0.1:0', control: '127.0.0.1:0' }));
  const siege: Siege = {
    folder,
    dataDir,
    ca,
    link: first,
    control: await operate(first),
    spawn: faults => spawnLink(siege.link, faults),
    async restart(faults) {
      siege.control.close();
      siege.link = await whenStarted(spawnLink(siege.link, faults));
      siege.control = await operate(siege.link);
    },
    startNode,
    stateDir: name => join(folder, 'state', name),
    async register(key) {
      const request = { publicKey: key.publicKey.spki, name: '', labels: {}, again: false };
      return `${(await siege.control.registerNode(request)).id}`;
    },
    connect,
    enroll,
    online,
    async raw(raw = {}) {
      const peer = await openRaw(portOf(siege.link.node), ca, raw);
      t.teardown(() => peer.destroy());
      return peer;
    },
    async rawControl() {
      const peer = await openRawHttp2(portOf(siege.link.control), ca);
      t.teardown(() => peer.destroy());
      return peer;
    },
    http: (path, headers = {}) => getPath({ port: portOf(siege.link.control), ca, path, headers }),
    logged: () => links.flatMap(({ lines }) => lines.map(line => JSON.stringify(line))),
    async honest(t) {
      const key = newKey();
      const id = await siege.register(key);
      const live = await persistently(() => siege.online(key));
      t.equal(`${live.session.welcome.nodeId}`, id, 'an honest node still gets in');
      await live.session.close();
      await live.connection.close();
      t.equal(siege.link.running.process.exitCode, null, 'the link is alive');
    },
    async audit() {
      const store = await openLevelStore(storeFolder(dataDir));
      try {
        return await listEvents(store, defaultTenant, { limit: 1_000_000 });
      } finally {
        await store.close();
      }
    },
  };
  return siege;
}

/** Again while the link cannot be reached, as an agent would; whatever the link itself answers is an answer. */
async function persistently<T>(attempt: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (!isRollcallError(error, 'LINK_UNREACHABLE')) throw error;
      await new Promise(resolve => setTimeout(resolve, 100));
    }
  }
}

/** A connection to a node port whose bytes are the test's own. */
export async function openRaw(port: number, ca: string, options: RawOptions = {}): Promise<RawFrames> {
  return new RawFrames(await openTls(port, ca, wireProtocol, options));
}

/** The same to a control port, in HTTP/2. */
export async function openRawHttp2(port: number, ca: string): Promise<RawPeer> {
  const tls = await openTls(port, ca, 'h2', {});
  return { ...connectHttp2(tls), tls };
}

async function openTls(
  port: number,
  ca: string,
  protocol: string,
  { from = '127.0.0.1', tls = {} }: RawOptions,
): Promise<TLSSocket> {
  const socket = connectTcp({ host: '127.0.0.1', port, localAddress: from });
  socket.on('error', () => undefined);
  const secured = connectTls({ socket, ca, host: '127.0.0.1', ALPNProtocols: [protocol], ...tls });
  await new Promise<void>((resolve, reject) => {
    secured.once('secureConnect', resolve).once('error', reject);
  });
  return secured;
}

interface PathRequest {
  readonly port: number;
  readonly ca: string;
  readonly path: string;
  readonly headers: Record<string, string>;
}

function getPath(request: PathRequest): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', agent: false, ...request }, response => {
      let body = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (body += chunk));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
    }).on('error', reject);
  });
}

/** The token of the operator, for those who ask by hand. */
export function tokenOf({ dataDir }: Pick<Siege, 'dataDir'>): Promise<string> {
  return readFile(operatorTokenFile(dataDir), 'utf8');
}
