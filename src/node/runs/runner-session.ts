/**
 * One runner of a node half, from its start to its exit, as docs/app-host-protocol.md has it: it is given the app, its settings and
 * its state, then one message at a time. Every frame of it is checked. A runner that violates the protocol is ended, and so
 * is one whose handler takes too long. The caller decides what an answer means for the run.
 */
import type { Clock, Timer } from '../../base/clock.js';
import { toRollcallError } from '../../base/errors.js';
import type { Random } from '../../base/random.js';
import { deferred, onAbort } from '../../base/wait.js';
import type { MessageErrorCode } from '../../app/message-error.js';
import type { Frame, FrameConnection } from '../../app-host/wire/frames.js';
import type { Hosting, RunnerExit } from '../../app-host/hosting/hosting.js';
import { handleObjectFrame } from '../../app-host/wire/object-frames.js';
import type { ObjectBucket } from '../../objects/object-store.js';
import type { Answer } from './journal.js';
import { HandlerCall, type RunnerAnswer, type RunnerMessage } from './handler-call.js';
import {
  readContent,
  readError,
  readFailed,
  readLog,
  readProgress,
  sendMessage,
  sendWelcome,
  type RunnerListener,
  type RunnerStart,
} from './runner-frames.js';
import { RunnerObjects } from './runner-objects.js';
import * as machine from './runner-state.js';
import { StateParts } from './state-parts.js';

export interface RunnerSessionOptions {
  readonly hosting: Hosting;
  readonly start: RunnerStart;
  /** For the contents of the runner's answers. */
  readonly bucket: ObjectBucket;
  readonly listener: RunnerListener;
  readonly clock: Clock;
  readonly random: Random;
}

export type StartedRunner =
  | { readonly kind: 'ready'; readonly session: RunnerSession }
  /** It does not load, and would not the next time. */
  | { readonly kind: 'failed'; readonly message: string }
  | { readonly kind: 'exited'; readonly exit: RunnerExit };

const tokenBytes = 32;

export class RunnerSession {
  readonly #options: RunnerSessionOptions;
  readonly #run: string;
  readonly #stateParts = new StateParts();
  readonly #objects: RunnerObjects;
  readonly #started = deferred<StartedRunner>();
  readonly #exited = deferred<RunnerExit>();
  #state: machine.RunnerState<HandlerCall> = { phase: 'connecting' };
  #connection: FrameConnection | undefined;
  /** For connecting, loading, and exiting after its connection closed. */
  #deadline: Timer;

  /** Resolves when the runner is ready, or never will be. The signal ends it: the run is over. */
  static start(options: RunnerSessionOptions, signal: AbortSignal): Promise<StartedRunner> {
    return new RunnerSession(options).#start(signal);
  }

