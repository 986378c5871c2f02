/**
 * A real control port – TLS, both protocols, access, registry – whose runs are kept in memory and change as the test
 * directs: nothing is hosted. Real runs have tests of their own.
 */
import { EventEmitter } from 'node:events';
import type { Test } from 'tap';
import { systemClock, type Clock } from '../../src/base/clock.js';
import { RollcallError } from '../../src/base/errors.js';
import { createLog } from '../../src/base/log.js';
import { systemRandom } from '../../src/base/random.js';
import { formatAddress } from '../../src/base/settings.js';
import { parseSpki } from '../../src/identity/public-key.js';
import { openAccess, type Access } from '../../src/link/access/access.js';
import { Administration } from '../../src/link/administration.js';
import { createAudit } from '../../src/link/audit/audit.js';
import { createAuditReading } from '../../src/link/audit/audit-reading.js';
import { openCheckpoints } from '../../src/link/audit/checkpoints.js';
import { Refusals } from '../../src/link/audit/refusals.js';
import { makeDevelopmentCertificates } from '../../src/link/authority/development.js';
import { Control } from '../../src/link/control.js';
import { openControlPort } from '../../src/link/doors/control-port.js';
import { createMetrics } from '../../src/link/metrics.js';
import { Registry } from '../../src/link/registry/registry.js';
import { RunControl, type OperatedRuns } from '../../src/link/run-control.js';
import type { RunLogEntry, RunRecord } from '../../src/link/runs/run-record.js';
import type { NewRun } from '../../src/link/runs/runs.js';
import { createMemoryStore } from '../../src/store/memory.js';
import { prepareStore } from '../../src/store/schema.js';
import type { Store } from '../../src/store/store.js';
import { makeFolder } from './folder.js';
import { issueOperatorToken, issueToken, makeUser, ignoredRefusals } from './operator.js';

export interface MemoryRuns extends OperatedRuns {
  /** How many lines were taken from logs. */
  linesRead(): number;
  /** The requested starts, in order. */
  readonly started: readonly NewRun[];
  /** A run that is there already. */
  add(fields?: Partial<RunRecord>): RunRecord;
  change(id: bigint, fields: Partial<RunRecord>): RunRecord;
  /** Adds a line to the log. */
  say(id: bigint, text: string, fields?: Partial<RunLogEntry>): void;
  /** How many look for changes now. */
  watchers(): number;
}

const startOfIds = 16019329408659850374n;

export function createMemoryRuns(now: () => number = () => Date.now()): MemoryRuns {
  const records = new Map<bigint, RunRecord>();
  const logs = new Map<bigint, RunLogEntry[]>();
  const started: NewRun[] = [];
  let linesRead = 0;
  const changes = new EventEmitter().setMaxListeners(0);

  function put(record: RunRecord): RunRecord {
    records.set(record.id, record);
    changes.emit(`${record.id}`);
    return record;
  }

  function add(fields: Partial<RunRecord> = {}): RunRecord {
    return put({
      id: startOfIds + BigInt(records.size),
      order: records.size,
      tenant: 'default',
      app: {
        name: 'hello',
        version: '1.0.0',
        digest: 'ab'.repeat(32),
        serverEntry: 'server.js',
        nodeEntry: 'node.js',
        signer: '',
        signerFingerprint: 'SHA256:author',
        signature: '',
        archive: { digest: 'cd'.repeat(32), sizeBytes: 1 },
      },
      status: 'pending',
      reason: 'waiting for an app host',
      startedBy: 'somebody',
      config: { greeting: 'hello' },
      createdAt: now(),
      startingAt: 0,
      runningAt: 0,
      finishedAt: 0,
      counts: { nodes: 0, sent: 0, answered: 0, failed: 0, logLines: 0 },
      result: '',
      ...fields,
    });
  }

  function get(id: bigint): RunRecord {
    const record = records.get(id);
    if (record) return record;
    throw new RollcallError('NOT_FOUND', 'there is no such run');
  }

  const change: MemoryRuns['change'] = (id, fields) => put({ ...get(id), ...fields });
  const find: OperatedRuns['find'] = (tenant, id) => {
    const record = records.get(id);
    return Promise.resolve(record?.tenant === tenant ? record : undefined);
  };

  return {
    started,
    add,
    change,
    find,
    say(id, text, fields = {}) {
      const log = logs.get(id) ?? [];
      logs.set(id, log);
      log.push({ number: log.length + 1, at: now(), node: 0n, level: 'info', text, ...fields });
      change(id, { counts: { ...get(id).counts, logLines: log.length } });
    },
    start(run) {
      started.push(run);
      const { tenant, startedBy, config } = run;
      const record = add({ tenant, startedBy, config });
      const app = { ...record.app, name: run.appName, version: run.appVersion, digest: run.appDigest };
      const { fingerprint: signerFingerprint } = parseSpki(run.signer);
      return Promise.resolve(put({ ...record, app: { ...app, signerFingerprint } }));
    },
    list(tenant, { statuses = [], startedBy, pageSize = 100, pageToken = '' }) {
      const found = [...records.values()]
        .filter(each => each.tenant === tenant)
        .filter(
          each =>
            startedBy === undefined ||
            (each.startedBy === startedBy.name && each.createdAt >= startedBy.since),
        )
        .filter(each => statuses.length === 0 || statuses.includes(each.status))
        .reverse();
      const from = Number(pageToken);
      const end = from + pageSize;
      return Promise.resolve({
        runs: found.slice(from, end),
        nextPageToken: end < found.length ? `${end}` : '',
      });
    },
    stop(tenant, id, by) {
      const run = get(id);
      if (run.tenant !== tenant) throw new RollcallError('NOT_FOUND', 'there is no such run');
      if (run.status === 'finished') return Promise.resolve(run);
      const reason = `stopped by ${by.name}`;
      return Promise.resolve(
        change(id, { status: 'finished', outcome: 'stopped', reason, finishedAt: now() }),
      );
    },
    readLog(_, id, after, limit) {
      const page = (logs.get(id) ?? []).filter(({ number }) => number > after).slice(0, limit);
      linesRead += page.length;
      return Promise.resolve(page);
    },
    linesRead: () => linesRead,
    watch(id, listener) {
      changes.on(`${id}`, listener);
      return () => void changes.off(`${id}`, listener);
    },
    watchers: () => changes.eventNames().reduce((sum, name) => sum + changes.listenerCount(name), 0),
  };
}

