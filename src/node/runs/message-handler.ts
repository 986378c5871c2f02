/**
 * Finds the answer to one message at a time: the app, the content, a runner, and then its handler. It keeps the state that a
 * handler left for an answer that is not wanted, until a later answer of the same runner takes it to the disk.
 */
import type { MessageErrorCode } from '../../app/message-error.js';
import type { RunnerAnswer, RunnerMessage } from './handler-call.js';
import type { Answer } from './journal.js';
import type { RunApp } from './run-app.js';
import type { RunContext } from './run-context.js';
import type { RunObjects } from './run-objects.js';
import { describeExit, type RunnerLease } from './runner-lease.js';
import type { RunnerSession } from './runner-session.js';
import type { WaitingMessage } from './waiting-messages.js';

export type Outcome =
  | { readonly kind: 'handled'; readonly answer: Answer; readonly state: Uint8Array | undefined }
  /** No handler was entered. */
  | { readonly kind: 'not handled'; readonly answer: Answer };

export interface MessageHandlerOptions {
  readonly run: bigint;
  readonly context: RunContext;
  readonly app: RunApp;
  readonly objects: RunObjects;
  readonly lease: RunnerLease;
  /** The run is over, or this agent ends. */
  readonly ending: AbortSignal;
}

export class MessageHandler {
  readonly #options: MessageHandlerOptions;
  #unwritten: { readonly session: RunnerSession; readonly state: Uint8Array } | undefined;

  constructor(options: MessageHandlerOptions) {
    this.#options = options;
  }

  async handle(message: WaitingMessage): Promise<Outcome> {
    const { app, objects, lease } = this.#options;
    const { signal } = message.stop;
    const found = await app.find(signal);
    if (found.kind === 'refused') return { kind: 'not handled', answer: found.answer };
    const content = await objects.content(message.deliver, signal);
    if (!content) return notHandled('OBJECT_LOST', 'the node cannot get the content of the message');
    try {
      const started = await lease.take(found.app, found.config, signal);
      if (started.kind === 'failed') {
        app.noteLoadFailure(started.message);
        return notHandled('APP_INVALID', started.message);
      }
      if (started.kind === 'exited') return notHandled('APP_CRASHED', crashed(describeExit(started.exit)));
      return await this.#enter(message, started.session, content);
    } finally {
      lease.release();
    }
  }

  /** An answer is on the disk, with the state of its outcome. */
  stateWasWritten(): void {
    this.#unwritten = undefined;
  }

  async #enter(
    message: WaitingMessage,
    session: RunnerSession,
    content: RunnerMessage['content'],
  ): Promise<Outcome> {
    const { context, ending } = this.#options;
    const { number, deliver, stop } = message;
    const { type, group, createdAtMs } = deliver;
    const attempt = await this.#countAttempt(number, stop.signal);
    const answer = await session.handle(
      { number, type, group, attempt, createdAt: Number(createdAtMs), content },
      context.handlerTimeoutMs,
      stop.signal,
    );
    // The run is over, or this agent ends: then the app did nothing wrong.
    ending.throwIfAborted();
    return this.#outcomeOf(session, answer, message.isUnwanted);
  }

  /** A message that makes the agent crash must not count as new each time. */
  async #countAttempt(number: number, signal: AbortSignal): Promise<number> {
    const { run, context } = this.#options;
    const journal = await context.journal(signal);
    const attempt = journal.timesEntered(run, number) + 1;
    try {
      journal.enter(run, number);
    } catch (error) {
      const fields = { run: `${run}`, message: number, err: error };
      context.log.warn(fields, 'an attempt could not be written down');
    }
    return attempt;
  }

  #outcomeOf(session: RunnerSession, outcome: RunnerAnswer, isUnwanted: boolean): Outcome {
    if (outcome.kind === 'exited') {
      const answer = failure('APP_CRASHED', crashed(describeExit(outcome.exit)));
      return { kind: 'handled', answer, state: undefined };
    }
    const earlier = this.#unwritten?.session === session ? this.#unwritten.state : undefined;
    const state = outcome.state ?? earlier;
    if (isUnwanted && state) this.#unwritten = { session, state };
    return { kind: 'handled', answer: outcome.answer, state };
  }
}

export function failure(code: MessageErrorCode, message: string): Answer {
  return { kind: 'error', code, message };
}

function notHandled(code: MessageErrorCode, message: string): Outcome {
  return { kind: 'not handled', answer: failure(code, message) };
}

function crashed(how: string): string {
  return `the process of the node half ${how}`;
}
