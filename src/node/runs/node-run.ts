/**
 * One run on this node: takes its messages in the order they came, one at a time, and owes the link an answer to each. An
 * answer is in the journal before the link hears of it, in one commit with the state that the handler left; so a handler is
 * entered again only when the agent died before that commit. An answer that came without a handler – the node does not run
 * this app, or it does not load – is not kept: the message comes again, and gets the same answer.
 */
import { toRollcallError } from '../../base/errors.js';
import type { ObjectBucket } from '../../objects/object-store.js';
import type { Assign, Deliver } from '../../protocol/generated/rollcall/v1/link.js';
import type { Answer, Journal } from './journal.js';
import { failure, MessageHandler } from './message-handler.js';
import { Outbox } from './outbox.js';
import { RunApp } from './run-app.js';
import type { RunContext } from './run-context.js';
import { RunLogs } from './run-logs.js';
import { RunObjects } from './run-objects.js';
import { RunnerLease } from './runner-lease.js';
import { AcknowledgedMessages, WaitingMessages, type Load, type WaitingMessage } from './waiting-messages.js';

export class NodeRun {
  readonly #run: bigint;
  readonly #context: RunContext;
  /** Aborted when the run is over, or the agent ends. */
  readonly #ending = new AbortController();
  readonly #waiting = new WaitingMessages();
  readonly #acknowledged = new AcknowledgedMessages();
  /** Posted because of a new session: the link delivers the message again just then. */
  readonly #sentAgain = new Set<number>();
  readonly #objects: RunObjects;
  readonly #logs: RunLogs;
  readonly #outbox: Outbox;
  readonly #app: RunApp;
  readonly #lease: RunnerLease;
  readonly #handler: MessageHandler;
  #isWorking = false;
  #work = Promise.resolve();