export interface RunPort {
  readonly runs: MemoryRuns;
  readonly access: Access;
  readonly registry: Registry;
  readonly store: Store;
  /** `host:port` of the port that is open now. */
  address(): string;
  readonly port: number;
  readonly ca: string;
  readonly folder: string;
  /** Of an operator who may do everything. */
  readonly token: string;
  /** A user with some roles, and a token of theirs. */
  person(name: string, roles: readonly string[], tenant?: string): Promise<{ id: string; token: string }>;
  /** Drops every connection and takes no more, as a link that was killed. */
  stop(): Promise<void>;
  /** Opens it again, at the same address. */
  reopen(): Promise<void>;
}

export async function openRunPort(
  t: Pick<Test, 'teardown'>,
  options: { readonly clock?: Clock } = {},
): Promise<RunPort> {
  const { clock = systemClock } = options;
  const folder = await makeFolder(t);
  const store = createMemoryStore();
  await prepareStore(store);
  const log = createLog({ level: 'error', name: 'link' });
  const audit = createAudit({ clock });
  const registry = new Registry({ store, audit, clock, random: systemRandom, log });
  const refusals = new Refusals({ clock, store, audit, log });
  const trustDomain = 'test.example';
  const checkpoints = await openCheckpoints({
    ...{ folder, store, audit, clock, random: systemRandom, log, trustDomain },
  });
  const retention = { hold: () => Promise.resolve(() => undefined) };
  const access = await openAccess({
    ...{ folder, store, audit, clock, random: systemRandom, log, audience: 'rollcall' },
    refusals,
    algorithms: { defaultAlgorithm: 'ES256', byAudience: {} },
    issuer: () => 'https://localhost',
    alerts: { raise: () => undefined },
    findNodeName: () => Promise.resolve(undefined),
  });
  const made = makeDevelopmentCertificates({
    hosts: ['localhost', '127.0.0.1'],
    days: 2,
    now: Date.now(),
    random: systemRandom,
  });
  const runs = createMemoryRuns();
  const nobodyLive = () => Promise.resolve(0);
  const control = new Control({
    registry,
    sessions: { endNode: nobodyLive } as never,
    enrollments: { endKey: nobodyLive } as never,
    clock,
    ownKeys: () => [],
  });
  let bound = { host: '127.0.0.1', port: 0 };
  const open = () =>
    openControlPort({
      address: bound,
      context: { cert: made.server.certificate, key: made.server.key },
      caps: { total: 1000, perAddress: 1000 },
      ...{ clock, log, control, access },
      refusals: ignoredRefusals,
      metrics: createMetrics(),
      runControl: new RunControl(runs),
      administration: new Administration(access, () => Promise.resolve(0)),
      auditReading: createAuditReading({ store, checkpoints, retention, trustDomain }),
      assignment: () => ({ trustDomain, links: [], serverRoots: '' }),
      requireAuth: false,
      requestCertificate: false,
      ready: () => Promise.resolve(),
    });
  let port = await open();
  bound = port.address;
  t.teardown(async () => {
    await port.close();
    await access.close();
    await refusals.close();
    await checkpoints.close();
    await registry.close();
    await store.close();
  });
  return {
    ...{ runs, access, registry, store, folder, ca: made.ca.certificate, port: bound.port },
    address: () => formatAddress(bound),
    token: await issueOperatorToken(access),
    async person(name, roles, tenant) {
      const user = await makeUser(access, name, roles, tenant);
      return { id: user.id, token: await issueToken(access, user) };
    },
    stop: () => port.close(),
    async reopen() {
      port = await open();
    },
  };
}
