/** Records ⇄ the messages of the service of runs. */
import type { ConfigValue } from '../../../app-package/app-manifest.js';
import { RollcallError } from '../../../base/errors.js';
import {
  RunOutcome,
  RunStatus,
  type ListRunsRequest,
  type NewRun,
  type Run,
  type RunLogEntry as WireEntry,
  type RunLogEvent,
} from '../../../protocol/generated/rollcall/v1/runs.js';
import { isJsonObject, parseStrictJson } from '../../../tokens/strict-json.js';
import type { WantedRun } from '../../run-control.js';
import type { RunLogEntry, RunOutcomeName, RunRecord, RunStatusName } from '../../runs/run-record.js';
import type { RunQuery } from '../../runs/runs.js';

const statuses: Readonly<Record<RunStatusName, RunStatus>> = {
  pending: RunStatus.RUN_STATUS_PENDING,
  starting: RunStatus.RUN_STATUS_STARTING,
  running: RunStatus.RUN_STATUS_RUNNING,
  finished: RunStatus.RUN_STATUS_FINISHED,
};

const outcomes: Readonly<Record<RunOutcomeName, RunOutcome>> = {
  completed: RunOutcome.RUN_OUTCOME_COMPLETED,
  failed: RunOutcome.RUN_OUTCOME_FAILED,
  stopped: RunOutcome.RUN_OUTCOME_STOPPED,
};

export function toRun(record: RunRecord): Run {
  const { app, counts } = record;
  return {
    id: record.id,
    tenant: record.tenant,
    status: statuses[record.status],
    outcome: record.outcome ? outcomes[record.outcome] : RunOutcome.RUN_OUTCOME_UNSPECIFIED,
    reason: record.reason,
    appName: app.name,
    appVersion: app.version,
    appDigest: Buffer.from(app.digest, 'hex'),
    signer: app.signerFingerprint,
    startedBy: record.startedBy,
    createdAtMs: BigInt(record.createdAt),
    startingAtMs: BigInt(record.startingAt),
    runningAtMs: BigInt(record.runningAt),
    finishedAtMs: BigInt(record.finishedAt),
    nodes: counts.nodes,
    messagesSent: BigInt(counts.sent),
    messagesAnswered: BigInt(counts.answered),
    messagesFailed: BigInt(counts.failed),
    configJson: JSON.stringify(record.config),
    resultJson: record.result,
    logLines: BigInt(counts.logLines),
  };
}

/** As a list gives it: settings and results of a thousand runs would be too much for one answer. */
export function toListedRun(record: RunRecord): Run {
  return { ...toRun(record), configJson: '', resultJson: '' };
}

export function toEntry({ number, at, node, level, text }: RunLogEntry): WireEntry {
  return { number: BigInt(number), atMs: BigInt(at), node, level, text };
}

export function entryEvent(entry: RunLogEntry): RunLogEvent {
  return { event: { $case: 'entry', value: toEntry(entry) } };
}

export function runEvent(record: RunRecord): RunLogEvent {
  return { event: { $case: 'run', value: toRun(record) } };
}

export function readRunQuery({ statuses: wanted, pageSize, pageToken }: ListRunsRequest): RunQuery {
  return {
    statuses: wanted.map(statusOf),
    ...(pageSize > 0 && { pageSize }),
    ...(pageToken !== '' && { pageToken }),
  };
}

function statusOf(wire: RunStatus): RunStatusName {
  for (const [name, status] of Object.entries(statuses)) if (status === wire) return name as RunStatusName;
  throw new RollcallError('REQUEST_INVALID', 'unknown run status', {
    hint: `known: ${Object.keys(statuses).join(', ')}`,
  });
}

const digestBytes = 32;

/** The request of a run, before its archive has arrived. */
export function readNewRun(run: NewRun): Omit<WantedRun, 'archive'> {
  if (run.appDigest.length !== digestBytes)
    throw new RollcallError('REQUEST_INVALID', 'the digest of an app is SHA-256');
  return {
    appName: run.appName,
    appVersion: run.appVersion,
    appDigest: run.appDigest.toString('hex'),
    signer: run.signer,
    signature: run.signature,
    config: readConfig(run.configJson),
    ...(run.idempotencyKey !== '' && { idempotencyKey: readIdempotencyKey(run.idempotencyKey) }),
  };
}

function readIdempotencyKey(key: string): string {
  if (/^[\x21-\x7e]{1,128}$/.test(key)) return key;
  throw new RollcallError('REQUEST_INVALID', 'invalid idempotency key', {
    hint: 'expected 1 to 128 printable ASCII characters without spaces, such as a UUID',
  });
}

const maxSettings = 100;

/** An object of texts, numbers and truth values; empty text means none. What the app makes of them is for the runs to say. */
export function readConfig(json: string): Readonly<Record<string, ConfigValue>> {
  if (json === '') return {};
  const config = parseConfig(json);
  if (!isJsonObject(config)) throw unfitConfig('they are no JSON object');
  const settings = Object.entries(config);
  if (settings.length > maxSettings) throw unfitConfig(`there are more than ${maxSettings}`);
  if (!settings.every(([, value]) => isConfigValue(value)))
    throw unfitConfig('each is a text, a finite number, true or false');
  return config as Readonly<Record<string, ConfigValue>>;
}

function parseConfig(json: string): unknown {
  try {
    return parseStrictJson(Buffer.from(json));
  } catch {
    throw unfitConfig('they are not JSON, or say something twice');
  }
}

function isConfigValue(value: unknown): boolean {
  return (
    typeof value === 'string' ||
    typeof value === 'boolean' ||
    (typeof value === 'number' && Number.isFinite(value))
  );
}

function unfitConfig(what: string): RollcallError {
  return new RollcallError('REQUEST_INVALID', `the settings of the run are not usable: ${what}`);
}

/** A number of a log entry; every log is shorter than what a double cannot count. */
export function readEntryNumber(wire: bigint): number {
  if (wire <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(wire);
  throw new RollcallError('REQUEST_INVALID', 'no log has so many entries');
}
