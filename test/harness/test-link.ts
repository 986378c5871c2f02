/** A real link in this process: real TLS on free loopback ports, real files, a store of the test's choice. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { systemClock, type Clock } from '../../src/base/clock.js';
import { createLog, type Log } from '../../src/base/log.js';
import { systemRandom } from '../../src/base/random.js';
import { formatAddress } from '../../src/base/settings.js';
import { generatePrivateKey, type PrivateKey } from '../../src/identity/private-key.js';
import type { Curve } from '../../src/identity/public-key.js';
import { makeDevelopmentCertificates } from '../../src/link/authority/development.js';
import { collectLinkConfig, requireUsable } from '../../src/link/config.js';
import { Link } from '../../src/link/link.js';
import { createMemoryStore } from '../../src/store/memory.js';
import type { Store } from '../../src/store/store.js';
import { enroll, type Enrollment } from '../../src/node/enroll.js';
import { openConnection, type LinkConnection } from '../../src/node/connection.js';
import type { ObjectsLink } from '../../src/node/object-connection.js';
import { openSession, type Session } from '../../src/node/session.js';
import type { Node } from '../../src/protocol/generated/rollcall/v1/control.js';
import { defaultTenant } from '../../src/protocol/limits.js';
import { untilStatus, type ControlCalls } from './control-calls.js';
import { connectOperator, issueOperatorToken } from './operator.js';
import type { ServerFiles } from './server-chains.js';

type TapTest = Pick<Test, 'teardown'>;

export interface TestLinkOptions {
  readonly clock?: Clock;
  readonly store?: Store;
  readonly folder?: string;
  readonly settings?: Readonly<Record<string, unknown>>;
  readonly log?: Log;
  /** Instead of development certificates. */
  readonly server?: ServerFiles;
}

export interface TestLink {
  readonly link: Link;
  readonly store: Store;
  readonly folder: string;
  readonly ca: string;
  readonly clock: Clock;
  /** Every line the link logged. */
  readonly logged: string[];
  /** Of an operator who may do everything. */
  readonly token: string;
  readonly control: ControlCalls;
  register(key: PrivateKey, extras?: { name?: string; again?: boolean }): Promise<Node>;
  /** An anonymous connection, or one with a certificate. */
  connect(
    enrollment?: Pick<Enrollment, 'certificateChain' | 'sessionKey'>,
    host?: string,
  ): Promise<LinkConnection>;
  enroll(key: PrivateKey, generation?: bigint): Promise<Enrollment>;
  /** Enrolls, connects and waits for Welcome. */
  online(key: PrivateKey): Promise<LiveNode>;
  /** Asks until the node has the status. */
  until(node: string, status: string): Promise<Node>;
}

export interface LiveNode {
  readonly enrollment: Enrollment;
  readonly connection: LinkConnection;
  readonly session: Session;
}

export async function makeFolder(t: TapTest): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'rollcall-test-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

export async function writeCertificates(folder: string): Promise<{ ca: string }> {
  const made = makeDevelopmentCertificates({
    hosts: ['localhost', '127.0.0.1', '::1'],
    days: 30,
    now: Date.now(),
    random: systemRandom,
  });
  const { ca, server } = made;
  await writeServerFiles(folder, { ...server, roots: ca.certificate });
  return { ca: ca.certificate };
}

/** The default paths of a test link. */
export async function writeServerFiles(
  folder: string,
  { certificate, key, roots }: ServerFiles,
): Promise<void> {
  await writeFile(join(folder, 'ca.crt'), roots);
  await writeFile(join(folder, 'server.pem'), certificate);
  await writeFile(join(folder, 'server.key'), key, { mode: 0o600 });
}

export async function startTestLink(t: TapTest, options: TestLinkOptions = {}): Promise<TestLink> {
  const folder = options.folder ?? (await makeFolder(t));
  const clock = options.clock ?? systemClock;
  const { server } = options;
  if (server) await writeServerFiles(folder, server);
  const ca = server ? server.roots : (await writeCertificates(folder)).ca;
  const logged: string[] = [];
  const log =
    options.log ??
    createLog({
      level: 'debug',
      name: 'link',
      destination: { write: (line: string) => void logged.push(line) },
    });
  const config = requireUsable(
    collectLinkConfig({
      flags: {
        'data-dir': join(folder, 'data'),
        'ssl-ca-certfile': join(folder, 'ca.crt'),
        'ssl-certfile': join(folder, 'server.pem'),
        'ssl-keyfile': join(folder, 'server.key'),
        'node-address': '127.0.0.1:0',
        'control-address': '127.0.0.1:0',
        'trust-domain': 'test.example',
        ...options.settings,
      },
      environment: {},
      environmentPrefix: 'ROLLCALL_LINK_',
    }),
  );
  const store = options.store ?? createMemoryStore();
  const link = new Link({
    config,
    store,
    clock,
    random: systemRandom,
    log,
  });
  await link.start();
  t.teardown(() => link.close());
  return testLink(t, { link, store, folder, ca, clock, logged });
}

async function testLink(
  t: TapTest,
  parts: Pick<TestLink, 'link' | 'store' | 'folder' | 'ca' | 'clock' | 'logged'>,
): Promise<TestLink> {
  const { link, ca } = parts;
  const token = await issueOperatorToken(link.access);
  const control = connectOperator(formatAddress(link.addresses.control), token, ca);
  t.teardown(() => control.close());

  async function connect(
    enrollment?: Pick<Enrollment, 'certificateChain' | 'sessionKey'>,
    host = '127.0.0.1',
  ) {
    const connection = await openConnection({
      address: { host, port: link.addresses.node.port },
      serverRoots: [ca],
      ...(enrollment && {
        certificate: { leaf: enrollment.certificateChain[0] ?? '', key: enrollment.sessionKey },
      }),
      timeoutMs: 10_000,
      clock: systemClock,
    });
    t.teardown(() => connection.close());
    return connection;
  }

  async function enrollNode(key: PrivateKey, generation = 0n): Promise<Enrollment> {
    const connection = await connect();
    const enrollment = await enrollOn(connection, key, generation);
    await connection.close();
    return enrollment;
  }

  async function online(key: PrivateKey): Promise<LiveNode> {
    const enrollment = await enrollNode(key);
    const connection = await connect(enrollment);
    return { enrollment, connection, session: await sessionOn(connection) };
  }

  return {
    ...parts,
    token,
    control,
    connect,
    enroll: enrollNode,
    online,
    register: (key, extras = {}) =>
      control.registerNode({
        publicKey: key.publicKey.spki,
        name: extras.name ?? '',
        labels: {},
        again: extras.again ?? false,
      }),
    until: (node, status) => untilStatus(control, node, status),
  };
}

export function newKey(curve: Curve = 'P-256'): PrivateKey {
  return generatePrivateKey(curve);
}

/** Enrolls on a connection that is there, as the agent does. */
export function enrollOn(
  connection: LinkConnection,
  privateKey: PrivateKey,
  generation = 0n,
  tenant = defaultTenant,
): Promise<Enrollment> {
  return enroll({
    ...{ connection, privateKey, tenant, generation },
    clock: systemClock,
    random: systemRandom,
  });
}

/** Opens a session as the agent does. */
export function sessionOn(connection: LinkConnection): Promise<Session> {
  return openSession({ connection, objects: noObjects, clock: systemClock, onServerRoots: () => undefined });
}

/** For sessions that have no objects. */
export const noObjects: ObjectsLink = {
  begin: () => Promise.reject(new Error('this test has no objects')),
};

export { statusName } from './control-calls.js';
