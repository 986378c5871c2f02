/**
 * A link in a process of its own to be attacked, and the conditions after each attack: it is alive, an honest node
 * connects, its memory is released, and strangers received no secret and wrote nothing into its log.
 */
import { spawn } from 'node:child_process';
import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { get } from 'node:https';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Test } from 'tap';
import { command, startLinkProcess, type LogLine, type RunningLink } from '../../scripts/running.js';
import { systemClock } from '../../src/base/clock.js';
import { isRollcallError } from '../../src/base/errors.js';
import type { PrivateKey } from '../../src/identity/private-key.js';
import { openConnection, type LinkConnection } from '../../src/node/connection.js';
import type { Enrollment } from '../../src/node/enroll.js';
import { wireProtocol } from '../../src/protocol/limits.js';
import type { ControlCalls } from './control-calls.js';
import { connectOperator, operatorFlags, prepareOperator } from './operator.js';
import { openStranger, type Stranger } from './stranger.js';
import { enrollOn, makeFolder, newKey, sessionOn, writeCertificates, type LiveNode } from './test-link.js';

type Credential = Pick<Enrollment, 'certificateChain' | 'sessionKey'>;

export interface AttackedLink {
  readonly folder: string;
  readonly ca: string;
  /** host:port */
  readonly node: string;
  readonly nodePort: number;
  readonly controlPort: number;
  readonly pid: number;
  readonly control: ControlCalls;
  readonly token: string;
  readonly trustDomain: string;
  /** The link's own issuer of node certificates, for certificates it never wrote. */
  readonly authority: { readonly certificate: X509Certificate; readonly key: KeyObject };
  readonly lines: readonly LogLine[];
  readonly alive: () => boolean;
  /** Bytes that strangers received, to be searched. */
  readonly told: Stranger[];
  register(key: PrivateKey): Promise<bigint>;
  connect(credential?: Credential): Promise<LinkConnection>;
  enroll(key: PrivateKey): Promise<Enrollment>;
  online(key: PrivateKey): Promise<LiveNode>;
  /** A stranger at this address on the node port, or another. */
  stranger(from: string, tls?: Parameters<typeof openStranger>[0]['tls'], port?: number): Promise<Stranger>;
  /** An answer of the control port. */
  readonly fetch: (path: string) => Promise<{ readonly status: number; readonly body: string }>;
  memoryMb(): number;
  cpuSeconds(): number;
  descriptors(): number;
  /** Fails unless a new node can register, enroll and hold a session. It may take its time. */
  honest(t: Test): Promise<void>;
}

export interface AttackedLinkOptions {
  readonly more?: readonly string[];
  /** `ulimit -n` of the process. */
  readonly openFiles?: number;
}

