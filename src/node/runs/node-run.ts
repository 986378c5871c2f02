/**
 * One run on this node: takes its messages in the order they came, one at a time, and owes the link an answer to each. What
 * was answered is in the journal before the link hears of it, together with the state that the handler left; so a handler is
 * entered again only when the agent died before that. What is answered without a handler – the node does not run this
 * app, or it does not load – is not kept: the message comes again, and gets the same answer.
 */
import { isRollcallError, RollcallError, toRollcallError } from '../../base/errors.js';
import { visibleText } from '../../base/text.js';
import type { MessageErrorCode } from '../../app/message-error.js';
import { isDigest, type Manifest } from '../../objects/manifest.js';
import type { ObjectRoom } from '../../objects/object-store.js';
import type { Assign, Deliver } from '../../protocol/generated/rollcall/v1/link.js';
import type { NodeApp } from './app-source.js';
import type { RunnerAnswer } from './handler-call.js';
import type { RunnerSession } from './runner-session.js';
import type { Answer, Journal } from './journal.js';
import { fetchObject } from './object-transfer.js';
import { createOutbox } from './outbox.js';
import { createRunLogs } from './run-logs.js';
import type { RunContext } from './run-context.js';
import { RunnerLease, describeExit } from './runner-lease.js';

export interface NodeRun {
  assign(assign: Assign): void;
  deliver(deliver: Deliver): void;
  /** Nobody wants the answer any more. */
  cancel(message: number): void;
  /** The link has the answer. */
  acknowledge(message: number): void;
  logTaken(sequence: number): void;
  /** There is a new session: what the link may not have is sent again. */
  sendAgain(): void;
  /** Ends the runner and everything under way; what is in the journal stays. */
  close(): Promise<void>;
  /** Messages that wait or are in work, and the bytes of their contents. */
  readonly load: { readonly messages: number; readonly bytes: number };
}

/** Rooms of a run on this node. */
export const parties = { app: 'app', incoming: 'in', outgoing: 'out' } as const;
/** Numbers of messages that were acknowledged, kept so that one that was under way just then is not handled again. */
const mostRemembered = 1_000;
/** So often the link may send something that is not the object. */
const triesWhenSenseless = 3;

interface Waiting {
  readonly number: number;
  readonly deliver: Deliver;
  readonly bytes: number;
  /** By the clock that only runs forward; Infinity when there is no end to it. */
  readonly expiresAt: number;
  /** Aborted when nobody wants the answer, or the run is over: ends all waiting for it. */
  readonly stop: AbortController;
  isUnwanted: boolean;
}

/** What came of a message. */
type Outcome =
  | { readonly kind: 'handled'; readonly answer: Answer; readonly state: Uint8Array | undefined }
  /** No handler was entered. */
  | { readonly kind: 'not handled'; readonly answer: Answer };

type FoundOnce =
  | { readonly kind: 'app'; readonly app: NodeApp; readonly config: object }
  | { readonly kind: 'none'; readonly answer: Answer };