  private constructor(options: RunnerSessionOptions) {
    this.#options = options;
    this.#run = options.start.run.toString();
    this.#objects = new RunnerObjects(options.bucket);
    this.#deadline = options.clock.after(machine.runnerLimits.connectMs, () =>
      this.#stop('it did not connect in time'),
    );
  }

  /** Never rejects. */
  get exited(): Promise<RunnerExit> {
    return this.#exited.promise;
  }

  /** It takes no message any more. */
  get isOver(): boolean {
    return machine.isOver(this.#state);
  }

  /** Never rejects. One message at a time. The signal tells the runner that nobody waits for the answer any more. */
  handle(message: RunnerMessage, timeoutMs: number, signal: AbortSignal): Promise<RunnerAnswer> {
    if (this.#state.phase === 'exited') return Promise.resolve({ kind: 'exited', exit: this.#state.exit });
    const call = new HandlerCall(message);
    call.setDeadline(this.#handlerDeadline(timeoutMs));
    this.#state = machine.called(this.#state, call);
    if (this.isOver) return call.answer;
    if (this.#connection) sendMessage(this.#connection, message);
    call.onCancel(signal, () => this.#cancel(call));
    return call.answer;
  }

  /** Ends the runner; resolves when it is gone. */
  async stop(note: string): Promise<void> {
    this.#stop(note);
    await this.exited;
  }

  #start(signal: AbortSignal): Promise<StartedRunner> {
    const { hosting, start, listener, clock, random } = this.#options;
    const token = random(tokenBytes).toString('hex');
    hosting.start(
      { run: this.#run, half: 'node', language: start.language, token, memoryBytes: start.memoryBytes },
      {
        onConnection: connection => this.#onConnection(connection),
        onExit: exit => this.#onExit(exit),
        onOutput: (stream, text) => listener.onLog(Math.round(clock.now()), stream, text),
      },
    );
    const stopListening = onAbort(signal, () => this.#onRunOver());
    void this.exited.then(stopListening);
    return this.#started.promise;
  }

  #stop(note: string, failure?: string): void {
    // The run may have another runner by now.
    if (this.#state.phase === 'exited') return;
    this.#state = machine.ended(this.#state, failure);
    this.#options.hosting.stop(this.#run, note);
  }

  #settle(answer: RunnerAnswer): void {
    const call = machine.callOf(this.#state);
    this.#state = machine.settled(this.#state);
    call?.settle(answer);
  }

  /** The runner is ended, and the message in work is answered with this error. */
  #endWith(code: MessageErrorCode, message: string, failure?: string): void {
    this.#stop(message, failure);
    this.#settle({ kind: 'answer', answer: { kind: 'error', code, message } });
  }

  /** It violated the protocol, or cannot be given what it needs. */
  #refuse(why: string): void {
    this.#connection?.bye(why);
    this.#endWith('APP_INVALID', `the node half of the app was ended: ${why}`, why);
  }

  #setDeadline(delayMs: number, onTooLate: () => void): void {
    this.#deadline.cancel();
    this.#deadline = this.#options.clock.after(delayMs, onTooLate);
  }

  #handlerDeadline(timeoutMs: number): Timer {
    const message = `the handler took longer than the node allows, ${timeoutMs / 1000} s`;
    return this.#options.clock.after(timeoutMs, () => this.#endWith('HANDLER_TIMEOUT', message));
  }

  #cancel(call: HandlerCall): void {
    this.#connection?.send('cancel', { number: call.message.number });
    call.setDeadline(this.#handlerDeadline(machine.runnerLimits.cancelledMs));
  }

  #onConnection(connection: FrameConnection): void {
    const next = machine.connected(this.#state);
    if (!next) {
      connection.bye('a runner of a node half connects once');
      return;
    }
    this.#state = next;
    this.#connection = connection;
    this.#setDeadline(machine.runnerLimits.loadMs, () => {
      const why = `it was not ready within ${machine.runnerLimits.loadMs / 1000} s`;
      this.#stop(why, why);
    });
    connection.onClose(() => this.#onClose());
    const refuse = (error: unknown): void => this.#refuse(toRollcallError(error).message);
    connection.onFrame(frame => {
      try {
        this.#take(connection, frame);
      } catch (error) {
        refuse(error);
      }
    });
    sendWelcome(connection, this.#options.start).catch(refuse);
  }

  /** A process that exits closes its connection too, and its exit says more. */
  #onClose(): void {
    if (this.#state.phase === 'exited') return;
    this.#state = machine.ended(this.#state);
    this.#setDeadline(machine.runnerLimits.closedMs, () => this.#stop('it closed its connection'));
  }

  #take(from: FrameConnection, frame: Frame): void {
    if (this.isOver) return;
    const { name, value, body } = frame;
    if (name === 'ready') this.#onReady();
    else if (name === 'failed') this.#onFailed(value);
    else if (name === 'state') this.#onState(body);
    else if (name === 'reply') this.#onReply(value, body);
    else if (name === 'error') this.#onError(value);
    else if (name === 'progress') this.#onProgress(value);
    else if (name === 'log') this.#onLog(value);
    else
      handleObjectFrame(from, frame, {
        readable: digest => Promise.resolve(machine.callOf(this.#state)?.findObject(digest)),
        writable: this.#options.bucket,
        onStored: ({ digest }) => this.#objects.retain(digest),
      });
  }

  #onReady(): void {
    if (machine.isReady(this.#state)) return;
    this.#state = machine.ready(this.#state);
    this.#deadline.cancel();
    this.#started.resolve({ kind: 'ready', session: this });
  }

  #onFailed(value: Frame['value']): void {
    if (machine.isReady(this.#state)) throw new Error('"failed" after "ready"');
    this.#stop('it does not load', readFailed(value));
  }

  #onState(part: Buffer): void {
    if (!this.#stateParts.add(part))
      this.#refuse(`context.state holds more than ${machine.runnerLimits.stateBytes} bytes`);
  }

  /** The call that this number answers. The runner is ended when there is none. */
  #answer(number: unknown): HandlerCall | undefined {
    const next = machine.answered(this.#state, number);
    if (!next) this.#refuse('it answered a message that is not in work');
    else this.#state = next;
    return next?.call;
  }

  #onReply({ number, stateBytes, object }: Frame['value'], body: Buffer): void {
    const call = this.#answer(number);
    if (!call) return;
    const state = this.#stateParts.take();
    if ((state?.byteLength ?? stateBytes) !== stateBytes) this.#refuse('its state is not as long as it says');
    else if (object === undefined) this.#finish(call, readContent(body), state);
    else {
      this.#objects.findAnswer(object, body).then(
        answer => this.#finish(call, answer, state),
        (error: unknown) => this.#refuse(toRollcallError(error).message),
      );
    }
  }

  #finish(call: HandlerCall, answer: Answer | undefined, state: Uint8Array | undefined): void {
    if (machine.callOf(this.#state) !== call) {
      if (answer?.kind === 'object') this.#objects.release(answer.digest);
      return;
    }
    if (!answer) this.#refuse('invalid content of its answer');
    else {
      this.#objects.releaseAll();
      this.#settle({ kind: 'answer', answer, state });
    }
  }

  #onError(value: Frame['value']): void {
    if (!this.#answer(value['number'])) return;
    // The changes of a handler that failed are undone.
    this.#stateParts.drop();
    this.#objects.releaseAll();
    this.#settle({ kind: 'answer', answer: readError(value) });
  }

  #onProgress(value: Frame['value']): void {
    const number = machine.callOf(this.#state)?.message.number;
    const progress = readProgress(value);
    if (number === undefined || number !== value['number'] || !progress) return;
    this.#options.listener.onProgress(number, progress.fraction, progress.note);
  }

  #onLog(value: Frame['value']): void {
    const { listener, clock } = this.#options;
    const entry = readLog(value);
    if (entry) listener.onLog(entry.at ?? Math.round(clock.now()), entry.level, entry.text);
  }

  #onExit(exit: RunnerExit): void {
    const call = machine.callOf(this.#state);
    const state = machine.exited(this.#state, exit);
    this.#state = state;
    this.#deadline.cancel();
    this.#objects.releaseAll();
    this.#stateParts.drop();
    call?.settle({ kind: 'exited', exit });
    const message = state.failure;
    this.#started.resolve(message === undefined ? { kind: 'exited', exit } : { kind: 'failed', message });
    this.#exited.resolve(exit);
  }

  #onRunOver(): void {
    const note = 'the run is over';
    this.#stop(note);
    this.#settle({ kind: 'exited', exit: { code: null, signal: null, note } });
  }
}