  constructor(run: bigint, context: RunContext) {
    const { link, clock, log, transferSlots } = context;
    const { signal: ending } = this.#ending;
    this.#run = run;
    this.#context = context;
    const objects = new RunObjects(run, context);
    // A run goes on where an earlier process of this agent left it: its lines must come after those that were sent then.
    const firstSequence = Math.floor(clock.now()) * 1_000;
    const logs = new RunLogs({ run, link, clock, firstSequence });
    const openBucket = (): Promise<ObjectBucket> => objects.bucket('out');
    const journal = (): Promise<Journal> => context.journal(ending);
    this.#objects = objects;
    this.#logs = logs;
    this.#outbox = new Outbox({ run, link, journal, openBucket, transferSlots, logs, log, signal: ending });
    const listener = {
      onLog: (at: number, level: string, text: string) => logs.add(at, level, text),
      onProgress: (message: number, fraction: number, note: string) =>
        void link.live?.send({
          $case: 'progress',
          value: { run, message: BigInt(message), fraction, note },
        }),
    };
    this.#app = new RunApp(run, context, objects, ending);
    this.#lease = new RunnerLease({ run, context, openBucket, ending, listener });
    this.#handler = new MessageHandler({
      run,
      context,
      app: this.#app,
      objects,
      lease: this.#lease,
      ending,
    });
  }

  /** Messages that wait or are in work. */
  get load(): Load {
    return this.#waiting.load;
  }

  assign(assign: Assign): void {
    this.#app.assign(assign);
  }

  deliver(deliver: Deliver): void {
    const number = Number(deliver.message);
    // An acknowledged message was under way when the link recorded its answer; it is not handled again.
    if (this.#waiting.has(number) || this.#acknowledged.has(number) || this.#isOver()) return;
    if (this.#context.openJournal()?.isAnswered(this.#run, number)) {
      if (!this.#sentAgain.delete(number)) this.#outbox.post(number);
      return;
    }
    this.#waiting.add(deliver, this.#context.clock.elapsed());
    this.#objects.retainContent(deliver);
    this.#startWork();
  }

  /** Nobody waits for the answer any more. */
  cancel(number: number): void {
    const message = this.#waiting.find(number);
    if (!message) {
      this.acknowledge(number);
      return;
    }
    this.#acknowledged.add(number);
    message.isUnwanted = true;
    message.stop.abort(toRollcallError(new Error('cancelled')));
    // The one in work is removed when its handler is done.
    if (message !== this.#waiting.first) this.#remove(message);
  }

  /** The link has the answer. */
  acknowledge(number: number): void {
    this.#acknowledged.add(number);
    const journal = this.#context.openJournal();
    if (journal) void this.#forget(journal, number);
  }

  /** The link has the lines up to this one. */
  logTaken(sequence: number): void {
    this.#logs.taken(sequence);
  }

  /** There is a new session: what the link may not have is sent again. */
  sendAgain(): void {
    this.#sentAgain.clear();
    this.#logs.sendAgain();
    this.#logs.flush();
    for (const number of this.#context.openJournal()?.answered(this.#run) ?? []) {
      this.#sentAgain.add(number);
      this.#outbox.post(number);
    }
  }

  /** Ends the runner and everything under way; what is in the journal stays. */
  async close(): Promise<void> {
    // The last lines of a run come before it is forgotten.
    this.#logs.flush();
    const reason = toRollcallError(new Error('the run is over'));
    this.#ending.abort(reason);
    this.#waiting.stopAll(reason);
    await this.#work;
    this.#logs.close();
    await this.#lease.stop('the run is over');
  }

  #isOver(): boolean {
    return this.#ending.signal.aborted;
  }

  #startWork(): void {
    if (this.#isWorking) return;
    this.#isWorking = true;
    this.#work = this.#workOff();
  }

  async #workOff(): Promise<void> {
    for (let next = this.#waiting.first; next && !this.#isOver(); next = this.#waiting.first) {
      const { number, expiresAt, stop } = next;
      try {
        if (this.#context.clock.elapsed() < expiresAt) await this.#answer(next);
      } catch (error) {
        if (!stop.signal.aborted && !this.#isOver()) this.#failUnexpectedly(number, error);
      }
      this.#remove(next);
    }
    this.#isWorking = false;
  }

  #failUnexpectedly(number: number, error: unknown): void {
    const fields = { run: `${this.#run}`, message: number, err: error };
    this.#context.log.error(fields, 'a message could not be handled');
    this.#outbox.postOnce(number, failure('REFUSED_BY_NODE', 'something went wrong on the node'));
  }

  #remove(message: WaitingMessage): void {
    if (this.#waiting.remove(message)) this.#objects.releaseContent(message.deliver);
  }

  async #answer(message: WaitingMessage): Promise<void> {
    const outcome = await this.#handler.handle(message);
    if (outcome.kind === 'not handled') this.#outbox.postOnce(message.number, outcome.answer);
    else await this.#settle(message, outcome.answer, outcome.state);
  }

  async #settle(message: WaitingMessage, answer: Answer, state?: Uint8Array): Promise<void> {
    const { number } = message;
    const { signal } = this.#ending;
    const journal = await this.#context.journal(signal);
    const isWanted = (): boolean => !message.isUnwanted;
    if (!isWanted()) return this.#forget(journal, number, answer);
    await this.#context.persist(() => journal.answer(this.#run, number, answer, state), signal);
    this.#handler.stateWasWritten();
    if (!isWanted()) return this.#forget(journal, number, answer);
    this.#outbox.post(number, answer);
  }

  /** Nothing of the message is kept. After a failure a later session finds and acknowledges it again. */
  async #forget(journal: Journal, number: number, answer?: Answer): Promise<void> {
    const given = answer?.kind === 'object' ? answer.digest : undefined;
    const digest = journal.objectOf(this.#run, number) ?? given;
    this.#outbox.drop(number);
    try {
      await journal.forget(this.#run, number);
      if (digest !== undefined) await (await this.#objects.bucket('out')).release(digest);
    } catch (error) {
      const fields = { run: `${this.#run}`, message: number, err: error };
      this.#context.log.debug(fields, 'a message was not forgotten');
    }
  }
}