export function createNodeRun(run: bigint, context: RunContext): NodeRun {
  const { link, clock, log } = context;
  const ending = new AbortController();
  const waiting = new Map<number, Waiting>();
  const acknowledged = new Set<number>();
  /** Posted because of a new session: the link delivers the message again just then. */
  const sentAgain = new Set<number>();
  let assigned: Assign | undefined;
  let found: Promise<FoundOnce> | undefined;
  let doesNotLoad: string | undefined;
  let isWorking = false;
  let work = Promise.resolve();
  let bytes = 0;
  /** Left by a handler whose answer nobody wanted; goes to the disk with the next answer of the same runner. */
  let unwritten: { readonly half: RunnerSession; readonly state: Uint8Array } | undefined;

  // A run goes on where an earlier process of this agent left it: its lines must come after those that were sent then.
  const firstSequence = Math.floor(clock.now()) * 1_000;
  const logs = createRunLogs({ run, link, clock, firstSequence });
  const roomOf = async (party: string): Promise<ObjectRoom> =>
    (await context.objects()).room(run.toString(), party);
  const outbox = createOutbox({
    run,
    link,
    journal: () => context.journal(ending.signal),
    room: () => roomOf(parties.outgoing),
    transferSlots: context.transferSlots,
    flushLogs: () => logs.flush(),
    log,
    signal: ending.signal,
  });
  const runner = new RunnerLease({
    run,
    context,
    bucket: () => roomOf(parties.outgoing),
    ending: ending.signal,
    listener: {
      onLog: (at, level, text) => logs.add(at, level, text),
      onProgress: (message, fraction, note) =>
        void link.live?.send({
          $case: 'progress',
          value: { run, message: BigInt(message), fraction, note },
        }),
    },
  });

  const isOver = (): boolean => ending.signal.aborted;

  function startWork(): void {
    if (isWorking) return;
    isWorking = true;
    work = workOff();
  }

  async function workOff(): Promise<void> {
    for (let next = first(waiting); next && !isOver(); next = first(waiting)) {
      const { signal } = next.stop;
      try {
        if (clock.elapsed() < next.expiresAt) await answer(next);
      } catch (error) {
        if (!signal.aborted && !isOver()) failUnexpectedly(next.number, error);
      }
      remove(next);
    }
    isWorking = false;
  }

  function failUnexpectedly(number: number, error: unknown): void {
    log.error({ run: `${run}`, message: number, err: error }, 'a message could not be handled');
    outbox.postOnce(number, failure('REFUSED_BY_NODE', 'something went wrong on the node'));
  }

  function remove(message: Waiting): void {
    if (waiting.get(message.number) !== message) return;
    waiting.delete(message.number);
    bytes -= message.bytes;
    const reference = referenceOf(message.deliver);
    if (reference)
      void roomOf(parties.incoming)
        .then(room => room.release(reference.digest))
        .catch(() => undefined);
  }

  async function answer(message: Waiting): Promise<void> {
    const outcome = await handle(message, message.stop.signal);
    if (outcome.kind === 'not handled') outbox.postOnce(message.number, outcome.answer);
    else await settle(message, outcome.answer, outcome.state);
  }

  async function settle(message: Waiting, answer: Answer, state?: Uint8Array): Promise<void> {
    const { number } = message;
    const journal = await context.journal(ending.signal);
    const isWanted = (): boolean => !message.isUnwanted;
    if (!isWanted()) return forget(journal, number, answer);
    await context.persist(() => journal.answer(run, number, answer, state), ending.signal);
    unwritten = undefined;
    if (!isWanted()) return forget(journal, number, answer);
    outbox.post(number, answer);
  }

  async function handle(message: Waiting, signal: AbortSignal): Promise<Outcome> {
    const app = await findApp(signal);
    if (app.kind === 'none') return { kind: 'not handled', answer: app.answer };
    if (doesNotLoad !== undefined) return notHandled('APP_INVALID', doesNotLoad);
    const content = await contentOf(message.deliver, signal);
    if (!content) return notHandled('OBJECT_LOST', 'the node cannot get the content of the message');
    try {
      const started = await runner.take(app.app, app.config, signal);
      if (started.kind === 'failed') {
        doesNotLoad = started.message;
        return notHandled('APP_INVALID', doesNotLoad);
      }
      if (started.kind === 'exited') return notHandled('APP_CRASHED', crashed(describeExit(started.exit)));
      return await enter(message, started.session, content);
    } finally {
      runner.release();
    }
  }

  async function enter(
    message: Waiting,
    half: RunnerSession,
    content: Uint8Array | { readonly manifest: Manifest; readonly room: ObjectRoom },
  ): Promise<Outcome> {
    const { number, deliver, stop } = message;
    const journal = await context.journal(stop.signal);
    const attempt = journal.timesEntered(run, number) + 1;
    try {
      journal.enter(run, number);
    } catch (error) {
      log.warn({ run: `${run}`, message: number, err: error }, 'an attempt could not be written down');
    }
    const { type, group, createdAtMs } = deliver;
    const told = { number, type, group, attempt, createdAt: Number(createdAtMs), content };
    const outcome = await half.handle(told, context.handlerTimeoutMs, stop.signal);
    // The run is over, or this agent ends: then it was not the app's fault.
    ending.signal.throwIfAborted();
    return outcomeOf(half, outcome, message.isUnwanted);
  }

  function outcomeOf(half: RunnerSession, outcome: RunnerAnswer, isUnwanted: boolean): Outcome {
    if (outcome.kind === 'exited')
      return {
        kind: 'handled',
        answer: failure('APP_CRASHED', crashed(describeExit(outcome.exit))),
        state: undefined,
      };
    const state = outcome.state ?? (unwritten?.half === half ? unwritten.state : undefined);
    if (isUnwanted && state) unwritten = { half, state };
    return { kind: 'handled', answer: outcome.answer, state };
  }

  /** Decided once for each run. */
  async function findApp(signal: AbortSignal): Promise<FoundOnce> {
    found ??= decide().catch((error: unknown) => {
      found = undefined;
      throw error;
    });
    return abortable(found, signal);
  }

  async function decide(): Promise<FoundOnce> {
    const assign = assigned;
    if (!assign) return none('REFUSED_BY_NODE', 'the node was not told which app this is');
    const { appName, appVersion } = assign;
    const fields = { run: `${run}`, app: `${visibleText(appName, 63)} ${visibleText(appVersion, 63)}` };
    const config = parseConfig(assign.configJson);
    if (!config) return none('REFUSED_BY_NODE', 'the settings of the run are no JSON object');
    try {
      const app = await context.apps.find(assign, reference => fetch(reference, parties.app, ending.signal));
      if (app.kind === 'app') {
        log.info({ ...fields, trusted: app.by }, 'an app runs here');
        return { kind: 'app', app: app.app, config };
      }
      log.warn({ ...fields, reason: app.reason }, 'an app is refused');
      return none('REFUSED_BY_NODE', app.reason);
    } catch (error) {
      if (!isLost(error)) throw error;
      log.warn({ ...fields, reason: toRollcallError(error).message }, 'an app cannot be had');
      return none('OBJECT_LOST', 'the node cannot get the files of the app');
    }
  }

  async function contentOf(deliver: Deliver, signal: AbortSignal) {
    const reference = referenceOf(deliver);
    if (!reference) return inlineOf(deliver);
    try {
      const fetched = await fetch(reference, parties.incoming, signal);
      // What was retained when the message came counts for an object only once it is there.
      fetched.room.retain(reference.digest);
      await fetched.room.release(reference.digest);
      return fetched;
    } catch (error) {
      if (isLost(error)) return undefined;
      throw error;
    }
  }

  /** NOT_FOUND when it never can be had. */
  async function fetch(
    { digest }: { readonly digest: string },
    party: string,
    signal: AbortSignal,
  ): Promise<{ readonly manifest: Manifest; readonly room: ObjectRoom }> {
    const room = await roomOf(party);
    if (!isDigest(digest)) throw new RollcallError('NOT_FOUND', 'the name of the object is none');
    const here = await context.persist(() => room.find(digest), signal);
    if (here) return { manifest: here, room };
    let senseless = 0;
    const isFinal = (error: unknown): boolean =>
      isLost(error) || (isRollcallError(error, 'PROTOCOL_INVALID') && ++senseless >= triesWhenSenseless);
    const manifest = await link
      .persist(
        ({ objects }) =>
          context.transferSlots.use(
            () => fetchObject({ client: objects, run, digest, room, signal }),
            signal,
          ),
        isFinal,
        signal,
      )
      .catch((error: unknown) => {
        if (isFinal(error))
          throw new RollcallError('NOT_FOUND', 'the link does not have it', { cause: error });
        throw error;
      });
    return { manifest, room };
  }

  /** Nothing of the message is kept. What fails is found again, and acknowledged again, by a later session. */
  async function forget(journal: Journal, number: number, answer?: Answer): Promise<void> {
    const digest = journal.objectOf(run, number) ?? (answer?.kind === 'object' ? answer.digest : undefined);
    outbox.drop(number);
    try {
      await journal.forget(run, number);
      if (digest !== undefined) await (await roomOf(parties.outgoing)).release(digest);
    } catch (error) {
      log.debug({ run: `${run}`, message: number, err: error }, 'a message was not forgotten');
    }
  }

  /** The answer to this one is not wanted, or not any more. */
  function remember(number: number): void {
    acknowledged.add(number);
    for (const oldest of acknowledged) {
      if (acknowledged.size <= mostRemembered) break;
      acknowledged.delete(oldest);
    }
  }

  function acknowledge(number: number): void {
    remember(number);
    const journal = context.openJournal();
    if (journal) void forget(journal, number);
  }

  return {
    assign: assign => void (assigned ??= assign),
    deliver(deliver) {
      const number = Number(deliver.message);
      // In work, or waiting: only noted. Acknowledged: the link has its answer, and sends no message again whose answer it
      // has recorded; this one was under way just then.
      if (waiting.has(number) || acknowledged.has(number) || ending.signal.aborted) return;
      if (context.openJournal()?.isAnswered(run, number)) {
        if (!sentAgain.delete(number)) outbox.post(number);
        return;
      }
      const size = inlineOf(deliver).length;
      const ttlMs = Number(deliver.ttlMs);
      const expiresAt = ttlMs > 0 ? clock.elapsed() + ttlMs : Infinity;
      const stop = new AbortController();
      waiting.set(number, { number, deliver, bytes: size, expiresAt, stop, isUnwanted: false });
      bytes += size;
      const reference = referenceOf(deliver);
      if (reference)
        void roomOf(parties.incoming)
          .then(room => room.retain(reference.digest))
          .catch(() => undefined);
      startWork();
    },
    cancel(number) {
      const message = waiting.get(number);
      if (!message) {
        acknowledge(number);
        return;
      }
      remember(number);
      message.isUnwanted = true;
      message.stop.abort(toRollcallError(new Error('cancelled')));
      // The one in work is removed when its handler is done.
      if (message !== first(waiting)) remove(message);
    },
    acknowledge,
    logTaken: sequence => logs.taken(sequence),
    sendAgain() {
      sentAgain.clear();
      logs.sendAgain();
      logs.flush();
      for (const number of context.openJournal()?.answered(run) ?? []) {
        sentAgain.add(number);
        outbox.post(number);
      }
    },
    async close() {
      // The last lines of a run come before it is forgotten.
      logs.flush();
      const why = toRollcallError(new Error('the run is over'));
      ending.abort(why);
      for (const { stop } of waiting.values()) stop.abort(why);
      await work;
      logs.close();
      await runner.stop('the run is over');
    },
    get load() {
      return { messages: waiting.size, bytes };
    },
  };
}

