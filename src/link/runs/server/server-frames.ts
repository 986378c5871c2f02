/** Decodes frames from the runner of a server half, strictly, because the runner executes untrusted code. Pure. */
import { RollcallError } from '../../../base/errors.js';
import { cleanText } from '../../../base/text.js';
import { findNodeId } from '../../../identity/node-id.js';
import { limits } from '../../../protocol/limits.js';
import type { Frame } from '../../../app-host/wire/frames.js';
import type { Content } from '../messages/message-record.js';
import type { LogLine } from '../run-log-draft.js';
import type { NodeCriteria } from '../node-selection.js';
import { appLimits } from '../../../app/limits.js';

const { minTtlMs, defaultTtlMs, maxTtlMs } = appLimits;

type Fields = Readonly<Record<string, unknown>>;

export interface SentMessage {
  readonly number: number;
  /** Undefined if the id is invalid. */
  readonly node: bigint | undefined;
  readonly nodeText: string;
  readonly type: string;
  readonly group: string;
  readonly ttlMs: number;
  readonly content: Content;
}

/** How the server half ended, in its own words. */
export type ServerOutcome = { readonly result: string } | { readonly failure: string };

const maxNameLength = 200;
const maxLevelLength = 20;

export function readSend({ value, body }: Frame): SentMessage {
  const nodeText = readText(value, 'node', maxNameLength);
  return {
    number: readCount(value, 'number'),
    node: findNodeId(nodeText),
    nodeText,
    type: readText(value, 'type', maxNameLength),
    group: readText(value, 'group', maxNameLength),
    ttlMs: Math.min(Math.max(readNumber(value, 'ttlMs', defaultTtlMs), minTtlMs), maxTtlMs),
    content: readContent(value, body),
  };
}

/** The content of a frame: its body, or the object that it names. */
export function readContent(value: Fields, body: Buffer): Content {
  const { object } = value;
  if (object === undefined) {
    if (body.length <= limits.contentBytes) return { bytes: body };
    throw malformed(`expected an object for a content of ${body.length} bytes`);
  }
  const { digest, sizeBytes } = readFields(object);
  if (typeof digest !== 'string' || !/^[0-9a-f]{64}$/.test(digest)) throw malformed('invalid digest');
  if (typeof sizeBytes !== 'number' || !Number.isSafeInteger(sizeBytes) || sizeBytes < 1)
    throw malformed('invalid object size');
  return { object: { digest, sizeBytes } };
}

export function readNodesRequest({ value }: Frame): {
  readonly request: number;
  readonly criteria: NodeCriteria;
} {
  const labels = readFields(value['labels'] ?? {});
  const pairs = Object.entries(labels);
  if (pairs.length > 100 || !pairs.every(([, each]) => typeof each === 'string'))
    throw malformed('expected at most 100 labels, each a string');
  const timeoutMs = value['timeoutMs'] ?? Infinity;
  return {
    request: readCount(value, 'request'),
    criteria: {
      min: Math.max(0, readNumber(value, 'min', 1)),
      labels: labels as Readonly<Record<string, string>>,
      timeoutMs: typeof timeoutMs === 'number' && timeoutMs >= 0 ? timeoutMs : Infinity,
    },
  };
}

/** `now`: the time of a line that states none. */
export function readLogLine(
  { value }: Frame,
  now: number,
): { readonly sequence: number; readonly line: LogLine } {
  const { at } = value;
  return {
    sequence: readCount(value, 'sequence'),
    line: {
      at: typeof at === 'number' ? at : now,
      level: readText(value, 'level', maxLevelLength),
      text: readText(value, 'text', limits.contentBytes),
    },
  };
}

/** JSON; empty for no result. */
export function readResult({ value }: Frame): ServerOutcome {
  const result = value['result'] === undefined ? '' : JSON.stringify(value['result']);
  return Buffer.byteLength(result) <= appLimits.maxResultBytes
    ? { result }
    : { failure: `its result must have at most ${appLimits.maxResultBytes / 1024} KiB` };
}

export function readFailure({ value }: Frame): ServerOutcome {
  return {
    failure: cleanText(readText(value, 'message', limits.contentBytes), appLimits.maxFailureBytes),
  };
}

/** Reads a message, request or line number. */
export function readCount(value: Fields, name: string): number {
  const count = value[name];
  if (typeof count === 'number' && Number.isSafeInteger(count) && count >= 1) return count;
  throw malformed(`"${name}" must be an integer of at least 1`);
}

function readNumber(value: Fields, name: string, defaultTo: number): number {
  const number = value[name] ?? defaultTo;
  if (typeof number === 'number' && Number.isFinite(number)) return Math.round(number);
  throw malformed(`"${name}" must be a number`);
}

export function readText(value: Fields, name: string, maxLength: number): string {
  const text = value[name] ?? '';
  if (typeof text === 'string' && text.length <= maxLength) return text;
  throw malformed(`"${name}" must be a string of at most ${maxLength} characters`);
}

function readFields(value: unknown): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  throw malformed('expected a JSON object');
}

function malformed(what: string): RollcallError {
  return new RollcallError('PROTOCOL_INVALID', `protocol violation by the app host: ${what}`);
}
