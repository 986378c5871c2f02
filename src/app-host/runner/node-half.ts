/**
 * The node half of an app in its runner: one message after the other is given to its handler, and what comes of it (the
 * answer, what the handler left in the state, progress, log lines) goes back. Nothing is remembered but the state.
 */
import type { MessageErrorCode } from '../../app/message-error.js';
import { decodeContent, encodeContent, type Content } from '../../app/content.js';
import type { Handlers, IncomingMessage, NodeContext } from '../../app/app.js';
import { appLimits } from '../../app/limits.js';
import type { Clock } from '../../base/clock.js';
import { isRollcallError, RollcallError, toRollcallError } from '../../base/errors.js';
import { chunkBytes } from '../../objects/manifest.js';
import type { Frame, FrameConnection } from '../wire/frames.js';
import type { Welcome } from './connection.js';
import { bodyOf, nameContent, prepareContent } from './content.js';
import { describeError, describeFailure } from './failure.js';
import { createAppLog, type LogLevel } from './log.js';
import { ObjectTransfer, parseObjectName } from './objects.js';

export interface NodeRunnerOptions {
  readonly connection: FrameConnection;
  readonly welcome: Welcome;
  /** The bytes of the state; empty for none. */
  readonly state: Buffer;
  readonly handlers: Handlers;
  /** Where the app lies. */
  readonly folder: string;
  readonly clock: Clock;
}

const progressEveryMs = 100;
const mostNoteCharacters = 200;

/** What the agent is told instead of an answer. */
class HandlingError extends Error {
  readonly code: MessageErrorCode;

