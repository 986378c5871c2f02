/** What the link counts and times, for Prometheus. The only importer of prom-client. */
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
  /** Somebody was refused, by the type of the audit event and its reason. */
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

export function createMetrics(): Metrics {
  const registry = new Registry();
  const registers = [registry];
  // Event-loop delay, memory, descriptors, garbage collection. Looked for every 10 ms, as usual, the delay alone costs
  // one hundredth of a core; a delay that matters is seen just as well ten times a second.
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: 100 });
  const handshakes = new Counter({
    name: 'rollcall_tls_handshakes_total',
    help: 'TLS handshakes by door and outcome',
    labelNames: ['door', 'outcome'],
    registers,
  });
  const enrollments = new Counter({
    name: 'rollcall_enrollments_total',
    help: 'Enrollments by outcome',
    labelNames: ['outcome'],
    registers,
  });
  const presence = new Counter({
    name: 'rollcall_presence_changes_total',
    help: 'Changes of a node status by new status and reason',
    labelNames: ['status', 'reason'],
    registers,
  });
  const alerts = new Counter({
    name: 'rollcall_security_alerts_total',
    help: 'What somebody should look at, by event',
    labelNames: ['event'],
    registers,
  });
  const refusals = new Counter({
    name: 'rollcall_refusals_total',
    help: 'Refused peers, logins and requests, by audit event and reason',
    labelNames: ['event', 'reason'],
    registers,
  });
  const messages = new Counter({
    name: 'rollcall_messages_total',
    help: 'Messages of runs that have their answer, by outcome',
    labelNames: ['outcome'],
    registers,
  });
  const commits = new Histogram({
    name: 'rollcall_store_commit_seconds',
    help: 'Time from a commit being asked for to it being durable',
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
      new Gauge({
        name: 'rollcall_server_certificate_expiry_timestamp_seconds',
        help: 'When the certificate that the link shows expires, seconds since 1970',
        registers,
        collect() {
          this.set(Math.floor(certificateExpiresAt() / 1000));
        },
      });
      new Gauge({
        name: 'rollcall_runs_open',
        help: 'Runs that are not over',
        registers,
        collect() {
          this.set(runs());
        },
      });
      new Gauge({
        name: 'rollcall_sessions',
        help: 'Live sessions',
        registers,
        collect() {
          this.set(sessions());
        },
      });
      new Gauge({
        name: 'rollcall_nodes',
        help: 'Registered nodes by status',
        labelNames: ['status'],
        registers,
        async collect() {
          for (const [status, count] of Object.entries(await nodes())) this.set({ status }, count);
        },
      });
    },
    render: async () => ({ type: registry.contentType, body: await registry.metrics() }),
  };
}
