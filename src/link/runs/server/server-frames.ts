/** Frames from the runner of a server half, read strictly because the runner executes somebody's app. Pure. */
import { RollcallError } from '../../../base/errors.js';
import { cleanText } from '../../../base/text.js';
import { findNodeId } from '../../../identity/node-id.js';
import { limits } from '../../../protocol/limits.js';
import type { Frame } from '../../../app-host/wire/frames.js';
import type { Content } from '../messages/message-record.js';
import type { LogLine } from '../run-log-draft.js';
import type { NodeWish } from './find-nodes.js';
import { appLimits } from '../../../app/limits.js';

const { minTtlMs, defaultTtlMs, maxTtlMs } = appLimits;

type Fields = Readonly<Record<string, unknown>>;

export interface SentMessage {
  readonly number: number;
  /** Undefined for an invalid node id. */
  readonly node: bigint | undefined;
  readonly nodeText: string;
  readonly type: string;
  readonly group: string;
  readonly ttlMs: number;
  readonly content: Content;
}

/** How the server half says that it ended. */
export type ServerOutcome = { readonly result: string } | { readonly failure: string };

const maxNameLength = 200;
const maxLevelLength = 20;

export function readSend({ value, body }: Frame): SentMessage {
  const nodeText = wantText(value, 'node', maxNameLength);
  return {
    number: wantCount(value, 'number'),
    node: findNodeId(nodeText),
    nodeText,
    type: wantText(value, 'type', maxNameLength),
    group: wantText(value, 'group', maxNameLength),
    ttlMs: Math.min(Math.max(wantNumber(value, 'ttlMs', defaultTtlMs), minTtlMs), maxTtlMs),
    content: readContent(value, body),
  };
}

/** The content of a frame: its body, or the object that it names. */
export function readContent(value: Fields, body: Buffer): Content {
  const { object } = value;
  if (object === undefined) {
    if (body.length <= limits.contentBytes) return { bytes: body };
    throw malformed(`a content of ${body.length} bytes is no object`);
  }
  const { digest, sizeBytes } = wantFields(object);
  if (typeof digest !== 'string' || !/^[0-9a-f]{64}$/.test(digest)) throw malformed('invalid digest');
  if (typeof sizeBytes !== 'number' || !Number.isSafeInteger(sizeBytes) || sizeBytes < 1)
    throw malformed('invalid object size');
  return { object: { digest, sizeBytes } };
}

export function readNodesRequest({ value }: Frame): { readonly request: number; readonly wish: NodeWish } {
  const labels = wantFields(value['labels'] ?? {});
  const pairs = Object.entries(labels);
  if (pairs.length > 100 || !pairs.every(([, each]) => typeof each === 'string'))
    throw malformed('labels are pairs of texts');
  const timeoutMs = value['timeoutMs'] ?? Infinity;
  return {
    request: wantCount(value, 'request'),
    wish: {
      min: Math.max(0, wantNumber(value, 'min', 1)),
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
    sequence: wantCount(value, 'sequence'),
    line: {
      at: typeof at === 'number' ? at : now,
      level: wantText(value, 'level', maxLevelLength),
      text: wantText(value, 'text', limits.contentBytes),
    },
  };
}

/** JSON; empty for no result. */
export function readResult({ value }: Frame): ServerOutcome {
  const result = value['result'] === undefined ? '' : JSON.stringify(value['result']);
  return Buffer.byteLength(result) <= appLimits.maxResultBytes
    ? { result }
    : { failure: 'what it returned is larger than 64 KiB' };
}

export function readFailure({ value }: Frame): ServerOutcome {
  return {
    failure: cleanText(wantText(value, 'message', limits.contentBytes), appLimits.maxFailureBytes),
  };
}

/** A number that counts something of the run, from 1. */
export function wantCount(value: Fields, name: string): number {
  const count = value[name];
  if (typeof count === 'number' && Number.isSafeInteger(count) && count >= 1) return count;
  throw malformed(`"${name}" is no number of the run`);
}

function wantNumber(value: Fields, name: string, defaultTo: number): number {
  const number = value[name] ?? defaultTo;
  if (typeof number === 'number' && Number.isFinite(number)) return Math.round(number);
  throw malformed(`"${name}" is no number`);
}

export function wantText(value: Fields, name: string, maxLength: number): string {
  const text = value[name] ?? '';
  if (typeof text === 'string' && text.length <= maxLength) return text;
  throw malformed(`"${name}" is no text of at most ${maxLength} characters`);
}

function wantFields(value: unknown): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  throw malformed('something is no object');
}

function malformed(what: string): RollcallError {
  return new RollcallError('PROTOCOL_INVALID', `the app host said what it may not: ${what}`);
}
