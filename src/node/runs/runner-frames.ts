/**
 * Frames between the agent and the runner of a node half, as docs/app-host-protocol.md has them. The runner executes somebody's app:
 * every field of its frames is checked, bounded, or replaced by a default. No state.
 */
import { appLimits } from '../../app/limits.js';
import { clipToBytes } from '../../base/text.js';
import { isMessageErrorCode, type MessageErrorCode } from '../../app/message-error.js';
import type { Language } from '../../app-host/hosting/hosting.js';
import type { Frame, FrameConnection } from '../../app-host/wire/frames.js';
import { isDigest } from '../../objects/manifest.js';
import { limits } from '../../protocol/limits.js';
import type { RunnerMessage } from './handler-call.js';
import type { Answer } from './journal.js';
import { runnerLimits } from './runner-state.js';

type Value = Frame['value'];

/** Sent to the runner before its first message. */
export interface RunnerStart {
  readonly run: bigint;
  readonly language: Language;
  readonly memoryBytes: number;
  /** The members of `welcome` that say what the app is and where it runs. */
  readonly welcome: object;
  readonly archiveBytes: number;
  /** In pieces of at most 1 MiB. */
  readonly readArchive: () => AsyncIterable<Buffer>;
  readonly state: Uint8Array | undefined;
}

/** Hears of what a runner says besides its answers. */
export interface RunnerListener {
  onLog(at: number, level: string, text: string): void;
  onProgress(message: number, fraction: number, note: string): void;
}

export interface Progress {
  readonly fraction: number;
  readonly note: string;
}

export interface LogEntry {
  /** Undefined where the runner gave no time. */
  readonly at: number | undefined;
  readonly level: string;
  readonly text: string;
}

const levels: ReadonlySet<string> = new Set(['debug', 'info', 'warn', 'error']);
/** Why a runner may say that a message failed; the agent alone gives the other reasons. */
const runnerCodes: ReadonlySet<MessageErrorCode> = new Set([
  'NO_HANDLER',
  'HANDLER_THREW',
  'APP_INVALID',
  'OBJECT_LOST',
]);

export function readFailed({ message }: Value): string {
  return clipToBytes(typeof message === 'string' ? message : 'it does not load', appLimits.maxFailureBytes);
}

/** Undefined for a content that had to be an object. */
export function readContent(body: Buffer): Answer | undefined {
  return body.length <= limits.contentBytes ? { kind: 'content', content: body } : undefined;
}

export function readError({ code, message }: Value): Answer {
  const isKnown = typeof code === 'string' && isMessageErrorCode(code) && runnerCodes.has(code);
  const text = clipToBytes(typeof message === 'string' ? message : '', appLimits.maxFailureBytes);
  return { kind: 'error', code: isKnown ? code : 'HANDLER_THREW', message: text };
}

/** Undefined without a fraction. */
export function readProgress({ fraction, note }: Value): Progress | undefined {
  if (typeof fraction !== 'number') return undefined;
  const text = typeof note === 'string' ? clipToBytes(note, runnerLimits.noteBytes) : '';
  return { fraction: Math.min(Math.max(fraction, 0), 1), note: text };
}

/** Undefined without a text. */
export function readLog({ at, level, text }: Value): LogEntry | undefined {
  if (typeof text !== 'string') return undefined;
  const isTime = typeof at === 'number' && Number.isSafeInteger(at) && at >= 0;
  const isLevel = typeof level === 'string' && levels.has(level);
  return { at: isTime ? at : undefined, level: isLevel ? level : 'info', text };
}

/** Undefined unless it names an object. The size is compared with the object's own. */
export function readReference(
  object: unknown,
): { readonly digest: string; readonly sizeBytes: unknown } | undefined {
  if (typeof object !== 'object' || object === null) return undefined;
  const { digest, sizeBytes } = object as Readonly<Record<string, unknown>>;
  return typeof digest === 'string' && isDigest(digest) ? { digest, sizeBytes } : undefined;
}

const pieceBytes = 1024 * 1024;

export async function sendWelcome(to: FrameConnection, start: RunnerStart): Promise<void> {
  const { run, welcome, archiveBytes, readArchive, state } = start;
  const head = { archiveBytes, stateBytes: state?.byteLength ?? 0, resumed: false };
  to.send('welcome', { protocol: 1, run: run.toString(), half: 'node', ...welcome, ...head });
  for await (const piece of readArchive()) if (!to.send('archive', {}, piece)) await to.drained();
  for (const piece of piecesOf(state)) if (!to.send('state', {}, piece)) await to.drained();
}

function* piecesOf(bytes: Uint8Array | undefined): Generator<Uint8Array> {
  for (let at = 0; bytes && at < bytes.byteLength; at += pieceBytes)
    yield bytes.subarray(at, at + pieceBytes);
}

export function sendMessage(to: FrameConnection, message: RunnerMessage): void {
  const { number, type, group, attempt, createdAt, content } = message;
  const head = { number, type, group, attempt, createdAt };
  if (content instanceof Uint8Array) to.send('message', head, content);
  else {
    const { digest, sizeBytes } = content.manifest;
    to.send('message', { ...head, object: { digest, sizeBytes } });
  }
}
