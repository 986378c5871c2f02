/**
 * The node port and what it stands on, without the rest of a link: real TLS, registry, enrollments and sessions, and objects
 * of the test's choice.
 */
import type { Test } from 'tap';
import { systemClock, type Clock } from '../../src/base/clock.js';
import { RollcallError } from '../../src/base/errors.js';
import { createLog } from '../../src/base/log.js';
import { systemRandom } from '../../src/base/random.js';
import type { PrivateKey } from '../../src/identity/private-key.js';
import { createAlerts } from '../../src/link/access/alerts.js';
import { createAudit } from '../../src/link/audit/audit.js';
import { Refusals } from '../../src/link/audit/refusals.js';
import { openAuthority } from '../../src/link/authority/authority.js';
import { makeDevelopmentCertificates } from '../../src/link/authority/development.js';
import { openNodePort } from '../../src/link/doors/node-port.js';
import { Enrollments } from '../../src/link/enrollment/enrollments.js';
import { createMetrics } from '../../src/link/metrics.js';
import { Registry } from '../../src/link/registry/registry.js';
import type { NodeObjects } from '../../src/link/runs/messages/node-objects.js';
import { Sessions } from '../../src/link/sessions/sessions.js';
import { openConnection, type LinkConnection } from '../../src/node/connection.js';
import type { Enrollment } from '../../src/node/enroll.js';
import { ObjectConnections, type ObjectsLink } from '../../src/node/object-connection.js';
import { defaultTenant } from '../../src/protocol/limits.js';
import { createMemoryStore } from '../../src/store/memory.js';
import { prepareStore } from '../../src/store/schema.js';
import { makeFolder } from './folder.js';
import { enrollOn, newKey, sessionOn, type LiveNode } from './test-link.js';
import { userParty } from './parties.js';

export interface TestNodePort {
  /** Every line that was logged. */
  readonly logged: string[];
  register(key?: PrivateKey): Promise<Enrollment>;
  /** Anonymous without an enrollment. */
  connect(enrollment?: Enrollment): Promise<LinkConnection>;
  /** The way to objects, of a stranger without an enrollment. */
  objects(enrollment?: Enrollment): ObjectsLink;
  /** A node that is online, registered before unless it is given. */
  online(enrollment?: Enrollment): Promise<LiveNode>;
  /** Cuts the connection of a node that is online; resolves when its socket is closed. */
  cut(nodeId: bigint): Promise<void>;
  /** Resolves when its sockets are closed. */
  revoke(nodeId: bigint): Promise<void>;
}

export async function startNodePort(
  t: Pick<Test, 'teardown'>,
  objects: NodeObjects,
  /** Of the port alone: sessions do not miss answers to their pings by it. */
  portClock: Clock = systemClock,
): Promise<TestNodePort> {
  const clock = systemClock;
  const folder = await makeFolder(t);
  const logged: string[] = [];
  const destination = { write: (line: string): void => void logged.push(line) };
  const log = createLog({ level: 'debug', name: 'link', destination });
  const store = createMemoryStore();
  await prepareStore(store);
  const trustDomain = 'test.example';
  const shared = { trustDomain, clock, random: systemRandom, log };
  const authority = await openAuthority({ ...shared, folder, certificateLifetimeMs: 3_600_000 });
  const metrics = createMetrics();
  const audit = createAudit({ clock });
  const registry = new Registry({ ...shared, store, audit });
  const refusals = new Refusals({ clock, store, audit, log });
  const sessions = new Sessions({
    certificateLifetimeMs: 3_600_000,
    ...shared,
    registry,
    listener: { onOnline: () => undefined, onOffline: () => undefined, onFrame: () => undefined },
    authority,
  });
  const enrollments = new Enrollments({
    ...shared,
    registry,
    metrics,
    authority,
    refusals,
    alerts: createAlerts({ log, clock, count: () => undefined }),
    bindingTypes: ['tls-exporter'],
    trustBundle: () => ({ serverRoots: [] }),
    linkAddresses: [],
    certificateLifetimeMs: 3_600_000,
    maxInFlight: 100,
  });
  const made = makeDevelopmentCertificates({
    hosts: ['127.0.0.1'],
    days: 1,
    now: clock.now(),
    random: systemRandom,
  });
  const port = await openNodePort({
    address: { host: '127.0.0.1', port: 0 },
    context: {
      cert: made.server.certificate,
      key: made.server.key,
      ca: authority.certificates.map(each => each.toString()),
    },
    caps: { total: 1000, perAddress: 1000 },
    clock: portClock,
    log,
    metrics,
    refusals,
    sessions,
    enrollments,
    objects,
  });
  t.teardown(async () => {
    await port.close();
    await refusals.close();
    await registry.close();
  });

  const opened: [Enrollment | undefined, ObjectsLink][] = [];

  async function connect(enrollment?: Enrollment): Promise<LinkConnection> {
    const connection = await openConnection({
      address: port.address,
      serverRoots: [made.ca.certificate],
      ...(enrollment && {
        certificate: { leaf: enrollment.certificateChain[0] ?? '', key: enrollment.sessionKey },
      }),
      timeoutMs: 10_000,
      clock: systemClock,
    });
    t.teardown(() => connection.close());
    return connection;
  }

  async function register(key = newKey()): Promise<Enrollment> {
    await registry.registerNode({
      tenant: defaultTenant,
      publicKey: key.publicKey,
      by: userParty('test'),
    });
    const connection = await connect();
    const enrollment = await enrollOn(connection, key);
    await connection.close();
    return enrollment;
  }

  async function end(nodeId: bigint, error: RollcallError): Promise<void> {
    await sessions.endNode(defaultTenant, nodeId, error);
  }

  return {
    logged,
    register,
    cut: nodeId => end(nodeId, new RollcallError('LINK_UNREACHABLE', 'cut')),
    connect,
    objects(enrollment) {
      const found = [...opened].find(([of]) => of === enrollment)?.[1];
      if (found) return found;
      const objects = new ObjectConnections(() => connect(enrollment), systemClock);
      opened.push([enrollment, objects]);
      t.teardown(() => objects.close());
      return objects;
    },
    async online(given) {
      const enrollment = given ?? (await register());
      const connection = await connect(enrollment);
      return { enrollment, connection, session: await sessionOn(connection) };
    },
    async revoke(nodeId) {
      await registry.revokeNode(defaultTenant, nodeId, { by: userParty('test'), comment: '' });
      await end(nodeId, new RollcallError('NODE_REVOKED', 'revoked'));
    },
  };
}
