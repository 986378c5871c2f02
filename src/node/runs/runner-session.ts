/**
 * One runner of a node half, from its start to its end, as docs/app-host.md has it: it is given the app, its settings and
 * its state, then one message at a time. Everything it says is checked; a runner that says what it may not is ended, and
 * so is one whose handler takes too long. What an answer means for the run is for whoever asked.
 */
import type { Clock, Timer } from '../../base/clock.js';
import { toRollcallError } from '../../base/errors.js';
import type { Random } from '../../base/random.js';
import { isMessageErrorCode, type MessageErrorCode } from '../../app/message-error.js';
import { appLimits } from '../../app/limits.js';
import type { Frame, FrameConnection } from '../../app-host/wire/frames.js';
import type { Hosting, Language, RunnerExit } from '../../app-host/hosting/hosting.js';
import { handleObjectFrame } from '../../app-host/wire/object-frames.js';
import { isDigest, type Manifest } from '../../objects/manifest.js';
import type { ObjectRoom } from '../../objects/object-store.js';
import { limits } from '../../protocol/limits.js';
import { clipText } from './clip-text.js';
import type { Answer } from './journal.js';

/** What the runner is given before its first message. */
export interface HalfStart {
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

export interface HalfMessage {
  readonly number: number;
  readonly type: string;
  readonly group: string;
  readonly attempt: number;
  readonly createdAt: number;
  readonly content: Uint8Array | { readonly manifest: Manifest; readonly room: ObjectRoom };
}

export type HalfAnswer =
  /** `state`: what it left, when that has changed. */
  | { readonly kind: 'answer'; readonly answer: Answer; readonly state?: Uint8Array | undefined }
  | { readonly kind: 'exited'; readonly exit: RunnerExit };

export interface HalfListener {
  onLog(at: number, level: string, text: string): void;
  onProgress(message: number, fraction: number, note: string): void;
}

export interface HalfOptions {
  readonly hosting: Hosting;
  readonly start: HalfStart;
  /** Where it puts the contents of its answers. */
  readonly room: ObjectRoom;
  readonly listener: HalfListener;
  readonly clock: Clock;
  readonly random: Random;
}

export interface HalfRunner {
  /** Never rejects. One at a time. When the signal says so the runner is told that nobody wants the answer. */
  handle(message: HalfMessage, withinMs: number, signal: AbortSignal): Promise<HalfAnswer>;
  /** Ends it; resolves when it is gone. */
  stop(note: string): Promise<void>;
  /** Never rejects. */
  readonly exited: Promise<RunnerExit>;
  /** It takes no message any more. */
  readonly isOver: boolean;
}

export type StartedHalf =
  | { readonly kind: 'ready'; readonly half: HalfRunner }
  /** It does not load, and would not the next time. */
  | { readonly kind: 'failed'; readonly message: string }
  | { readonly kind: 'exited'; readonly exit: RunnerExit };

export const halfLimits = {
  stateBytes: 16 * 1024 * 1024,
  /** From the connection to `ready`, ms. */
  loadMs: 5 * 60_000,
  /** From the start to the connection, ms. */
  connectMs: 60_000,
  /** For a handler that was told that nobody wants its answer, ms. */
  cancelledMs: 30_000,
  /** From the end of its connection to its own, ms. */
  closedMs: 2_000,
  noteBytes: 1_024,
} as const;
const pieceBytes = 1024 * 1024;
const tokenBytes = 32;
const levels: ReadonlySet<string> = new Set(['debug', 'info', 'warn', 'error']);
/** Why a runner may say that a message failed; everything else is for the agent to say. */
const runnersCodes: ReadonlySet<MessageErrorCode> = new Set([
  'NO_HANDLER',
  'HANDLER_THREW',
  'APP_INVALID',
  'OBJECT_LOST',
]);

interface Current {
  readonly message: HalfMessage;
  readonly settle: (answer: HalfAnswer) => void;
  timer: Timer;
  isAnswered: boolean;
}

/** Resolves when it is ready, or never will be. */
export function startHalfRunner(options: HalfOptions, signal: AbortSignal): Promise<StartedHalf> {
  const { hosting, start, room, listener, clock, random } = options;
  const run = start.run.toString();
  /** Retained on behalf of this runner: what it has put and not spoken of yet. */
  const stored = new Set<string>();
  let connection: FrameConnection | undefined;
  let current: Current | undefined;
  let stateParts: Buffer[] = [];
  let stateBytes = 0;
  let isReady = false;
  let isOver = false;
  let failure: string | undefined;
  let tellStarted: (started: StartedHalf) => void = () => undefined;
  let tellExit: (exit: RunnerExit) => void = () => undefined;
  const started = new Promise<StartedHalf>(resolve => (tellStarted = resolve));
  const exited = new Promise<RunnerExit>(resolve => (tellExit = resolve));
  let patience = clock.after(halfLimits.connectMs, () => stop('it did not connect in time'));

  const half: HalfRunner = {
    exited,
    get isOver() {
      return isOver;
    },
    handle(message, withinMs, cancelled) {
      return new Promise(resolve => {
        const cancel = (): void => tellCancelled(message.number);
        const settle = (answer: HalfAnswer): void => {
          current?.timer.cancel();
          cancelled.removeEventListener('abort', cancel);
          current = undefined;
          resolve(answer);
        };
        const timer = clock.after(withinMs, () => onTooLate(withinMs));
        current = { message, settle, timer, isAnswered: false };
        if (isOver) {
          void exited.then(exit => settle({ kind: 'exited', exit }));
          return;
        }
        sendMessage(message);
        cancelled.addEventListener('abort', cancel);
        if (cancelled.aborted) cancel();
      });
    },
    async stop(note) {
      stop(note);
      await exited;
    },
  };

  function stop(note: string): void {
    isOver = true;
    hosting.stop(run, note);
  }

  function sendMessage({ number, type, group, attempt, createdAt, content }: HalfMessage): void {
    const head = { number, type, group, attempt, createdAt };
    if (content instanceof Uint8Array) connection?.send('message', head, content);
    else {
      const { digest, sizeBytes } = content.manifest;
      connection?.send('message', { ...head, object: { digest, sizeBytes } });
    }
  }

  function tellCancelled(number: number): void {
    if (current?.message.number !== number) return;
    connection?.send('cancel', { number });
    current.timer.cancel();
    current.timer = clock.after(halfLimits.cancelledMs, () => onTooLate(halfLimits.cancelledMs));
  }

  function onTooLate(withinMs: number): void {
    endWith('HANDLER_TIMEOUT', `the handler took longer than the node allows, ${withinMs / 1000} s`);
  }

  /** The message in work has this for its answer, and the runner is ended. */
  function endWith(code: MessageErrorCode, message: string): void {
    stop(message);
    current?.settle({ kind: 'answer', answer: { kind: 'error', code, message } });
  }

  function refuse(why: string): void {
    connection?.bye(why);
    if (!isReady) failure ??= why;
    endWith('APP_INVALID', `the node half of the app was ended: ${why}`);
  }

  function onConnection(next: FrameConnection): void {
    // What was under way on the first one cannot be made good on a second.
    if (connection || isOver) {
      next.bye('a runner of a node half connects once');
      return;
    }
    connection = next;
    patience.cancel();
    patience = clock.after(halfLimits.loadMs, () => {
      failure ??= `it was not ready within ${halfLimits.loadMs / 1000} s`;
      stop(failure);
    });
    next.onClose(() => {
      isOver = true;
      // A process that ends closes it too, and how it ends says more.
      patience.cancel();
      patience = clock.after(halfLimits.closedMs, () => stop('it closed its connection'));
    });
    next.onFrame(frame => {
      try {
        take(next, frame);
      } catch (error) {
        refuse(toRollcallError(error).message);
      }
    });
    void welcome(next).catch((error: unknown) => refuse(toRollcallError(error).message));
  }

  async function welcome(to: FrameConnection): Promise<void> {
    const { archiveBytes, state } = start;
    const head = { archiveBytes, stateBytes: state?.byteLength ?? 0, resumed: false };
    to.send('welcome', { protocol: 1, run, half: 'node', ...start.welcome, ...head });
    for await (const piece of start.readArchive()) if (!to.send('archive', {}, piece)) await to.drained();
    for (const piece of piecesOf(state)) if (!to.send('state', {}, piece)) await to.drained();
  }

  function take(from: FrameConnection, frame: Frame): void {
    if (isOver) return;
    const { name, value, body } = frame;
    if (name === 'ready') onReadyFrame();
    else if (name === 'failed') onFailedFrame(value['message']);
    else if (name === 'state') takeState(body);
    else if (name === 'reply') takeReply(value, body);
    else if (name === 'error') takeError(value);
    else if (name === 'progress') takeProgress(value);
    else if (name === 'log') takeLog(value);
    else handleObjectFrame(from, frame, { readable, writable: room, onStored });
  }

  function onReadyFrame(): void {
    if (isReady) return;
    isReady = true;
    patience.cancel();
    tellStarted({ kind: 'ready', half });
  }

  function onFailedFrame(message: unknown): void {
    if (isReady) throw new Error('a runner that was ready');
    failure = clipText(typeof message === 'string' ? message : 'it does not load', appLimits.maxFailureBytes);
    stop('it does not load');
  }

  function takeState(body: Buffer): void {
    stateBytes += body.length;
    if (stateBytes > halfLimits.stateBytes) {
      refuse(`context.state holds more than ${halfLimits.stateBytes} bytes`);
      return;
    }
    stateParts.push(body);
  }

  function whatItAnswers(number: unknown): Current | undefined {
    if (!current || current.isAnswered || current.message.number !== number) {
      refuse('it answered what it was not asked');
      return undefined;
    }
    current.isAnswered = true;
    return current;
  }

  function takeReply({ number, stateBytes: saidBytes, object }: Frame['value'], body: Buffer): void {
    const asked = whatItAnswers(number);
    if (!asked) return;
    const state = finishState();
    if ((state?.byteLength ?? saidBytes) !== saidBytes) refuse('its state is not as long as it says');
    else if (object === undefined) finish(asked, inlineAnswer(body), state);
    else {
      objectAnswer(object, body).then(
        answer => finish(asked, answer, state),
        (error: unknown) => refuse(toRollcallError(error).message),
      );
    }
  }

  /** Undefined when no state came: it has not changed. */
  function finishState(): Uint8Array | undefined {
    const state = stateParts.length === 0 ? undefined : Buffer.concat(stateParts);
    dropState();
    return state;
  }

  function dropState(): void {
    stateParts = [];
    stateBytes = 0;
  }

  function finish(asked: Current, answer: Answer | undefined, state: Uint8Array | undefined): void {
    if (current !== asked) {
      if (answer?.kind === 'object') void room.release(answer.digest).catch(() => undefined);
      return;
    }
    if (!answer) {
      refuse('its answer is no content that travels');
      return;
    }
    releaseStored();
    asked.settle({ kind: 'answer', answer, state });
  }

  function inlineAnswer(body: Buffer): Answer | undefined {
    return body.length <= limits.contentBytes ? { kind: 'content', content: body } : undefined;
  }

  /** The object is retained for the answer. */
  async function objectAnswer(object: unknown, body: Buffer): Promise<Answer | undefined> {
    if (typeof object !== 'object' || object === null || body.length > 0) return undefined;
    const { digest, sizeBytes } = object as Readonly<Record<string, unknown>>;
    if (typeof digest !== 'string' || !isDigest(digest)) return undefined;
    const manifest = await room.find(digest);
    if (manifest?.sizeBytes !== sizeBytes || !manifest) return undefined;
    room.retain(digest);
    return { kind: 'object', digest, sizeBytes: manifest.sizeBytes };
  }

  function takeError({ number, code, message }: Frame['value']): void {
    const asked = whatItAnswers(number);
    if (!asked) return;
    // What a handler that failed left of its state is undone.
    dropState();
    releaseStored();
    const isKnown = typeof code === 'string' && isMessageErrorCode(code) && runnersCodes.has(code);
    const text = clipText(typeof message === 'string' ? message : '', appLimits.maxFailureBytes);
    const answer = { kind: 'error', code: isKnown ? code : 'HANDLER_THREW', message: text } as const;
    asked.settle({ kind: 'answer', answer });
  }

  function takeProgress({ number, fraction, note }: Frame['value']): void {
    if (!current || current.message.number !== number || typeof fraction !== 'number') return;
    const text = typeof note === 'string' ? clipText(note, halfLimits.noteBytes) : '';
    listener.onProgress(current.message.number, Math.min(Math.max(fraction, 0), 1), text);
  }

  function takeLog({ at, level, text }: Frame['value']): void {
    const isTime = typeof at === 'number' && Number.isSafeInteger(at) && at >= 0;
    const isLevel = typeof level === 'string' && levels.has(level);
    if (typeof text !== 'string') return;
    listener.onLog(isTime ? at : Math.round(clock.now()), isLevel ? level : 'info', text);
  }

  /** Only the content of the message in work. */
  function readable(
    digest: string,
  ): Promise<{ readonly manifest: Manifest; readonly room: ObjectRoom } | undefined> {
    const content = current?.message.content;
    const found = content instanceof Uint8Array || content?.manifest.digest !== digest ? undefined : content;
    return Promise.resolve(found);
  }

  function onStored({ digest }: Manifest): void {
    if (stored.has(digest)) return;
    stored.add(digest);
    room.retain(digest);
  }

  function releaseStored(): void {
    for (const digest of stored) void room.release(digest).catch(() => undefined);
    stored.clear();
  }

  function onExit(exit: RunnerExit): void {
    isOver = true;
    patience.cancel();
    signal.removeEventListener('abort', onAbort);
    releaseStored();
    dropState();
    current?.settle({ kind: 'exited', exit });
    tellStarted(failure === undefined ? { kind: 'exited', exit } : { kind: 'failed', message: failure });
    tellExit(exit);
  }

  function onAbort(): void {
    const note = 'the run is over';
    stop(note);
    current?.settle({ kind: 'exited', exit: { code: null, signal: null, note } });
  }

  signal.addEventListener('abort', onAbort);
  const token = random(tokenBytes).toString('hex');
  const { language, memoryBytes } = start;
  hosting.start(
    { run, half: 'node', language, token, memoryBytes },
    {
      onConnection,
      onExit,
      onOutput: (stream, text) => listener.onLog(Math.round(clock.now()), stream, text),
    },
  );
  if (signal.aborted) onAbort();
  return started;
}

function* piecesOf(bytes: Uint8Array | undefined): Generator<Uint8Array> {
  for (let at = 0; bytes && at < bytes.byteLength; at += pieceBytes)
    yield bytes.subarray(at, at + pieceBytes);
}
