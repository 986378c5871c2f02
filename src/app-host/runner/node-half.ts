/**
 * The node half of an app in its runner: its handlers get one message after the other, and the answer, the changed state,
 * progress and log lines go back. The runner remembers nothing but the state.
 */
import { decodeContent, type Content } from '../../app/content.js';
import type { AppLog, Handlers, IncomingMessage, NodeContext } from '../../app/app.js';
import type { Clock } from '../../base/clock.js';
import { isRollcallError, RollcallError, toRollcallError } from '../../base/errors.js';
import { deferred } from '../../base/wait.js';
import { chunkBytes } from '../../objects/limits.js';
import type { Frame, FrameConnection } from '../wire/frames.js';
import type { Welcome } from './connection.js';
import { bodyOf, nameContent, prepareContent } from './content.js';
import { describeError, describeFailure, HandlingError } from './failure.js';
import { KeptState } from './kept-state.js';
import { createAppLog } from './log.js';
import { LogWriter } from './log-writer.js';
import { malformed, numberOf } from './message-frames.js';
import { ObjectTransfer, parseObjectName } from './objects.js';

export interface NodeRunnerOptions {
  readonly connection: FrameConnection;
  readonly welcome: Welcome;
  /** The bytes of the state; empty for none. */
  readonly state: Buffer;
  readonly handlers: Handlers;
  /** The folder of the app. */
  readonly folder: string;
  readonly clock: Clock;
}

const minProgressMs = 100;
const maxNoteLength = 200;

export class NodeHalfRunner {
  readonly #options: NodeRunnerOptions;
  readonly #objects: ObjectTransfer;
  readonly #log: AppLog;
  readonly #kept: KeptState;
  readonly #closed = deferred();
  #handling: { readonly number: number; readonly abort: AbortController } | undefined;

  constructor(options: NodeRunnerOptions) {
    const { connection, clock, state } = options;
    const writer = new LogWriter(connection, clock);
    this.#options = options;
    this.#objects = new ObjectTransfer(connection);
    this.#log = createAppLog((level, text) => writer.write(level, text));
    this.#kept = new KeptState(state);
  }

  /** Says that it is ready, and resolves when the connection is closed. */
  run(): Promise<void> {
    const { connection } = this.#options;
    connection.onClose(() => {
      this.#handling?.abort.abort(new RollcallError('LINK_UNREACHABLE', 'the agent is gone'));
      this.#closed.resolve();
    });
    connection.onFrame(frame => this.#take(frame));
    connection.send('ready', {});
    return this.#closed.promise;
  }

  #take(frame: Frame): void {
    if (this.#objects.take(frame)) return;
    if (frame.name === 'message') {
      if (this.#handling) throw malformed('a message came while another was handled');
      const number = numberOf(frame);
      const abort = new AbortController();
      this.#handling = { number, abort };
      void this.#handle(frame, number, abort.signal);
    } else if (frame.name === 'cancel' && numberOf(frame) === this.#handling?.number) {
      const reason = new RollcallError('DEADLINE_EXCEEDED', 'nobody wants the answer any more');
      this.#handling.abort.abort(reason);
    }
  }

  async #handle(frame: Frame, number: number, signal: AbortSignal): Promise<void> {
    try {
      const message = await this.#readMessage(frame, number);
      const result = await this.#callHandler(message, this.#contextOf(number, signal));
      await this.#reply(number, result);
    } catch (error) {
      this.#kept.undo();
      // Other errors: the content, or the handler's answer, is invalid.
      const told =
        error instanceof HandlingError ? error : new HandlingError('APP_INVALID', describeError(error));
      this.#finish();
      this.#options.connection.send('error', { number, code: told.code, message: told.message });
    }
  }

  /** The next message may come as soon as the answer is on its way. */
  #finish(): void {
    this.#handling = undefined;
  }

  async #readMessage({ value, body }: Frame, number: number): Promise<IncomingMessage> {
    const { type, group, attempt, createdAt } = value;
    const bytes = value['object'] === undefined ? body : await this.#readObject(value['object']);
    return {
      message: number,
      type: String(type),
      group: typeof group === 'string' ? group : '',
      content: decodeContent(bytes),
      attempt: typeof attempt === 'number' ? attempt : 1,
      createdAt: typeof createdAt === 'number' ? createdAt : this.#options.clock.now(),
    };
  }

  async #readObject(name: unknown): Promise<Buffer> {
    try {
      return await this.#objects.read(parseObjectName(name));
    } catch (error) {
      const isTooLarge = isRollcallError(error, 'REQUEST_INVALID');
      throw new HandlingError(isTooLarge ? 'APP_INVALID' : 'OBJECT_LOST', toRollcallError(error).message);
    }
  }

  async #callHandler(message: IncomingMessage, context: NodeContext): Promise<Content | undefined> {
    const { handlers, folder } = this.#options;
    const handler = Object.hasOwn(handlers, message.type) ? handlers[message.type] : undefined;
    if (!handler)
      throw new HandlingError('NO_HANDLER', `the node half has no handler of the type "${message.type}"`);
    try {
      return await handler(message, context);
    } catch (error) {
      throw new HandlingError('HANDLER_THREW', describeFailure(error, folder));
    }
  }

  #contextOf(number: number, signal: AbortSignal): NodeContext {
    const { welcome } = this.#options;
    const { state } = this.#kept;
    return {
      nodeConfig: welcome.node?.config ?? {},
      nodeId: welcome.node?.id ?? '',
      runId: welcome.run,
      runConfig: welcome.config,
      // A getter, so that nothing can be assigned to it: that would be forgotten.
      get state() {
        return state;
      },
      log: this.#log,
      signal,
      progress: this.#createProgress(number),
    };
  }

  #createProgress(number: number): NodeContext['progress'] {
    const { connection, clock } = this.#options;
    let last = -Infinity;
    // Apps in JavaScript may pass values of any type.
    return (fraction: unknown, note: unknown) => {
      const now = clock.elapsed();
      if (now - last < minProgressMs || this.#handling?.number !== number) return;
      last = now;
      connection.send('progress', {
        number,
        fraction: Math.min(1, Math.max(0, Number(fraction) || 0)),
        note: typeof note === 'string' ? note.slice(0, maxNoteLength) : '',
      });
    };
  }

  /** The state goes first: it is on the disk together with the answer. */
  async #reply(number: number, result: Content | undefined): Promise<void> {
    const { connection } = this.#options;
    const content = prepareContent(result ?? {});
    const change = this.#kept.encode();
    if (content.manifest) await this.#objects.write(content.manifest, content.parts);
    if (change) await sendState(connection, change);
    this.#kept.keep(change);
    this.#finish();
    const stateBytes = change && { stateBytes: change.length };
    connection.send('reply', { number, ...nameContent(content), ...stateBytes }, bodyOf(content));
  }
}

async function sendState(connection: FrameConnection, state: Buffer): Promise<void> {
  for (let at = 0; at < state.length; at += chunkBytes) {
    connection.send('state', {}, state.subarray(at, at + chunkBytes));
    await connection.drained();
  }
}