  constructor(code: MessageErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** Says that it is ready, and resolves when the connection is closed. */
export function runNodeHalf(options: NodeRunnerOptions): Promise<void> {
  const { connection, welcome, handlers, folder, clock } = options;
  const objects = new ObjectTransfer(connection);
  const log = createAppLog(createLogWriter(connection, clock));
  const kept = createKeptState(options.state);
  let handling: { readonly number: number; readonly abort: AbortController } | undefined;

  function take(frame: Frame): void {
    if (objects.take(frame)) return;
    if (frame.name === 'message') {
      if (handling) throw malformed('a message came while another was handled');
      const number = numberOf(frame);
      handling = { number, abort: new AbortController() };
      void handle(frame, number, handling.abort.signal);
    } else if (frame.name === 'cancel' && numberOf(frame) === handling?.number) {
      handling.abort.abort(new RollcallError('DEADLINE_EXCEEDED', 'nobody wants the answer any more'));
    }
  }

  async function handle(frame: Frame, number: number, signal: AbortSignal): Promise<void> {
    try {
      const message = await readMessage(frame, number);
      const result = await callHandler(message, contextOf(number, signal));
      await reply(number, result);
    } catch (error) {
      kept.undo();
      // The rest is a content that is none, or what the handler gave for one.
      const told =
        error instanceof HandlingError ? error : new HandlingError('APP_INVALID', describeError(error));
      finish();
      connection.send('error', { number, code: told.code, message: told.message });
    }
  }

  /** The next message may come as soon as the answer is on its way. */
  function finish(): void {
    handling = undefined;
  }

  async function readMessage({ value, body }: Frame, number: number): Promise<IncomingMessage> {
    const { type, group, attempt, createdAt } = value;
    const bytes = value['object'] === undefined ? body : await readObject(value['object']);
    return {
      message: number,
      type: String(type),
      group: typeof group === 'string' ? group : '',
      content: decodeContent(bytes),
      attempt: typeof attempt === 'number' ? attempt : 1,
      createdAt: typeof createdAt === 'number' ? createdAt : clock.now(),
    };
  }

  async function readObject(name: unknown): Promise<Buffer> {
    try {
      return await objects.read(parseObjectName(name));
    } catch (error) {
      const isTooLarge = isRollcallError(error, 'REQUEST_INVALID');
      throw new HandlingError(isTooLarge ? 'APP_INVALID' : 'OBJECT_LOST', toRollcallError(error).message);
    }
  }

  async function callHandler(message: IncomingMessage, context: NodeContext): Promise<Content | undefined> {
    const handler = Object.hasOwn(handlers, message.type) ? handlers[message.type] : undefined;
    if (!handler)
      throw new HandlingError('NO_HANDLER', `the node half has no handler of the type "${message.type}"`);
    try {
      return await handler(message, context);
    } catch (error) {
      throw new HandlingError('HANDLER_THREW', describeFailure(error, folder));
    }
  }

  function contextOf(number: number, signal: AbortSignal): NodeContext {
    const { state } = kept;
    return {
      nodeConfig: welcome.node?.config ?? {},
      nodeId: welcome.node?.id ?? '',
      runId: welcome.run,
      runConfig: welcome.config,
      // What is assigned to it would be forgotten, so that it cannot be.
      get state() {
        return state;
      },
      log,
      signal,
      progress: createProgress(number),
    };
  }

  function createProgress(number: number): NodeContext['progress'] {
    let last = -Infinity;
    // JavaScript may give whatever it has.
    return (fraction: unknown, note: unknown) => {
      const now = clock.elapsed();
      if (now - last < progressEveryMs || handling?.number !== number) return;
      last = now;
      connection.send('progress', {
        number,
        fraction: Math.min(1, Math.max(0, Number(fraction) || 0)),
        note: typeof note === 'string' ? note.slice(0, mostNoteCharacters) : '',
      });
    };
  }

  /** The state goes first: it is on the disk together with the answer. */
  async function reply(number: number, result: Content | undefined): Promise<void> {
    const content = prepareContent(result ?? {});
    const change = kept.encode();
    if (content.manifest) await objects.write(content.manifest, content.parts);
    if (change) await sendState(connection, change);
    kept.keep(change);
    finish();
    const stateBytes = change && { stateBytes: change.length };
    connection.send('reply', { number, ...nameContent(content), ...stateBytes }, bodyOf(content));
  }

  const done = new Promise<void>(resolve => {
    connection.onClose(() => {
      handling?.abort.abort(new RollcallError('LINK_UNREACHABLE', 'the agent is gone'));
      resolve();
    });
  });
  connection.onFrame(take);
  connection.send('ready', {});
  return done;
}

async function sendState(connection: FrameConnection, state: Buffer): Promise<void> {
  for (let at = 0; at < state.length; at += chunkBytes) {
    connection.send('state', {}, state.subarray(at, at + chunkBytes));
    await connection.drained();
  }
}

interface KeptState {
  /** What handlers change. */
  readonly state: Record<string, Content[string]>;
  /** Its bytes, if they are others than those that are kept. REQUEST_INVALID when something in it cannot travel. */
  encode(): Buffer | undefined;
  keep(bytes: Buffer | undefined): void;
  /** Makes the state what was kept last. */
  undo(): void;
}

/** The bytes that are kept are never those that arrays of the state look into: a handler may write into these. */
function createKeptState(bytes: Buffer): KeptState {
  let last = bytes.length > 0 ? bytes : join({});
  let state = decodeCopy(last);
  return {
    get state() {
      return state;
    },
    encode() {
      const now = join(state);
      if (now.length > appLimits.maxStateBytes)
        throw new HandlingError(
          'APP_INVALID',
          `context.state holds more than ${appLimits.maxStateBytes} bytes`,
        );
      return now.equals(last) ? undefined : now;
    },
    keep: next => void (last = next ?? last),
    undo: () => void (state = decodeCopy(last)),
  };
}

function join(content: Content): Buffer {
  try {
    return Buffer.concat(encodeContent(content));
  } catch (error) {
    throw new HandlingError(
      'APP_INVALID',
      `what is left in context.state: ${toRollcallError(error).message}`,
    );
  }
}

function decodeCopy(bytes: Buffer): Record<string, Content[string]> {
  return { ...decodeContent(Uint8Array.from(bytes)) };
}

/** Lines are passed over while too much waits to be written, and counted. */
function createLogWriter(connection: FrameConnection, clock: Clock): (level: LogLevel, text: string) => void {
  let lost = 0;
  let isFull = false;
  const write = (level: LogLevel, text: string): boolean =>
    connection.send('log', { at: clock.now(), level, text });
  return (level, text) => {
    if (isFull) {
      lost += 1;
      return;
    }
    if (write(level, text)) return;
    isFull = true;
    void connection.drained().then(() => {
      isFull = false;
      if (lost > 0) write('warn', `${lost} lines were lost: too many came at once`);
      lost = 0;
    });
  };
}

function numberOf({ name, value }: Frame): number {
  const { number } = value;
  if (typeof number === 'number' && Number.isSafeInteger(number) && number > 0) return number;
  throw malformed(`a frame "${name}" has no number`);
}

function malformed(what: string): RollcallError {
  return new RollcallError('PROTOCOL_INVALID', what);
}