export async function startAttackedLink(t: Test, options: AttackedLinkOptions = {}): Promise<AttackedLink> {
  const folder = await makeFolder(t);
  const { ca } = await writeCertificates(folder);
  const dataDir = join(folder, 'data');
  const token = await prepareOperator(dataDir);
  const started = options.openFiles === undefined ? byItself(folder, options) : underLimit(folder, options);
  const { process: child, lines, node, control: controlAddress } = await started;
  t.teardown(() => child.kill('SIGKILL'));
  const control = connectOperator(controlAddress, token, ca);
  t.teardown(() => control.close());
  const proc = (file: string): string => readFileSync(`/proc/${child.pid ?? 0}/${file}`, 'utf8');
  const told: Stranger[] = [];

  async function connect(credential?: Credential): Promise<LinkConnection> {
    const connection = await openConnection({
      address: { host: '127.0.0.1', port: portOf(node) },
      serverRoots: [ca],
      ...(credential && {
        certificate: { leaf: credential.certificateChain[0] ?? '', key: credential.sessionKey },
      }),
      timeoutMs: 60_000,
      clock: systemClock,
    });
    t.teardown(() => connection.close());
    return connection;
  }

  async function enroll(key: PrivateKey): Promise<Enrollment> {
    const connection = await connect();
    const enrollment = await enrollOn(connection, key);
    await connection.close();
    return enrollment;
  }

  const link: AttackedLink = {
    folder,
    ca,
    node,
    nodePort: portOf(node),
    controlPort: portOf(controlAddress),
    pid: child.pid ?? 0,
    control,
    lines,
    told,
    token,
    trustDomain: String(lines.find(line => line['msg'] === 'link started')?.['trustDomain']),
    authority: {
      certificate: new X509Certificate(await readFile(join(dataDir, 'authority.crt'))),
      key: createPrivateKey(await readFile(join(dataDir, 'authority.key'))),
    },
    alive: () => child.exitCode === null && child.signalCode === null,
    async register(key) {
      const request = { publicKey: key.publicKey.spki, name: '', labels: {}, again: false };
      return (await control.registerNode(request)).id;
    },
    connect,
    enroll,
    async online(key) {
      const enrollment = await enroll(key);
      const connection = await connect(enrollment);
      return { enrollment, connection, session: await sessionOn(connection) };
    },
    async stranger(from, tls = {}, port = link.nodePort) {
      const protocol = port === link.nodePort ? wireProtocol : 'h2';
      const stranger = await openStranger({ port, from, tls: { ALPNProtocols: [protocol], ...tls } });
      t.teardown(() => stranger.socket.destroy());
      told.push(stranger);
      return stranger;
    },
    fetch: path =>
      new Promise((resolve, reject) => {
        get({ host: '127.0.0.1', port: link.controlPort, ca, path, agent: false }, response => {
          let body = '';
          response.setEncoding('utf8').on('data', (part: string) => (body += part));
          response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
        }).on('error', reject);
      }),
    memoryMb: () => Number(/VmRSS:\s+(\d+)/.exec(proc('status'))?.[1]) / 1024,
    cpuSeconds() {
      const fields = proc('stat').split(' ');
      return (Number(fields[13]) + Number(fields[14])) / 100;
    },
    descriptors: () => readdirSync(`/proc/${child.pid ?? 0}/fd`).length,
    async honest(t) {
      const key = newKey();
      const id = await link.register(key);
      const { session, connection } = await persistently(() => link.online(key));
      t.equal(session.welcome.nodeId, id, 'an honest node enrolls meanwhile and is online');
      await session.close();
      await connection.close();
    },
  };
  return link;
}

interface Started extends Pick<RunningLink, 'node' | 'control'> {
  readonly process: RunningLink['running']['process'];
  readonly lines: readonly LogLine[];
}

async function byItself(certificates: string, { more = [] }: AttackedLinkOptions): Promise<Started> {
  const { running, ...addresses } = await startLinkProcess({
    certificates,
    dataDir: join(certificates, 'data'),
    more: [...operatorFlags, ...more],
  });
  return { ...addresses, process: running.process, lines: running.lines };
}

/** By a shell, which alone can set the limit that its child starts with. */
async function underLimit(folder: string, { openFiles, more = [] }: AttackedLinkOptions): Promise<Started> {
  const flags = {
    'node-address': '127.0.0.1:0',
    'control-address': '127.0.0.1:0',
    'data-dir': join(folder, 'data'),
    'ssl-ca-certfile': join(folder, 'ca.crt'),
    'ssl-certfile': join(folder, 'server.pem'),
    'ssl-keyfile': join(folder, 'server.key'),
  };
  const parts = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]);
  const script = `ulimit -n ${openFiles ?? ''}; exec "$@"`;
  const child = spawn(
    'sh',
    ['-c', script, 'sh', process.execPath, command, 'link', ...parts, ...operatorFlags, ...more],
    {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { PATH: process.env['PATH'] },
    },
  );
  const lines: LogLine[] = [];
  await new Promise<void>((resolve, reject) => {
    createInterface({ input: child.stderr }).on('line', text => {
      lines.push(JSON.parse(text) as LogLine);
      if (lines.at(-1)?.['msg'] === 'link started') resolve();
    });
    child.once('exit', () => reject(new Error(`it did not start: ${JSON.stringify(lines)}`)));
  });
  const addressOf = (field: string): string => {
    const line = lines.find(each => each['msg'] === 'link started');
    const { host, port } = line?.[field] as { host: string; port: number };
    return `${host}:${port}`;
  };
  return { process: child, lines, node: addressOf('nodeAddress'), control: addressOf('controlAddress') };
}

