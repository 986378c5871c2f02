/** The metrics of the link, for Prometheus. The only importer of prom-client. */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';

export interface Metrics {
  handshake(door: string, outcome: string): void;
  enrollment(outcome: string): void;
  presence(status: string, reason: string): void;
  commit(seconds: number): void;
  /** A message of a run has its answer: `content`, or the code of an error. */
  message(outcome: string): void;
  /** Something that somebody should look at. */
  alert(event: string): void;
  /** A refusal, by the type of its audit event and its reason. */
  refusal(event: string, reason: string): void;
  /** Values read at each scrape. */
  observe(read: {
    sessions: () => number;
    runs: () => number;
    /** Milliseconds since 1970. */
    certificateExpiresAt: () => number;
    nodes: () => Promise<Readonly<Record<string, number>>>;
  }): void;
  /** The exposition text and its content type. */
  render(): Promise<{ readonly type: string; readonly body: string }>;
}

export interface MetricFacts {
  readonly kind: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  /** Each with the values that it takes, in Markdown. */
  readonly labels?: Readonly<Record<string, string>>;
}

const codes = 'an [error code](errors.md)';
const nodeStatus = 'a status of nodes, such as `online`';

/** Every metric of the link but those of Node.js; docs/reference/metrics.md is made from this table. */
export const metricTable = {
  rollcall_tls_handshakes_total: {
    kind: 'counter',
    help: 'TLS handshakes by door and outcome',
    labels: { door: '`node`, `control`', outcome: '`done`, `failed`, `timeout`, `refused`' },
  },
  rollcall_enrollments_total: {
    kind: 'counter',
    help: 'Enrollments by outcome',
    labels: { outcome: `\`enrolled\`, or ${codes}` },
  },
  rollcall_presence_changes_total: {
    kind: 'counter',
    help: 'Changes of a node status by new status and reason',
    labels: { status: nodeStatus, reason: 'as in `rollcall nodes history`' },
  },
  rollcall_nodes: {
    kind: 'gauge',
    help: 'Registered nodes by status',
    labels: { status: nodeStatus },
  },
  rollcall_sessions: { kind: 'gauge', help: 'Live sessions' },
  rollcall_runs_open: { kind: 'gauge', help: 'Runs that are not over' },
  rollcall_messages_total: {
    kind: 'counter',
    help: 'Messages of runs that have their answer, by outcome',
    labels: { outcome: '`content`, or a [code of an answer](errors.md#answers-of-messages)' },
  },
  rollcall_refusals_total: {
    kind: 'counter',
    help: 'Refused peers, logins and requests, by audit event and reason',
    labels: {
      event: '`peer.refused`, `login.refused`, `request.refused`',
      reason: `the missing permission, ${codes}, or an error of the token endpoint`,
    },
  },
  rollcall_security_alerts_total: {
    kind: 'counter',
    help: 'What somebody should look at, by event',
    labels: { event: 'an [alert](#alerts)' },
  },
  rollcall_store_commit_seconds: {
    kind: 'histogram',
    help: 'Time from a commit being asked for to it being durable',
  },
  rollcall_server_certificate_expiry_timestamp_seconds: {
    kind: 'gauge',
    help: 'When the certificate that the link shows expires, seconds since 1970',
  },
} as const satisfies Readonly<Record<string, MetricFacts>>;

type MetricName = keyof typeof metricTable;
type NameOf<Kind extends MetricFacts['kind']> = {
  [Name in MetricName]: (typeof metricTable)[Name]['kind'] extends Kind ? Name : never;
}[MetricName];

function configOf(name: MetricName): { name: string; help: string; labelNames: string[] } {
  const { help, labels = {} }: MetricFacts = metricTable[name];
  return { name, help, labelNames: Object.keys(labels) };
}

export function createMetrics(): Metrics {
  const registry = new Registry();
  const registers = [registry];
  // Event-loop delay, memory, descriptors, garbage collection. Looked for every 10 ms, as usual, the delay alone costs
  // one hundredth of a core; a delay that matters is seen just as well ten times a second.
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: 100 });
  const counter = (name: NameOf<'counter'>) => new Counter({ ...configOf(name), registers });
  const gauge = (name: NameOf<'gauge'>, collect: (this: Gauge) => void | Promise<void>) =>
    new Gauge({ ...configOf(name), registers, collect });
  const handshakes = counter('rollcall_tls_handshakes_total');
  const enrollments = counter('rollcall_enrollments_total');
  const presence = counter('rollcall_presence_changes_total');
  const alerts = counter('rollcall_security_alerts_total');
  const refusals = counter('rollcall_refusals_total');
  const messages = counter('rollcall_messages_total');
  const commits = new Histogram({
    ...configOf('rollcall_store_commit_seconds'),
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5],
    registers,
  });
  return {
    handshake: (door, outcome) => handshakes.inc({ door, outcome }),
    enrollment: outcome => enrollments.inc({ outcome }),
    presence: (status, reason) => presence.inc({ status, reason }),
    commit: seconds => commits.observe(seconds),
    message: outcome => messages.inc({ outcome }),
    alert: event => alerts.inc({ event }),
    refusal: (event, reason) => refusals.inc({ event, reason }),
    observe({ sessions, runs, nodes, certificateExpiresAt }) {
      gauge('rollcall_server_certificate_expiry_timestamp_seconds', function () {
        this.set(Math.floor(certificateExpiresAt() / 1000));
      });
      gauge('rollcall_runs_open', function () {
        this.set(runs());
      });
      gauge('rollcall_sessions', function () {
        this.set(sessions());
      });
      gauge('rollcall_nodes', async function () {
        for (const [status, count] of Object.entries(await nodes())) this.set({ status }, count);
      });
    },
    render: async () => ({ type: registry.contentType, body: await registry.metrics() }),
  };
}
