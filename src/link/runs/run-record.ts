/**
 * The record of a run and its form in the store: JSON, with 64-bit numbers as decimal text. Decoding is strict: an incomplete
 * record is reported as INTERNAL and never used in part.
 */
import { isDeepStrictEqual } from 'node:util';
import { RollcallError } from '../../base/errors.js';
import type { ConfigValue } from '../../app-package/app-manifest.js';
import type { Value } from '../../store/store.js';

export const runStatusNames = ['pending', 'starting', 'running', 'finished'] as const;
export type RunStatusName = (typeof runStatusNames)[number];
export const runOutcomeNames = ['completed', 'failed', 'stopped'] as const;
export type RunOutcomeName = (typeof runOutcomeNames)[number];

export interface RunApp {
  readonly name: string;
  readonly version: string;
  /** SHA-256 of the list of files, hex. */
  readonly digest: string;
  /** Path of the server half in the app. */
  readonly serverEntry: string;
  readonly nodeEntry: string;
  /** SPKI DER of the author's app key, base64. */
  readonly signer: string;
  readonly signerFingerprint: string;
  /** Base64. */
  readonly signature: string;
  /** The archive as an object of the run. */
  readonly archive: { readonly digest: string; readonly sizeBytes: number };
}

export interface RunCounts {
  /** Nodes that messages were sent to. */
  readonly nodes: number;
  readonly sent: number;
  readonly answered: number;
  /** How many of the answers are errors. */
  readonly failed: number;
  readonly logLines: number;
}

export interface RunRecord {
  readonly id: bigint;
  readonly tenant: string;
  readonly app: RunApp;
  readonly status: RunStatusName;
  /** Set once the run is finished. */
  readonly outcome?: RunOutcomeName;
  readonly reason: string;
  /** `ownerName` of the principal that started it. */
  readonly startedBy: string;
  /** The settings of the app, with those that the start overrides. */
  readonly config: Readonly<Record<string, ConfigValue>>;
  /** Sorts the runs of the tenant by their start. */
  readonly order: number;
  /** Milliseconds since 1970; 0 until it has happened. */
  readonly createdAt: number;
  readonly startingAt: number;
  readonly runningAt: number;
  readonly finishedAt: number;
  readonly counts: RunCounts;
  /** The result of the server half as JSON; empty for none. */
  readonly result: string;
  /** Set when its server half is started. A child of the link (`subprocess`) does not outlive it. */
  readonly hostedBy?: 'process' | 'subprocess';
  /** SHA-256 of the server half's token, hex. */
  readonly tokenHash?: string;
  /** Hash of the idempotency key of its start, hex. */
  readonly startHash?: string;
}

export interface RunLogEntry {
  /** From 1, without gaps. */
  readonly number: number;
  readonly at: number;
  /** 0 for the server half and the link. */
  readonly node: bigint;
  readonly level: string;
  readonly text: string;
}

export const noCounts: RunCounts = { nodes: 0, sent: 0, answered: 0, failed: 0, logLines: 0 };

/** Integers beyond 2^53 are decimal text. */
function toJson(value: object): Buffer {
  return Buffer.from(
    JSON.stringify(value, (_, each: unknown) => (typeof each === 'bigint' ? `${each}` : each)),
  );
}

export function encodeRunRecord(record: RunRecord): Buffer {
  return toJson(record);
}

export function encodeLogEntry({ number: _, ...entry }: RunLogEntry): Buffer {
  return toJson(entry);
}

/** Only the link writes these values, so a value that does not encode to the same bytes again is damaged. */
function decode<T extends object>(
  what: string,
  bytes: Value,
  shape: (fields: Record<string, unknown>) => T,
): T {
  try {
    const fields: unknown = JSON.parse(Buffer.from(bytes).toString());
    if (typeof fields === 'object' && fields !== null) {
      const value = shape(fields as Record<string, unknown>);
      if (isDeepStrictEqual(JSON.parse(toJson(value).toString()), fields)) return value;
    }
    throw new TypeError('it differs from its encoded form');
  } catch (error) {
    throw new RollcallError('INTERNAL', `a ${what} in the store is damaged`, { cause: error });
  }
}

export function decodeRunRecord(bytes: Value): RunRecord {
  return decode('run record', bytes, fields => {
    const record = { ...fields, id: BigInt(fields['id'] as string) } as RunRecord;
    if (isWhole(record)) return record;
    throw new TypeError('a field is missing or has the wrong type');
  });
}

function isWhole({ app, counts, ...record }: RunRecord): boolean {
  const { archive } = app;
  return (
    runStatusNames.includes(record.status) &&
    (record.outcome === undefined || runOutcomeNames.includes(record.outcome)) &&
    areAll('string', [record.tenant, record.reason, record.startedBy, record.result]) &&
    areAll('string', [app.name, app.version, app.digest, app.serverEntry, app.nodeEntry, archive.digest]) &&
    areAll('string', [app.signer, app.signerFingerprint, app.signature]) &&
    areAll('number', [record.order, record.createdAt, record.startingAt, record.runningAt]) &&
    areAll('number', [record.finishedAt, archive.sizeBytes, counts.nodes, counts.sent]) &&
    areAll('number', [counts.answered, counts.failed, counts.logLines]) &&
    Object.values(record.config).every(each => ['string', 'number', 'boolean'].includes(typeof each))
  );
}

function areAll(type: 'string' | 'number', values: readonly unknown[]): boolean {
  return values.every(each => typeof each === type);
}

export function decodeLogEntry(number: number, bytes: Value): RunLogEntry {
  const entry = decode('line of a log', bytes, fields => {
    const line = { ...fields, node: BigInt(fields['node'] as string) } as Omit<RunLogEntry, 'number'>;
    if (typeof line.at === 'number' && areAll('string', [line.level, line.text])) return line;
    throw new TypeError('a field is missing or has the wrong type');
  });
  return { ...entry, number };
}