const portOf = (address: string): number => Number(address.slice(address.lastIndexOf(':') + 1));

const passing: ReadonlySet<string> = new Set(['LINK_UNREACHABLE', 'LINK_BUSY', 'DEADLINE_EXCEEDED']);

/** Tries again for a minute, as agents do, when a busy machine made it miss a deadline. */
async function persistently<T>(work: () => Promise<T>): Promise<T> {
  const end = performance.now() + 60_000;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      const isPassing = isRollcallError(error) && passing.has(error.code);
      if (!isPassing || performance.now() > end) throw error;
      await pause(250);
    }
  }
}

/** Memory that an attack may leave, MB: a heap keeps some for later, which does not grow with each attack. */
const memoryLeftMb = 192;
/** Log lines about the link itself and about honest nodes. */
const ownLines = new Set([
  'chose a trust domain for this new data folder',
  'link started',
  'node online',
  'node offline',
]);

/** Makes each attack a test of its own, with what must hold after it. */
export function attacksOn(t: Test, link: AttackedLink, maxDescriptors?: number) {
  return (title: string, body: (t: Test) => Promise<void>): void => {
    void t.test(title, async t => {
      const before = link.memoryMb();
      await body(t);
      await expectUnharmed(t, link, before);
      if (maxDescriptors === undefined) return;
      const closed = await eventually(() => link.descriptors() < maxDescriptors);
      t.ok(closed, `${link.descriptors()} descriptors in use`);
    });
  };
}

/** Fails unless the link is as it should be after an attack that began at `beforeMb`. */
async function expectUnharmed(t: Test, link: AttackedLink, beforeMb: number): Promise<void> {
  t.ok(link.alive(), 'the process is alive');
  t.equal((await link.fetch('/readyz')).status, 200, 'it is ready');
  const memory = await eventually(() => link.memoryMb() < beforeMb + memoryLeftMb);
  t.ok(memory, `its memory is back (${Math.round(beforeMb)} → ${Math.round(link.memoryMb())} MB)`);
  const odd = link.lines.filter(line => !ownLines.has(String(line['msg'])) && line['level'] !== 'warn');
  t.same(odd, [], 'strangers write nothing into its log');
  const secrets = await secretsOf(link);
  const said = link.told.splice(0).map(stranger => stranger.received().toString('latin1'));
  const all = [...said, ...link.lines.map(line => JSON.stringify(line))];
  const leaks = secrets.filter(secret => all.some(text => text.includes(secret)));
  t.equal(leaks.length, 0, 'no secret is said, to strangers or to the log');
  const inside = ['node_modules', '.js:', link.folder];
  t.notOk(
    said.some(text => inside.some(each => text.includes(each))),
    'nor where the code and the data are',
  );
}

/** The token, and every line of every private key. */
async function secretsOf({ folder, token }: AttackedLink): Promise<string[]> {
  const keys = [join(folder, 'server.key'), join(folder, 'data', 'authority.key')];
  const texts = await Promise.all(keys.map(path => readFile(path, 'latin1')));
  const lines = texts.flatMap(text => text.split('\n').filter(line => line.length >= 20));
  return [token, ...lines.filter(line => !line.startsWith('-----B') && !line.startsWith('-----E'))];
}

/** Asks again and again, for half a minute. */
export async function eventually(
  holds: () => boolean | Promise<boolean>,
  withinMs = 30_000,
): Promise<boolean> {
  for (const end = performance.now() + withinMs; performance.now() < end;) {
    if (await holds()) return true;
    await pause(50);
  }
  return holds();
}

export function pause(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms));
}