function first(waiting: ReadonlyMap<number, Waiting>): Waiting | undefined {
  for (const message of waiting.values()) return message;
  return undefined;
}

function failure(code: MessageErrorCode, message: string): Answer {
  return { kind: 'error', code, message };
}

function none(code: MessageErrorCode, message: string): FoundOnce {
  return { kind: 'none', answer: failure(code, message) };
}

function notHandled(code: MessageErrorCode, message: string): Outcome {
  return { kind: 'not handled', answer: failure(code, message) };
}

function crashed(how: string): string {
  return `the process of the node half ${how}`;
}

function isLost(error: unknown): boolean {
  return isRollcallError(error, 'NOT_FOUND');
}

function inlineOf({ body }: Deliver): Buffer {
  return body?.body?.$case === 'content' ? body.body.value : Buffer.alloc(0);
}

function referenceOf({ body }: Deliver): { readonly digest: string; readonly sizeBytes: number } | undefined {
  if (body?.body?.$case !== 'object') return undefined;
  const { digest, sizeBytes } = body.body.value;
  return { digest: digest.toString('hex'), sizeBytes: Number(sizeBytes) };
}

function parseConfig(text: string): object | undefined {
  try {
    const config: unknown = JSON.parse(text === '' ? '{}' : text);
    return typeof config === 'object' && config !== null && !Array.isArray(config) ? config : undefined;
  } catch {
    return undefined;
  }
}

/** What the promise gives, unless the signal comes first; the work goes on. */
function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error);
    if (signal.aborted) {
      onAbort();
      return;
    }
    signal.addEventListener('abort', onAbort);
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
